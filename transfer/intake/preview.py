"""What a file seems to hold, before anything of it is stored: its format, which column is what, its first rows in words.

Owns how far a preview looks. It does not store, and it does not know pages.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from transfer.formats.messages import RowError
from transfer.formats.record import Record
from transfer.formats.registry import Format, Shape, guess, read_row
from transfer.reading.source import Source

LOOKED_ROWS = 100
SAMPLES = 3
PROBLEMS = 3


@dataclass(frozen=True)
class Preview:
    """The first rows of a file as they would come in.

    kind: what the file is ("CSV, gzip"). format: None when it is of no known one. mapping: which column is which field
    where the names differ. columns: names of the file's columns, those of objects as paths. samples: the first records.
    looked: rows read for this, all of the file when `is_whole`. good: how many of them can be used; left_out: why others
    cannot; problems: what is broken, each with its place.
    """

    kind: str
    format: Format | None
    mapping: dict[str, str]
    columns: list[str]
    samples: list[Record]
    looked: int
    is_whole: bool
    good: int
    left_out: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def preview(source: Source, shape: Shape | None = None) -> Preview:
    """Look into a source. shape: how a person says it is to be read; guessed when not given.

    Raises ImportFormatError when the file as a whole cannot be read, or holds no rows.
    """
    with closing(source.rows()) as rows:
        first = list(islice(rows, LOOKED_ROWS + 1))
        kind = source.described
    if not first:
        raise source.refused("it holds no rows")
    is_whole, first = len(first) <= LOOKED_ROWS, first[:LOOKED_ROWS]
    shape = shape or guess(row for _, row in first)
    columns = _columns(row for _, row in first)
    if shape is None:
        return Preview(kind, None, {}, columns, [], len(first), is_whole, 0)
    samples: list[Record] = []
    left_out: dict[str, None] = {}
    problems: list[str] = []
    good = 0
    for place, row in first:
        try:
            if isinstance(row, RowError):
                raise row
            reading = read_row(shape, row)
        except RowError as error:
            problems.append(f"{place}: {error}")
            continue
        good += bool(reading.records)
        left_out.update(dict.fromkeys(reading.left_out))
        samples += reading.records[: SAMPLES - len(samples)]
    more = [f"and {len(problems) - PROBLEMS} more broken rows"] if len(problems) > PROBLEMS else []
    return Preview(
        kind, shape.format, shape.columns, columns, samples, len(first), is_whole, good, list(left_out),
        problems[:PROBLEMS] + more,
    )


def _columns(rows: Any) -> list[str]:
    """Return the names of columns in the order they come, and paths into objects one level deep."""
    names: dict[str, None] = {}
    for row in rows:
        for name, value in row.items() if isinstance(row, dict) else ():
            names[name] = None
            names.update((f"{name}.{inner}", None) for inner in (value if isinstance(value, dict) else ()))
    return list(names)[:200]
