"""Every form of a loss through the real training entry: what is logged is that form, from the logged log-probs.

`test_training_run.py` does this for every name in the menu at its defaults; here are the settings that change what is
computed, and what a fresh adapter must give.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch
from tests.tiny_models import save_tiny_model

from models.loading import load_base
from models.logps import collate, response_logps
from training.batching import BatchOrder
from training.config import TrainingConfig, build
from training.dataset import PairedExample, UnpairedExample
from training.material import gather
from training.methods import METHODS
from training.trainer import train


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


PAIRS = [
    PairedExample(number, number, [{"role": "user", "content": f"{number}?"}], f"Yes {'so ' * number}", f"No {number}.")
    for number in range(4)
]
SINGLES = [
    UnpairedExample(number, number, [{"role": "user", "content": f"{number}?"}], f"answer {number}", number < 2)
    for number in range(5)
]


def trained(model: Path, method: str, **overrides: object) -> tuple[TrainingConfig, list[dict[str, float]]]:
    settings = {
        "steps": 5, "learning_rate": 0.003, "lora_rank": 4, "batch_size": 1, "held_out_share": 0, "device": "cpu",
        **overrides,
    }
    config = build(method, str(model), settings, None, {"hidden_size": 32})
    steps: list[dict[str, float]] = []
    examples = PAIRS if config.loss.paired else SINGLES
    train(examples, load_base(str(model), "cpu"), config, lambda step, metrics: steps.append(dict(metrics)))
    return config, steps


def log_sigmoid(x: float) -> float:
    return -math.log(1 + math.exp(-x))


# In plain arithmetic: d is the difference of log-ratios, h that of log-ratios per token, s that of policy log-probs
# per token, w the chosen's log-prob per token.
FORMS = [
    ("dpo", {"beta": 0.4, "label_smoothing": 0.2}, lambda d, h, s, w: (
        -0.8 * log_sigmoid(0.4 * d) - 0.2 * log_sigmoid(-0.4 * d)
    )),
    ("robust", {"beta": 0.4, "label_smoothing": 0.3}, lambda d, h, s, w: (
        (-0.7 * log_sigmoid(0.4 * d) + 0.3 * log_sigmoid(-0.4 * d)) / 0.4
    )),
    ("ipo", {"beta": 0.5, "form": "sum"}, lambda d, h, s, w: (d - 1) ** 2),
    ("ipo", {"beta": 0.5, "form": "mean"}, lambda d, h, s, w: (h - 1) ** 2),
    ("ipo", {"beta": 0.5, "form": "reward"}, lambda d, h, s, w: (0.5 * d - 2) ** 2),
    ("simpo", {"beta": 3.0, "gamma": 0.2, "nll_weight": 0.5}, lambda d, h, s, w: -log_sigmoid(3 * s - 0.2) - 0.5 * w),
]


@pytest.mark.parametrize(("method", "overrides", "formula"), FORMS)
def test_every_setting_of_a_loss_reaches_it(model, method, overrides, formula) -> None:
    """One pair a step, so that the logged loss follows from the logged log-probs and the base's own."""
    config, steps = trained(model, method, **overrides)
    base = load_base(str(model), "cpu")
    rows = gather(PAIRS, base.tokenizer, config, 512).train
    order = BatchOrder([True] * len(PAIRS), 1, config.seed)
    assert len({round(metrics["loss"], 5) for metrics in steps}) > 1
    for step, metrics in enumerate(steps):
        pair = rows[order.indices(step)[0]]
        with torch.no_grad():
            reference, lengths = response_logps(base.model, collate([pair.chosen, pair.rejected], 0))
        w, l = metrics["logps/chosen"], metrics["logps/rejected"]
        (W, L), (m, n) = reference.tolist(), lengths.tolist()
        expected = formula(w - W - l + L, (w - W) / m - (l - L) / n, w / m - l / n, w / m)
        assert metrics["loss"] == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_the_class_weights_of_kto_reach_it(model) -> None:
    _, steps = trained(
        model, "kto", beta=0.3, desirable_weight=0.7, undesirable_weight=1.9, reference_point="zero"
    )
    seen = set()
    for metrics in steps:
        good = "rewards/chosen" in metrics
        seen.add(good)
        reward = metrics["rewards/chosen"] if good else -metrics["rewards/rejected"]
        assert metrics["loss"] == pytest.approx((0.7 if good else 1.9) / (1 + math.exp(reward)), rel=1e-4)
    assert seen == {True, False}


@pytest.mark.parametrize("method", [name for name, each in METHODS.items() if each.needs_reference])
def test_the_first_step_of_a_fresh_adapter_is_a_tie(model, method, monkeypatch) -> None:
    """Rewards are 0 but for rounding, which differs with the line a row was packed in; a tie counts half."""
    monkeypatch.setattr(sys.modules[__name__], "PAIRS", [
        PairedExample(k, k, [{"role": "user", "content": f"{k}? " * (k % 5 + 1)}], f"Yes {'so ' * (k % 7)}{k}", f"No {k}.")
        for k in range(40)
    ])
    _, steps = trained(model, method, steps=1, batch_size=8)
    first = steps[0]
    for name in ("rewards/chosen", "rewards/rejected", "rewards/margins"):
        assert first[name] == pytest.approx(0, abs=1e-4)
    assert first["rewards/accuracies"] == 0.5
    assert first.get("kl", 0.0) == pytest.approx(0, abs=1e-3)
