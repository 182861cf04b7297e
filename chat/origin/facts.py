"""What is kept of how an answer was made, in words, for those who may see it. Does not know the page."""

from __future__ import annotations

from typing import Any

from chat.replay import is_replayable
from chat.transcript import Opened, hides_names
from chat.votes import CHOICES
from errors import ConfigError
from storage import ChatMessage, Store

DRAWS = {
    "temperature": "temperature", "top_p": "top-p", "top_k": "top-k", "min_p": "min-p",
    "repetition_penalty": "repetition penalty", "max_tokens": "longest answer",
}
ENDS = {"stop": "by itself", "length": "cut off at the longest answer", "stopped": "stopped by a person"}


def answers(opened: Opened) -> list[tuple[str, int]]:
    """Return the answers of a chat that can be told of, the newest question's first: what is read, and the message's number.

    There are none in a blind chat before its vote: they would name the models.
    """
    if opened.hides_names:
        return []
    return [
        (f"Question {number}, {CHOICES[side]}: {opened.sides[side].label}", answer.id)
        for number, turn in reversed([*enumerate(opened.turns, start=1)])
        for side, answer in enumerate(turn.answers)
        if answer is not None and is_replayable(answer)
    ]


def told(store: Store, message_id: int | None) -> ChatMessage:
    """Return an answer that may be told of.

    Raises ConfigError for none, and in a blind chat before its vote; NotFoundError for an unknown one.
    """
    if message_id is None:
        raise ConfigError("Choose an answer first.")
    answer = store.chats.message(message_id)
    if hides_names(store, answer.chat_id):
        raise ConfigError("This chat is blind: how an answer was made is shown after your vote.")
    return answer


def facts(answer: ChatMessage) -> list[tuple[str, str]]:
    """Return what an answer was made with: names and values, both in words."""
    kept: dict[str, Any] = answer.settings or {}
    draws = [f"{words} {kept[name]:g}" for name, words in DRAWS.items() if name in kept]
    seconds = f" in {kept['seconds']:.1f} s" if kept.get("seconds", 0) >= 0.05 else ""
    rows = [
        ("Model", f"{kept.get('label') or answer.model} · {kept.get('model')}"),
        ("Base weights", kept.get("base_identity") or "not recorded"),
        ("Adapter", kept.get("adapter_hash") or ("not recorded" if kept.get("run") else "none: the base model alone")),
        ("Chat template", kept.get("template_hash") or "not recorded"),
        ("Settings", " · ".join(draws)),
        ("Seed", str(kept.get("seed"))),
        ("System prompt", kept.get("system") or "none"),
        ("Ended", f"{ENDS.get(answer.finish_reason or '', '')}, {kept.get('tokens', 0)} tokens{seconds}"),
    ]
    if kept.get("left_out"):
        rows.append(("Left out", f"the {kept['left_out']} oldest messages, which did not fit"))
    return [*rows, ("Number", f"{answer.id} (python app.py replay {answer.id})")]
