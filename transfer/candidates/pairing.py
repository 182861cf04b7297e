"""Which responses to one prompt are shown together. Does not know where they come from, nor the database."""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations

RULES = ("all", "random", "different")
SOURCES = ("any", "same", "other")


@dataclass(frozen=True)
class Candidate:
    """A response that can be shown: its id, its text and what it comes from."""

    id: int
    text: str
    origin: Hashable


def choose_pairs(
    candidates: Sequence[Candidate], rule: str = "all", most: int | None = None, source: str = "any", seed: int = 0
) -> list[tuple[int, int]]:
    """Return pairs of ids: the same for the same arguments.

    rule: "all" in order, "random", or "different": the lexically least alike first (Indel distance over characters,
    which needs no words and so suits any script). most: how many; None is all. source: "same" pairs one model's
    responses, "other" those of two models. Raises ValueError for an unknown rule or source.
    """
    if rule not in RULES or source not in SOURCES:
        raise ValueError(f"rule should be one of {RULES} and source one of {SOURCES}, not {rule!r} and {source!r}")
    pairs = [
        (left, right) for left, right in combinations(candidates, 2)
        if source == "any" or (left.origin == right.origin) == (source == "same")
    ]
    if rule == "random":
        random.Random(seed).shuffle(pairs)
    elif rule == "different":
        from rapidfuzz.distance import Indel

        pairs.sort(key=lambda pair: Indel.normalized_similarity(pair[0].text, pair[1].text))
    return [(left.id, right.id) for left, right in pairs[:most]]
