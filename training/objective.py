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
from training.losses import LOSSES, LossResult, PairedLogps, UnpairedLogps, untrained
from training.methods import KTOConfig, class_weights
from training.reference import ReferenceLogps, Scorer
from training.rows import PairRows, ResponseRows


class Objective(Protocol):
    """Turns examples into a loss. `reference` is set before the first step when the method needs it."""

    reference: ReferenceLogps | None

    def scored(self, example: Any) -> list[Rendered]:
        """Return the rows of an example that gradients go through."""

    def referenced(self, example: Any) -> list[Rendered]:
        """Return the rows of an example that need a reference."""

    def shared(self, examples: Sequence[Any], scorer: Scorer) -> Tensor | None:
        """Compute what all parts of an effective batch share, without gradient."""

    def logps(self, examples: Sequence[Any], scorer: Scorer, shared: Tensor | None) -> PairedLogps | UnpairedLogps:
        """Score the examples of one forward pass."""


class PairedObjective:
    """Pairs: chosen against rejected."""

    def __init__(self) -> None:
        self.reference: ReferenceLogps | None = None

    def scored(self, example: PairRows) -> list[Rendered]:
        """Return chosen and rejected."""
        return [example.chosen, example.rejected]

    referenced = scored

    def shared(self, examples: Sequence[PairRows], scorer: Scorer) -> None:
        """Pairs share nothing."""

    def logps(self, examples: Sequence[PairRows], scorer: Scorer, shared: Tensor | None = None) -> PairedLogps:
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

    def shared(self, examples: Sequence[ResponseRows], scorer: Scorer) -> Tensor:
        """Return the mean log-ratio of the mismatched responses of a whole effective batch, a scalar."""
        rows = self._mismatched(examples)
        if not rows:
            return torch.zeros(())
        assert self.reference is not None
        return (scorer.policy_without_gradient(rows)[0] - self.reference.of(rows)).mean()

    def logps(self, examples: Sequence[ResponseRows], scorer: Scorer, shared: Tensor | None) -> UnpairedLogps:
        """Score the responses in one pass; tensors of shape [examples]."""
        rows = [example.response for example in examples]
        assert self.reference is not None and shared is not None
        logps, _ = scorer.policy(rows)
        desirable = torch.tensor([example.desirable for example in examples], device=logps.device)
        return UnpairedLogps(logps, self.reference.of(rows), desirable, shared.to(logps.device), self.weights)

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
            "rewards/accuracies": result.correct(),
            "logps/chosen": logps.chosen,
            "logps/rejected": logps.rejected,
        }
        if isinstance(logps, UnpairedLogps):
            gathered["kl"] = logps.kl.clamp(min=0).reshape(1)
        if self._config.loss.needs_reference:
            gathered["untrained"] = loss(untrained(logps), self._config.loss).losses
        for name, values in gathered.items():
            self._parts.setdefault(name, []).append(values.detach())
        return result.losses.sum()

    def metrics(self) -> dict[str, float]:
        """Return the means over the effective batch; a class that had no example in it has no figure.

        `untrained` is the loss that the same batch gives when policy = reference.
        """
        means = torch.stack([torch.cat(parts).float().mean() for parts in self._parts.values()]).tolist()
        values = {name: mean for name, mean in zip(self._parts, means) if mean == mean or name == "loss"}
        if "rewards/chosen" in values and "rewards/rejected" in values:
            values["rewards/margins"] = values["rewards/chosen"] - values["rewards/rejected"]
        return values
