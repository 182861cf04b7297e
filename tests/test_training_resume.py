"""Runs that are taken up again: killed at any moment, a resumed run ends as one that was never stopped."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.torch import load_file
from tests.tiny_models import save_tiny_model
from tests.training_world import label_pairs, label_singles, tiny_config

from errors import ConfigError, ModelError, TrainingError
from storage import Project, Run, Store
from training import checkpoint, job, run

STEPS = 24


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, model: Path) -> dict[str, bytes]:
    """Return the adapters of runs that nothing stopped, by method, each in a data folder of its own."""
    kept = {}
    for method in ("dpo", "kto"):
        store = Store(tmp_path_factory.mktemp(method))
        created = labelled_run(store, store.projects.ensure("P"), method, model)
        process = train(store, created)
        assert process.wait(timeout=300) == 0
        kept[method] = adapter_bytes(store, created)
    return kept


def labelled_run(store: Store, project: Project, method: str, model: Path, **overrides: object) -> Run:
    """Queue a run with dropout, so that its randomness counts, that keeps a checkpoint after every step."""
    label_pairs(store, project, 5)
    label_singles(store, project, 2, 2)
    settings = {
        "steps": STEPS, "batch_size": 3, "lora_dropout": 0.3, "lora_rank": 8, "checkpoint_seconds": 0,
        "held_out_share": 0.2, "evaluate_every": 5, "learning_rate": 1e-3, "beta": 0.02, **overrides,
    }
    return job.create(store, project, tiny_config(store, project, method, model, **settings))


def train(store: Store, queued: Run, limit_bytes: int | None = None) -> subprocess.Popen:
    """Start the process of a run. limit_bytes: the longest file that it can write."""
    def limited() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    command = [sys.executable, "-m", "training.run", "--data", str(store.folder), "--run", str(queued.id)]
    return subprocess.Popen(
        [*command, "--device", "cpu"], cwd=Path(run.__file__).parents[1], stdout=subprocess.DEVNULL,
        preexec_fn=limited if limit_bytes else None,
    )


def kill_when(process: subprocess.Popen, condition: Callable[[], bool]) -> None:
    """Kill a process without warning at the moment that a condition holds, looking as often as can be.

    It is halted and the condition looked at once more before that: it may have gone on since it held.
    """
    until = time.monotonic() + 120
    while True:
        assert process.poll() is None, "the process ended before it could be killed"
        assert time.monotonic() < until
        if not condition():
            continue
        os.kill(process.pid, signal.SIGSTOP)
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), "the process ended before it could be killed"
        if condition():
            break
        os.kill(process.pid, signal.SIGCONT)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def adapter_bytes(store: Store, ended: Run) -> bytes:
    assert store.runs.get(ended.id).state == "finished", store.runs.get(ended.id).message
    return (store.runs.adapter_folder(ended.id) / "adapter_model.safetensors").read_bytes()


def kept_step(store: Store, queued: Run) -> int:
    return checkpoint.step_of(store.runs.folder(queued.id) / checkpoint.NAME) or 0


@pytest.mark.parametrize(
    ("method", "kill_at"),
    [("dpo", (1, 9)), pytest.param("dpo", (STEPS - 1,), marks=pytest.mark.slow), pytest.param("kto", (4, 5, 13), marks=pytest.mark.slow)],
)
def test_killed_and_resumed_a_run_ends_with_the_same_bytes(
    store, project, model, uninterrupted, method, kill_at
) -> None:
    queued = labelled_run(store, project, method, model)
    for step in kill_at:
        process = train(store, queued)
        kill_when(process, lambda: kept_step(store, queued) >= step)  # noqa: B023
        job.reconcile(store)
        ended = store.runs.get(queued.id)
        assert ended.state == "failed" and f"It can be resumed from step {kept_step(store, queued)}." in ended.message
        reopened = job.reopen(store, queued.id)
        assert reopened.step == kept_step(store, queued) >= step
        assert len(store.runs.metrics(queued.id)) == reopened.step
    assert train(store, queued).wait(timeout=300) == 0
    assert adapter_bytes(store, queued) == uninterrupted[method]
    assert [row.step for row in store.runs.metrics(queued.id)] == list(range(1, STEPS + 1))
    assert not list(store.runs.folder(queued.id).glob("checkpoint*"))
    summary = store.runs.get(queued.id).summary
    assert {"first_loss", "held_out_before/loss", "held_out/loss"} <= set(summary)


def test_killed_while_a_checkpoint_is_written_the_one_before_is_resumed(store, project, model) -> None:
    """An adapter large enough that the file being written is seen; the kill must have left it unfinished."""
    large = {"lora_rank": 768, "steps": 6, "learning_rate": 1e-4}
    straight = Store(store.folder / "straight")
    whole = labelled_run(straight, straight.projects.ensure("P"), "dpo", model, **large)
    assert train(straight, whole).wait(timeout=300) == 0
    queued = labelled_run(store, project, "dpo", model, **large)
    unfinished = store.runs.folder(queued.id) / checkpoint.UNFINISHED
    process = train(store, queued)
    kill_when(process, lambda: kept_step(store, queued) >= 3 and unfinished.exists())
    before = kept_step(store, queued)
    assert unfinished.exists() and before >= 3
    job.reconcile(store)
    assert job.reopen(store, queued.id).step == before
    assert train(store, queued).wait(timeout=300) == 0
    assert adapter_bytes(store, queued) == adapter_bytes(straight, whole)


def test_killed_before_its_first_checkpoint_a_run_says_that_nothing_was_kept(store, project, model) -> None:
    queued = labelled_run(store, project, "dpo", model, checkpoint_seconds=600)
    process = train(store, queued)
    kill_when(process, lambda: store.runs.get(queued.id).step >= 1)
    job.reconcile(store)
    assert "can be resumed" not in store.runs.get(queued.id).message
    with pytest.raises(TrainingError, match="kept no checkpoint"):
        job.reopen(store, queued.id)


@pytest.mark.slow
def test_killed_while_it_scores_the_reference_the_next_run_is_as_if_it_had_not_been(store, project, model) -> None:
    """What was scored is kept by hundreds of prompts; the rest is cut as it would have been."""
    few = {"steps": 100, "checkpoint_seconds": 600, "evaluate_every": 0, "learning_rate": 1e-4}
    straight = Store(store.folder / "straight")
    for each in (straight, store):
        label_pairs(each, each.projects.ensure("P"), 300)
    whole = labelled_run(straight, straight.projects.ensure("P"), "dpo", model, **few)
    assert train(straight, whole).wait(timeout=300) == 0
    killed = labelled_run(store, store.projects.ensure("P"), "dpo", model, **few)
    kill_when(train(store, killed), lambda: scored(store) > 0)
    assert 0 < scored(store) < scored(straight) and store.runs.get(killed.id).step == 0
    job.reconcile(store)
    again = labelled_run(store, store.projects.ensure("P"), "dpo", model, **few)
    assert train(store, again).wait(timeout=300) == 0
    assert adapter_bytes(store, again) == adapter_bytes(straight, whole)


def scored(store: Store) -> int:
    return store.db.execute("SELECT count(*) FROM reference_logps").fetchone()[0]


def test_the_command_line_resumes_a_run_and_says_what_it_cannot(store, project, model, uninterrupted) -> None:
    stopped = stopped_run(store, project, model)

    def command(*words: str) -> subprocess.CompletedProcess:
        words = (sys.executable, "app.py", "train", "--data", str(store.folder), "--device", "cpu", *words)
        return subprocess.run(words, cwd=Path(run.__file__).parents[1], capture_output=True, text=True, timeout=300)

    refused = command("--resume", str(stopped.id), "--set", "steps=9")
    assert refused.returncode == 2 and "keeps its method, model and settings" in refused.stderr
    assert "--project" in command().stderr
    done = command("--resume", str(stopped.id), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["state"] == "finished"
    assert adapter_bytes(store, stopped) == uninterrupted["dpo"]
    again = command("--resume", str(stopped.id))
    assert again.returncode == 2 and "has finished" in again.stderr and len(again.stderr.strip().splitlines()) == 1


def test_a_cancelled_run_is_resumed_where_it_stopped(store, project, model, uninterrupted) -> None:
    queued = labelled_run(store, project, "dpo", model, checkpoint_seconds=600)
    ended = cancelled_at(store, queued, 7)
    assert ended.state == "cancelled" and ended.message == f"Cancelled after 7 of {STEPS} steps; it can be resumed."
    assert job.resumable_from(store, ended) == 7
    assert run.execute(store, job.reopen(store, ended.id).id, "cpu").state == "finished"
    assert adapter_bytes(store, queued) == uninterrupted["dpo"]
    assert f"Taken up again after step 7 of {STEPS}." in job.log_tail(store, ended.id)


def test_a_checkpoint_that_does_not_fit_on_the_disk_does_not_end_the_run(store, project, model) -> None:
    """No file may grow beyond 2 MB: the adapter does not reach that, a checkpoint of three times its size does."""
    queued = labelled_run(store, project, "dpo", model, lora_rank=256, steps=4)
    assert train(store, queued, limit_bytes=2_000_000).wait(timeout=300) == 0
    assert store.runs.get(queued.id).state == "finished"
    log = job.log_tail(store, queued.id)
    assert "The checkpoint at step 1 could not be written" in log and "step 4/4" in log
    assert not list(store.runs.folder(queued.id).glob("checkpoint*"))


def stopped_run(store: Store, project: Project, model: Path) -> Run:
    return cancelled_at(store, labelled_run(store, project, "dpo", model, checkpoint_seconds=600), 3)


def cancelled_at(store: Store, queued: Run, step: int) -> Run:
    """Train here and cancel after a step."""
    def cancel(line: str) -> None:
        if line.startswith(f"step {step}/"):
            job.cancel(store, queued.id)

    return run.execute(store, queued.id, "cpu", cancel)


def test_what_cannot_be_resumed_says_why_and_loses_nothing(store, project, model, tmp_path) -> None:
    stopped = stopped_run(store, project, model)
    before = (store.runs.folder(stopped.id) / checkpoint.NAME).read_bytes()
    elsewhere = model.rename(model.with_name("moved"))
    try:
        with pytest.raises(ModelError, match="no model"):
            job.reopen(store, stopped.id)
    finally:
        elsewhere.rename(model)
    config = store.runs.get(stopped.id).config
    change_config(store, stopped, colour="red")
    with pytest.raises(ConfigError, match="not those of this version"):
        job.reopen(store, stopped.id)
    with store.transaction() as db:
        db.execute("UPDATE runs SET config = ?", [json.dumps(config)])
    assert store.runs.get(stopped.id).state == "cancelled"
    assert (store.runs.folder(stopped.id) / checkpoint.NAME).read_bytes() == before
    assert job.reopen(store, stopped.id).state == "queued"
    with pytest.raises(TrainingError, match="still training"):
        job.reopen(store, stopped.id)
    assert run.execute(store, stopped.id, "cpu").state == "finished"
    with pytest.raises(TrainingError, match="nothing to resume"):
        job.reopen(store, stopped.id)


def test_labels_that_are_gone_are_missed_before_a_run_is_resumed(store, project, model) -> None:
    stopped = stopped_run(store, project, model)
    wanted = len(store.runs.label_ids(stopped.id))
    other_program = sqlite3.connect(store.folder / "studio.db")
    with other_program:
        other_program.execute("DELETE FROM labels WHERE id = 1")
    with pytest.raises(TrainingError, match=f"began with {wanted} labels and 1 of them"):
        job.reopen(store, stopped.id)


def change_config(store: Store, stopped: Run, **values: object) -> None:
    with store.transaction() as db:
        config = {**store.runs.get(stopped.id).config, **values}
        db.execute("UPDATE runs SET config = ? WHERE id = ?", [json.dumps(config), stopped.id])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("settings", "other settings (learning_rate)"),
        ("labels", "labels of this run are not what they were"),
        ("base", "base model's weights are not those"),
        ("damage", "cannot be read"),
    ],
)
def test_a_checkpoint_of_another_run_or_base_is_refused_and_kept(
    store, project, model, tmp_path, change, words
) -> None:
    stopped = stopped_run(store, project, model)
    path = store.runs.folder(stopped.id) / checkpoint.NAME
    if change == "settings":
        change_config(store, stopped, learning_rate=0.5)
    elif change == "labels":
        with store.transaction() as db:
            db.execute("UPDATE responses SET text = 'Something else.' WHERE id = 1")
    elif change == "base":
        change_config(store, stopped, model=str(save_tiny_model(tmp_path / "other", seed=5)))
    else:
        path.write_bytes(path.read_bytes()[:-100])
    ended = run.execute(store, job.reopen(store, stopped.id).id, "cpu")
    assert ended.state == "failed" and words in ended.message
    assert path.exists() and len(store.runs.metrics(ended.id)) == 3


def test_device_and_memory_settings_may_differ_when_a_run_is_resumed(store, project, model) -> None:
    stopped = stopped_run(store, project, model)
    change_config(store, stopped, tokens_per_forward=300, device="auto")
    assert run.execute(store, job.reopen(store, stopped.id).id, "cpu").state == "finished"


def test_a_budget_that_was_halved_stays_halved_when_a_run_is_resumed(store, project, model) -> None:
    """The memory that ran out is played by the checkpoint, which says fewer tokens than the settings."""
    stopped = stopped_run(store, project, model)
    path = store.runs.folder(stopped.id) / checkpoint.NAME
    checkpoints = checkpoint.Checkpoints(path, identity(path), 0)
    read = checkpoints.read()
    assert read.extra["tokens_per_forward"] > 64
    read.extra["tokens_per_forward"] = 64
    assert checkpoints.write(read)
    assert cancelled_at(store, job.reopen(store, stopped.id), 5).state == "cancelled"
    assert kept_step(store, stopped) == 5 and checkpoints.read().extra == {"tokens_per_forward": 64}


def identity(path: Path) -> dict:
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["checkpoint"])["identity"]


def test_a_loss_that_is_no_number_keeps_the_last_good_checkpoint_and_says_what_to_do(store, project, model) -> None:
    queued = labelled_run(store, project, "dpo", model, learning_rate=1e30, max_grad_norm=1e30, checkpoint_seconds=600)
    ended = run.execute(store, queued.id, "cpu")
    assert ended.state == "failed" and "stopped being a number" in ended.message
    assert "Lower learning_rate" in ended.message
    kept = kept_step(store, queued)
    assert (f"The checkpoint of step {kept} is kept." in ended.message) == (kept > 0)
    if kept:
        tensors = load_file(store.runs.folder(queued.id) / checkpoint.NAME)
        assert all(tensor.isfinite().all() for tensor in tensors.values())
