"""Measures of agreement beyond chance: Cohen for two, Fleiss and Krippendorff for all, each with a bootstrap interval.

Every measure here depends on sums over items only. So an item is a row of numbers, equal rows are drawn together, and
a bootstrap over items is one multinomial draw and a product. Does not know what was labelled, nor where it is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

RESAMPLES = 500
COVERED = 0.95
SEED = 0
SAME = "every label is the same: nothing to agree on beyond chance"


@dataclass(frozen=True)
class Measure:
    """One figure of agreement: 1 is perfect, 0 what chance gives.

    value, low, high: None where it is undefined, and `why` says it in a sentence. items: how many it rests on.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    items: int = 0
    why: str = ""

    def sentence(self) -> str:
        """Return the figure with its interval, or why there is none."""
        if self.value is None:
            return f"undefined: {self.why}"
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f}, {self.items:,} items)"


class Table:
    """What each annotator said of each unit.

    codes: (units, annotators) category indices, -1 where there is no label; item: (units,) number of the unit's item,
    ascending; counts: (units, categories) labels of each category.
    """

    def __init__(self, codes: np.ndarray, item: np.ndarray, categories: int, names: tuple[str, ...]) -> None:
        import numpy as np

        self.codes, self.item, self.categories, self.names = codes, item, categories, names
        self.items = int(item[-1]) + 1 if len(item) else 0
        self.counts = np.stack([(codes == category).sum(axis=1) for category in range(categories)], axis=1)

    @classmethod
    def of(cls, said: Iterable[tuple[int, str, Sequence[int]]], names: tuple[str, ...], categories: int) -> Table:
        """Read a table from triples: item, annotator, category of each of the item's units; items one after another."""
        import numpy as np

        column = {name: number for number, name in enumerate(names)}
        rows: list[tuple[int, int, int]] = []
        item: list[int] = []
        for number, (_, of_item) in enumerate(groupby(said, key=lambda triple: triple[0])):
            first, units = len(item), 0
            for _, annotator, codes in of_item:
                rows.extend((first + unit, column[annotator], code) for unit, code in enumerate(codes))
                units = len(codes)
            item.extend([number] * units)
        table = np.full((len(item), len(names)), -1, dtype=np.int8)
        if rows:
            unit, who, code = np.array(rows).T
            table[unit, who] = code
        return cls(table, np.array(item, dtype=np.int64), categories, names)

    def cohen(self, x: int, y: int) -> Measure:
        """Cohen (1960) of two columns, over the items that both labelled."""
        import numpy as np

        codes = self.codes[:, [x, y]]
        both = (codes >= 0).all(axis=1)
        if not both.any():
            return Measure(why=f"{self.names[x]} and {self.names[y]} have no item in common")
        cells = np.eye(self.categories**2)[codes[both, 0].astype(int) * self.categories + codes[both, 1]]
        return _measure(self._by_item(cells, both), self._cohen_value, _cohen_of)

    def fleiss(self) -> Measure:
        """Fleiss (1971), over the items that have the most common number of labels of two or more."""
        import numpy as np

        labels = self.counts.sum(axis=1)
        of_items = labels[np.diff(self.item, prepend=-1) > 0]  # the same for every unit of an item
        if not (of_items > 1).any():
            return Measure(why=self._too_few())
        numbers, how_often = np.unique(of_items[of_items > 1], return_counts=True)
        used = labels == numbers[how_often == how_often.max()].max()
        counts = self.counts[used].astype(float)
        agreeing = (counts * (counts - 1)).sum(axis=1, keepdims=True) / (labels[used] * (labels[used] - 1))[:, None]
        rows = np.hstack([np.ones_like(agreeing), agreeing, counts])
        return _measure(self._by_item(rows, used), lambda _: _fleiss_value(counts), _fleiss_of)

    def krippendorff(self) -> Measure:
        """Krippendorff's alpha for nominal labels (2011), over the items that have two labels or more."""
        import numpy as np

        labels = self.counts.sum(axis=1)
        used = labels > 1
        if not used.any():
            return Measure(why=self._too_few())
        counts = self.counts[used].astype(float)
        agreeing = (counts * (counts - 1)).sum(axis=1, keepdims=True) / (labels[used] - 1)[:, None]
        rows = np.hstack([agreeing, counts])
        return _measure(self._by_item(rows, used), lambda _: _krippendorff_value(counts), _krippendorff_of)

    def _by_item(self, rows: np.ndarray, used: np.ndarray) -> np.ndarray:
        """Add the rows of each item: (used units, numbers) -> (items, numbers)."""
        import numpy as np

        item = self.item[used]
        return np.add.reduceat(rows, np.flatnonzero(np.diff(item, prepend=-1)), axis=0)

    def _cohen_value(self, total: np.ndarray) -> float:
        from sklearn.metrics import cohen_kappa_score

        first, second = divmod(total.nonzero()[0], self.categories)
        return cohen_kappa_score(first, second, sample_weight=total[total > 0])

    def _too_few(self) -> str:
        return "only one annotator" if len(self.names) < 2 else "no item has labels from two people"


