"""JSON text as rows: one object a line, an array, objects one after the other, an object that wraps lists of rows.

Owns how rows are laid out in JSON and reads each layout in constant memory. It takes UTF-8 and does not know how a
file is packed. Lines are independent: a broken one becomes a RowError; after a fault elsewhere nothing can be trusted,
so the file is refused with the place.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import orjson

from errors import ImportFormatError
from transfer.formats.messages import RowError

MAX_ROW_BYTES = 64 * 2**20
HEAD_BYTES = 64 * 2**10
CHUNK_BYTES = 2**18
BLANK = b" \t\r\n"
SPACES = re.compile(r"[ \t\r\n]*")
SPLITS = ("train", "validation", "valid", "val", "dev", "test", "train_prefs", "test_prefs", "train_sft", "test_sft")
WRAPPERS = {*SPLITS, "data", "rows", "examples", "items", "records", "instances", "dataset", "samples", "preferences"}
NAMES = {"lines": "JSON lines", "array": "JSON array", "objects": "JSON objects", "wrapped": "JSON object with a list"}

Refuse = Callable[[str], ImportFormatError]
Rows = Iterator[tuple[str, Any]]


def parsed(content: bytes) -> Any:
    """Return the JSON value of a line, or the RowError that says why there is none."""
    try:
        return orjson.loads(content)
    except ValueError:
        # What the strict reader refuses the other may take (NaN, half a character as an escape), or explain.
        return _parsed_slowly(content)


def layout(open_text: Callable[[], BinaryIO]) -> str:
    """Return how rows are laid out in a text that begins with a bracket: a key of NAMES."""
    with open_text() as file:
        head = file.peek(HEAD_BYTES).lstrip(BLANK) if hasattr(file, "peek") else b""
        if head[:1] == b"[":
            return "array"
        if _opens_a_wrapper(head[:HEAD_BYTES].decode("utf-8", "ignore")):
            return "wrapped"
        first, second = _next_line(file), _next_line(file)
    value = parsed(first)
    if not isinstance(value, RowError):
        return "objects" if not second and _wrapped(value) is not None else "lines"
    if str(value).endswith("(Extra data)"):
        return "objects"
    # A first line that is broken on its own, or the beginning of an object that goes on below.
    return "lines" if not second or isinstance(parsed(second), dict) else "objects"


def rows(file: BinaryIO, kind: str, refuse: Refuse) -> Rows:
    """Yield `(place, value)` for each row of a UTF-8 text of this layout. Raises ImportFormatError for a broken one."""
    return _lines(file, refuse) if kind == "lines" else _Stream(file, refuse).rows(kind)


def _lines(file: BinaryIO, refuse: Refuse) -> Rows:
    number, loads = 0, orjson.loads
    while line := file.readline(MAX_ROW_BYTES + 1):
        number += 1
        if len(line) > MAX_ROW_BYTES:
            raise refuse(f"line {number} is longer than {MAX_ROW_BYTES // 2**20} MB")
        try:
            row = loads(line)
        except ValueError:
            if not line.strip(BLANK):
                continue
            row = _parsed_slowly(line)
        yield f"line {number}", row


def _next_line(file: BinaryIO) -> bytes:
    """Return the next line that is not blank; empty at the end."""
    while (line := file.readline(MAX_ROW_BYTES + 1)) and not line.strip(BLANK):
        pass
    return line


def _reason(error: json.JSONDecodeError) -> str:
    """Return what a parser has against a text; its "at" would come before a place that we say first."""
    return error.msg.removesuffix(" at").removesuffix(" starting")


def _parsed_slowly(content: bytes) -> Any:
    try:
        return json.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        return RowError(f"it is not UTF-8 text at byte {error.start + 1}; save the file as UTF-8, or name its encoding")
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        return RowError(f"it is not valid JSON at {place} ({_reason(error)})")
    except RecursionError:
        return RowError("it is nested too deeply")
    except ValueError as error:  # a number of thousands of digits
        return RowError(f"it is not valid JSON ({error})")


def _opens_a_wrapper(head: str) -> bool:
    """Return whether a text begins with an object in which a list of rows has one of the usual names."""
    decoder, at = json.JSONDecoder(), SPACES.match(head).end() + 1  # type: ignore[union-attr]
    try:
        while True:
            key, at = decoder.raw_decode(head, _skip(head, at))
            at = _skip(head, at)
            if head[at] != ":" or not isinstance(key, str):
                return False
            at = _skip(head, at + 1)
            if key in WRAPPERS and head[at] == "[" and head[_skip(head, at + 1)] == "{":
                return True
            _, at = decoder.raw_decode(head, at)
            at = _skip(head, at)
            if head[at] != ",":
                return False
            at += 1
    except (ValueError, IndexError, RecursionError):
        return False


def _skip(text: str, at: int) -> int:
    return SPACES.match(text, at).end()  # type: ignore[union-attr]


def _wrapped(value: Any) -> list[Any] | None:
    """Return the one list of rows that an object holds and that is no conversation; None when there is none."""
    lists = [each for each in value.values() if isinstance(each, list)] if isinstance(value, dict) else []
    if len(lists) != 1 or not lists[0] or not all(isinstance(row, dict) for row in lists[0]):
        return None
    return None if any("role" in row or "from" in row for row in lists[0]) else lists[0]


class _Stream:
    """A text read value by value. The buffer holds what is not parsed yet, at most a chunk more than one value."""

    def __init__(self, file: BinaryIO, refuse: Refuse) -> None:
        self._file, self._refuse = file, refuse
        self._bytes = codecs.getincrementaldecoder("utf-8")("strict")
        self._scan = json.JSONDecoder().scan_once
        self._text, self._at, self._ended = "", 0, False
        self._line, self._column, self._read = 1, 1, 0
        self._number = 0

    def rows(self, kind: str) -> Rows:
        while character := self._peek():
            if character == "[":
                yield from self._elements("row")
            elif character == "{" and kind == "wrapped":
                yield from self._members()
            elif character == "{":
                self._number += 1
                value = self._value()
                inner = _wrapped(value) if self._number == 1 and not self._peek() else None
                if inner is None:
                    yield f"row {self._number}", value
                else:
                    yield from ((f"row {number}", row) for number, row in enumerate(inner, start=1))
            else:
                raise self._invalid(self._at, "a row should begin here")

    def _elements(self, called: str) -> Rows:
        self._at += 1
        number = self._number if called == "row" else 0
        if self._peek() == "]":
            self._at += 1
            return
        while True:
            number += 1
            yield f"{called} {number}", self._value()
            if called == "row":
                self._number = number
            if not self._goes_on("]"):
                return

    def _members(self) -> Rows:
        self._at += 1
        if self._peek() == "}":
            self._at += 1
            return
        while True:
            key = self._value() if self._peek() == '"' else None
            if key is None or self._peek() != ":":
                raise self._invalid(self._at, "a name and a colon should be here")
            self._at += 1
            if key in WRAPPERS and self._peek() == "[":
                yield from self._elements(f"{key} row" if key in SPLITS else "row")
            else:
                self._value()  # what a file says about itself
            if not self._goes_on("}"):
                return

    def _goes_on(self, closing: str) -> bool:
        """Pass a comma and return True, or the closing bracket and return False."""
        character = self._peek()
        if character not in (",", closing) or not character:
            raise self._invalid(self._at, f"a comma or {closing!r} should be here")
        self._at += 1
        return character == ","

    def _peek(self) -> str:
        """Return the next character that is not blank, without passing it; empty at the end."""
        while True:
            self._at = _skip(self._text, self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _value(self) -> Any:
        self._peek()
        while True:
            try:
                value, end = self._scan(self._text, self._at)
            except StopIteration as stop:
                fault, message = stop.value, "a value should be here"
            except json.JSONDecodeError as error:
                fault, message = error.pos, _reason(error)
            except RecursionError as error:
                raise self._refuse(f"row {self._number + 1} is nested too deeply") from error
            except ValueError as error:  # a number of thousands of digits
                raise self._refuse(f"row {self._number + 1} is not valid JSON ({error})") from error
            else:
                # A number that ends where the buffer ends may go on.
                if end < len(self._text) or not self._more():
                    if end - self._at > MAX_ROW_BYTES:
                        raise self._too_long()
                    self._at = end
                    return value
                continue
            cut = message.startswith("Unterminated string") or fault > len(self._text) - 16
            if not cut or not self._more(double=True):
                raise self._invalid(fault, message)

    def _more(self, double: bool = False) -> bool:
        """Read on; with `double` as much again as is held, so that a long value is parsed anew only a few times."""
        if self._ended:
            return False
        held = len(self._text) - self._at
        if held > MAX_ROW_BYTES:
            raise self._too_long()
        content = self._file.read(max(CHUNK_BYTES, min(held, MAX_ROW_BYTES + CHUNK_BYTES - held) if double else 0))
        self._ended = not content
        try:
            text = self._bytes.decode(content, final=self._ended)
        except UnicodeDecodeError as error:
            at = self._read + error.start + 1
            raise self._refuse(
                f"it is not UTF-8 text near byte {at}; save the file as UTF-8, or name its encoding"
            ) from error
        if self._ended and not text:
            return False
        self._read += len(content)
        self._line, self._column = self._where(self._at)
        self._text, self._at = self._text[self._at :] + text, 0
        return True

    def _too_long(self) -> ImportFormatError:
        return self._refuse(f"row {self._number + 1} is longer than {MAX_ROW_BYTES // 2**20} MB")

    def _where(self, at: int) -> tuple[int, int]:
        lines = self._text.count("\n", 0, at)
        column = at - self._text.rfind("\n", 0, at) if lines else self._column + at
        return self._line + lines, column

    def _invalid(self, at: int, why: str) -> ImportFormatError:
        line, column = self._where(at)
        return self._refuse(f"it is not valid JSON at line {line}, column {column} ({why})")
