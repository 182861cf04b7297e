"""The next round of a project, step by step: sample the best run, label what it says, train on top of it, compare.

The store keeps at which step a round is, so one that was stopped, or that a restart ended, goes on where it stood. Does not
know pages, nor how answers are drawn.
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
from models.client import Sampling, Workers
from storage import Project, Run, Store
from storage.records import COMPARE, LABEL, SAMPLE, TRAIN, Round
from storage.rounds import ENDED
from training import job
from training.config import build, settings_of
from training.dataset import summarise
from training.defaults import ON_TOP_SHARE
from transfer.candidates.batch import Progress
from transfer.candidates.generate import GenerateReport, generate

MOST_COMPARED = 40
ANSWERS = 2  # to each prompt: a pair to label
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Step:
    """Where a project's round stands. kind: one of `storage.records.ROUND_STEPS`.

    run: the one that answers and is gone on from; once it is there, the one that is trained and compared. round: None before
    it has begun. total, done, labelled: pairs of the answers, those that need nobody any more, and those with a label.
    """

    kind: str
    run: Run
    round: Round | None = None
    total: int = 0
    done: int = 0
    labelled: int = 0


@dataclass(frozen=True)
class RoundReport:
    """Where a round stands when nothing more can be done for it now.

    sampled, match: what was drawn and played on the way there, None where nothing was.
    """

    project: Project
    step: Step
    sampled: GenerateReport | None = None
    match: matches.MatchReport | None = None
    cancelled: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "project": self.project.name, "step": self.step.kind, "run_id": self.step.run.id, "pairs": self.step.total,
            "labelled": self.step.labelled, "sampled": self.sampled.as_dict() if self.sampled else None,
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
            left = self.step.total - self.step.done
            return f"{left:,} of {self.step.total:,} pairs wait for labels in the project {self.project.name!r}."
        return (
            f"Run {self.step.run.id} is trained. There is no prompt that it has not learned from, so nothing to compare it"
            " on: add prompts on the Data tab, or play a match over your own."
        )


def next_step(store: Store, project_id: int) -> Step:
    """Return the step that a project's round stands at.

    Raises ConfigError when none has begun and there is no run to go on from.
    """
    current = store.rounds.newest(project_id)
    if current is None or current.step == ENDED:
        return Step(SAMPLE, _best(store, project_id))
    run = store.runs.get(current.run_id or current.sampled_run_id)
    if current.step == LABEL:
        return Step(LABEL, run, current, *store.rounds.labels(current.id))
    has_run = current.step == TRAIN and current.run_id is not None and run.state == "finished"
    return Step(COMPARE if has_run else current.step, run, current)


def go(
    store: Store, workers: Workers, project: Project, *, most: int | None = None, wait: bool = True,
    enough: threading.Event | None = None, told: Callable[[Step], None] = lambda step: None,
    progress: Progress | None = None, stop: threading.Event | None = None,
) -> RoundReport:
    """Do step after step of a project's round until its answers wait for votes.

    most: prompts that are asked; None for all but those kept to compare on (`how_many`). wait: for the labels, however long
    people take, and for a run of another project; else the round stops there. enough: set it to train on the labels there
    are. told: gets the step whenever it may have changed; progress: answers of it that are stored, and wanted.
    Raises as `next_step`, `begin` and the steps do, and TrainingError when its run does not finish.
    """
    enough, stop = enough or threading.Event(), stop or threading.Event()
    sampled: GenerateReport | None = None
    trained_id: int | None = None
    while True:
        step = next_step(store, project.id)
        told(step)
        report = RoundReport(project, step, sampled)
        if stop.is_set():
            return replace(report, cancelled=True)
        if step.kind == SAMPLE:
            sampled = _sample(store, workers, project, step.round or begin(store, project.id, most), progress, stop)
        elif step.kind == LABEL and step.done < step.total and not (enough.is_set() and step.labelled):
            if not wait:
                return report
            stop.wait(POLL_SECONDS)
        elif step.kind == COMPARE:
            match = compare(store, workers, project, step, progress=progress, stop=stop)
            return replace(report, match=match)
        elif step.kind == TRAIN and step.run.is_active:
            trained_id = step.run.id
            job.reconcile(store)
            stop.wait(POLL_SECONDS)
        elif wait and job.reconcile(store) is not None:  # a run of another project, or one begun by hand
            stop.wait(POLL_SECONDS)
        elif step.run.id == trained_id:
            raise TrainingError(
                f"Run {trained_id} was to be this round's, and is {step.run.state}: {step.run.message} The labels are kept:"
                " resume it on the Train tab, or go on with the round to train anew."
            )
        else:
            trained_id = _train(store, workers, project, step).id


def how_many(waiting: int, most: int | None = None) -> int:
    """Return how many of so many prompts are asked: a fifth of them, MOST_COMPARED at most, is kept to compare on."""
    kept = min(MOST_COMPARED, max(1, waiting // 5)) if waiting > 1 else 0
    return min(waiting - kept, most or waiting)


def begin(store: Store, project_id: int, most: int | None = None) -> Round:
    """Begin a round: choose the run that answers, and which of the prompts that nobody has labelled it is asked.

    Raises ConfigError when every prompt is labelled, or there is no run to go on from.
    """
    run, waiting = _best(store, project_id), store.prompts.unlabelled(project_id)
    if not waiting:
        raise ConfigError("Every prompt of this project is labelled. Add new ones on the Data tab first.")
    return store.rounds.begin(project_id, run.id, waiting[: how_many(len(waiting), most)])


def give_up(store: Store, project_id: int) -> None:
    """End a project's round where it stands; what was drawn, labelled and trained stays. The next one begins anew."""
    current = store.rounds.newest(project_id)
    if current is not None:
        store.rounds.move(current.id, ENDED)


