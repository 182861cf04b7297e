"""Any file as rows, each with its place, for files that nobody has checked before.

Owns the order of the layers: what packs the file, what its text is encoded in, what lays out its rows, each found by
content. Whatever is wrong with a file comes out as a RowError or an ImportFormatError. It does not know formats.
"""

from __future__ import annotations

import csv
import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from errors import ImportFormatError
from transfer.formats.messages import RowError
from transfer.reading import archives, columnar, delimited, encodings, json_text
from transfer.reading.packed import CHUNK_BYTES, GZIP_MAGIC, Budget, Member, gunzipped, unpacked

HUB = "hub:"
HEAD_BYTES = 64 * 2**10
FIRST_LINES = 5
# What the libraries below raise for a file that is broken; pyarrow's own errors are turned into words by `columnar`.
UNREADABLE = (
    OSError, EOFError, zlib.error, zipfile.BadZipFile, zipfile.LargeZipFile, csv.Error, struct.error, ValueError,
    RecursionError, MemoryError, OverflowError, NotImplementedError, KeyError, IndexError, RuntimeError,
)
OTHERS = {
    b"BZh": "packed with bzip2", b"\xfd7zXZ": "packed with xz", b"\x28\xb5\x2f\xfd": "packed with Zstandard",
    b"7z\xbc\xaf": "a 7z archive", b"Rar!": "a RAR archive", b"%PDF": "a PDF document",
    b"SQLite format 3": "an SQLite database", b"\x89PNG": "a picture", b"\xff\xd8\xff": "a picture",
    b"FEA1": "an old Feather file", b"\xd0\xcf\x11\xe0": "an old office document", b"\x89HDF": "an HDF5 file",
}
Rows = Iterator[tuple[str, Any]]


def open_source(path: Path | str, name: str | None = None, encoding: str | None = None) -> Source:
    """Return the rows of a file, or of a data set on a hub.

    path: a file; or "hub:OWNER/NAME", with "@CONFIG" and ":SPLIT" behind it where the set has several.
    name: how it is called in messages, if not by its path. encoding: of its text, if not what is found by itself.
    """
    if isinstance(path, str) and path.startswith(HUB):
        from transfer.reading.hub import HubSource

        return HubSource(path.removeprefix(HUB), name)
    return Source(path, name, encoding)


