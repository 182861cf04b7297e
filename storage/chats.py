"""Chats with one to four models, as they were said, and the votes on them. Does not know how answers are made."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from errors import LabelError, NotFoundError
from storage.records import Chat, ChatMessage, ChatVote, from_row

if TYPE_CHECKING:
    from storage.database import Store


MOST_LETTERS = 200  # of a question in a list


@dataclass(frozen=True)
class ChatEntry:
    """One chat of a list.

    title: its name, else how its first question begins. questions: those that a reader sees, none that was asked anew.
    votes: those that count, none that was changed.
    """

    chat: Chat
    title: str
    questions: int
    votes: int


class Chats:
    """The chats of a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def create(
        self, models: list[str], settings: dict[str, Any], project_id: int | None = None, *, is_blind: bool = False,
        annotator: str = "",
    ) -> Chat:
        """Store a new, empty chat; models are named left to right."""
        with self.store.transaction() as db:
            cursor = db.execute(
                "INSERT INTO chats (project_id, models, settings, is_blind, annotator, created_at)"
                " VALUES (?, ?, ?, ?, ?, ?) RETURNING id",
                [project_id, json.dumps(models), json.dumps(settings), is_blind, annotator, time.time()],
            )
            chat_id = cursor.fetchone()[0]
        return self.get(chat_id)

    def get(self, chat_id: int) -> Chat:
        """Return one chat. Raises NotFoundError."""
        for row in self.store.db.query("SELECT * FROM chats WHERE id = ?", [chat_id]):
            return from_row(Chat, row)
        raise NotFoundError(f"There is no chat number {chat_id}.")

    def list(self, project_id: int | None = None, annotator: str | None = None) -> list[Chat]:
        """Return the chats of a project, or all, newest first. annotator: only those that this one began."""
        rows = self.store.rows(
            "SELECT * FROM chats WHERE (:project IS NULL OR project_id = :project)"
            " AND (:annotator IS NULL OR annotator = :annotator) ORDER BY id DESC",
            {"project": project_id, "annotator": annotator},
        )
        return [from_row(Chat, row) for row in rows]

    def search(self, project_id: int | None, words: str = "", limit: int = 50) -> list[ChatEntry]:
        """Return a project's chats that were used and hold some words in their name or texts, newest first.

        words: each of them is to be found, in any order and any case; "" finds all. project_id: None searches every project.
        """
        likes = ["%" + re.sub(r"([%_\\])", r"\\\1", word) + "%" for word in words.casefold().split()]
        found = (
            "(casefold(name) LIKE :word{0} ESCAPE '\\' OR EXISTS (SELECT 1 FROM chat_messages"
            " WHERE chat_id = chats.id AND casefold(content) LIKE :word{0} ESCAPE '\\'))"
        )
        conditions = "".join(f" AND {found.format(number)}" for number in range(len(likes)))
        rows = self.store.rows(
            "SELECT chats.*, json_group_array(json_array(asked.id, json_extract(asked.settings, '$.replaces'),"
            " substr(asked.content, 1, :letters))) AS asked, (SELECT count(DISTINCT json_array(question_id, chat_votes.annotator))"
            " FROM chat_votes JOIN chat_messages ON chat_messages.id = question_id WHERE chat_id = chats.id) AS votes"
            " FROM chats JOIN chat_messages AS asked ON asked.chat_id = chats.id AND asked.role = 'user'"
            f" WHERE (:project IS NULL OR project_id = :project){conditions}"
            " GROUP BY chats.id ORDER BY chats.id DESC LIMIT :limit",
            {
                "project": project_id, "limit": limit, "letters": MOST_LETTERS,
                **{f"word{number}": like for number, like in enumerate(likes)},
            },
        )
        return [_entry(row) for row in rows]

    def rename(self, chat_id: int, name: str) -> None:
        """Give a chat a name; "" takes it back. Raises NotFoundError."""
        with self.store.transaction() as db:
            if db.execute("UPDATE chats SET name = ? WHERE id = ?", [name.strip(), chat_id]).rowcount != 1:
                raise NotFoundError(f"There is no chat number {chat_id}.")

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

    def message(self, message_id: int) -> ChatMessage:
        """Return one message. Raises NotFoundError."""
        for row in self.store.rows("SELECT * FROM chat_messages WHERE id = ?", [message_id]):
            return from_row(ChatMessage, row)
        raise NotFoundError(f"There is no message number {message_id} in any chat.")

    def add_vote(self, question_id: int, annotator: str, verdict: str, side: int | None = None) -> ChatVote:
        """Store which answer to a question somebody prefers and return it; fields as in `ChatVote`.

        In a blind chat the first vote is final, whichever question it is on: after it everybody knows who answers.
        Elsewhere the newest vote of each annotator counts. Raises LabelError when a final vote is there, or the side is
        not the chat's; NotFoundError when there is no such question.
        """
        with self.store.transaction() as db:
            chat = self.get(self.message(question_id).chat_id)
            if (verdict == "chosen") != (side in range(len(chat.models))):
                raise LabelError(f"The vote {verdict!r} names side {side} of a chat with {len(chat.models)} models.")
            if chat.is_blind and self.votes(chat.id):
                raise LabelError("This blind vote is final: the models are named now. Ask something new to vote again.")
            cursor = db.execute(
                "INSERT INTO chat_votes (question_id, annotator, verdict, side, is_blind, created_at)"
                " VALUES (?, ?, ?, ?, ?, ?) RETURNING *",
                [question_id, annotator, verdict, side, chat.is_blind, time.time()],
            )
            names = [column[0] for column in cursor.description]
            return from_row(ChatVote, dict(zip(names, cursor.fetchone())))

    def votes(self, chat_id: int) -> list[ChatVote]:
        """Return the votes of a chat that count, oldest first: of each question the newest of each annotator."""
        rows = self.store.rows(
            "SELECT * FROM chat_votes WHERE id IN (SELECT max(chat_votes.id) FROM chat_votes JOIN chat_messages"
            " ON chat_messages.id = question_id WHERE chat_id = ? GROUP BY question_id, annotator) ORDER BY id",
            [chat_id],
        )
        return [from_row(ChatVote, row) for row in rows]

    def vote_history(self, question_id: int, annotator: str) -> list[int]:
        """Return the ids of all votes that somebody gave on a question, oldest first: the last one counts."""
        rows = self.store.rows(
            "SELECT id FROM chat_votes WHERE question_id = ? AND annotator = ? ORDER BY id", [question_id, annotator]
        )
        return [row["id"] for row in rows]


def standing(questions: Iterable[tuple[int, int | None]]) -> list[int]:
    """Return the questions of a chat that stand, in order: one that is asked anew ends its place and all after it.

    questions: each with the one that it replaces, None for none; in the order in which they were asked.
    """
    found: list[int] = []
    for question_id, replaces in questions:
        if replaces in found:
            del found[found.index(replaces) :]
        found.append(question_id)
    return found


def _entry(row: dict[str, Any]) -> ChatEntry:
    asked = {question_id: (replaces, text) for question_id, replaces, text in sorted(json.loads(row["asked"]), key=lambda each: each[0])}
    shown = standing((question_id, replaces) for question_id, (replaces, _) in asked.items())
    title = row["name"] or " ".join(asked[shown[0]][1].split())
    return ChatEntry(from_row(Chat, row), title, len(shown), row["votes"])
