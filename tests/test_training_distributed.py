"""Several processes that train one run: two on the CPU, through the real launcher, reach what one does."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.tiny_models import save_tiny_model
from tests.training_world import label_pairs, label_singles, tiny_config

from storage import Project, Run, Store
from training import checkpoint, job, run
from training.distributed import Processes, Stopped

ROOT = Path(run.__file__).parents[1]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


def queued(store: Store, project: Project, method: str, model: Path, **overrides: object) -> Run:
    settings = {"steps": 6, "batch_size": 5, "held_out_share": 0.2, "learning_rate": 1e-3, "beta": 0.02, **overrides}
    return job.create(store, project, tiny_config(store, project, method, model, **settings))


def weights(store: Store, ended: Run) -> dict[str, torch.Tensor]:
    assert ended.state == "finished", (ended.message, job.log_tail(store, ended.id))
    return load_file(store.runs.adapter_folder(ended.id) / "adapter_model.safetensors")


def apart(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """Return the largest difference between two adapters' weights."""
    return max((first[name] - second[name]).abs().max().item() for name in first)


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


@pytest.mark.parametrize("method", ["dpo", pytest.param("kto", marks=pytest.mark.slow)])
def test_two_processes_give_the_result_of_one(tmp_path, model, method) -> None:
    """Each in a data folder of its own, so that the reference is divided too and not read from the other run."""
    stores, runs, said = [Store(tmp_path / name) for name in ("alone", "together")], [], []
    for count, store in enumerate(stores, 1):
        project = store.projects.ensure("P")
        label_pairs(store, project, 6)
        label_singles(store, project, 3, 2)
        runs.append(job.work(store, queued(store, project, method, model, devices=count).id, "cpu", said.append))
    (alone, together), (first, second) = runs, [weights(store, each) for store, each in zip(stores, runs)]
    assert first.keys() == second.keys()
    assert apart(first, second) < 1e-5
    assert max(weight.abs().max().item() for name, weight in first.items() if "lora_B" in name) > 2e-3
    for one, two in zip(*(store.runs.metrics(1) for store in stores), strict=True):
        for name in {"loss", "rewards/accuracies", "grad_norm", "logps/chosen", "kl"} & {*one.values, *two.values}:
            assert one.values[name] == pytest.approx(two.values[name], rel=1e-4, abs=1e-5), name
    assert alone.summary["held_out/loss"] == pytest.approx(together.summary["held_out/loss"], rel=1e-4)
    assert any("2 processes" in line for line in said) and sum("step 6/6" in line for line in said) == 2


@pytest.mark.parametrize(("method", "batch_size"), [pytest.param("dpo", 1, marks=pytest.mark.slow), ("kto", 5)])
def test_a_base_divided_between_two_processes_gives_the_result_of_one(tmp_path, model, method, batch_size) -> None:
    """With one pair, or few tokens at once, one process computes more passes than the other, which must keep pace."""
    ended, said = [], []
    for devices in (1, 2):
        store = Store(tmp_path / str(devices))
        project = store.projects.ensure("P")
        label_pairs(store, project, 5)
        label_singles(store, project, 2, 3)
        settings = {"devices": devices, "shard_base": True, "tokens_per_forward": 120, "batch_size": batch_size}
        created = queued(store, project, method, model, **settings)
        ended.append((store, job.work(store, created.id, "cpu", said.append)))
    assert apart(*(weights(store, each) for store, each in ended)) < 1e-5
    (kept, total), = [re.findall(r"[\d,]+(?= of|\sweights)", line) for line in said if "is divided" in line]
    layers = 15_488  # half of them is what one process keeps, with all of the embeddings and the head
    assert int(total.replace(",", "")) - int(kept.replace(",", "")) == layers // 2


