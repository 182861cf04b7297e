"""What the Arena tab shows as HTML: the ranking, the duels, the rounds. Names are escaped; the rest are our own words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from arena.next_round import Step
from arena.ranking import Duel, Rank, Ranking
from arena.rounds import Result
from storage.records import COMPARE, LABEL, ROUND_STEPS, SAMPLE, TRAIN
from transfer.jobs import JobState
from transfer.wording import counted

NOTHING = (
    "Nothing to rank yet. Vote in a blind chat, or let two models answer a list of prompts below and label their answers."
)
RATING_HELP = (
    "Each dot is a model's strength by the votes (Bradley and Terry); the line is where it lies with 95% certainty. Lines"
    " that hardly overlap: the difference is real. 100 points more win about 64 of 100 votes, 400 points 91."
)
DUEL_HELP = (
    "Of each two models that met: how many votes each got, ties half. The interval is Wilson's; p is how often chance alone"
    " would part the wins so unevenly (the exact sign test): under 0.05 is usually called a real difference."
)
STEP_NAMES = {SAMPLE: "Sample", LABEL: "Label", TRAIN: "Train on top", COMPARE: "Compare"}
WIDTH = 100.0


def ranking_html(found: Ranking, names: Mapping[str, str]) -> str:
    """Return the ranking as a picture in a table, the duels, and what was left out. names: what models are called."""
    if not found.ranks:
        return f'<p class="arena-empty">{NOTHING}</p>{_excluded(found)}'
    rated = [rank for rank in found.ranks if rank.rating is not None]
    low, high = _range(rated)
    rows = "".join(_rank(place, rank, names, low, high) for place, rank in enumerate(found.ranks, start=1))
    return (
        f'<table class="arena-ranks"><thead><tr><th>#</th><th>Model</th><th>Rating</th><th class="arena-wide">'
        f"95% interval, {low:.0f} to {high:.0f}</th><th>Votes</th></tr></thead><tbody>{rows}</tbody></table>"
        f'<p class="arena-help">{RATING_HELP}</p>{_duels(found.duels, names)}{_excluded(found)}'
    )


def rounds_html(listed: Sequence[Result]) -> str:
    """Return a project's rounds as a table."""
    if not listed:
        return '<p class="arena-empty">No round yet: the first finished run of this project is round 1.</p>'
    rows = "".join(
        f"<tr><td>{each.number}</td><td>Run {each.run.id} · {escape(each.run.method.upper())}</td>"
        f"<td>{f'run {each.parent.id}' if each.parent else 'the base'}</td><td>{_rate(each.against_base)}</td>"
        f"<td>{f'{_rate(each.against_before)}, run {each.before.id}' if each.before else '–'}</td></tr>"
        for each in listed
    )
    return (
        '<table class="arena-rounds"><thead><tr><th>Round</th><th>Run</th><th>On top of</th><th>Wins over the base</th>'
        f"<th>Wins over the one before</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def standing_html(step: Step | None, state: JobState | None, message: str, waiting: int, answering: str) -> str:
    """Return where a project's round stands: its steps, and a sentence. As in `desk.Standing`; waiting: how many pairs."""
    ended = f'<p class="arena-ended">{escape(message)}</p>' if message else ""
    if step is None:
        return ended
    at = ROUND_STEPS.index(step.kind)
    places = ['class="done"'] * at + ['class="now" aria-current="step"'] + [""] * (len(ROUND_STEPS) - at - 1)
    steps = "".join(f"<li {place}>{STEP_NAMES[kind]}</li>" for kind, place in zip(ROUND_STEPS, places))
    bar = _bar(state.done, state.total) if state and step.kind in (SAMPLE, COMPARE) else ""
    said = _doing(step, state, answering) if state else _to_do(step)
    votes = f"<p>{waiting:,} pairs of the last comparison wait for votes: they say which run is the best.</p>" if waiting else ""
    return f'<ol class="arena-steps">{steps}</ol>{ended}{votes}<p>{escape(said)}</p>{bar}'


def progress_html(title: str, done: int, total: int) -> str:
    """Return a bar of work that goes on."""
    return f"<span>{escape(title)}: {_answers(done, total)}</span>{_bar(done, total)}"


def _bar(done: int, total: int) -> str:
    share = 100 * done / total if total else 0
    return (
        f'<div class="arena-work" role="progressbar" aria-valuenow="{share:.0f}" aria-valuemin="0" aria-valuemax="100">'
        f'<i style="width:{share:.1f}%"></i></div>'
    )


def _answers(done: int, total: int) -> str:
    return f"{done:,} of {total:,} answers" if total else "the model is being loaded"


def _doing(step: Step, state: JobState, answering: str) -> str:
    """Return what a round at work is doing, or waits for."""
    if step.kind == SAMPLE:
        return f"Run {step.run.id} answers prompts that nobody has labelled: {_answers(state.done, state.total)}."
    if step.kind == LABEL:
        if step.done == step.total:
            return "All is labelled. Another run is training: this round's follows it."
        return f"Label the answers: {step.done:,} of {step.total:,} pairs are done. Training and the comparison follow by themselves."
    if step.kind == TRAIN:
        where = f"step {step.run.step:,} of {step.run.total_steps:,}" if step.run.is_active and step.run.total_steps else "starting"
        return f"Training on top: {where}. The Train tab shows more."
    return f"{answering} answer the same prompts: {_answers(state.done, state.total)}."


def _to_do(step: Step) -> str:
    """Return what a round does next that nobody is at."""
    if step.kind == SAMPLE and step.round is not None:
        return f"Run {step.run.id} has not answered all of the {len(step.round.prompt_ids):,} prompts yet."
    if step.kind == SAMPLE:
        return (
            f"Run {step.run.id} is the one to go on from. It answers prompts that nobody has labelled (some are kept to"
            " compare on); you label what it says; then a run is trained on top of it, and compared with it and the base."
        )
    if step.kind == LABEL:
        return f"{step.done:,} of {step.total:,} pairs of the answers are done. Go on, and training follows the last one."
    if step.kind == TRAIN:
        is_new = step.round is not None and step.round.run_id == step.run.id
        if step.run.is_active:
            return f"Run {step.run.id} is training."
        return f"Run {step.run.id} is {step.run.state}: train anew." if is_new else f"Next: train on top of run {step.run.id}."
    return f"Run {step.run.id} is trained. Next: it answers beside its base and the run before it."


def _rank(place: int, rank: Rank, names: Mapping[str, str], low: float, high: float) -> str:
    name = escape(names.get(rank.model, rank.model))
    if rank.rating is None or rank.low is None or rank.high is None:
        return (
            f'<tr><td>–</td><td>{name}</td><td colspan="2">has not met the others yet, not even by way of a third</td>'
            f"<td>{rank.votes:,}</td></tr>"
        )
    left, right, dot = (WIDTH * (each - low) / (high - low) for each in (rank.low, rank.high, rank.rating))
    said = f"{rank.low:.0f} to {rank.high:.0f}"
    return (
        f"<tr><td>{place}</td><td>{name}</td><td><b>{rank.rating:.0f}</b></td>"
        f'<td class="arena-wide"><div class="arena-interval" role="img" aria-label="{said}" title="{said}">'
        f'<i style="left:{left:.1f}%;width:{right - left:.1f}%"></i><b style="left:{dot:.1f}%"></b></div></td>'
        f"<td>{rank.votes:,}</td></tr>"
    )


def _range(rated: Sequence[Rank]) -> tuple[float, float]:
    """Return the ends of the axis, rounded outward to fifties."""
    low = min(rank.low for rank in rated if rank.low is not None)
    high = max(rank.high for rank in rated if rank.high is not None)
    return 50 * (low // 50), 50 * (high // 50 + 1)


def _duels(duels: Sequence[Duel], names: Mapping[str, str]) -> str:
    rows = "".join(
        f"<tr><td>{escape(names.get(each.model, each.model))}</td><td>{escape(names.get(each.other, each.other))}</td>"
        f'<td class="arena-score">{each.wins:,} : {each.losses:,}</td>' f"<td>{each.ties:,}</td><td>{_rate(each)}</td>"
        f"<td>{'–' if each.p_value is None else _p(each.p_value)}</td></tr>"
        for each in duels
    )
    return (
        '<table class="arena-duels"><thead><tr><th>Model</th><th>against</th><th>Wins</th><th>Ties</th><th>Win rate</th>'
        f'<th>p</th></tr></thead><tbody>{rows}</tbody></table><p class="arena-help">{DUEL_HELP}</p>'
    )


def _excluded(found: Ranking) -> str:
    left = ", ".join(f"{reason} ({count:,})" for reason, count in found.excluded.items())
    left_out = f" Left out: {left}." if left else ""
    return f'<p class="arena-help">{counted(found.votes, "vote")} counted.{left_out}</p>'


def _rate(found: Duel | None) -> str:
    if found is None:
        return "no votes yet"
    return f"{found.rate:.0%} <small>({found.low:.0%} to {found.high:.0%}, {counted(found.votes, 'vote')})</small>"


def _p(value: float) -> str:
    return "&lt; 0.001" if value < 0.001 else f"{value:.3f}"
