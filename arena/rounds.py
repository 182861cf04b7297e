"""Rounds: each finished run of a project, what votes say of it, and which one to go on from. Does not know how.

A round ends with a finished run. It learned from labels on answers of the model before it, which is what lets a preference loss
go on improving: it only ever sees the answers that were labelled.
"""

from __future__ import annotations

from dataclasses import dataclass

from arena.ranking import Duel, Ranking, duel, ranking
from storage import Run, Store


@dataclass(frozen=True)
class Result:
    """One finished run of a project. number: from 1; parent: the run it began from, None for the base; before: its
    parent, else the round before it, which it is compared with.

    against_base, against_before: the votes on its answers beside theirs; None where there is none.
    """

    number: int
    run: Run
    parent: Run | None
    before: Run | None
    against_base: Duel | None
    against_before: Duel | None


def votes_of(store: Store, with_named: bool = False) -> Ranking:
    """Return what rounds are judged by: the votes of every project. with_named: as in `ranking`."""
    return ranking(store, with_named=with_named)


def rounds(store: Store, project_id: int, votes: Ranking | None = None) -> list[Result]:
    """Return a project's rounds, oldest first. votes: `votes_of` the store, where they are known already."""
    finished = finished_runs(store, project_id)
    by_id = {run.id: run for run in finished}
    votes = votes or votes_of(store)
    found: list[Result] = []
    for number, run in enumerate(finished, start=1):
        parent = by_id.get(run.config.get("start_run") or 0)
        before = parent or (finished[number - 2] if number > 1 else None)
        found.append(
            Result(
                number, run, parent, before, between(votes, _key(run), f"base:{run.model}"),
                between(votes, _key(run), _key(before)) if before else None,
            )
        )
    return found


def between(votes: Ranking, model: str, other: str) -> Duel | None:
    """Return the votes between two models, from the first one's side."""
    for each in votes.duels:
        if (each.model, each.other) == (model, other):
            return each
        if (each.other, each.model) == (model, other):
            return duel(model, other, each.losses, each.wins, each.ties)
    return None


def finished_runs(store: Store, project_id: int) -> list[Run]:
    """Return a project's finished runs, oldest first."""
    return sorted((run for run in store.runs.list(project_id) if run.state == "finished"), key=lambda run: run.id)


def best(store: Store, project_id: int, votes: Ranking | None = None) -> Run | None:
    """Return the run to go on from: the one that votes rank highest, by the low end of its interval; else the newest.

    A run whose interval lies wholly under the base's is not gone on from: then it is None, as it is without any run. votes: as
    in `rounds`.
    """
    finished = {_key(run): run for run in finished_runs(store, project_id)}
    ranks = (votes or votes_of(store)).ranks
    ranked = {each.model: each for each in ranks if each.rating is not None}
    known = [key for key in finished if key in ranked]
    if not known:
        return next(reversed(finished.values()), None)
    chosen = finished[max(known, key=lambda key: ranked[key].low)]
    base = ranked.get(f"base:{chosen.model}")
    return None if base is not None and ranked[_key(chosen)].high < base.low else chosen


def _key(run: Run) -> str:
    return f"run-{run.id}"
