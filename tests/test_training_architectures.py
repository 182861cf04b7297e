"""Every architecture trains right: packed where that is exact, padded where it is not, and a line says so."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from tests.tiny_models import save_tiny_model

from models.loading import load_base
from training.config import build
from training.dataset import PairedExample
from training.trainer import train

PAIRS = [
    PairedExample(
        number, number, [{"role": "user", "content": f"Question {number}? {'Why ' * 3 * number}"}],
        f"Yes, please. {'So ' * number}", f"No {number}.",
    )
    for number in range(6)
]
PACKED = {
    "llama": {}, "qwen2": {}, "qwen3": {}, "qwen3_moe": {}, "gemma3_text": {}, "mistral": {"sliding_window": 16},
    "phi3": {}, "olmo2": {}, "gpt2": {}, "gpt_neox": {},
}
PADDED = {
    "gemma2": ({}, "softcap"),
    "jamba": ({"learning_rate": 1e-3}, "not attention"),
    "mamba": ({"lora_targets": "in_proj,x_proj"}, "not attention"),
    "bloom": ({}, "not attention"),
}


def trained(folder: Path, **settings: object) -> tuple[list[dict], list[str]]:
    config = build(
        "dpo", str(folder),
        {"steps": 2, "learning_rate": 0.01, "batch_size": 6, "beta": 1.0, "device": "cpu", "held_out_share": 0, **settings},
    )
    steps: list[dict] = []
    lines: list[str] = []
    train(PAIRS, load_base(config.model, "cpu"), config, lambda _, metrics: steps.append(metrics), say=lines.append)
    return steps, lines


@pytest.mark.parametrize("kind", PACKED)
def test_packed_architectures_start_at_log_2_and_learn(tmp_path: Path, kind: str) -> None:
    steps, lines = trained(save_tiny_model(tmp_path / kind, kind, **PACKED[kind]))
    assert not any("padded" in line for line in lines)
    assert steps[0]["loss"] == pytest.approx(math.log(2), abs=1e-3)
    assert steps[1]["loss"] < steps[0]["loss"] - 1e-3


@pytest.mark.parametrize("kind", PADDED)
def test_other_architectures_are_padded_and_say_so(tmp_path: Path, kind: str) -> None:
    settings, why = PADDED[kind]
    steps, lines = trained(save_tiny_model(tmp_path / kind, kind), **settings)
    assert any(line.startswith("Rows are padded, not packed, because") and why in line for line in lines)
    assert steps[0]["loss"] == pytest.approx(math.log(2), abs=1e-3)
    assert steps[1]["loss"] < steps[0]["loss"] - 1e-3


def test_packing_changes_nothing_but_speed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from training.scoring import Scorer

    folder = save_tiny_model(tmp_path / "llama")
    packed, _ = trained(folder, steps=4)
    monkeypatch.setattr(Scorer, "prove", lambda self, rows: setattr(self, "packs", False))
    padded, _ = trained(folder, steps=4)
    assert [step["loss"] for step in packed] == pytest.approx([step["loss"] for step in padded], abs=2e-4)


def test_a_mask_that_is_wrong_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose packed rows saw the rows before them would be scored wrongly; the comparison finds it."""
    from models import packed_attention

    def sees_everything(line, query, key, value, scaling, window):  # noqa: ANN001, ANN202
        return packed_attention.F.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scaling, enable_gqa=True
        )

    monkeypatch.setattr(packed_attention, "_by_group", sees_everything)
    steps, lines = trained(save_tiny_model(tmp_path / "llama"))
    assert any("scores packed rows differently" in line for line in lines)
    assert steps[0]["loss"] == pytest.approx(math.log(2), abs=1e-3)


LIMITED = """
import json, resource, sys
from dataclasses import replace
from tests.test_training_architectures import PAIRS
from models.loading import load_base
from training.config import build
from training.trainer import train

settings = {"steps": 1, "learning_rate": 0.01, "batch_size": 21, "device": "cpu", "held_out_share": 0}
long = replace(PAIRS[0], chosen="So " * int(sys.argv[3]))
def losses(loaded, examples, budget, say):
    config = build("dpo", sys.argv[1], {**settings, "tokens_per_forward": budget, "max_length_tokens": 8000})
    steps = []
    train(examples, loaded, config, lambda _, metrics: steps.append(metrics["loss"]), say=say)
    return steps
expected = losses(load_base(sys.argv[1], "cpu"), [*PAIRS[1:] * 4, long][:20 if len(long.chosen) > 100 else 21], 256, lambda line: None)
loaded = load_base(sys.argv[1], "cpu")
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[2]) * 2**20,) * 2)
lines = []
try:
    found = losses(loaded, [*PAIRS[1:] * 4, long], 1 << 20, lines.append)
except Exception as error:
    found = f"{type(error).__name__}: {error}"
print(json.dumps([expected, found, lines]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on a process's memory is Linux's")
@pytest.mark.parametrize(("spare_mib", "ends"), [pytest.param(60, True, marks=pytest.mark.slow), (60, False)])
def test_memory_that_runs_out_halves_the_budget_until_one_row_does_not_fit(
    tmp_path: Path, spare_mib: int, ends: bool
) -> None:
    folder = save_tiny_model(
        tmp_path / "wide", hidden_size=256, intermediate_size=2048, num_hidden_layers=4, initializer_range=0.05,
        max_position_embeddings=8192,
    )
    child = subprocess.run(
        [sys.executable, "-c", LIMITED, str(folder), str(spare_mib), "3" if ends else "2500"], capture_output=True, text=True, timeout=300
    )
    assert child.returncode == 0, child.stderr
    expected, found, lines = json.loads(child.stdout.splitlines()[-1])
    if ends:
        assert any(line.startswith("The memory ran out; going on with") for line in lines), (found, lines)
        assert found == pytest.approx(expected, abs=1e-4)
    else:
        assert found.startswith("TrainingError: The memory ran out over a single example."), (found, lines)
