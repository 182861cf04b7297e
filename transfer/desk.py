"""What a person does on the Data tab, each action one call. Does not know the page's components.

Owns which project is meant, and the one import and the one generation that run.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from errors import ConfigError, ImportFormatError, NotFoundError
from models.client import Sampling, Workers
from outbox import outbox
from storage import Project, Run, Store
from storage.backup import BackupReport, backup
from transfer.candidates.asking import SERVER_VARIABLE, ask
from transfer.candidates.generate import GenerateReport
from transfer.candidates.responders import parse_responders
from transfer.candidates.several import SeveralReport
from transfer.exporting.export import ExportReport, export
from transfer.exporting.filters import Filters
from transfer.formats.registry import Shape, named
from transfer.importing import ImportReport, import_file
from transfer.intake.preview import Preview, preview
from transfer.jobs import Jobs, JobState, Progress
from transfer.prompts import WriteReport, write_prompts
from transfer.reading.source import open_source

DEMO = "demo"
IN_TURN = "turn"
FURTHER = "To have people label it further, set **labels per item** to 2 or more under Review, Settings."
SHOWN_AS = {"pair": "as pairs (which is better?)", "single": "one by one (good or bad?)", "ranking": "three to six in order"}


@dataclass(frozen=True)
class Overview:
    """What a project holds. pairs_done and so on: those that have all the labels they want."""

    prompts: int = 0
    pairs: int = 0
    pairs_done: int = 0
    singles: int = 0
    singles_done: int = 0
    rankings: int = 0
    rankings_done: int = 0
    labels: int = 0


class Desk:
    """The actions of the Data tab on one store."""

    def __init__(self, store: Store, workers: Workers, jobs: Jobs) -> None:
        self.store, self.workers, self.jobs, self.imports = store, workers, jobs, Jobs()

    def overview(self, project_id: int | None) -> Overview:
        """Return the project's counts; all 0 when none is chosen."""
        if project_id is None:
            return Overview()
        items, labels = self.store.items.counts(project_id), self.store.labels.counts(project_id)
        return Overview(
            self.store.prompts.count(project_id), items["pair"]["total"], items["pair"]["done"],
            items["single"]["total"], items["single"]["done"], items["ranking"]["total"], items["ranking"]["done"],
            labels.total() - labels["skip"] - labels["flag"],
        )

    def look_into(self, upload: str | None, hub: str, format_name: str | None, columns: dict[str, str]) -> Preview | None:
        """Return what a file or a data set seems to hold; None when none is chosen.

        format_name, columns: what a person says instead of what was guessed. Raises ImportFormatError.
        """
        if not upload and not hub.strip():
            return None
        source = open_source(_wanted(upload, hub))
        return preview(source, Shape(named(format_name), columns) if format_name else None)

    def bring_in(
        self, project_id: int | None, new_name: str, upload: str | None, hub: str, format_name: str | None,
        columns: dict[str, str], keep_good: bool,
    ) -> None:
        """Begin to import a file or a data set into a new project, when one is named, or the chosen one.

        format_name, columns: None and {} for what is found by itself. keep_good: store good rows though others are broken.
        Raises AppError when it cannot begin; how it ends is the state of `imports`.
        """
        if not upload and not hub.strip():
            raise ImportFormatError("Choose a file first.")
        path = _wanted(upload, hub)
        name = new_name.strip() or self._project(project_id).name
        shape = Shape(named(format_name), columns) if format_name else None
        shown = Path(upload).name if upload else hub.strip()
        bad_rows = outbox() / f"{_file_name(shown)}.bad.jsonl" if keep_good else None

        def work(progress: Progress, stop: threading.Event) -> ImportReport:
            return import_file(
                self.store, name, path, name=shown, shape=shape, bad_rows=bad_rows, progress=progress, stop=stop
            )

        self.imports.start(f"Importing {shown}", project_id, work)

    def write(self, project_id: int | None, new_name: str, text: str) -> tuple[Project, WriteReport]:
        """Add written prompts to a new project, when one is named, or the chosen one. Raises AppError."""
        with self.store.transaction():
            named = new_name.strip()
            project = self.store.projects.ensure(named) if named else self._project(project_id)
            return project, write_prompts(self.store, project, text)

    def models(self) -> list[tuple[str, str]]:
        """Return who can be asked, as (label, key): the demo, base models used before, finished runs newest first."""
        runs = [run for run in self.store.runs.list() if run.state == "finished"]
        bases = dict.fromkeys(run.model for run in runs if run.model != DEMO)
        tuned = [(_run_label(run), f"run-{run.id}") for run in runs]
        return [("Demo model", DEMO), *((model, model) for model in bases), *tuned]

    def generate(
        self, project_id: int | None, models: Sequence[str], per_prompt: int, temperature: float, max_tokens: int, kind: str,
        rule: str = IN_TURN, source: str = "any",
    ) -> None:
        """Begin to draw responses in the background.

        models: keys of `models`, folders, hub names or models at a server, as in `parse_responders`. rule: which pairs are
        shown, IN_TURN or as in `choose_pairs`; source likewise.
        Raises AppError when it cannot begin: no project, no prompts, or other work under way.
        """
        project = self._project(project_id)
        if not self.store.prompts.count(project.id):
            raise NotFoundError(f"{project.name!r} has no prompts yet. Write some, or import a file with prompts.")
        named = [model.strip() for model in models if model and model.strip()]
        if not named:
            raise ConfigError("choose a model: the demo, a finished run, a folder, a hub name, or NAME@http://SERVER/v1")
        sampling = Sampling(temperature=float(temperature), max_tokens=int(max_tokens))
        parse_responders(named)  # a mistake is said at once
        # Whoever has the link can name a server: the key of who runs the program goes only where they said.
        trusted = os.environ.get(SERVER_VARIABLE, "")

        def work(progress: Progress, stop: threading.Event) -> GenerateReport | SeveralReport:
            return ask(
                self.store, project, self.workers, named, kind=kind, per_prompt=int(per_prompt), sampling=sampling,
                rule=None if rule == IN_TURN else rule, source=None if source == "any" else source,
                only_server=trusted, progress=progress, stop=stop,
            )

        self.jobs.start(f"Generating for {project.name!r}", project.id, work)

    def take_out(
        self, project_id: int | None, kind: str, suffix: str = ".jsonl", annotators: Sequence[str] = (),
        which: str = "all", min_agreement: float = 0.5, since: str = "", until: str = "",
    ) -> ExportReport:
        """Export the chosen project into a temporary folder, for download; a folder as one .zip.

        suffix: ".jsonl", ".csv" or ".parquet". since, until: days as YYYY-MM-DD, or "". The others as in `Filters`.
        Raises AppError.
        """
        project = self._project(project_id)
        filters = Filters(
            annotators=tuple(annotators), which=which, min_agreement=float(min_agreement), since=_day(since, "since"),
            until=_day(until, "until"),
        )
        target = outbox() / f"{_file_name(project.name)}-{kind}"
        if kind != "dataset":
            return export(self.store, project, kind, target.with_name(target.name + suffix), filters=filters)
        shutil.rmtree(target, ignore_errors=True)
        report = export(self.store, project, kind, target, filters=filters)
        return replace(report, path=shutil.make_archive(str(target), "zip", target))

    def annotators(self, project_id: int | None) -> list[str]:
        """Return who has labelled in a project."""
        return [] if project_id is None else self.store.labels.annotators(project_id)

    def copy(self) -> BackupReport:
        """Write a copy of all projects, labels and finished runs for download. Raises StorageError."""
        return backup(self.store, outbox() / f"preference-studio-{date.today().isoformat()}.zip")

    def _project(self, project_id: int | None) -> Project:
        if project_id is None:
            raise NotFoundError("There is no project yet. Give a new one a name.")
        return self.store.projects.by_id(project_id)


