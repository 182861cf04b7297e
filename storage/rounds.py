"""Rounds: where each one stands. Does not know how its steps are done."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from errors import NotFoundError
from storage.records import SAMPLE, Round, from_row

if TYPE_CHECKING:
    from storage.database import Store

ENDED = "ended"


class Rounds:
    """The rounds of a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def begin(self, project_id: int, sampled_run_id: int, prompt_ids: Sequence[int]) -> Round:
        """Store a new round of a project, at its first step."""
        with self.store.transaction() as db:
            cursor = db.execute(
                "INSERT INTO rounds (project_id, step, sampled_run_id, prompt_ids, created_at) VALUES (?, ?, ?, ?, ?)",
                [project_id, SAMPLE, sampled_run_id, json.dumps(list(prompt_ids)), time.time()],
            )
            return self.get(int(cursor.lastrowid or 0))

    def get(self, round_id: int) -> Round:
        """Return one round. Raises NotFoundError."""
        for row in self.store.rows("SELECT * FROM rounds WHERE id = ?", [round_id]):
            return from_row(Round, row)
        raise NotFoundError(f"There is no round number {round_id}.")

    def newest(self, project_id: int) -> Round | None:
        """Return the round of a project that was begun last, ended or not."""
        rows = self.store.rows("SELECT * FROM rounds WHERE project_id = ? ORDER BY id DESC LIMIT 1", [project_id])
        return from_row(Round, rows[0]) if rows else None

    def move(self, round_id: int, step: str, *, run_id: int | None = None, match_id: int | None = None) -> Round:
        """Say at which step a round is now, and its run or match once it is there; return it."""
        with self.store.transaction() as db:
            db.execute(
                "UPDATE rounds SET step = ?, run_id = coalesce(?, run_id), match_id = coalesce(?, match_id) WHERE id = ?",
                [step, run_id, match_id, round_id],
            )
            return self.get(round_id)

    def labels(self, round_id: int) -> tuple[int, int, int]:
        """Return how many pairs with its run's answers a round has, how many of them need nobody any more, and how many have
        a label.

        Whoever set a pair aside has seen it: it needs as many people as the project wants, whatever they said.
        """
        (row,) = self.store.rows(
            """
            SELECT count(*) AS total, count(*) FILTER (WHERE seen >= wanted_labels) AS done,
                   count(*) FILTER (WHERE label_count > 0) AS labelled
            FROM (
                SELECT wanted_labels, label_count, (SELECT count(*) FROM current_labels
                        WHERE current_labels.item_id = items.id AND current_labels.role = 'vote') AS seen
                FROM rounds JOIN json_each(rounds.prompt_ids) AS asked JOIN items ON items.prompt_id = asked.value
                WHERE rounds.id = ? AND kind = 'pair' AND is_check = 0 AND EXISTS (
                    SELECT 1 FROM item_responses JOIN responses ON responses.id = response_id
                    WHERE item_id = items.id AND responses.run_id = rounds.sampled_run_id)
            )
            """,
            [round_id],
        )
        return row["total"], row["done"], row["labelled"]
