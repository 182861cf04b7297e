"""A file of preferences into a project: all of it or nothing.

Owns what becomes of each row and the report of an import. It does not know how files are spelt (`reading`,
`formats`). A row that is broken refuses the whole file; a row in good form that holds nothing to label (an empty
response, two that are the same) is left out and counted by reason.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from errors import ImportFormatError
from storage import Store
from storage.records import VOTE
from transfer.formats.registry import FORMATS, Format, Record, detect, read_row
from transfer.formats.messages import RowError, Unusable
from transfer.reading.source import Source
from transfer.wording import counted, left_out_sentence, listed

ANNOTATOR = "import"
PROBLEMS_SHOWN = 5
DETECTED_ROWS = 100
PROGRESS_ROWS = 200

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    format: as in `formats.FORMATS`. rows: rows in the file. pairs, singles, prompts, labels: how many of each
    were new. duplicates: rows whose content was there already. replaced: labels among the new that changed the
    mind of an earlier import. left_out: rows with nothing to label, by reason.
    """

    file: str
    project: str
    project_id: int
    format: str
    rows: int
    pairs: int
    singles: int
    prompts: int
    labels: int
    duplicates: int
    replaced: int
    left_out: dict[str, int]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)

    def sentence(self) -> str:
        """Return the report in words."""
        news = {"pair": self.pairs, "single response": self.singles, "label": self.labels, "prompt": self.prompts}
        parts = [counted(number, f"new {noun}") for noun, number in news.items() if number]
        said = [f"{self.file} ({self.format}) went into {self.project!r}: {counted(self.rows, 'row')},"
                f" {listed(parts) or 'nothing new'}."]
        if self.duplicates:
            said.append(f"{counted(self.duplicates, 'row repeats', 'rows repeat')} what was there already.")
        if self.replaced:
            said.append(f"{counted(self.replaced, 'label')} changed an earlier import's.")
        return " ".join([*said, left_out_sentence(self.left_out)]).strip()


def import_file(
    store: Store,
    project: str,
    path: Path | str,
    *,
    name: str | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> ImportReport:
    """Store a file's prompts, responses and preferences in a project, made when there is none of that name.

    name: how the file is called in messages, if not by its path. progress: called with rows done and rows in all.
    stop: set it to cancel; nothing is stored then. Preferences become labels of the annotator that the file names, else
    of "import"; importing the same file again changes nothing.
    Raises ImportFormatError naming the file, the first rows that are wrong and why; nothing is stored then.
    """
    started = time.monotonic()
    source = Source(path, name)
    known = _detected(source)
    total, left_out = _checked(source, known)
    with store.transaction():
        into = store.projects.ensure(project)
        writer = _Writer(store, into.id, source.name)
        for number, record in enumerate(_records(source, known)):
            if stop and stop.is_set():
                raise ImportFormatError(f"{source.name}: the import was cancelled; nothing was stored.")
            if progress and number % PROGRESS_ROWS == 0:
                progress(number, total)
            writer.write(record)
    if progress:
        progress(total, total)
    counts = {key: writer.counts[key] for key in ("pairs", "singles", "prompts", "labels", "duplicates", "replaced")}
    return ImportReport(
        source.name, into.name, into.id, known.name, total, **counts,
        left_out=dict(left_out), seconds=round(time.monotonic() - started, 3),
    )


def _detected(source: Source) -> Format:
    first = [row for _, row in islice(source.rows(), DETECTED_ROWS)]
    if not first:
        raise source.refused("it holds no rows")
    if known := detect(first):
        return known
    if broken := next((row for row in first if isinstance(row, RowError)), None):
        raise source.refused(f"its first row cannot be read: {broken}. Expected are JSON lines or a JSON array")
    known_formats = "; ".join(known.description for known in FORMATS)
    found = ", ".join(repr(field[:40]) for field in list(first[0])[:8]) if isinstance(first[0], dict) else "no fields"
    raise source.refused(f"its rows ({found}) are of no format known here. Known: {known_formats}")


def _checked(source: Source, known: Format) -> tuple[int, Counter[str]]:
    """Read the whole file without storing; return how many rows it has, and those left out by reason.

    Raises ImportFormatError with the first problems, or when every row would be left out. It runs before the
    write lock is taken, so that a large file does not keep annotators waiting twice.
    """
    problems: list[str] = []
    left_out: Counter[str] = Counter()
    total = 0
    for place, row in source.rows():
        total += 1
        try:
            _read(known, row)
        except Unusable as reason:
            left_out[f"{reason}"] += 1
        except RowError as error:
            problems.append(f"{place}: {error}")
            if len(problems) > PROBLEMS_SHOWN:
                break
    if problems:
        more = "; and more after that" if len(problems) > PROBLEMS_SHOWN else ""
        raise source.refused("; ".join(problems[:PROBLEMS_SHOWN]) + more)
    if left_out.total() == total:
        raise source.refused(f"no row can be used. {left_out_sentence(_as_rows(left_out)).rstrip('.')}")
    return total, Counter(_as_rows(left_out))


def _as_rows(left_out: Counter[str]) -> dict[str, int]:
    return {f"{'row' if number == 1 else 'rows'} {reason}": number for reason, number in left_out.items()}


def _records(source: Source, known: Format) -> Iterator[Record]:
    for place, row in source.rows():
        try:
            yield _read(known, row)
        except Unusable:
            continue
        except RowError as error:  # only when the file was changed since it was checked
            raise source.refused(f"{place}: {error}") from error


def _read(known: Format, row: Any) -> Record:
    if isinstance(row, RowError):
        raise row
    return read_row(known, row)


class _Writer:
    """Stores records in one project and counts what was new. Used inside one transaction."""

    def __init__(self, store: Store, project_id: int, source: str) -> None:
        self.store, self.project_id, self.source = store, project_id, source
        self.counts: Counter[str] = Counter()

    def write(self, record: Record) -> None:
        """Store one record; one that changes nothing counts as a duplicate."""
        prompt_id, new = self.store.prompts.add(self.project_id, record.messages, self.source)
        self.counts["prompts"] += new
        if record.responses:
            ids = [self.store.responses.add(prompt_id, text, author=ANNOTATOR)[0] for text in record.responses]
            # An item that comes with the votes of named people waits for nobody else's.
            wanted = 1 if record.annotator else None
            item_id, new_item = self.store.items.add(self.project_id, prompt_id, ids, wanted_labels=wanted)
            self.counts["pairs" if len(ids) == 2 else "singles"] += new_item
            new = self._label(item_id, ids, record, new_item) if record.verdict else new_item
        self.counts["duplicates"] += not new

    def _label(self, item_id: int, response_ids: list[int], record: Record, new_item: bool) -> bool:
        """Label an item as the file does; return False when its annotator had said the same before.

        The label's id follows from its content, so that the same row again is known.
        """
        annotator, verdict = record.annotator or ANNOTATOR, record.verdict
        chosen = response_ids[record.preferred] if verdict == "chosen" else None
        by = "" if annotator == ANNOTATOR else f":{annotator}"
        client_id = f"import:{item_id}:{verdict}:{chosen or ''}{by}"
        history = [] if new_item else self.store.labels.history(item_id)
        earlier = [row for row in history if row.annotator == annotator and row.role == VOTE]
        if any(row.client_id == client_id for row in earlier):
            return False
        self.store.labels.add(
            item_id, annotator, verdict, client_id=client_id, shown_response_ids=response_ids,
            chosen_response_id=chosen, source="import",
        )
        self.counts["labels"] += 1
        self.counts["replaced"] += bool(earlier)
        return True
