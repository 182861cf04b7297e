"""Responses and where they came from. The same text is stored once a prompt."""

from __future__ import annotations

import hashlib
import json
import time
from typing import TYPE_CHECKING, Any

from errors import NotFoundError
from storage.records import Response, from_row

if TYPE_CHECKING:
    from storage.database import Store


def text_hash(text: str) -> str:
    """Return the hash of a response's text (outer white space does not count)."""
    return hashlib.sha256(text.strip().encode("utf-8", "surrogatepass")).hexdigest()


class Responses:
    """The responses of a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def add(
        self,
        prompt_id: int,
        text: str,
        *,
        model: str | None = None,
        run_id: int | None = None,
        settings: dict[str, Any] | None = None,
        author: str | None = None,
    ) -> tuple[int, bool]:
        """Store a response; return its id and whether its text was new for the prompt. See `Response`."""
        content_hash = text_hash(text)
        with self.store.transaction() as db:
            cursor = db.execute(
                "INSERT INTO responses (prompt_id, text, content_hash, model, run_id, settings, author, created_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING id",
                [
                    prompt_id, text, content_hash, model, run_id,
                    None if settings is None else json.dumps(settings), author, time.time(),
                ],
            )
            if row := cursor.fetchone():
                return row[0], True
            known = db.execute(
                "SELECT id FROM responses WHERE prompt_id = ? AND content_hash = ?", [prompt_id, content_hash]
            )
            return known.fetchone()[0], False

    def get(self, response_id: int) -> Response:
        """Return one response. Raises NotFoundError."""
        for row in self.store.db.query("SELECT * FROM responses WHERE id = ?", [response_id]):
            return from_row(Response, row)
        raise NotFoundError(f"There is no response number {response_id}.")

    def of_prompt(self, prompt_id: int) -> list[Response]:
        """Return all responses to a prompt, oldest first."""
        rows = self.store.db.query("SELECT * FROM responses WHERE prompt_id = ? ORDER BY id", [prompt_id])
        return [from_row(Response, row) for row in rows]
