"""A conversation as people write it into a text box, read as messages. Knows no page and no model."""

from __future__ import annotations

import re

from errors import TrainingError
from models.wire import Message

ROLES = {"System": "system", "User": "user", "Human": "user", "Assistant": "assistant"}
_TURN = re.compile(rf"^({'|'.join(ROLES)}):", re.MULTILINE)


def read(text: str) -> list[Message]:
    """Return the messages of a text, whose turns begin with "User:", "Assistant:" or "System:" at the start of a line.

    A text that begins without a speaker is one question. "Human:" is the user too.
    """
    turns = text.lstrip()
    if not _TURN.match(turns):
        return [{"role": "user", "content": text}]
    _, *parts = _TURN.split(turns)
    return [{"role": ROLES[name], "content": said.strip()} for name, said in zip(parts[::2], parts[1::2])]


def with_answer(text: str, response: str) -> tuple[list[Message], str]:
    """Return the messages before an answer, and the answer: the last turn of the text where none is given apart.

    Raises TrainingError when one of them is missing, or the turn before the answer is not the user's.
    """
    messages = read(text)
    if not response and messages[-1]["role"] == "assistant":
        response = messages.pop()["content"]
    if not response or not messages or not all(message["content"].strip() for message in messages):
        raise TrainingError("Write a question and an answer first.")
    if messages[-1]["role"] != "user":
        raise TrainingError("The turn before the answer must be the user's: begin it with “User:”.")
    return messages, response