def job_line(state: JobState | None, project_id: int | None) -> str:
    """Return how a job stands in words; empty when there was none, or one of another project that has ended."""
    if state is None or not (state.running or state.project_id == project_id):
        return ""
    if not state.running:
        return f"{state.message}"
    if not state.done:
        return f"{state.title}: waiting for the first answers; the model may have to be loaded."
    return f"{state.title}: {state.done:,} of {state.total:,} responses."


def import_line(state: JobState | None, project_id: int | None) -> str:
    """Return how an import stands in words; empty when there was none, or one that went into another project."""
    if state is not None and state.running:
        return f"{state.title}: {state.done}%"
    report = arrived(state, project_id)
    if report is None:
        return ""
    # What is labelled already does not come up on the Label tab, which looks as if nothing had arrived.
    return report.sentence() + (f" {FURTHER}" if report.labels else "")


def arrived(state: JobState | None, project_id: int | None) -> ImportReport | None:
    """Return what the last import brought into a project; None while one runs, or when it went elsewhere or failed."""
    report = None if state is None else state.report
    return report if report is not None and report.project_id == project_id else None


def _wanted(upload: str | None, hub: str) -> str:
    """Return the path of an upload, or the address of a data set on a hub. Raises ImportFormatError for both at once."""
    if upload and hub.strip():
        raise ImportFormatError("Both a file and a data set on the hub are given. Clear one of them.")
    return upload or f"hub:{hub.strip().removeprefix('hub:')}"


def _day(text: str | None, name: str) -> date | None:
    if not (text or "").strip():
        return None
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        raise ConfigError(f"{name}: {text.strip()[:40]!r} is no day; write it as 2026-03-31") from None


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text)[:60].strip("-.") or "project"


def _run_label(run: Run) -> str:
    return f"Run {run.id} · {run.method.upper()}" + ("" if run.model == DEMO else f" · {Path(run.model).name}")
