"""The web side of measuring a run: start and stop its process, say how far it is. Does not know torch."""

from __future__ import annotations

from collections.abc import Callable

from storage import Run, Store
from training.background import Progress, Work, scorable

MEASURING = Work(
    "report", "measuring", "report.measure",
    "The measuring ended without a word: it was killed, or the machine ran out of memory. Measure again.",
)


def measurable(store: Store, project_id: int | None) -> list[Run]:
    """Return the runs of a project that left an adapter, newest first."""
    return [] if project_id is None else [run for run in store.runs.list(project_id) if run.adapter is not None]


def checked(store: Store, run_id: int) -> Run:
    """Return a run that can be measured. Raises NotFoundError, or TrainingError when it left no adapter or one trains."""
    return scorable(store, run_id, "to measure")


def start(
    store: Store, run_id: int, device: str = "auto", before_start: Callable[[], None] = lambda: None
) -> None:
    """Measure a run in a process of its own that outlives this one.

    before_start: called once the run is accepted, to free what measuring needs (a GPU). Raises as `checked`, and
    TrainingError when it is measured already or the process cannot be started.
    """
    MEASURING.start(store, checked(store, run_id).id, ["--device", device], before_start)


def stop(store: Store, run_id: int) -> None:
    """Ask the measuring of a run to stop after its current forward pass, if it is at work."""
    MEASURING.stop(store, run_id)


def status(store: Store, run: Run) -> Progress:
    """Return how far the measuring of a run is."""
    return MEASURING.status(store, run.id)
