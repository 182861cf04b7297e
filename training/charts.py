"""The curves of a run as light SVG. Only numbers from the metrics and fixed words go in; no text of a user ever does.

Drawn as plain polylines stretched to their box, with the page's own colours, so that they cost a few kilobytes
and follow light and dark. Does not know where metrics come from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAX_POINTS = 300
WIDTH, HEIGHT = 300.0, 100.0
# The style of curves that are drawn only where something was held out.
HELD_OUT = "held-out"
Step = tuple[int, Mapping[str, float]]


@dataclass(frozen=True)
class Chart:
    """One chart: its title, and the metric, legend and style of each of its lines.

    floor, ceiling: ends of the vertical axis that hold whatever the values are; help: what it means, for people.
    """

    title: str
    lines: tuple[tuple[str, str, str], ...]
    help: str
    floor: float | None = None
    ceiling: float | None = None


CHARTS = (
    Chart(
        "Loss", (("loss", "", "main"), ("held_out/loss", "held out", HELD_OUT)),
        "What training lowers. When it rises on what was held out, the labels are being learnt by heart.",
    ),
    Chart(
        "Rewards", (("rewards/chosen", "preferred", "good"), ("rewards/rejected", "other", "bad")),
        "How far each answer has become more or less likely than under the base model. They should part.",
    ),
    Chart(
        "Margin", (("rewards/margins", "", "main"),), "Reward of preferred answers minus that of the others.", floor=0.0
    ),
    Chart(
        "Accuracy", (("rewards/accuracies", "", "main"), ("held_out/accuracies", "held out", HELD_OUT)),
        "Share of this step's labels that the model agrees with.", floor=0.0, ceiling=1.0,
    ),
)


def charts(steps: Sequence[Step], total_steps: int) -> str:
    """Return all charts of a run as HTML. steps: (step, metrics), in order. total_steps: the end of the axis."""
    return f'<div class="train-charts">{"".join(_figure(chart, steps, total_steps) for chart in CHARTS)}</div>'


def thinned(steps: Sequence[Any], most: int = MAX_POINTS) -> list[Any]:
    """Return at most `most` of the entries, evenly spread, the first and the last among them."""
    if len(steps) <= most:
        return list(steps)
    return [steps[round(place * (len(steps) - 1) / (most - 1))] for place in range(most)]


def _figure(chart: Chart, steps: Sequence[Step], total_steps: int) -> str:
    # Each curve is thinned by itself: what is measured now and then must not fall between the points.
    drawn = [(legend, style, thinned(_values(steps, key))) for key, legend, style in chart.lines]
    curves = [(legend, style, curve) for legend, style, curve in drawn if curve or style != HELD_OUT]
    values = [value for _, _, curve in curves for _, value in curve]
    low, high = _range(values, chart)
    polylines = "".join(
        f'<polyline class="train-{style}" points="{_points(curve, low, high, total_steps)}"/>'
        for _, style, curve in curves
    )
    zero = f'<line class="train-zero" x1="0" x2="{WIDTH:g}" y1="{_y(0, low, high):.1f}" y2="{_y(0, low, high):.1f}"/>'
    latest = "".join(
        f'<span class="train-{style}">{legend} <b>{_number(curve[-1][1]) if curve else "–"}</b></span>'
        for legend, style, curve in curves
    )
    spoken = ", ".join(f"{legend} {_number(curve[-1][1])}".strip() for legend, _, curve in curves if curve) or "no data"
    return (
        f'<figure title="{chart.help}"><figcaption><span>{chart.title}</span>{latest}</figcaption>'
        f'<div class="train-plot"><i>{_number(high)}</i><i>{_number(low)}</i>'
        f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" preserveAspectRatio="none" role="img"'
        f' aria-label="{chart.title}: {spoken}">{zero if low <= 0 <= high else ""}{polylines}</svg></div></figure>'
    )


def _values(steps: Sequence[Step], key: str) -> list[tuple[int, float]]:
    return [(step, float(values[key])) for step, values in steps if key in values and math.isfinite(values[key])]


def _range(values: Sequence[float], chart: Chart) -> tuple[float, float]:
    """Return the ends of the vertical axis: those of the values and of the chart, never equal."""
    low = min([*values, *([] if chart.floor is None else [chart.floor])], default=0.0)
    high = max([*values, *([] if chart.ceiling is None else [chart.ceiling])], default=1.0)
    if high - low < 1e-6:
        high, low = high + 0.5, (low if chart.floor is not None else low - 0.5)
    return low, high


def _points(curve: Sequence[tuple[int, float]], low: float, high: float, total_steps: int) -> str:
    span = max(1, total_steps - 1)
    points = [((step - 1) / span * WIDTH, _y(value, low, high)) for step, value in curve]
    if len(points) == 1:  # a lone point draws nothing
        points.append((points[0][0] + 2, points[0][1]))
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _y(value: float, low: float, high: float) -> float:
    return (high - value) / (high - low) * HEIGHT


def _number(value: float) -> str:
    """Return a number short enough for a corner: about three figures, with a true minus sign."""
    places = 0 if abs(value) >= 99.5 else 1 if abs(value) >= 9.95 else 2
    text = f"{value:,.{places}f}"
    return text.replace("-", "−") if text.strip("-0.") else "0"
