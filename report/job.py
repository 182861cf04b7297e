"""The web side of measuring a run: start and stop its process, say how far it is. Does not know torch.

A measurement belongs to the run's folder, not to who started it: its process is detached, and a page that comes later
finds its lock and its log there.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from errors import TrainingError
from storage import Run, Store
from training import job, launching
from training.lock import ProcessLock

LOG_NAME, LOCK_NAME, STOP_NAME = "report.txt", "report.lock", "report.stop"
# How a line of the log ends that is not the last one.
MORE = "…"
# A process that has not locked by then never will: the interpreter takes about a second.
START_SECONDS = 20.0
DIED = "The measuring ended without a word: it was killed, or the machine ran out of memory. Measure again."


@dataclass(frozen=True)
class Measuring:
    """How far the measuring of a run is. line: its last word, "" when there was none; active: it is still at work."""

    line: str = ""
    active: bool = False


def measurable(store: Store, project_id: int | None) -> list[Run]:
    """Return the runs of a project that left an adapter, newest first."""
    return [] if project_id is None else [run for run in store.runs.list(project_id) if run.adapter is not None]


def checked(store: Store, run_id: int) -> Run:
    """Return a run that can be measured. Raises NotFoundError, or TrainingError when it left no adapter or one trains."""
    run = store.runs.get(run_id)
    if run.adapter is None:
        raise TrainingError(f"Run {run_id} has no adapter to measure: it is {run.state}. Choose a finished run.")
    if active := job.reconcile(store):
        raise TrainingError(f"Run {active.id} is still training. Wait for it, or cancel it first.")
    return run


def start(
    store: Store, run_id: int, device: str = "auto", before_start: Callable[[], None] = lambda: None
) -> None:
    """Measure a run in a process of its own that outlives this one.

    before_start: called once the run is accepted, to free what measuring needs (a GPU). Raises as `checked`, and
    TrainingError when it is measured already or the process cannot be started.
    """
    run = checked(store, run_id)
    if status(store, run).active:
        raise TrainingError(f"Run {run_id} is being measured already.")
    before_start()
    log = store.runs.folder(run_id) / LOG_NAME
    words = [sys.executable, "-m", "report.measure", "--data", str(store.folder), "--run", str(run_id), "--device", device]
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.with_name(STOP_NAME).unlink(missing_ok=True)
        log.write_text(f"The measuring is starting {MORE}\n", encoding="utf-8")
        process = launching.detached(words, launching.environment(), log)
    except OSError as error:
        log.unlink(missing_ok=True)
        raise TrainingError(f"The measuring could not be started: {error}.") from error
    threading.Thread(target=process.wait, daemon=True, name=f"report-{run_id}").start()  # so that no zombie is left


def stop(store: Store, run_id: int) -> None:
    """Ask the measuring of a run to stop after its current forward pass, if it is at work."""
    if status(store, store.runs.get(run_id)).active:
        (store.runs.folder(run_id) / STOP_NAME).touch()


def status(store: Store, run: Run) -> Measuring:
    """Return how far the measuring of a run is."""
    folder = store.runs.folder(run.id)
    active = ProcessLock(folder / LOCK_NAME).is_held()
    line = job.LOGGED.sub("", job.log_tail(store, run.id, 1, LOG_NAME).strip())
    if active or not line.endswith(MORE):
        return Measuring(line, active)
    if time.time() - (folder / LOG_NAME).stat().st_mtime < START_SECONDS:
        return Measuring(line, True)
    return Measuring(DIED)
