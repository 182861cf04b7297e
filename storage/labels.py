"""The append-only history of labels, and the current label of each item and annotator.

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
from storage.records import PAIR_VERDICTS, SINGLE_VERDICTS, SKIP, UNDO, Label, Message, from_row

if TYPE_CHECKING:
    from storage.database import Store

VERDICTS_OF_KIND = {"pair": PAIR_VERDICTS, "single": SINGLE_VERDICTS}


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
        active_seconds: float | None = None,
        source: str = "person",
    ) -> Label:
        """Append a label and return it; the same `client_id` again returns the row it made the first time.

        It replaces the annotator's current label of the item, if any. Fields as in `Label`.
        Raises LabelError when the verdict does not fit the item, the responses shown are not the item's, or
        there is nothing to undo; NotFoundError when the item does not exist.
        """
        with self.store.transaction() as db:
            if known := self._by_client_id(client_id):
                return known
            item = self.store.items.get(item_id)
            current = self.current_of(item_id, annotator)
            self._check(item.kind, item_id, verdict, shown_response_ids, chosen_response_id)
            if verdict == UNDO and current is None:
                raise LabelError(f"There is no label of {annotator!r} on item {item_id} to undo.")
            try:
                cursor = db.execute(
                    "INSERT INTO labels (client_id, item_id, annotator, verdict, chosen_response_id,"
                    " shown_response_ids, active_seconds, replaces_id, source, created_at)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING *",
                    [
                        client_id, item_id, annotator, verdict, chosen_response_id,
                        json.dumps(list(shown_response_ids)), active_seconds,
                        current.id if current else None, source, time.time(),
                    ],
                )
            except sqlite3.IntegrityError as error:
                raise LabelError(f"The label {verdict!r} of item {item_id} was refused: {error}.") from error
            names = [column[0] for column in cursor.description]
            return from_row(Label, dict(zip(names, cursor.fetchone())))

    def current_of(self, item_id: int, annotator: str) -> Label | None:
        """Return an annotator's current label of an item, or None."""
        rows = self.store.db.query(
            "SELECT labels.* FROM current_labels JOIN labels ON labels.id = current_labels.label_id"
            " WHERE current_labels.item_id = ? AND current_labels.annotator = ?",
            [item_id, annotator],
        )
        return next((from_row(Label, row) for row in rows), None)

    def latest(self, project_id: int, annotator: str, kind: str | None = None, limit: int = 1) -> list[Label]:
        """Return an annotator's latest current labels and skips in a project, newest first: what undo takes back."""
        rows = self.store.db.query(
            "SELECT labels.* FROM current_labels JOIN labels ON labels.id = current_labels.label_id"
            " JOIN items ON items.id = current_labels.item_id"
            " WHERE current_labels.annotator = ? AND items.project_id = ? AND (? IS NULL OR items.kind = ?)"
            " AND labels.source = 'person' ORDER BY labels.id DESC LIMIT ?",
            [annotator, project_id, kind, kind, limit],
        )
        return [from_row(Label, row) for row in rows]

    def history(self, item_id: int) -> list[Label]:
        """Return every row of an item's history, oldest first."""
        rows = self.store.db.query("SELECT * FROM labels WHERE item_id = ? ORDER BY id", [item_id])
        return [from_row(Label, row) for row in rows]

    def get(self, label_id: int) -> Label:
        """Return one label. Raises NotFoundError."""
        for row in self.store.db.query("SELECT * FROM labels WHERE id = ?", [label_id]):
            return from_row(Label, row)
        raise NotFoundError(f"There is no label number {label_id}.")

    def counts(self, project_id: int, annotator: str | None = None) -> Counter[str]:
        """Return how many current labels a project has of each verdict; skips counted too."""
        rows = self.store.db.execute(
            "SELECT labels.verdict, count(*) FROM current_labels JOIN labels ON labels.id = current_labels.label_id"
            " JOIN items ON items.id = current_labels.item_id"
            " WHERE items.project_id = ? AND (? IS NULL OR labels.annotator = ?) GROUP BY labels.verdict",
            [project_id, annotator, annotator],
        )
        return Counter(dict(rows.fetchall()))

    def prompts(self, project_id: int, verdicts: Sequence[str]) -> int:
        """Return how many different prompts have a current label with one of the verdicts."""
        rows = self.store.db.execute(
            "SELECT count(DISTINCT items.prompt_id) FROM current_labels"
            " JOIN labels ON labels.id = current_labels.label_id JOIN items ON items.id = current_labels.item_id"
            f" WHERE items.project_id = ? AND labels.verdict IN ({', '.join('?' * len(verdicts))})",
            [project_id, *verdicts],
        )
        return rows.fetchone()[0]

    def judged(self, project_id: int, run_id: int | None = None) -> Iterator[dict[str, Any]]:
        """Yield a project's labels with the texts they judge, in label order: what training and export read.

        run_id: only the labels of that run's snapshot, as they were; else the current ones. Skips are left out.
        Each row: `label_id, item_id, annotator, verdict, source, created_at, prompt_id, messages (list),
        responses` — a list of `{"id", "text", "chosen": bool}` in stored order, one or two.
        """
        if run_id is None:
            chosen, parameters = "SELECT label_id FROM current_labels", [project_id]
        else:
            chosen, parameters = "SELECT label_id FROM run_labels WHERE run_id = ?", [run_id, project_id]
        rows = self.store.db.query(
            f"""
            SELECT labels.id AS label_id, labels.item_id, annotator, verdict, labels.source, labels.created_at,
                   chosen_response_id, prompts.id AS prompt_id, prompts.messages,
                   (SELECT json_group_array(json_object('id', id, 'text', text)) FROM (
                        SELECT responses.id, responses.text FROM item_responses
                        JOIN responses ON responses.id = item_responses.response_id
                        WHERE item_responses.item_id = items.id ORDER BY item_responses.position)) AS responses
            FROM labels JOIN items ON items.id = labels.item_id JOIN prompts ON prompts.id = items.prompt_id
            WHERE labels.id IN ({chosen}) AND items.project_id = ? AND verdict <> '{SKIP}'
            ORDER BY labels.id
            """,
            parameters,
        )
        for row in rows:
            messages: list[Message] = json.loads(row["messages"])
            chosen_id = row.pop("chosen_response_id")
            responses = [{**response, "chosen": response["id"] == chosen_id} for response in json.loads(row["responses"])]
            yield {**row, "messages": messages, "responses": responses}

    def _by_client_id(self, client_id: str) -> Label | None:
        rows = self.store.db.query("SELECT * FROM labels WHERE client_id = ?", [client_id])
        return next((from_row(Label, row) for row in rows), None)

    def _check(
        self, kind: str, item_id: int, verdict: str, shown: Sequence[int], chosen_response_id: int | None
    ) -> None:
        rows = self.store.db.execute("SELECT response_id FROM item_responses WHERE item_id = ?", [item_id])
        own = {row[0] for row in rows.fetchall()}
        allowed = VERDICTS_OF_KIND[kind]
        if verdict not in (*allowed, SKIP, UNDO):
            raise LabelError(f"{verdict!r} is no label for a {kind}; it can be {', '.join(allowed)}.")
        if set(shown) != own or len(shown) != len(own):
            raise LabelError(f"The responses {list(shown)} are not those of item {item_id}.")
        if (verdict == "chosen") != (chosen_response_id in own):
            raise LabelError(f"The label {verdict!r} of item {item_id} names response {chosen_response_id}.")
