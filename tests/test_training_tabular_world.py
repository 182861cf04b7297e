"""Where everything can be computed: DPO on infinite preferences finds the policy that the theory promises."""

from __future__ import annotations

import torch
from torch import Tensor

from training.losses import LOSSES, PairedLogps
from training.methods import DPOConfig


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# A tabular world: one prompt, a reference policy and a reward over five responses.
REFERENCE = vector(0.35, 0.25, 0.2, 0.15, 0.05)
REWARD = vector(0.3, -0.5, 1.0, 0.1, 1.5)
BETA = 0.5


def optimum(reward: Tensor) -> Tensor:
    """π*(y) ∝ π_ref(y)·exp(r(y) ÷ β)."""
    return torch.softmax(REFERENCE.log() + reward / BETA, 0)


def expected_dpo(logits: Tensor, reward: Tensor) -> Tensor:
    """The mean DPO loss over infinitely many Bradley–Terry preferences between all ordered pairs."""
    winner, loser = torch.cartesian_prod(torch.arange(5), torch.arange(5)).unbind(1)
    likely, ones = torch.sigmoid(reward[winner] - reward[loser]), torch.ones(25, dtype=torch.float64)
    logps, reference = logits.log_softmax(0), REFERENCE.log()
    batch = PairedLogps(logps[winner], logps[loser], ones, ones, reference[winner], reference[loser])
    return (likely * LOSSES["dpo"](batch, DPOConfig(BETA)).losses).mean()


def dpo_policy(reward: Tensor) -> Tensor:
    """Minimise `expected_dpo` over all policies."""
    logits = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = expected_dpo(logits, reward)
        loss.backward()
        return loss

    optimiser.step(closure)
    return logits.detach().softmax(0)


def test_dpo_recovers_the_optimal_policy_of_a_tabular_world() -> None:
    assert 0.5 * (dpo_policy(REWARD) - optimum(REWARD)).abs().sum() < 1e-3


def test_a_reward_added_to_every_response_of_a_prompt_changes_nothing() -> None:
    assert torch.allclose(dpo_policy(REWARD + 7.0), dpo_policy(REWARD), atol=1e-6)


def test_the_optimal_policy_beats_a_thousand_others() -> None:
    def objective(policy: Tensor) -> Tensor:
        return (policy * (REWARD - BETA * (policy.log() - REFERENCE.log()))).sum(-1)

    generator = torch.Generator().manual_seed(0)
    others = torch.randn(1000, 5, generator=generator, dtype=torch.float64).mul(2).softmax(-1)
    assert (objective(optimum(REWARD)) > objective(others)).all()
