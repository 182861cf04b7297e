"""Files of JSON or JSON lines as rows, each with its place, for files that nobody has checked before.

Owns containers and encodings: `.gz`, a byte order mark, an array or one object a line. It does not know formats.
JSON lines are read one at a time; an array is held in memory, so a large file should be JSON lines.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from errors import ImportFormatError
from transfer.formats.messages import RowError

MAX_LINE_BYTES = 64 * 2**20
MAX_ARRAY_BYTES = 512 * 2**20
GZIP_MAGIC, UTF8_BOM = b"\x1f\x8b", b"\xef\xbb\xbf"
UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")


class Source:
    """A file of rows that can be read several times. name: how it is called in messages."""

    def __init__(self, path: Path | str, name: str | None = None) -> None:
        self.path = Path(path)
        self.name = name or self.path.name
        self._array: list[Any] | None = None

    def rows(self) -> Iterator[tuple[str, Any]]:
        """Yield `(place, row)` for each row: "line 3" or "row 3", and the parsed value, or a RowError in its stead.

        Raises ImportFormatError when the file as a whole cannot be read.
        """
        try:
            with self._open() as file:
                head = file.read(1024).removeprefix(UTF8_BOM)
                file.seek(0)
                if head.startswith(UTF16_BOMS):
                    raise self.refused("it is UTF-16 text; save it as UTF-8")
                if head.lstrip()[:1] == b"[":
                    yield from self._array_rows(file)
                else:
                    yield from self._lines(file)
        except FileNotFoundError as error:
            raise self.refused("there is no such file") from error
        except (OSError, EOFError, zlib.error) as error:
            raise self.refused(f"it cannot be read ({error})") from error

    def refused(self, why: str) -> ImportFormatError:
        """Return the error that names the file and says that nothing of it was stored."""
        return ImportFormatError(f"{self.name}: nothing was stored; {why}.")

    def _open(self) -> BinaryIO:
        with self.path.open("rb") as file:
            packed = file.read(2) == GZIP_MAGIC
        return gzip.open(self.path, "rb") if packed else self.path.open("rb")  # type: ignore[return-value]

    def _lines(self, file: BinaryIO) -> Iterator[tuple[str, Any]]:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise self.refused(f"line {number} is longer than {MAX_LINE_BYTES // 2**20} MB")
            if line.strip(b" \t\r\n" + UTF8_BOM if number == 1 else b" \t\r\n"):
                yield f"line {number}", _parsed(line.removeprefix(UTF8_BOM) if number == 1 else line)

    def _array_rows(self, file: BinaryIO) -> Iterator[tuple[str, Any]]:
        if self._array is None:
            content = file.read(MAX_ARRAY_BYTES + 1)
            if len(content) > MAX_ARRAY_BYTES:
                size = f"{MAX_ARRAY_BYTES // 2**20} MB"
                raise self.refused(f"it is a JSON array of more than {size}; save it as JSON lines (one row a line)")
            parsed = _parsed(content.removeprefix(UTF8_BOM))
            if isinstance(parsed, RowError):
                raise self.refused(str(parsed))
            self._array = parsed
        yield from ((f"row {number}", row) for number, row in enumerate(self._array, start=1))


def _parsed(content: bytes) -> Any:
    """Return the JSON value of a line or a file, or the RowError that says why there is none."""
    try:
        return json.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        place = f" (line {line})" if line > 1 else ""
        return RowError(f"it is not UTF-8 text at byte {error.start + 1}{place}; save the file as UTF-8")
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        return RowError(f"it is not valid JSON at {place} ({error.msg})")
    except RecursionError:
        return RowError("it is nested too deeply")
    except ValueError as error:  # a number of thousands of digits
        return RowError(f"it is not valid JSON ({error})")
