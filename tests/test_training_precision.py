"""Half precision of the base: the same start and the same gradients as float32, through the real training entry."""

from __future__ import annotations

import math

import pytest
from tests.tiny_models import save_tiny_model

from models.loading import load_base
from training import adapter
from training.config import build
from training.dataset import PairedExample
from training.trainer import train

PAIRS = [
    PairedExample(n, n, [{"role": "user", "content": f"Question {n}?"}], f"Yes, please {'so ' * n}.", f"No {n}.")
    for n in range(8)
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model as large as its real sisters' activations are: half precision is judged on those."""
    return str(save_tiny_model(tmp_path_factory.mktemp("tiny") / "model", initializer_range=0.1))


def steps_in(precision: str, model: str, method: str = "dpo") -> list[dict[str, float]]:
    config = build(method, model, {"precision": precision, "device": "cpu", "steps": 3, "lora_rank": 4, "beta": 0.1})
    steps: list[dict[str, float]] = []
    loaded = load_base(model, "cpu", precision=precision)
    result = train(PAIRS, loaded, config, lambda _, metrics: steps.append(metrics))
    assert {str(weight.dtype) for weight in adapter.trainable(result.model)} == {"torch.float32"}
    return steps


@pytest.mark.parametrize(("precision", "apart"), [("float16", 0.01), ("bfloat16", 0.05)])
@pytest.mark.parametrize("method", ["dpo", "simpo"])
def test_half_precision_has_the_gradient_of_float32_without_loss_scaling(method, precision, apart, model) -> None:
    whole, half = steps_in("float32", model, method), steps_in(precision, model, method)
    if method == "dpo":
        assert half[0]["loss"] == pytest.approx(math.log(2), abs=0.02)
    assert half[0]["grad_norm"] == pytest.approx(whole[0]["grad_norm"], rel=apart)
