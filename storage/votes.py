"""Current labels in bulk, without texts: what people said of which item, for measuring and for finding disputes.

Responses are named by their position in the item's stored order. Does not know what is measured.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from storage.database import Store

PREFERENCE = "verdict NOT IN ('skip', 'flag', 'undo')"
# What is the same for two people who chose the same; they may name the equals of a ranking in another order.
CHOICE = """CASE WHEN verdict = 'ranked' THEN (
        SELECT group_concat((SELECT group_concat(value) FROM (SELECT value FROM json_each(tier.value) ORDER BY value)), '>')
        FROM (SELECT value FROM json_each(ranking) ORDER BY key) AS tier)
    WHEN verdict = 'chosen' THEN chosen_response_id ELSE verdict END"""
# Which items a list shows.
VIEWS = {
    "differ": "choices > 1 AND NOT decided AND NOT is_check",
    "agree": "choices = 1 AND NOT decided AND NOT is_check",
    "flagged": "flags > 0 AND NOT decided",
    "decided": "decided",
}


class Vote(NamedTuple):
    """One current label that is a preference; fields as in `Label`, responses as positions from 0.

    chosen: of the preferred response, for "chosen". ranking: tiers of positions, best first, each in order.
    shown: positions as shown, left to right.
    """

    item_id: int
    kind: str
    is_check: bool
    annotator: str
    role: str
    verdict: str
    chosen: int | None
    ranking: tuple[tuple[int, ...], ...] | None
    reasons: tuple[str, ...]
    active_seconds: float | None
    picked: str | None
    margin: float | None
    shown: tuple[int, ...]
    source: str

    @property
    def choice(self) -> Any:
        """What was chosen, to be compared with another vote on the item; any edit is an edit."""
        return next((said for said in (self.chosen, self.ranking) if said is not None), self.verdict)


@dataclass(frozen=True)
class Voted:
    """One item of a list: its votes (skips and flags not among them), how many different choices, and flags."""

    item_id: int
    votes: int
    choices: int
    flags: int
    is_check: bool


class Votes:
    """The current labels of a store, in bulk."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def of_project(self, project_id: int, kind: str | None = None) -> Iterator[Vote]:
        """Yield a project's current preferences of every role, item by item, each item's oldest first.

        kind: only items of that kind. Votes on checks are among them.
        """
        rows = self.store.db.conn.execute(
            f"""
            SELECT items.id, kind, is_check, labels.annotator, labels.role, verdict, chosen_response_id, ranking, reasons,
                   active_seconds, picked, labels.margin, shown_response_ids, labels.source,
                   (SELECT json_group_array(response_id) FROM (
                        SELECT response_id FROM item_responses WHERE item_id = items.id ORDER BY position))
            FROM items JOIN current_labels ON current_labels.item_id = items.id JOIN labels ON labels.id = label_id
            WHERE project_id = ? AND (? IS NULL OR kind = ?) AND {PREFERENCE}
            ORDER BY items.id, label_id
            """,
            [project_id, kind, kind],
        )
        latest, places = None, {}
        for item_id, kind_, is_check, who, role, verdict, chosen, ranking, reasons, *given, shown, source, ids in rows:
            if item_id != latest:
                latest, places = item_id, {each: position for position, each in enumerate(json.loads(ids))}
            yield Vote(
                item_id, kind_, bool(is_check), who, role, verdict,
                places[chosen] if verdict == "chosen" else None,
                None if ranking is None else tuple(tuple(sorted(places[each] for each in tier)) for tier in json.loads(ranking)),
                () if reasons == "[]" else tuple(json.loads(reasons)),
                *given, tuple(places[each] for each in json.loads(shown)), source,
            )

    def items(self, project_id: int, kind: str, view: str, after: int = 0, limit: int = 20) -> list[Voted]:
        """Return the next items of one of VIEWS after an item's id, in the order of their ids."""
        return [
            Voted(*row[:4], bool(row[4]))
            for row in self.store.db.conn.execute(
                f"SELECT id, votes, choices, flags, is_check FROM ({self._voted()}) WHERE {VIEWS[view]} LIMIT ?",
                [project_id, kind, after, limit],
            )
        ]

    def counts(self, project_id: int, kind: str) -> dict[str, int]:
        """Return how many items of a kind each of VIEWS has."""
        sums = ", ".join(f"coalesce(sum({condition}), 0)" for condition in VIEWS.values())
        row = self.store.db.conn.execute(f"SELECT {sums} FROM ({self._voted()})", [project_id, kind, 0]).fetchone()
        return dict(zip(VIEWS, row))

    def _voted(self) -> str:
        is_vote = f"labels.role = 'vote' AND {PREFERENCE}"
        return f"""
            SELECT items.id, is_check, count(*) FILTER (WHERE {is_vote}) AS votes,
                   count(DISTINCT iif({is_vote}, {CHOICE}, NULL)) AS choices,
                   count(*) FILTER (WHERE labels.role = 'vote' AND verdict = 'flag') AS flags,
                   max(labels.role = 'final') AS decided
            FROM items
            JOIN current_labels ON current_labels.item_id = items.id JOIN labels ON labels.id = label_id
            WHERE project_id = ? AND kind = ? AND items.id > ?
            GROUP BY items.id ORDER BY items.id
        """
