"""A stored answer asked for again, with all it was made with. Does not know the page."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass, fields
from typing import Any

from chat.answering import Request, Side
from chat.provenance import NAMES, provenance
from chat.speakers import find
from chat.transcript import Turn, asked, before, turns
from errors import ConfigError
from models.client import Sampling, Workers
from storage import ChatMessage, Store


@dataclass(frozen=True)
class Replayed:
    """What came of it. text: the answer now; is_same: it is the stored one, as far as both go where one was stopped.

    changed: what is another one now than when the answer was given, in words. is_stopped: this one was stopped.
    """

    text: str
    is_same: bool
    changed: tuple[str, ...]
    is_stopped: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return asdict(self)

    def sentence(self) -> str:
        """Say what came of it."""
        if self.is_stopped and not self.text:
            return "Stopped before its first word."
        said = "The same answer came again" if self.is_same else "Another answer came"
        said += ", as far as it went: it was stopped." if self.is_stopped else "."
        if self.changed:
            return f"{said} Since then {', '.join(self.changed)} changed."
        # The model, the conversation, the settings and the seed are the same: what is left is how numbers are rounded.
        return said if self.is_same else f"{said} Nothing that is recorded changed: another processor or library rounds otherwise."


def replay(store: Store, workers: Workers, message_id: int, stop: threading.Event | None = None) -> Replayed:
    """Ask for a stored answer again: the same model, conversation, settings and seed. Nothing is stored.

    stop: ends the answer when it is set. Raises NotFoundError when the message or its model is gone, ConfigError when it is no answer that can be had again,
    ModelError and WorkerError when the model cannot answer.
    """
    answer = store.chats.message(message_id)
    kept = answer.settings or {}
    if not is_replayable(answer):
        raise ConfigError(f"Message {message_id} is no whole answer of a model: it cannot be had again.")
    chat = store.chats.get(answer.chat_id)
    (speaker,) = find(store, chat.project_id, answer.model)
    now = provenance(store, speaker)
    changed = tuple(words for name, words in NAMES.items() if kept.get(name) and kept[name] != now[name])
    request = Request(speaker, _messages(store, answer), _sampling(kept))
    stop = stop or threading.Event()
    side = Side(store, workers, request, stop, threading.Event())
    try:
        side.start()
        text = side.result()
    finally:
        stop.set()
    is_stopped = side.snapshot().finish_reason == "stopped"
    ends = len(text) if is_stopped else None, len(answer.content) if answer.finish_reason == "stopped" else None
    until = min((end for end in ends if end is not None), default=None)
    return Replayed(text, text[:until] == answer.content[:until], changed, is_stopped)


def is_replayable(answer: ChatMessage) -> bool:
    """Say whether a message is an answer of a model that can be asked for again."""
    if answer.role != "assistant" or answer.side is None or "question_id" not in (answer.settings or {}):
        return False
    begun = answer.finish_reason != "stopped" or bool(answer.content)  # stopped before the first word it is like any other
    return begun and answer.finish_reason != "error"


def _messages(store: Store, answer: ChatMessage) -> list[dict[str, str]]:
    """Return the conversation that was sent."""
    question = store.chats.message(answer.settings["question_id"])
    # As the chat stood when it was asked: it may have been asked anew since, also before this answer had ended.
    past = before(turns(store, answer.chat_id, until=question.id), question.id)
    sides = len(store.chats.get(answer.chat_id).models)
    turn = Turn(question, tuple(answer if side == answer.side else None for side in range(sides)))
    return asked(past, turn, answer.side)


def _sampling(kept: dict[str, Any]) -> Sampling:
    return Sampling(**{spec.name: kept[spec.name] for spec in fields(Sampling) if spec.name in kept})
