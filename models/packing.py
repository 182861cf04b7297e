"""Several rows in one line of tokens: every different prompt once, each response after it. Knows no model.

    [prompt 1 | response 1a | response 1b | prompt 2 | response 2a | …]

A response sees its own prompt and itself; positions restart after the prompt. Nothing is padded and no prompt is
computed twice, so a line costs what its different tokens cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from models.prompting import Rendered


@dataclass(frozen=True)
class Group:
    """One prompt and the responses that follow it, as lengths in tokens."""

    prompt: int
    responses: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Tokens of the prompt and all its responses."""
        return self.prompt + sum(self.responses)


@dataclass(frozen=True)
class Packed:
    """Rows as one line of t tokens.

    ids, positions: int64 [1, t]. groups: in the order of the line. predicting: int64 [n], for each of the n response
    tokens the place in the line that predicts it (the prompt's last place for a response's first token). targets:
    int64 [n], those tokens. rows: int64 [n], whose they are. count: number of rows.
    """

    ids: Tensor
    positions: Tensor
    groups: tuple[Group, ...]
    predicting: Tensor
    targets: Tensor
    rows: Tensor
    count: int

    def to(self, device: torch.device | str) -> Packed:
        """Return the line on a device."""
        tensors = (self.ids, self.positions, self.predicting, self.targets, self.rows)
        ids, positions, *rest = (part.to(device, non_blocking=True) for part in tensors)
        return Packed(ids, positions, self.groups, *rest, self.count)

    @cached_property
    def spans(self) -> tuple[Tensor, Tensor]:
        """For each place of the line the number of its group, and of its response in it (0 for the prompt).

        int64 [t] each, on the device of `ids`.
        """
        groups, parts, sizes = [], [], []
        for number, group in enumerate(self.groups):
            for part, size in enumerate((group.prompt, *group.responses)):
                groups.append(number)
                parts.append(part)
                sizes.append(size)
        repeats = torch.tensor(sizes)
        spread = (torch.tensor(each).repeat_interleave(repeats).to(self.ids.device) for each in (groups, parts))
        return tuple(spread)


def by_prompt(rows: Sequence[Rendered]) -> list[list[int]]:
    """Return the places in `rows` of those that share a prompt, token for token, in order of first appearance."""
    found: dict[tuple[int, ...], list[int]] = {}
    for place, row in enumerate(rows):
        found.setdefault(tuple(row.ids[: row.prompt_length]), []).append(place)
    return list(found.values())


def packed_tokens(rows: Sequence[Rendered]) -> int:
    """Return how many tokens rows take in one line."""
    shared = sum(rows[places[0]].prompt_length for places in by_prompt(rows))
    return shared + sum(len(row.ids) - row.prompt_length for row in rows)


def pack(rows: Sequence[Rendered]) -> Packed:
    """Put rows into one line. Rows with equal prompts share them; each must have a prompt of at least one token."""
    ids: list[int] = []
    positions: list[int] = []
    predicting: list[int] = []
    targets: list[int] = []
    owners: list[int] = []
    groups = []
    for places in by_prompt(rows):
        length = rows[places[0]].prompt_length
        assert length > 0
        last = len(ids) + length - 1
        ids += rows[places[0]].ids[:length]
        positions += range(length)
        for place in places:
            response = rows[place].ids[length:]
            if response:
                predicting += [last, *range(len(ids), len(ids) + len(response) - 1)]
            targets += response
            owners += [place] * len(response)
            positions += range(length, length + len(response))
            ids += response
        groups.append(Group(length, tuple(len(rows[place].ids) - length for place in places)))
    lines = (torch.tensor([line], dtype=torch.long) for line in (ids, positions))
    picks = (torch.tensor(each, dtype=torch.long) for each in (predicting, targets, owners))
    first, second = lines
    return Packed(first, second, tuple(groups), *picks, len(rows))
