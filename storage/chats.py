"""Chats with one or two models, as they were said. Does not know how answers are made."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from errors import NotFoundError
from storage.records import Chat, ChatMessage, from_row

if TYPE_CHECKING:
    from storage.database import Store


class Chats:
    """The chats of a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def create(self, models: list[str], settings: dict[str, Any], project_id: int | None = None) -> Chat:
        """Store a new, empty chat; models are named left to right."""
        with self.store.transaction() as db:
            cursor = db.execute(
                "INSERT INTO chats (project_id, models, settings, created_at) VALUES (?, ?, ?, ?) RETURNING id",
                [project_id, json.dumps(models), json.dumps(settings), time.time()],
            )
            chat_id = cursor.fetchone()[0]
        return self.get(chat_id)

    def get(self, chat_id: int) -> Chat:
        """Return one chat. Raises NotFoundError."""
        for row in self.store.db.query("SELECT * FROM chats WHERE id = ?", [chat_id]):
            return from_row(Chat, row)
        raise NotFoundError(f"There is no chat number {chat_id}.")

    def list(self, project_id: int | None = None) -> list[Chat]:
        """Return the chats of a project, or all, newest first."""
        rows = self.store.db.query(
            "SELECT * FROM chats WHERE ? IS NULL OR project_id = ? ORDER BY id DESC", [project_id, project_id]
        )
        return [from_row(Chat, row) for row in rows]

    def add_message(
        self,
        chat_id: int,
        role: str,
        content: str,
        *,
        side: int | None = None,
        model: str | None = None,
        settings: dict[str, Any] | None = None,
        finish_reason: str | None = None,
    ) -> int:
        """Append a message and return its id. Fields as in `ChatMessage`."""
        with self.store.transaction() as db:
            cursor = db.execute(
                "INSERT INTO chat_messages (chat_id, side, role, content, model, settings, finish_reason, created_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
                [
                    chat_id, side, role, content, model,
                    None if settings is None else json.dumps(settings), finish_reason, time.time(),
                ],
            )
            return cursor.fetchone()[0]

    def messages(self, chat_id: int) -> list[ChatMessage]:
        """Return all messages of a chat in order."""
        rows = self.store.db.query("SELECT * FROM chat_messages WHERE chat_id = ? ORDER BY id", [chat_id])
        return [from_row(ChatMessage, row) for row in rows]
