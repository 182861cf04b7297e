"""The estimate of a run's memory: close to what runs take, without torch, and honest where it knows nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.tiny_models import save_tiny_model, tiny_model
from tests.training_world import label_pairs, tiny_config

from training import job, machine, memory, run, view
from training.config import build

ROOT = Path(__file__).resolve().parents[1]
# The shape that the benchmarks train: 26 million weights.
MEDIUM = {
    "hidden_size": 384, "num_hidden_layers": 8, "num_attention_heads": 6, "num_key_value_heads": 6,
    "intermediate_size": 1024, "vocab_size": 32_000, "max_position_embeddings": 2048, "initializer_range": 0.05,
    "tie_word_embeddings": True,
}
# Trains two steps in a process of its own, whose peak no other test has raised.
CHILD = """
import json, sys
from training import memory
from training.config import build
from training.dataset import PairedExample
from training.trainer import train
from models.loading import load_base
def status(name):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name + ":"))
ask = [[{"role": "user", "content": "abcdefg " * 22 + str(number)}] for number in range(12)]
pairs = [PairedExample(n, n, ask[n], "yes " * 20 + str(n), "no " * 22) for n in range(12)]
settings = {"steps": 2, "device": "cpu", "lora_rank": 16, "batch_size": 12}
config = build("dpo", sys.argv[1], settings | json.loads(sys.argv[2]))
before = status("VmRSS")
train(pairs, load_base(config.model, "cpu", precision=config.precision), config)
estimate = memory.estimate(config)
print(json.dumps([status("VmHWM") - before, estimate.total - estimate.program]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
@pytest.mark.parametrize(
    ("sizes", "settings"),
    [
        ({}, {"tokens_per_forward": 4096}),
        pytest.param(MEDIUM, {"tokens_per_forward": 1024}, marks=pytest.mark.slow),
        pytest.param(MEDIUM, {"tokens_per_forward": 4096}, marks=pytest.mark.slow),
        pytest.param(
            MEDIUM, {"tokens_per_forward": 1024, "precision": "bfloat16", "lora_dora": True}, marks=pytest.mark.slow
        ),
    ],
    ids=["tiny", "medium, few tokens", "medium, many tokens", "medium, DoRA in bfloat16"],
)
def test_the_estimate_is_within_a_factor_of_two_of_the_peak(sizes, settings, tmp_path) -> None:
    folder = save_tiny_model(tmp_path / "model", **sizes)
    command = [sys.executable, "-c", CHILD, str(folder), json.dumps(settings)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    measured, estimated = json.loads(done.stdout.splitlines()[-1])
    print(f"measured {measured / 1e6:.0f} MB, estimated {estimated / 1e6:.0f} MB")
    assert measured / 2 <= estimated <= measured * 2, (measured / 1e6, estimated / 1e6)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "mistral", "phi3", "gemma2", "gpt2"])
def test_weights_are_counted_in_the_files_and_nearly_so_by_the_architecture(kind, tmp_path) -> None:
    """Without files only the numbers of config.json are left, in which norms, biases and positions do not show."""
    folder = save_tiny_model(tmp_path / "model", kind)
    there = sum(weight.numel() for weight in tiny_model(kind).parameters())
    assert memory.shape_of(str(folder)).parameters == there
    (folder / "model.safetensors").unlink()
    if kind != "gpt2":  # half of this tiny one is its table of positions
        assert memory.shape_of(str(folder)).parameters == pytest.approx(there, rel=0.1)


@pytest.mark.parametrize("settings", [{}, {"lora_targets": "q_proj,v_proj"}, {"lora_dora": True}], ids=str)
def test_the_adapters_weights_are_those_that_peft_trains(settings, tmp_path) -> None:
    from training import adapter

    folder = save_tiny_model(tmp_path / "model")
    config = build("dpo", str(folder), settings)
    trained = sum(weight.numel() for weight in adapter.trainable(adapter.attach(tiny_model(), config)))
    assert memory.adapter_weights(memory.shape_of(str(folder)), config) == trained


def test_four_bits_and_half_precision_need_less_and_more_tokens_more(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("training.config.four_bit_problem", lambda device: None)
    folder = str(save_tiny_model(tmp_path / "model"))

    def needed(**settings: object) -> memory.Estimate:
        return memory.estimate(build("dpo", folder, {"device": "cuda", **settings}), free=1e9)

    full, half, four = needed(precision="float32"), needed(), needed(quantization="4bit")
    assert full.weights == 2 * half.weights and four.weights < half.weights
    assert needed(tokens_per_forward=2 * half.tokens).activations == 2 * half.activations
    assert needed(lora_rank=16).adapter == 2 * half.adapter


def test_processes_on_one_machine_share_its_memory(tmp_path) -> None:
    folder = str(save_tiny_model(tmp_path / "model"))
    one, two = (memory.estimate(build("dpo", folder, {"device": "cpu", "devices": count})) for count in (1, 2))
    assert two.total == 2 * one.total


def test_what_is_needed_is_set_against_what_is_free(tmp_path) -> None:
    config = build("dpo", str(save_tiny_model(tmp_path / "model")), {"device": "cpu"})
    enough, little = (memory.estimate(config, free=free) for free in (64e9, 0.1e9))
    assert enough.fits and "64.0 GB are free on this machine." in enough.sentence
    assert not little.fits and "lower tokens_per_forward" in little.sentence
    assert 0 < machine.free_bytes("cpu") < 1e15
    assert "not known" in memory.Estimate(1, 1, 1, 1, 1, 4096).sentence


def test_a_model_that_is_not_here_or_is_broken_has_no_estimate(tmp_path) -> None:
    assert memory.estimate(build("dpo", "org/elsewhere")) is None
    folder = save_tiny_model(tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"broken")
    assert memory.shape_of(str(folder)).counted == 0
    (folder / "config.json").write_text("{}")
    assert memory.estimate(build("dpo", str(folder))) is None


def test_the_estimate_is_shown_before_the_start_and_stands_in_the_log(store, project, tmp_path) -> None:
    label_pairs(store, project, 3)
    folder = save_tiny_model(tmp_path / "model")
    config = tiny_config(store, project, "dpo", folder, steps=1)
    said: list[str] = []
    run.execute(store, job.create(store, project, config).id, progress=said.append)
    told = next(place for place, line in enumerate(said) if line.startswith("Memory: about"))
    assert told < next(place for place, line in enumerate(said) if line.startswith("Loading"))
    shown = view.setup(store, project.id, "dpo", str(folder), "cpu").notes
    assert shown[-1].startswith("Memory: about") and "free on this machine" in shown[-1]


def test_the_demo_fits_every_machine() -> None:
    assert memory.estimate(build("dpo", "demo", {"device": "cpu"}), free=2e9).fits
