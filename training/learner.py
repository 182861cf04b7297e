"""What a run does with its rows: score the reference, take a step, measure what was held out. Knows no order of things.

Everything that depends on chance comes from the config's seed and the number of the step, so any step can be taken
again, by another process, with the same result. Does not know how many steps there are, checkpoints or the store.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from typing import Any

import torch
from peft import PeftModel

from errors import DivergedError, TrainingError
from training import adapter
from training.batching import BatchOrder, micro_batches
from training.config import TrainingConfig
from training.distributed import Stopped
from training.material import Material
from training.objective import Tally, objective_for
from training.reference import Scorer

Metrics = dict[str, float]
# How far the first loss may be from what the formula fixes, relative and absolute, by precision of the model.
TOLERANCES = {torch.float32: 1e-3, torch.float64: 1e-6}
LOW_PRECISION_TOLERANCE = 0.1
HELD_OUT_FIGURES = {"loss": "loss", "accuracies": "rewards/accuracies"}


def learning_rate_at(step: int, config: TrainingConfig) -> float:
    """Return the learning rate of a step, counted from 0: a linear rise, then a linear fall that ends at 0."""
    warmup = round(config.warmup_ratio * config.steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    return config.learning_rate * (config.steps - step) / max(1, config.steps - warmup)


class Learner:
    """The model, its rows and its optimiser while they train. summary: filled as figures become known."""

    def __init__(
        self,
        model: PeftModel,
        scorer: Scorer,
        material: Material,
        config: TrainingConfig,
        dtype: torch.dtype,
        summary: dict[str, Any],
        should_stop: Callable[[], bool],
        say: Callable[[str], None],
    ) -> None:
        self.scorer, self.material, self.config, self.dtype = scorer, material, config, dtype
        self.summary, self.should_stop, self.say = summary, should_stop, say
        self.objective = objective_for(config, material.train)
        self.order = BatchOrder(material.classes, config.batch_size, config.seed)
        self.model, self.weights = model, adapter.trainable(model)
        self.optimiser = torch.optim.AdamW(self.weights, lr=config.learning_rate, weight_decay=config.weight_decay)
        self.tokens = 0

    def score_reference(self) -> None:
        """Score every row that the run will see with the base, once, before the first step.

        Methods without a reference score none.
        """
        if not self.config.loss.needs_reference:
            return
        started = time.perf_counter()
        seen = {index for step in range(self.config.steps) for index in self.order.indices(step)}
        examples = [*(self.material.train[index] for index in sorted(seen)), *self.material.held_out]
        rows = [row for example in examples for row in self.objective.referenced(example)]
        self.objective.reference = self.scorer.reference(rows, self.should_stop)
        seconds = self.summary["reference_seconds"] = time.perf_counter() - started
        self.say(f"Reference: {len(self.objective.reference)} responses scored by the base model in {seconds:.1f} s.")

    def step(self, step: int) -> Metrics:
        """Take an optimiser step, counted from 0, and return its metrics. Raises TrainingError as `train` does."""
        # The adapter's dropout draws from this: the same in a run that was taken up again at this step.
        torch.manual_seed(random.Random(f"dropout {self.config.seed} {step}").getrandbits(63))
        batch = [self.material.train[index] for index in self.order.indices(step)]
        self.tokens += sum(len(row.ids) for example in batch for row in self.objective.referenced(example))
        shared = self.objective.shared(batch, self.scorer)
        lengths = [[len(row.ids) for row in self.objective.scored(example)] for example in batch]
        tally = Tally(self.config)
        for part in micro_batches(lengths, self.config.tokens_per_forward):
            logps = self.objective.logps([batch[place] for place in part], self.scorer, shared)
            (tally.add(logps) / len(batch)).backward()
        metrics = tally.metrics()
        if step == 0:
            self._check_first(metrics)
        metrics.pop("untrained", None)
        metrics["grad_norm"] = float(torch.nn.utils.clip_grad_norm_(self.weights, self.config.max_grad_norm))
        metrics["learning_rate"] = learning_rate_at(step, self.config)
        self._check_finite(step, metrics)
        for group in self.optimiser.param_groups:
            group["lr"] = metrics["learning_rate"]
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return metrics

    def _check_first(self, metrics: Metrics) -> None:
        """Compare the first loss with what the formula gives when policy = reference."""
        loss, expected = metrics["loss"], metrics.get("untrained")
        self.summary["first_loss"] = loss
        if expected is None:
            self.say(f"The first loss is {loss:.4f}; without a reference no formula fixes it.")
            return
        self.say(f"An untrained adapter gives a loss of {expected:.4f} by the formula; the first loss is {loss:.4f}.")
        tolerance = TOLERANCES.get(self.dtype, LOW_PRECISION_TOLERANCE)
        if math.isfinite(loss) and not math.isclose(loss, expected, rel_tol=tolerance, abs_tol=tolerance):
            raise TrainingError(
                f"The first {self.config.loss.title} loss is {loss:.4f}, but an untrained adapter must give"
                f" {expected:.4f}: {self.config.model} scores the same text differently from one pass to the next,"
                " so it cannot be trained reliably. Try device cpu, another model, or SimPO, which needs no reference."
            )

    def _check_finite(self, step: int, metrics: Metrics) -> None:
        if math.isfinite(metrics["loss"]) and math.isfinite(metrics["grad_norm"]):
            return
        raise DivergedError(
            f"The loss or its gradient stopped being a number at step {step + 1}, with a learning rate of"
            f" {metrics['learning_rate']:.2g}. Lower learning_rate (or raise beta) and train again:"
            " resumed, this run would end here again, for it keeps its settings."
        )

    @torch.no_grad()
    def measure_held_out(self, prefix: str) -> None:
        """Measure the held-out examples, if there are any; the figures go to the summary under `prefix`."""
        if not self.material.held_out:
            return
        with adapter.without_dropout(self.model):
            metrics = self._measured(self.material.held_out)
        self.summary |= {f"{prefix}/{name}": metrics[key] for name, key in HELD_OUT_FIGURES.items()}
        self.say(
            f"Held out ({len(self.material.held_out)}): loss {metrics['loss']:.4f},"
            f" accuracy {metrics['rewards/accuracies']:.2f}."
        )

    def _measured(self, examples: list[Any]) -> Metrics:
        shared = self.objective.shared(examples, self.scorer)
        lengths = [[len(row.ids) for row in self.objective.scored(example)] for example in examples]
        tally = Tally(self.config)
        for part in micro_batches(lengths, self.config.tokens_per_forward):
            if self.should_stop():
                raise Stopped
            tally.add(self.objective.logps([examples[place] for place in part], self.scorer, shared))
        return tally.metrics()
