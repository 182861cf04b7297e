"""What the Arena tab does in one call: the round of each project, and what it refuses."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from arena import next_round
from arena.desk import HELD_OUT, Desk
from errors import ConfigError
from storage import Project, Store
from tests.arena_world import Workers, compared, finished, label_all, server, trained_at_once, world
from tests.completion_server import CompletionServer
from training import job

__all__ = ["server", "trained_at_once"]  # fixtures


@pytest.fixture
def desk(store: Store, server: CompletionServer, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(next_round, "POLL_SECONDS", 0.02)
    return Desk(store, Workers(server))


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for something that another thread does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def test_one_click_goes_all_the_way_and_waits_for_the_labels(
    desk: Desk, store: Store, project: Project, trained_at_once: None
) -> None:
    first = world(store, project)
    desk.go(project.id, 3)
    until(lambda: desk.standing(project.id).step.kind == "label")
    standing = desk.standing(project.id)
    assert standing.state.running and (standing.step.total, standing.step.done) == (3, 0)
    with pytest.raises(ConfigError, match="still at work"):
        desk.go(project.id, 3)
    label_all(store, project)
    until(lambda: not desk.at_work[project.id].is_running)
    standing = desk.standing(project.id)
    new = store.runs.list(project.id)[0]
    assert new.config["start_run"] == first.id and new.state == "finished"
    match = store.projects.by_id(standing.waiting.match_id)
    assert match.home_id == project.id and standing.waiting.pairs == store.items.counts(match.id)["pair"]["total"] > 0
    assert standing.message == ""  # how many wait is counted, not said once
    assert [store.projects.home(each) for each in (match.id, project.id, None)] == [project.id, project.id, None]
    label_all(store, match)
    assert desk.standing(project.id).waiting.pairs == 0


def test_a_round_can_train_on_the_labels_there_are(desk: Desk, store: Store, project: Project, trained_at_once: None) -> None:
    world(store, project)
    desk.go(project.id, 3)
    until(lambda: desk.standing(project.id).step.total == 3)
    label_all(store, project, most=1)
    desk.go(project.id, enough=True)
    until(lambda: not desk.at_work[project.id].is_running)
    assert len(store.runs.list(project.id)) == 2


def test_a_round_that_was_stopped_says_where_it_stands_and_goes_on(desk: Desk, store: Store, project: Project) -> None:
    world(store, project)
    desk.go(project.id, 2)
    until(lambda: desk.standing(project.id).step.kind == "label")
    desk.stop(project.id)
    until(lambda: not desk.at_work[project.id].is_running)
    standing = desk.standing(project.id)
    assert standing.state is None and "Stopped" in standing.message and standing.step.total == 2
    later = Desk(store, desk.workers)  # the program was started again
    assert later.standing(project.id).step == standing.step
    later.go(project.id)
    assert later.standing(project.id).state.running
    with pytest.raises(ConfigError, match="Stop it first"):
        later.give_up(project.id)
    later.stop(project.id)


def test_why_there_is_no_next_round_is_said(desk: Desk, store: Store, project: Project) -> None:
    assert "Choose a project" in desk.standing(None).message and desk.standing(None).step is None
    assert "No run of this project has finished" in desk.standing(project.id).message
    with pytest.raises(ConfigError, match="No run of this project has finished"):
        desk.go(project.id)
    run = finished(store, project)
    compared(store, "base:demo", f"run-{run.id}", 38)
    compared(store, f"run-{run.id}", "base:demo", 2)
    assert "under its base" in desk.standing(project.id).message


def test_a_round_whose_run_fails_says_so_and_keeps_the_labels(
    desk: Desk, store: Store, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(store: Store, project: Project, config, device, free):  # noqa: ANN001, ANN202
        run = job.create(store, project, config)
        store.runs.end(run.id, "failed", "Out of memory.")
        return store.runs.get(run.id)

    monkeypatch.setattr(job, "start", failing)
    world(store, project)
    desk.go(project.id, 2)
    until(lambda: desk.standing(project.id).step.total == 2)
    label_all(store, project)
    until(lambda: not desk.at_work[project.id].is_running)
    standing = desk.standing(project.id)
    assert "Out of memory. The labels are kept" in standing.message and standing.step.kind == "train"
    store.runs.reopen(standing.step.run.id, 1)  # it is resumed on the Train tab
    store.runs.end(standing.step.run.id, "finished", adapter="a")
    assert desk.standing(project.id).step.kind == "compare" and desk.standing(project.id).message == ""
    desk.give_up(project.id)
    assert desk.standing(project.id).step.round is None


def test_names_and_prompts_that_are_not_there_are_refused(desk: Desk, store: Store, project: Project) -> None:
    with pytest.raises(ConfigError, match="no prompt"):
        desk.match(project.id, "base:demo", f"run-{finished(store, project).id}", HELD_OUT, "", 10, 0.8)
    assert desk.jobs.state is None
