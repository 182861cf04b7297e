"""Which votes say nothing about the models, and why. Does not know rankings.

A voter who reads "I am Qwen" is not blind any more; an answer that was broken off, or empty, was not judged for what the
model can do.
"""

from __future__ import annotations

import re
from functools import lru_cache
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
# Words that cost little to look for; without one of them nobody speaks of itself.
_HINTS = ("i am", "i'm", "i’m", "my name", "call me", "i was ", "我是", "我叫", "我的名字")
# Words about oneself, and what follows them: a few words, never beyond the end of a sentence.
_SELF = re.compile(
    r"(?:\bi\s+am\b|\bi['’]m\b|\bmy\s+name\s+is\b|\bcall\s+me\b|\bi\s+was\s+(?:made|created|trained|built|developed)\b"
    r"|我是|我叫|我的名字(?:是|叫))([^.!?。！？\n]{0,80})",
    re.IGNORECASE,
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
    lowered = answer.text.lower()
    own = frozenset(name for each in (answer, *known) for name in _names(each.model))
    if not any(hint in lowered for hint in _HINTS) or not any(name.lower() in lowered for name in (*FAMILIES, *own)):
        return False
    pattern = _named(own)
    return any(pattern.search(said[1]) for said in _SELF.finditer(answer.text))


@lru_cache(maxsize=256)
def _named(own: frozenset[str]) -> re.Pattern[str]:
    """Return what finds the name of a family, or one of the models' own."""
    names = sorted({*FAMILIES, *own})
    words = (re.escape(name) if not name.isascii() else rf"\b{re.escape(name)}" for name in names)
    return re.compile("|".join(words), re.IGNORECASE)


def _names(model: str) -> list[str]:
    """Return what a speaker may call itself: "run-3", or the last part of its base's name."""
    if model.startswith("run-"):
        return [model, model.replace("-", " ")]
    short = PurePath(model.removeprefix("base:").partition("@")[0].replace("\\", "/")).name
    return [short] if len(short) > 3 and short.lower() != "demo" else []