class Source:
    """A file of rows that can be read several times. name: how it is called in messages."""

    def __init__(self, path: Path | str, name: str | None = None, encoding: str | None = None) -> None:
        self.path = Path(path)
        self.name = archives.shown(name or self.path.name or str(path))
        self._encoding = encoding
        self._layers: list[str] = []
        self._reached, self._measure = 0.0, lambda: 0.0

    def rows(self) -> Rows:
        """Yield `(place, row)` for each row: "line 3" or "row 3", and the parsed value, or a RowError in its stead.

        Raises ImportFormatError when the file as a whole cannot be read.
        """
        self._reached, self._measure, self._layers = 0.0, lambda: 0.0, []
        try:
            yield from self._rows()
        except FileNotFoundError as error:
            raise self.refused("there is no such file") from error
        except UnicodeError as error:
            raise self.refused(f"its text is not {self._encoding or 'of one encoding'} throughout; save it as UTF-8"
                               f" ({_short(error)})") from error
        except UNREADABLE as error:
            raise self.refused(f"it cannot be read ({_short(error)})") from error
        self._reached, self._measure = 1.0, lambda: 1.0

    def refused(self, why: str) -> ImportFormatError:
        """Return the error that names the file and says that nothing of it was stored."""
        return ImportFormatError(f"{self.name}: nothing was stored; {why}.")

    @property
    def progress(self) -> float:
        """The share of it that the reading under way has read, 0 to 1."""
        with suppress(ValueError):  # it was closed this moment, while another thread asks
            self._reached = max(self._reached, min(1.0, self._measure()))
        return self._reached

    @property
    def described(self) -> str:
        """What kind of file it is, in words, once its first row was read: "JSON lines, gzip"."""
        return ", ".join(self._layers)

    def _rows(self) -> Rows:
        if self._encoding and not encodings.known(self._encoding):
            raise self.refused(f"there is no encoding called {self._encoding[:40]!r}; UTF-8 is the usual one")
        status = self.path.stat()
        # A pipe or a device would never end.
        if not stat.S_ISREG(status.st_mode):
            what = "a folder" if stat.S_ISDIR(status.st_mode) else "a device or a pipe"
            raise self.refused(f"it cannot be read: it is {what}, not a file")
        budget = Budget(status.st_size, self.refused)
        member = Member(self.path.name, partial(self._opened, max(1, status.st_size)), self.path)
        head = member.head(HEAD_BYTES)
        if not head.startswith(archives.ZIP_MAGICS):
            yield from self._member(member, head, budget, self.refused)
            return
        with self.path.open("rb") as file, archives.members(file, budget) as (members, size):
            yield from self._archive(members, max(1, size), budget)

    def _opened(self, size: int) -> BinaryIO:
        file = io.BufferedReader(io.FileIO(self.path), CHUNK_BYTES)
        # The place of the reader above the buffer: a small file is not read whole with its first row.
        self._measure = lambda: 0.0 if file.closed else file.tell() / size
        return file

    def _archive(self, members: list[Member], size: int, budget: Budget) -> Rows:
        if not members:
            raise self.refused("the archive holds no files of rows")
        self._measure = lambda: budget.spent / size
        for member in members:
            called = member.name

            def refused(why: str, called: str = called) -> ImportFormatError:
                return self.refused(f"in {called}: {why}")

            layers = self._layers
            self._layers = []
            for place, row in self._member(member, member.head(HEAD_BYTES), budget, refused):
                if not layers:
                    count = f"ZIP of {len(members)} {'file' if len(members) == 1 else 'files'}"
                    layers = [f"{count}: {', '.join(self._layers)}"]
                self._layers = layers
                yield f"{called} {place}", row
            self._layers = layers

    def _member(
        self, member: Member, head: bytes, budget: Budget, refused: Callable[[str], ImportFormatError]
    ) -> Rows:
        """Yield the rows of one file that is no archive: unpack it, find what it is, and read it."""
        layers: list[str] = []
        if head.startswith(GZIP_MAGIC):
            member, layers = gunzipped(member, budget), ["gzip"]
            head = member.head(HEAD_BYTES)
        if head.startswith((GZIP_MAGIC, *archives.ZIP_MAGICS)):
            raise refused("it is an archive inside an archive; unpack it first")
        if what := next((what for magic, what in OTHERS.items() if head.startswith(magic)), None):
            raise refused(f"it is {what}; save the rows as JSON lines, CSV or Parquet")
        if head[257:262] == b"ustar":
            raise refused("it is a tar archive; unpack it first")
        if kind := columnar.kind_of(head):
            yield from self._columnar(member, kind, layers, refused)
        else:
            yield from self._text(member, layers, refused)

    def _columnar(self, member: Member, kind: str, layers: list[str], refused: Any) -> Rows:
        self._layers = [kind, *layers]

        def share(reached: float) -> None:
            if member.path:  # what is packed is measured by what comes out of it
                self._measure = lambda: reached

        share(0.0)
        with unpacked(member) as path:
            yield from columnar.rows(path, kind, refused, share)

    def _text(self, member: Member, layers: list[str], refused: Any) -> Rows:
        encoding = self._encoding or self._detected(member, refused)
        spelt = encodings.shown(encoding)

        def open_text() -> io.BufferedReader:
            return encodings.as_utf8(member.opens(), encoding)

        with open_text() as file:
            separator = _separator(member.name, file.read(HEAD_BYTES))
        kind = "" if separator else json_text.layout(open_text)
        named = delimited.DELIMITERS[separator] if separator else json_text.NAMES[kind]
        self._layers = [named, *([spelt] if spelt != "UTF-8" else []), *layers]
        with open_text() as file:
            if separator:
                yield from delimited.rows(file, separator, refused)
            else:
                yield from json_text.rows(file, kind, refused)

    def _detected(self, member: Member, refused: Any) -> str:
        sample = member.head(encodings.SAMPLE_BYTES)
        try:
            return encodings.detect(sample)
        except encodings.UnknownEncoding:
            if b"\0" in sample[:HEAD_BYTES]:
                raise refused("it is neither text nor a kind of file known here (JSON, CSV, Parquet, Arrow)") from None
            # Most rows may be UTF-8 all the same; the others are named one by one.
            return "utf-8"


def _separator(name: str, head: bytes) -> str | None:
    """Return what separates the cells of a text's rows; None when its rows are JSON."""
    text, ending = head.decode("utf-8", "ignore"), Path(name.removesuffix(".gz")).suffix.lower()
    if text.lstrip()[:1] in ("{", "["):
        return None
    lines = [line for line in head.split(b"\n", FIRST_LINES + 1)[:FIRST_LINES] if line.strip()]
    if any(isinstance(json_text.parsed(line), dict) for line in lines):
        return None
    if lines and ending not in delimited.ENDINGS and not isinstance(json_text.parsed(lines[0]), RowError):
        return None
    return delimited.delimiter(text, ending)


def _short(error: BaseException) -> str:
    return archives.shown(" ".join(str(error).split()) or type(error).__name__)
