"""Which labels go out. Owns the rules a user can set; does not know how rows are written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Any

from errors import ConfigError
from storage.judged import WHICH

STATES = ("current", "all")
ITEM_KINDS = ("pair", "single", "ranking")


@dataclass(frozen=True)
class Filters:
    """What is exported of a project; the defaults leave nothing out.

    state: of the export `labels`, "current" labels or "all" versions. which: as in `storage.judged`; with "all" the
    final label of an item stands for its votes. min_agreement: 0.5 to 1, the share of votes that must say what most
    say. since, until: days in UTC, both included. run: the number of a run, for exactly the labels it used.
    """

    state: str = "current"
    annotators: tuple[str, ...] = ()
    which: str = "all"
    min_agreement: float = 0.5
    since: date | None = None
    until: date | None = None
    run: int | None = None
    kinds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problems = []
        if self.state not in STATES:
            problems.append(f"state: {self.state!r} is none of {', '.join(STATES)}")
        if self.which not in WHICH:
            problems.append(f"labels: {self.which!r} is none of {', '.join(WHICH)}")
        if not 0.5 <= self.min_agreement <= 1:
            problems.append(f"min_agreement: {self.min_agreement} is not between 0.5 and 1")
        if self.since and self.until and self.since > self.until:
            problems.append(f"since: {self.since} is after until: {self.until}")
        if unknown := [kind for kind in self.kinds if kind not in ITEM_KINDS]:
            problems.append(f"kinds: {', '.join(map(repr, unknown))} is none of {', '.join(ITEM_KINDS)}")
        if self.run is not None and self.which != "all":
            problems.append("run: its labels are taken as they were; leave `which` at all")
        if problems:
            raise ConfigError(problems)

    def kept(self, rows: Iterable[dict[str, Any]], left_out: Counter[str]) -> Iterator[dict[str, Any]]:
        """Yield the rows that pass by annotator, day and kind; count the others by the first rule they break.

        rows: with `annotator`, `created_at` (seconds) and `kind`.
        """
        since = _midnight(self.since) if self.since else float("-inf")
        before = _midnight(self.until + timedelta(days=1)) if self.until else float("inf")
        annotators, kinds = set(self.annotators), set(self.kinds)
        for row in rows:
            if annotators and row["annotator"] not in annotators:
                left_out["labels of other annotators"] += 1
            elif not since <= row["created_at"] < before:
                left_out["labels of other days"] += 1
            elif kinds and row["kind"] not in kinds:
                left_out["labels of other kinds of items"] += 1
            else:
                yield row


def _midnight(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=timezone.utc).timestamp()
