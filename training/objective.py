"""What is measured in a step: rows → log-probs → one loss, for pairs and for single responses.

The two objectives differ in what a batch is, so that the trainer's loop need not. Does not know optimisers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from models.prompting import Rendered
from training.config import TrainingConfig
from training.losses import LOSSES, LossResult, PairedLogps, UnpairedLogps, bradley_terry, untrained
from training.methods import KTOConfig, class_weights
from training.reference import ReferenceLogps
from training.rows import PairRows, ResponseRows
from training.scoring import Scorer

# Rounding of a sum of log-probs in float32, relative to its size: two of them, from lines packed differently.
ROUNDING = 2e-6


class Objective(Protocol):
    """Turns examples into a loss. `reference` is set before the first step when the method needs it."""

    reference: ReferenceLogps | None

    def scored(self, example: Any) -> list[Rendered]:
        """Return the rows of an example that gradients go through."""

    def referenced(self, example: Any) -> list[Rendered]:
        """Return the rows of an example that need a reference."""

    def shared(self, examples: Sequence[Any], scorer: Scorer) -> tuple[float, int]:
        """Compute what all parts of an effective batch share, without gradient: a sum, and over how many rows.

        The mean over all processes' sums is what `logps` takes.
        """

    def logps(self, examples: Sequence[Any], scorer: Scorer, shared: float | None) -> PairedLogps | UnpairedLogps:
        """Score the examples of one forward pass. shared: None when they are the whole batch."""


class PairedObjective:
    """Pairs: chosen against rejected."""

    def __init__(self) -> None:
        self.reference: ReferenceLogps | None = None

    def scored(self, example: PairRows) -> list[Rendered]:
        """Return chosen and rejected."""
        return [example.chosen, example.rejected]

    referenced = scored

    def shared(self, examples: Sequence[PairRows], scorer: Scorer) -> tuple[float, int]:
        """Pairs share nothing."""
        return 0.0, 0

    def logps(self, examples: Sequence[PairRows], scorer: Scorer, shared: float | None = None) -> PairedLogps:
        """Score all chosen and rejected in one pass; tensors of shape [pairs]."""
        rows = [*(pair.chosen for pair in examples), *(pair.rejected for pair in examples)]
        logps, lengths = scorer.policy(rows)
        references = () if self.reference is None else self.reference.of(rows).chunk(2)
        return PairedLogps(*logps.chunk(2), *lengths.chunk(2), *references)


class UnpairedObjective:
    """Single responses, good or bad, against the reference point z0. weights: λ_D and λ_U."""

    def __init__(self, config: KTOConfig, weights: tuple[float, float]) -> None:
        self.reference: ReferenceLogps | None = None
        self.weights = weights
        self._measures_kl = config.reference_point == "kl"

    def scored(self, example: ResponseRows) -> list[Rendered]:
        """Return the response."""
        return [example.response]

    def referenced(self, example: ResponseRows) -> list[Rendered]:
        """Return the response and, where z0 is measured, the mismatched one."""
        return [example.response, *self._mismatched([example])]

    def shared(self, examples: Sequence[ResponseRows], scorer: Scorer) -> tuple[float, int]:
        """Return the sum of the log-ratios of the mismatched responses, and how many there are."""
        rows = self._mismatched(examples)
        if not rows:
            return 0.0, 0
        assert self.reference is not None
        return float((scorer.policy_without_gradient(rows) - self.reference.of(rows)).sum()), len(rows)

    def logps(self, examples: Sequence[ResponseRows], scorer: Scorer, shared: float | None) -> UnpairedLogps:
        """Score the responses in one pass; tensors of shape [examples].

        shared: the mean log-ratio behind z0. None when the examples are the whole batch: then the mismatched
        responses, which follow the same prompts, are scored in the same pass.
        """
        rows = [example.response for example in examples]
        mismatched = self._mismatched(examples) if shared is None else []
        assert self.reference is not None
        logps = scorer.policy([*rows, *mismatched])[0]
        kl = torch.tensor(shared or 0.0, device=logps.device)
        if mismatched:
            kl = (logps[len(rows) :].detach() - self.reference.of(mismatched)).mean()
        desirable = torch.tensor([example.desirable for example in examples], device=logps.device)
        return UnpairedLogps(logps[: len(rows)], self.reference.of(rows), desirable, kl, self.weights)

    def _mismatched(self, examples: Sequence[ResponseRows]) -> list[Rendered]:
        if not self._measures_kl:
            return []
        return [example.mismatched for example in examples if example.mismatched is not None]


def objective_for(config: TrainingConfig, examples: Sequence[Any]) -> PairedObjective | UnpairedObjective:
    """Return the objective of a config's method; class weights follow the training examples."""
    if config.loss.paired:
        return PairedObjective()
    assert isinstance(config.loss, KTOConfig)
    desirable = sum(example.desirable for example in examples)
    return UnpairedObjective(config.loss, class_weights(desirable, len(examples) - desirable, config.loss))


