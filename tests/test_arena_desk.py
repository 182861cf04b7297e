"""What the Arena tab does in one call: training on top of the best run, and what it refuses."""

from __future__ import annotations

import pytest

from arena.desk import HELD_OUT, Desk
from errors import ConfigError
from models.client import Workers
from storage import Project, Store
from tests.test_arena_matches import compared, finished
from tests.training_world import label_pairs
from training import job
from training.config import TrainingConfig


@pytest.fixture
def desk(store: Store, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk whose runs are queued, not trained."""
    monkeypatch.setattr(job, "start", lambda store, project, config, device, free: job.create(store, project, config))
    return Desk(store, Workers(store.folder / "runs", "cpu"))


def test_training_on_top_keeps_the_settings_and_lowers_the_rate_once(desk: Desk, store: Store, project: Project) -> None:
    label_pairs(store, project, 6)
    config = TrainingConfig(learning_rate=0.004, lora_rank=6).to_dict()
    first = finished(store, project, **config)
    run = desk.train(project.id)
    assert (run.config["start_run"], run.config["lora_rank"], run.config["learning_rate"]) == (first.id, 6, 0.001)
    assert run.config["loss"] == config["loss"]
    store.runs.end(run.id, "finished", adapter="a")
    again = desk.train(project.id)
    assert (again.config["start_run"], again.config["learning_rate"]) == (run.id, 0.001)


def test_nothing_is_trained_on_top_of_what_votes_put_below_the_base(desk: Desk, store: Store, project: Project) -> None:
    label_pairs(store, project, 6)
    with pytest.raises(ConfigError, match="Train one first"):
        desk.train(project.id)
    run = finished(store, project, **TrainingConfig().to_dict())
    compared(store, "base:demo", f"run-{run.id}", 30)
    compared(store, f"run-{run.id}", "base:demo", 1)
    with pytest.raises(ConfigError, match="Train one first"):
        desk.train(project.id)
    with pytest.raises(ConfigError, match="Choose a project"):
        desk.sample(None)


def test_names_and_prompts_that_are_not_there_are_refused(desk: Desk, store: Store, project: Project) -> None:
    with pytest.raises(ConfigError, match="no prompt"):
        desk.match(project.id, "base:demo", f"run-{finished(store, project).id}", HELD_OUT, "", 10, 0.8)
    assert desk.jobs.state is None