def _fleiss_value(counts: np.ndarray) -> float:
    from statsmodels.stats.inter_rater import fleiss_kappa

    return fleiss_kappa(counts)


def _krippendorff_value(counts: np.ndarray) -> float:
    import krippendorff

    return krippendorff.alpha(value_counts=counts, level_of_measurement="nominal")


def _cohen_of(sums: np.ndarray) -> np.ndarray:
    """Return kappa of sums (resamples, categories²): what both said, flattened."""
    size = round(sums.shape[1] ** 0.5)
    shares = (sums / sums.sum(axis=1, keepdims=True)).reshape(-1, size, size)
    expected = (shares.sum(axis=1) * shares.sum(axis=2)).sum(axis=1)
    return _beyond(shares.trace(axis1=1, axis2=2), expected)


def _fleiss_of(sums: np.ndarray) -> np.ndarray:
    """Return kappa of sums (resamples, 2 + categories): units, their agreement, labels of each category."""
    shares = sums[:, 2:] / sums[:, 2:].sum(axis=1, keepdims=True)
    return _beyond(sums[:, 1] / sums[:, 0], (shares**2).sum(axis=1))


def _krippendorff_of(sums: np.ndarray) -> np.ndarray:
    """Return alpha of sums (resamples, 1 + categories): coincidences that agree, labels of each category."""
    labels = sums[:, 1:].sum(axis=1)
    expected = (sums[:, 1:] * (sums[:, 1:] - 1)).sum(axis=1) / (labels * (labels - 1))
    return _beyond(sums[:, 0] / labels, expected)


def _beyond(observed: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the share of possible agreement beyond chance that was reached; NaN where chance alone agrees always."""
    import numpy as np

    possible = 1.0 - expected
    defined = possible > 1e-12
    return np.where(defined, (observed - expected) / np.where(defined, possible, 1.0), np.nan)


def _measure(
    rows: np.ndarray, value: Callable[[np.ndarray], float], of: Callable[[np.ndarray], np.ndarray]
) -> Measure:
    """Return a measure with its percentile interval over resampled items.

    rows: (items, numbers); of: the measure of each row of sums. The interval always holds the value: where few items
    make the resamples lopsided it is widened. Resamples where the measure is undefined are left out.
    """
    import numpy as np

    total = rows.sum(axis=0)
    if np.isnan(of(total[None])[0]):
        return Measure(items=len(rows), why=SAME)
    distinct, times = _distinct(rows)
    drawn = np.random.default_rng(SEED).multinomial(len(rows), times / len(rows), size=RESAMPLES)
    resampled = of(drawn @ distinct)
    low, high = np.nanquantile(resampled, [(1 - COVERED) / 2, (1 + COVERED) / 2])
    figure = float(value(total))
    return Measure(figure, min(float(low), figure), max(float(high), figure), len(rows))


def _distinct(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the different rows and how often each occurs. Rows are compared as bytes: `unique(axis=0)` is slow."""
    import numpy as np

    rows = np.ascontiguousarray(rows)
    _, first, times = np.unique(
        rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1]))).ravel(), return_index=True, return_counts=True
    )
    return rows[first], times
