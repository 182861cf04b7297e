"""How many prompts say nearly what another one says: counted, never left out.

MinHash of word or character shingles with banding (Broder 1997), by `rensa`: bands of four of 32 permutations find
pairs whose shingles overlap by half or more, and those that share four fifths by estimate count. Knows texts only.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable

import numpy as np

PERMUTATIONS, BAND = 32, 4
SHARE = 0.8  # of the permutations that agree: the estimate of the Jaccard index
SHINGLE_CHARACTERS = 5
MOST_CHARACTERS = 4000  # of one prompt; what comes after is not looked at
WORDS = re.compile(r"\w+")


class NearDuplicates:
    """Takes prompts one at a time and counts those that are nearly an earlier one. 128 bytes a prompt."""

    def __init__(self) -> None:
        from rensa import RMinHash

        self._make = lambda: RMinHash(num_perm=PERMUTATIONS, seed=1)
        self._signatures = array("I")

    def add(self, text: str) -> None:
        """Take one more prompt."""
        sketch = self._make()
        sketch.update(_shingles(text))
        self._signatures.extend(sketch.digest())

    def count(self) -> int:
        """Return how many of the prompts are nearly one that came before."""
        signatures = np.frombuffer(self._signatures, dtype=np.uint32).reshape(-1, PERMUTATIONS)
        near = np.zeros(len(signatures), dtype=bool)
        for start in range(0, PERMUTATIONS, BAND):
            band = np.ascontiguousarray(signatures[:, start : start + BAND])
            keys = band.view([("", np.uint32)] * BAND).ravel()
            order = np.argsort(keys, kind="stable")
            same = np.flatnonzero(keys[order][1:] == keys[order][:-1])
            earlier, later = order[same], order[same + 1]
            agree = (signatures[earlier] == signatures[later]).mean(axis=1) >= SHARE
            near[later[agree]] = True
        return int(near.sum())


def count_near(texts: Iterable[str]) -> int:
    """Return how many of some texts are nearly one that came before them."""
    found = NearDuplicates()
    for text in texts:
        found.add(text)
    return found.count()


def _shingles(text: str) -> list[str]:
    """Return pieces of the letters and digits, whatever their case, spaces and punctuation are."""
    plain = "".join(WORDS.findall(text[:MOST_CHARACTERS].casefold()))
    return [plain[start : start + SHINGLE_CHARACTERS] for start in range(max(1, len(plain) - SHINGLE_CHARACTERS + 1))]
