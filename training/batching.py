"""Which examples a step trains on and how they are cut into forward passes. Does not know tokens' meaning.

The order is a pure function of the seed and the step, so a run can be taken up again at any step.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Hashable, Sequence


class BatchOrder:
    """A seeded order of examples without end: every epoch visits each once, newly shuffled.

    Classes are spread evenly, so that every batch holds both where there are enough of the rarer one.
    """

    def __init__(self, classes: Sequence[Hashable], batch_size: int, seed: int) -> None:
        """classes: one entry per example (all equal when there is but one kind)."""
        assert classes and batch_size >= 1
        self.batch_size = batch_size
        self.count = len(classes)
        self._members: dict[Hashable, list[int]] = {}
        for index, kind in enumerate(classes):
            self._members.setdefault(kind, []).append(index)
        self._seed = seed
        self._cached: tuple[int, list[int]] = (-1, [])

    def indices(self, step: int) -> list[int]:
        """Return the examples of an optimiser step, counted from 0; a batch may reach into the next epoch."""
        places = range(step * self.batch_size, (step + 1) * self.batch_size)
        return [self.epoch(place // self.count)[place % self.count] for place in places]

    def epoch(self, epoch: int) -> list[int]:
        """Return the order of one epoch, counted from 0."""
        if self._cached[0] != epoch:
            self._cached = (epoch, self._shuffled(random.Random(f"order {self._seed} {epoch}")))
        return self._cached[1]

    def _shuffled(self, source: random.Random) -> list[int]:
        placed = []
        for members in self._members.values():
            shuffled = source.sample(members, len(members))
            # Evenly spaced, in and across epochs: a batch holds each class within one of its share.
            placed += [((rank + 0.5) / len(members), source.random(), index) for rank, index in enumerate(shuffled)]
        return [index for *_, index in sorted(placed)]


def micro_batches(lengths: Sequence[Sequence[int]], tokens: int) -> list[list[int]]:
    """Cut a batch into parts whose padded size stays within `tokens`, longest first.

    lengths: for each example the lengths of its rows, in tokens. Returns positions in `lengths`. An example that
    alone is larger than the budget gets a part of its own.
    """
    parts: list[list[int]] = []
    rows = longest = 0
    for place in sorted(range(len(lengths)), key=lambda place: -max(lengths[place])):
        if not parts or (rows + len(lengths[place])) * longest > tokens:
            parts.append([])
            rows, longest = 0, max(lengths[place])
        parts[-1].append(place)
        rows += len(lengths[place])
    return parts


def packs(costs: Sequence[int], tokens: int) -> list[list[int]]:
    """Deal examples out to as few packed lines of at most `tokens` as will do, about equally long.

    costs: tokens of each example. Returns positions in `costs`. An example larger than the budget gets a line of its
    own. The largest come first, each to the line that is shortest by then.
    """
    order = sorted(range(len(costs)), key=lambda place: -costs[place])
    for count in range(max(1, -(-sum(costs) // tokens)), len(costs) + 1):
        lines: list[list[int]] = [[] for _ in range(count)]
        lengths = [0] * count
        for place in order:
            shortest = lengths.index(min(lengths))
            lines[shortest].append(place)
            lengths[shortest] += costs[place]
        if all(length <= tokens or len(line) == 1 for line, length in zip(lines, lengths)):
            return [line for line in lines if line]
    return [[place] for place in order]


def split_by_prompt(prompt_ids: Sequence[int], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Return the indices to train on and those held out: whole prompts, about `share` of the examples.

    A prompt with more examples than are still wanted is passed over, so that one that owns half of them is never held
    out for a tenth; when none fits, the one with the fewest is held out, unless that leaves less than half.
    """
    sizes = Counter(prompt_ids)
    prompts = sorted(sizes)
    random.Random(f"held out {seed}").shuffle(prompts)
    left = wanted = round(share * len(prompt_ids))
    held: set[int] = set()
    for prompt in prompts:
        if sizes[prompt] <= left:
            held.add(prompt)
            left -= sizes[prompt]
    smallest = min(prompts, key=sizes.__getitem__, default=None)
    if wanted and not held and sizes[smallest] * 2 <= len(prompt_ids):
        held.add(smallest)
    train = [index for index, own in enumerate(prompt_ids) if own not in held]
    return train, [index for index, own in enumerate(prompt_ids) if own in held]
