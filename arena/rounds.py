"""Rounds: each finished run of a project, what votes say of it, and which one to go on from. Does not know how.

A round is a finished run. It learned from labels on answers of the model before it, which is what lets a preference loss
go on improving: it only ever sees the answers that were labelled.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from arena.ranking import Duel, Ranking, duel, ranking
from errors import ConfigError
from models.client import Sampling, Workers
from storage import Project, Run, Store
from transfer.candidates.batch import Progress
from transfer.candidates.generate import GenerateReport, generate


@dataclass(frozen=True)
class Round:
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


def rounds(store: Store, project_id: int, votes: Ranking | None = None) -> list[Round]:
    """Return a project's rounds, oldest first. votes: `votes_of` the store, where they are known already."""
    finished = finished_runs(store, project_id)
    by_id = {run.id: run for run in finished}
    votes = votes or votes_of(store)
    found: list[Round] = []
    for number, run in enumerate(finished, start=1):
        parent = by_id.get(run.config.get("start_run") or 0)
        before = parent or (finished[number - 2] if number > 1 else None)
        found.append(
            Round(
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


def sample(
    store: Store, workers: Workers, project: Project, *, most: int | None = None, per_prompt: int = 2,
    sampling: Sampling = Sampling(temperature=1.0), progress: Progress | None = None, stop: threading.Event | None = None,
) -> GenerateReport:
    """Let the best model so far answer the prompts that nobody has labelled, and make pairs to label of its answers.

    most: at most so many prompts, the oldest ones. Raises as `ready`, and what `generate` raises.
    """
    run, waiting = ready(store, project.id)
    return generate(
        store, project, workers, run_id=run.id, per_prompt=per_prompt, sampling=sampling, prompt_ids=waiting[:most],
        progress=progress, stop=stop,
    )


def ready(store: Store, project_id: int) -> tuple[Run, list[int]]:
    """Return the run that the next round samples, and the prompts it is asked.

    Raises ConfigError when every prompt is labelled, or no run is known to be as good as its base.
    """
    run = best(store, project_id)
    if run is None:
        raise ConfigError("No run of this project is known to be at least as good as its base. Train one first.")
    waiting = store.prompts.unlabelled(project_id)
    if not waiting:
        raise ConfigError("Every prompt of this project is labelled. Add new ones on the Data tab first.")
    return run, waiting


def _key(run: Run) -> str:
    return f"run-{run.id}"
