"""Prompts: conversations that ask for a response. The same conversation is stored once a project."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from errors import NotFoundError
from storage.records import Message, Prompt, from_row

if TYPE_CHECKING:
    from storage.database import Store


def messages_hash(messages: list[Message]) -> str:
    """Return the hash of a conversation's roles and texts (outer white space does not count)."""
    plain = [[message["role"], message["content"].strip()] for message in messages]
    return hashlib.sha256(json.dumps(plain, ensure_ascii=False).encode("utf-8", "surrogatepass")).hexdigest()


class Prompts:
    """The prompts of a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def add(self, project_id: int, messages: list[Message], source: str = "") -> tuple[int, bool]:
        """Store a conversation; return its id and whether it was new.

        messages: `{"role", "content"}` each, the last one the user's. source: the file or person it came from.
        """
        with self.store.transaction() as db:
            content_hash = messages_hash(messages)
            cursor = db.execute(
                "INSERT INTO prompts (project_id, messages, content_hash, source, created_at) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT DO NOTHING RETURNING id",
                [project_id, json.dumps(messages, ensure_ascii=False), content_hash, source, time.time()],
            )
            if row := cursor.fetchone():
                return row[0], True
            known = db.execute(
                "SELECT id FROM prompts WHERE project_id = ? AND content_hash = ?", [project_id, content_hash]
            )
            return known.fetchone()[0], False

    def get(self, prompt_id: int) -> Prompt:
        """Return one prompt. Raises NotFoundError."""
        for row in self.store.rows("SELECT * FROM prompts WHERE id = ?", [prompt_id]):
            return from_row(Prompt, row)
        raise NotFoundError(f"There is no prompt number {prompt_id}.")

    def list(self, project_id: int) -> list[Prompt]:
        """Return all prompts of a project, oldest first."""
        rows = self.store.db.query("SELECT * FROM prompts WHERE project_id = ? ORDER BY id", [project_id])
        return [from_row(Prompt, row) for row in rows]

    def count(self, project_id: int) -> int:
        """Return how many prompts a project has."""
        return self.store.db.execute("SELECT count(*) FROM prompts WHERE project_id = ?", [project_id]).fetchone()[0]

    def untrained(self, project_id: int, run_ids: Sequence[int]) -> list[Prompt]:
        """Return a project's prompts that none of some runs has learned from, oldest first.

        Those that a run only measured on are among them. A prompt counts by its conversation, so that a copy of it in
        another project is known too.
        """
        rows = self.store.rows(
            f"SELECT * FROM prompts WHERE project_id = ? AND content_hash NOT IN ({_learned(run_ids)}) ORDER BY id",
            [project_id, *run_ids],
        )
        return [from_row(Prompt, row) for row in rows]

    def trained(self, project_id: int, run_ids: Sequence[int]) -> set[int]:
        """Return the ids of a project's prompts that some run has learned from; the others are `untrained`."""
        rows = self.store.rows(
            f"SELECT id FROM prompts WHERE project_id = ? AND content_hash IN ({_learned(run_ids)})", [project_id, *run_ids]
        )
        return {row["id"] for row in rows}

    def unlabelled(self, project_id: int) -> list[int]:
        """Return the ids of a project's prompts on which no vote is, skips and flags apart, oldest first."""
        rows = self.store.rows(
            "SELECT id FROM prompts WHERE project_id = ? AND id NOT IN (SELECT prompt_id FROM items WHERE label_count > 0"
            " AND project_id = prompts.project_id) ORDER BY id",
            [project_id],
        )
        return [row["id"] for row in rows]


def _learned(run_ids: Sequence[int]) -> str:
    """Return the query of the conversations that runs have learned from; its parameters are their ids."""
    return (
        "SELECT content_hash FROM run_labels JOIN labels ON labels.id = label_id JOIN items ON items.id = item_id"
        f" JOIN prompts ON prompts.id = prompt_id WHERE held_out = 0 AND run_id IN ({', '.join('?' * len(run_ids))})"
    )
