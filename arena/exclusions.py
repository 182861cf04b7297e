"""Which votes say nothing about the models, and why. Does not know rankings.

A voter who reads "I am Qwen" is not blind any more; an answer that was broken off, or empty, was not judged for what the
model can do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import PurePath
from types import MappingProxyType

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
UNKNOWN: Mapping[str, str] = MappingProxyType({})
# What a model's family is called: "SmolLM2-135M-Instruct" is SmolLM. Capitals tell a name from a word like "tiny".
_FAMILY = re.compile(r"[A-Z][A-Za-z]{3,}(?=[-_.]?\d)")
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


def reason(comparison: Comparison, bases: Mapping[str, str] = UNKNOWN) -> str | None:
    """Return why a vote is left out of a ranking, None when it counts. bases: of runs, the models they were trained from."""
    sides = (comparison.first, comparison.second)
    if sides[0].model == sides[1].model:
        return SAME_MODEL
    if any(not side.text.strip() for side in sides):
        return EMPTY
    if any(side.finish_reason not in (None, "stop") for side in sides):
        return UNFINISHED
    if any(names_itself(side, sides, bases) for side in sides):
        return NAMES_ITSELF
    return None


def names_itself(answer: Compared, known: tuple[Compared, ...] = (), bases: Mapping[str, str] = UNKNOWN) -> bool:
    """Say whether an answer tells, rightly or wrongly, which model wrote it.

    known: the answers whose models' own names count, besides those of well-known families. bases: as in `reason`; a run
    goes by its base's name too.
    """
    lowered = answer.text.lower()
    own = frozenset(name for each in (answer, *known) for name in _names(each.model, bases.get(each.model)))
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


def _names(model: str, base: str | None) -> list[str]:
    """Return what a speaker may call itself: "run-3"; the last part of its base's name, and the family in it."""
    if model.startswith("run-"):
        return [model, model.replace("-", " "), *(_base_names(base) if base else ())]
    return _base_names(model.removeprefix("base:"))


def _base_names(base: str) -> list[str]:
    short = PurePath(base.partition("@")[0].replace("\\", "/")).name
    family = _FAMILY.match(short)
    names = [short, *([family[0]] if family else [])]
    return [name for name in names if len(name) > 3 and name.lower() != "demo"]
