"""The pictures of a report as light SVG in HTML: curves, histograms and bars with their intervals.

Plain shapes stretched to their box, words beside them as HTML, in the colours of `report.css`, so that they follow
light and dark. Whatever a person or a model wrote comes in through `escaped` only. Does not know where figures are from.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from report.intervals import Interval
from training.charts import CHARTS, HELD_OUT, Chart, Step, thinned

WIDTH, HEIGHT = 300.0, 100.0
BINS = 24
MOST_RUNS = 6  # as many colours as `report.css` has
# Beyond these shares of the values a histogram is cut; what lies outside is counted in its first and last bar.
TAILS = 0.01
# Signs that a page's template could take for its own.
_SIGNS = str.maketrans({"$": "&#36;", "{": "&#123;", "}": "&#125;", "`": "&#96;"})


@dataclass(frozen=True)
class Curves:
    """The metrics of one run: what it is called in the legend, its steps, and where the axis ends."""

    name: str
    steps: Sequence[Step]
    total_steps: int


@dataclass(frozen=True)
class Bar:
    """One bar: its words, its figure, and its style (one of "before", "after", "plain")."""

    words: str
    interval: Interval | None
    style: str = "after"


def escaped(text: object) -> str:
    """Return a text as HTML that shows it letter for letter."""
    return html.escape(str(text).encode("utf-8", "replace").decode("utf-8")).translate(_SIGNS)


def number(value: float, places: int | None = None) -> str:
    """Return a number with about three figures and a true minus sign."""
    if places is None:
        places = 0 if abs(value) >= 99.5 else 1 if abs(value) >= 9.95 else 2
    text = f"{value:,.{places}f}"
    return text.replace("-", "−") if text.strip("-0.,") else text.lstrip("-")


def percent(value: float) -> str:
    """Return a share as a percentage."""
    return f"{value:.0%}"


def curves(runs: Sequence[Curves]) -> str:
    """Return the charts of training, those of several runs laid over each other."""
    figures = "".join(_chart(chart, runs) for chart in CHARTS)
    return f'<div class="report-charts">{figures}</div>'


def histogram(title: str, series: Sequence[tuple[str, str, Sequence[float]]], unit: str = "") -> str:
    """Return bars of how often values occur, one series over the other. series: words, style and values of each."""
    series = [(words, style, [value for value in values if math.isfinite(value)]) for words, style, values in series]
    everything = sorted(value for _, _, values in series for value in values)
    if not everything:
        return ""
    low, high = _ends(everything)
    counted = [(words, style, _counts(values, low, high)) for words, style, values in series]
    # Shares, not counts: a series of fewer values is as high as the other.
    shares = [(words, style, [count / max(1, sum(counts)) for count in counts]) for words, style, counts in counted]
    top = max(share for _, _, heights in shares for share in heights)
    bars = "".join(_bars(style, heights, top) for _, style, heights in shares)
    zero = ""
    if low < 0 < high:
        x = -low / (high - low) * WIDTH
        zero = f'<line class="report-zero" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{HEIGHT:g}"/>'
    legend = "".join(f'<span class="report-{style}">{escaped(words)}</span>' for words, style, _ in series)
    spoken = "; ".join(f"{words}: {len(values)} values, middle {number(_middle(values))}" for words, _, values in series if values)
    return (
        f'<figure><figcaption><span>{escaped(title)}</span>{legend}</figcaption>'
        f'<div class="report-plot report-bins">{_svg(bars + zero, f"{title}. {spoken}")}'
        f"<div class=report-axis><i>{number(low)}</i><i>{escaped(unit)}</i><i>{number(high)}</i></div></div></figure>"
    )


def bars(
    title: str, rows: Sequence[Bar], high: float, chance: float | None = None, shares: bool = True
) -> str:
    """Return one bar for each figure from 0 to `high`, with a line for its interval; figures that are None say so.

    chance: where a dotted line shows what chance gives. shares: figures are percentages.
    """
    drawn = "".join(_bar(row, high, chance, shares) for row in rows)
    return f'<figure><figcaption><span>{escaped(title)}</span></figcaption><div class="report-rows">{drawn}</div></figure>'


def between(interval: Interval | None, shares: bool = True) -> str:
    """Return a figure with its interval in words; "–" without one."""
    if interval is None:
        return "–"
    told = percent if shares else number
    return f"{told(interval.value)} ({told(interval.low)} to {told(interval.high)})"


def _bar(row: Bar, high: float, chance: float | None, shares: bool) -> str:
    interval = row.interval
    if interval is None:
        return f'<div class="report-row"><span>{escaped(row.words)}</span><em>nothing to measure it on</em><b>–</b></div>'
    scale = WIDTH / max(high, interval.high, 1e-9)
    at, low, end = (min(max(value * scale, 0.0), WIDTH) for value in (interval.value, interval.low, interval.high))
    shapes = f'<rect class="report-{row.style}" x="0" y="15" width="{at:.1f}" height="70"/>'
    if chance is not None:
        shapes += f'<line class="report-chance" x1="{chance * scale:.1f}" x2="{chance * scale:.1f}" y1="0" y2="100"/>'
    shapes += f'<line class="report-whisker" x1="{low:.1f}" x2="{end:.1f}" y1="50" y2="50"/>'
    shapes += "".join(f'<line class="report-whisker" x1="{x:.1f}" x2="{x:.1f}" y1="28" y2="72"/>' for x in (low, end))
    words = between(interval, shares)
    return (
        f'<div class="report-row"><span>{escaped(row.words)}</span>{_svg(shapes, f"{row.words}: {words}")}'
        f"<b>{words} <small>of {interval.count:,}</small></b></div>"
    )


def _chart(chart: Chart, runs: Sequence[Curves]) -> str:
    """Draw one chart; a run alone gets a colour for each line, several runs one colour each."""
    lines = []
    for place, run in enumerate(runs[:MOST_RUNS]):
        for key, words, style in chart.lines:
            curve = thinned(_values(run.steps, key))
            if curve or (style != HELD_OUT and len(runs) == 1):
                own = f"report-{style}" if len(runs) == 1 else f"report-run-{place}{_dash(style)}"
                named = words if len(runs) == 1 else ", ".join(filter(None, [run.name, words]))
                lines.append((named, own, curve, run.total_steps))
    values = [value for _, _, curve, _ in lines for _, value in curve]
    low = min([*values, *([] if chart.floor is None else [chart.floor])], default=0.0)
    high = max([*values, *([] if chart.ceiling is None else [chart.ceiling])], default=1.0)
    if high - low < 1e-6:
        low, high = low - 0.5, high + 0.5
    shapes = "".join(f'<polyline class="{own}" points="{_points(curve, low, high, total)}"/>' for _, own, curve, total in lines)
    if low < 0 < high:
        y = high / (high - low) * HEIGHT
        shapes = f'<line class="report-zero" x1="0" x2="{WIDTH:g}" y1="{y:.1f}" y2="{y:.1f}"/>{shapes}'
    latest = [(named, own, number(curve[-1][1]) if curve else "–") for named, own, curve, _ in lines]
    legend = "".join(f'<span class="{own}">{escaped(named)} <b>{last}</b></span>' for named, own, last in latest)
    spoken = ", ".join(f"{named} {last}".strip() for named, _, last in latest) or "no data"
    return (
        f"<figure><figcaption><span>{chart.title}</span>{legend}</figcaption>"
        f'<div class="report-plot report-lines"><i>{number(high)}</i><i>{number(low)}</i>'
        f'{_svg(shapes, f"{chart.title}: {spoken}")}</div><p>{escaped(chart.help)}</p></figure>'
    )


def _dash(style: str) -> str:
    return " report-dashed" if style in (HELD_OUT, "bad") else ""


def _values(steps: Sequence[Step], key: str) -> list[tuple[int, float]]:
    return [(step, float(values[key])) for step, values in steps if key in values and math.isfinite(values[key])]


def _points(curve: Sequence[tuple[int, float]], low: float, high: float, total_steps: int) -> str:
    span = max(1, total_steps - 1)
    points = [((step - 1) / span * WIDTH, (high - value) / (high - low) * HEIGHT) for step, value in curve]
    if len(points) == 1:  # a lone point draws nothing
        points.append((points[0][0] + 2, points[0][1]))
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _ends(ordered: Sequence[float]) -> tuple[float, float]:
    """Return the ends of a histogram's axis: most of the values, and 0."""
    last = len(ordered) - 1
    low, high = ordered[math.floor(TAILS * last)], ordered[math.ceil((1 - TAILS) * last)]
    low, high = min(low, 0.0), max(high, 0.0)
    return (low, high) if high - low > 1e-9 else (low - 0.5, high + 0.5)


def _counts(values: Sequence[float], low: float, high: float) -> list[int]:
    counts = [0] * BINS
    for value in values:
        counts[min(BINS - 1, max(0, int((value - low) / (high - low) * BINS)))] += 1
    return counts


def _bars(style: str, heights: Sequence[float], top: float) -> str:
    wide = WIDTH / BINS
    return "".join(
        f'<rect class="report-{style}" x="{place * wide:.1f}" y="{HEIGHT - height / top * HEIGHT:.1f}"'
        f' width="{wide * 0.92:.1f}" height="{height / top * HEIGHT:.1f}"/>'
        for place, height in enumerate(heights)
        if height
    )


def _middle(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _svg(shapes: str, spoken: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" preserveAspectRatio="none" role="img"'
        f' aria-label="{escaped(spoken)}">{shapes}</svg>'
    )
