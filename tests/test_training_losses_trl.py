"""Our losses against TRL 1.16 on the same log-probs: values and gradients, wherever both compute the same thing.

TRL's own `compute_loss` runs, in trainers it built itself; only the network is replaced, by a table of log-probs, so
that they can be chosen. Where TRL differs from the paper or from us, a test says how and pins the difference.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
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

from training.losses import LOSSES, PairedLogps, UnpairedLogps
from training.methods import DPOConfig, IPOConfig, KTOConfig, ORPOConfig, SimPOConfig

__all__ = ["cpo_trainer", "dpo_trainer", "kto_trainer", "orpo_trainer", "quiet_and_tidy"]

CLOSE = {"rtol": 1e-9, "atol": 1e-12}
# TRL's ORPO computes in float32.
FLOAT32 = {"rtol": 2e-5, "atol": 1e-6}


class Table(torch.nn.Module):
    """Stands for the network: gives the log-probs of a table, spread evenly over each response's tokens.

    Rows are told apart by their first token, which is the row's number in `logps`.
    """

    def __init__(self, logps: Tensor) -> None:
        super().__init__()
        self.logps = logps

    def forward(self, input_ids: Tensor, labels: Tensor, **_: Any) -> Any:
        from trl.trainer.utils import FusedCausalLMOutput

        scored = (labels[:, 1:] != -100).to(self.logps.dtype)
        spread = (self.logps[input_ids[:, 0]] / scored.sum(1))[:, None] * scored
        empty = torch.zeros_like(spread).detach()
        return FusedCausalLMOutput(
            loss=None, log_probs=spread, entropy=empty, log_sum_sq_probs=None, mean_logits=empty,
            is_top1=empty.bool(), aux_loss=None,
        )


def masks(lengths: Tensor, first: int = 0) -> dict[str, Tensor]:
    """Return input_ids, attention_mask and completion_mask of rows with a prompt of one token."""
    places = torch.arange(1 + int(lengths.max()))
    attention = (places <= lengths[:, None]).long()
    ids = torch.zeros_like(attention)
    ids[:, 0] = torch.arange(first, first + len(lengths))
    return {"input_ids": ids, "attention_mask": attention, "completion_mask": attention * (places > 0)}


def trl_dpo(trainer: Any, pair: PairedLogps, loss_type: str, **changes: Any) -> Tensor:
    """Return the mean loss that TRL's DPOTrainer computes of some log-probs."""
    trainer.loss_types, trainer.beta = [loss_type], changes["beta"]
    trainer.label_smoothing = changes.get("label_smoothing", 0.0)
    inputs = masks(torch.cat([pair.chosen_lengths, pair.rejected_lengths]).long())
    inputs |= {"ref_chosen_logps": pair.reference_chosen, "ref_rejected_logps": pair.reference_rejected}
    return trainer.compute_loss(Table(torch.cat([pair.chosen, pair.rejected])), inputs)


