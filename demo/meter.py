"""Measure an answer of the demo model strictly: form, truth, manner, length.

Owns the only judgement of answers: what remains of an answer without its
phrases of manner and rambling must be, letter for letter, a known content.
It does not know which model wrote the answer.
"""

from dataclasses import dataclass
from functools import lru_cache

from demo.knowledge import FACT_KINDS, Message, topic_of, topics, unknown_topics, values_of_kind
from demo.manners import PHRASES


@dataclass(frozen=True)
class Measure:
    """What the meter finds in one answer."""

    well_formed: bool  # phrases of one manner, in their places, around one known content
    right: bool  # well formed, and the content answers this question truly
    manner: str | None  # "polite", "plain", "rude"; None where phrases of two manners mix
    concise: bool  # well formed, and nothing rambles
    content: str  # what remains without the phrases


def measure(prompt: list[Message], answer: str) -> Measure:
    """Return the measure of `answer`, given to `prompt` (messages that end with the user's)."""
    content, manners, rambling = _undressed(answer)
    well_formed = content in _known_contents() and len(manners) <= 1
    manner = None if len(manners) > 1 else next(iter(manners), "plain")
    right = well_formed and content in topic_of(prompt).contents()
    return Measure(well_formed, right, manner, well_formed and not rambling, content)


def manner_of(answer: str) -> str | None:
    """Return "polite", "plain" or "rude", or None where phrases of two manners mix."""
    manners = _undressed(answer)[1]
    return None if len(manners) > 1 else next(iter(manners), "plain")


def _undressed(answer: str) -> tuple[str, set[str], bool]:
    """Return the bare content of `answer`, the manners of its phrases, and whether it rambles.

    Phrases count only in their order: opener, lead, content, tail, closer.
    """
    manners: set[str] = set()
    rambling = False
    text = answer
    for phrases in PHRASES.values():
        for manner in phrases.openers:
            text, found = _without_start(text, phrases.openers[manner], phrases.gap)
            manners |= {manner} if found else set()
        text, led = _without_start(text, phrases.leads, phrases.gap)
        for manner in phrases.closers:
            text, found = _without_end(text, phrases.closers[manner], phrases.gap)
            manners |= {manner} if found else set()
        text, tailed = _without_end(text, phrases.tails, phrases.gap)
        rambling = rambling or led or tailed
    return text, manners, rambling


def _without_start(text: str, starts: tuple[str, ...], gap: str) -> tuple[str, bool]:
    for start in starts:
        if text.startswith(start + gap):
            return text[len(start + gap):], True
    return text, False


def _without_end(text: str, ends: tuple[str, ...], gap: str) -> tuple[str, bool]:
    for end in ends:
        for before in ("\n", gap):
            if text.endswith(before + end):
                return text[: -len(before + end)], True
    return text, False


@lru_cache(maxsize=1)
def _known_contents() -> frozenset[str]:
    """Return every content the corpus can hold, wrong facts included."""
    contents: set[str] = set()
    for topic in (*topics(), *unknown_topics().values()):
        wrong = values_of_kind()[topic.kind, topic.language] if topic.kind in FACT_KINDS else None
        contents.update(topic.contents(wrong))
    return frozenset(contents)
