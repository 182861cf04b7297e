"""Parquet and Arrow files as rows.

Owns the size of a batch, so that memory stays bounded whatever a file says, and what a value of theirs is in JSON. It
does not know how a file is packed. pyarrow is imported when the first such file is read.
"""

from __future__ import annotations

import datetime
import decimal
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from errors import ImportFormatError
from transfer.formats.messages import RowError
from transfer.reading.json_text import MAX_ROW_BYTES

MAGICS = {b"PAR1": "Parquet", b"ARROW1": "Arrow", b"\xff\xff\xff\xff": "Arrow stream"}
BATCH_BYTES = 16 * 2**20
BATCH_ROWS = 1024
# What a batch may grow to when every value is the largest of its dictionary.
WORST_BATCH_BYTES = 256 * 2**20
BUFFER_BYTES = 2**20
HEADER_BYTES = 64

Refuse = Callable[[str], ImportFormatError]
Share = Callable[[float], None]
Rows = Iterator[tuple[str, Any]]


def kind_of(head: bytes) -> str | None:
    """Return "Parquet", "Arrow", "Arrow stream", or None, from the first bytes of a file."""
    return next((kind for magic, kind in MAGICS.items() if head.startswith(magic)), None)


def rows(path: Path, kind: str, refuse: Refuse, share: Share) -> Rows:
    """Yield `(place, row)` for each row. share: told how much is read, 0 to 1. Raises ImportFormatError."""
    import pyarrow as pa

    number = 0
    try:
        # A file of Arrow's own, not Python's: one of its threads may still hold the file when the interpreter ends, and
        # to let go of a Python object then ends the process with an abort.
        with pa.OSFile(os.fsencode(path)) as file:
            for batch, total in _parquet(file, refuse) if kind == "Parquet" else _arrow(file, kind, refuse):
                for row in _batch_rows(batch):
                    number += 1
                    if number % 64 == 0 and total:
                        share(min(1.0, number / total))
                    yield f"row {number}", row
    except pa.ArrowException as error:
        raise refuse(f"it is not a whole {kind} file ({_short(error)})") from error


def plain(value: Any, field: str = "") -> Any:
    """Return a value as JSON has it: times as ISO 8601, decimals as numbers, bytes as the UTF-8 text they are.

    Raises RowError, naming the field, for what has no such form (an image, a sound).
    """
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, dict):
        return {str(name): plain(each, f"{field}.{name}" if field else str(name)) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each, f"{field}[{index}]") for index, each in enumerate(value)]
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() and abs(value) < 2**53 else float(value)
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise RowError(f"the field {field!r} holds bytes that are no text") from None
    if type(value).__module__.startswith("numpy") and hasattr(value, "tolist"):
        return plain(value.tolist(), field)
    raise RowError(f"the field {field!r} holds {type(value).__name__}, which is no text or number")


def _parquet(file: Any, refuse: Refuse) -> Iterator[tuple[Any, int]]:
    import pyarrow.parquet as pq

    # Threads and reading ahead would hold more of the file than a batch; a mapped file that shrinks ends the process.
    parquet = pq.ParquetFile(file, pre_buffer=False, buffer_size=BUFFER_BYTES, memory_map=False)
    names = _columns(parquet.schema_arrow, refuse)
    total = parquet.metadata.num_rows
    for group in range(parquet.num_row_groups):
        size = _batch_size(parquet.metadata.row_group(group), file, refuse)
        for batch in parquet.iter_batches(size, row_groups=[group], columns=names, use_threads=False):
            yield batch, total


def _batch_size(group: Any, file: Any, refuse: Refuse) -> int:
    """Return how many rows of a row group to decode at once. Raises ImportFormatError when one would be too large."""
    group_rows = max(1, group.num_rows)
    average = group.total_byte_size / group_rows
    if average > MAX_ROW_BYTES * 4:
        raise refuse(f"its rows take {int(average) // 2**20} MB each")
    size = min(BATCH_ROWS, int(BATCH_BYTES / max(1.0, average)))
    for index in range(group.num_columns):
        column = group.column(index)
        if column.physical_type != "BYTE_ARRAY" or not column.has_dictionary_page:
            continue
        # A few bytes of row numbers can name one huge text a million times: count each value as the whole dictionary.
        entry = _dictionary_bytes(file, column.dictionary_page_offset)
        if entry > WORST_BATCH_BYTES:
            raise refuse(f"its column {column.path_in_schema[:40]!r} repeats a text of up to {entry // 2**20} MB")
        values_a_row = max(1.0, column.num_values / group_rows)
        size = min(size, int(WORST_BATCH_BYTES / max(1.0, entry * values_a_row)))
    return max(1, size)


