"""The example project of the first start: starter prompts answered by the demo model, ready to label.

Owns what is in it and when it is filled. It does not know the model: answers come through `candidates`, as for
any other project. The worker is started only while something is missing.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from models.client import Sampling, Workers
from storage import Project, Store
from transfer.candidates.batch import Progress
from transfer.candidates.generate import generate
from transfer.jobs import Jobs
from transfer.wording import counted

NAME = "Example (demo model)"
GUIDELINES = """\
Prefer the answer that is **polite**, **short** and **right**.

- A polite answer greets or thanks, and is never rude.
- A short answer says what was asked for and stops.
- When both are the same in that, or both are wrong, say so: tie, or both bad.

Any other rule works too, as long as you keep to it: the model learns what you reward.
"""
REASONS = ["polite", "short", "right"]
MODEL = "demo"
SOURCE = "example"
PER_PROMPT = 2
SINGLE_EVERY = 4  # every fourth prompt's responses are judged one by one, the others as pairs
COMPLETE_SHARE = 0.9  # a few prompts always get the same answer; do not start the worker for them each time
SAMPLING = Sampling(temperature=1.0, max_tokens=96, seed=0)


@dataclass(frozen=True)
class FillReport:
    """How many responses, pairs and single responses to label a fill added."""

    responses: int = 0
    pairs: int = 0
    singles: int = 0

    def sentence(self) -> str:
        """Return the report in words."""
        return f"The example project got {counted(self.pairs, 'pair')} and {self.singles:,} single responses to label."


def ensure_project(store: Store) -> Project | None:
    """Make the example project with its prompts when the data folder has no project at all; else return it.

    Returns None when the user has projects but no example. Quick: no model is asked.
    """
    from demo.prompts import STARTERS

    with store.transaction():
        projects = store.projects.list()
        if projects:
            return next((project for project in projects if project.is_example), None)
        project = store.projects.ensure(NAME, GUIDELINES, is_example=True)
        store.projects.set_labeling(project.id, {"reasons": REASONS})
        project = store.projects.by_id(project.id)
        for messages in STARTERS:
            store.prompts.add(project.id, messages, SOURCE)
    return project


def is_filled(store: Store, project: Project) -> bool:
    """Tell whether the example has all, or nearly all, of the items it should have."""
    for kind, prompt_ids in _prompts_by_kind(store, project).items():
        items = len(prompt_ids) * (PER_PROMPT if kind == "single" else PER_PROMPT // 2)
        if store.items.counts(project.id)[kind]["total"] < COMPLETE_SHARE * items:
            return False
    return True


def fill(
    store: Store, workers: Workers, progress: Progress | None = None, stop: threading.Event | None = None
) -> FillReport:
    """Generate what the example project still lacks.

    To be called at every start, in a thread of its own: it takes as long as the model does, and does nothing when
    there is no example project or it is filled. Items appear as they are generated.
    progress: called with responses stored and wanted, for one kind of item after the other.
    Raises WorkerError and ModelError; what was generated is kept, and the next call goes on from there.
    """
    project = ensure_project(store)
    report = FillReport()
    if project is None or is_filled(store, project):
        return report
    for kind, prompt_ids in _prompts_by_kind(store, project).items():
        if prompt_ids and not (stop and stop.is_set()):
            done = generate(
                store, project, workers, model=MODEL, per_prompt=PER_PROMPT, sampling=SAMPLING, kinds=(kind,),
                prompt_ids=prompt_ids, progress=progress, stop=stop,
            )
            report = FillReport(
                report.responses + done.responses, report.pairs + done.pairs, report.singles + done.singles
            )
    return report


def start_filling(store: Store, workers: Workers, jobs: Jobs) -> None:
    """Fill the example in the background when it lacks something; the Data tab shows how far it is, or why not."""
    project = ensure_project(store)
    if project is not None and not is_filled(store, project):
        jobs.start(
            "Filling the example project", project.id, lambda progress, stop: fill(store, workers, progress, stop)
        )


def _prompts_by_kind(store: Store, project: Project) -> dict[str, list[int]]:
    """Return the example's own prompts, those of pairs and those of single responses."""
    ids = [prompt.id for prompt in store.prompts.list(project.id) if prompt.source == SOURCE]
    singles = ids[SINGLE_EVERY - 1 :: SINGLE_EVERY]
    return {"pair": [key for key in ids if key not in set(singles)], "single": singles}
