"""What the Train tab says, from the store alone: plans, live runs, dead runs, and curves that hold no text."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from tests.training_world import add_label, label_pairs

from errors import ConfigError, ModelError
from storage import Project, Run, Store
from training import job, memory, run, view
from training.charts import MAX_POINTS, charts, thinned
from training.lock import ProcessLock


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A folder that is a model as far as the page can tell."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"hidden_size": 256, "max_position_embeddings": 512}')
    return str(tmp_path / "model")


def started(store: Store, project: Project, model: str, step: int = 0) -> tuple[Run, ProcessLock]:
    """A run whose process lives (this one), with metrics up to a step."""
    config = view.configured(store, project.id, "dpo", model, {})
    created = job.create(store, project, config)
    lock = ProcessLock(store.runs.folder(created.id) / run.LOCK_NAME)
    assert lock.take()
    store.runs.start(created.id, 1, config.steps)
    for number in range(1, step + 1):
        figures = {"loss": 1 / number, "rewards/margins": 0.1 * number, "rewards/accuracies": 1.0}
        store.runs.add_metrics(created.id, number, {**figures, "seconds": 2.0 * number})
    return store.runs.get(created.id), lock


def test_an_empty_project_is_told_what_to_do(store, project, model) -> None:
    setup = view.setup(store, project.id, None, model)
    assert setup.sentence == setup.problem == "No labels yet: go to Label, 20 pairs take about two minutes."
    assert view.setup(store, None, None, model).problem
    panel = view.panel(store, project.id)
    assert panel.run_id is None and not panel.active and panel.live["headline"] == view.NOTHING_YET
    assert view.runs_table(store, None) == view.runs_table(store, project.id) == []


def test_the_setup_suggests_a_method_and_says_what_it_would_do(store, project, model) -> None:
    label_pairs(store, project, 38)
    for number in range(4):
        add_label(store, project, f"Tie {number}?", ("a", "b"), "tie")
    setup = view.setup(store, project.id, None, model)
    assert (setup.method, setup.problem) == ("dpo", "")
    assert setup.sentence == "38 pairs, 4 ties left out; DPO suggested."
    assert setup.plan == "60 steps of 8 pairs (13× over the labels), 10% held out to measure on."
    assert setup.notes == (memory.UNKNOWN,)
    assert setup.settings["learning_rate"].told.endswith("(for width 256)")
    assert setup.settings["batch_size"].told == "8"
    weight = view.setup(store, project.id, "kto", model).settings["desirable_weight"]
    assert weight.told == "automatic (38 good, 38 bad, so 1)"


def test_a_method_or_model_that_does_not_fit_is_said_before_the_click(store, project, model) -> None:
    add_label(store, project, "Good?", ("yes",), "good")
    assert "all here are good" in view.setup(store, project.id, "kto", model).problem
    assert "no model" in view.setup(store, project.id, "dpo", "no model at all").problem
    with pytest.raises(ModelError):
        view.configured(store, project.id, "dpo", "no model at all", {})
    with pytest.raises(ConfigError, match="beta must be more than 0"):
        view.configured(store, project.id, "dpo", model, {"beta": "-1"})


def test_fields_of_other_methods_are_not_handed_over(store, project, model) -> None:
    config = view.configured(store, project.id, "dpo", model, {"gamma": "3", "beta": "0.7", "steps": ""})
    assert config.loss.beta == 0.7


def test_a_running_run_is_shown_wherever_it_was_started(store, project, model) -> None:
    label_pairs(store, project, 4)
    active, lock = started(store, project, model, step=6)
    panel = view.panel(store, project.id)
    assert panel.active and panel.run_id == active.id and panel.cancel_label == "Cancel"
    assert panel.live["headline"] == f"Run {active.id}: DPO on {model}, training"
    assert panel.live["detail"] == "Step 6 of 60, about 1 min 48 s left"
    assert panel.live["progress"] == pytest.approx(0.1)
    assert panel.charts.count("<polyline") == 5
    other = store.projects.ensure("Other")
    assert f"in project “{project.name}”" in view.panel(store, other.id).live["headline"]
    store.runs.request_cancel(active.id)
    assert view.panel(store, project.id).cancel_label == "Stop at once"
    lock.release()


def test_a_dead_run_is_shown_as_failed_at_the_next_look(store, project, model) -> None:
    label_pairs(store, project, 4)
    active, lock = started(store, project, model, step=2)
    lock.release()
    panel = view.panel(store, project.id)
    assert not panel.active and panel.live["state"] == "failed" and "ended without a word" in panel.live["detail"]
    row = view.runs_table(store, project.id)[0]
    assert len(row) == len(view.COLUMNS) and row[1] == "failed" and row[4] == "2/60"


def test_a_silent_run_is_said_to_be_silent(store, project, model, monkeypatch) -> None:
    label_pairs(store, project, 4)
    active, lock = started(store, project, model)
    assert view.panel(store, project.id).live["detail"].startswith("Loading the model")
    monkeypatch.setattr(view, "time", type("later", (), {"time": staticmethod(lambda: time.time() + 90)}))
    assert view.panel(store, project.id).live["detail"].startswith("No sign of life for 1 min 30 s")
    lock.release()


def test_an_ended_run_can_be_looked_at_again(store, project, model) -> None:
    label_pairs(store, project, 4)
    first, lock = started(store, project, model, step=3)
    lock.release()
    store.runs.end(first.id, "finished", "Finished 3 steps.", adapter="runs/run-1/adapter")
    second, lock = started(store, project, model)
    lock.release()
    store.runs.end(second.id, "failed", "The disk is full.")
    assert view.panel(store, project.id).run_id == second.id
    panel = view.panel(store, project.id, first.id)
    assert panel.live["detail"] == "Finished 3 steps. Compare it with the base in Chat." and panel.charts


@pytest.mark.parametrize(("seconds", "words"), [(12.4, "12 s"), (185, "3 min 5 s"), (7800, "2 h 10 min")])
def test_lengths_of_time_are_words(seconds, words) -> None:
    assert view.duration(seconds) == words


def test_charts_hold_at_most_300_points_a_line() -> None:
    steps = [(step, {"loss": 1 / step, "rewards/margins": step}) for step in range(1, 5001)]
    assert [step for step, _ in thinned(steps)][:: MAX_POINTS - 1] == [1, 5000]
    longest = max(len(points.split()) for points in re.findall(r'points="([^"]*)"', charts(steps, 5000)))
    assert longest == MAX_POINTS


def test_what_is_held_out_has_curves_of_its_own_that_thinning_does_not_swallow() -> None:
    steps = [(step, {"loss": 1 / step}) for step in range(1, 5001)]
    for place in (1, 1234, 2468, 5000):
        steps[place - 1][1].update({"held_out/loss": 1.0, "held_out/accuracies": 0.5})
    drawn = charts(steps, 5000)
    curves = re.findall(r'<polyline class="train-held-out" points="([^"]*)"', drawn)
    assert [len(curve.split()) for curve in curves] == [4, 4] and "held out <b>1.00</b>" in drawn
    assert "held out" not in charts([(1, {"loss": 0.5})], 1).replace("what was held out", "")


def test_charts_survive_missing_equal_and_broken_values() -> None:
    steps = [(1, {"loss": float("nan")}), (2, {"loss": 0.5, "rewards/chosen": -1.0}), (3, {"loss": 0.5})]
    drawn = charts(steps, 3)
    assert "nan" not in drawn and "inf" not in drawn
    assert charts([(1, {"loss": 0.5})], 1).count("<polyline") == 5
    assert charts([], 0).count("<figure") == 4


def test_charts_hold_no_text_but_numbers_and_fixed_words() -> None:
    """Keys and values that a broken run might store never reach the page as text."""
    drawn = charts([(1, {"loss": 0.5, "<img src=x>": 1.0})], 10)
    assert "<img" not in drawn
