"""Long work on a finished run in a process of its own: its start, its log, its lock, its wish to stop. Knows no torch.

It belongs to the run's folder, not to who started it: the process is detached, and a page that comes later finds its
lock and its log there. The same words are used where the work is done in this process.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from errors import AppError, TrainingError
from storage import Run, Store
from training import job, launching
from training.lock import ProcessLock
from training.report import cancelled_by_signals, logger

# How a line of the log ends that is not the last one.
MORE = "…"
# A process that has not locked by then never will: the interpreter takes about a second, on a busy machine many.
START_SECONDS = 60.0


@dataclass(frozen=True)
class Progress:
    """How far a work is. line: its last word, "" when there was none; active: it is still at work."""

    line: str = ""
    active: bool = False


@dataclass(frozen=True)
class Work:
    """One kind of work, at most one at a time for each run.

    name: of its files in the run's folder; title: what it is called in sentences ("merging"); module: what
    `python -m` runs; died: what is said of one that ended without a word. stoppable: it looks whether it shall stop;
    else a signal ends it at once. refusal: what is raised where it cannot begin.
    """

    name: str
    title: str
    module: str
    died: str
    stoppable: bool = True
    refusal: type[AppError] = TrainingError

    def log_name(self) -> str:
        """Return the name of the log in a run's folder."""
        return f"{self.name}.txt"

    def lock(self, store: Store, run_id: int) -> ProcessLock:
        """Return the lock that is held while the work is done."""
        return ProcessLock(store.runs.folder(run_id) / f"{self.name}.lock")

    def stop_file(self, store: Store, run_id: int) -> Path:
        """Return the file whose being there asks the work to stop."""
        return store.runs.folder(run_id) / f"{self.name}.stop"

    def busy(self, run_id: int) -> AppError:
        """Return what is said to who asks for the work while it is being done."""
        return self.refusal(f"The {self.title} of run {run_id} is at work already. Wait for it, or stop it first.")

    def start(
        self, store: Store, run_id: int, words: Sequence[str], before_start: Callable[[], None] = lambda: None
    ) -> None:
        """Do the work in a process that outlives this one. words: its arguments besides --data and --run.

        before_start: called once it is accepted, to free what the work needs (a GPU). Raises `refusal` when it is being
        done already, or the process cannot be started.
        """
        if self.status(store, run_id).active:
            raise self.busy(run_id)
        before_start()
        log, token = store.runs.folder(run_id) / self.log_name(), uuid.uuid4().hex
        own = [sys.executable, "-m", self.module, "--data", str(store.folder), "--run", str(run_id), *words]
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            self.stop_file(store, run_id).unlink(missing_ok=True)
            log.write_text(f"{token}\nThe {self.title} is starting {MORE}\n", encoding="utf-8")
            process = launching.detached(own, launching.environment(), log)
        except OSError as error:
            log.unlink(missing_ok=True)
            raise self.refusal(f"The {self.title} could not be started: {error}.") from error
        # The thread takes the exit code, so that no zombie is left, and says at once when it was a death.
        threading.Thread(
            target=self._wait, args=(process, store, run_id, token), daemon=True, name=f"{self.name}-{run_id}"
        ).start()

    def parser(self, about: str) -> argparse.ArgumentParser:
        """Return what reads the words that `start` gives its process. about: what it does, for --help."""
        parser = argparse.ArgumentParser(prog=f"python -m {self.module}", description=about)
        parser.add_argument("--data", type=Path, required=True, help="the data folder")
        parser.add_argument("--run", type=int, required=True, help="number of the run")
        return parser

    def stop(self, store: Store, run_id: int) -> None:
        """Ask the work to stop at the next place where it can, if it is being done."""
        if self.status(store, run_id).active:
            self.stop_file(store, run_id).touch()

    def status(self, store: Store, run_id: int) -> Progress:
        """Return how far the work on a run is."""
        active = self.lock(store, run_id).is_held()
        line = job.LOGGED.sub("", job.log_tail(store, run_id, 1, self.log_name()).strip())
        if active or not line.endswith(MORE):
            return Progress(line, active)
        if time.time() - (store.runs.folder(run_id) / self.log_name()).stat().st_mtime < START_SECONDS:
            return Progress(line, True)
        return Progress(self.died)

    def _wait(self, process: subprocess.Popen, store: Store, run_id: int, token: str) -> None:
        """Say that a process died whose log ends in "…". token: the first line of its log."""
        process.wait()
        log = store.runs.folder(run_id) / self.log_name()
        with suppress(OSError):  # the run's folder may be gone by now
            text = log.read_text(encoding="utf-8", errors="replace")
            # A process may need a while to exit after its last word and its lock. If the work began again meanwhile, the
            # "…" is a successor's: one that was started writes a log with a token of its own, any other holds the lock.
            mine = text.startswith(token) and not self.lock(store, run_id).is_held()
            if mine and text.rstrip().endswith(MORE):
                with log.open("a", encoding="utf-8") as file:
                    file.write(f"{self.died}\n")

    @contextmanager
    def doing(
        self, store: Store, run_id: int, progress: Callable[[str], None],
        explained: Callable[[BaseException], BaseException] = lambda error: error,
    ) -> Iterator[tuple[Callable[[str], None], Callable[[], bool]]]:
        """Hold the lock while the work is done here; give what writes a line of the log, and what says when to stop.

        progress: gets every line of the log. explained: turns what ends the work into what is raised and said.
        Raises `refusal` when it is being done already.
        """
        lock, asked = self.lock(store, run_id), self.stop_file(store, run_id)
        if not lock.take():
            raise self.busy(run_id)
        say, stop = logger(store.runs.folder(run_id) / self.log_name(), progress), threading.Event()
        try:
            with cancelled_by_signals(stop) if self.stoppable else nullcontext():
                yield say, lambda: stop.is_set() or asked.exists()
        except BaseException as error:  # its last word, for whoever looks at the page
            known = explained(error)
            ended = f"The {self.title} ended with {type(error).__name__}: {error}"
            say(str(known) if isinstance(known, AppError) else ended)
            if known is error:
                raise
            raise known from error
        finally:
            asked.unlink(missing_ok=True)
            lock.release()


def scorable(store: Store, run_id: int, purpose: str) -> Run:
    """Return a run whose adapter can be put to work. purpose: what for, as in "to score with".

    Raises NotFoundError, or TrainingError when it left no adapter or a run is training.
    """
    run = store.runs.get(run_id)
    if run.adapter is None:
        raise TrainingError(f"Run {run_id} has no adapter {purpose}: it is {run.state}. Choose a finished run.")
    if active := job.reconcile(store):
        raise TrainingError(f"Run {active.id} is still training. Wait for it, or cancel it first.")
    return run


def exit_code(do: Callable[[], object]) -> int:
    """Do the work of this process; return 0, or 2 when it could not be done, after saying why."""
    try:
        do()
    except AppError as error:
        print(error, flush=True)
        return 2
    return 0
