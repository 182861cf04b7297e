"""The adapter on a base model: what peft is told, what stays exact, and what cannot be adapted."""

from __future__ import annotations

import math

import peft
import pytest
import torch
from tests.tiny_models import tiny_model

from errors import ConfigError
from training import adapter
from training.config import TrainingConfig, build

IDS = torch.arange(3, 43).reshape(2, 20)


def config(**overrides: object) -> TrainingConfig:
    return build("dpo", "demo", {"lora_rank": 4, "lora_alpha": 8, "device": "cpu", **overrides})


def lora_layers(model: peft.PeftModel) -> list[peft.tuners.lora.LoraLayer]:
    return [module for module in model.modules() if isinstance(module, peft.tuners.lora.LoraLayer)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dora", [False, True])
def test_the_adapter_is_float32_whatever_the_base_is_in(dtype, dora) -> None:
    base = tiny_model().to(dtype).requires_grad_(False)
    adapted = adapter.attach(base, config(lora_dora=dora))
    assert {weight.dtype for weight in adapter.trainable(adapted)} == {torch.float32}
    frozen = [weight for weight in adapted.parameters() if not weight.requires_grad]
    assert {weight.dtype for weight in frozen} == {dtype}
    loss = adapted(IDS).logits.float().square().mean()
    loss.backward()
    assert all(weight.grad.dtype == torch.float32 for weight in adapter.trainable(adapted))


@pytest.mark.parametrize("switches", [{}, {"lora_rslora": True}, {"lora_dora": True}], ids=str)
def test_an_untrained_adapter_of_any_kind_changes_nothing(switches) -> None:
    base = tiny_model().requires_grad_(False)
    with torch.no_grad():
        before = base(IDS).logits
        after = adapter.attach(base, config(**switches))(IDS).logits
    assert torch.allclose(before, after, atol=1e-5)


def test_peft_gets_rank_alpha_dropout_and_the_scale_of_the_variant() -> None:
    plain = adapter.attach(tiny_model(), config(lora_dropout=0.25))
    ranks = adapter.attach(tiny_model(), config(lora_rslora=True))
    assert plain.peft_config["default"].r == 4 and plain.peft_config["default"].lora_dropout == 0.25
    assert {layer.scaling["default"] for layer in lora_layers(plain)} == {8 / 4}
    assert {layer.scaling["default"] for layer in lora_layers(ranks)} == {8 / math.sqrt(4)}


def test_dora_learns_the_length_of_each_row_of_weights() -> None:
    adapted = adapter.attach(tiny_model(), config(lora_dora=True))
    magnitudes = [name for name, weight in adapted.named_parameters() if "magnitude" in name and weight.requires_grad]
    assert len(magnitudes) == len(lora_layers(adapted)) == 2 * 7


def test_only_the_adapters_dropout_is_active_and_it_rests_while_something_is_measured() -> None:
    adapted = adapter.attach(tiny_model("gpt2"), config(lora_dropout=0.5))

    def noisy() -> list[str]:
        return [name for name, module in adapted.named_modules() if module.training]

    before = noisy()
    assert before and all("lora_dropout" in name for name in before)
    with adapter.without_dropout(adapted):
        assert noisy() == []
    assert noisy() == before


@pytest.mark.parametrize("targets", ["q_prog", ",", "q_proj, q_prog", "embed_tokens", "lm_head", "input_layernorm"])
def test_targets_that_are_no_layers_to_adapt_are_refused_and_those_there_are_are_named(targets) -> None:
    with pytest.raises(ConfigError, match="lora_targets .* There are: q_proj, k_proj.*all-linear"):
        adapter.attach(tiny_model(), config(lora_targets=targets))


def test_targets_are_adapted_and_nothing_else() -> None:
    adapted = adapter.attach(tiny_model(), config(lora_targets="q_proj, self_attn.v_proj"))
    assert len(adapter.trainable(adapted)) == 2 * 2 * 2
