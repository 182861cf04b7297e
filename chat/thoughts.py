"""What a model thought before it answered, parted from the answer. Does not know who shows it."""

from __future__ import annotations

import re

_THOUGHT = re.compile(r"\s*<think>(.*?)(?:</think>|\Z)\s*", re.DOTALL)


def parted(text: str) -> tuple[str, str]:
    """Return the leading part of a text that holds thoughts, marks included, and the rest; put together they are the text."""
    found = _THOUGHT.match(text)
    return (text[: found.end()], text[found.end() :]) if found else ("", text)


def words_of(thought: str) -> str:
    """Return the words of a leading part that `parted` gave."""
    found = _THOUGHT.match(thought)
    return found[1].strip() if found else ""
