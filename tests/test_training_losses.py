"""Every loss: values and gradients worked by hand, and the invariants all of them must pass."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.losses import (
    LOSSES,
    PairedLogps,
    UnpairedLogps,
    bradley_terry,
    smoothed_preference,
    untrained,
    wins,
)
from training.methods import (
    METHODS,
    APODownConfig,
    APOZeroConfig,
    DPOConfig,
    HingeConfig,
    IPOConfig,
    KTOConfig,
    ORPOConfig,
    RobustConfig,
    SimPOConfig,
    class_weights,
)

PAIRED = [name for name, method in METHODS.items() if method.paired]
RELATIVE = [name for name in PAIRED if METHODS[name].needs_reference]


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def one_pair() -> PairedLogps:
    """Δ_w = −2 + 3 = 1, Δ_l = −5 + 4 = −1, δ = 2; mean log-probs −2 ÷ 2 = −1 and −5 ÷ 4 = −1.25."""
    return PairedLogps(
        vector(-2.0).requires_grad_(), vector(-5.0).requires_grad_(), vector(2.0), vector(4.0),
        vector(-3.0), vector(-4.0),
    )


# name, config, loss, d loss / d chosen, d loss / d rejected, for `one_pair`. With s(x) = σ(x)·(1 − σ(x)):
BY_HAND = [
    # x = 0.5·2 = 1: log(1 + e⁻¹); gradient ∓β·σ(−1)
    ("dpo", DPOConfig(0.5), 0.3132617, -0.1344707, 0.1344707),
    # 0.9·0.3132617 + 0.1·1.3132617; gradient ±β·(σ(1) − 0.9)
    ("dpo", DPOConfig(0.5, 0.1), 0.4132617, -0.0844707, 0.0844707),
    # (0.9·0.3132617 − 0.1·1.3132617) ÷ 0.8; gradient ∓β·(0.9·σ(−1) + 0.1·σ(1)) ÷ 0.8
    ("robust", RobustConfig(0.5, 0.1), 0.1882617, -0.1969707, 0.1969707),
    # 1 − 0.25·2; gradient ∓β
    ("hinge", HingeConfig(0.25), 0.5, -0.25, 0.25),
    # (2 − 1)²; gradient ±2·(2 − 1)
    ("ipo", IPOConfig(0.5, "sum"), 1.0, 2.0, -2.0),
    # h = 1/2 + 1/4 = 0.75: (0.75 − 1)²; gradient 2·(−0.25)·(1/2, −1/4)
    ("ipo", IPOConfig(0.5, "mean"), 0.0625, -0.25, 0.125),
    # (0.5·2 − 2)²; gradient 2·(−1)·(±0.5)
    ("ipo", IPOConfig(0.5, "reward"), 1.0, -1.0, 1.0),
    # 2·(−1 + 1.25) − 0.5 = 0: log 2; gradient ∓β·½ ÷ length
    ("simpo", SimPOConfig(2.0, 0.5), 0.6931472, -0.5, 0.25),
    # the same + 0.5·1; gradient of the addition −0.5 ÷ 2
    ("simpo", SimPOConfig(2.0, 0.5, 0.5), 1.1931472, -0.75, 0.25),
    # log odds −1 − log(1 − e⁻¹) = −0.5413249 and −1.25 − log(1 − e^−1.25) = −0.9124206, x = 0.3710957:
    # 1 + log(1 + e⁻ˣ); gradient (−½ − σ(−x)·½ ÷ (1 − e⁻¹), σ(−x)·¼ ÷ (1 − e^−1.25))
    ("orpo", ORPOConfig(1.0), 1.5247155, -0.8229418, 0.1430551),
    # σ(−0.5) + σ(−0.5); gradient ∓β·s(0.5)
    ("apo_zero", APOZeroConfig(0.5), 0.7550813, -0.1175019, 0.1175019),
    # σ(0.5) + σ(−1); gradient (β·(s(0.5) − s(1)), β·s(1))
    ("apo_down", APODownConfig(0.5), 0.8914008, 0.0191959, 0.0983060),
]


@pytest.mark.parametrize(("name", "config", "loss", "chosen", "rejected"), BY_HAND)
def test_value_and_gradient_are_those_worked_by_hand(name, config, loss, chosen, rejected) -> None:
    pair = one_pair()
    result = LOSSES[name](pair, config)
    result.losses.sum().backward()
    assert result.losses.item() == pytest.approx(loss, abs=1e-6)
    assert pair.chosen.grad.item() == pytest.approx(chosen, abs=1e-6)
    assert pair.rejected.grad.item() == pytest.approx(rejected, abs=1e-6)


def test_every_loss_is_worked_by_hand() -> None:
    assert {case[0] for case in BY_HAND} | {"kto"} == set(LOSSES)


def kto_batch(kl: float = 0.5, weights: tuple[float, float] = (1.0, 2.0)) -> UnpairedLogps:
    """A desirable response with Δ = 1 and an undesirable one with Δ = −1."""
    logps = vector(-2.0, -5.0).requires_grad_()
    return UnpairedLogps(logps, vector(-3.0, -4.0), torch.tensor([True, False]), vector(kl)[0], weights)


def test_kto_value_and_gradient_are_those_worked_by_hand() -> None:
    """Desirable: 1 − σ(0.5·(1 − 0.5)) = σ(−0.25) = 0.4378235, gradient −0.5·s(0.25) = −0.1230671.
    Undesirable: 2·(1 − σ(0.5·(0.5 + 1))) = 2·σ(−0.75) = 0.6416426, gradient 2·0.5·s(0.75) = 0.2178950."""
    batch = kto_batch()
    result = LOSSES["kto"](batch, KTOConfig(0.5))
    result.losses.sum().backward()
    assert result.losses.tolist() == pytest.approx([0.4378235, 0.6416426], abs=1e-6)
    assert batch.logps.grad.tolist() == pytest.approx([-0.1230671, 0.2178950], abs=1e-6)
    assert (result.chosen_rewards.item(), result.rejected_rewards.item()) == (0.5, -0.5)


def test_kto_zero_form_is_the_sum_of_lecture_notes() -> None:
    """1 − σ(0.5·1) = σ(−0.5) = 0.3775407 for the good one, σ(0.5·(−1)) = 0.3775407 for the bad one, whatever the KL;
    gradient ∓0.5·s(0.5) = ∓0.1175019."""
    batch = kto_batch(kl=0.5, weights=(1.0, 1.0))
    result = LOSSES["kto"](batch, KTOConfig(0.5, reference_point="zero"))
    result.losses.sum().backward()
    assert result.losses.tolist() == pytest.approx([0.3775407, 0.3775407], abs=1e-6)
    assert batch.logps.grad.tolist() == pytest.approx([-0.1175019, 0.1175019], abs=1e-6)
    assert result.anchor.item() == 0.0


def test_kto_never_takes_a_negative_reference_point() -> None:
    below, zero = (LOSSES["kto"](kto_batch(kl=kl), KTOConfig(0.5)).losses for kl in (-3.0, 0.0))
    assert torch.equal(below, zero)


def test_kto_lets_no_gradient_through_the_reference_point() -> None:
    kl = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    batch = kto_batch()
    result = LOSSES["kto"](UnpairedLogps(batch.logps, batch.reference, batch.desirable, kl), KTOConfig(0.5))
    result.losses.sum().backward()
    assert kl.grad is None


def test_dpo_worked_value_of_the_reference_text() -> None:
    """Δ_w = (0.3, 0.2, 0.2), Δ_l = (−0.3, −0.2, −0.3), so βδ = (0.06, 0.04, 0.05), and with
    log(1 + e⁻ˣ) = log 2 − x/2 + x²/8 − …: 0.6635972, 0.6733472, 0.6684597; their mean is 0.6684680.
    With σ(−x) = ½ − x/4 + x³/48 − …: 0.4850045, 0.4900013, 0.4875026, of which −β/3 is the gradient of the mean in
    the chosen log-probs: −0.0161668, −0.0163334, −0.0162501, and its negative in the rejected ones."""
    chosen, rejected = vector(-2.5, -3.0, -2.8).requires_grad_(), vector(-3.5, -4.0, -3.8).requires_grad_()
    batch = PairedLogps(
        chosen, rejected, vector(9, 9, 9), vector(9, 9, 9), vector(-2.8, -3.2, -3.0), vector(-3.2, -3.8, -3.5)
    )
    result = LOSSES["dpo"](batch, DPOConfig(0.1))
    result.losses.mean().backward()
    assert chosen.grad.tolist() == pytest.approx([-0.0161668, -0.0163334, -0.0162501], abs=1e-7)
    assert rejected.grad.tolist() == pytest.approx([0.0161668, 0.0163334, 0.0162501], abs=1e-7)
    assert result.losses.mean().item() == pytest.approx(0.6684680, abs=1e-6)
    assert result.chosen_rewards.tolist() == pytest.approx([0.03, 0.02, 0.02])
    assert result.rejected_rewards.tolist() == pytest.approx([-0.03, -0.02, -0.03])


UNTRAINED = {
    "dpo": math.log(2), "robust": math.log(2), "hinge": 1.0, "ipo": 25.0, "apo_zero": 1.0, "apo_down": 1.0,
}


@pytest.mark.parametrize("name", RELATIVE)
def test_an_untrained_adapter_gives_the_loss_the_formula_fixes(name) -> None:
    result = LOSSES[name](untrained(one_pair()), METHODS[name]())
    assert result.losses.item() == pytest.approx(UNTRAINED[name])
    assert result.chosen_rewards.item() == result.rejected_rewards.item() == 0.0
    assert result.correct().tolist() == [0.5]


def test_an_untrained_adapter_gives_kto_half_of_each_weight() -> None:
    result = LOSSES["kto"](untrained(kto_batch(kl=7.0)), KTOConfig())
    assert result.losses.tolist() == [0.5, 1.0]
    assert result.correct().tolist() == [0.5, 0.5]


# Every loss at its defaults, and in every form that computes something else.
VARIANTS = {name: (name, method()) for name, method in METHODS.items()} | {
    "dpo, smoothed": ("dpo", DPOConfig(0.3, 0.2)),
    "ipo, mean": ("ipo", IPOConfig(0.1, "mean")),
    "ipo, reward": ("ipo", IPOConfig(0.1, "reward")),
    "simpo, imitating": ("simpo", SimPOConfig(2.0, 0.5, 0.3)),
    "kto, zero": ("kto", KTOConfig(0.1, reference_point="zero")),
}


def batch_of(name: str, kl: Tensor, columns: Iterable[Tensor]) -> Any:
    """Return log-probs as a loss takes them; an unpaired one gets chosen and rejected in turn, good and bad.

    columns: policy logps of chosen and rejected, their lengths, one reference for both.
    """
    chosen, rejected, *lengths, reference = columns
    if METHODS[name].paired:
        return PairedLogps(chosen, rejected, *lengths, reference, reference)
    both, references = torch.stack([chosen, rejected], 1).flatten(), reference.repeat_interleave(2)
    return UnpairedLogps(both, references, torch.tensor([True, False] * len(chosen)), kl, (1.0, 4.0))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_losses_and_gradients_stay_finite_in_float32(variant, scale) -> None:
    """All combinations of ±scale for both log-ratios, with one-token responses among them."""
    name, config = VARIANTS[variant]
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    chosen, rejected = (signs * scale - scale).unbind(1)
    chosen, rejected = chosen.clone().requires_grad_(), rejected.clone().requires_grad_()
    lengths, reference = torch.tensor([1.0, 1.0, 7.0, 300.0]), torch.full((4,), -scale)
    columns = chosen, rejected, lengths, lengths.flip(0), reference
    result = LOSSES[name](batch_of(name, torch.tensor(scale), columns), config)
    result.losses.mean().backward()
    assert torch.isfinite(result.losses).all()
    assert torch.isfinite(result.chosen_rewards).all() and torch.isfinite(result.rejected_rewards).all()
    for leaf in (chosen, rejected):
        assert torch.isfinite(leaf.grad).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_example_costs_the_same_in_any_order_and_in_any_part(variant) -> None:
    """Batch order and micro-batch size change nothing: the loss of a pair, or response, is its own."""
    name, config = VARIANTS[variant]
    generator = torch.Generator().manual_seed(2)
    chosen, rejected, reference = (-9 * torch.rand(3, 6, generator=generator, dtype=torch.float64) - 0.5).unbind()
    columns = chosen, rejected, vector(1, 2, 30, 4, 5, 6), vector(7, 1, 2, 9, 1, 3), reference

    def losses(places: list[int]) -> Tensor:
        batch = batch_of(name, vector(0.4)[0], (column[places] for column in columns))
        return LOSSES[name](batch, config).losses.reshape(len(places), -1)

    whole = losses(list(range(6)))
    for places in [4, 0, 1, 5, 3, 2], [2], [5, 1], [0, 3, 4, 2]:
        assert torch.equal(losses(places), whole[places])


finite = st.floats(-50, -0.01)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(finite, finite, finite, finite), min_size=1, max_size=6), st.sampled_from(PAIRED))
def test_swapping_chosen_and_rejected_negates_margins(rows, name) -> None:
    policy_w, policy_l, reference_w, reference_l = torch.tensor(rows, dtype=torch.float64).unbind(1)
    lengths = torch.arange(1, len(rows) + 1, dtype=torch.float64)
    straight = PairedLogps(policy_w, policy_l, lengths, lengths + 1, reference_w, reference_l)
    swapped = PairedLogps(policy_l, policy_w, lengths + 1, lengths, reference_l, reference_w)
    first, second = (LOSSES[name](batch, METHODS[name]()) for batch in (straight, swapped))
    margins = [result.chosen_rewards - result.rejected_rewards for result in (first, second)]
    assert torch.equal(margins[0], -margins[1])
    assert torch.equal(first.correct(), 1 - second.correct())


@pytest.mark.parametrize("reference_point", ["kl", "zero"])
def test_marking_the_other_response_good_negates_the_margin_of_kto(reference_point) -> None:
    batch = kto_batch()
    straight, swapped = (
        LOSSES["kto"](replace(batch, desirable=desirable), KTOConfig(0.5, reference_point=reference_point))
        for desirable in (batch.desirable, ~batch.desirable)
    )
    margins = [result.chosen_rewards - result.rejected_rewards for result in (straight, swapped)]
    assert margins[0].item() == -margins[1].item() == 1.0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(finite, finite, finite, finite), min_size=1, max_size=6), st.floats(0.01, 2))
def test_the_gradient_of_dpo_is_weighted_by_its_disbelief(rows, beta) -> None:
    """∂/∂logps_w = −β·σ(r̂_l − r̂_w), ∂/∂logps_l = +β·σ(r̂_l − r̂_w): one minus the Bradley–Terry confidence."""
    policy_w, policy_l, reference_w, reference_l = torch.tensor(rows, dtype=torch.float64).unbind(1)
    policy_w, policy_l = policy_w.clone().requires_grad_(), policy_l.clone().requires_grad_()
    lengths = torch.ones(len(rows), dtype=torch.float64)
    result = LOSSES["dpo"](PairedLogps(policy_w, policy_l, lengths, lengths, reference_w, reference_l), DPOConfig(beta))
    result.losses.sum().backward()
    weight = beta * (1 - bradley_terry(result.chosen_rewards - result.rejected_rewards))
    assert torch.allclose(policy_w.grad, -weight, atol=1e-12)
    assert torch.allclose(policy_l.grad, weight, atol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_agree_with_finite_differences(name) -> None:
    generator = torch.Generator().manual_seed(1)
    policy = -5 * torch.rand(4, generator=generator, dtype=torch.float64) - 0.5
    reference = -5 * torch.rand(4, generator=generator, dtype=torch.float64) - 0.5
    lengths = vector(1, 2, 3, 4)

    def loss(logps: Tensor) -> Tensor:
        if METHODS[name].paired:
            batch = PairedLogps(logps[:2], logps[2:], lengths[:2], lengths[2:], reference[:2], reference[2:])
        else:
            desirable = torch.tensor([True, False, True, False])
            batch = UnpairedLogps(logps, reference, desirable, vector(0.3)[0], (1.0, 2.0))
        return LOSSES[name](batch, METHODS[name]()).losses

    assert torch.autograd.gradcheck(loss, policy.requires_grad_())


def test_exact_ties_count_half() -> None:
    assert wins(vector(1, 2, 3), vector(2, 2, 2)).tolist() == [0.0, 0.5, 1.0]


def test_robust_without_wrong_labels_is_dpo() -> None:
    without, plain = LOSSES["robust"](one_pair(), RobustConfig(0.3, 0.0)), LOSSES["dpo"](one_pair(), DPOConfig(0.3))
    assert torch.equal(without.losses, plain.losses)


@settings(max_examples=30, deadline=None)
@given(st.floats(-5, 5), st.floats(0.05, 0.45))
def test_robust_is_unbiased_for_flipped_labels(margin, flipped) -> None:
    """(1 − ε)·loss(x) + ε·loss(−x) with wrong labels is the plain loss with right ones."""
    def robust(delta: float) -> Tensor:
        batch = PairedLogps(vector(delta), vector(0), vector(1), vector(1), vector(0), vector(0))
        return LOSSES["robust"](batch, RobustConfig(1.0, flipped)).losses

    mixed = (1 - flipped) * robust(margin) + flipped * robust(-margin)
    assert mixed.item() == pytest.approx(smoothed_preference(vector(margin)).item(), abs=1e-9)


def test_the_reward_form_of_ipo_is_the_summed_form_with_another_target() -> None:
    pair = one_pair()
    reward = LOSSES["ipo"](pair, IPOConfig(0.5, "reward")).losses.item()
    assert reward == pytest.approx(0.5**2 * (2 - 1 / 0.5**2) ** 2)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 500), st.integers(1, 500))
def test_automatic_class_weights_lie_in_the_range_of_the_paper(desirable, undesirable) -> None:
    weights = class_weights(desirable, undesirable, KTOConfig())
    ratio = weights[0] * desirable / (weights[1] * undesirable)
    assert 1 - 1e-9 <= ratio <= 4 / 3 + 1e-9
    assert min(weights) == 1.0


def test_class_weights_of_46_good_and_12_bad() -> None:
    assert class_weights(46, 12, KTOConfig()) == (1.0, 46 / 12)
    assert class_weights(46, 12, KTOConfig(desirable_weight=2.0, undesirable_weight=3.0)) == (2.0, 3.0)


def test_the_menu_and_the_losses_name_the_same_methods() -> None:
    assert list(METHODS) == list(LOSSES)
    for name, method in METHODS.items():
        assert method.name == name and method.title and method.about.endswith(".") and method.source
        assert all(spec.metadata["help"] for spec in fields(method))
