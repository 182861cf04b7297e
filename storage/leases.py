"""Who has which item on the table, and what is free for whom. Does not know in which order a project asks.

A lease belongs to one browser tab and ends by itself. What is free is found by walking an index from where the
annotator stopped last (a cursor), a bounded number of rows a call: never by sorting or skipping what was passed.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from storage.records import REPEAT

if TYPE_CHECKING:
    from storage.database import Store

# Ways through a project's waiting items: the condition and the key that its index sorts by.
LANES = {
    "shuffled": ("", "position"),
    "fewest": ("AND label_count = :tier", "position"),
    "uncertain": ("AND margin IS NOT NULL", "abs(margin)"),
    "contradicted": ("AND contradiction IS NOT NULL", "-contradiction"),
}
CHECK = "check"
START = (-1e300, 0)
ROWS_AT_ONCE = 16
MOST_ROWS = 2_000
# A repeat comes after at least so many other labels.
REPEAT_AFTER = 10
REPEAT_ROWS = 100


@dataclass
class Budget:
    """How many rows a request may still look at, over all its lanes."""

    rows: int = field(default_factory=lambda: MOST_ROWS)

    @property
    def is_spent(self) -> bool:
        """True when the walk was cut short: there may be more to find."""
        return self.rows <= 0


@dataclass(frozen=True)
class Held:
    """One item that a tab holds. picked: why it came; see `Label.picked`."""

    item_id: int
    picked: str

    @property
    def is_repeat(self) -> bool:
        """True when the annotator has labelled the item before and is asked again."""
        return self.picked == REPEAT


class Leases:
    """The leases of a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def held(self, project_id: int, kind: str, annotator: str, session: str) -> list[Held]:
        """Return what a tab holds and can still be answered, in the order it was given; what has ended is freed."""
        conn = self.store.db.conn
        conn.execute("DELETE FROM leases WHERE expires_at <= ?", [time.time()])
        rows = conn.execute(
            """
            SELECT leases.item_id, picked FROM leases JOIN items ON items.id = leases.item_id
            WHERE session = :session AND annotator = :annotator AND project_id = :project AND kind = :kind
              AND (picked IN ('check', 'repeat') OR label_count < wanted_labels)
              AND NOT EXISTS (SELECT 1 FROM current_labels WHERE item_id = leases.item_id AND annotator = :annotator
                              AND role = iif(leases.picked = 'repeat', 'repeat', 'vote'))
            ORDER BY place
            """,
            {"project": project_id, "kind": kind, "annotator": annotator, "session": session},
        )
        return [Held(*row) for row in rows]

    def take(self, session: str, annotator: str, held: Sequence[Held], seconds: float) -> None:
        """Give items to a tab, after those it holds, or renew them. seconds: how long it may keep them."""
        ends = time.time() + seconds
        conn = self.store.db.conn
        place = conn.execute("SELECT coalesce(max(place), 0) FROM leases WHERE session = ?", [session]).fetchone()[0]
        conn.executemany(
            "INSERT INTO leases (item_id, session, annotator, picked, place, expires_at) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (item_id, session) DO UPDATE SET expires_at = excluded.expires_at, picked = excluded.picked,"
            " place = iif(picked = excluded.picked, place, excluded.place)",
            [(one.item_id, session, annotator, one.picked, place + step, ends) for step, one in enumerate(held, 1)],
        )

    def release(self, session: str, item_ids: Sequence[int] | None = None) -> None:
        """Give back what a tab has reserved: these items, or all of them."""
        with self.store.transaction() as db:
            if item_ids is None:
                db.conn.execute("DELETE FROM leases WHERE session = ?", [session])
            for item_id in item_ids or ():
                db.conn.execute("DELETE FROM leases WHERE session = ? AND item_id = ?", [session, item_id])

    def hand_over(self, former: str, session: str) -> None:
        """Give what one page held to the one that took its place, as it was."""
        with self.store.transaction() as db:
            db.conn.execute("UPDATE OR IGNORE leases SET session = ? WHERE session = ?", [session, former])
            db.conn.execute("DELETE FROM leases WHERE session = ?", [former])

    def free(
        self, project_id: int, kind: str, annotator: str, session: str, lane: str, tier: int | None = None,
        apart: bool = False, budget: Budget | None = None,
    ) -> Iterator[int]:
        """Yield items of a lane that this tab may be given, from where the annotator stopped, once around.

        lane: one of LANES; tier: the label count, for "fewest". apart: begin where nobody else does, in a lane that is
        sorted by the random position, instead of at its start. budget: of the request. The cursor is kept when the
        iterator is closed, so the next call goes on there.
        """
        name = lane if tier is None else f"{lane} {tier}"
        whose = [project_id, kind, annotator, name]
        begun = self._cursor(whose) or ((zlib.crc32(annotator.encode()) / 2**32, 0) if apart else START)
        values = {"project": project_id, "kind": kind, "annotator": annotator, "session": session, "tier": tier}
        reached, budget = begun, budget or Budget()
        try:
            for start, end in ((begun, None), (START, begun)) if begun != START else ((START, None),):
                at = start
                while not budget.is_spent:
                    rows = self._walk(lane, values, at, min(ROWS_AT_ONCE, budget.rows))
                    budget.rows -= len(rows)
                    for item_id, key, is_free in rows:
                        at = (key, item_id)
                        if end is not None and at > end:
                            return
                        reached = at
                        if is_free:
                            yield item_id
                    if len(rows) < ROWS_AT_ONCE:
                        break
        finally:
            if reached != begun:
                self.store.db.conn.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?, ?, ?, ?, ?)", [*whose, *reached])

    def _cursor(self, whose: Sequence[object]) -> tuple[float, int] | None:
        return self.store.db.conn.execute(
            "SELECT after_key, after_id FROM cursors WHERE project_id = ? AND kind = ? AND annotator = ? AND lane = ?",
            whose,
        ).fetchone()

    def _walk(self, lane: str, values: dict, after: tuple[float, int], limit: int) -> list[tuple[int, float, int]]:
        condition, key = LANES[lane]
        rows = self.store.db.conn.execute(
            f"""
            SELECT id, {key},
                   NOT EXISTS (SELECT 1 FROM current_labels
                               WHERE item_id = items.id AND role = 'vote' AND annotator = :annotator)
                   AND NOT EXISTS (SELECT 1 FROM leases
                                   WHERE item_id = items.id AND (session = :session OR annotator = :annotator))
                   AND label_count + (SELECT count(*) FROM leases WHERE item_id = items.id
                                      AND picked NOT IN ('check', 'repeat')
                                      AND NOT EXISTS (SELECT 1 FROM current_labels WHERE item_id = items.id
                                                      AND role = 'vote' AND annotator = leases.annotator)
                                     ) < wanted_labels
            FROM items INDEXED BY items_{lane}
            WHERE project_id = :project AND kind = :kind AND label_count < wanted_labels AND is_check = 0 {condition}
              AND {key} >= :key AND ({key} > :key OR id > :id)
            ORDER BY {key}, id LIMIT :limit
            """,
            {**values, "key": after[0], "id": after[1], "limit": limit},
        )
        return rows.fetchall()

    def free_check(self, project_id: int, kind: str, annotator: str, taken: Collection[int] = ()) -> int | None:
        """Return a check that the annotator has not answered and does not hold, or None. taken: not these."""
        rows = self.store.db.conn.execute(
            """
            SELECT id FROM items INDEXED BY items_that_check
            WHERE project_id = ? AND kind = ? AND is_check = 1
              AND NOT EXISTS (SELECT 1 FROM current_labels
                              WHERE item_id = items.id AND role = 'vote' AND annotator = ?)
              AND NOT EXISTS (SELECT 1 FROM leases WHERE item_id = items.id AND annotator = ?)
            ORDER BY position LIMIT ?
            """,
            [project_id, kind, annotator, annotator, len(taken) + 1],
        )
        return next((item_id for (item_id,) in rows if item_id not in taken), None)

    def free_repeat(
        self, project_id: int, kind: str, annotator: str, draw: float, taken: Collection[int] = ()
    ) -> int | None:
        """Return an item that the annotator labelled a while ago and was not asked again, or None.

        draw: a number from 0 to 1 that says where among the labels to look first. taken: not these.
        """
        conn = self.store.db.conn
        own = "SELECT label_id FROM current_labels WHERE annotator = ? AND role = 'vote' ORDER BY label_id"
        last = conn.execute(f"{own} DESC LIMIT 1 OFFSET ?", [annotator, REPEAT_AFTER]).fetchone()
        if last is None:
            return None
        (oldest,), (last,) = conn.execute(f"{own} LIMIT 1", [annotator]).fetchone(), last
        first = int(oldest + draw * (last - oldest))
        rows = conn.execute(
            """
            SELECT own.item_id FROM (
                SELECT item_id, label_id FROM current_labels
                WHERE annotator = :annotator AND role = 'vote' AND label_id BETWEEN :first AND :last
                ORDER BY label_id LIMIT :rows) AS own
            JOIN items ON items.id = own.item_id JOIN labels ON labels.id = own.label_id
            WHERE project_id = :project AND kind = :kind AND is_check = 0
              AND verdict NOT IN ('skip', 'flag') AND source = 'person'
              AND NOT EXISTS (SELECT 1 FROM current_labels
                              WHERE item_id = own.item_id AND role = 'repeat' AND annotator = :annotator)
              AND NOT EXISTS (SELECT 1 FROM leases
                              WHERE item_id = own.item_id AND annotator = :annotator AND picked = 'repeat')
            ORDER BY own.label_id LIMIT :limit
            """,
            {
                "annotator": annotator, "project": project_id, "kind": kind, "first": first, "last": last,
                "limit": len(taken) + 1, "rows": REPEAT_ROWS,
            },
        )
        return next((item_id for (item_id,) in rows if item_id not in taken), None)
