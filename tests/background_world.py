"""What tests of work on a finished run share: a trained run, and what holds of each work's own process and its log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from errors import TrainingError
from storage import Project, Run, Store
from tests.training_world import tiny_config
from training import job, run
from training.background import Progress, Work

ENOUGH_SECONDS = 300


class LivingProcess:
    """Stands for a process of a work that is still at it when the test is through."""

    def wait(self) -> None:
        """Wait for an end that does not come."""
        threading.Event().wait(ENOUGH_SECONDS)


def trained(store: Store, project: Project, method: str, model: Path, **overrides: object) -> Run:
    """Train a run of few steps on a project's labels, in this process; return it finished."""
    created = job.create(store, project, tiny_config(store, project, method, model, **overrides))
    ended = run.execute(store, created.id)
    assert ended.state == "finished", ended.message
    return ended


def last_word(work: Work, store: Store, run_id: int, start: Callable[[], None]) -> str:
    """Start a work in a process of its own; return its last word, once any other page has seen that it is at work."""
    assert work.status(store, run_id) == Progress()
    start()
    assert work.status(Store(store.folder), run_id).active
    with pytest.raises(TrainingError, match="at work already"):
        start()
    until = time.monotonic() + ENOUGH_SECONDS
    while (now := work.status(store, run_id)).active:
        assert time.monotonic() < until, now
        time.sleep(0.05)
    return now.line


def check_death_is_told(work: Work, store: Store, project: Project, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold that a work is active while its log ends in "…", and said to have died once nobody is there to go on."""
    created = store.runs.create(project.id, "dpo", "demo", {}, [])
    log = store.runs.folder(created.id) / work.log_name()
    log.parent.mkdir(parents=True)
    log.write_text(f"12:00:00 {line}\n", encoding="utf-8")
    assert work.status(store, created.id) == Progress(line, True)
    monkeypatch.setattr("training.background.START_SECONDS", 0.0)
    assert work.status(store, created.id) == Progress(work.died)
