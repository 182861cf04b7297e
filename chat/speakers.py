"""Who can answer in a chat: base models and finished runs. Does not know how an answer is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath

from errors import NotFoundError
from storage import Run, Store

DEMO = "demo"


@dataclass(frozen=True)
class Speaker:
    """What is chosen on one side of a chat.

    model: the base model's name as the user gave it; run_id: the run whose adapter is used, None for the base
    itself; label: what people read.
    """

    model: str
    run_id: int | None
    label: str

    @property
    def served_name(self) -> str:
        """The name under which the worker of `model` serves this speaker."""
        return "base" if self.run_id is None else f"run-{self.run_id}"

    @property
    def key(self) -> str:
        """What tells this speaker from every other one; kept with chats and used by the page's lists."""
        return f"base:{self.model}" if self.run_id is None else self.served_name


def base_speaker(model: str) -> Speaker:
    """Return the untuned model as a speaker."""
    return Speaker(model, None, f"Base ({_short(model)})")


def run_speaker(run: Run, project_name: str = "") -> Speaker:
    """Return a run's tuned model as a speaker; project_name is added for runs of other projects."""
    parts = [f"Run {run.id}", run.method.upper()]
    if run.model != DEMO:
        parts.append(_short(run.model))
    if project_name:
        parts.append(project_name)
    return Speaker(run.model, run.id, " · ".join(parts))


def speakers(store: Store, project_id: int | None) -> list[Speaker]:
    """Return everyone who can answer: the demo's base, bases of finished runs, then finished runs, newest first.

    Runs of every project are there, those of `project_id` before the others; for a match, of the one it was played for.
    """
    project_id = store.projects.home(project_id)
    finished = [run for run in store.runs.list() if run.state == "finished"]
    finished.sort(key=lambda run: run.project_id != project_id)  # a stable sort: newest first within each half
    names = {project.id: project.name for project in store.projects.list()}
    bases = [base_speaker(model) for model in dict.fromkeys([DEMO, *(run.model for run in finished)])]
    tuned = [run_speaker(run, "" if run.project_id == project_id else names[run.project_id]) for run in finished]
    return bases + tuned


def find(store: Store, project_id: int | None, *keys: str | None) -> tuple[Speaker, ...]:
    """Return the speakers with these keys. Raises NotFoundError when one is not chosen, or is there no more."""
    by_key = {speaker.key: speaker for speaker in speakers(store, project_id)}
    for key in keys:
        if not key:
            raise NotFoundError("Choose a model on every side first.")
        if key not in by_key:
            raise NotFoundError(f"The model {key!r} is no longer there. Choose another one.")
    return tuple(by_key[key] for key in keys if key)


def name_of(key: str, known: Iterable[Speaker] = ()) -> str:
    """Return what people read for a speaker's key: its label if it is among the known, else what the key tells."""
    label = next((speaker.label for speaker in known if speaker.key == key), None)
    kind, _, rest = key.partition(":")
    return label or (base_speaker(rest).label if kind == "base" else key.replace("run-", "Run "))


def newest_run_id(store: Store, project_id: int | None) -> int | None:
    """Return the id of the project's newest finished run, if it has one; for a match, of the one it was played for."""
    project_id = store.projects.home(project_id)
    runs = [] if project_id is None else store.runs.list(project_id)
    return next((run.id for run in runs if run.state == "finished"), None)


def default_pair(store: Store, project_id: int | None) -> tuple[Speaker, Speaker]:
    """Return who speaks at first: the project's newest finished run beside its own base; else the demo's base twice."""
    newest = newest_run_id(store, project_id)
    if newest is None:
        return base_speaker(DEMO), base_speaker(DEMO)
    run = store.runs.get(newest)
    return base_speaker(run.model), run_speaker(run)


def _short(model: str) -> str:
    """Return the last part of a folder or hub name."""
    return PurePath(model.replace("\\", "/")).name or model
