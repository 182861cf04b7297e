"""What is held out: measured before, during and after, the same way every time, and never trained on."""

from __future__ import annotations

import math

import pytest
import torch
from tests.tiny_models import save_tiny_model

from models.loading import load_base
from training import adapter
from training.config import build
from training.dataset import PairedExample
from training.trainer import TrainingResult, train

PAIRS = [
    PairedExample(n, n // 2, [{"role": "user", "content": f"Question {n // 2}?"}], f"Yes, please {n}.", f"No {n}.")
    for n in range(20)
]
FIGURES = ("held_out/loss", "held_out/accuracies")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_model(tmp_path_factory.mktemp("tiny") / "model"))


def run(model: str, **overrides: object) -> tuple[TrainingResult, list[dict[str, float]], list[str]]:
    settings = {"learning_rate": 0.01, "device": "cpu", "held_out_share": 0.2, "steps": 8, "lora_rank": 4, **overrides}
    steps: list[dict[str, float]] = []
    lines: list[str] = []
    config = build("dpo", model, settings)
    result = train(PAIRS, load_base(model, "cpu"), config, lambda _, each: steps.append(each), say=lines.append)
    return result, steps, lines


def measured(steps: list[dict[str, float]]) -> list[int]:
    """The steps, counted from 1, whose metrics hold both figures."""
    return [place for place, each in enumerate(steps, 1) if all(name in each for name in FIGURES)]


def test_it_is_measured_before_during_and_after(model) -> None:
    result, steps, lines = run(model, evaluate_every=3)
    assert measured(steps) == [1, 3, 6, 8]
    assert steps[0]["held_out/loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert steps[0]["held_out/loss"] == result.summary["held_out_before/loss"]
    assert steps[2]["held_out/loss"] < steps[0]["held_out/loss"]
    assert steps[7]["held_out/loss"] == result.summary["held_out/loss"]
    assert sum(line.startswith("Held out (4): loss") for line in lines) == 4


def test_without_a_pace_it_is_measured_before_and_after(model) -> None:
    assert measured(run(model, evaluate_every=0)[1]) == [1, 8]
    assert measured(run(model, steps=1)[1]) == [1]


def test_nothing_held_out_is_said_and_measures_nothing(model) -> None:
    result, steps, lines = run(model, held_out_share=0)
    assert measured(steps) == [] and not any(name in result.summary for name in FIGURES)
    assert any(line.startswith("Nothing is held out") for line in lines)


def test_measuring_changes_nothing_of_what_is_learned(model) -> None:
    """Neither the order of the labels nor the adapter's dropout may notice it."""
    often, never = (run(model, lora_dropout=0.3, evaluate_every=every)[0] for every in (1, 0))
    weights = [adapter.trainable(result.model) for result in (often, never)]
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))
    assert often.summary["held_out/loss"] == never.summary["held_out/loss"]
