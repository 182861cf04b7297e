"""Long work in the background of the web process: one of its kind at a time, its progress read by any page, any time.

It does not know what the work is, nor pages. What the work stores is kept; the job itself is forgotten when the
process ends.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from errors import AppError, ConfigError

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


class Report(Protocol):
    """What work returns."""

    def sentence(self) -> str:
        """Return the result in words."""


Work = Callable[[Progress, threading.Event], Report]


@dataclass(frozen=True)
class JobState:
    """A job as it stands. done, total: steps, total 0 while unknown. message: the result or the error, when ended.

    project_id: the project it works for, None while it is not known. started_at: seconds since 1970. report: what the
    work returned, None before its end and after an error.
    """

    title: str
    project_id: int | None
    started_at: float
    done: int = 0
    total: int = 0
    running: bool = True
    failed: bool = False
    message: str = ""
    report: Any = None


class Jobs:
    """The one job of a kind, running or ended last: generating is one kind, importing another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state: JobState | None = None
        self._stop = threading.Event()

    @property
    def state(self) -> JobState | None:
        """The running job, or the one that ended last, or None."""
        return self._state

    def start(self, title: str, project_id: int | None, work: Work) -> None:
        """Begin work in a thread. Raises ConfigError while another job runs."""
        with self._lock:
            if self._state and self._state.running:
                raise ConfigError(f"{self._state.title} is still at work. Wait for it, or cancel it first")
            self._stop = stop = threading.Event()
            self._state = JobState(title, project_id, time.time())
        threading.Thread(target=self._run, args=[work, stop], name="job", daemon=True).start()

    def cancel(self) -> None:
        """Ask the running job, if any, to stop; it ends soon and keeps what it has."""
        self._stop.set()

    def _run(self, work: Work, stop: threading.Event) -> None:
        report = None
        try:
            report = work(self._progress, stop)
            message, failed = report.sentence(), False
        except AppError as error:
            message, failed = str(error), True
        except Exception as error:
            log.exception("a background job failed")
            message, failed = f"It stopped with an unexpected error: {error!r}. The log of the program says more.", True
        self._change(running=False, message=message, failed=failed, report=report)

    def _progress(self, done: int, total: int) -> None:
        self._change(done=done, total=total)

    def _change(self, **values: Any) -> None:
        with self._lock:
            assert self._state is not None
            self._state = replace(self._state, **values)
