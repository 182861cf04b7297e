"""A lock that lasts as long as a process: how others know that a run's process lives. Does not know runs.

The operating system releases it however the process ends, so neither a reused process id, nor a zombie, nor a
machine that slept can be taken for a living run.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
    import msvcrt


class ProcessLock:
    """One file, locked by at most one process. Released by `release`, or when the process ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None

    def take(self, patience_seconds: float = 1.0) -> bool:
        """Lock the file, made with its folder when missing; return False when another process holds it.

        patience_seconds: how long to try, because somebody who only looks holds it for an instant.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        until = time.monotonic() + patience_seconds
        file = self.path.open("ab")
        while not _try_lock(file):
            if time.monotonic() >= until:
                file.close()
                return False
            time.sleep(0.02)
        self._file = file
        return True

    def release(self) -> None:
        """Unlock the file, if this object locked it."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def is_held(self) -> bool:
        """Say whether a process holds the lock; it is free where the file does not exist."""
        if not self.path.exists():
            return False
        if self._file is not None:
            return True
        with self.path.open("ab") as file:
            return not _try_lock(file, shared=True)


def _try_lock(file: IO[bytes], shared: bool = False) -> bool:
    """Lock an open file until it is closed; return False when another process holds it."""
    try:
        if fcntl is not None:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        else:
            os.lseek(file.fileno(), 0, os.SEEK_SET)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    except OSError:
        return False
    return True
