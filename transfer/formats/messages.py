"""Values of a row turned into clean texts and messages, or a RowError that names the field.

Owns the spellings of roles and messages that files use. It does not know formats.
"""

from __future__ import annotations

from typing import Any

Message = dict[str, str]

ROLES = {
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "bot": "assistant", "chatgpt": "assistant",
    "system": "system",
}
KINDS = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}


class RowError(ValueError):
    """A row is broken: a field is missing, of the wrong type, or no clean text. A file with one is refused.

    field: the name of the field that is wrong, "" when it is the row as a whole.
    """

    def __init__(self, problem: str, field: str = "") -> None:
        super().__init__(problem)
        self.field = field


class Unusable(Exception):
    """A row in good form that holds nothing to label or learn from; the text is the reason it is left out."""


def kind_of(value: Any) -> str:
    """Return what a JSON value is, in words."""
    return "nothing (null)" if value is None else KINDS.get(type(value), type(value).__name__)


def as_text(value: Any, field: str) -> str:
    """Return a text as it is. Raises RowError for other types, and for characters that cannot be stored or shown."""
    if not isinstance(value, str):
        raise RowError(f"the field {field!r} should be text, not {kind_of(value)}", field)
    if "\0" in value:
        raise RowError(f"the field {field!r} holds a NUL character", field)
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise RowError(
                f"the field {field!r} holds half a character (a lone surrogate) at position {error.start}",
                field,
            ) from error
    return value


def as_prompt(value: Any, field: str) -> list[Message]:
    """Return a prompt: a plain text is one message of the user, a list is a conversation."""
    if isinstance(value, str):
        return [{"role": "user", "content": as_text(value, field)}]
    return as_messages(value, field)


def as_messages(value: Any, field: str) -> list[Message]:
    """Return a list of messages with the roles system, user and assistant."""
    if not isinstance(value, list):
        raise RowError(f"the field {field!r} should be a list of messages, not {kind_of(value)}", field)
    return [_as_message(message, f"{field}[{index}]") for index, message in enumerate(value)]


def as_response(value: Any, field: str) -> str:
    """Return the text of one answer: a text, one message, or a list of one message of the assistant.

    A plain text loses the single space that joins it to its prompt in TRL's plain formats (" blue.").
    Raises Unusable for an answer of several messages: only one is labelled at a time.
    """
    if isinstance(value, str):
        text = as_text(value, field)
        return text[1:] if text[:1] == " " and not text[1:2].isspace() else text
    turns = as_messages([value] if isinstance(value, dict) else value, field)
    if len(turns) != 1:
        raise Unusable("whose answer is not one message")
    if turns[0]["role"] != "assistant":
        raise RowError(f"the field {field!r} should be an answer of the assistant, not of the {turns[0]['role']}", field)
    return turns[0]["content"]


def _as_message(value: Any, field: str) -> Message:
    if not isinstance(value, dict):
        raise RowError(f"the field {field!r} should be a message with a role and a content, not {kind_of(value)}", field)
    role_key, content_key = ("from", "value") if "from" in value else ("role", "content")
    for key in (role_key, content_key):
        if key not in value:
            raise RowError(f"the message {field!r} has no {key!r}", field)
    role = ROLES.get(value[role_key]) if isinstance(value[role_key], str) else None
    if role is None:
        named = repr(value[role_key][:40]) if isinstance(value[role_key], str) else kind_of(value[role_key])
        raise RowError(f"the message {field!r} has the role {named}; known are user, assistant and system", field)
    return {"role": role, "content": _content(value[content_key], f"{field}.{content_key}")}


def _content(value: Any, field: str) -> str:
    """Return a message's text; a list of text parts (`[{"type": "text", "text": …}]`) is joined."""
    if not isinstance(value, list):
        return as_text(value, field)
    if not all(isinstance(part, dict) and part.get("type") == "text" for part in value):
        raise RowError(f"the field {field!r} holds more than text (an image or a tool call)", field)
    return "\n".join(as_text(part.get("text"), f"{field}.text") for part in value)
