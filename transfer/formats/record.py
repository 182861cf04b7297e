"""What one row of a file says, whatever its shape was: a conversation, answers to it, and what people think of them.

The contract between formats, which make records, and the import, which stores them. Knows neither files nor storage.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """A response and where it came from, as far as the file says.

    model, settings: who wrote it, and how it was sampled; author: the person who wrote it, or who brought the file
    (None: the import says "import" where there is no model either).
    """

    text: str
    model: str | None = None
    settings: dict[str, Any] | None = None
    author: str | None = None


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one person says of a record's answers, once. The words are those of `storage.records.Label`.

    verdict: "chosen", "tie", "both_bad" of two answers; "good", "bad" of one; "ranked" of three to six; "edited",
    "skip", "flag" and "undo" of any. annotator: None when the file does not say who. chosen: for "chosen", the index of
    the preferred answer. tiers: for "ranked", the indices in tiers, best first. rejected, better: for "edited", the index
    of the answer it was made from, and the new text. shown: the indices as they were shown, left to right; () for the
    record's order. created_at: seconds since 1970, None for now. The others are as in `Label`.
    """

    verdict: str
    annotator: str | None = None
    chosen: int | None = None
    tiers: tuple[tuple[int, ...], ...] = ()
    rejected: int | None = None
    better: Answer | None = None
    role: str = "vote"
    strength: int | None = None
    reasons: tuple[str, ...] = ()
    comment: str = ""
    shown: tuple[int, ...] = ()
    active_seconds: float | None = None
    picked: str | None = None
    margin: float | None = None
    source: str = "import"
    created_at: float | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A conversation that ends with the user, none to six different answers to it, and opinions, oldest first.

    No answers: a prompt to be answered; answers without opinions: something to be labelled.
    is_check: the item is a check, whose known answer is its final opinion.
    """

    messages: list[Message]
    answers: tuple[Answer, ...] = ()
    opinions: tuple[Opinion, ...] = ()
    is_check: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """What one row gave: records, and why what it also held was left out."""

    records: list[Record]
    left_out: list[str] = field(default_factory=list)
