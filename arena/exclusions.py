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
# First words of models' names that are no names: "Open-1B" is not called Open.
_COMMON = frozenset(
    ("base", "demo", "final", "instruct", "large", "medium", "merged", "mini", "small", "test", "tiny", "tuned")
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
    sides = [(each.model, bases.get(each.model)) for each in (answer, *known)]
    own = frozenset(name for side in sides for name in _names(*side))
    guessed = frozenset(name for side in sides for name in _guessed(*side))
    names = any(name.lower() in lowered for name in (*FAMILIES, *own)) or any(name in answer.text for name in guessed)
    if not names or not any(hint in lowered for hint in _HINTS):
        return False
    return _named(own, guessed).search(answer.text) is not None


@lru_cache(maxsize=256)
def _named(own: frozenset[str], guessed: frozenset[str]) -> re.Pattern[str]:
    """Return what finds somebody who calls itself by the name of a family, or one of the models' own.

    guessed: names that are found only as they are written.
    """
    known = _ends(frozenset(FAMILIES) | own)
    names = rf"(?i:{known})|{_ends(guessed)}" if guessed else rf"(?i:{known})"
    return re.compile(rf"(?i:{_SELF})(?<![A-Za-z0-9])(?:{names})")


def _ends(names: frozenset[str]) -> str:
    """Return the pattern of any of some names with its end."""
    ordered = sorted(names, key=lambda name: (-len(name), name))
    # "Qwen2.5" is Qwen, "philosophy" is not Phi, and "run-12" is not run-1.
    return "|".join(re.escape(name) + (r"(?![A-Za-z\d])" if name[-1].isdigit() else r"(?![A-Za-z])") for name in ordered)


def _names(model: str, base: str | None) -> list[str]:
    """Return what a speaker may call itself: "run-3", and the last part of its base's name."""
    short = _short(model, base)
    own = [short] if _is_name(short) else []
    return [model, model.replace("-", " "), *own] if model.startswith("run-") else own


def _guessed(model: str, base: str | None) -> list[str]:
    """Return the family that its base's name seems to begin with, if any."""
    family = _FAMILY.match(_short(model, base))
    return [family[0]] if family and _is_name(family[0]) else []


def _short(model: str, base: str | None) -> str:
    """Return the last part of the name of a model, or of a run's base; "" where that is not known."""
    whole = base or "" if model.startswith("run-") else model.removeprefix("base:")
    return PurePath(whole.partition("@")[0].replace("\\", "/")).name


def _is_name(word: str) -> bool:
    """Say whether a word can be a model's name: no common word, and none that may stand before one."""
    return len(word) > 3 and word.lower() not in _COMMON and not re.fullmatch(_BETWEEN, word, re.IGNORECASE)
