"""What a run does with its rows: score the reference, take a step, measure what was held out. Knows no order of things.

Everything that depends on chance comes from the config's seed and the number of the step, so any step can be taken
again, by another process, with the same result. Does not know how many steps there are, checkpoints or the store.
"""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from peft import PeftModel

from errors import DivergedError, TrainingError
from models.prompting import Rendered
from training import adapter
from training.batching import BatchOrder
from training.config import TrainingConfig
from training.distributed import Processes, Stopped
from training.material import Material
from training.objective import Tally, objective_for
from training.reference import ReferenceCache, score_reference
from training.scoring import Scorer

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


class _Again(Exception):
    """The memory ran out, and the same batch may be tried in smaller parts."""


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
        processes: Processes,
        references: ReferenceCache | None = None,
    ) -> None:
        self.scorer, self.material, self.config, self.dtype = scorer, material, config, dtype
        self.summary, self.should_stop, self.say = summary, should_stop, say
        self.processes, self.references = processes, references
        self.objective = objective_for(config, material.train)
        self.order = BatchOrder(material.classes, config.batch_size, config.seed)
        self.model, self.weights = model, adapter.trainable(model)
        self.optimiser = torch.optim.AdamW(self.weights, lr=config.learning_rate, weight_decay=config.weight_decay)
        self.tokens = self._seed = 0

    def prepare(self) -> None:
        """Before the first step: prove that rows may be packed, and score with the base every row the run will see.

        Methods without a reference score none.
        """
        started = time.perf_counter()
        one_epoch = -(-self.order.count // self.order.batch_size)
        seen = {index for step in range(min(self.config.steps, one_epoch)) for index in self.order.indices(step)}
        examples = [*(self.material.train[index] for index in sorted(seen)), *self.material.held_out]
        rows = [row for example in examples for row in self.objective.referenced(example)]
        self.processes.guard(lambda: self.scorer.prove(rows))
        if not self.config.loss.needs_reference:
            return
        self.objective.reference = score_reference(
            self.scorer, rows, self.references, self.processes, self.should_stop
        )
        seconds = self.summary["reference_seconds"] = time.perf_counter() - started
        known = len(self.objective.reference) - self.objective.reference.computed
        self.say(
            f"Reference: {self.objective.reference.computed} responses scored by the base model in {seconds:.1f} s"
            f"{f', {known} known from before' if known else ''}."
        )

    def step(self, step: int) -> Metrics:
        """Take an optimiser step, counted from 0, and return its metrics. Raises TrainingError as `train` does."""
        # The adapter's dropout draws from this: the same in a run that was taken up again at this step.
        self._seed = random.Random(f"dropout {self.config.seed} {step} {self.processes.index}").getrandbits(63)
        torch.manual_seed(self._seed)
        batch = [self.material.train[index] for index in self.order.indices(step)]
        self.tokens += sum(len(row.ids) for example in batch for row in self.objective.referenced(example))
        metrics = self._passed(batch, learning=True)
        self.processes.add_up(self._gradients())
        if step == 0:
            self._check_first(metrics)
        metrics.pop("untrained", None)
        metrics["grad_norm"] = float(torch.nn.utils.clip_grad_norm_(self.weights, self.config.max_grad_norm))
        metrics["learning_rate"] = learning_rate_at(step, self.config)
        if (peak := peak_memory_bytes(self.scorer.device)) is not None:
            metrics["peak_memory_bytes"] = peak
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
        if self.config.start_run:
            self.say(f"The first loss, of run {self.config.start_run}'s adapter, is {loss:.4f}; an untrained one's {expected:.4f}.")
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
            metrics = self._passed(self.material.held_out, learning=False)
        self.summary |= {f"{prefix}/{name}": metrics[key] for name, key in HELD_OUT_FIGURES.items()}
        self.say(
            f"Held out ({len(self.material.held_out)}): loss {metrics['loss']:.4f},"
            f" accuracy {metrics['rewards/accuracies']:.2f}."
        )

    def _passed(self, examples: list[Any], learning: bool) -> Metrics:
        """Score a batch, each process its share; return the metrics of all of it.

        learning: also gather this share's part of the batch's gradient.
        """
        mine = self.processes.share(examples)
        tally = Tally(self.config)
        shared = self._shared(mine)

        def work() -> dict[str, torch.Tensor]:
            parts = self._parts(mine, self.objective.referenced if shared is None else self.objective.scored)
            for part in parts:
                if not learning and self.should_stop():
                    raise Stopped
                try:
                    losses = tally.add(self.objective.logps([mine[place] for place in part], self.scorer, shared))
                    if learning:
                        (losses / len(examples)).backward()
                except Exception as error:
                    self.scorer.recover(error, max(map(len, parts)))
                    raise _Again from error
            return tally.values()

        def insist() -> dict[str, torch.Tensor]:
            nonlocal shared
            while True:
                try:
                    return work()
                except _Again:  # what was gathered so far may be half of something, so it is all done again
                    tally.clear()
                    self.optimiser.zero_grad(set_to_none=True)
                    torch.manual_seed(self._seed)
                    shared = self._shared(mine) if shared is None else shared

        tally.join(self.processes.each(insist))
        return tally.metrics()

    def _shared(self, mine: list[Any]) -> float | None:
        """Return what `Objective.logps` wants to know of the whole batch; None when one pass computes it all."""
        if self.processes.count == 1 and len(self._parts(mine, self.objective.referenced)) <= 1:
            return None
        sums = self.processes.each(lambda: self.objective.shared(mine, self.scorer))
        return sum(total for total, _ in sums) / max(1, sum(count for _, count in sums))

    def _parts(self, examples: list[Any], rows: Callable[[Any], list[Rendered]]) -> list[list[int]]:
        return self.scorer.parts([rows(example) for example in examples])

    def _gradients(self) -> list[torch.Tensor]:
        """Return the adapter's gradients; zeros where this process had no example."""
        for weight in self.weights:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        return [weight.grad for weight in self.weights]


def peak_memory_bytes(device: torch.device) -> int | None:
    """Return the most memory this process has held at once: of the GPU it trains on, else of the machine.

    None where the system does not say.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
