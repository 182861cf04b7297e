"""Training examples → rows of tokens, and which examples had to be left out. Does not know batches or losses.

Nothing is dropped silently and no response is ever cut: what cannot be trained on becomes an `Exclusion`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from errors import ModelError
from models.prompting import DoesNotFit, Rendered, closing_length, render
from storage.records import Message
from training.dataset import PairedExample, UnpairedExample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

EMPTY, TOO_LONG, NO_PROMPT, ALIKE, REFUSED = (
    "empty", "longer than max_length_tokens", "with no room for the question within max_length_tokens",
    "the same to this model's tokenizer", "refused by the chat template",
)
MOST_LISTED = 50
Renderer = Callable[[list[Message], str], Rendered]


@dataclass(frozen=True)
class PairRows:
    """One preference as tokens."""

    example: PairedExample
    chosen: Rendered
    rejected: Rendered


@dataclass(frozen=True)
class ResponseRows:
    """One judged response as tokens. mismatched: the same prompt with another prompt's response, for KTO's z0."""

    example: UnpairedExample
    response: Rendered
    mismatched: Rendered | None = None

    @property
    def desirable(self) -> bool:
        """True when the response was judged good."""
        return self.example.desirable


@dataclass(frozen=True)
class Exclusion:
    """An example that was left out, and why."""

    label_id: int
    reason: str


class PromptGone(DoesNotFit):
    """A response is so long that nothing of what was asked would be left before it."""


def renderer(tokenizer: PreTrainedTokenizerBase, max_length_tokens: int) -> Renderer:
    """Return a function that renders messages and a response within so many tokens; see `models.prompting`.

    It raises PromptGone too, when the prompt would lose all that was asked.
    """

    def rendered(messages: list[Message], response: str) -> Rendered:
        row = render(tokenizer, messages, response, max_length_tokens)
        if not row.prompt_length:
            raise ModelError("Nothing stands before the response, so its first token cannot be scored.")
        if row.lost and row.prompt_length <= closing_length(tokenizer, messages):
            raise PromptGone("The response leaves no room for the question.")
        return row

    return rendered


def pair_rows(examples: Iterable[PairedExample], rendered: Renderer) -> tuple[list[PairRows], list[Exclusion]]:
    """Render every pair; leave out those with an empty, too long or refused response, or two that are alike.

    Both responses of a pair follow the same prompt, shortened for the longer of them.
    """
    rows: list[PairRows] = []
    left_out: list[Exclusion] = []
    for example in examples:
        both = [_rendered_or_reason(rendered, example.messages, text) for text in (example.chosen, example.rejected)]
        reasons = [each for each in both if isinstance(each, str)]
        if not reasons and both[0].response_ids == both[1].response_ids:
            reasons = [ALIKE]
        if reasons:
            left_out.append(Exclusion(example.label_id, reasons[0]))
        else:
            rows.append(PairRows(example, *_with_one_prompt(*both)))
    return rows, left_out


def response_rows(
    examples: Iterable[UnpairedExample], rendered: Renderer
) -> tuple[list[ResponseRows], list[Exclusion]]:
    """Render every judged response; leave out those that are empty, too long or refused."""
    rows: list[ResponseRows] = []
    left_out: list[Exclusion] = []
    for example in examples:
        row = _rendered_or_reason(rendered, example.messages, example.response)
        if isinstance(row, str):
            left_out.append(Exclusion(example.label_id, row))
        else:
            rows.append(ResponseRows(example, row))
    return rows, left_out


def with_mismatched(rows: Sequence[ResponseRows], rendered: Renderer, seed: int) -> list[ResponseRows]:
    """Give each row another prompt's response, paired once a run, so that its reference is computed once.

    A row keeps None when no other prompt exists, or when the foreign response does not fit after its prompt.
    """
    partners = mismatch([row.example.prompt_id for row in rows], seed)
    paired = []
    for row, partner in zip(rows, partners):
        foreign = None
        if partner is not None:
            foreign = _rendered_or_reason(rendered, row.example.messages, rows[partner].example.response)
        paired.append(replace(row, mismatched=foreign if isinstance(foreign, Rendered) else None))
    return paired


def mismatch(prompt_ids: Sequence[int], seed: int) -> list[int | None]:
    """Return, for every example, the index of one with another prompt: a seeded derangement between prompts.

    It is a permutation whenever one exists, that is unless one prompt owns more than half of the examples; then
    examples of that prompt share partners. All None when there is only one prompt.
    """
    owners = sorted(set(prompt_ids))
    if len(owners) < 2:
        return [None] * len(prompt_ids)
    shuffle = random.Random(f"mismatch {seed}")
    shuffle.shuffle(owners)
    members = {owner: [index for index, own in enumerate(prompt_ids) if own == owner] for owner in owners}
    for indices in members.values():
        shuffle.shuffle(indices)
    order = [index for owner in owners for index in members[owner]]
    # Moved by the size of the largest group, no place in the sorted circle stays within its own group.
    distance = max(len(indices) for indices in members.values())
    partners: list[int | None] = [None] * len(prompt_ids)
    for place, index in enumerate(order):
        partner = order[(place + distance) % len(order)]
        if prompt_ids[partner] == prompt_ids[index]:
            partner = shuffle.choice([other for other in order if prompt_ids[other] != prompt_ids[index]])
        partners[index] = partner
    return partners


def shortened_sentence(rows: Sequence[PairRows | ResponseRows]) -> str:
    """Say which labels' prompts lost their beginning to fit; "" when none did."""
    labels = sorted({row.example.label_id for row in rows if _own(row).lost})
    if not labels:
        return ""
    listed = ", ".join(map(str, labels[:MOST_LISTED])) + (" …" if len(labels) > MOST_LISTED else "")
    return f"{len(labels)} with a prompt that lost its beginning, to fit into max_length_tokens: labels {listed}."


def left_out_sentence(left_out: Sequence[Exclusion]) -> str:
    """Say how many examples were left out and why; "" when none was."""
    if not left_out:
        return ""
    counted = Counter(exclusion.reason for exclusion in left_out)
    return f"{len(left_out)} left out ({', '.join(f'{count} {reason}' for reason, count in counted.most_common())})"


def _own(row: PairRows | ResponseRows) -> Rendered:
    return row.chosen if isinstance(row, PairRows) else row.response


def _with_one_prompt(chosen: Rendered, rejected: Rendered) -> tuple[Rendered, Rendered]:
    """Give two rows the shorter of their prompts: what is compared must differ in the response alone."""
    shorter = min(chosen, rejected, key=lambda row: row.prompt_length)
    prompt = shorter.ids[: shorter.prompt_length]
    return tuple(Rendered(prompt + row.response_ids, len(prompt), shorter.lost) for row in (chosen, rejected))


def _rendered_or_reason(rendered: Renderer, messages: list[Message], response: str) -> Rendered | str:
    if not response.strip():
        return EMPTY
    try:
        return rendered(messages, response)
    except PromptGone:
        return NO_PROMPT
    except DoesNotFit:
        return TOO_LONG
    except ModelError:
        return REFUSED
