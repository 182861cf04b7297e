"""Which votes say nothing about the models, and why. Does not know rankings.

A voter who reads "I am Qwen" is not blind any more; an answer that was broken off, or empty, was not judged for what the
model can do.
"""

from __future__ import annotations

import re
from pathlib import PurePath

from storage.comparisons import Compared, Comparison

SAME_MODEL = "the same model on both sides"
EMPTY = "an empty answer"
UNFINISHED = "an unfinished answer"
NAMES_ITSELF = "an answer that names its model"
FAMILIES = (
    "chatgpt", "gpt", "openai", "claude", "anthropic", "gemini", "gemma", "bard", "llama", "mistral", "mixtral", "qwen",
    "tongyi", "alibaba", "deepseek", "baichuan", "chatglm", "glm", "internlm", "phi", "falcon", "vicuna", "smollm",
    "olmo", "grok", "kimi", "doubao", "ernie", "通义千问", "千问", "文心一言", "豆包", "深度求索",
)
# What comes between the words about oneself and the name: a few words, never the end of a sentence.
_SELF = (
    r"(?:\bi\s+am\b|\bi['’]m\b|\bmy\s+name\s+is\b|\bcall\s+me\b|\bi\s+was\s+(?:made|created|trained|built|developed)\b"
    r"|我是|我叫|我的名字(?:是|叫))[^.!?。！？\n]{0,60}?"
)


def reason(comparison: Comparison) -> str | None:
    """Return why a vote is left out of a ranking, None when it counts."""
    sides = (comparison.first, comparison.second)
    if sides[0].model == sides[1].model:
        return SAME_MODEL
    if any(not side.text.strip() for side in sides):
        return EMPTY
    if any(side.finish_reason not in (None, "stop") for side in sides):
        return UNFINISHED
    if any(names_itself(side, others) for side, others in zip(sides, (sides, sides))):
        return NAMES_ITSELF
    return None


def names_itself(answer: Compared, known: tuple[Compared, ...] = ()) -> bool:
    """Say whether an answer tells, rightly or wrongly, which model wrote it.

    known: the answers whose models' own names count, besides those of well-known families.
    """
    names = {*FAMILIES, *(name for each in (answer, *known) for name in _names(each.model))}
    words = "|".join(re.escape(name) if not name.isascii() else rf"\b{re.escape(name)}" for name in sorted(names))
    return re.search(f"{_SELF}(?:{words})", answer.text, re.IGNORECASE) is not None


def _names(model: str) -> list[str]:
    """Return what a speaker may call itself: "run-3", or the last part of its base's name."""
    if model.startswith("run-"):
        return [model, model.replace("-", " ")]
    short = PurePath(model.removeprefix("base:").partition("@")[0].replace("\\", "/")).name
    return [short] if len(short) > 3 and short.lower() != "demo" else []
