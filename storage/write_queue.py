"""Many small writes as few transactions: one thread runs them in turn, and what has gathered meanwhile is one commit.

Annotators who press keys at the same time would otherwise wait for each other's lock, each with a commit of its own.
Every job is still all or nothing by itself, and is answered only when it is on the disk. Does not know what it runs.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storage.database import Store

MOST_TOGETHER = 64
# Between two transactions the lock is free for so long: other processes (a run, an import) find it, and more gathers.
PAUSE_SECONDS = 0.002


class WriteQueue:
    """Runs jobs on one thread of its own, which starts at the first job and ends with the process."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Future] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def submit(self, job: Callable[[], Any]) -> Future:
        """Run `job()` soon, inside a transaction; the future has its result once it is committed.

        What the job raises is the future's exception, and nothing of that job is kept; the others of the same
        transaction are. StorageError when the transaction itself failed: nothing of any of them was stored.
        """
        future: Future = Future()
        self._jobs.put((job, future))
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="label-writer", daemon=True)
                    self._thread.start()
        return future

    def close(self) -> None:
        """Run what was submitted, then end the thread."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        # What is answered is forgotten by the browser's outbox: it must outlast a power cut. One wait a transaction.
        self.store.db.conn.execute("PRAGMA synchronous = FULL")
        while (batch := self._next_batch()) is not None:
            self._run_together(batch)
            if not self._jobs.empty():
                time.sleep(PAUSE_SECONDS)
        self.store.close()

    def _next_batch(self) -> list[tuple[Callable[[], Any], Future]] | None:
        """Wait for a job; return it with those that wait behind it. None when the queue was closed."""
        batch = []
        job = self._jobs.get()
        while job is not None:
            batch.append(job)
            if len(batch) == MOST_TOGETHER or self._jobs.empty():
                return batch
            job = self._jobs.get()
        if batch:
            self._jobs.put(None)
            return batch
        return None

    def _run_together(self, batch: list[tuple[Callable[[], Any], Future]]) -> None:
        done: list[tuple[Future, Any, BaseException | None]] = []
        try:
            with self.store.transaction() as db:
                for job, future in batch:
                    if not future.set_running_or_notify_cancel():  # nobody waits for it any more
                        continue
                    db.conn.execute("SAVEPOINT job")
                    try:
                        result, error = job(), None
                    except BaseException as raised:  # it belongs to whoever waits for the job
                        result, error = None, raised
                        db.conn.execute("ROLLBACK TO job")
                    db.conn.execute("RELEASE job")
                    done.append((future, result, error))
        except BaseException as error:  # nothing was committed
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for future, result, error in done:
            future.set_exception(error) if error is not None else future.set_result(result)
