"""Tables of text as rows: cells between commas, semicolons or tabs, with a header.

Owns how a table is told from other text and what a cell means. An empty cell is an empty text: a table has no other
way to say it. A cell that is a JSON list or object is yielded parsed, for that is how conversations are saved in
tables. It takes UTF-8 and does not know how a file is packed.
"""

from __future__ import annotations

import ast
import csv
import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from errors import ImportFormatError
from transfer.formats.messages import RowError
from transfer.reading.json_text import MAX_ROW_BYTES, parsed

DELIMITERS = {",": "CSV", "\t": "TSV", ";": "CSV with semicolons"}
ENDINGS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
HEAD_RECORDS = 20
MAX_COLUMNS = 10_000
MAX_REPR_CHARS = 2**20
# Our own files put an apostrophe before what a spreadsheet would run as a formula; it is taken off again.
PROOFED = re.compile(r"'+[=+\-@\t\r]")
REPR_STARTS = ("[{'", "{'")

Refuse = Callable[[str], ImportFormatError]


def delimiter(head: str, ending: str) -> str | None:
    """Return what separates the cells of a table from the beginning of its text; None when it is no table.

    ending: of the file's name; it decides where the text does not, and makes a table of a single column.
    """
    expected = ENDINGS.get(ending)
    best: tuple[float, int, bool] = (0.0, 1, False)
    found = None
    for candidate in DELIMITERS:
        widths = _widths(head, candidate)
        if not widths or widths[0] < 2:
            continue
        score = (sum(width == widths[0] for width in widths) / len(widths), widths[0], candidate == expected)
        score = score if score[0] < 1 else (1.0, score[2] * 10**6 + score[1], True)
        if score > best:
            best, found = score, candidate
    if found and (best[0] >= 0.5 or expected):
        return found
    return expected


def rows(file: BinaryIO, separator: str, refuse: Refuse) -> Iterator[tuple[str, Any]]:
    """Yield `(place, row)` for each row of a table after its header. Raises ImportFormatError for a broken table."""
    if csv.field_size_limit() < MAX_ROW_BYTES:
        csv.field_size_limit(MAX_ROW_BYTES)
    lines = _Lines(file, refuse)
    records = csv.reader(lines, delimiter=separator, strict=True)
    header: list[str] | None = None
    while True:
        start = lines.number + 1
        try:
            cells = next(records)
        except StopIteration:
            return
        except csv.Error as error:
            unclosed = "unexpected end" in str(error) or "field larger" in str(error)
            if unclosed:
                raise refuse(f"a quote that opens in the row at line {start} is never closed") from error
            if header is None:
                raise refuse(f"its header at line {start} cannot be read ({error})") from error
            yield f"line {start}", RowError(f"its cells cannot be read ({error})")
            continue
        if not cells:
            continue
        if header is None:
            header, skipped = _header(cells, start, refuse)
        elif len(cells) != len(header) + skipped:
            found = f"{len(cells)} {'cell' if len(cells) == 1 else 'cells'}"
            yield f"line {start}", RowError(f"it has {found} where the header has {len(header) + skipped}")
        else:
            yield f"line {start}", {
                name: cell if cell[:1] not in "'[{" or not cell else _meant(cell)
                for name, cell in zip(header, cells[skipped:], strict=True)
            }


def _widths(head: str, separator: str) -> list[int]:
    widths: list[int] = []
    # The last line of the head may be cut.
    lines = head.splitlines(keepends=True)
    records = csv.reader(iter(lines[:-1] if len(lines) > 1 and not head.endswith("\n") else lines), delimiter=separator)
    try:
        for record in records:
            widths += [len(record)] if record else []
            if len(widths) == HEAD_RECORDS:
                break
    except csv.Error:
        pass
    return widths


def _header(cells: list[str], line: int, refuse: Refuse) -> tuple[list[str], int]:
    """Return the names of the columns, and how many nameless ones go before them (the row numbers of pandas)."""
    skipped = 1 if not cells[0].strip() and len(cells) > 1 else 0
    names = [cell.strip() for cell in cells[skipped:]]
    if len(names) > MAX_COLUMNS:
        raise refuse(f"its header at line {line} has more than {MAX_COLUMNS} columns")
    if "" in names:
        raise refuse(f"column {names.index('') + skipped + 1} has no name in the header at line {line}")
    if len(set(names)) < len(names):
        twice = next(name for at, name in enumerate(names) if name in names[:at])
        raise refuse(f"two columns are called {twice[:40]!r} in the header at line {line}")
    return names, skipped


def _meant(cell: str) -> Any:
    """Return what a cell that begins with an apostrophe or a bracket means."""
    if cell[0] == "'":
        return cell[1:] if PROOFED.match(cell) else cell
    try:
        value = parsed(cell.encode("utf-8"))
    except UnicodeEncodeError:
        return cell
    if isinstance(value, (list, dict)):
        return value
    if cell.startswith(REPR_STARTS) and len(cell) <= MAX_REPR_CHARS:
        return _messages_of_pandas(cell)
    return cell


def _messages_of_pandas(cell: str) -> Any:
    """Return the messages that pandas wrote as Python would show them, or the cell as it is."""
    try:
        value = ast.literal_eval(cell)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return cell
    messages = value if isinstance(value, list) else [value]
    said = all(isinstance(each, dict) and ("role" in each or "from" in each) for each in messages)
    return value if messages and said else cell


class _Lines:
    """The lines of a table as texts, with their ends; `number` counts those given out."""

    def __init__(self, file: BinaryIO, refuse: Refuse) -> None:
        self._file, self._refuse, self.number = file, refuse, 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._file.readline(MAX_ROW_BYTES + 1)
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) > MAX_ROW_BYTES:
            raise self._refuse(f"line {self.number} is longer than {MAX_ROW_BYTES // 2**20} MB")
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._refuse(
                f"line {self.number} is not UTF-8 text at byte {error.start + 1}; save the file as UTF-8, or name its"
                " encoding"
            ) from error
