"""Writes of many threads as few transactions: each all or nothing, answered when it is on the disk."""

from __future__ import annotations

import sqlite3
import threading
from functools import partial

import pytest

from errors import StorageError
from storage import Store
from storage.database import DATABASE_NAME


def make_project(store: Store, name: str) -> int:
    return store.projects.ensure(name).id


def test_a_job_is_answered_with_its_result_once_it_is_stored(store):
    future = store.writes.submit(partial(make_project, store, "P"))
    assert future.result(10) == 1
    with sqlite3.connect(store.folder / DATABASE_NAME) as other:
        assert other.execute("SELECT name FROM projects").fetchall() == [("P",)]


def test_a_job_that_fails_leaves_nothing_and_takes_nobody_with_it(store):
    held, go_on = threading.Event(), threading.Event()

    def wait() -> None:  # so that the other three are one transaction
        held.set()
        go_on.wait(10)

    def half() -> None:
        make_project(store, "half")
        raise StorageError("no more")

    waiting = store.writes.submit(wait)
    held.wait(10)
    before, failing, after = (
        store.writes.submit(job) for job in (partial(make_project, store, "A"), half, partial(make_project, store, "B"))
    )
    go_on.set()
    waiting.result(10)
    with pytest.raises(StorageError, match="no more"):
        failing.result(10)
    before.result(10), after.result(10)
    assert [project.name for project in store.projects.list()] == ["A", "B"]


def test_a_transaction_that_cannot_be_committed_fails_all_of_its_jobs(store, monkeypatch):
    monkeypatch.setattr("storage.database.BUSY_TIMEOUT_SECONDS", 0.05)
    with sqlite3.connect(store.folder / DATABASE_NAME, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        futures = [store.writes.submit(partial(make_project, store, name)) for name in "AB"]
        for future in futures:
            with pytest.raises(StorageError, match="another process"):
                future.result(10)
        other.execute("ROLLBACK")
    assert store.writes.submit(partial(make_project, store, "C")).result(10)
    assert [project.name for project in store.projects.list()] == ["C"]


def test_what_was_submitted_is_stored_before_the_queue_closes(store):
    futures = [store.writes.submit(partial(make_project, store, str(number))) for number in range(200)]
    store.writes.close()
    assert all(future.done() for future in futures)
    assert len(store.projects.list()) == 200


def test_another_process_finds_the_lock_beside_a_busy_queue(store):
    """SQLite's own wait starves there: a run that writes metrics would stand still."""
    stop, count = threading.Event(), 0

    def keep_busy() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            pending = [store.writes.submit(partial(make_project, store, f"{number} {part}")) for part in range(32)]
            for future in pending:
                future.result(30)

    threads = [threading.Thread(target=keep_busy) for _ in range(2)]
    for thread in threads:
        thread.start()
    other = Store(store.folder)
    try:
        for count in range(1, 21):
            with other.transaction() as db:
                db.execute("INSERT INTO secrets VALUES (?, x'00')", [str(count)])
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        other.close()
    assert count == 20


def test_a_job_that_nobody_waits_for_any_more_stops_nothing(store):
    """A request that is cancelled cancels its future: the thread must outlive it."""
    held, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        held.set()
        go_on.wait(10)

    first = store.writes.submit(wait)
    held.wait(10)
    assert not first.cancel()  # it runs
    given_up, later = (store.writes.submit(partial(make_project, store, name)) for name in "AB")
    assert given_up.cancel()
    go_on.set()
    assert later.result(10) == 1 and store.writes.submit(partial(make_project, store, "C")).result(10) == 2
    assert [project.name for project in store.projects.list()] == ["B", "C"]
