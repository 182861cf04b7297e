"""Runs: one at a time, their states, their metrics."""

from __future__ import annotations

import pytest

from errors import NotFoundError, TrainingError
from storage import Project, Store


def test_a_second_run_is_refused_while_one_is_active(store: Store, project: Project) -> None:
    first = store.runs.create(project.id, "dpo", "demo", {"beta": 0.1}, [])
    with pytest.raises(TrainingError, match=f"Run {first.id} is still training"):
        store.runs.create(project.id, "kto", "demo", {}, [])
    store.runs.end(first.id, "cancelled", "stopped by hand")
    assert store.runs.create(project.id, "kto", "demo", {}, []).state == "queued"


def test_metrics_move_the_step_and_the_heartbeat(store: Store, project: Project) -> None:
    run = store.runs.create(project.id, "dpo", "demo", {}, [])
    store.runs.start(run.id, pid=12, total_steps=3)
    assert store.runs.add_metrics(run.id, 1, {"loss": 0.69}) is False
    store.runs.request_cancel(run.id)
    assert store.runs.add_metrics(run.id, 2, {"loss": 0.5}) is True
    now = store.runs.get(run.id)
    assert (now.step, now.total_steps, now.pid, now.summary) == (2, 3, 12, {"loss": 0.5})
    assert [row.values["loss"] for row in store.runs.metrics(run.id, after_step=1)] == [0.5]


def test_a_run_that_has_ended_stays_as_it_ended(store: Store, project: Project) -> None:
    run = store.runs.create(project.id, "dpo", "demo", {}, [])
    assert store.runs.end(run.id, "finished", adapter="runs/run-1/adapter")
    assert not store.runs.end(run.id, "failed", "too late")
    ended = store.runs.get(run.id)
    assert (ended.state, ended.message, ended.adapter) == ("finished", "", "runs/run-1/adapter")


def test_an_unknown_run_is_named(store: Store) -> None:
    with pytest.raises(NotFoundError, match="run number 9"):
        store.runs.get(9)
