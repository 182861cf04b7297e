"""The loop: examples, a model and a config in, a trained adapter and its figures out. Knows no storage and no page.

Everything that depends on chance comes from the config's seed; on a CPU the same seed gives the same adapter.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import PeftModel

from errors import TrainingError
from models.loading import LoadedModel, context_limit
from training import adapter
from training.batching import BatchOrder, micro_batches
from training.config import TrainingConfig
from training.material import Material, gather
from training.objective import Tally, objective_for
from training.reference import Scorer, Stopped
from training.rows import Exclusion

Metrics = dict[str, float]
# How far the first loss may be from what the formula fixes, relative and absolute, by precision of the model.
TOLERANCES = {torch.float32: 1e-3, torch.float64: 1e-6}
LOW_PRECISION_TOLERANCE = 0.1
HELD_OUT_FIGURES = {"loss": "loss", "accuracies": "rewards/accuracies"}


@dataclass
class TrainingResult:
    """What a run leaves: the model with its adapter, the last metrics, and what was left out.

    stopped: somebody asked to stop before the last step.
    """

    model: PeftModel
    summary: dict[str, Any] = field(default_factory=dict)
    left_out: list[Exclusion] = field(default_factory=list)
    stopped: bool = False


def learning_rate_at(step: int, config: TrainingConfig) -> float:
    """Return the learning rate of a step, counted from 0: a linear rise, then a linear fall that ends at 0."""
    warmup = round(config.warmup_ratio * config.steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    return config.learning_rate * (config.steps - step) / max(1, config.steps - warmup)


def train(
    examples: Sequence[Any],
    loaded: LoadedModel,
    config: TrainingConfig,
    on_step: Callable[[int, Metrics], None] = lambda step, metrics: None,
    should_stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = lambda line: None,
) -> TrainingResult:
    """Train an adapter on a freshly loaded model, which is changed in place.

    examples: PairedExample or UnpairedExample, as the method wants. on_step: gets each step, counted from 1, with
    its metrics. should_stop: asked between forward passes. say: gets lines for the log.
    Raises ConfigError when too few examples are usable, TrainingError when the loss is not what the formula
    fixes at the start, or not finite.
    """
    limit = context_limit(loaded.model) or config.max_length_tokens
    material = gather(examples, loaded.tokenizer, config, min(config.max_length_tokens, limit))
    for line in material.lines:
        say(line)
    model = adapter.attach(loaded.model, config)
    scorer = Scorer(model, loaded.tokenizer.pad_token_id, loaded.device, config.tokens_per_forward)
    result = TrainingResult(model, left_out=material.left_out)
    loop = _Loop(model, scorer, material, config, loaded.dtype, result.summary, should_stop, say)
    try:
        for step, metrics in loop.steps():
            on_step(step, metrics)
    except Stopped:
        result.stopped = True
    return result


class _Loop:
    """The state of one run while it trains. summary: filled as figures become known."""

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
        self.weights = adapter.trainable(model)
        self.optimiser = torch.optim.AdamW(self.weights, lr=config.learning_rate, weight_decay=config.weight_decay)

    def steps(self) -> Iterator[tuple[int, Metrics]]:
        """Run the steps, giving each, counted from 1, with its metrics."""
        started = time.perf_counter()
        self._reference()
        self._held_out("held_out_before")
        tokens, stepping = 0, time.perf_counter()
        for step in range(self.config.steps):
            if self.should_stop():
                raise Stopped
            batch = [self.material.train[index] for index in self.order.indices(step)]
            metrics = self._step(step, batch)
            tokens += sum(len(row.ids) for example in batch for row in self.objective.referenced(example))
            now = time.perf_counter()
            metrics |= {
                "epoch": (step + 1) * self.config.batch_size / len(self.material.train),
                "seconds": now - started,
                "tokens_per_second": tokens / max(now - stepping, 1e-9),
            }
            self.summary.update(metrics)
            yield step + 1, metrics
        self._held_out("held_out")
        self.summary["seconds"] = time.perf_counter() - started

    def _reference(self) -> None:
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

    def _step(self, step: int, batch: list[Any]) -> Metrics:
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
        raise TrainingError(
            f"The loss or its gradient stopped being a number at step {step + 1}, with a learning rate of"
            f" {metrics['learning_rate']:.2g}. Lower learning_rate (or raise beta) and train again."
        )

    @torch.no_grad()
    def _held_out(self, prefix: str) -> None:
        """Measure the held-out examples, if there are any."""
        examples = self.material.held_out
        if not examples:
            return
        shared = self.objective.shared(examples, self.scorer)
        lengths = [[len(row.ids) for row in self.objective.scored(example)] for example in examples]
        tally = Tally(self.config)
        for part in micro_batches(lengths, self.config.tokens_per_forward):
            if self.should_stop():
                raise Stopped
            tally.add(self.objective.logps([examples[place] for place in part], self.scorer, shared))
        metrics = tally.metrics()
        self.summary |= {f"{prefix}/{name}": metrics[key] for name, key in HELD_OUT_FIGURES.items()}
        self.say(
            f"Held out ({len(examples)}): loss {metrics['loss']:.4f}, accuracy {metrics['rewards/accuracies']:.2f}."
        )
