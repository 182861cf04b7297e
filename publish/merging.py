"""The web side of merging: start and stop the process that merges a run, say how far it is. Does not know torch.

A merging belongs to the run's folder, not to who started it: its process is detached, and a page that comes later
finds its lock and its log there.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from publish.source import PublishError, finished
from storage import Store
from training import job, launching
from training.lock import ProcessLock

LOG_NAME, LOCK_NAME, STOP_NAME = "merge.txt", "merge.lock", "merge.stop"
DTYPES = ("auto", "float32", "bfloat16", "float16")
# How a line of the log ends that is not the last one.
MORE = "…"
# A process that has not locked by then never will: the interpreter takes about a second.
START_SECONDS = 20.0
DIED = "The merging ended without a word: it was killed, or the machine ran out of memory. Nothing was kept."


@dataclass(frozen=True)
class Merging:
    """How far the merging of a run is. line: its last word, "" when there was none; active: it is still at work."""

    line: str = ""
    active: bool = False


def usual_folder(store: Store, run_id: int) -> Path:
    """Return where the page keeps the merged weights of a run."""
    return store.folder / "merged" / f"run-{run_id}"


def merged_folder(store: Store, run_id: int) -> Path | None:
    """Return the folder of a run's merged weights where the page keeps them; None where there are none."""
    folder = usual_folder(store, run_id)
    return folder if (folder / "config.json").is_file() else None


def check_empty(folder: Path) -> None:
    """Raise PublishError unless a folder is empty or not there yet: nothing is ever overwritten."""
    try:
        taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as error:
        raise PublishError(f"{folder} cannot be read: {error.strerror}. Choose another folder.") from error
    if taken:
        raise PublishError(f"{folder} is not empty, and nothing is overwritten. Empty it, or choose another folder.")


def start(store: Store, run_id: int, dtype: str = "auto", folder: Path | None = None) -> None:
    """Merge a run in a process of its own that outlives this one. folder: the usual one when None.

    Raises NotFoundError, and PublishError when the run has no adapter, the folder is taken, it is being merged
    already, or the process cannot be started.
    """
    finished(store, run_id)
    target = folder or usual_folder(store, run_id)
    check_empty(target)
    if status(store, run_id).active:
        raise PublishError(f"Run {run_id} is being merged already.")
    log = store.runs.folder(run_id) / LOG_NAME
    words = [sys.executable, "-m", "publish.merge", "--data", str(store.folder), "--run", str(run_id)]
    words += ["--out", str(target), "--dtype", dtype]
    try:
        log.with_name(STOP_NAME).unlink(missing_ok=True)
        log.write_text(f"The merging is starting {MORE}\n", encoding="utf-8")
        process = launching.detached(words, launching.environment(), log)
    except OSError as error:
        log.unlink(missing_ok=True)
        raise PublishError(f"The merging could not be started: {error}.") from error
    threading.Thread(target=process.wait, daemon=True, name=f"merge-{run_id}").start()  # so that no zombie is left


def stop(store: Store, run_id: int) -> None:
    """Ask the merging of a run to stop after its current layer, if it is at work."""
    if status(store, run_id).active:
        (store.runs.folder(run_id) / STOP_NAME).touch()


def status(store: Store, run_id: int) -> Merging:
    """Return how far the merging of a run is."""
    folder = store.runs.folder(run_id)
    active = ProcessLock(folder / LOCK_NAME).is_held()
    line = job.LOGGED.sub("", job.log_tail(store, run_id, 1, LOG_NAME).strip())
    if active or not line.endswith(MORE):
        return Merging(line, active)
    if time.time() - (folder / LOG_NAME).stat().st_mtime < START_SECONDS:
        return Merging(line, True)
    return Merging(DIED)
