"""Items to label. Does not know what a label means, nor who gets which item (`leases`)."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from errors import NotFoundError
from storage.judged import majority
from storage.prompts import messages_hash
from storage.records import KINDS, MOST_RANKED, Card, Item, Message, Prompt, Response, from_row
from storage.responses import text_hash

if TYPE_CHECKING:
    from storage.database import Store


def kind_of(responses: int) -> str | None:
    """Return the kind of an item with so many responses; None when there is no such kind."""
    return {1: "single", 2: "pair"}.get(responses, "ranking" if 3 <= responses <= MOST_RANKED else None)


class Items:
    """The items of a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def add(
        self, project_id: int, prompt_id: int, response_ids: Sequence[int], *, wanted_labels: int | None = None
    ) -> tuple[int, bool]:
        """Store an item of one to six responses to a prompt; return its id and whether it was new.

        wanted_labels: from how many people; what the project says when not given. The responses keep the order they
        are given in, but the same ones in another order are the same item. The place in the queue is drawn at random
        once. Raises NotFoundError when a response answers another prompt, or is missing.
        """
        ids = list(response_ids)
        kind, key = kind_of(len(ids)), ",".join(map(str, sorted(ids)))
        if kind is None or len(set(ids)) != len(ids):
            raise NotFoundError(f"An item has one to {MOST_RANKED} different responses, not {ids}.")
        with self.store.transaction() as db:
            cursor = db.execute(
                "INSERT INTO items (project_id, prompt_id, kind, response_key, position, wanted_labels, created_at)"
                " VALUES (?, ?, ?, ?, ?, coalesce(?, (SELECT json_extract(labeling, '$.labels_per_item')"
                " FROM projects WHERE id = ?), 1), ?) ON CONFLICT DO NOTHING RETURNING id",
                [project_id, prompt_id, kind, key, random.random(), wanted_labels, project_id, time.time()],
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

    def find_single(self, project_id: int, messages: list[Message], text: str) -> int | None:
        """Return the item that shows one response to a conversation alone; None when there is none."""
        rows = self.store.rows(
            "SELECT items.id FROM prompts JOIN responses ON responses.prompt_id = prompts.id"
            " JOIN items ON items.prompt_id = prompts.id AND items.response_key = CAST(responses.id AS TEXT)"
            " WHERE prompts.project_id = ? AND prompts.content_hash = ? AND responses.content_hash = ?",
            [project_id, messages_hash(messages), text_hash(text)],
        )
        return rows[0]["id"] if rows else None

    def get(self, item_id: int) -> Item:
        """Return one item. Raises NotFoundError."""
        for row in self.store.rows("SELECT * FROM items WHERE id = ?", [item_id]):
            return from_row(Item, row)
        raise NotFoundError(f"There is no item number {item_id}.")

    def response_ids(self, item_id: int) -> list[int]:
        """Return the ids of an item's responses in stored order."""
        rows = self.store.db.conn.execute(
            "SELECT response_id FROM item_responses WHERE item_id = ? ORDER BY position", [item_id]
        )
        return [row[0] for row in rows]

    def card(self, item_id: int) -> Card:
        """Return one item with its prompt and responses. Raises NotFoundError."""
        item = self.get(item_id)
        rows = self.store.rows(
            "SELECT responses.* FROM item_responses JOIN responses ON responses.id = item_responses.response_id"
            " WHERE item_responses.item_id = ? ORDER BY item_responses.position",
            [item_id],
        )
        prompt: Prompt = self.store.prompts.get(item.prompt_id)
        return Card(item, prompt, tuple(from_row(Response, row) for row in rows))

    def counts(self, project_id: int) -> dict[str, dict[str, int]]:
        """Return, for each kind, `{"total", "done"}`: items, and items that have all the labels they want.

        Checks do not count: they are not work to be done.
        """
        counts = {kind: {"total": 0, "done": 0} for kind in KINDS}
        for row in self.store.rows("SELECT kind, total, done FROM item_counts WHERE project_id = ?", [project_id]):
            counts[row.pop("kind")] = row
        return counts

    def want(self, project_id: int, labels: int) -> None:
        """Want votes from so many people on each item of a project, those that are there too."""
        with self.store.transaction() as db:
            db.execute("UPDATE items SET wanted_labels = ? WHERE project_id = ?", [labels, project_id])

    def set_check(self, item_id: int, is_check: bool) -> None:
        """Make an item a check, or work to be done again. Its labels are counted anew.

        Of an item that is no check any more, the answers to the check stay in the history only, and so does a final
        label that is older than a changed vote. Raises NotFoundError when there is no such item, or it has no final
        label to check against.
        """
        with self.store.transaction() as db:
            self.get(item_id)
            labels = db.execute("SELECT * FROM current_labels WHERE item_id = ?", [item_id]).fetchall()
            if is_check and not any(role == "final" for _, role, _, _ in labels):
                raise NotFoundError(f"Item {item_id} has no final label yet: decide it first.")
            db.execute("DELETE FROM current_labels WHERE item_id = ?", [item_id])
            db.execute("UPDATE items SET is_check = ? WHERE id = ?", [is_check, item_id])
            db.conn.executemany("INSERT INTO current_labels VALUES (?, ?, ?, ?)", labels)
            if not is_check:
                db.execute("DELETE FROM leases WHERE item_id = ? AND picked = 'check'", [item_id])
                own = "SELECT id FROM labels WHERE item_id = ?1 AND role = 'vote'"
                db.execute(
                    "DELETE FROM current_labels WHERE item_id = ?1 AND role = 'vote'"
                    f" AND label_id IN ({own} AND picked = 'check')",
                    [item_id],
                )
                db.execute(
                    "DELETE FROM current_labels WHERE item_id = ?1 AND role = 'final'"
                    f" AND label_id < (SELECT max(id) FROM ({own} AND replaces_id < current_labels.label_id))",
                    [item_id],
                )
            db.execute(
                "UPDATE items SET label_count = (SELECT count(*) FROM current_labels JOIN labels ON labels.id = label_id"
                " WHERE current_labels.item_id = ?1 AND current_labels.role = 'vote'"
                " AND verdict NOT IN ('skip', 'flag')) WHERE id = ?1",
                [item_id],
            )

    def pairs(self, project_id: int, after_id: int = 0, limit: int = 256) -> list[dict[str, Any]]:
        """Return a project's next pairs in order of their ids, with their texts and votes: what a run scores.

        Each row: `id, prompt_id, messages (list), responses (texts), majority`. majority: the place, 0 or 1, of the
        response that more current votes prefer than say anything else, or None.
        """
        rows = self.store.rows(
            """
            SELECT items.id, prompt_id, prompts.messages,
                   (SELECT json_group_array(json_array(id, text)) FROM (
                        SELECT responses.id, responses.text FROM item_responses
                        JOIN responses ON responses.id = item_responses.response_id
                        WHERE item_id = items.id ORDER BY item_responses.position)) AS responses,
                   (SELECT json_group_array(coalesce(chosen_response_id, verdict)) FROM current_labels
                    JOIN labels ON labels.id = label_id WHERE current_labels.item_id = items.id
                        AND current_labels.role = 'vote' AND verdict NOT IN ('skip', 'flag')) AS votes
            FROM items JOIN prompts ON prompts.id = items.prompt_id
            WHERE items.project_id = ? AND items.kind = 'pair' AND items.id > ? ORDER BY items.id LIMIT ?
            """,
            [project_id, after_id, limit],
        )
        for row in rows:
            ids, row["responses"] = zip(*json.loads(row["responses"]))
            preferred = majority(Counter(json.loads(row.pop("votes"))))
            row |= {"messages": json.loads(row["messages"]), "majority": ids.index(preferred) if preferred in ids else None}
        return rows

    def set_margins(self, project_id: int, scores: Iterable[tuple[int, float, float | None]]) -> int:
        """Keep what a run says of a project's pairs, and forget what an earlier one said; return how many.

        scores: item id, margin, and contradiction where the item has votes; see `Item`. Everybody's place in the
        queues that follow them starts anew.
        """
        with self.store.transaction() as db:
            db.execute(
                "UPDATE items SET margin = NULL, contradiction = NULL WHERE project_id = ? AND margin IS NOT NULL",
                [project_id],
            )
            cursor = db.conn.executemany(
                "UPDATE items SET margin = ?, contradiction = ? WHERE id = ? AND project_id = ?",
                ((margin, contradiction, item_id, project_id) for item_id, margin, contradiction in scores),
            )
            db.execute(
                "DELETE FROM cursors WHERE project_id = ? AND lane IN ('uncertain', 'contradicted')", [project_id]
            )
            return cursor.rowcount
