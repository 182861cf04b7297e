"""The page of one or several runs, and the same as one HTML file to send. Reads the store and what was measured.

A run that was not measured yet shows its curves. Knows no web server; the only style sheet is `report.css`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from errors import StorageError, TrainingError
from report import sections
from report.measured import Figures, Measured, read
from report.pictures import MOST_RUNS, Curves, between, curves, escaped, number
from storage import Run, Store
from training.methods import METHODS

NOT_MEASURED = (
    "This run was not measured yet, so only its curves are here. Press Measure: it scores every label before and after"
    " training, and takes about as long as a few steps."
)
FIGURES_WHY = "The runs beside each other. Compare runs only on labels that neither of them was trained on."


@dataclass(frozen=True)
class Reported:
    """One run of a report, with what was measured of it, if anything was."""

    run: Run
    measured: Measured | None

    @property
    def title(self) -> str:
        """The run's number and method, for people."""
        method = METHODS[self.run.method].title if self.run.method in METHODS else self.run.method
        return f"Run {self.run.id} · {method}"


def reported(store: Store, run_ids: Sequence[int]) -> list[Reported]:
    """Return runs with their reports, in the order given. Raises NotFoundError, and TrainingError for none or too many."""
    wanted = list(dict.fromkeys(run_ids))
    if not wanted:
        raise TrainingError("Choose at least one run.")
    if len(wanted) > MOST_RUNS:
        raise TrainingError(f"At most {MOST_RUNS} runs fit beside each other. Choose fewer.")
    return [Reported(store.runs.get(run_id), read(store.runs.folder(run_id))) for run_id in wanted]


def report(store: Store, run_ids: Sequence[int]) -> str:
    """Return the sections of runs as HTML, to be put into a page that has `css`. Raises as `reported`."""
    return body(store, reported(store, run_ids))


def body(store: Store, runs: Sequence[Reported]) -> str:
    """Return the report of runs: what they share, then each by itself."""
    lines = [
        Curves(each.title, [(row.step, row.values) for row in store.runs.metrics(each.run.id)], each.run.total_steps)
        for each in runs
    ]
    shared = [sections.section("Training", escaped(sections.FALLING), curves(lines))]
    if len(runs) > 1:
        shared.insert(0, sections.section("Figures", FIGURES_WHY, _table(store, runs)))
    own = [_of(each, alone=len(runs) == 1) for each in runs]
    # Alone, a run's first words come before its curves.
    parts = [own[0][0], *shared, *own[0][1]] if len(runs) == 1 else [*shared, *(part for first, rest in own for part in (first, *rest))]
    return f'<div class="report">{"".join(parts)}</div>'


def standalone(store: Store, run_ids: Sequence[int]) -> str:
    """Return a report as one HTML file that needs nothing else: no script, no font, no picture from elsewhere.

    Raises as `reported`.
    """
    return alone(store, reported(store, run_ids))


def alone(store: Store, runs: Sequence[Reported]) -> str:
    """Return the file of `standalone` for runs that were read already."""
    names = ", ".join(each.title for each in runs)
    project = store.projects.by_id(runs[0].run.project_id).name
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    said = time.strftime("%d %B %Y, %H:%M")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"><meta name="color-scheme" content="light dark">'
        f"<title>{escaped(names)}</title><style>{css()}</style></head>"
        f'<body class="report-alone"><h1>{escaped(names)}</h1>'
        f'<p class="report-why">Project “{escaped(project)}”, model {_models(runs)}. Written {said} by Preference Studio.</p>'
        f"{body(store, runs)}</body></html>\n"
    )


def write(store: Store, run_ids: Sequence[int], path: Path) -> Path:
    """Write `standalone` to a file, whole or not at all, and return it. Raises StorageError, and as `reported`."""
    return save(standalone(store, run_ids), path)


