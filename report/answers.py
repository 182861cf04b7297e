"""The same prompts answered before and after training, and how far an answer of the run is from the base.

Tokens are scored as they were drawn, never read back from text. Does not know labels or the store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from peft import PeftModel

from models.adapters import AdapterSet
from models.decoding import Decoder, Row
from models.loading import LoadedModel
from models.prompting import Rendered
from models.wire import Sampling
from report.intervals import Interval, mean
from report.measured import Sample
from training.distributed import Stopped
from training.reference import score_reference
from training.scoring import Scorer

MOST_PROMPTS = 24
MAX_TOKENS = 256
TEMPERATURE = 0.8  # what Chat answers with


@dataclass(frozen=True)
class Answered:
    """Answers of both, the tokens of one before and after, and the distance from the base, in nats an answer."""

    samples: tuple[Sample, ...] = ()
    lengths: tuple[Interval | None, Interval | None] = (None, None)
    kl: Interval | None = None
    kl_per_token: float | None = None


def prompts_of(held_out: Sequence[Any], train: Sequence[Any], most: int = MOST_PROMPTS) -> list[tuple[Any, bool]]:
    """Return rows of at most so many different prompts, those held out first, each with whether it was."""
    found: dict[int, tuple[Any, bool]] = {}
    for rows, is_held_out in ((held_out, True), (train, False)):
        for row in rows:
            if len(found) < most:
                found.setdefault(row.example.prompt_id, (row, is_held_out))
    return list(found.values())


def answer(
    loaded: LoadedModel,
    model: PeftModel,
    name: str,
    scorer: Scorer,
    chosen: Sequence[tuple[Any, bool]],
    should_stop: Callable[[], bool] = lambda: False,
) -> Answered:
    """Answer prompts with the base and with the run, from the same seeds, and measure the distance between them.

    The distance is the mean of log p(run) − log p(base) over answers of the run at temperature 1, where that mean is
    the KL divergence; the answers that are shown are drawn at `TEMPERATURE`. name: the base model's.
    chosen: of `prompts_of`. Raises Stopped when asked to.
    """
    if not chosen:
        return Answered()
    prompts = [_prompt_ids(row) for row, _ in chosen]
    plain = LoadedModel(model.get_base_model(), loaded.tokenizer, loaded.device, loaded.dtype, name)
    adapters = AdapterSet(plain.model, name)  # peft holds the run's own

    def drawn(temperature: float, first_seed: int = 0) -> list[Row]:
        samplings = [Sampling(temperature, max_tokens=MAX_TOKENS, seed=first_seed + place) for place in range(len(prompts))]
        return [Row(ids, sampling) for ids, sampling in zip(prompts, samplings)]

    before, after, measured = drawn(TEMPERATURE), drawn(TEMPERATURE), drawn(1.0, len(prompts))
    for rows, of_base in ((before, True), ([*after, *measured], False)):
        with ExitStack() as stack:
            if of_base:
                stack.enter_context(model.disable_adapter())
            _decode(Decoder(plain, adapters), rows, should_stop)
    samples = [
        _sample(row, is_held_out, loaded.tokenizer, first, second)
        for (row, is_held_out), first, second in zip(chosen, before, after)
    ]
    groups = [sample.prompt_id for sample in samples]
    distances, tokens = _distances(scorer, measured, should_stop)
    return Answered(
        tuple(samples),
        tuple(mean([float(sample.tokens[side]) for sample in samples], groups) for side in (0, 1)),
        mean(distances, groups),
        sum(distances) / tokens,
    )


def _decode(decoder: Decoder, rows: list[Row], should_stop: Callable[[], bool]) -> None:
    decoder.admit(rows)
    while decoder.rows:
        if should_stop():
            raise Stopped
        decoder.step()


def _prompt_ids(row: Any) -> list[int]:
    rendered: Rendered = row.chosen if hasattr(row, "chosen") else row.response
    return rendered.ids[: rendered.prompt_length]


def _sample(row: Any, held_out: bool, tokenizer: Any, before: Row, after: Row) -> Sample:
    texts = [tokenizer.decode(each.new_ids, skip_special_tokens=True).strip() for each in (before, after)]
    return Sample(
        row.example.prompt_id, held_out, row.example.messages[-1]["content"], *texts,
        (len(before.new_ids), len(after.new_ids)), (before.finish_reason == "length", after.finish_reason == "length"),
    )


def _distances(scorer: Scorer, drawn: Sequence[Row], should_stop: Callable[[], bool]) -> tuple[list[float], int]:
    """Return log p(run) − log p(base) of each answer, its end included, and how many tokens all have."""
    rows = []
    for row in drawn:
        response = [*row.new_ids, *([row.last_id] if row.finish_reason == "stop" else [])]
        rows.append(Rendered([*row.prompt_ids, *response], len(row.prompt_ids)))
    base = score_reference(scorer, rows, should_stop=should_stop).of(rows)
    apart = (scorer.policy_without_gradient(rows, should_stop) - base).tolist()
    return apart, sum(len(row.response_ids) for row in rows)