@torch.no_grad()
def margins(
    pairs: Sequence[PairRows],
    scorer: Scorer,
    reference: ReferenceLogps | None,
    config: TrainingConfig,
    should_stop: Callable[[], bool] = lambda: False,
) -> Tensor:
    """Return the reward of chosen minus that of rejected, float32 [pairs], of any number of pairs.

    Rewards are what the method's loss calls so. reference: None for methods that need none. Raises Stopped when asked.
    """
    rows = [*(pair.chosen for pair in pairs), *(pair.rejected for pair in pairs)]
    logps = scorer.policy_without_gradient(rows, should_stop)
    references = [] if reference is None else [reference.of(rows)]
    if config.loss.paired:
        lengths = torch.tensor([float(len(row.response_ids)) for row in rows], device=logps.device)
        scored = PairedLogps(*(half for each in (logps, lengths, *references) for half in each.chunk(2)))
    else:
        desirable = torch.arange(len(rows), device=logps.device) < len(pairs)
        scored = UnpairedLogps(logps, *references, desirable, torch.zeros((), device=logps.device))
    result = LOSSES[config.method](scored, config.loss)
    return result.chosen_rewards - result.rejected_rewards


def contradictions(margins: Tensor, preferred: Sequence[int | None]) -> list[float | None]:
    """Return how much each margin speaks against a choice, 0 to 1: the weight that its gradient would have in DPO.

    margins: [pairs], of the first response over the second. preferred: which of the two, 0 or 1, or None.
    """
    signs = torch.tensor([-1.0 if place == 1 else 1.0 for place in preferred], device=margins.device)
    weights = bradley_terry(-signs * margins).tolist()
    return [None if place is None else weight for place, weight in zip(preferred, weights)]


class Tally:
    """Gathers the results of the parts of one effective batch into its metrics."""

    def __init__(self, config: TrainingConfig) -> None:
        self._config = config
        self._parts: dict[str, list[Tensor]] = {}

    def add(self, logps: PairedLogps | UnpairedLogps) -> Tensor:
        """Compute the loss of one part; return its sum over examples, to be averaged over the effective batch."""
        loss: Callable[[Any, Any], LossResult] = LOSSES[self._config.method]
        result = loss(logps, self._config.loss)
        gathered = {
            "loss": result.losses,
            "rewards/chosen": result.chosen_rewards,
            "rewards/rejected": result.rejected_rewards,
            "rewards/accuracies": result.correct(self._rounding(logps)),
            "logps/chosen": logps.chosen,
            "logps/rejected": logps.rejected,
        }
        if isinstance(logps, UnpairedLogps):
            gathered["kl"] = logps.kl.clamp(min=0).reshape(1)
        elif logps.reference_chosen is not None:
            # KL(base ‖ policy), for responses that the base model wrote: the mean of base minus policy logps.
            gathered["kl"] = -torch.cat(logps.logratios)
        if self._config.loss.needs_reference:
            gathered["untrained"] = loss(untrained(logps), self._config.loss).losses
        for name, values in gathered.items():
            self._parts.setdefault(name, []).append(values.detach())
        return result.losses.sum()

    def _rounding(self, logps: PairedLogps | UnpairedLogps) -> Tensor | float:
        """Return how far apart rewards are that only differ in rounding; 0 where nothing is subtracted."""
        if not self._config.loss.needs_reference:
            return 0.0
        return self._config.loss.beta * ROUNDING * torch.cat([logps.chosen, logps.rejected]).detach().abs().max()

    def clear(self) -> None:
        """Forget what was gathered, for a batch that is scored again."""
        self._parts = {}

    def join(self, others: Sequence[dict[str, Tensor]]) -> None:
        """Take the `values` of all processes, this one's among them, in place of its own."""
        self._parts = {}
        for values in others:
            for name, part in values.items():
                self._parts.setdefault(name, []).append(part)

    def values(self) -> dict[str, Tensor]:
        """Return what was gathered, on the CPU, to be sent to other processes."""
        return {name: torch.cat(parts).cpu() for name, parts in self._parts.items()}

    def metrics(self) -> dict[str, float]:
        """Return the means over the effective batch; a class that had no example in it has no figure.

        `untrained` is the loss that the same batch gives when policy = reference.
        """
        means = torch.stack([torch.cat(parts).float().mean() for parts in self._parts.values()]).tolist()
        values = {name: mean for name, mean in zip(self._parts, means) if mean == mean or name == "loss"}
        if "rewards/chosen" in values and "rewards/rejected" in values:
            values["rewards/margins"] = values["rewards/chosen"] - values["rewards/rejected"]
        return values
