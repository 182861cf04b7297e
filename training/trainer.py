"""The loop: examples, a model and a config in, a trained adapter and its figures out. Knows no storage and no page.

Everything that depends on chance comes from the config's seed; on a CPU the same seed gives the same adapter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peft import PeftModel

from errors import DivergedError
from models.loading import LoadedModel, context_limit
from training import adapter
from training.checkpoint import Checkpoint, Checkpoints, collect, restore
from training.config import TrainingConfig
from training.distributed import Processes, Stopped
from training.learner import Learner, Metrics
from training.material import gather
from training.reference import ReferenceCache
from training.rows import Exclusion
from training.scoring import Scorer
from training.sharding import shard


@dataclass
class TrainingResult:
    """What a run leaves: the model with its adapter, the last metrics, and what was left out.

    stopped: somebody asked to stop before the end. steps: how many were taken, in this and in earlier sittings. held_out:
    the labels that were measured on and not learned from.
    """

    model: PeftModel
    summary: dict[str, Any] = field(default_factory=dict)
    left_out: list[Exclusion] = field(default_factory=list)
    stopped: bool = False
    steps: int = 0
    held_out: list[int] = field(default_factory=list)


def train(
    examples: Sequence[Any],
    loaded: LoadedModel,
    config: TrainingConfig,
    on_step: Callable[[int, Metrics], None] = lambda step, metrics: None,
    should_stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = lambda line: None,
    *,
    references: ReferenceCache | None = None,
    checkpoints: Checkpoints | None = None,
    processes: Processes | None = None,
    start: Path | None = None,
    learned: frozenset[int] = frozenset(),
) -> TrainingResult:
    """Train an adapter on a freshly loaded model, which is changed in place.

    examples: PairedExample or UnpairedExample, as the method wants. on_step: gets each step, counted from 1, with
    its metrics. should_stop: asked between forward passes. say: gets lines for the log. references: what is known
    of the base model's log-probs, and where new ones are kept. checkpoints: where the run goes on from and what it
    leaves there. Both are the leading process's. processes: those that share the work, each of which calls this
    with the same examples and config. start: the folder of the adapter to go on from, None for a fresh one;
    learned: the prompts that it knows, which are not held out.
    Raises ConfigError when too few examples are usable, TrainingError when the loss is not what the formula
    fixes at the start, or a checkpoint is not this run's, DivergedError when the loss is no number.
    """
    limit = context_limit(loaded.model) or config.max_length_tokens
    material = gather(examples, loaded.tokenizer, config, min(config.max_length_tokens, limit), learned)
    for line in material.lines:
        say(line)
    model = adapter.attach(loaded.model, config, start)
    scorer = Scorer(model, loaded.tokenizer.pad_token_id, loaded.device, config.tokens_per_forward, say)
    held_out = sorted({row.example.label_id for row in material.held_out})
    result = TrainingResult(model, left_out=material.left_out, held_out=held_out)
    processes = processes or Processes()
    if config.shard_base and processes.count > 1:
        say(shard(model, loaded.device, processes))
        scorer.begin_pass = processes.pace.begin_pass
    learner = Learner(
        model, scorer, material, config, loaded.dtype, result.summary, should_stop, say, processes, references
    )
    loop = _Loop(learner, config, checkpoints, should_stop, say)
    try:
        loop.run(on_step)
    except Stopped:
        loop.keep()
        result.stopped = True
    except DivergedError:
        loop.keep()
        raise
    result.steps = loop.done
    return result


class _Loop:
    """The order of a run: where it begins, its steps, and when what it has learned is kept."""

    def __init__(
        self,
        learner: Learner,
        config: TrainingConfig,
        checkpoints: Checkpoints | None,
        should_stop: Callable[[], bool],
        say: Callable[[str], None],
    ) -> None:
        self.learner, self.config, self.checkpoints = learner, config, checkpoints
        self.processes, self.should_stop, self.say = learner.processes, should_stop, say
        self.summary = learner.summary
        self.done = self.kept = self.measured = 0

    def run(self, on_step: Callable[[int, Metrics], None]) -> None:
        """Take the steps that are left. Raises Stopped in every process when one was asked to stop."""
        read = self.checkpoints.read if self.checkpoints is not None else lambda: None
        saved = self.processes.tell(self.processes.guard(read))
        started = time.perf_counter()
        self.learner.prepare()
        started -= self._begin(saved)
        stepping = time.perf_counter()
        while self.done < self.config.steps:
            self.processes.guard(self._heed)
            metrics = self.learner.step(self.done)
            self.done += 1
            now = time.perf_counter()
            metrics |= {
                "epoch": self.done * self.config.batch_size / len(self.learner.material.train),
                "seconds": now - started,
                "tokens_per_second": self.learner.tokens / max(now - stepping, 1e-9),
            }
            self.summary.update(metrics)
            try:
                self._evaluate(metrics)
            finally:
                on_step(self.done, metrics)
            if self.checkpoints is not None and self.checkpoints.is_due:
                self.keep()
        if self.measured < self.done:
            self.learner.measure_held_out("held_out")
        self.summary["seconds"] = time.perf_counter() - started

    def keep(self) -> None:
        """Write a checkpoint of what has been learned, unless the last one holds it already."""
        if self.checkpoints is not None and self.done > self.kept:
            saved = collect(self.done, self.learner.model, self.learner.optimiser, self.summary)
            # Where the memory ran out, it would again; and other parts of a batch are other last bits.
            saved.extra["tokens_per_forward"] = self.learner.scorer.tokens_per_forward
            if self.checkpoints.write(saved):
                self.kept = self.done

    def _begin(self, saved: Checkpoint | None) -> float:
        """Go on from a checkpoint, if there is one; return the seconds that the run has taken before."""
        if saved is None:
            self.learner.measure_held_out("held_out_before")
            return 0.0
        restore(saved, self.learner.model, self.learner.optimiser)
        self.done = self.kept = saved.step
        scorer = self.learner.scorer
        scorer.tokens_per_forward = min(scorer.tokens_per_forward, saved.extra["tokens_per_forward"])
        scored = self.summary.get("reference_seconds", 0.0)
        self.summary.update(saved.figures)
        if "reference_seconds" in self.summary:
            self.summary["reference_seconds"] += scored
        self.say(f"Taken up again after step {saved.step} of {self.config.steps}.")
        return saved.figures.get("seconds", 0.0)

    def _evaluate(self, metrics: Metrics) -> None:
        """Add what is held out to a step's metrics: as it was before, now and then as the config says, and last."""
        every, prefix = self.config.evaluate_every, "held_out_before/"
        if self.done == self.config.steps or (every and self.done % every == 0):
            self.learner.measure_held_out("held_out")
            self.measured, prefix = self.done, "held_out/"
        elif self.done > 1:
            return
        figures = {name: value for name, value in self.summary.items() if name.startswith(prefix)}
        metrics |= {f"held_out/{name.removeprefix(prefix)}": value for name, value in figures.items()}

    def _heed(self) -> None:
        if self.should_stop():
            raise Stopped
