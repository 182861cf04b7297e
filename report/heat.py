"""A text as a heat map of its tokens: which of them the run finds more, and which less likely than the base does.

Owns the picture, and the one call that asks a worker for the numbers. Does not know how they are computed.
"""

from __future__ import annotations

from collections.abc import Sequence

from errors import TrainingError, WorkerError
from models.client import Workers
from report.pictures import escaped, number
from storage import Run

# The strongest colour stands for this share of the differences, or for `LEAST_NATS` where all are smaller.
STRONGEST, LEAST_NATS, DARKEST = 0.95, 0.5, 0.75
LINE_BREAK, NO_TEXT = "↵", "·"


def ask(workers: Workers, run: Run, prompt: str, response: str) -> str:
    """Return the heat map of a response to a prompt under a run; its worker is started when it is not there.

    Raises TrainingError when a text is missing, WorkerError and ModelError when the worker cannot say.
    """
    if not prompt.strip() or not response:
        raise TrainingError("Write a question and an answer first.")
    endpoint = workers.endpoint(run.model)
    found = endpoint.token_logps(
        model=f"run-{run.id}", messages=[{"role": "user", "content": prompt}], response=response
    )
    return render(found.tokens, found.logps, found.base_logps)


def render(tokens: Sequence[str], logps: Sequence[float], base_logps: Sequence[float]) -> str:
    """Return a heat map as HTML: blue is more likely under the run than under the base, red is less.

    tokens: their texts, in order. logps, base_logps: of each, in nats. Raises WorkerError when they do not match.
    """
    if not len(tokens) == len(logps) == len(base_logps):
        raise WorkerError(
            f"The worker gave {len(tokens)} tokens with {len(logps)} and {len(base_logps)} figures, which do not match."
            " Restart the program, so that the worker is of the same version."
        )
    if not tokens:
        return '<p class="report-missing">This text has no tokens.</p>'
    apart = [after - before for after, before in zip(logps, base_logps)]
    strongest = _strongest(apart)
    spans = "".join(
        _token(token, after, before, strongest) for token, after, before in zip(tokens, logps, base_logps)
    )
    total = sum(apart)
    told = "more" if total >= 0 else "less"
    return (
        f'<figure class="report-heat"><figcaption><span>{number(abs(total))} nats {told} likely than under the base</span>'
        f'<small>under the run {number(sum(logps))}, under the base {number(sum(base_logps))} nats</small></figcaption>'
        f'<div class="report-tokens">{spans}</div><div class="report-legend"><span>less likely, −{number(strongest)} nats</span>'
        f'<i></i><span>+{number(strongest)} nats, more likely</span></div>'
        "<p>Each piece is one token, coloured by how much training changed its log-probability given the text before it."
        " Point at one for its numbers.</p></figure>"
    )


def _strongest(apart: Sequence[float]) -> float:
    sizes = sorted(abs(value) for value in apart)
    return max(LEAST_NATS, sizes[min(len(sizes) - 1, int(STRONGEST * len(sizes)))])


def _token(token: str, after: float, before: float, strongest: float) -> str:
    difference = after - before
    depth = min(1.0, abs(difference) / strongest) * DARKEST
    kind = "up" if difference >= 0 else "down"
    sign = "+" if difference >= 0 else ""
    told = f"{sign}{number(difference)} nats: {number(after)} under the run, {number(before)} under the base"
    # A line break is seen as a sign and breaks the line; a token without letters (an end of turn) is a dot.
    text = escaped(token).replace("\n", f"{LINE_BREAK}\n") or NO_TEXT
    return f'<span class="report-{kind}" style="--depth:{depth:.2f}" title="{escaped(told)}">{text}</span>'
