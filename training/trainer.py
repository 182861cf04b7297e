"""The loop: examples, a model and a config in, a trained adapter and its figures out. Knows no storage and no page.

Everything that depends on chance comes from the config's seed; on a CPU the same seed gives the same adapter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from peft import PeftModel

from models.loading import LoadedModel, context_limit
from training import adapter
from training.config import TrainingConfig
from training.distributed import Stopped
from training.learner import Learner, Metrics
from training.material import gather
from training.reference import Scorer
from training.rows import Exclusion


@dataclass
class TrainingResult:
    """What a run leaves: the model with its adapter, the last metrics, and what was left out.

    stopped: somebody asked to stop before the last step.
    """

    model: PeftModel
    summary: dict[str, Any] = field(default_factory=dict)
    left_out: list[Exclusion] = field(default_factory=list)
    stopped: bool = False


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
    learner = Learner(model, scorer, material, config, loaded.dtype, result.summary, should_stop, say)
    try:
        for step, metrics in _steps(learner, config, should_stop):
            on_step(step, metrics)
    except Stopped:
        result.stopped = True
    return result


def _steps(learner: Learner, config: TrainingConfig, should_stop: Callable[[], bool]) -> Iterator[tuple[int, Metrics]]:
    """Run the steps, giving each, counted from 1, with its metrics."""
    started = time.perf_counter()
    learner.score_reference()
    learner.measure_held_out("held_out_before")
    stepping = time.perf_counter()
    for step in range(config.steps):
        if should_stop():
            raise Stopped
        metrics = learner.step(step)
        now = time.perf_counter()
        metrics |= {
            "epoch": (step + 1) * config.batch_size / len(learner.material.train),
            "seconds": now - started,
            "tokens_per_second": learner.tokens / max(now - stepping, 1e-9),
        }
        learner.summary.update(metrics)
        yield step + 1, metrics
    learner.measure_held_out("held_out")
    learner.summary["seconds"] = time.perf_counter() - started
