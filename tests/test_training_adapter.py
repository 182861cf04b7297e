"""The adapter on a base model: what peft is told, what stays exact, and what cannot be adapted."""

from __future__ import annotations

import json
import math
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file
from tests.tiny_models import save_tiny_model, tiny_model

from errors import ConfigError, ModelError
from models import catalog
from models.adapters import AdapterSet
from models.loading import load_base
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


def trained(folder: Path, **overrides: object) -> tuple[peft.PeftModel, TrainingConfig]:
    """An adapter on the model in a folder, as far from its start as training leaves it."""
    settings = build("dpo", str(folder), {"lora_rank": 4, "device": "cpu", **overrides})
    adapted = adapter.attach(load_base(str(folder), "cpu").model, settings)
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in adapter.trainable(adapted):
            weight += torch.randn(weight.shape, generator=source) * 0.1
    return adapted, settings


def written(folder: Path, target: Path, **overrides: object) -> Path:
    adapted, settings = trained(folder, **overrides)
    origin = adapter.Origin(catalog.identity(str(folder)), "5a" * 32, 12)
    card = adapter.model_card(settings, {"loss": 0.5}, "Finished.", origin)
    adapter.write(adapted, target, settings, {"loss": 0.5}, card, origin)
    return target


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny_model(tmp_path / "model")


@pytest.mark.parametrize("switches", [{}, {"lora_rslora": True}, {"lora_dora": True}], ids=str)
def test_plain_peft_loads_the_folder_and_gives_the_same_logits(switches, folder, tmp_path) -> None:
    adapted, settings = trained(folder, **switches)
    adapter.write(adapted, tmp_path / "adapter", settings, {}, "card")
    loaded = peft.PeftModel.from_pretrained(load_base(str(folder), "cpu").model, tmp_path / "adapter")
    with torch.no_grad():
        assert torch.equal(loaded(IDS).logits, adapted.eval()(IDS).logits)
        assert not torch.allclose(loaded(IDS).logits, load_base(str(folder), "cpu").model(IDS).logits, atol=1e-2)


def test_beside_the_adapter_lies_where_it_is_from(folder, tmp_path) -> None:
    target = written(folder, tmp_path / "adapter")
    origin = json.loads((target / "provenance.json").read_text())
    assert origin["base_identity"] == catalog.identity(str(folder)) and origin["base_model"] == str(folder)
    assert origin["labels_sha256"] == "5a" * 32 and origin["labels"] == 12
    assert origin["versions"] == adapter.versions()
    assert {"python", "torch", "transformers", "peft"} <= set(origin["versions"])
    assert TrainingConfig.from_dict(json.loads((target / "training_config.json").read_text())).model == str(folder)
    assert json.loads((target / "metrics.json").read_text())["loss"] == 0.5
    card = (target / "README.md").read_text()
    assert "5a" * 32 in card and torch.__version__ in card and catalog.identity(str(folder)) in card
    assert all("lora_" in name for name in load_file(target / "adapter_model.safetensors"))


def test_an_adapter_of_a_base_that_was_rebuilt_in_its_place_is_refused(folder, tmp_path) -> None:
    """The name is still the same, and so are all shapes: only what was recorded tells."""
    target = written(folder, tmp_path / "adapter")
    assert AdapterSet(load_base(str(folder), "cpu").model, str(folder)).load("run-1", target).name == "run-1"
    save_tiny_model(folder, seed=7)
    with pytest.raises(ModelError, match=f"run-1 was trained on {folder} as it was then.*Train it again"):
        AdapterSet(load_base(str(folder), "cpu").model, str(folder)).load("run-1", target)


def test_an_adapter_of_another_base_is_refused_and_one_of_a_moved_base_is_not(folder, tmp_path) -> None:
    target = written(folder, tmp_path / "adapter")
    other = save_tiny_model(tmp_path / "other", seed=7)
    with pytest.raises(ModelError, match=f"was trained on {folder}, not on {other}"):
        AdapterSet(load_base(str(other), "cpu").model, str(other)).load("run-1", target)
    moved = folder.rename(tmp_path / "moved")
    assert AdapterSet(load_base(str(moved), "cpu").model, str(moved)).load("run-1", target).name == "run-1"
    with pytest.raises(ModelError, match="was trained on"):
        AdapterSet(load_base(str(other), "cpu").model, str(other)).load("run-1", target)
