"""Figures with their interval: equal to what statsmodels, SciPy and scikit-learn give, and wider by whole prompts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn.metrics import roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from report.intervals import Interval, correlation, mean, ordered, share


@given(st.integers(0, 60), st.integers(1, 60))
def test_a_share_has_wilsons_interval(hits: int, count: int) -> None:
    hits = min(hits, count)
    found = share([1.0] * hits + [0.0] * (count - hits), range(count))
    low, high = proportion_confint(hits, count, method="wilson")
    assert (found.value, found.low, found.high) == pytest.approx((hits / count, low, high), abs=1e-6)
    assert found.count == count


def test_a_tie_counts_as_half() -> None:
    assert share([1.0, 0.5, 0.0, 0.5], range(4)).value == 0.5 and share([], []) is None


def test_what_one_prompt_says_thirty_times_counts_little_more_than_once() -> None:
    two = share([1.0] * 15 + [0.0] * 15, [1] * 15 + [2] * 15)
    assert (two.low, two.high) == pytest.approx((share([1.0, 0.0], [1, 2]).low, share([1.0, 0.0], [1, 2]).high))
    assert share([1.0] * 15, [1] * 15).low == pytest.approx(share([1.0], [1]).low)
    mixed = share([1.0, 0.0] * 15, [number // 2 for number in range(30)])  # prompts that spread less than chance
    assert mixed.low == share([1.0, 0.0] * 15, range(30)).low


def test_a_mean_has_the_interval_that_theory_gives_when_every_value_is_its_own_group() -> None:
    values = np.random.default_rng(3).normal(2.0, 1.0, 400).tolist()
    found = mean(values, range(400))
    half = 1.96 * np.std(values) / 20
    assert found.value == pytest.approx(np.mean(values))
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.1)
    assert mean(values, range(400)) == found and mean([], []) is None


def test_values_that_repeat_within_a_prompt_do_not_narrow_the_interval() -> None:
    values = np.random.default_rng(5).normal(0.0, 1.0, 40)
    apart = mean(values.tolist(), range(40))
    repeated = mean(np.repeat(values, 25).tolist(), np.repeat(np.arange(40), 25).tolist())
    assert repeated.high - repeated.low == pytest.approx(apart.high - apart.low, rel=1e-9)


def test_the_share_of_right_orders_is_the_area_under_the_roc_curve_ties_included() -> None:
    draws = np.random.default_rng(7)
    good = draws.random(300) < 0.4
    scores = np.round(good * 0.8 + draws.normal(size=300), 1)
    found = ordered(scores.tolist(), good.tolist(), range(300))
    assert found.value == pytest.approx(roc_auc_score(good, scores), abs=1e-12)
    assert found.low < found.value < found.high and found.high - found.low < 0.2
    assert ordered([1.0, 2.0], [True, True], [1, 2]) is None


def test_a_correlation_has_fishers_interval() -> None:
    draws = np.random.default_rng(9)
    x = draws.normal(size=50)
    y = 0.5 * x + draws.normal(size=50)
    found, oracle = correlation(x.tolist(), y.tolist()), pearsonr(x, y)
    low, high = oracle.confidence_interval(0.95)
    assert (found.value, found.low, found.high) == pytest.approx((oracle.statistic, low, high), abs=1e-6)


def test_a_correlation_that_is_undefined_is_none_and_a_perfect_one_has_no_width() -> None:
    assert correlation([1, 2, 3], [1, 2, 3]) is None and correlation([1, 1, 1, 1], [1, 2, 3, 4]) is None
    assert correlation([1, 2, 3, 4], [2, 4, 6, 8]) == Interval(1.0, 1.0, 1.0, 4)
