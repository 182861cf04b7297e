"""The append-only history of labels, and the current label of each item, role and annotator.

Undoing and changing are new rows. Does not know how a label was given, nor what is trained on it.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from errors import LabelError, NotFoundError
from storage.judged import Tally, judged, tally
from storage.records import FINAL, REPEAT, SET_ASIDE, UNDO, VERDICTS_OF_KIND, VOTE, Label, from_row

if TYPE_CHECKING:
    from storage.database import Store

CURRENT = "SELECT labels.* FROM current_labels JOIN labels ON labels.id = current_labels.label_id"


class Labels:
    """The labels of a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def add(
        self,
        item_id: int,
        annotator: str,
        verdict: str,
        *,
        client_id: str,
        shown_response_ids: Sequence[int],
        chosen_response_id: int | None = None,
        rejected_response_id: int | None = None,
        ranking: Sequence[Sequence[int]] | None = None,
        strength: int | None = None,
        reasons: Sequence[str] = (),
        comment: str = "",
        active_seconds: float | None = None,
        picked: str | None = None,
        role: str = VOTE,
        source: str = "person",
    ) -> Label:
        """Append a label and return it; the same `client_id` again returns the row it made the first time.

        It replaces the annotator's current label of the item in that role, if any (the item's, for a final one).
        Fields as in `Label`. Raises LabelError when the verdict does not fit the item, the responses shown are not
        the item's, or there is nothing to undo; NotFoundError when the item does not exist.
        """
        with self.store.transaction() as db:
            if known := self.by_client_id(client_id):
                return known
            item = self.store.items.get(item_id)
            current = self.current_of(item_id, annotator, role)
            self._check(item.kind, item_id, verdict, shown_response_ids)
            self._check_responses(item_id, verdict, shown_response_ids, chosen_response_id, rejected_response_id, ranking)
            if verdict == UNDO and current is None:
                raise LabelError(f"There is no label of {annotator!r} on item {item_id} to undo.")
            values = {
                "client_id": client_id, "item_id": item_id, "annotator": annotator, "role": role, "verdict": verdict,
                "chosen_response_id": chosen_response_id, "rejected_response_id": rejected_response_id,
                "ranking": None if ranking is None else json.dumps([sorted(tier) for tier in ranking]),
                "strength": strength, "reasons": json.dumps(list(reasons), ensure_ascii=False), "comment": comment,
                "shown_response_ids": json.dumps(list(shown_response_ids)), "active_seconds": active_seconds,
                "picked": picked, "margin": item.margin, "replaces_id": current.id if current else None,
                "source": source, "created_at": time.time(),
            }
            try:
                cursor = db.conn.execute(
                    f"INSERT INTO labels ({', '.join(values)}) VALUES ({', '.join('?' * len(values))})",
                    list(values.values()),
                )
            except sqlite3.IntegrityError as error:
                raise LabelError(f"The label {verdict!r} of item {item_id} was refused: {error}.") from error
            return from_row(Label, {**values, "id": cursor.lastrowid})

    def current_of(self, item_id: int, annotator: str, role: str = VOTE) -> Label | None:
        """Return an annotator's current label of an item, or None; for FINAL the item's, whoever gave it."""
        anyone = role == FINAL
        rows = self.store.rows(
            f"{CURRENT} WHERE current_labels.item_id = ? AND current_labels.role = ?"
            + ("" if anyone else " AND current_labels.annotator = ?"),
            [item_id, role] if anyone else [item_id, role, annotator],
        )
        return from_row(Label, rows[0]) if rows else None

    def current(self, item_id: int, role: str = VOTE) -> list[Label]:
        """Return the current labels that an item has in a role, skips and flags among them, oldest first."""
        rows = self.store.rows(
            f"{CURRENT} WHERE current_labels.item_id = ? AND current_labels.role = ? ORDER BY labels.id", [item_id, role]
        )
        return [from_row(Label, row) for row in rows]

    def latest(
        self, project_id: int, annotator: str, kind: str | None = None, limit: int = 1, set_aside: bool = False
    ) -> list[Label]:
        """Return an annotator's latest current labels and skips in a project, newest first: what undo takes back.

        Second answers (REPEAT) are among them. set_aside: only skips and flags.
        """
        found: list[dict[str, Any]] = []
        for role in (VOTE, REPEAT):  # one at a time, so that the index gives the order
            found += self.store.rows(
                f"{CURRENT} JOIN items ON items.id = current_labels.item_id"
                " WHERE current_labels.annotator = ? AND current_labels.role = ? AND items.project_id = ?"
                " AND (? IS NULL OR items.kind = ?) AND labels.source = 'person'"
                " AND (NOT ? OR verdict IN ('skip', 'flag')) ORDER BY current_labels.label_id DESC LIMIT ?",
                [annotator, role, project_id, kind, kind, set_aside, limit],
            )
        latest = sorted(found, key=lambda row: row["id"], reverse=True)[:limit]
        return [from_row(Label, row) for row in latest]

    def history(self, item_id: int) -> list[Label]:
        """Return every row of an item's history, oldest first."""
        rows = self.store.rows("SELECT * FROM labels WHERE item_id = ? ORDER BY id", [item_id])
        return [from_row(Label, row) for row in rows]

    def get(self, label_id: int) -> Label:
        """Return one label. Raises NotFoundError."""
        for row in self.store.rows("SELECT * FROM labels WHERE id = ?", [label_id]):
            return from_row(Label, row)
        raise NotFoundError(f"There is no label number {label_id}.")

    def by_client_id(self, client_id: str) -> Label | None:
        """Return the row that was stored under a unique id, or None."""
        rows = self.store.rows("SELECT * FROM labels WHERE client_id = ?", [client_id])
        return from_row(Label, rows[0]) if rows else None

    def annotators(self, project_id: int) -> list[str]:
        """Return who has a current label in a project, in alphabetical order."""
        rows = self.store.rows(
            "SELECT DISTINCT annotator FROM current_labels JOIN items ON items.id = item_id WHERE project_id = ?"
            " ORDER BY annotator",
            [project_id],
        )
        return [row["annotator"] for row in rows]

    def counts(self, project_id: int, annotator: str | None = None) -> Counter[str]:
        """Return how many current votes a project has of each verdict; skips and flags too, checks not.

        annotator: only this one's. The counts are kept, so this costs no scan.
        """
        return sum((part for part in self.counts_by_kind(project_id, annotator).values()), Counter())

    def counts_by_kind(
        self, project_id: int, annotator: str | None = None, role: str = VOTE
    ) -> dict[str, Counter[str]]:
        """Return the `counts` of each kind of item. role: also FINAL, REPEAT, or "check" for votes on checks."""
        counts = {kind: Counter() for kind in VERDICTS_OF_KIND}
        for row in self.store.rows(
            "SELECT kind, verdict, sum(count) AS number FROM label_counts"
            " WHERE project_id = ? AND role = ? AND (? IS NULL OR annotator = ?) GROUP BY kind, verdict",
            [project_id, role, annotator, annotator],
        ):
            if row["number"] > 0:
                counts[row["kind"]][row["verdict"]] = row["number"]
        return counts

    def judged(self, project_id: int, run_id: int | None = None, which: str = "all") -> Iterator[dict[str, Any]]:
        """Yield a project's preferences with the texts they judge: what training and export read.

        run_id: only the labels of that run's snapshot, as they were; else the current ones that `which` asks for.
        See `storage.judged`.
        """
        return judged(self.store, project_id, run_id, which)

    def tally(self, project_id: int, which: str = "all") -> Tally:
        """Return what the labels that `judged` would give say, counted without reading a text. See `storage.judged`."""
        return tally(self.store, project_id, which)

    def _check(self, kind: str, item_id: int, verdict: str, shown: Sequence[int]) -> None:
        allowed = VERDICTS_OF_KIND[kind]
        if verdict not in (*allowed, *SET_ASIDE, UNDO):
            raise LabelError(f"{verdict!r} is no label for a {kind}; it can be {', '.join(allowed)}.")
        own = self.store.items.response_ids(item_id)
        if sorted(shown) != sorted(own):
            raise LabelError(f"The responses {list(shown)} are not those of item {item_id}.")

    def _check_responses(
        self, item_id: int, verdict: str, own: Sequence[int], chosen: int | None, rejected: int | None,
        ranking: Sequence[Sequence[int]] | None,
    ) -> None:
        if verdict == "edited":
            if rejected not in own or chosen is None or chosen in own or not self._answer_the_same(chosen, rejected):
                raise LabelError(f"The better answer {chosen} to item {item_id} was not made from response {rejected}.")
            return
        if (verdict == "chosen") != (chosen in own) or rejected is not None:
            raise LabelError(f"The label {verdict!r} of item {item_id} names response {chosen}.")
        ranked = [response_id for tier in ranking or () for response_id in tier]
        if (verdict == "ranked") != (sorted(ranked) == sorted(own)) or (ranking is not None and len(ranking) < 2):
            raise LabelError(f"The ranking {ranking} does not order the responses of item {item_id}.")

    def _answer_the_same(self, *response_ids: int | None) -> bool:
        rows = self.store.db.conn.execute(
            "SELECT count(*), count(DISTINCT prompt_id) FROM responses WHERE id IN (?, ?)", response_ids
        )
        return rows.fetchone() == (2, 1)
