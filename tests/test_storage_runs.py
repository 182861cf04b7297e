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


def ended_run(store: Store, project: Project, state: str = "cancelled") -> int:
    run = store.runs.create(project.id, "dpo", "demo", {}, [])
    store.runs.start(run.id, pid=12, total_steps=9)
    for step in (1, 2, 3):
        store.runs.add_metrics(run.id, step, {"loss": 1 / step})
    store.runs.request_cancel(run.id)
    store.runs.end(run.id, state, "as it ended")
    return run.id


@pytest.mark.parametrize("state", ["cancelled", "failed"])
def test_a_reopened_run_forgets_what_came_after_its_step(store: Store, project: Project, state: str) -> None:
    reopened = store.runs.reopen(ended_run(store, project, state), 2)
    assert (reopened.state, reopened.step, reopened.message, reopened.cancel_requested) == ("queued", 2, "", False)
    assert reopened.is_active and reopened.pid is None and reopened.ended_at is None
    assert [row.step for row in store.runs.metrics(reopened.id)] == [1, 2]


def test_a_reopened_run_counts_only_the_time_it_ran(store: Store, project: Project) -> None:
    run_id = ended_run(store, project)
    with store.transaction() as db:
        db.execute("UPDATE runs SET started_at = 1000, ended_at = 1060")
    store.runs.start(store.runs.reopen(run_id, 2).id, pid=13, total_steps=9)
    store.runs.end(run_id, "finished")
    ended = store.runs.get(run_id)
    assert 60 <= ended.ended_at - ended.started_at < 90


def test_only_a_run_that_was_cancelled_or_failed_is_reopened_and_only_one(store: Store, project: Project) -> None:
    first = ended_run(store, project)
    with pytest.raises(TrainingError, match="Run 2 is finished"):
        store.runs.reopen(ended_run(store, project, "finished"), 1)
    store.runs.create(project.id, "dpo", "demo", {}, [])
    with pytest.raises(TrainingError, match="Run 3 is still training"):
        store.runs.reopen(first, 1)
    assert store.runs.get(first).state == "cancelled" and len(store.runs.metrics(first)) == 3
    with pytest.raises(NotFoundError):
        store.runs.reopen(9, 1)
