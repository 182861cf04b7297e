"""The web side of a run: start its process, cancel it, notice its death, read its log. Does not know torch.

A run belongs to the store, not to who started it: its process is detached and outlives the page, and a page that
comes later finds it there. Every function may be called by several processes at once.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from errors import ConfigError, TrainingError
from models import catalog
from storage import Project, Run, Store
from training import checkpoint, launching
from training.config import TrainingConfig
from training.dataset import summary_of
from training.distributed import launched_processes
from training.lock import ProcessLock
from training.report import cancelled_by_signals
from training.run import LOCK_NAME, LOG_NAME, execute, resumable_note

# A queued run whose process has not appeared by then never will: the interpreter takes about a second.
START_SECONDS = 60.0
TAIL_BYTES = 64 * 1024
ADAPTER_SHAPE = ("lora_rank", "lora_alpha", "lora_targets", "lora_rslora", "lora_dora")
LOGGED = re.compile(r"\d\d:\d\d:\d\d ")


def create(store: Store, project: Project, config: TrainingConfig) -> Run:
    """Store a queued run with a snapshot of those of the project's labels that its config asks for.

    Raises ConfigError when its method cannot train on them or the run to go on from does not fit, ModelError when there is no such model, TrainingError
    while another run is active.
    """
    reconcile(store)
    config = _going_on(store, config)
    rows = list(store.labels.judged(project.id, which=config.labels))
    summary_of(rows).check(config.method, config.labels)
    catalog.resolve(config.model)
    label_ids = dict.fromkeys(row["label_id"] for row in rows)  # a ranking is several rows
    return store.runs.create(project.id, config.method, config.model, config.to_dict(), label_ids)


def start(
    store: Store,
    project: Project,
    config: TrainingConfig,
    device: str = "auto",
    before_start: Callable[[], None] = lambda: None,
) -> Run:
    """Create a run and train it in a process of its own that outlives this one; return it queued.

    before_start: called once the run is accepted, to free what training needs (a GPU). Raises as `create`, and
    TrainingError when the process cannot be started.
    """
    return _started(store, create(store, project, config), device, before_start)


def resumable_from(store: Store, run: Run) -> int | None:
    """Return after how many steps a run can be resumed; None when it is active, has finished or kept no checkpoint."""
    if run.is_active or run.state == "finished":
        return None
    return checkpoint.step_of(store.runs.folder(run.id) / checkpoint.NAME)


def reopen(store: Store, run_id: int) -> Run:
    """Queue a run again that was cancelled, killed or has failed, to go on from its checkpoint.

    Raises NotFoundError when there is no such run, TrainingError when it is active, has finished, kept no checkpoint
    or has lost labels, ConfigError when its settings are of another version, ModelError when its model is gone.
    """
    reconcile(store)
    run = store.runs.get(run_id)
    if run.is_active:
        raise TrainingError(f"Run {run_id} is still training.")
    if run.state == "finished":
        raise TrainingError(f"Run {run_id} has finished: there is nothing to resume. Start a new one.")
    step = resumable_from(store, run)
    if step is None:
        raise TrainingError(f"Run {run_id} kept no checkpoint, so it cannot be resumed. Start a new one.")
    TrainingConfig.from_dict(run.config)
    catalog.resolve(run.model)
    wanted = len(store.runs.label_ids(run_id))
    found = len({row["label_id"] for row in store.labels.judged(run.project_id, run_id)})
    if found < wanted:
        raise TrainingError(
            f"Run {run_id} began with {wanted} labels and {wanted - found} of them are gone. Start a new one."
        )
    return store.runs.reopen(run_id, step)


def resume(
    store: Store, run_id: int, device: str = "auto", before_start: Callable[[], None] = lambda: None
) -> Run:
    """Resume a run in a process of its own, as `start` starts one; return it queued. Raises as `reopen` and `start`."""
    return _started(store, reopen(store, run_id), device, before_start)


def work(store: Store, run_id: int, device: str = "auto", progress: Callable[[str], None] = lambda line: None) -> Run:
    """Train a queued run and wait for it: here, or in the processes that its `devices` asks for. Return it ended.

    progress: gets every line of its log. Where a launcher started this process with others, they are the devices.
    """
    run = store.runs.get(run_id)
    if launching.devices(run) == 1 or launched_processes() > 1:
        return execute(store, run_id, device, progress)
    stop = threading.Event()
    with subprocess.Popen(
        [*launching.command(store, run, device), "--say"], cwd=launching.ROOT,
        env=launching.environment(launching.devices(run)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        start_new_session=True, text=True, errors="replace",
    ) as process:
        with cancelled_by_signals(stop):
            threading.Thread(target=_cancel_when, args=(store, run_id, stop, process), daemon=True).start()
            for line in process.stdout or ():
                progress(line.rstrip())
    reconcile(store)
    return store.runs.get(run_id)


def _started(store: Store, run: Run, device: str, before_start: Callable[[], None]) -> Run:
    try:
        before_start()
        process = _spawn(store, run, device)
    except BaseException as error:
        store.runs.end(run.id, "failed", f"The training process could not be started: {error}.")
        if isinstance(error, OSError):
            raise TrainingError(store.runs.get(run.id).message) from error
        raise
    # The thread takes the exit code, so that no zombie is left, and tells the store at once when it was a death.
    threading.Thread(target=_wait, args=(store, process), daemon=True, name=f"run-{run.id}").start()
    return run


def cancel(store: Store, run_id: int) -> Run:
    """Ask a run to stop after its current forward pass; asked again, end its process at once. Return the run."""
    reconcile(store)
    run = store.runs.get(run_id)
    if not run.is_active:
        return run
    lives = _lock(store, run_id).is_held()
    if not lives and run.state == "queued":
        store.runs.end(run_id, "cancelled", "Cancelled before it began.")
    elif not run.cancel_requested:
        store.runs.request_cancel(run_id)
    elif lives and run.pid is not None:  # the lock says that the process id is the run's own
        os.kill(run.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        store.runs.end(run_id, "cancelled", f"Stopped at once at {_place(run)}.{_kept(store, run)}")
    return store.runs.get(run_id)


def reconcile(store: Store) -> Run | None:
    """Mark the active run as failed when its process is gone; return the run that is still active, if any."""
    run = store.runs.active()
    if run is None or _lock(store, run.id).is_held():
        return run
    if run.state == "queued" and time.time() - (run.heartbeat_at or run.created_at) < START_SECONDS:
        return run
    # It may have ended, with its own last word, between the two looks.
    again = store.runs.get(run.id)
    if not again.is_active:
        return None
    if again.cancel_requested:
        store.runs.end(run.id, "cancelled", f"Cancelled at {_place(again)}.{_kept(store, again)}")
    else:
        store.runs.end(run.id, "failed", _epitaph(store, again))
    return None


def log_tail(store: Store, run_id: int, lines: int = 200, name: str = LOG_NAME) -> str:
    """Return the last lines of a run's log; "" while there is none. Progress bars keep their last state only."""
    path = store.runs.folder(run_id) / name
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    # Split at \n only: str.splitlines would also split at \r, which progress bars use to draw over themselves.
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.rstrip().split("\n")[-lines:])