def test_a_batch_smaller_than_the_number_of_processes_leaves_one_idle(store, project, model) -> None:
    label_pairs(store, project, 4)
    ended = job.work(store, queued(store, project, "dpo", model, devices=2, batch_size=1, steps=3).id, "cpu")
    alone = run.execute(store, queued(store, project, "dpo", model, batch_size=1, steps=3).id, "cpu")
    first, second = weights(store, alone), weights(store, ended)
    assert apart(first, second) < 1e-5


def test_accelerate_launch_trains_one_run_from_the_command_line(store, project, model) -> None:
    label_pairs(store, project, 6)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    more = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    command = ["app.py", "train", "--project", project.name, "--method", "dpo", "--model", str(model), "--json"]
    settings = ["--set", "steps=3", "--set", "device=cpu", "--data", str(store.folder)]
    done = subprocess.run(
        [*launch, *more, *command, *settings], cwd=ROOT, capture_output=True, text=True, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(results) == 1 and results[0]["state"] == "finished"
    assert "2 processes" in job.log_tail(store, results[0]["run"]) and len(store.runs.list()) == 1


def test_a_cancel_stops_all_processes_and_two_can_resume_what_two_began(store, project, model) -> None:
    label_pairs(store, project, 6)
    straight = job.work(store, queued(store, project, "dpo", model, devices=2, steps=8).id, "cpu")
    stopped = queued(store, project, "dpo", model, devices=2, steps=8)

    def cancel_at_three(line: str) -> None:
        if " step 3/" in f" {line}":
            job.cancel(store, stopped.id)

    ended = job.work(store, stopped.id, "cpu", cancel_at_three)
    assert ended.state == "cancelled" and "it can be resumed" in ended.message, ended.message
    assert 3 <= job.resumable_from(store, ended) < 8
    resumed = job.work(store, job.reopen(store, ended.id).id, "cpu")
    first, second = weights(store, straight), weights(store, resumed)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_process_that_is_killed_ends_the_run_with_a_reason_and_leaves_no_other_behind(store, project, model) -> None:
    label_pairs(store, project, 6)
    config = tiny_config(store, project, "dpo", model, devices=2, steps=100_000, checkpoint_seconds=0)
    started = job.start(store, project, config, "cpu")
    try:
        wait_for(lambda: checkpoint.step_of(store.runs.folder(started.id) / checkpoint.NAME) or 0)
        leader = store.runs.get(started.id).pid
        both = siblings(leader)
        assert len(both) == 2 and leader in both
        os.kill(next(pid for pid in both if pid != leader), signal.SIGKILL)
        wait_for(lambda: not store.runs.get(started.id).is_active, 60)
        ended = store.runs.get(started.id)
        assert ended.state in ("failed", "cancelled") and "be resumed from step" in ended.message, ended.message
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in both), 60)
    finally:
        while store.runs.get(started.id).is_active:  # asked twice, it ends at once
            job.cancel(store, started.id)


def siblings(pid: int) -> list[int]:
    """Return the ids of the processes that share a parent with one."""
    parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
    return [int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def test_an_error_in_one_process_is_the_runs_error(store, project, tmp_path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text('{"model_type": "llama"}')
    label_pairs(store, project, 3)
    ended = job.work(store, queued(store, project, "dpo", broken, devices=2).id, "cpu")
    assert ended.state == "failed" and str(broken) in ended.message


def test_alone_nothing_is_exchanged() -> None:
    alone = Processes()
    tensor = torch.ones(3)
    alone.add_up([tensor])
    assert alone.share([1, 2, 3]) == [1, 2, 3] and alone.each(lambda: 5) == [5] and alone.tell("x") == "x"
    assert alone.leads and torch.equal(tensor, torch.ones(3))
    with pytest.raises(Stopped):
        alone.guard(stop)


def stop() -> None:
    raise Stopped


def test_the_shares_of_all_processes_are_the_whole() -> None:
    shares = [Processes(index, 3).share(range(8)) for index in range(3)]
    assert sorted(sum(shares, [])) == list(range(8)) and max(map(len, shares)) - min(map(len, shares)) <= 1
