"""The web side of a run: refused, cancelled, killed and found again. Processes here are real where they must be."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.tiny_models import save_tiny_model
from tests.training_world import add_label, label_pairs, tiny_config

from errors import ConfigError, ModelError, TrainingError
from storage import Project, Store
from training import checkpoint, job, run
from training.config import TrainingConfig
from training.lock import ProcessLock


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def labelled(store: Store, project: Project) -> Project:
    label_pairs(store, project, 4)
    return project


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def test_a_second_run_is_refused_while_one_is_active(store, labelled, model) -> None:
    job.create(store, labelled, tiny_config(store, labelled, "dpo", model))
    with pytest.raises(TrainingError, match="Run 1 is still training"):
        job.create(store, labelled, tiny_config(store, labelled, "dpo", model))


def test_what_cannot_train_is_refused_before_a_run_exists(store, project, model) -> None:
    with pytest.raises(ConfigError, match="at least two pairs"):
        job.create(store, project, tiny_config(store, project, "dpo", model))
    add_label(store, project, "Why?", ("so",), "good")
    with pytest.raises(ConfigError, match="all here are good"):
        job.create(store, project, tiny_config(store, project, "kto", model))
    label_pairs(store, project, 2)
    with pytest.raises(ModelError, match="no model"):
        job.create(store, project, tiny_config(store, project, "dpo", Path("nowhere")))
    assert store.runs.list() == []


def rank(store: Store, project: Project, number: int) -> None:
    """Rank three answers to a prompt of its own."""
    prompt_id, _ = store.prompts.add(project.id, [{"role": "user", "content": f"Rank {number}?"}])
    ids = [store.responses.add(prompt_id, f"{number} {text}")[0] for text in "abc"]
    item_id, _ = store.items.add(project.id, prompt_id, ids)
    store.labels.add(
        item_id, "ann", "ranked", client_id=f"rank-{item_id}", shown_response_ids=ids, ranking=[[each] for each in ids]
    )


def test_a_run_learns_from_all_pairs_of_a_ranking_and_remembers_its_label_once(store, project, model) -> None:
    for number in range(2):
        rank(store, project, number)
    created = job.create(store, project, tiny_config(store, project, "dpo", model, steps=20))
    assert store.runs.label_ids(created.id) == [1, 2]
    said: list[str] = []

    def cancel(line: str) -> None:
        said.append(line)
        if line.startswith("step 2/"):
            job.cancel(store, created.id)

    run.execute(store, created.id, "cpu", cancel)
    assert said[0] == f"Run 1: DPO on {model}, 2 labels (all). 2 rankings (as 6 pairs)."
    assert "6 pairs to learn from." in said
    job.reopen(store, created.id)
    assert run.execute(store, created.id, "cpu").state == "finished"


WANTED = {"all": [1, 2, 3, 4, 5, 6], "majority": [1, 3, 7], "unanimous": [3], "adjudicated": [7]}


@pytest.mark.parametrize("which", WANTED)
def test_a_run_takes_the_labels_that_its_config_asks_for(store, labelled, model, which) -> None:
    """Four pairs by ann (labels 1 to 4). bob contradicts the second, agrees on the third (5, 6); the fourth is decided."""
    items = [label.item_id for label in reversed(store.labels.latest(labelled.id, "ann", limit=4))]
    for number, annotator, place, role in ((1, "bob", 1, "vote"), (2, "bob", 0, "vote"), (3, "cid", 1, "final")):
        item_id = items[number]
        ids = store.items.response_ids(item_id)
        store.labels.add(
            item_id, annotator, "chosen", client_id=f"{annotator}-{item_id}", shown_response_ids=ids,
            chosen_response_id=ids[place], role=role,
        )
    config = tiny_config(store, labelled, "kto", model, labels=which)
    created = job.create(store, labelled, config)
    assert store.runs.label_ids(created.id) == WANTED[which]


def test_too_few_labels_of_a_policy_are_refused_before_a_run_exists(store, labelled, model) -> None:
    config = tiny_config(store, labelled, "dpo", model, labels="adjudicated")
    with pytest.raises(ConfigError, match="Of the adjudicated labels alone, DPO needs at least two pairs"):
        job.create(store, labelled, config)


def test_settings_stored_before_there_was_a_choice_of_labels_mean_all(store, labelled, model) -> None:
    values = tiny_config(store, labelled, "dpo", model).to_dict()
    del values["labels"]
    assert TrainingConfig.from_dict(values).labels == "all"


def test_a_checkpoint_from_before_there_was_a_choice_of_labels_is_this_runs(store, labelled, model) -> None:
    rows = list(store.labels.judged(labelled.id))
    settings = checkpoint.identity_of(tiny_config(store, labelled, "dpo", model), "base", rows)["settings"]
    assert "labels" not in settings and "steps" in settings


def test_a_process_that_cannot_start_fails_the_run(store, labelled, model, monkeypatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(TrainingError, match="could not be started"):
        job.start(store, labelled, tiny_config(store, labelled, "dpo", model))
    assert store.runs.get(1).state == "failed" and store.runs.active() is None


def test_what_holds_the_gpu_goes_only_for_a_run_that_was_accepted(store, labelled, model, monkeypatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(TrainingError):
        job.start(store, labelled, tiny_config(store, labelled, "dpo", model), before_start=lambda: asked.append("x"))
    job.create(store, labelled, tiny_config(store, labelled, "dpo", model))
    with pytest.raises(TrainingError, match="still training"):
        job.start(store, labelled, tiny_config(store, labelled, "dpo", model), before_start=lambda: asked.append("y"))
    assert asked == ["x"]


def test_a_run_is_trained_by_a_process_of_its_own_and_any_page_sees_it(store, labelled, model) -> None:
    """A second Store stands for the page after a reload, or the app after a restart."""
    started = job.start(store, labelled, tiny_config(store, labelled, "dpo", model, steps=3), device="cpu")
    elsewhere = Store(store.folder)
    wait_for(lambda: elsewhere.runs.get(started.id).state == "finished")
    ended = elsewhere.runs.get(started.id)
    assert ended.pid != os.getpid() and len(elsewhere.runs.metrics(ended.id)) == 3
    assert (store.folder / ended.adapter / "adapter_config.json").is_file()
    assert "Finished 3 steps" in job.log_tail(elsewhere, ended.id)
    assert job.reconcile(store) is None


def test_a_killed_process_is_noticed_at_once_and_leaves_room_for_the_next(store, labelled, model) -> None:
    started = job.start(store, labelled, tiny_config(store, labelled, "dpo", model, steps=100_000))
    wait_for(lambda: store.runs.get(started.id).step >= 2)
    assert job.reconcile(store).id == started.id
    os.kill(store.runs.get(started.id).pid, signal.SIGKILL)
    wait_for(lambda: not store.runs.get(started.id).is_active, seconds=10)  # nobody looks: the waiting thread did
    ended = store.runs.get(started.id)
    assert ended.state == "failed"
    assert "ended without a word at step" in ended.message and "Its last words: " in ended.message
    job.create(store, labelled, tiny_config(store, labelled, "dpo", model))


def test_cancelling_twice_ends_the_process_at_once(store, labelled, model) -> None:
    started = job.start(store, labelled, tiny_config(store, labelled, "dpo", model, steps=100_000))
    wait_for(lambda: store.runs.get(started.id).state == "running")
    assert job.cancel(store, started.id).cancel_requested
    job.cancel(store, started.id)
    ended = store.runs.get(started.id)
    assert ended.state == "cancelled"
    wait_for(lambda: not ProcessLock(store.runs.folder(started.id) / run.LOCK_NAME).is_held())


def test_a_queued_run_is_cancelled_before_it_begins(store, labelled, model) -> None:
    created = job.create(store, labelled, tiny_config(store, labelled, "dpo", model))
    assert job.cancel(store, created.id).state == "cancelled"
    with pytest.raises(TrainingError, match="cancelled already"):
        run.execute(store, created.id)


def test_a_queued_run_whose_process_never_came_is_given_up_after_a_minute(store, labelled, model, monkeypatch) -> None:
    created = job.create(store, labelled, tiny_config(store, labelled, "dpo", model))
    assert job.reconcile(store).id == created.id
    monkeypatch.setattr(job, "START_SECONDS", 0.0)
    assert job.reconcile(store) is None
    assert "before it began" in store.runs.get(created.id).message


def test_a_run_that_is_gone_after_a_cancel_counts_as_cancelled(store, labelled, model) -> None:
    created = job.create(store, labelled, tiny_config(store, labelled, "dpo", model))
    store.runs.start(created.id, 1, 4)
    store.runs.request_cancel(created.id)
    assert job.reconcile(store) is None
    assert store.runs.get(created.id).state == "cancelled"


def test_cancelling_a_run_that_has_ended_changes_nothing(store, labelled, model) -> None:
    created = job.create(store, labelled, tiny_config(store, labelled, "dpo", model))
    store.runs.end(created.id, "finished", "done")
    assert job.cancel(store, created.id).message == "done"


def test_the_log_shows_the_end_of_progress_bars_and_of_long_files(store, labelled, model) -> None:
    created = job.create(store, labelled, tiny_config(store, labelled, "dpo", model))
    assert job.log_tail(store, created.id) == ""
    folder = store.runs.folder(created.id)
    folder.mkdir(parents=True)
    (folder / run.LOG_NAME).write_bytes(b"x" * 200_000 + b"\nfirst\n 10%\r 50%\r100%\r\n\xff last\n")
    assert job.log_tail(store, created.id, 3) == "first\n100%\n\N{REPLACEMENT CHARACTER} last"


def test_a_lock_is_held_by_one_and_free_after(tmp_path) -> None:
    first, second = ProcessLock(tmp_path / "a" / "lock"), ProcessLock(tmp_path / "a" / "lock")
    assert not first.is_held() and first.take()
    assert first.is_held() and second.is_held() and not second.take(patience_seconds=0)
    first.release()
    assert not second.is_held() and second.take()
    second.release()