def _going_on(store: Store, config: TrainingConfig) -> TrainingConfig:
    """Return a config with the adapter's shape of the run it goes on from. Raises ConfigError, NotFoundError."""
    if not config.start_run:
        return config
    before = store.runs.get(config.start_run)
    if before.adapter is None:
        raise ConfigError(f"Run {before.id} has no adapter to go on from: it is {before.state}. Choose a finished run.")
    if before.model != config.model:
        raise ConfigError(f"Run {before.id} was trained from {before.model!r}, not {config.model!r}. Choose that model.")
    return replace(config, **{name: before.config[name] for name in ADAPTER_SHAPE if name in before.config})


def _spawn(store: Store, run: Run, device: str) -> subprocess.Popen:
    environment = launching.environment(launching.devices(run))
    return launching.detached(launching.command(store, run, device), environment, store.runs.folder(run.id) / LOG_NAME)


def _cancel_when(store: Store, run_id: int, stop: threading.Event, process: subprocess.Popen) -> None:
    """Pass a wish to stop on to the processes of a run."""
    while process.poll() is None:
        if stop.wait(0.2):
            cancel(store, run_id)
            break
    store.close()


def _wait(store: Store, process: subprocess.Popen) -> None:
    try:
        if process.wait() != 0:
            reconcile(store)
    finally:
        store.close()


def _lock(store: Store, run_id: int) -> ProcessLock:
    return ProcessLock(store.runs.folder(run_id) / LOCK_NAME)


def _place(run: Run) -> str:
    return f"step {run.step} of {run.total_steps}"


def _epitaph(store: Store, run: Run) -> str:
    last = _last_words(store, run)
    where = f" at {_place(run)}" if run.state == "running" else " before it began"
    said = f" Its last words: {last}" if last else ""
    why = "it was killed, or the machine ran out of memory"
    return f"The training process ended without a word{where}; {why}.{resumable_note(store.runs.folder(run.id))}{said}"


def _last_words(store: Store, run: Run) -> str:
    """Return the last line of a run's log; of several processes the last of their own, not their launcher's."""
    lines = log_tail(store, run.id).strip().split("\n")
    own = [line for line in lines if launching.devices(run) == 1 or LOGGED.match(line)]
    return own[-1].strip() if own else ""


def _kept(store: Store, run: Run) -> str:
    return resumable_note(store.runs.folder(run.id)) or " Nothing was kept."
