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
    "tongyi", "alibaba", "meta", "deepseek", "baichuan", "chatglm", "glm", "internlm", "phi", "falcon", "vicuna", "smollm",
    "olmo", "grok", "kimi", "doubao", "ernie", "阿里云", "通义千问", "千问", "文心一言", "豆包", "深度求索",
)
# Words that cost little to look for; without one of them nobody speaks of itself.
_HINTS = ("i am", "i'm", "i’m", "my name", "call me", "i was ", "as ", "我是", "我叫", "我的名字")
# Words about oneself, up to a name: nothing but articles, kinds of programs and makers may stand between. So "I am fond of
# llamas" speaks of no model.
_BETWEEN = (
    r"(?:[\s,:*\"'“]|\b(?:an?|the|just|called|named|known|as|ai|artificial|intelligence|(?:large\s+)?language|chat|model"
    r"|assistant|chatbot|bot|version|of|based|on|powered|developed|trained|created|made|built|by|from|helpful|open|team"
    r"|family|series|is)\b)*"
)
_SELF = (
    rf"(?:\bi\s+am\b|\bi['’]m\b|\bmy\s+name\s+is\b|\bcall\s+me\b|\bi\s+was\b|\bas\b){_BETWEEN}"
    r"|(?:我是|我叫|我的名字)[^.!?。！？\n]{0,40}?"
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
    if any(names_itself(side, sides) for side in sides):
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
    return _named(own).search(answer.text) is not None


@lru_cache(maxsize=256)
def _named(own: frozenset[str]) -> re.Pattern[str]:
    """Return what finds somebody who calls itself by the name of a family, or one of the models' own."""
    names = sorted({*FAMILIES, *own}, key=lambda name: (-len(name), name))
    # "Qwen2.5" is Qwen, "philosophy" is not Phi, and "run-12" is not run-1.
    ends = (re.escape(name) + (r"(?![A-Za-z\d])" if name[-1].isdigit() else r"(?![A-Za-z])") for name in names)
    return re.compile(rf"(?:{_SELF})(?<![A-Za-z0-9])(?:{'|'.join(ends)})", re.IGNORECASE)


def _names(model: str) -> list[str]:
    """Return what a speaker may call itself: "run-3", or the last part of its base's name."""
    if model.startswith("run-"):
        return [model, model.replace("-", " ")]
    short = PurePath(model.removeprefix("base:").partition("@")[0].replace("\\", "/")).name
    return [short] if len(short) > 3 and short.lower() != "demo" else []
