"""Items to label and the leases that keep two people from the same one. Does not know what a label means."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from errors import NotFoundError
from storage.records import Card, Item, Prompt, Response, from_row

if TYPE_CHECKING:
    from storage.database import Store

KINDS = ("pair", "single")


class Items:
    """The items of a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def add(
        self, project_id: int, prompt_id: int, response_ids: Sequence[int], *, wanted_labels: int = 1
    ) -> tuple[int, bool]:
        """Store an item of one or two responses to a prompt; return its id and whether it was new.

        The place in the queue is drawn at random once. Raises NotFoundError when a response answers another
        prompt, or is missing.
        """
        ids = sorted(set(response_ids))
        if len(ids) not in (1, 2) or len(ids) != len(response_ids):
            raise NotFoundError(f"An item has one response or two different ones, not {list(response_ids)}.")
        kind, key = KINDS[2 - len(ids)], ",".join(map(str, ids))
        with self.store.transaction() as db:
            cursor = db.execute(
                "INSERT INTO items (project_id, prompt_id, kind, response_key, position, wanted_labels, created_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING id",
                [project_id, prompt_id, kind, key, random.random(), wanted_labels, time.time()],
            )
            if not (row := cursor.fetchone()):
                known = db.execute(
                    "SELECT id FROM items WHERE prompt_id = ? AND response_key = ?", [prompt_id, key]
                )
                return known.fetchone()[0], False
            for position, response_id in enumerate(ids):
                inserted = db.execute(
                    "INSERT INTO item_responses (item_id, position, response_id)"
                    " SELECT ?, ?, id FROM responses WHERE id = ? AND prompt_id = ?",
                    [row[0], position, response_id, prompt_id],
                )
                if inserted.rowcount != 1:
                    raise NotFoundError(f"Response {response_id} does not answer prompt {prompt_id}.")
            return row[0], True

    def get(self, item_id: int) -> Item:
        """Return one item. Raises NotFoundError."""
        for row in self.store.db.query("SELECT * FROM items WHERE id = ?", [item_id]):
            return from_row(Item, row)
        raise NotFoundError(f"There is no item number {item_id}.")

    def card(self, item_id: int) -> Card:
        """Return one item with its prompt and responses. Raises NotFoundError."""
        item = self.get(item_id)
        rows = self.store.db.query(
            "SELECT responses.* FROM item_responses JOIN responses ON responses.id = item_responses.response_id"
            " WHERE item_responses.item_id = ? ORDER BY item_responses.position",
            [item_id],
        )
        prompt: Prompt = self.store.prompts.get(item.prompt_id)
        return Card(item, prompt, tuple(from_row(Response, row) for row in rows))

    def lease(
        self, project_id: int, kind: str, annotator: str, session: str, count: int, seconds: float
    ) -> list[int]:
        """Reserve up to `count` items for one browser tab; return their ids in the order to show them.

        session: unique id of the tab. Items this tab holds already come first and are renewed; then items that
        still want labels, that the annotator has not labelled or skipped, and whose remaining places are not
        all reserved by other tabs. seconds: how long the reservation holds.
        """
        now = time.time()
        with self.store.transaction() as db:
            db.execute("DELETE FROM leases WHERE expires_at <= ?", [now])
            rows = db.execute(
                """
                SELECT items.id FROM items
                LEFT JOIN leases AS mine ON mine.item_id = items.id AND mine.session = :session
                WHERE items.project_id = :project AND items.kind = :kind
                  AND items.label_count < items.wanted_labels
                  AND NOT EXISTS (SELECT 1 FROM current_labels
                                  WHERE item_id = items.id AND annotator = :annotator)
                  AND NOT EXISTS (SELECT 1 FROM leases
                                  WHERE item_id = items.id AND annotator = :annotator AND session <> :session)
                  AND items.label_count + (SELECT count(*) FROM leases
                                           WHERE item_id = items.id AND session <> :session) < items.wanted_labels
                ORDER BY mine.item_id IS NULL, items.position LIMIT :count
                """,
                {"project": project_id, "kind": kind, "annotator": annotator, "session": session, "count": count},
            )
            ids = [row[0] for row in rows.fetchall()]
            for item_id in ids:
                db.execute(
                    "INSERT INTO leases (item_id, session, annotator, expires_at) VALUES (?, ?, ?, ?)"
                    " ON CONFLICT (item_id, session) DO UPDATE SET expires_at = excluded.expires_at,"
                    " annotator = excluded.annotator",
                    [item_id, session, annotator, now + seconds],
                )
        return ids

    def release(self, session: str, item_ids: Sequence[int] | None = None) -> None:
        """Give back what a tab has reserved: these items, or all of them."""
        with self.store.transaction() as db:
            if item_ids is None:
                db.execute("DELETE FROM leases WHERE session = ?", [session])
            for item_id in item_ids or ():
                db.execute("DELETE FROM leases WHERE session = ? AND item_id = ?", [session, item_id])

    def counts(self, project_id: int) -> dict[str, dict[str, int]]:
        """Return, for each kind, `{"total", "done"}`: items, and items that have all the labels they want."""
        counts = {kind: {"total": 0, "done": 0} for kind in KINDS}
        for row in self.store.db.query(
            "SELECT kind, count(*) AS total, sum(label_count >= wanted_labels) AS done FROM items"
            " WHERE project_id = ? GROUP BY kind",
            [project_id],
        ):
            counts[row["kind"]] = {"total": row["total"], "done": row["done"]}
        return counts
