"""What the Report tab shows, as plain values: the runs to choose, how far a measuring is, the report and its file.

Everything comes from the store and the runs' folders. Does not know the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import TrainingError
from report import job, page
from report.measured import FILE_NAME
from report.pictures import escaped
from report.sections import shortened
from storage import Run, Store
from training.methods import METHODS

MOST_LABELS = 50
EXCERPT_CHARACTERS = 60
DEMO = "demo"
NOT_CHOSEN = "Choose a run above."
NOTHING = "No run of this project has finished yet. Train one, then come back: this page says what it learned, and why."


@dataclass(frozen=True)
class Panel:
    """How things stand. line: HTML of one line; next_run: what a click on Measure measures; button: its words.

    active: something is being measured. mark: what a page compares to send only what has changed; its last entry is the line.
    """

    line: str
    next_run: int | None
    button: str
    active: bool
    mark: list[Any]


@dataclass(frozen=True)
class Shown:
    """A report: its HTML, the contradicted labels as (words, item id), and its file, None without runs."""

    html: str
    labels: list[tuple[str, int]]
    file: str | None


def choices(store: Store, project_id: int | None) -> list[tuple[str, int]]:
    """Return the runs of a project that can be reported, newest first, as (words, id)."""
    return [(_words(run), run.id) for run in job.measurable(store, project_id)]


def first(store: Store, run_ids: Sequence[int]) -> Run:
    """Return the first of the chosen runs. Raises TrainingError when there is none, NotFoundError when it is gone."""
    if not run_ids:
        raise TrainingError("Choose a run first.")
    return store.runs.get(run_ids[0])


def panel(store: Store, run_ids: Sequence[int]) -> Panel:
    """Return how the measuring of runs stands. Raises NotFoundError."""
    runs = [store.runs.get(run_id) for run_id in run_ids]
    stood = [(run.id, job.status(store, run), _stamp(store, run)) for run in runs]
    active = any(status.active for _, status, _ in stood)
    unmeasured = [run_id for run_id, _, stamp in stood if stamp is None]
    next_run = next(iter([*unmeasured, *run_ids]), None)
    line = "".join(f"<p>{escaped(status.line)}</p>" for _, status, _ in stood if status.line)
    if not unmeasured and next_run is not None:
        button = "Measure again"
    else:
        button = "Measure" if len(run_ids) < 2 else f"Measure run {next_run}"
    return Panel(line, next_run, button, active, [list(run_ids), [stamp for *_, stamp in stood], active, line])


def shown(store: Store, run_ids: Sequence[int], folder: Path, any_there: bool = True) -> Shown:
    """Return the report of runs; its file is written into a folder. Raises as `page.reported`, and StorageError.

    any_there: the project has runs to choose.
    """
    if not run_ids:
        words = NOT_CHOSEN if any_there else NOTHING
        return Shown(f'<div class="report"><p class="report-missing">{words}</p></div>', [], None)
    runs = page.reported(store, run_ids)
    name = f"report-run-{'-'.join(map(str, run_ids))}.html"
    file = page.save(page.alone(store, runs), folder / name)
    return Shown(page.body(store, runs), _labels(runs), str(file))


def _labels(runs: Sequence[page.Reported]) -> list[tuple[str, int]]:
    """Return the labels that the first measured run contradicts, each item once, the worst first."""
    measured = next((each.measured for each in runs if each.measured is not None), None)
    found: dict[int, str] = {}
    for each in measured.contradicted[:MOST_LABELS] if measured else ():
        prompt = shortened(" ".join(each.prompt.split()), EXCERPT_CHARACTERS)
        found.setdefault(each.item_id, f"{each.weight:.2f} · item {each.item_id} · {each.annotator} · {prompt}")
    return [(words, item_id) for item_id, words in found.items()]


def _words(run: Run) -> str:
    method = METHODS[run.method].title if run.method in METHODS else run.method
    return f"Run {run.id} · {method}" + ("" if run.model == DEMO else f" · {Path(run.model).name}")


def _stamp(store: Store, run: Run) -> int | None:
    """Return what changes when a run is measured again; None while it was not."""
    try:
        return (store.runs.folder(run.id) / FILE_NAME).stat().st_mtime_ns
    except OSError:
        return None
