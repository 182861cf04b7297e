"""What a person does on the Arena tab, each action one call. Does not know the page's components.

Owns what runs in the background: one match, and one round of each project.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import NamedTuple

from arena import matches, rounds, view
from arena.next_round import RoundReport, Step, begin, give_up, go, next_step, opponents
from arena.ranking import ranking
from chat.speakers import Speaker, find, speakers
from errors import AppError, ConfigError
from models.client import Sampling, Workers
from storage import Project, Store
from storage.records import SAMPLE
from transfer.candidates.batch import Progress
from transfer.jobs import Jobs, JobState

HELD_OUT, WRITTEN = "held out", "written"


@dataclass
class AtWork:
    """A project's round in the background. enough: set once the labels there are shall do; step: where it stands, or stood
    when it ended."""

    jobs: Jobs = field(default_factory=Jobs)
    enough: threading.Event = field(default_factory=threading.Event)
    step: Step | None = None

    @property
    def is_running(self) -> bool:
        """True while something is done or waited for."""
        return self.jobs.state is not None and self.jobs.state.running

    def tell(self, step: Step) -> None:
        """Remember where the round stands."""
        self.step = step

    def last_word(self, step: Step) -> str:
        """Return how the work ended; "" once the round stands at another step, or a match says itself what waits."""
        state = self.jobs.state
        is_match = state is not None and getattr(state.report, "match", None) is not None and not state.report.match.failed
        has_moved = self.step is None or step.kind != self.step.kind and step.round is not None
        return "" if state is None or state.running or is_match or has_moved else state.message


class Waiting(NamedTuple):
    """The project of the last comparison, None where there is none, and how many of its pairs wait for votes."""

    match_id: int | None = None
    pairs: int = 0


@dataclass(frozen=True)
class Standing:
    """What there is to say of a project's round. step: None where there is none to do; state: of the work, None when nobody
    is at it; message: how it ended, or why there is none; answering: who is compared."""

    step: Step | None = None
    state: JobState | None = None
    message: str = ""
    waiting: Waiting = Waiting()
    answering: str = ""


class Desk:
    """The actions of the Arena tab on one store."""

    def __init__(self, store: Store, workers: Workers) -> None:
        self.store, self.workers, self.jobs = store, workers, Jobs()
        self.at_work: dict[int, AtWork] = {}

    def ranking_html(self, project_id: int | None, only_here: bool, with_named: bool) -> str:
        """Return the ranking by all votes, or a project's alone; with_named: those given with the names in sight too."""
        found = ranking(self.store, project_id if only_here else None, with_named=with_named)
        return view.ranking_html(found, self.names(project_id))

    def rounds_html(self, project_id: int | None, with_named: bool) -> str:
        """Return a project's rounds; with_named: as in `ranking_html`."""
        votes = rounds.votes_of(self.store, with_named)
        return view.rounds_html([] if project_id is None else rounds.rounds(self.store, project_id, votes))

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
        project_id = self.store.projects.home(project_id)
        pair = find(self.store, project_id, first, second)
        if source == WRITTEN:
            prompts = matches.written(text)
        else:
            prompts = [] if project_id is None else matches.held_out(self.store, project_id, pair)
        played = matches.prepare(self.store, pair, prompts, int(most), project_id)
        sampling = Sampling(temperature=float(temperature))

        def work(progress: Progress, stop: threading.Event) -> matches.MatchReport:
            try:
                return matches.play(self.store, self.workers, played, pair, sampling, progress=progress, stop=stop)
            finally:
                self.store.close()

        self.jobs.start(_title(pair), played.id, work)
        return played

    def go(self, project_id: int | None, most: int | None = None, enough: bool = False) -> None:
        """Go on with a project's round in the background, or say to the one at work that the labels are enough.

        most: prompts that are asked, None for all. Raises AppError when it cannot begin; how it ends is its `at_work`.
        """
        project = self._project(project_id)
        at_work = self.at_work.setdefault(project.id, AtWork())
        if enough and at_work.is_running:
            at_work.enough.set()
            return
        step = next_step(self.store, project.id)
        if step.kind == SAMPLE and step.round is None:
            begin(self.store, project.id, most and int(most))  # says at once why there is none
            step = next_step(self.store, project.id)

        def work(progress: Progress, stop: threading.Event) -> RoundReport:
            try:
                return go(
                    self.store, self.workers, project, enough=at_work.enough, told=at_work.tell, progress=progress, stop=stop
                )
            finally:
                self.store.close()

        if not at_work.is_running:
            at_work.step, at_work.enough = step, threading.Event()
            if enough:
                at_work.enough.set()
        at_work.jobs.start(f"The round of {project.name!r}", project.id, work)

    def stop(self, project_id: int | None) -> None:
        """Stop a project's round at the next place where it can."""
        if project_id in self.at_work:
            self.at_work[project_id].jobs.cancel()

    def give_up(self, project_id: int | None) -> None:
        """End a project's round where it stands. Raises ConfigError while it is at work."""
        project = self._project(project_id)
        at_work = self.at_work.pop(project.id, AtWork())
        if at_work.is_running:
            self.at_work[project.id] = at_work
            raise ConfigError("The round is still at work. Stop it first.")
        give_up(self.store, project.id)

    def standing(self, project_id: int | None) -> Standing:
        """Return where a project's round stands."""
        if project_id is None:
            return Standing(message="Choose a project at the top first: rounds are a project's.")
        at_work = self.at_work.get(project_id, AtWork())
        state = at_work.jobs.state
        if at_work.is_running and at_work.step is not None:
            answering = ", ".join(each.label for each in opponents(self.store, at_work.step.run))
            return Standing(at_work.step, state, answering=answering)
        newest = self.store.rounds.newest(project_id)
        match_id = newest.match_id if newest else None
        counts = self.store.items.counts(match_id)["pair"] if match_id is not None else {"total": 0, "done": 0}
        waiting = Waiting(match_id, counts["total"] - counts["done"])
        try:
            step = next_step(self.store, project_id)
        except AppError as error:
            return Standing(message=str(error), waiting=waiting)
        return Standing(step, None, at_work.last_word(step), waiting)

    def _project(self, project_id: int | None) -> Project:
        if project_id is None:
            raise ConfigError("Choose a project at the top first.")
        return self.store.projects.by_id(project_id)

    def _check_idle(self) -> None:
        if (state := self.jobs.state) is not None and state.running:
            raise ConfigError(f"{state.title} is still at work. Wait for it, or cancel it first.")


def _title(pair: tuple[Speaker, ...]) -> str:
    return " against ".join(speaker.label for speaker in pair)
