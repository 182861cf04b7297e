"""What a run trains and measures on: rows of tokens, split by prompt, checked. Does not know losses or models.

The lines it gives say what was left out and how good and bad answers are weighed: nothing happens silently.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from errors import ConfigError, ModelError
from models.prompting import end_of_turn_id
from training.batching import split_by_prompt
from training.config import TrainingConfig
from training.methods import weights_sentence
from training.rows import (
    MOST_LISTED,
    Exclusion,
    left_out_sentence,
    pair_rows,
    renderer,
    response_rows,
    shortened_sentence,
    with_mismatched,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Material:
    """The rows to train on and to measure on, PairRows or ResponseRows, with what was left out."""

    train: list[Any]
    held_out: list[Any]
    left_out: list[Exclusion]
    lines: list[str]

    @property
    def classes(self) -> list[Hashable]:
        """Return the class of each training row: whether it is desirable; all the same for pairs."""
        return [getattr(row, "desirable", True) for row in self.train]


def gather(
    examples: Sequence[Any], tokenizer: PreTrainedTokenizerBase, config: TrainingConfig, max_length_tokens: int,
    learned: frozenset[int] = frozenset(),
) -> Material:
    """Tokenise, leave out what cannot be used, and hold out whole prompts.

    learned: prompts that the adapter knows from the runs before; they are not held out.
    Raises ConfigError when fewer than two pairs, or one class only for an unpaired method, are usable, or when the
    tokenizer does not say how an answer ends.
    """
    try:
        end_of_turn_id(tokenizer)
    except ModelError as error:
        raise ConfigError(f"{config.model} cannot be trained on conversations: {error}") from error
    rendered = renderer(tokenizer, max_length_tokens)
    rows, left_out = (pair_rows if config.loss.paired else response_rows)(examples, rendered)
    lines = [f"{len(rows)} {'pairs' if config.loss.paired else 'responses'} to learn from."]
    if max_length_tokens < config.max_length_tokens:
        lines.append(f"{config.model} reads {max_length_tokens} tokens, so that is the longest prompt + response.")
    if left_out:
        lines.append(f"{left_out_sentence(left_out)}: {_listed(left_out)}.")
    if shortened := shortened_sentence(rows):
        lines.append(shortened)
    _check_enough(rows, left_out, config)
    train, held_out = _split(rows, config, learned)
    lines.append(_held_out_line(rows, held_out, config, learned))
    if not config.loss.paired:
        train = with_mismatched(train, rendered, config.seed)
        held_out = with_mismatched(held_out, rendered, config.seed)
        lines += _class_lines(train, config)
    return Material(train, held_out, left_out, lines)


def _split(rows: list[Any], config: TrainingConfig, learned: frozenset[int]) -> tuple[list[Any], list[Any]]:
    """Hold out prompts, unless too little would be left to train on."""
    fresh = [index for index, row in enumerate(rows) if row.example.prompt_id not in learned]
    _, held = split_by_prompt([rows[index].example.prompt_id for index in fresh], config.held_out_share, config.seed)
    chosen = {fresh[index] for index in held}
    train_rows, held_rows = [row for index, row in enumerate(rows) if index not in chosen], [rows[index] for index in sorted(chosen)]
    return (train_rows, held_rows) if _enough(train_rows, config) else (rows, [])


def _held_out_line(rows: list[Any], held_out: list[Any], config: TrainingConfig, learned: frozenset[int]) -> str:
    if held_out:
        return f"{len(held_out)} held out to measure on, by prompt."
    if config.held_out_share and all(row.example.prompt_id in learned for row in rows):
        return "Nothing is held out to measure on: the runs before this one have learned from every prompt."
    if config.held_out_share:
        return "Nothing is held out to measure on: without whole prompts less, too little would be left to train on."
    return "Nothing is held out to measure on (held_out_share is 0)."


def _enough(rows: list[Any], config: TrainingConfig) -> bool:
    if config.loss.paired:
        return len(rows) >= 2
    return len({row.desirable for row in rows}) == 2


def _check_enough(rows: list[Any], left_out: list[Exclusion], config: TrainingConfig) -> None:
    if _enough(rows, config):
        return
    wanted = "at least two pairs" if config.loss.paired else "both good and bad answers"
    problem = f"{config.loss.title} needs {wanted}, and {len(rows)} usable examples are not that"
    if left_out:
        problem += f"; {left_out_sentence(left_out)}: {_listed(left_out)}"
    raise ConfigError(f"{problem}. Label some more, or raise max_length_tokens if answers were too long.")


def _listed(left_out: list[Exclusion]) -> str:
    labels = sorted({exclusion.label_id for exclusion in left_out})
    return f"labels {', '.join(map(str, labels[:MOST_LISTED]))}{' …' if len(labels) > MOST_LISTED else ''}"


def _class_lines(rows: list[Any], config: TrainingConfig) -> list[str]:
    good = sum(row.desirable for row in rows)
    lines = [weights_sentence(good, len(rows) - good, config.loss)]
    if config.loss.reference_point == "kl" and all(row.mismatched is None for row in rows):
        lines.append("All answers belong to one prompt, so the distance from the base (z0) counts as 0.")
    return lines
