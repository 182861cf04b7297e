"""Every loss, as a pure function of log-probs. Knows no model, no device and no batch order.

Conventions: `logps` are sums of natural-log probabilities over response tokens, float32; a `logratio` is policy
minus reference `logps`; a reward is β · logratio (for the reference-free methods β · mean log-prob per token).
One table, `LOSSES`; the settings of each, and its words, are in `methods.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from training.methods import (
    APODownConfig,
    APOZeroConfig,
    DPOConfig,
    HingeConfig,
    IPOConfig,
    KTOConfig,
    ORPOConfig,
    RobustConfig,
    SimPOConfig,
)

# Closest to certainty that a mean token probability is taken: log(1 − p) has no value at p = 1.
LARGEST_MEAN_LOGP = -1e-6


@dataclass(frozen=True)
class PairedLogps:
    """What a paired loss may look at; every tensor has shape [pairs].

    chosen, rejected: policy logps (sums). *_lengths: response tokens. reference_*: the base model's logps, None
    for methods that need none.
    """

    chosen: Tensor
    rejected: Tensor
    chosen_lengths: Tensor
    rejected_lengths: Tensor
    reference_chosen: Tensor | None = None
    reference_rejected: Tensor | None = None

    @property
    def logratios(self) -> tuple[Tensor, Tensor]:
        """Δ of chosen and of rejected, each [pairs]."""
        assert self.reference_chosen is not None and self.reference_rejected is not None
        return self.chosen - self.reference_chosen, self.rejected - self.reference_rejected

    @property
    def mean_logps(self) -> tuple[Tensor, Tensor]:
        """Log-probs per token of chosen and of rejected, each [pairs]."""
        return self.chosen / self.chosen_lengths, self.rejected / self.rejected_lengths


@dataclass(frozen=True)
class UnpairedLogps:
    """What an unpaired loss may look at; every tensor has shape [examples] but `kl`, a scalar.

    desirable: bool, from the labels. kl: z0 before clamping to ≥ 0, the mean log-ratio of mismatched responses
    over the whole effective batch, detached. weights: λ_D and λ_U.
    """

    logps: Tensor
    reference: Tensor
    desirable: Tensor
    kl: Tensor
    weights: tuple[float, float] = (1.0, 1.0)

    @property
    def chosen(self) -> Tensor:
        """Policy logps of the desirable responses."""
        return self.logps[self.desirable]

    @property
    def rejected(self) -> Tensor:
        """Policy logps of the undesirable responses."""
        return self.logps[~self.desirable]


@dataclass(frozen=True)
class LossResult:
    """losses: [examples], to be averaged over the effective batch. Rewards carry no gradient: [pairs] each for
    paired losses, [desirable examples] and [undesirable examples] for unpaired ones. anchor: the reward at
    which an unpaired response counts as right (β · z0, a scalar)."""

    losses: Tensor
    chosen_rewards: Tensor
    rejected_rewards: Tensor
    anchor: Tensor | None = None

    def correct(self, rounding: Tensor | float = 0.0) -> Tensor:
        """Return 1 where the model agrees with the label, ½ on a tie, else 0: one entry per example.

        rounding: rewards this far apart are equal. A fresh adapter is the base, but its sums of log-probs are
        added up in another order than the reference's were.
        """
        if self.anchor is None:
            return wins(self.chosen_rewards, self.rejected_rewards, rounding)
        return torch.cat(
            [wins(self.chosen_rewards, self.anchor, rounding), wins(self.anchor, self.rejected_rewards, rounding)]
        )


def wins(better: Tensor, worse: Tensor, rounding: Tensor | float = 0.0) -> Tensor:
    """Return 1 where better > worse, ½ where they are equal to within `rounding`, else 0."""
    lead = better - worse
    return 0.5 * ((lead > rounding).float() + (lead >= -rounding).float())


def bradley_terry(margins: Tensor) -> Tensor:
    """Return P(chosen ≻ rejected) = σ(r̂_w − r̂_l). The DPO gradient of a pair is weighted by 1 minus this."""
    return torch.sigmoid(margins)


def smoothed_preference(logits: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """−(1−ε)·log σ(x) − ε·log σ(−x): the loss of DPO (x = βδ) and of a reward model (x = r_w − r_l)."""
    return -(1 - label_smoothing) * F.logsigmoid(logits) - label_smoothing * F.logsigmoid(-logits)


def dpo(logps: PairedLogps, config: DPOConfig) -> LossResult:
    """−log σ(βδ), with label smoothing −(1−ε)·log σ(βδ) − ε·log σ(−βδ). arXiv 2305.18290 Eq. 7."""
    chosen, rejected = logps.logratios
    losses = smoothed_preference(config.beta * (chosen - rejected), config.label_smoothing)
    return _paired(losses, config.beta * chosen, config.beta * rejected)


def robust(logps: PairedLogps, config: RobustConfig) -> LossResult:
    """[−(1−ε)·log σ(βδ) + ε·log σ(−βδ)] ÷ (1−2ε). arXiv 2403.00409."""
    chosen, rejected = logps.logratios
    logits, flipped = config.beta * (chosen - rejected), config.label_smoothing
    losses = (-(1 - flipped) * F.logsigmoid(logits) + flipped * F.logsigmoid(-logits)) / (1 - 2 * flipped)
    return _paired(losses, config.beta * chosen, config.beta * rejected)


def hinge(logps: PairedLogps, config: HingeConfig) -> LossResult:
    """max(0, 1 − βδ). arXiv 2305.10425, relative to the reference."""
    chosen, rejected = logps.logratios
    losses = torch.relu(1 - config.beta * (chosen - rejected))
    return _paired(losses, config.beta * chosen, config.beta * rejected)


def ipo(logps: PairedLogps, config: IPOConfig) -> LossResult:
    """(h − 1/(2β))², h the difference of log-ratios, summed or per token. arXiv 2310.12036 Eq. 17 (β is τ there).

    Form `reward` is (βδ − 1/β)² = β²(δ − 1/β²)², which lecture notes give: another target. Rewards are β · Δ of
    the log-ratios that the form uses (means per token for `mean`).
    """
    chosen, rejected = logps.logratios
    if config.form == "mean":
        chosen, rejected = chosen / logps.chosen_lengths, rejected / logps.rejected_lengths
    lead = chosen - rejected
    if config.form == "reward":
        losses = (config.beta * lead - 1 / config.beta) ** 2
    else:
        losses = (lead - 1 / (2 * config.beta)) ** 2
    return _paired(losses, config.beta * chosen, config.beta * rejected)


def simpo(logps: PairedLogps, config: SimPOConfig) -> LossResult:
    """−log σ(β·mean_logps_w − β·mean_logps_l − γ). arXiv 2405.14734 Eq. 6. Rewards are β · mean_logps.

    Deviation: `nll_weight` > 0 adds that much of −mean_logps_w; the default 0 is the paper.
    """
    chosen, rejected = logps.mean_logps
    losses = smoothed_preference(config.beta * (chosen - rejected) - config.gamma) - config.nll_weight * chosen
    return _paired(losses, config.beta * chosen, config.beta * rejected)


def orpo(logps: PairedLogps, config: ORPOConfig) -> LossResult:
    """−mean_logps_w − λ·log σ(log odds_w − log odds_l), odds of mean_logps. arXiv 2403.07691; λ is `beta`.

    Rewards are λ · mean_logps. Deviation: a mean log-prob above −1e-6 counts as −1e-6, so odds stay finite.
    """
    chosen, rejected = logps.mean_logps
    losses = -chosen - config.beta * F.logsigmoid(_log_odds(chosen) - _log_odds(rejected))
    return _paired(losses, config.beta * chosen, config.beta * rejected)


def apo_zero(logps: PairedLogps, config: APOZeroConfig) -> LossResult:
    """(1 − σ(βΔ_w)) + σ(βΔ_l). arXiv 2408.06266."""
    chosen, rejected = (config.beta * logratios for logratios in logps.logratios)
    return _paired(torch.sigmoid(-chosen) + torch.sigmoid(rejected), chosen, rejected)


def apo_down(logps: PairedLogps, config: APODownConfig) -> LossResult:
    """σ(βΔ_w) + (1 − σ(βδ)). arXiv 2408.06266."""
    chosen, rejected = (config.beta * logratios for logratios in logps.logratios)
    return _paired(torch.sigmoid(chosen) + torch.sigmoid(rejected - chosen), chosen, rejected)


def kto(logps: UnpairedLogps, config: KTOConfig) -> LossResult:
    """Desirable: λ_D·(1 − σ(β(Δ − z0))); undesirable: λ_U·(1 − σ(β(z0 − Δ))). arXiv 2402.01306 Eq. 8.

    z0 = max(0, kl), without gradient; 0 for the reference point `zero`. 1 − σ(x) is computed as σ(−x).
    """
    kl = logps.kl.detach().clamp(min=0) if config.reference_point == "kl" else torch.zeros_like(logps.kl)
    logratios = logps.logps - logps.reference
    signs = torch.where(logps.desirable, 1.0, -1.0)
    weights = torch.where(logps.desirable, *logps.weights)
    losses = weights * torch.sigmoid(-signs * config.beta * (logratios - kl))
    rewards = (config.beta * logratios).detach()
    return LossResult(losses, rewards[logps.desirable], rewards[~logps.desirable], anchor=config.beta * kl)


LOSSES: dict[str, Callable[[Any, Any], LossResult]] = {
    loss.__name__: loss for loss in (dpo, kto, ipo, simpo, robust, hinge, orpo, apo_zero, apo_down)
}


def untrained(logps: PairedLogps | UnpairedLogps) -> PairedLogps | UnpairedLogps:
    """Return the same batch as an untrained adapter sees it: policy = reference, so every log-ratio is 0."""
    if isinstance(logps, PairedLogps):
        return replace(logps, chosen=logps.reference_chosen, rejected=logps.reference_rejected)
    return replace(logps, logps=logps.reference, kl=torch.zeros_like(logps.kl))


def _paired(losses: Tensor, chosen_rewards: Tensor, rejected_rewards: Tensor) -> LossResult:
    return LossResult(losses, chosen_rewards.detach(), rejected_rewards.detach())


def _log_odds(mean_logps: Tensor) -> Tensor:
    """log(p / (1 − p)) from log p, exact for p near 1."""
    mean_logps = mean_logps.clamp(max=LARGEST_MEAN_LOGP)
    return mean_logps - torch.log(-torch.expm1(mean_logps))
