"""Rows as JSON lines, CSV or Parquet, whole or not at all. Does not know what a row means."""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from errors import ConfigError, StorageError

Row = dict[str, Any]
ROWS_A_GROUP = 5_000
# What a spreadsheet would run as a formula. One apostrophe more on the way out, one less on the way in.
FORMULA = re.compile(r"'*[=+\-@\t\r]")
SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


def file_type(path: Path) -> str:
    """Return the suffix that says what a file is: ".jsonl", ".csv" or ".parquet". Raises ConfigError for another."""
    if path.is_dir():
        raise StorageError(f"Nothing was exported: {path} is a folder. Give the name of a file.")
    name = path.name.lower()
    suffix = Path(name.removesuffix(".gz")).suffix
    if suffix not in SUFFIXES or (suffix == ".parquet" and name.endswith(".gz")):
        raise ConfigError(f"{path.name}: a file can end in .jsonl, .csv (both with .gz too) or .parquet")
    return ".jsonl" if suffix == ".json" else suffix


def write(path: Path, rows: Iterable[Row], schema: Any = None) -> int:
    """Write rows to a file by its suffix; return how many. schema: of Parquet, a `pyarrow.Schema`."""
    kind = file_type(path)
    with written(path) as file:
        if kind == ".parquet":
            return _parquet(file, rows, schema)
        if not path.name.endswith(".gz"):
            return (_csv if kind == ".csv" else _jsonl)(file, rows)
        with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6, filename="", mtime=0) as packed:
            return (_csv if kind == ".csv" else _jsonl)(packed, rows)  # type: ignore[arg-type]


def _jsonl(file: BinaryIO, rows: Iterable[Row]) -> int:
    number = 0
    for number, row in enumerate(rows, start=1):
        file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    return number


def _csv(file: BinaryIO, rows: Iterable[Row]) -> int:
    """Write UTF-8 with a byte order mark: without it spreadsheets take the text for another encoding."""
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="", write_through=False)
    writer, number = csv.writer(text), 0
    for number, row in enumerate(rows, start=1):
        if number == 1:
            writer.writerow(row)
        writer.writerow([_cell(value) for value in row.values()])
    text.flush()
    text.detach()
    return number


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if not isinstance(value, str):
        return value if isinstance(value, float) else orjson.dumps(value).decode()
    return f"'{value}" if FORMULA.match(value) else value


def _parquet(file: BinaryIO, rows: Iterable[Row], schema: Any) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, number = iter(rows), 0
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        while group := list(islice(rows, ROWS_A_GROUP)):
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
            number += len(group)
    return number


def schema_of(kind: str) -> Any:
    """Return the columns of a kind of export as a `pyarrow.Schema`."""
    import pyarrow as pa

    text, whole = pa.string(), pa.int64()
    messages = pa.list_(pa.struct([("role", text), ("content", text)]))
    turn = pa.struct([("from", text), ("value", text)])
    # Settings differ from row to row: a column of one type can hold them only as JSON.
    response = pa.struct([("text", text), ("model", text), ("settings", text), ("author", text)])
    columns = {
        "trl-preference": {"prompt": messages, "chosen": messages, "rejected": messages},
        "trl-unpaired": {"prompt": messages, "completion": messages, "label": pa.bool_()},
        "sharegpt": {"conversations": pa.list_(turn), "chosen": turn, "rejected": turn},
        "labels": {
            "project": text, "label": whole, "item": whole, "replaces": whole, "current": pa.bool_(),
            "prompt": messages, "responses": pa.list_(response), "verdict": text, "chosen": whole,
            "tiers": pa.list_(pa.list_(whole)), "rejected": whole, "better": response, "role": text,
            "annotator": text, "strength": whole, "reasons": pa.list_(text), "comment": text,
            "shown": pa.list_(whole), "active_seconds": pa.float64(), "picked": text, "margin": pa.float64(),
            "source": text, "created_at": pa.float64(), "is_check": pa.bool_(),
        },
    }
    return pa.schema(list(columns[kind].items()))


@contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """Write a file beside its place and move it there when all of it is on the disk.

    Raises StorageError when it cannot be written.
    """
    if not path.parent.is_dir():
        raise StorageError(f"Nothing was exported: the folder {path.parent} does not exist. Make it first.")
    if path.is_dir():
        raise StorageError(f"Nothing was exported: {path} is a folder. Give the name of a file.")
    partial = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex[:8]}.part")
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        sync_folder(path.parent)
    except OSError as error:
        raise StorageError(f"Nothing was exported: {path} cannot be written ({error.strerror or error}).") from error
    finally:
        partial.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Put a folder's list of names on the disk, without which a rename may be lost with the power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
