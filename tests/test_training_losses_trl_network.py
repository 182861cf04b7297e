"""Our losses against TRL 1.16 on the log-probs of a network: the same loss, and the same gradient of its weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.tiny_models import tiny_model
from tests.trl_world import (
    SAME_IN_DPO_TRAINER,
    assert_same,
    cpo_trainer,
    dpo_trainer,
    kto_trainer,
    orpo_trainer,
    quiet_and_tidy,
)
from torch import Tensor

from models.logps import Batch, response_logps
from training.losses import LOSSES, PairedLogps, UnpairedLogps
from training.methods import KTOConfig, ORPOConfig, SimPOConfig

__all__ = ["cpo_trainer", "dpo_trainer", "kto_trainer", "orpo_trainer", "quiet_and_tidy"]


def scored(model: torch.nn.Module, inputs: dict[str, Tensor], prefix: str = "") -> tuple[Tensor, Tensor]:
    """Return our logps and lengths of a batch that TRL's collator made."""
    mask = inputs[f"{prefix}completion_mask"].bool()
    return response_logps(model, Batch(inputs[f"{prefix}input_ids"], inputs[f"{prefix}attention_mask"], mask))


def moved(model: torch.nn.Module) -> torch.nn.Module:
    """Move a model's last layer a little, so that it differs from its reference, and let only that one learn."""
    model.requires_grad_(False)
    weight = model.get_parameter("model.layers.1.mlp.down_proj.weight").requires_grad_()
    with torch.no_grad():
        weight += 0.2 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(3))
    return model


def assert_same_gradient(ours: Tensor, theirs: Tensor, model: torch.nn.Module) -> None:
    weights = tuple(weight for weight in model.parameters() if weight.requires_grad)
    assert_same(ours, theirs, weights, rtol=5e-5, atol=5e-6)


@pytest.fixture(scope="module")
def moved_model() -> torch.nn.Module:
    from trl.trainer.utils import add_fused_lm_head

    model = moved(tiny_model())
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "mean_logits", "is_top1"))
    return model


@pytest.mark.parametrize(("name", "config", "loss_type"), SAME_IN_DPO_TRAINER)
def test_paired_losses_of_a_network_and_their_gradients_are_trls(
    dpo_trainer, moved_model, name, config, loss_type
) -> None:
    dpo_trainer.loss_types, dpo_trainer.beta, dpo_trainer.label_smoothing = [loss_type], 0.3, 0.1
    inputs = next(iter(dpo_trainer.get_train_dataloader()))
    logps, lengths = scored(moved_model, inputs)
    references = inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]
    pair = PairedLogps(*logps.chunk(2), *lengths.chunk(2), *references)
    assert (pair.logratios[0].abs() > 0.01).all()  # so far from the reference that a loss without it would show
    ours = LOSSES[name](pair, config(0.3, 0.1)).losses.mean()
    assert_same_gradient(ours, dpo_trainer.compute_loss(moved_model, inputs), moved_model)


@pytest.mark.parametrize(("reference_point", "loss_type"), [("kl", "kto"), ("zero", "apo_zero_unpaired")])
def test_kto_of_a_network_and_its_gradient_are_trls(kto_trainer, moved_model, reference_point, loss_type) -> None:
    """Fed with TRL's own mismatched responses: it takes the neighbour's in the batch, of whatever prompt, where ours
    come from another prompt, drawn once a run."""
    kto_trainer.loss_type, kto_trainer.beta, kto_trainer.calculate_KL = loss_type, 0.3, loss_type == "kto"
    kto_trainer.desirable_weight, kto_trainer.undesirable_weight = 1.0, 1.7
    inputs = next(iter(kto_trainer.get_train_dataloader()))
    logps, _ = scored(moved_model, inputs)
    with torch.no_grad():
        kl = (scored(moved_model, inputs, "KL_")[0] - inputs["ref_KL_logps"]).mean()
    desirable = torch.as_tensor(inputs["label"], dtype=torch.bool)
    batch = UnpairedLogps(logps, inputs["ref_logps"], desirable, kl, (1.0, 1.7))
    ours = LOSSES["kto"](batch, KTOConfig(0.3, reference_point=reference_point)).losses.mean()
    assert_same_gradient(ours, kto_trainer.compute_loss(moved_model, inputs), moved_model)


def concatenated(trainer: Any) -> tuple[dict[str, Any], Batch, Tensor]:
    """Return a batch of a CPO or ORPO trainer, its rows as ours, and the chosen rows' ids with -100 on padding."""
    inputs = next(iter(trainer.get_train_dataloader()))
    rows = trainer.concatenated_inputs(inputs, padding_value=0)
    ids, attention = rows["concatenated_input_ids"], rows["concatenated_attention_mask"]
    batch = Batch(ids, attention, rows["concatenated_labels"] != -100)
    return inputs, batch, ids.masked_fill(attention == 0, -100)[: len(ids) // 2]


def reference_free(model: torch.nn.Module, batch: Batch) -> PairedLogps:
    logps, lengths = response_logps(model, batch)
    return PairedLogps(*logps.chunk(2), *lengths.chunk(2))


def test_simpo_of_a_network_and_its_gradient_are_trls(cpo_trainer, moved_model) -> None:
    """Without TRL's added imitation term (`cpo_alpha`, 1 by default), which the paper does not have."""
    cpo_trainer.loss_type, cpo_trainer.beta, cpo_trainer.simpo_gamma = "simpo", 2.0, 0.7
    cpo_trainer.label_smoothing = 0.0
    inputs, batch, _ = concatenated(cpo_trainer)
    ours = LOSSES["simpo"](reference_free(moved_model, batch), SimPOConfig(2.0, 0.7)).losses.mean()
    assert_same_gradient(ours, cpo_trainer.compute_loss(moved_model, inputs), moved_model)


def test_orpo_of_a_network_differs_from_trls_only_in_what_is_imitated(orpo_trainer, moved_model) -> None:
    """Known difference: TRL imitates prompt and response, averaged over all tokens of the batch; the paper and ours
    the response alone, per token, averaged over pairs. Put one in the place of the other, and all is equal."""
    orpo_trainer.beta = 0.4
    inputs, batch, chosen_ids = concatenated(orpo_trainer)
    pair = reference_free(moved_model, batch)
    ours = LOSSES["orpo"](pair, ORPOConfig(0.4)).losses.mean()
    count = len(chosen_ids)
    logits = moved_model(batch.ids[:count], attention_mask=batch.attention_mask[:count]).logits
    whole = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), chosen_ids[:, 1:].flatten())
    response = -pair.mean_logps[0].mean()
    assert abs((whole - response).item()) > 0.002
    assert_same_gradient(ours - response + whole, orpo_trainer.compute_loss(moved_model, inputs), moved_model)
