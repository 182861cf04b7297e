"""The Train tab without a browser: what its callbacks return, and that errors become a toast."""

from __future__ import annotations

import gradio as gr
import pytest
from tests.background_world import LivingProcess
from tests.training_world import label_pairs, label_singles, leave_checkpoint

from models.client import Workers
from storage import Store
from training import job, ordering, tab, view
from training.methods import METHODS


@pytest.fixture
def train(store: Store, monkeypatch: pytest.MonkeyPatch) -> tab.TrainTab:
    built = tab.TrainTab(store, Workers(store.folder / "runs", "cpu"))
    with gr.Blocks():
        project = gr.Dropdown([])
        with gr.Tab("Train") as own:
            built.build(own, project)
    monkeypatch.setattr(job, "_spawn", lambda *_: LivingProcess())
    monkeypatch.setattr(view.catalog, "architecture", lambda model: {"hidden_size": 256})
    monkeypatch.setattr(job.catalog, "resolve", lambda model: model)
    return built


def texts(built: tab.TrainTab, **given: str) -> list[str]:
    return [given.get(name, "") for name in built.fields]


def test_every_setting_of_every_method_has_a_field(train) -> None:
    wanted = {spec.name for method in METHODS for spec in tab.settings_of(method)}
    assert set(train.fields) == wanted and len(train.settings) == len(wanted)


def test_opening_a_project_gives_one_update_per_component(train, store, project) -> None:
    label_singles(store, project, 3, 3)
    updates = train.open(project.id, "demo")
    assert len(updates) == 5 + len(train.fields) + 8 + 2
    assert updates[0] == "3 good answers, 3 bad answers; KTO suggested." and updates[1] == "kto"


def test_only_the_settings_of_the_chosen_method_are_shown(train, store, project) -> None:
    label_pairs(store, project, 3)
    updates = dict(zip(train.fields, train.choose(project.id, "simpo", "demo")[5:]))
    assert updates["gamma"]["visible"] and not updates["label_smoothing"]["visible"]
    assert updates["steps"]["placeholder"].startswith("60 ")
    dpo = dict(zip(train.fields, train.choose(project.id, "dpo", "demo")[5:]))
    assert "conservative DPO" in dpo["label_smoothing"]["info"]


def test_starting_hands_over_what_was_typed_and_shows_the_run(train, store, project) -> None:
    label_pairs(store, project, 3)
    updates = train.start(project.id, "dpo", "demo", *texts(train, beta="0.7", steps="9"))
    assert store.runs.active().config["loss"]["beta"] == 0.7
    assert store.runs.active().config["steps"] == 9
    assert updates[0]["headline"] == "Run 1: DPO on demo, starting" and updates[6].active
    assert not updates[-1].interactive


@pytest.mark.parametrize(
    ("given", "words"), [({"beta": "-1", "steps": "x"}, "beta must be more than 0"), ({}, "at least two pairs")]
)
def test_what_is_wrong_becomes_a_toast_and_changes_nothing(train, store, project, given, words) -> None:
    toasts: list[str] = []
    guarded = tab.reported(toasts.append, gr.skip)(tab.TrainTab.start.__wrapped__)
    result = guarded(train, project.id, "dpo", "demo", *texts(train, **given))
    assert words in toasts[0] and result == gr.skip() and store.runs.list() == []


def test_a_tick_sends_only_what_changed(train, store, project) -> None:
    label_pairs(store, project, 3)
    mark = train.start(project.id, "dpo", "demo", *texts(train))[7]
    quiet = train.tick(project.id, mark)
    assert quiet[1] == gr.skip() and quiet[-1] == gr.skip() and len(quiet) == 10
    store.runs.end(1, "failed", "The disk is full.")
    told = train.tick(project.id, mark)
    assert told[0]["detail"] == "The disk is full." and not told[6].active and told[-1].interactive


def test_cancel_ends_a_queued_run(train, store, project) -> None:
    label_pairs(store, project, 3)
    mark = train.start(project.id, "dpo", "demo", *texts(train))[7]
    assert train.stop(project.id, mark)[0]["state"] == "cancelled"
    assert train.stop(project.id, None)[0]["state"] == "cancelled"


def test_a_run_with_a_checkpoint_is_resumed_by_a_button_that_says_from_where(train, store, project) -> None:
    label_pairs(store, project, 3)
    mark = train.start(project.id, "dpo", "demo", *texts(train))[7]
    store.runs.start(1, 12, 120)
    store.runs.end(1, "failed", "The disk is full.")
    assert not train.tick(project.id, mark)[4].visible
    leave_checkpoint(store.runs.folder(1), 40)
    updates = train.tick(project.id, [])
    assert updates[4].visible and updates[4].value == "Resume from step 40 of 120"
    resumed = train.go_on(project.id, updates[7])
    assert resumed[0]["state"] == "queued" and not resumed[4].visible and store.runs.get(1).step == 40
    assert train.go_on(project.id, None)[0]["state"] == "queued"


def test_a_finished_run_offers_to_order_the_labelling_and_shows_how_far_it_is(train, store, project, monkeypatch) -> None:
    label_pairs(store, project, 3)
    mark = train.start(project.id, "dpo", "demo", *texts(train))[7]
    assert not train.tick(project.id, [])[5].visible
    store.runs.end(1, "finished", "Done.", adapter="runs/run-1/adapter")
    told = train.tick(project.id, mark)
    assert told[5].visible and told[0]["scored"] == "" and not told[6].active
    started: list[list[str]] = []

    def detached(words, environment, log):
        started.append(words)
        return LivingProcess()

    monkeypatch.setattr("training.background.launching.detached", detached)
    scoring = train.score(project.id, told[7])
    assert started[0][2] == "training.score" and scoring[0]["scored"] == "The scoring is starting …"
    assert not scoring[5].visible and scoring[6].active and scoring[3].visible and scoring[3].value == "Cancel"
    train.stop(project.id, scoring[7])
    assert ordering.SCORING.stop_file(store, 1).exists()
    (store.runs.folder(1) / ordering.SCORING.log_name()).write_text("12:00:00 Run 1 scored 3 of 3 pairs.\n")
    told = train.tick(project.id, scoring[7])
    assert told[0]["scored"] == "Run 1 scored 3 of 3 pairs." and told[5].visible and not told[6].active
    assert not told[3].visible


def test_styles_and_scripts_are_found(train) -> None:
    assert "#train-" in tab.css() and tab.head() == ""
    assert "innerHTML" not in tab._beside("live.js") + tab._beside("log.js")
