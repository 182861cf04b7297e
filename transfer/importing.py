"""A file of preferences into a project: all of it or nothing, or the good rows with the bad ones in a file beside.

Owns what becomes of each row and the report of an import. It does not know how files are spelt (`reading`,
`formats`), nor how rows are stored (`storage.intake`). A row that is broken refuses the whole file; a row in good form
that holds nothing to label (an empty response, two that are the same) is left out and counted by reason.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from errors import ImportFormatError
from storage import Store
from storage.intake import Intake
from transfer.formats.messages import RowError
from transfer.formats.record import Record
from transfer.formats.registry import FORMATS, Shape, guess, named, read_row
from transfer.near_duplicates import count_near
from transfer.reading.source import Source, open_source
from transfer.wording import counted, left_out_sentence, listed

PROBLEMS_SHOWN = 5
PROBLEMS_KEPT = 1000
DETECTED_ROWS = 100
PROGRESS_ROWS = 200
READING_SHARE = 80  # percent of the progress that reading takes; storing takes the rest

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    format: as in `formats.registry.FORMATS`. rows: rows in the file. pairs, singles, rankings, prompts, labels: how many
    of each were new. duplicates: rows whose content was there already. replaced: labels among the new that changed the
    mind of an earlier import. near_duplicates: prompts of the file that say nearly what another one of it says.
    left_out: rows or answers with nothing to label, by reason. bad_rows: rows that were broken, in `bad_rows_file`.
    """

    file: str
    project: str
    project_id: int
    format: str
    rows: int
    pairs: int
    singles: int
    rankings: int
    prompts: int
    labels: int
    duplicates: int
    replaced: int
    near_duplicates: int
    left_out: dict[str, int]
    bad_rows: int
    bad_rows_file: str | None
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)

    def sentence(self) -> str:
        """Return the report in words."""
        news = {
            "pair": self.pairs, "single response": self.singles, "ranking": self.rankings, "label": self.labels,
            "prompt": self.prompts,
        }
        parts = [counted(number, f"new {noun}") for noun, number in news.items() if number]
        said = [f"{self.file} ({self.format}) went into {self.project!r}: {counted(self.rows, 'row')},"
                f" {listed(parts) or 'nothing new'}."]
        if self.duplicates:
            said.append(f"{counted(self.duplicates, 'row repeats', 'rows repeat')} what was there already.")
        if self.replaced:
            said.append(f"{counted(self.replaced, 'label')} changed an earlier import's.")
        if self.near_duplicates:
            said.append(f"{counted(self.near_duplicates, 'prompt is', 'prompts are')} nearly the same as another.")
        if self.bad_rows:
            said.append(f"{counted(self.bad_rows, 'broken row')} went to {Path(self.bad_rows_file).name}.")
        return " ".join([*said, left_out_sentence(self.left_out)]).strip()


