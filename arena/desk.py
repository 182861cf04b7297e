"""What a person does on the Arena tab, each action one call. Does not know the page's components.

Owns the one match or sampling that runs in the background.
"""

from __future__ import annotations

import threading
from typing import Any

from arena import matches, rounds, view
from arena.ranking import ranking
from chat.speakers import Speaker, find, speakers
from errors import ConfigError
from models import catalog
from models.client import Sampling, Workers
from storage import Project, Run, Store
from training import job
from training.config import build, settings_of
from training.dataset import summarise
from training.defaults import ON_TOP_SHARE
from transfer.candidates.batch import Progress
from transfer.candidates.generate import GenerateReport
from transfer.jobs import Jobs

HELD_OUT, WRITTEN = "held out", "written"


class Desk:
    """The actions of the Arena tab on one store."""

    def __init__(self, store: Store, workers: Workers) -> None:
        self.store, self.workers, self.jobs = store, workers, Jobs()

    def ranking_html(self, project_id: int | None, only_here: bool, with_named: bool) -> str:
        """Return the ranking by all votes, or a project's alone; with_named: those given with the names in sight too."""
        found = ranking(self.store, project_id if only_here else None, with_named=with_named)
        return view.ranking_html(found, self.names(project_id))

    def rounds(self, project_id: int | None, with_named: bool) -> tuple[str, Run | None]:
        """Return a project's rounds, and the run that the next one goes on from; with_named: as in `ranking_html`."""
        if project_id is None:
            return view.rounds_html([]), None
        votes = rounds.votes_of(self.store, with_named)
        listed = rounds.rounds(self.store, project_id, votes)
        return view.rounds_html(listed), rounds.best(self.store, project_id, votes)

    def names(self, project_id: int | None) -> dict[str, str]:
        """Return what each model is called, by its key in votes."""
        return {speaker.key: speaker.label for speaker in speakers(self.store, project_id)}

    def match(
        self, project_id: int | None, first: str, second: str, source: str, text: str, most: int, temperature: float
    ) -> Project:
        """Make a match's project and begin to fill it; return the project.

        source: HELD_OUT for a project's prompts that neither model has been trained on, WRITTEN for one a line of text.
        Raises AppError when it cannot begin; how it ends is the state of `jobs`.
        """
        self._check_idle()
        pair = find(self.store, project_id, first, second)
        if source == WRITTEN:
            prompts = matches.written(text)
        else:
            prompts = [] if project_id is None else matches.held_out(self.store, project_id, pair)
        played = matches.prepare(self.store, pair, prompts, int(most))
        sampling = Sampling(temperature=float(temperature))

        def work(progress: Progress, stop: threading.Event) -> matches.MatchReport:
            try:
                return matches.play(self.store, self.workers, played, pair, sampling, progress=progress, stop=stop)
            finally:
                self.store.close()

        self.jobs.start(_title(pair), played.id, work)
        return played

    def sample(self, project_id: int | None) -> None:
        """Begin the next round: the best model answers what nobody has labelled. Raises AppError when it cannot."""
        self._check_idle()
        project = self._project(project_id)
        run, _ = rounds.ready(self.store, project.id)

        def work(progress: Progress, stop: threading.Event) -> GenerateReport:
            try:
                return rounds.sample(self.store, self.workers, project, progress=progress, stop=stop)
            finally:
                self.store.close()

        self.jobs.start(f"Run {run.id} answers", project.id, work)

    def train(self, project_id: int | None) -> Run:
        """Train on top of the best model with its method and settings, on all labels there are now; return the run.

        Raises ConfigError when there is no such model, and what `job.start` raises.
        """
        project = self._project(project_id)
        before = rounds.best(self.store, project.id)
        if before is None:
            raise ConfigError("No run of this project is known to be at least as good as its base. Train one first.")
        device, summary = self.workers.device, summarise(self.store, project.id)
        kept = {spec.name for spec in settings_of(before.method)} - {"steps", "epochs", "start_run"}
        values: dict[str, Any] = {**before.config, **before.config.get("loss", {})}
        overrides = {**{name: values[name] for name in kept if name in values}, "start_run": before.id}
        if not before.config.get("start_run"):  # the first run that goes on from it
            overrides["learning_rate"] = before.config["learning_rate"] * ON_TOP_SHARE
        config = build(before.method, before.model, overrides, summary, catalog.architecture(before.model), device)
        return job.start(self.store, project, config, device, self.workers.free_gpu)

    def _project(self, project_id: int | None) -> Project:
        if project_id is None:
            raise ConfigError("Choose a project at the top first.")
        return self.store.projects.by_id(project_id)

    def _check_idle(self) -> None:
        if (state := self.jobs.state) is not None and state.running:
            raise ConfigError(f"{state.title} is still at work. Wait for it, or cancel it first.")


def _title(pair: tuple[Speaker, ...]) -> str:
    return " against ".join(speaker.label for speaker in pair)
