"""Bytes out of files and gzip streams: how far they are read, and how much may come out of how little.

Owns the counting of packed and unpacked bytes. It does not know what the bytes mean.
"""

from __future__ import annotations

import gzip
import io
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from errors import ImportFormatError

CHUNK_BYTES = 256 * 2**10
GZIP_MAGIC = b"\x1f\x8b"
# Text packs to a tenth, repeated text to a hundredth; a file that is built to fill a disk to a thousandth.
FREE_BYTES = 256 * 2**20
MAX_RATIO = 200
MAX_BYTES = 64 * 2**30


class Budget:
    """How much may come out of a packed file. One for each reading of it; raises ImportFormatError past its end."""

    def __init__(self, packed_bytes: int, refuse: Callable[[str], ImportFormatError]) -> None:
        self.allowed = min(MAX_BYTES, max(FREE_BYTES, packed_bytes * MAX_RATIO))
        self.refuse = refuse
        self.spent = 0

    def spend(self, count: int) -> None:
        """Count bytes that came out."""
        self.spent += count
        if self.spent > self.allowed:
            size = f"{self.allowed // 2**20} MB"
            raise self.refuse(f"it unpacks to more than {size}, far more than its own size; unpack it and look inside")


class Counted(io.RawIOBase):
    """A packed file read forwards; what comes out of it spends a budget."""

    def __init__(self, file: BinaryIO, budget: Budget) -> None:
        self._file, self._budget = file, budget

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: memoryview) -> int:
        """Read into a buffer and return how many bytes."""
        count = self._file.readinto(buffer)  # type: ignore[attr-defined]
        self._budget.spend(count)
        return count

    def close(self) -> None:
        """Close the file below too."""
        if not self.closed:
            self._file.close()
        super().close()


@dataclass
class Member:
    """A file, or one inside an archive. opens: gives its bytes from the first on, each time anew.

    path: where it lies by itself; None when it is inside gzip or an archive, so that it can only be read forwards.
    """

    name: str
    opens: Callable[[], BinaryIO]
    path: Path | None = None

    def head(self, count: int) -> bytes:
        """Return its first bytes."""
        with self.opens() as file:
            return file.read(count)


def gunzipped(member: Member, budget: Budget) -> Member:
    """Return what is inside a member packed with gzip."""

    def opens() -> BinaryIO:
        unpacked = _GzipFile(member.opens())
        return io.BufferedReader(Counted(unpacked, budget), CHUNK_BYTES)  # type: ignore[arg-type,return-value]

    return Member(member.name.removesuffix(".gz"), opens)


@contextmanager
def unpacked(member: Member) -> Iterator[Path]:
    """Give the path of a member, to read it in any order: its own, or that of a copy that goes when this ends."""
    if member.path:
        yield member.path
        return
    with tempfile.TemporaryDirectory(prefix="preference-studio-") as folder:
        path = Path(folder) / "unpacked"
        with member.opens() as file, path.open("wb") as copy:
            shutil.copyfileobj(file, copy, CHUNK_BYTES)
        yield path


class _GzipFile(gzip.GzipFile):
    """gzip.GzipFile leaves a file open that it was handed open; this one closes it."""

    def __init__(self, packed: BinaryIO) -> None:
        super().__init__(fileobj=packed, mode="rb")
        self._packed = packed

    def close(self) -> None:
        super().close()
        self._packed.close()
