"""The web side of ordering the labelling by a run: start and stop its scoring, say how far it is. Does not know torch."""

from __future__ import annotations

from collections.abc import Callable

from storage import Run, Store
from training.background import Progress, Work, scorable

SCORING = Work(
    "score", "scoring", "training.score",
    "The scoring ended without a word: it was killed, or the machine ran out of memory. The scores from before stay.",
)


def checked(store: Store, run_id: int) -> Run:
    """Return a run that can score. Raises NotFoundError, or TrainingError when it left no adapter or one is training."""
    return scorable(store, run_id, "to score with")


def start(
    store: Store, run_id: int, device: str = "auto", before_start: Callable[[], None] = lambda: None
) -> None:
    """Score a run's project in a process of its own that outlives this one.

    before_start: called once the run is accepted, to free what scoring needs (a GPU). Raises as `checked`, and
    TrainingError when it scores already or the process cannot be started.
    """
    SCORING.start(store, checked(store, run_id).id, ["--device", device], before_start)


def stop(store: Store, run_id: int) -> None:
    """Ask the scoring by a run to stop after its current forward pass, if it is at work."""
    SCORING.stop(store, run_id)


def status(store: Store, run: Run) -> Progress:
    """Return how far the scoring by a run is."""
    return SCORING.status(store, run.id)
