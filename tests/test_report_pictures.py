"""The pictures: shapes where the numbers say, words for those who do not see them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from report.intervals import Interval
from report.pictures import BINS, HEIGHT, WIDTH, Bar, Curves, bars, between, curves, escaped, histogram, number

finite = st.floats(-1e6, 1e6, allow_nan=False)


def heights(html: str, style: str) -> list[float]:
    return [float(found) for found in re.findall(rf'<rect class="report-{style}"[^>]* height="([\d.]+)"', html)]


@given(st.text())
def test_what_is_escaped_reads_back_letter_for_letter_and_has_no_sign_of_a_template(text: str) -> None:
    import html

    safe = escaped(text)
    assert not set("<>\"'${}`") & set(safe)
    known = text.encode("utf-8", "replace").decode("utf-8")
    # A parser drops or replaces control characters; everything else must come back.
    if known.isprintable():
        assert html.unescape(safe) == known


@given(st.lists(finite, min_size=1, max_size=60), st.lists(finite, max_size=60))
def test_a_histogram_stays_in_its_box_and_counts_every_value(before: list[float], after: list[float]) -> None:
    html = histogram("Margins", [("before", "before", before), ("after", "after", after)])
    boxes = re.findall(r'<rect class="report-\w+" x="([-\d.]+)" y="([-\d.]+)" width="([-\d.]+)" height="([-\d.]+)"', html)
    for x, y, width, height in (map(float, box) for box in boxes):
        assert -0.1 <= x and x + width <= WIDTH + 0.1 and -0.1 <= y and y + height <= HEIGHT + 0.15
    assert f"before: {len(before)} values" in html and len(boxes) <= 2 * BINS


def test_histograms_compare_shares_so_that_fewer_values_are_as_high() -> None:
    html = histogram("x", [("before", "before", [1.0] * 10), ("after", "after", [1.0] * 1000)])
    assert heights(html, "before") == heights(html, "after") == [HEIGHT]
    assert histogram("x", [("before", "before", [])]) == ""


def test_a_bar_is_as_long_as_its_figure_and_its_line_as_its_interval() -> None:
    html = bars("Who", [Bar("the run", Interval(0.5, 0.25, 0.75, 40)), Bar("nobody", None)], 1.0, chance=0.5)
    assert 'x="0" y="15" width="150.0"' in html and 'x1="75.0" x2="225.0"' in html
    assert "the run: 50% (25% to 75%)" in html and "of 40" in html and "nothing to measure it on" in html


def test_a_figure_that_is_less_than_nothing_draws_no_negative_bar() -> None:
    html = bars("Loss", [Bar("loss", Interval(-0.5, -1.0, 0.2, 9))], 1.0, shares=False)
    assert 'width="0.0"' in html and "−0.50 (−1.00 to 0.20)" in html


def test_the_curves_of_one_run_are_coloured_by_line_and_of_several_by_run() -> None:
    steps = [(step, {"loss": 1 / step, "held_out/loss": 0.5, "rewards/chosen": -step, "rewards/rejected": -2 * step}) for step in (1, 2, 3)]
    alone = curves([Curves("Run 1", steps, 3)])
    assert 'class="report-good"' in alone and 'class="report-held-out"' in alone and "report-run" not in alone
    both = curves([Curves("Run 1", steps, 3), Curves("Run <2>", steps[:1], 3)])
    assert 'polyline class="report-run-0"' in both and 'polyline class="report-run-1 report-dashed"' in both
    assert "Run &lt;2&gt;, held out" in both and "<2>" not in both


def test_curves_without_values_and_with_infinite_ones_draw_what_there_is() -> None:
    html = curves([Curves("Run 1", [(1, {"loss": float("nan")}), (2, {"loss": 0.5})], 2)])
    assert "nan" not in html and '<polyline class="report-main" points="300.0' in html
    assert "no data" in curves([]) or "<polyline" not in curves([])


@pytest.mark.parametrize(
    ("value", "words"), [(0.0, "0.00"), (-0.001, "0.00"), (-1.5, "−1.50"), (12.34, "12.3"), (1234.5, "1,234"), (-99.9, "−100")]
)
def test_numbers_have_about_three_figures_and_a_true_minus(value: float, words: str) -> None:
    assert number(value) == words


def test_a_missing_figure_is_a_dash() -> None:
    assert between(None) == "–" and between(Interval(0.5, 0.4, 0.6, 9)) == "50% (40% to 60%)"
