"""Figures with their 95% interval: shares, means and rank orders. Knows plain numbers only, and imports no torch.

What several examples of one prompt say hangs together, so means are resampled by whole prompts. The draws are seeded:
the same numbers give the same interval.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

Z = 1.959964  # the normal quantile of a two-sided 95%
RESAMPLES = 1000
SEED = 0


@dataclass(frozen=True)
class Interval:
    """A figure, the ends of its 95% interval, and how many numbers it rests on."""

    value: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: dict[str, Any] | None) -> Interval | None:
        """Read what `dataclasses.asdict` made of one, or of None."""
        return None if values is None else cls(**values)


def share(hits: Sequence[float], groups: Sequence[Hashable]) -> Interval | None:
    """Return the mean of hits with Wilson's interval (1927); None without any. hits: 1, 0, or ½ for a tie.

    What the hits of one group say hangs together: the interval is that of as many independent hits as spread like them
    (Kish's design effect), at least one for each group, at most all.
    """
    if not hits:
        return None
    mean = sum(hits) / len(hits)
    count = _independent(hits, groups, mean)
    middle = (mean + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z * math.sqrt(mean * (1 - mean) / count + Z**2 / (4 * count**2)) / (1 + Z**2 / count)
    return Interval(mean, max(0.0, middle - half), min(1.0, middle + half), len(hits))


def _independent(hits: Sequence[float], groups: Sequence[Hashable], mean: float) -> float:
    """Return how many independent hits would tell as much."""
    apart: dict[Hashable, float] = {}
    for hit, group in zip(hits, groups, strict=True):
        apart[group] = apart.get(group, 0.0) + hit - mean
    own = sum((hit - mean) ** 2 for hit in hits)
    together = sum(total**2 for total in apart.values())
    if not own or not together:  # all the same: one group says no more than its first hit
        return float(len(apart)) if not own else float(len(hits))
    return min(float(len(hits)), max(float(len(apart)), len(hits) * own / together))


def mean(values: Sequence[float], groups: Sequence[Hashable]) -> Interval | None:
    """Return the mean of values with its percentile bootstrap interval over groups; None without any."""
    if not values:
        return None
    import numpy as np

    numbers = np.asarray(values, dtype=float)
    codes = _codes(groups)
    sums, sizes = np.bincount(codes, weights=numbers), np.bincount(codes)
    draws = np.random.default_rng(SEED)
    means = []
    for _ in range(RESAMPLES):
        times = _times(draws, len(sums))
        means.append(times @ sums / (times @ sizes))
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(numbers.mean()), float(low), float(high), len(values))


def ordered(scores: Sequence[float], good: Sequence[bool], groups: Sequence[Hashable]) -> Interval | None:
    """Return how often a good one scores above a bad one, a tie as half, with its bootstrap interval over groups.

    None where all are good or all are bad. This is the area under the ROC curve.
    """
    if len(set(good)) < 2:
        return None
    import numpy as np

    numbers, marks, codes = np.asarray(scores, dtype=float), np.asarray(good), _codes(groups)
    draws, found = np.random.default_rng(SEED), []
    for _ in range(RESAMPLES):
        times = _times(draws, int(codes.max()) + 1)[codes]
        if times[marks].sum() and times[~marks].sum():
            found.append(_area(numbers, marks, times))
    low, high = np.quantile(found, [0.025, 0.975])
    return Interval(_area(numbers, marks, np.ones(len(numbers))), float(low), float(high), len(numbers))


def correlation(x: Sequence[float], y: Sequence[float]) -> Interval | None:
    """Return Pearson's correlation with Fisher's interval; None for fewer than four pairs, or where one is constant."""
    count = len(x)
    if count < 4:
        return None
    dx, dy = _centred(x), _centred(y)
    spread = math.sqrt(sum(value * value for value in dx) * sum(value * value for value in dy))
    if not spread:
        return None
    value = max(-1.0, min(1.0, sum(a * b for a, b in zip(dx, dy)) / spread))
    if abs(value) > 1 - 1e-12:
        return Interval(value, value, value, count)
    middle, half = math.atanh(value), Z / math.sqrt(count - 3)
    return Interval(value, math.tanh(middle - half), math.tanh(middle + half), count)


def _centred(values: Sequence[float]) -> list[float]:
    middle = sum(values) / len(values)
    return [value - middle for value in values]


def _codes(groups: Sequence[Hashable]) -> np.ndarray:
    import numpy as np

    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups])


def _times(draws: Any, groups: int) -> np.ndarray:
    """Return how often each group is drawn when as many are drawn as there are."""
    import numpy as np

    return np.bincount(draws.integers(0, groups, groups), minlength=groups)


def _area(scores: np.ndarray, good: np.ndarray, times: np.ndarray) -> float:
    """Return the share of (good, bad) pairs in which the good one scores higher, each counted `times`."""
    import numpy as np

    different, places = np.unique(scores, return_inverse=True)
    wins = np.bincount(places, weights=times * good, minlength=len(different))
    losses = np.bincount(places, weights=times * ~good, minlength=len(different))
    below = np.cumsum(losses) - losses
    return float((wins * (below + losses / 2)).sum() / (wins.sum() * losses.sum()))