def import_file(
    store: Store,
    project: str,
    path: Path | str,
    *,
    name: str | None = None,
    shape: Shape | None = None,
    encoding: str | None = None,
    bad_rows: Path | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> ImportReport:
    """Store a file's prompts, responses and preferences in a project, made when there is none of that name.

    path: a file, or "hub:OWNER/NAME[@CONFIG][:SPLIT]". name: how it is called in messages, if not by its path.
    shape: its format and which columns mean what; found by itself when not given. encoding: of its text, likewise.
    bad_rows: a file for broken rows (JSON lines: place, field, problem, row); the good ones are then stored. Without
    it one broken row refuses all. progress: called with percents done, and 100. stop: set it to cancel; nothing is
    stored then, unless storing has begun. Preferences become labels of the annotator that the file names, else of
    "import"; importing the same file again changes nothing.
    Raises ImportFormatError naming the file, the rows that are wrong and why (`problems`); nothing is stored then.
    """
    started = time.monotonic()
    source = open_source(path, name, encoding)
    shape = shape or _guessed(source)
    said = progress or (lambda done, total: None)
    with Intake(store) as intake, _Rejected(source, bad_rows) as rejected:
        reader = _Reader(source, shape, intake, rejected, said, stop or threading.Event())
        reader.read()
        near = count_near(intake.prompts())
        stored = intake.save(project, lambda share: said(READING_SHARE + int(share * (100 - READING_SHARE)), 100))
    return ImportReport(
        source.name, stored.project.name, stored.project.id, shape.format.name, reader.rows,
        pairs=stored.kinds["pair"], singles=stored.kinds["single"], rankings=stored.kinds["ranking"],
        prompts=stored.prompts, labels=stored.labels, replaced=stored.replaced,
        duplicates=reader.used - stored.rows, near_duplicates=near, left_out=dict(reader.left_out),
        bad_rows=rejected.count, bad_rows_file=str(bad_rows) if rejected.count else None,
        seconds=round(time.monotonic() - started, 3),
    )


def shaped(
    path: Path | str, format_name: str | None, columns: dict[str, str], encoding: str | None = None
) -> Shape | None:
    """Return the shape of a file as a person says it; None when they say nothing. columns: field -> column.

    Without a format's name the one that is found is kept, with other columns. Raises ImportFormatError for a file or a
    format that is not known.
    """
    if not format_name and not columns:
        return None
    known = named(format_name) if format_name else _guessed(open_source(path, encoding=encoding)).format
    return Shape(known, columns)


def _guessed(source: Source) -> Shape:
    with closing(source.rows()) as rows:
        first = [row for _, row in islice(rows, DETECTED_ROWS)]
    if not first:
        raise source.refused("it holds no rows")
    if shape := guess(first):
        return shape
    if broken := next((row for row in first if isinstance(row, RowError)), None):
        raise source.refused(f"its first row cannot be read: {broken}")
    known = "; ".join(known.description for known in FORMATS)
    found = ", ".join(repr(field[:40]) for field in list(first[0])[:8]) if isinstance(first[0], dict) else "no fields"
    raise source.refused(f"its rows ({found}) are of no format known here. Known: {known}")


class _Rejected:
    """Broken rows: kept as the problems of an error, or written to a file beside the one that is read."""

    def __init__(self, source: Source, path: Path | None) -> None:
        self.source, self.path = source, path
        self.problems: list[tuple[str, str, str]] = []
        self.count = 0
        self._file: Any = None

    def __enter__(self) -> _Rejected:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._file:
            self._file.close()

    def add(self, place: str, row: Any, error: RowError) -> None:
        """Take one broken row. Raises ImportFormatError when the file for them cannot be written."""
        self.count += 1
        field = getattr(error, "field", "")
        if self.path is None:
            if self.count <= PROBLEMS_KEPT:
                self.problems.append((place, field, str(error)))
            return
        said = {"place": place, "field": field, "problem": str(error), "row": None if isinstance(row, RowError) else row}
        try:
            self._file = self._file or self.path.open("w", encoding="utf-8", newline="\n")
            self._file.write(json.dumps(said, default=str) + "\n")
        except OSError as problem:
            raise self.source.refused(f"the broken rows cannot be written to {self.path} ({problem.strerror})") from problem

    def refuse(self) -> None:
        """Raise the ImportFormatError that lists the problems, when there are some and no file took them."""
        if self.problems:
            first = "; ".join(f"{place}: {problem}" for place, _, problem in self.problems[:PROBLEMS_SHOWN])
            more = self.count - PROBLEMS_SHOWN
            error = self.source.refused(first + (f"; and {counted(more, 'more broken row')}" if more > 0 else ""))
            error.problems = tuple(self.problems)
            raise error


class _Reader:
    """One reading of a source into an intake. rows, used: rows read, and those that gave something to store."""

    def __init__(
        self, source: Source, shape: Shape, intake: Intake, rejected: _Rejected, said: Progress, stop: threading.Event
    ) -> None:
        self.source, self.shape, self.intake, self.rejected = source, shape, intake, rejected
        self.said, self.stop = said, stop
        self.rows = self.used = 0
        self.left_out: Counter[str] = Counter()

    def read(self) -> None:
        """Gather every row. Raises ImportFormatError when it is cancelled, rows are broken or none can be used."""
        for place, row in self.source.rows():
            if self.rows % PROGRESS_ROWS == 0:
                self._pause()
            self.rows += 1
            try:
                if isinstance(row, RowError):
                    raise row
                reading = read_row(self.shape, row)
            except RowError as error:
                self.rejected.add(place, row, error)
                continue
            self.left_out.update(reading.left_out)
            self.used += bool(reading.records)
            for record in reading.records:
                self._gather(record)
        self.rejected.refuse()
        left_out = {f"{'row' if number == 1 else 'rows'} {reason}": number for reason, number in self.left_out.items()}
        if not self.used:
            bad = f" {counted(self.rejected.count, 'row is', 'rows are')} broken." if self.rejected.count else ""
            raise self.source.refused(f"no row can be used.{bad} {left_out_sentence(left_out)}".rstrip(". "))
        self.left_out = Counter(left_out)

    def _pause(self) -> None:
        if self.stop.is_set():
            raise ImportFormatError(f"{self.source.name}: the import was cancelled; nothing was stored.")
        self.said(int(self.source.progress * READING_SHARE), 100)

    def _gather(self, record: Record) -> None:
        # An item that comes with the votes of named people waits for nobody else's.
        named = any(opinion.annotator for opinion in record.opinions)
        self.intake.add(
            self.rows, record.messages, self.source.name, record.answers, record.opinions,
            wanted_labels=1 if named else None, is_check=record.is_check,
        )
