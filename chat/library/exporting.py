"""A stored conversation as a file: JSON with everything that is known, or Markdown to read. Does not know the page."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from chat.speakers import name_of
from chat.transcript import Turn, turns
from chat.votes import CHOICES
from storage import Chat, ChatMessage, Store


def as_json(store: Store, chat_id: int) -> str:
    """Return a conversation with the model, settings and seed of each answer, and the votes. Raises NotFoundError."""
    chat = store.chats.get(chat_id)
    told = {**asdict(chat), "turns": [_told(turn, chat) for turn in turns(store, chat_id)]}
    return json.dumps(told, ensure_ascii=False, indent=2)


def as_markdown(store: Store, chat_id: int) -> str:
    """Return a conversation as text: each question with the answers of all sides under it. Raises NotFoundError."""
    chat = store.chats.get(chat_id)
    parts = [f"# {chat.name or f'Chat {chat.id}'}"]
    for turn in turns(store, chat_id):
        parts.append(f"## You\n\n{turn.question.content}")
        parts += [
            f"### {CHOICES[side]}: {_speaker(answer, chat, side)}\n\n{answer.content if answer else ''}".rstrip()
            for side, answer in enumerate(turn.answers)
        ]
        parts += [f"> Vote of {vote.annotator}: {_said(vote.verdict, vote.side)}" for vote in turn.votes]
    return "\n\n".join(parts) + "\n"


def _told(turn: Turn, chat: Chat) -> dict[str, Any]:
    answers = [
        None if answer is None else {
            "message": answer.id, "side": CHOICES[side], "model": answer.model, "text": answer.content, "finish_reason": answer.finish_reason,
            "settings": answer.settings,
        }
        for side, answer in enumerate(turn.answers)
    ]
    votes = [
        {"annotator": vote.annotator, "vote": _said(vote.verdict, vote.side), "is_blind": vote.is_blind, "created_at": vote.created_at}
        for vote in turn.votes
    ]
    return {"question": turn.question.content, "answers": answers, "votes": votes}


def _speaker(answer: ChatMessage | None, chat: Chat, side: int) -> str:
    return ((answer.settings if answer else None) or {}).get("label") or name_of(chat.models[side])


def _said(verdict: str, side: int | None) -> str:
    return CHOICES[side] if side is not None else verdict.replace("_", " ")
