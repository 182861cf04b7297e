"""How counts are said in a sentence, so that every report reads alike. Does not know what is counted."""

from __future__ import annotations

from collections.abc import Mapping


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return "1 pair", "2 pairs", "1,200 pairs". plural: where it is not the noun with an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def listed(parts: list[str]) -> str:
    """Return "a", "a and b" or "a, b and c"."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def left_out_sentence(left_out: Mapping[str, int]) -> str:
    """Return "Left out: 3 ties; 2 skips." for counts by reason, or nothing when all of them are 0."""
    parts = [f"{number:,} {reason}" for reason, number in left_out.items() if number]
    return f"Left out: {'; '.join(parts)}." if parts else ""