def leaf(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def pair_of(rows: list[tuple[float, float, float, float, int, int]], dtype: torch.dtype = torch.float64) -> PairedLogps:
    """Return log-probs with gradients: policy chosen, rejected, reference chosen, rejected, and two lengths a row."""
    columns = [torch.tensor(column, dtype=dtype) for column in zip(*rows)]
    return PairedLogps(
        columns[0].requires_grad_(), columns[1].requires_grad_(), columns[4], columns[5], columns[2], columns[3]
    )


# Log-ratios: mostly where sigmoids bend, and extremes up to 1e4, exact ties among them.
logratio = st.one_of(st.floats(-4, 4), st.floats(-4, 4), st.floats(-300, 300), st.sampled_from([-1e4, 1e4, 0.0]))
reference = st.floats(-300, -0.01)
length = st.integers(1, 40)


def pair_row(values: tuple[float, float, float, float, int, int]) -> tuple[float, float, float, float, int, int]:
    """Return policy chosen and rejected, reference chosen and rejected, lengths, of log-ratios and the rest."""
    chosen, rejected, reference_chosen, reference_rejected, *lengths = values
    return (reference_chosen + chosen, reference_rejected + rejected, reference_chosen, reference_rejected, *lengths)


rows = st.lists(
    st.tuples(logratio, logratio, reference, reference, length, length).map(pair_row), min_size=1, max_size=5
)
beta = st.floats(0.01, 3)
smoothing = st.floats(0, 0.49)

@pytest.mark.parametrize(("name", "config", "loss_type"), SAME_IN_DPO_TRAINER)
@settings(max_examples=100, deadline=None)
@given(rows=rows, beta=beta, epsilon=smoothing)
def test_paired_losses_are_those_of_the_dpo_trainer(dpo_trainer, name, config, loss_type, rows, beta, epsilon) -> None:
    pair = pair_of(rows)
    ours = LOSSES[name](pair, config(beta, epsilon)).losses.mean()
    theirs = trl_dpo(dpo_trainer, pair, loss_type, beta=beta, label_smoothing=epsilon)
    assert_same(ours, theirs, (pair.chosen, pair.rejected), **CLOSE)


@settings(max_examples=100, deadline=None)
@given(rows=rows, beta=beta, epsilon=smoothing)
def test_smoothed_dpo_is_that_of_trl_where_trl_has_it(dpo_trainer, cpo_trainer, rows, beta, epsilon) -> None:
    """TRL has the conservative formula in `cpo_loss`, here of log-ratios, and in `aot`, which for one pair sorts
    nothing."""
    pair = pair_of(rows)
    ours = LOSSES["dpo"](pair, DPOConfig(beta, epsilon)).losses
    cpo_trainer.loss_type, cpo_trainer.beta, cpo_trainer.label_smoothing = "sigmoid", beta, epsilon
    theirs, *_ = cpo_trainer.cpo_loss(*pair.logratios)
    assert_same(ours.mean(), theirs.mean(), (pair.chosen, pair.rejected), **CLOSE)
    one = pair_of(rows[:1])
    alone = trl_dpo(dpo_trainer, one, "aot", beta=beta, label_smoothing=epsilon)
    assert_same(LOSSES["dpo"](one, DPOConfig(beta, epsilon)).losses[0], alone, (one.chosen, one.rejected), **CLOSE)


def test_trl_accepts_label_smoothing_for_dpo_and_ignores_it(dpo_trainer) -> None:
    """Known difference: `sigmoid` never reads `label_smoothing`. Ours at βδ = 2, ε = 0.2: lower confidence costs
    ε·βδ = 0.4 more."""
    pair = pair_of([(-1.0, -9.0, -3.0, -7.0, 2, 3)])
    plain, smoothed = (
        trl_dpo(dpo_trainer, pair, "sigmoid", beta=0.5, label_smoothing=epsilon) for epsilon in (0.0, 0.2)
    )
    assert torch.equal(plain, smoothed)
    ours = LOSSES["dpo"](pair, DPOConfig(0.5, 0.2)).losses[0]
    assert (ours - smoothed).item() == pytest.approx(0.2 * 2.0)


@settings(max_examples=100, deadline=None)
@given(rows=rows, beta=beta)
def test_the_summed_form_of_ipo_is_trls_formula_of_sums(cpo_trainer, rows, beta) -> None:
    """Known difference: TRL's DPOTrainer has only the form per token (`mean`); the formula of sums is in `cpo_loss`."""
    pair = pair_of(rows)
    cpo_trainer.loss_type, cpo_trainer.beta = "ipo", beta
    theirs, *_ = cpo_trainer.cpo_loss(*pair.logratios)
    ours = LOSSES["ipo"](pair, IPOConfig(beta, "sum")).losses
    assert_same(ours.mean(), theirs.mean(), (pair.chosen, pair.rejected), **CLOSE)


def test_the_forms_of_ipo_agree_with_trl_only_where_they_agree_with_each_other(dpo_trainer) -> None:
    """On one-token responses the mean is the sum; on longer ones TRL is `mean`, not `sum`."""
    for lengths, same in (((1, 1), True), ((4, 2), False)):
        pair = pair_of([(-2.0, -5.0, -3.0, -4.0, *lengths)])
        theirs = trl_dpo(dpo_trainer, pair, "ipo", beta=0.5).item()
        assert LOSSES["ipo"](pair, IPOConfig(0.5, "mean")).losses.item() == pytest.approx(theirs)
        assert (LOSSES["ipo"](pair, IPOConfig(0.5, "sum")).losses.item() == pytest.approx(theirs)) is same


@settings(max_examples=100, deadline=None)
@given(rows=rows, beta=beta, gamma=st.floats(0, 5))
def test_simpo_is_that_of_the_cpo_trainer(cpo_trainer, rows, beta, gamma) -> None:
    pair = pair_of(rows)
    cpo_trainer.loss_type, cpo_trainer.beta, cpo_trainer.simpo_gamma = "simpo", beta, gamma
    cpo_trainer.label_smoothing = 0.0
    theirs, chosen, rejected = cpo_trainer.cpo_loss(*pair.mean_logps)
    ours = LOSSES["simpo"](pair, SimPOConfig(beta, gamma))
    assert_same(ours.losses.mean(), theirs.mean(), (pair.chosen, pair.rejected), **CLOSE)
    torch.testing.assert_close((ours.chosen_rewards, ours.rejected_rewards), (chosen, rejected), **CLOSE)


mean_logp = st.one_of(st.floats(-50, -1e-3), st.sampled_from([-1e4, -300.0]))


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.tuples(mean_logp, mean_logp, length, length), min_size=1, max_size=5), beta=beta)
def test_the_odds_ratio_of_orpo_is_that_of_trl(orpo_trainer, rows, beta) -> None:
    """The odds-ratio term; the other one is −mean_logps_w, see below."""
    pair = pair_of([(w * m, l * n, 0.0, 0.0, m, n) for w, l, m, n in rows], torch.float32)
    orpo_trainer.beta = beta
    theirs, chosen, rejected, *_ = orpo_trainer.odds_ratio_loss(*pair.mean_logps)
    ours = LOSSES["orpo"](pair, ORPOConfig(beta))
    nll = -pair.mean_logps[0]
    assert_same(ours.losses.mean(), (nll - theirs).mean(), (pair.chosen, pair.rejected), **FLOAT32)
    torch.testing.assert_close((ours.chosen_rewards, ours.rejected_rewards), (chosen, rejected), **FLOAT32)


