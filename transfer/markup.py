"""What the cards of the Data tab show that is not a control, as HTML: numbers and our own words only."""

from __future__ import annotations

from transfer.desk import Overview
from transfer.jobs import JobState


def figures(overview: Overview) -> str:
    """Return the counts as HTML; numbers and our own words only."""
    cells = [
        (overview.prompts, "prompts", ""),
        (overview.pairs, "pairs", f"{overview.pairs_done:,} labelled"),
        (overview.singles, "single answers", f"{overview.singles_done:,} labelled"),
        *([(overview.rankings, "rankings", f"{overview.rankings_done:,} labelled")] if overview.rankings else []),
        (overview.labels, "labels", "ready to train on" if overview.labels else ""),
    ]
    return "<dl>" + "".join(
        f"<div><dd>{number:,}</dd><dt>{noun}</dt><small>{note}</small></div>" for number, noun, note in cells
    ) + "</dl>"


def bar(state: JobState | None) -> str:
    """Return a progress bar as HTML while a job runs, or nothing."""
    if state is None or not state.running:
        return ""
    percent = 100 * state.done / state.total if state.total else 0
    waiting = "" if state.done else " data-waiting"
    return f'<div class="data-bar{waiting}"><div style="width:{percent:.0f}%"></div></div>'