def train_on_top(store: Store, workers: Workers, project: Project, before: Run) -> Run:
    """Train on top of a run with its method and settings, on all labels there are now; return the new run.

    Raises what `job.start` raises.
    """
    device, summary = workers.device, summarise(store, project.id)
    kept = {spec.name for spec in settings_of(before.method)} - {"steps", "epochs", "start_run"}
    values: dict[str, Any] = {**before.config, **before.config.get("loss", {})}
    overrides = {**{name: values[name] for name in kept if name in values}, "start_run": before.id}
    if not before.config.get("start_run"):  # the first run that goes on from it
        overrides["learning_rate"] = before.config["learning_rate"] * ON_TOP_SHARE
    config = build(before.method, before.model, overrides, summary, catalog.architecture(before.model), device)
    return job.start(store, project, config, device, workers.free_gpu)


def compare(
    store: Store, workers: Workers, project: Project, step: Step, *, progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> matches.MatchReport | None:
    """Let a round's run answer beside its base and the run it went on from what none of them has learned.

    A match that was stopped is played on. Returns None where there is nothing to ask. Raises as `matches.prepare` and
    `matches.play`.
    """
    assert step.round is not None
    speakers, match_id = opponents(store, step.run), step.round.match_id
    if match_id is None:
        prompts = matches.held_out(store, project.id, speakers)
        if not prompts:
            store.rounds.move(step.round.id, ENDED)
            return None
        match_id = matches.prepare(store, speakers, prompts, min(MOST_COMPARED, len(prompts)), project.id).id
        store.rounds.move(step.round.id, COMPARE, match_id=match_id)
    played = store.projects.by_id(match_id)
    report = matches.play(store, workers, played, speakers, progress=progress, stop=stop)
    if not report.cancelled:
        store.rounds.move(step.round.id, ENDED)
    return report


def opponents(store: Store, run: Run) -> list[Speaker]:
    """Return a run, its base, and the run that it went on from where it is still there, as speakers."""
    before = [each for each in store.runs.list(run.project_id) if each.id == run.config.get("start_run") and each.adapter]
    return [run_speaker(run), base_speaker(run.model), *map(run_speaker, before)]


def _best(store: Store, project_id: int) -> Run:
    if not rounds.finished_runs(store, project_id):
        raise ConfigError("No run of this project has finished yet. Train one on the Train tab: it is round 1.")
    best = rounds.best(store, project_id)
    if best is None:
        raise ConfigError(
            "The votes put every run of this project under its base, so there is none to go on from. Train another one"
            " on the Train tab, with other settings or more labels."
        )
    return best


def _sample(
    store: Store, workers: Workers, project: Project, current: Round, progress: Progress | None, stop: threading.Event
) -> GenerateReport:
    """Let a round's run answer its prompts, and go on to the labels when all are answered. Raises as `generate`."""
    sampled = generate(
        store, project, workers, run_id=current.sampled_run_id, per_prompt=ANSWERS, sampling=Sampling(temperature=1.0),
        prompt_ids=current.prompt_ids, progress=progress, stop=stop,
    )
    if not sampled.cancelled:
        total, _, _ = store.rounds.labels(current.id)
        store.rounds.move(current.id, LABEL if total else ENDED)
        if not total:
            raise ConfigError(
                f"Run {current.sampled_run_id} keeps saying the same to each of these prompts, so there is nothing to"
                " label. Add other prompts on the Data tab."
            )
    return sampled


def _train(store: Store, workers: Workers, project: Project, step: Step) -> Run:
    """Start a round's run and return it. Raises ConfigError when people set all aside, and what `job.start` raises."""
    assert step.round is not None and step.round.sampled_run_id is not None
    if step.kind == LABEL and not step.labelled:
        store.rounds.move(step.round.id, ENDED)
        raise ConfigError(f"All {step.total} pairs were set aside, so there is nothing new to train on. Begin another round.")
    run = train_on_top(store, workers, project, store.runs.get(step.round.sampled_run_id))
    store.rounds.move(step.round.id, TRAIN, run_id=run.id)
    return run