def test_a_certain_response_breaks_trls_odds_but_not_ours(orpo_trainer) -> None:
    """Known difference: at probability 1 the odds are infinite; ours are taken at a mean log-prob of −1e-6."""
    pair = pair_of([(0.0, -2.0, 0.0, 0.0, 1, 1)], torch.float32)
    orpo_trainer.beta = 0.1
    losses, *_ = orpo_trainer.odds_ratio_loss(*pair.mean_logps)
    assert not torch.isfinite(torch.autograd.grad(losses.mean(), pair.chosen)[0]).all()
    ours = LOSSES["orpo"](pair, ORPOConfig(0.1)).losses.mean()
    gradients = torch.autograd.grad(ours, (pair.chosen, pair.rejected))
    assert torch.isfinite(ours) and all(torch.isfinite(gradient).all() for gradient in gradients)


def trl_kto(trainer: Any, batch: UnpairedLogps, lengths: Tensor, loss_type: str, beta: float, kl: float) -> Tensor:
    """Return the mean loss that TRL's KTOTrainer computes; its mismatched responses all have the log-ratio `kl`."""
    trainer.loss_type, trainer.beta, trainer.calculate_KL = loss_type, beta, loss_type == "kto"
    trainer.desirable_weight, trainer.undesirable_weight = batch.weights
    count = len(batch.logps)
    foreign = masks(lengths.flip(0), first=count)
    inputs = masks(lengths) | {f"KL_{name}": part for name, part in foreign.items()}
    inputs |= {"label": batch.desirable, "ref_logps": batch.reference, "ref_KL_logps": torch.full((count,), -30.0)}
    return trainer.compute_loss(Table(torch.cat([batch.logps, torch.full((count,), kl - 30.0)])), inputs)


judged = st.lists(st.tuples(logratio, reference, st.booleans(), length), min_size=1, max_size=6)
weight = st.floats(0.2, 5)


@pytest.mark.parametrize(("reference_point", "loss_type"), [("kl", "kto"), ("zero", "apo_zero_unpaired")])
@settings(max_examples=200, deadline=None)
@given(
    judged=judged, beta=beta, kl=st.one_of(st.floats(-4, 4), st.floats(-4, 4), st.just(1e4)),
    weights=st.tuples(weight, weight),
)
def test_kto_is_that_of_the_kto_trainer(kto_trainer, reference_point, loss_type, judged, beta, kl, weights) -> None:
    logratios, references, desirable, lengths = zip(*judged)
    policy = leaf(*(ratio + logp for ratio, logp in zip(logratios, references)))
    known, reference_kl = (torch.tensor(values, dtype=torch.float64) for values in (references, kl))
    batch = UnpairedLogps(policy, known, torch.tensor(desirable), reference_kl, weights)
    ours = LOSSES["kto"](batch, KTOConfig(beta, reference_point=reference_point)).losses.mean()
    theirs = trl_kto(kto_trainer, batch, torch.tensor(lengths), loss_type, beta, kl)
    # The reference point of TRL passes through float32.
    assert_same(ours, theirs, (batch.logps,), rtol=1e-5, atol=1e-6 * max(1.0, beta * abs(kl)))


def test_trl_counts_an_exact_tie_as_wrong_and_ours_as_half(dpo_trainer) -> None:
    """Known difference: with a fresh adapter TRL logs an accuracy of 0."""
    pair = pair_of([(-2.0, -5.0, -2.0, -5.0, 3, 3)])
    dpo_trainer.model.eval()
    dpo_trainer._metrics["eval"].clear()
    trl_dpo(dpo_trainer, pair, "sigmoid", beta=0.1)
    assert dpo_trainer._metrics["eval"]["rewards/accuracies"] == [0.0]
    assert LOSSES["dpo"](pair, DPOConfig(0.1)).correct().tolist() == [0.5]