def _dictionary_bytes(file: Any, offset: int) -> int:
    """Return the unpacked size of a dictionary page: the second field of its header (Thrift's compact protocol)."""
    at = file.tell()
    file.seek(max(0, offset))
    header = file.read(HEADER_BYTES)
    file.seek(at)
    values, position = [], 0
    while len(values) < 2 and position < len(header):
        if header[position] != 0x15:  # the next field, an i32
            return BUFFER_BYTES
        value, shift, position = 0, 0, position + 1
        while position < len(header):
            value |= (header[position] & 0x7F) << shift
            shift, position = shift + 7, position + 1
            if header[position - 1] < 0x80:
                break
        values.append(value >> 1)
    return values[1] if len(values) == 2 else BUFFER_BYTES


def _arrow(file: Any, kind: str, refuse: Refuse) -> Iterator[tuple[Any, int]]:
    import pyarrow as pa

    if kind == "Arrow stream":
        with pa.ipc.open_stream(file) as stream:
            _columns(stream.schema, refuse)
            for batch in stream:
                yield from ((each, 0) for each in _slices(batch, refuse))
        return
    with pa.ipc.open_file(file) as whole:
        _columns(whole.schema, refuse)
        for index in range(whole.num_record_batches):
            batch = whole.get_batch(index)
            # The number of rows is not written down; that of batches is.
            total = batch.num_rows * whole.num_record_batches
            yield from ((each, total) for each in _slices(batch, refuse))


def _slices(batch: Any, refuse: Refuse) -> Iterator[Any]:
    # Offsets that point outside the batch end the process when they are followed, so they are checked before.
    batch.validate(full=True)
    average = batch.nbytes / max(1, batch.num_rows)
    worst = sum(_entry_bytes(column) for column in batch.columns)
    size = max(1, int(min(BATCH_ROWS, BATCH_BYTES / max(1.0, average), WORST_BATCH_BYTES / max(1.0, worst))))
    for start in range(0, batch.num_rows, size):
        yield batch.slice(start, size)


def _entry_bytes(array: Any) -> float:
    """Return what one row of an array may unfold to beyond its own bytes: values that are held once and named often."""
    import pyarrow.types as types

    kind = array.type
    if types.is_dictionary(kind):
        return array.dictionary.nbytes
    if types.is_struct(kind):
        return sum(_entry_bytes(array.field(index)) for index in range(kind.num_fields))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind) or types.is_map(kind):
        return _entry_bytes(array.values) * max(1.0, len(array.values) / max(1, len(array)))
    held_whole = (types.is_run_end_encoded, types.is_string_view, types.is_binary_view, types.is_list_view,
                  types.is_large_list_view, types.is_union)
    if any(is_kind(kind) for is_kind in held_whole):
        return array.nbytes
    return 0.0


def _columns(schema: Any, refuse: Refuse) -> list[str]:
    """Return the columns to read: all but the row numbers of pandas. Raises ImportFormatError for names that repeat."""
    names = schema.names
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise refuse(f"two of its columns are called {twice[:40]!r}")
    return [name for name in names if not name.startswith("__index_level_")]


def _batch_rows(batch: Any) -> Iterator[Any]:
    """Yield the rows of a batch; when one cannot be turned into values, a RowError in its stead."""
    try:
        batch.validate(full=True)
        values = batch.to_pylist(maps_as_pydicts="lossy")
    except (ValueError, TypeError, KeyError, NotImplementedError, OverflowError):
        for index in range(batch.num_rows):
            yield _one(batch.slice(index, 1))
        return
    simple = all(_is_simple(field.type) for field in batch.schema)
    for row in values:
        yield row if simple else _plain_row(row)


def _one(batch: Any) -> Any:
    try:
        batch.validate(full=True)
        return _plain_row(batch.to_pylist(maps_as_pydicts="lossy")[0])
    except (ValueError, TypeError, KeyError, NotImplementedError, OverflowError) as error:
        return RowError(f"it cannot be read ({_short(error)})")


def _plain_row(row: dict[str, Any]) -> Any:
    try:
        return plain(row)
    except RowError as error:
        return error


def _is_simple(kind: Any) -> bool:
    """Return whether the values of a type are those of JSON already."""
    import pyarrow.types as types

    if types.is_list(kind) or types.is_large_list(kind):
        return _is_simple(kind.value_type)
    if types.is_struct(kind):
        return all(_is_simple(kind.field(index).type) for index in range(kind.num_fields))
    return (
        types.is_string(kind) or types.is_large_string(kind) or types.is_integer(kind) or types.is_floating(kind)
        or types.is_boolean(kind) or types.is_null(kind)
    )


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
