"""A text as a heat map of its tokens: which of them the run finds more, and which less likely than the base does.

Owns the picture, and the one call that asks a worker for the numbers. Does not know how they are computed.
"""

from __future__ import annotations

from collections.abc import Sequence

from errors import ConfigError, WorkerError
from models.client import Workers
from report import conversation
from report.pictures import escaped, number
from storage import Run
from training.config import TrainingConfig
from training.methods import MethodConfig

# The strongest colour stands for this share of the differences, or for `LEAST_NATS` where all are smaller.
STRONGEST, LEAST_NATS, DARKEST = 0.95, 0.5, 0.75
LINE_BREAK, NO_TEXT = "↵", "·"
MOST_LISTED = 5


def ask(workers: Workers, run: Run, text: str, response: str) -> str:
    """Return the heat map of an answer under a run; its worker is started when it is not there.

    text, response: as `conversation.with_answer` takes them. Raises as it does; WorkerError and ModelError when the
    worker cannot say.
    """
    messages, response = conversation.with_answer(text, response)
    endpoint = workers.endpoint(run.model)
    found = endpoint.token_logps(model=f"run-{run.id}", messages=messages, response=response)
    try:
        loss = TrainingConfig.from_dict(run.config).loss
    except ConfigError:  # a run of another version has its tokens all the same
        loss = None
    return render(found.tokens, found.logps, found.base_logps, loss)


def reward(loss: MethodConfig, logps: Sequence[float], base_logps: Sequence[float]) -> float:
    """Return the implicit reward of an answer as a run's own loss defines it. logps, base_logps: of its tokens."""
    gained = sum(logps) - (sum(base_logps) if loss.needs_reference else 0.0)
    per_token = not loss.needs_reference or getattr(loss, "form", "") == "mean"
    return loss.beta * gained / (len(logps) if per_token else 1)


def render(
    tokens: Sequence[str], logps: Sequence[float], base_logps: Sequence[float], loss: MethodConfig | None = None
) -> str:
    """Return a heat map as HTML: blue is more likely under the run than under the base, red is less.

    tokens: their texts, in order. logps, base_logps: of each, in nats. loss: the run's, for the reward of the whole;
    None where it is not known. Raises WorkerError when tokens and figures do not match.
    """
    if not len(tokens) == len(logps) == len(base_logps):
        raise WorkerError(
            f"The worker gave {len(tokens)} tokens with {len(logps)} and {len(base_logps)} figures, which do not match."
            " Restart the program, so that the worker is of the same version."
        )
    if not tokens:
        return '<p class="report-missing">This text has no tokens.</p>'
    rows = [(token, after, before) for token, after, before in zip(tokens, logps, base_logps)]
    apart = [after - before for _, after, before in rows]
    strongest = _strongest(apart)
    spans = "".join(_token(*row, strongest, place == 0) for place, row in enumerate(rows))
    total = sum(apart)
    told = "more" if total >= 0 else "less"
    whole = "" if loss is None else f" · implicit reward {_signed(reward(loss, logps, base_logps))} (β {loss.beta:g})"
    return (
        f'<figure class="report-heat"><figcaption><span>{number(abs(total))} nats {told} likely than under the base{whole}'
        f"</span><small>under the run {number(sum(logps))}, under the base {number(sum(base_logps))} nats</small>"
        f'</figcaption><div class="report-tokens" role="group" aria-label="Tokens of the answer">{spans}</div>'
        '<p class="report-told" role="status">Click or tap a token for its numbers, or go through them with the arrow'
        f' keys.</p><div class="report-legend"><span>less likely, −{number(strongest)} nats</span>'
        f"<i></i><span>+{number(strongest)} nats, more likely</span></div>{_lists(rows)}"
        "<p>Each piece is one token, coloured by how much training changed its log-probability given the text before it."
        "</p></figure>"
    )


def _strongest(apart: Sequence[float]) -> float:
    sizes = sorted(abs(value) for value in apart)
    return max(LEAST_NATS, sizes[min(len(sizes) - 1, int(STRONGEST * len(sizes)))])


def _token(token: str, after: float, before: float, strongest: float, reached: bool) -> str:
    difference = after - before
    depth = min(1.0, abs(difference) / strongest) * DARKEST
    kind = "up" if difference >= 0 else "down"
    told = f"{_signed(difference)} nats: {number(after)} under the run, {number(before)} under the base"
    return (
        f'<span class="report-{kind}" style="--depth:{depth:.2f}" title="{escaped(told)}"'
        f' tabindex="{0 if reached else -1}">{_seen(token)}</span>'
    )


def _seen(token: str) -> str:
    """Return a token as HTML: a line break is seen and breaks the line; one without text (an end of turn) is a dot."""
    return escaped(token).replace("\n", f"{LINE_BREAK}\n") or NO_TEXT


def _signed(value: float) -> str:
    return f"{'+' if value >= 0 else ''}{number(value)}"


def _lists(rows: Sequence[tuple[str, float, float]]) -> str:
    """Return the tokens that rose and those that fell most, as tables."""
    ordered = sorted(rows, key=lambda row: row[1] - row[2])
    rose = [row for row in reversed(ordered) if row[1] > row[2]][:MOST_LISTED]
    fell = [row for row in ordered if row[1] < row[2]][:MOST_LISTED]
    return f'<div class="report-pair">{_list("Rose most", rose)}{_list("Fell most", fell)}</div>'


def _list(title: str, rows: Sequence[tuple[str, float, float]]) -> str:
    if not rows:
        return ""
    heads = "".join(f"<th>{words}</th>" for words in (title, "nats", "run", "base"))
    body = "".join(
        f'<tr><td class="report-piece">{_seen(token)}</td><td>{_signed(after - before)}</td>'
        f"<td>{number(after)}</td><td>{number(before)}</td></tr>"
        for token, after, before in rows
    )
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
