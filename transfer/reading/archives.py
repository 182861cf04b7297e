"""The files inside a ZIP archive, one after the other; nothing is written where the archive says.

Owns which members count as files of rows. It does not know what rows are.
"""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import BinaryIO

from transfer.reading.packed import CHUNK_BYTES, Budget, Counted, Member

ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
MAX_MEMBERS = 10_000
ENCRYPTED = 1
ABOUT = ("readme", "license", "licence", "citation", "notice")  # what people put beside their rows
ABOUT_ENDINGS = (".md", ".rst", ".html", ".py")


@contextmanager
def members(file: BinaryIO, budget: Budget) -> Iterator[tuple[list[Member], int]]:
    """Open an archive and give its files of rows and their size when unpacked.

    Raises ImportFormatError when it is encrypted, a spreadsheet, too large, or names a file twice.
    """
    with zipfile.ZipFile(file) as archive:
        listed = archive.infolist()
        if len(listed) > MAX_MEMBERS:
            raise budget.refuse(f"it is an archive of more than {MAX_MEMBERS} files")
        if any(info.filename == "[Content_Types].xml" for info in listed):
            raise budget.refuse("it is a spreadsheet or a document; save the table as CSV")
        kept = [info for info in listed if _holds_rows(info)]
        if any(info.flag_bits & ENCRYPTED for info in kept):
            raise budget.refuse("the archive is encrypted; unpack it and give the files inside")
        if twice := {info.filename for info in kept if sum(info.filename == each.filename for each in kept) > 1} if (
            len({info.filename for info in kept}) < len(kept)
        ) else set():
            raise budget.refuse(f"the archive holds two files called {shown(sorted(twice)[0])}")
        size = sum(info.file_size for info in kept)
        if size > budget.allowed:
            budget.spend(size)

        def opener(info: zipfile.ZipInfo) -> Member:
            def opens() -> BinaryIO:
                return io.BufferedReader(Counted(archive.open(info), budget), CHUNK_BYTES)  # type: ignore

            return Member(shown(info.filename), opens)

        yield [opener(info) for info in kept], size


def shown(name: str) -> str:
    """Return a file's name as it can be shown and stored: one line, no half characters, not endless."""
    clean = "".join(character if character.isprintable() else "?" for character in name)
    return clean.encode("utf-8", "replace").decode("utf-8")[-200:]


def _holds_rows(info: zipfile.ZipInfo) -> bool:
    path = PurePosixPath(info.filename)
    hidden = any(part.startswith((".", "__MACOSX")) and part != ".." for part in path.parts)
    link = stat.S_ISLNK(info.external_attr >> 16)
    about = path.stem.lower() in ABOUT or path.suffix.lower() in ABOUT_ENDINGS
    return not (info.is_dir() or hidden or link or about)
