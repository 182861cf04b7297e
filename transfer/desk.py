"""What a person does on the Data tab, each action one call. Does not know the page's components.

Owns which project is meant, where an export is put for download, and the one generation that runs.
"""

from __future__ import annotations

import re
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from errors import ConfigError, ImportFormatError, NotFoundError
from models.client import Sampling, Workers
from storage import Project, Run, Store
from transfer.candidates.generate import GenerateReport, generate
from transfer.exporting.export import ExportReport, export
from transfer.importing import ImportReport, import_file
from transfer.jobs import Jobs, JobState, Progress
from transfer.prompts import WriteReport, write_prompts

DEMO = "demo"
SHOWN_AS = {"pair": "as pairs (which is better?)", "single": "one by one (good or bad?)", "ranking": "three to six in order"}
RUN_KEY = re.compile(r"run-(\d+)")


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
        self.store, self.workers, self.jobs = store, workers, jobs
        self._exports: Path | None = None

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

    def bring_in(self, project_id: int | None, new_name: str, upload: str | None) -> ImportReport:
        """Import an uploaded file into a new project, when one is named, or the chosen one. Raises AppError."""
        if not upload:
            raise ImportFormatError("Choose a file first.")
        name = new_name.strip() or self._project(project_id).name
        return import_file(self.store, name, upload)

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
        self, project_id: int | None, model: str | None, per_prompt: int, temperature: float, max_tokens: int, kind: str
    ) -> None:
        """Begin to draw responses in the background. model: a key of `models`, a folder or a hub name.

        Raises AppError when it cannot begin: no project, no prompts, or other work under way.
        """
        project = self._project(project_id)
        if not self.store.prompts.count(project.id):
            raise NotFoundError(f"{project.name!r} has no prompts yet. Write some, or import a file with prompts.")
        if not (model or "").strip():
            raise ConfigError("choose a model: the demo, a finished run, a folder, or a hub name")
        run = RUN_KEY.fullmatch(model.strip())
        run_id = int(run[1]) if run else None
        sampling = Sampling(temperature=float(temperature), max_tokens=int(max_tokens))

        def work(progress: Progress, stop: threading.Event) -> GenerateReport:
            return generate(
                self.store, project, self.workers, model=model.strip(), run_id=run_id, per_prompt=int(per_prompt),
                sampling=sampling, kinds=(kind,), progress=progress, stop=stop,
            )

        self.jobs.start(f"Generating for {project.name!r}", project.id, work)

    def take_out(self, project_id: int | None, kind: str) -> ExportReport:
        """Export the chosen project into a temporary folder, for download. Raises AppError."""
        project = self._project(project_id)
        self._exports = self._exports or Path(tempfile.mkdtemp(prefix="preference-studio-"))
        stem = re.sub(r"[^\w.-]+", "-", project.name)[:60].strip("-.") or "project"
        return export(self.store, project, kind, self._exports / f"{stem}-{kind}.jsonl")

    def _project(self, project_id: int | None) -> Project:
        if project_id is None:
            raise NotFoundError("There is no project yet. Give a new one a name.")
        return self.store.projects.by_id(project_id)


def job_line(state: JobState | None) -> str:
    """Return how a job stands in words; empty when there was none."""
    if state is None:
        return ""
    if not state.running:
        return f"{state.message}"
    if not state.done:
        return f"{state.title}: waiting for the first answers; the model may have to be loaded."
    return f"{state.title}: {state.done:,} of {state.total:,} responses."


def _run_label(run: Run) -> str:
    return f"Run {run.id} · {run.method.upper()}" + ("" if run.model == DEMO else f" · {Path(run.model).name}")
