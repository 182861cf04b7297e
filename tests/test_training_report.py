"""What a run outlasts: a database that others keep locked, a log that cannot be written. Locks here are real."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.tiny_models import save_tiny_model
from tests.training_world import label_pairs, tiny_config

import storage.database
from errors import StorageError
from storage import Project, Store
from training import job, report, run


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for locks and between tries for moments, not minutes."""
    monkeypatch.setattr(storage.database, "BUSY_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(report, "RETRY_SECONDS", 0.2)


@contextmanager
def locked(store: Store) -> Iterator[None]:
    """Keep the database's write lock, as another program would."""
    other = sqlite3.connect(store.folder / "studio.db", check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.rollback()
        other.close()


def test_figures_that_the_database_refuses_are_stored_later(impatient, tmp_path) -> None:
    store = Store(tmp_path)
    queued = store.runs.create(store.projects.ensure("P").id, "dpo", "demo", {}, [])
    said: list[str] = []
    figures = report.Figures(store, queued.id, said.append)
    figures.add(1, {"loss": 1.0})
    with locked(store):
        assert figures.add(2, {"loss": 2.0}) is False and figures.add(3, {"loss": 3.0}) is False
    assert len(said) == 1 and "from step 2 on wait" in said[0]
    store.runs.request_cancel(queued.id)
    assert figures.flush() is True
    assert [(row.step, row.values["loss"]) for row in store.runs.metrics(queued.id)] == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_a_run_outlasts_a_database_that_is_locked_from_its_second_step_to_its_end(impatient, tmp_path) -> None:
    store = Store(tmp_path / "data")
    project: Project = store.projects.ensure("P")
    label_pairs(store, project, 4)
    model: Path = save_tiny_model(tmp_path / "model")
    queued = job.create(store, project, tiny_config(store, project, "dpo", model, steps=6))
    lock, said = locked(store), []

    def progress(line: str) -> None:
        said.append(line)
        if line.startswith("step 2/"):
            lock.__enter__()
        if line.startswith("The end of the run waits"):
            lock.__exit__(None, None, None)

    ended = run.execute(store, queued.id, "cpu", progress)
    assert ended.state == "finished" and ended.adapter
    assert any(line.startswith("The end of the run waits") for line in said)
    assert [row.step for row in store.runs.metrics(queued.id)] == [1, 2, 3, 4, 5, 6]


def test_the_last_word_is_given_up_in_the_end_and_told(impatient, tmp_path, monkeypatch) -> None:
    store, tries = Store(tmp_path), []
    monkeypatch.setattr(report, "LAST_WORD_TRIES", 3)
    with locked(store), pytest.raises(StorageError, match="another process kept the database"):
        report.insist(lambda: store.projects.ensure("New"), tries.append)
    assert len(tries) == 2


def test_reference_log_probs_that_cannot_be_kept_are_said_and_not_fatal(impatient, tmp_path) -> None:
    store, said = Store(tmp_path), []
    references = report.References(store.references.of("base", "float32"), said.append)
    with locked(store):
        references.put({b"k" * 16: -1.5})
    assert len(said) == 1 and references.get([b"k" * 16]) == {}
    references.put({b"k" * 16: -1.5})
    assert references.get([b"k" * 16]) == {b"k" * 16: -1.5}


def test_a_log_that_cannot_be_written_still_reaches_who_listens(tmp_path) -> None:
    heard: list[str] = []
    (tmp_path / "log.txt").mkdir()
    report.logger(tmp_path / "log.txt", heard.append)("a line")
    assert heard == ["a line"]


def test_the_heartbeat_hears_a_cancel(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(report, "HEARTBEAT_SECONDS", 0.02)
    store = Store(tmp_path)
    queued = store.runs.create(store.projects.ensure("P").id, "dpo", "demo", {}, [])
    store.runs.start(queued.id, 1, 5)
    stop = threading.Event()
    with report.heartbeat(store, queued.id, stop):
        store.runs.request_cancel(queued.id)
        assert stop.wait(10)
