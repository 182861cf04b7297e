"""The next round of a project, step by step: sample the best run, label what it says, train on top of it, compare.

Which step comes next is read from the store alone, so a round that was stopped, or that a restart ended, goes on where it
stood. Does not know pages, nor how answers are drawn.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from arena import matches, rounds
from chat.speakers import Speaker, base_speaker, run_speaker
from errors import ConfigError, TrainingError
from models import catalog
from models.client import Workers
from storage import Project, Run, Store
from training import job
from training.config import build, settings_of
from training.dataset import summarise
from training.defaults import ON_TOP_SHARE
from transfer.candidates.batch import Progress
from transfer.candidates.generate import GenerateReport

SAMPLE, LABEL, TRAIN, COMPARE = "sample", "label", "train", "compare"
STEPS = (SAMPLE, LABEL, TRAIN, COMPARE)
MOST_COMPARED = 40
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Step:
    """Where a round stands. kind: one of STEPS.

    run: the one that answers (SAMPLE), has learned last (LABEL), is gone on from, or once it is active is being trained
    (TRAIN), is compared with those before it (COMPARE). total, labelled: pairs of its answers, and those with a label.
    """

    kind: str
    run: Run
    total: int = 0
    labelled: int = 0


@dataclass(frozen=True)
class RoundReport:
    """Where a round stands when nothing more can be done for it now.

    sampled, run, match: what was drawn, trained and played on the way there, None where nothing was.
    """

    project: Project
    step: Step
    sampled: GenerateReport | None = None
    run: Run | None = None
    match: matches.MatchReport | None = None
    cancelled: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "project": self.project.name, "step": self.step.kind, "pairs": self.step.total, "labelled": self.step.labelled,
            "run_id": self.run.id if self.run else None, "sampled": self.sampled.as_dict() if self.sampled else None,
            "match": self.match.as_dict() if self.match else None, "cancelled": self.cancelled,
        }

    def sentence(self) -> str:
        """Return the report in words."""
        if self.match is not None:
            return f"Run {self.step.run.id} is trained. {self.match.sentence()}"
        if self.cancelled:
            is_training = self.step.kind == TRAIN and self.step.run.is_active
            return f"Stopped.{f' Run {self.step.run.id} goes on training.' if is_training else ' What there is is kept.'}"
        if self.step.kind == LABEL:
            left = self.step.total - self.step.labelled
            return f"{left:,} of {self.step.total:,} pairs wait for labels in the project {self.project.name!r}."
        return (
            f"Run {self.run.id if self.run else self.step.run.id} is trained. There is no prompt that it has not learned from,"
            " so nothing to compare it on: add prompts on the Data tab, or play a match over your own."
        )


def next_step(store: Store, project_id: int, trained_id: int | None = None) -> Step:
    """Return the step that a project's round stands at.

    trained_id: the run that this round has waited for; it is compared though it did not go on from another. Raises ConfigError when there is no run to go on from: none has finished, or votes put the best one under its base.
    """
    active = job.reconcile(store)
    if active is not None and active.project_id == project_id:
        return Step(TRAIN, active)
    finished = rounds.finished_runs(store, project_id)
    if not finished:
        raise ConfigError("No run of this project has finished yet. Train one on the Train tab: it is round 1.")
    newest = finished[-1]
    is_of_round = newest.config.get("start_run") or newest.id == trained_id
    if is_of_round and not store.comparisons.matches_of(newest.id) and _compared_on(store, newest):
        return Step(COMPARE, newest)
    total, labelled = store.items.sampled(project_id, newest.created_at)
    if labelled < total:
        return Step(LABEL, newest, total, labelled)
    best = rounds.best(store, project_id)
    if best is None:
        raise ConfigError(
            "The votes put every run of this project under its base, so there is none to go on from. Train another one"
            " on the Train tab, with other settings or more labels."
        )
    return Step(TRAIN if total else SAMPLE, best, total, labelled)


def go(
    store: Store, workers: Workers, project: Project, *, most: int | None = None, wait: bool = True,
    enough: threading.Event | None = None, told: Callable[[Step], None] = lambda step: None,
    progress: Progress | None = None, stop: threading.Event | None = None,
) -> RoundReport:
    """Do step after step of a project's round until its answers wait for votes.

    most: prompts that are asked; None for all but those kept to compare on (`how_many`). wait: for the labels, however long people take; else the round stops there. enough: set it
    to train on the labels there are. told: gets the step whenever it may have changed; progress: answers of it that are
    stored, and wanted. Raises as `next_step` and the steps do, and TrainingError when its run does not finish.
    """
    enough, stop = enough or threading.Event(), stop or threading.Event()
    sampled: GenerateReport | None = None
    trained: Run | None = None
    while True:
        if trained is not None:
            trained = _ended_well(store.runs.get(trained.id))
        step = next_step(store, project.id, trained.id if trained else None)
        told(step)
        report = RoundReport(project, step, sampled, trained)
        if stop.is_set():
            return replace(report, cancelled=True)
        if step.kind == COMPARE:
            return replace(report, match=compare(store, workers, project, step.run, progress=progress, stop=stop))
        if step.kind == SAMPLE:
            if trained is not None:
                return report
            if sampled is not None:
                raise ConfigError(f"Run {step.run.id} keeps saying the same to these prompts: {sampled.sentence()}")
            asked = how_many(len(store.prompts.unlabelled(project.id)), most)
            sampled = rounds.sample(store, workers, project, most=asked, progress=progress, stop=stop)
        elif step.kind == LABEL and not (enough.is_set() and step.labelled):
            if not wait:
                return report
            stop.wait(POLL_SECONDS)
        elif step.kind == TRAIN and step.run.is_active:
            trained = step.run
            stop.wait(POLL_SECONDS)
        else:
            trained = train_on_top(store, workers, project)


def how_many(waiting: int, most: int | None = None) -> int:
    """Return how many of so many prompts are asked: a fifth of them, MOST_COMPARED at most, is kept to compare on."""
    kept = min(MOST_COMPARED, max(1, waiting // 5)) if waiting > 1 else 0
    return min(waiting - kept, most or waiting)


def train_on_top(store: Store, workers: Workers, project: Project) -> Run:
    """Train on top of the best model with its method and settings, on all labels there are now; return the run.

    Raises ConfigError when there is no such model, and what `job.start` raises.
    """
    before = rounds.best(store, project.id)
    if before is None:
        raise ConfigError("No run of this project is known to be at least as good as its base. Train one first.")
    device, summary = workers.device, summarise(store, project.id)
    kept = {spec.name for spec in settings_of(before.method)} - {"steps", "epochs", "start_run"}
    values: dict[str, Any] = {**before.config, **before.config.get("loss", {})}
    overrides = {**{name: values[name] for name in kept if name in values}, "start_run": before.id}
    if not before.config.get("start_run"):  # the first run that goes on from it
        overrides["learning_rate"] = before.config["learning_rate"] * ON_TOP_SHARE
    config = build(before.method, before.model, overrides, summary, catalog.architecture(before.model), device)
    return job.start(store, project, config, device, workers.free_gpu)


def compare(
    store: Store, workers: Workers, project: Project, run: Run, *, progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> matches.MatchReport:
    """Let a run answer beside its base and the run it went on from what none of them has learned; return the match.

    Raises as `matches.prepare` and `matches.play`.
    """
    speakers = opponents(store, run)
    played = matches.prepare(store, speakers, _compared_on(store, run), MOST_COMPARED, project.id)
    return matches.play(store, workers, played, speakers, progress=progress, stop=stop)


def opponents(store: Store, run: Run) -> list[Speaker]:
    """Return a run, its base, and the run that it went on from where it is still there, as speakers."""
    before = [each for each in store.runs.list(run.project_id) if each.id == run.config.get("start_run") and each.adapter]
    return [run_speaker(run), base_speaker(run.model), *map(run_speaker, before)]


def _compared_on(store: Store, run: Run) -> list[list[dict[str, str]]]:
    prompts = matches.held_out(store, run.project_id, opponents(store, run))
    return prompts[: matches.MOST_PROMPTS]


def _ended_well(run: Run) -> Run:
    if run.is_active or run.state == "finished":
        return run
    raise TrainingError(
        f"Run {run.id} was to be this round's, and is {run.state}: {run.message} The labels are kept: resume it on the Train tab,"
        " or go on with the round to train anew."
    )