def save(text: str, path: Path) -> Path:
    """Write a page to a file, whole or not at all, and return it. Raises StorageError."""
    path = Path(path)
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(text, encoding="utf-8", errors="replace")
        os.replace(unfinished, path)
    except OSError as error:
        raise StorageError(f"The report could not be written to {path} ({error}). Choose another place.") from error
    return path


def css() -> str:
    """Return the style sheet of a report."""
    return Path(__file__).with_name("report.css").read_text(encoding="utf-8")


def _of(each: Reported, alone: bool) -> tuple[str, Sequence[str]]:
    """Return the first section of a run, and the others; among several it has a heading."""
    heading = "" if alone else f"<h2>{escaped(each.title)}</h2>"
    if each.measured is None:
        return f'{heading}<p class="report-missing">{NOT_MEASURED}</p>', []
    first, *rest = sections.all_of(each.measured)
    return heading + first, rest


def _models(runs: Sequence[Reported]) -> str:
    return ", ".join(dict.fromkeys(f"“{escaped(each.run.model)}”" for each in runs))


def _main(pick: Callable[[Figures], str]) -> Callable[[Measured], str]:
    """Return what takes a figure from the examples held out; "–" where none were."""
    return lambda measured: "–" if measured.held_out is None else pick(measured.held_out)


ROWS: tuple[tuple[str, Callable[[Measured], str]], ...] = (
    ("Labels held out", _main(lambda figures: f"{figures.examples:,}")),
    ("Agrees by reward, held out", _main(lambda figures: between(figures.accuracy_after))),
    ("Preferred is the likelier, before", _main(lambda figures: between(figures.likelier_before))),
    ("Preferred is the likelier, after", _main(lambda figures: between(figures.likelier_after))),
    ("Loss held out, before", _main(lambda figures: between(figures.loss_before, shares=False))),
    ("Loss held out, after", _main(lambda figures: between(figures.loss_after, shares=False))),
    ("Longer answer is the better one", _main(lambda figures: between(figures.by_length))),
    ("Agrees by reward, trained on", lambda measured: between(measured.trained.accuracy_after if measured.trained else None)),
    ("Tokens of an answer, before", lambda measured: between(measured.lengths[0], shares=False)),
    ("Tokens of an answer, after", lambda measured: between(measured.lengths[1], shares=False)),
    ("Nats from the base, an answer", lambda measured: between(measured.kl, shares=False)),
    ("Labels contradicted (weight above 0.5)", lambda measured: str(sum(each.margin_after < 0 for each in measured.examples))),
)


def _labels_used(store: Store, runs: Sequence[Reported]) -> list[str]:
    """Say how many labels each run used, and how many of them are those of the first, or of one before it."""
    used = [set(store.runs.label_ids(each.run.id)) for each in runs]
    told = []
    for place, each in enumerate(runs):
        # A copy of a label has another number: what is equal is told by the snapshots.
        same = [other.run.id for other in runs[:place] if other.run.snapshot == each.run.snapshot]
        shared = len(used[place] & used[0])
        words = f"{len(used[place]):,}"
        if same:
            words += f", the same as run {same[0]}"
        elif place:
            words += f", {shared:,} of them also in run {runs[0].run.id}" if shared else f", others than run {runs[0].run.id}"
        told.append(words)
    return told


def _table(store: Store, runs: Sequence[Reported]) -> str:
    """Return the figures of several runs, one column each."""
    heads = "".join(f"<th>{escaped(each.title)}</th>" for each in runs)
    told: list[tuple[str, list[str]]] = [
        ("Model", [escaped(each.run.model) for each in runs]),
        ("Labels used", _labels_used(store, runs)),
        ("Steps", [str(each.run.step) for each in runs]),
        ("Loss, last step", [number(each.run.summary["loss"]) if "loss" in each.run.summary else "–" for each in runs]),
    ]
    told += [(words, ["not measured" if each.measured is None else pick(each.measured) for each in runs]) for words, pick in ROWS]
    rows = "".join(f"<tr><th>{words}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>" for words, cells in told)
    return f'<div class="report-scroll"><table><thead><tr><th></th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
