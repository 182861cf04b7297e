"""Our own `labels` export, read back: every version of every label, with who gave it, when and how.

Owns what each of its columns may hold. It does not know what writes them (`exporting`).
"""

from __future__ import annotations

import json
from math import isfinite
from typing import Any

from transfer.formats.messages import RowError, as_messages, as_text, kind_of
from transfer.formats.preference import MAX_ANNOTATOR_CHARACTERS, annotator, verdict_of
from transfer.formats.record import Answer, Opinion, Record

Row = dict[str, Any]

FIELDS = ("responses", "verdict", "role", "annotator", "shown", "prompt")
ROLES = ("vote", "final", "repeat")
# How many responses each verdict is about; (1, 6): of any item.
VERDICTS = {
    "chosen": (2, 2), "tie": (2, 2), "both_bad": (2, 2), "good": (1, 1), "bad": (1, 1), "ranked": (3, 6),
    "edited": (1, 6), "skip": (1, 6), "flag": (1, 6), "undo": (1, 6),
}
SOURCES = ("person", "import", "chat")
MAX_COMMENT = 100_000
MAX_SECONDS = 4e9  # a time that a clock can show until the year 2096


def studio_label(row: Row) -> Record:
    """One label: `prompt`, `responses`, `verdict` and what is said about it; see `storage.records.Label`."""
    answers = tuple(_answer(value, f"responses[{at}]") for at, value in enumerate(_list(row, "responses")))
    verdict = as_text(row.get("verdict"), "verdict")
    least, most = VERDICTS.get(verdict, (0, -1))
    if not least <= len(answers) <= most:
        raise RowError(f"the field 'verdict' is {verdict[:40]!r}, which nobody can say of {len(answers)} responses", "verdict")
    better = _answer(_parsed(row["better"]), "better") if row.get("better") else None
    chosen, rejected = (_index(row.get(name), name, len(answers)) for name in ("chosen", "rejected"))
    tiers = _tiers(row, len(answers)) if verdict == "ranked" else ()
    for name, value, needed in (
        ("chosen", chosen, verdict == "chosen"), ("better", better, verdict == "edited"),
    ):
        if needed and value is None:
            raise RowError(f"the field {name!r} is missing, which the verdict {verdict!r} needs", name)
    opinion = Opinion(
        verdict, annotator(row.get("annotator")), chosen if verdict == "chosen" else None, tiers,
        rejected if verdict == "edited" else None, better if verdict == "edited" else None,
        _one_of(row, "role", ROLES) or "vote", _strength(row.get("strength")), _reasons(row),
        as_text(row.get("comment") or "", "comment")[:MAX_COMMENT], _shown(row, len(answers)),
        _number(row, "active_seconds"), _name(row.get("picked"), "picked"), _number(row, "margin", signed=True),
        _one_of(row, "source", SOURCES) or "import", _number(row, "created_at"),
    )
    is_check = row.get("is_check") not in (None, "") and verdict_of(row["is_check"], "is_check") == "good"
    return Record(as_messages(_parsed(row.get("prompt")), "prompt"), answers, (opinion,), is_check)


def _parsed(value: Any) -> Any:
    """Return what a text that is JSON means: tables have only texts, and Parquet has the settings as one."""
    if not isinstance(value, str) or value[:1] not in ("{", "["):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _list(row: Row, name: str) -> list[Any]:
    value = _parsed(row.get(name))
    if value is None or value == "":
        return []
    if not isinstance(value, list):
        raise RowError(f"the field {name!r} should be a list, not {kind_of(value)}", name)
    return value


def _answer(value: Any, field: str) -> Answer:
    if not isinstance(value, dict):
        raise RowError(f"the field {field!r} should be an object with a text, not {kind_of(value)}", field)
    settings = _parsed(value.get("settings"))
    if settings is not None and not isinstance(settings, dict):
        raise RowError(f"the field '{field}.settings' should be an object, not {kind_of(settings)}", f"{field}.settings")
    return Answer(
        as_text(value.get("text"), f"{field}.text"), _name(value.get("model"), f"{field}.model"), settings,
        _name(value.get("author"), f"{field}.author"),
    )


def _name(value: Any, field: str) -> str | None:
    return as_text(value, field) if value not in (None, "") else None


def _whole(value: Any, field: str) -> int | None:
    if value in (None, ""):
        return None
    try:
        number = None if isinstance(value, (bool, list, dict)) else int(value)
    except (ValueError, OverflowError):
        number = None
    if number is None or not -(2**31) < number < 2**31 or (isinstance(value, float) and number != value):
        raise RowError(f"the field {field!r} should be a whole number, not {str(value)[:40]!r}", field)
    return number


def _index(value: Any, field: str, count: int) -> int | None:
    number = _whole(value, field)
    if number is not None and not 0 <= number < count:
        raise RowError(f"the field {field!r} is {number}, but there are {count} responses, counted from 0", field)
    return number


def _number(row: Row, name: str, signed: bool = False) -> float | None:
    value = row.get(name)
    if value in (None, ""):
        return None
    try:
        number = None if isinstance(value, (bool, list, dict)) else float(value)
    except (ValueError, OverflowError):
        number = None
    if number is None or not isfinite(number) or abs(number) > MAX_SECONDS or (number < 0 and not signed):
        raise RowError(f"the field {name!r} should be a number from 0 on, not {str(value)[:40]!r}", name)
    return number


def _strength(value: Any) -> int | None:
    number = _whole(value, "strength")
    if number not in (None, 1, 2):
        raise RowError(f"the field 'strength' should be 1 (slightly) or 2 (clearly), not {number}", "strength")
    return number


def _one_of(row: Row, name: str, known: tuple[str, ...]) -> str | None:
    value = row.get(name)
    if value in (None, ""):
        return None
    if value not in known:
        raise RowError(f"the field {name!r} should be one of {', '.join(known)}, not {str(value)[:40]!r}", name)
    return value


def _reasons(row: Row) -> tuple[str, ...]:
    return tuple(
        as_text(value, f"reasons[{at}]")[:MAX_ANNOTATOR_CHARACTERS] for at, value in enumerate(_list(row, "reasons"))
    )


def _tiers(row: Row, count: int) -> tuple[tuple[int, ...], ...]:
    tiers = []
    for at, tier in enumerate(_list(row, "tiers")):
        if not isinstance(tier, list):
            raise RowError(f"the field 'tiers[{at}]' should be a list, not {kind_of(tier)}", f"tiers[{at}]")
        tiers.append(tuple(_index(one, f"tiers[{at}]", count) for one in tier))
    if sorted(one for tier in tiers for one in tier if one is not None) != list(range(count)):
        raise RowError(f"the field 'tiers' should name each of the {count} responses once", "tiers")
    return tuple(tiers)  # type: ignore[arg-type]


def _shown(row: Row, count: int) -> tuple[int, ...]:
    shown = tuple(_index(one, f"shown[{at}]", count) for at, one in enumerate(_list(row, "shown")))
    if len(set(shown)) < len(shown) or None in shown:
        raise RowError("the field 'shown' should name each response once", "shown")
    return shown  # type: ignore[return-value]
