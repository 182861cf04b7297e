"""Everything the demo model is taught: topics, how people ask about them, what is right.

Owns the list of topics and the search for the topic a conversation is about.
It does not know about manners (`demo.manners`) or about sampling a corpus
(`demo.corpus`).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from demo import advice, chinese, facts, phrasings

Message = dict[str, str]
FACT_KINDS = ("capital", "food", "young", "colour", "opposite", "count", "definition")
UNKNOWN_KEY = "unknown"


@dataclass(frozen=True)
class Topic:
    """One thing the model can be asked about."""

    key: str  # kind/subject, unique
    kind: str
    language: str  # "en" or "zh"
    questions: tuple[str, ...]  # phrasings of the corpus; held-out ones differ
    forms: tuple[str, ...]  # sentences around "{value}"
    values: tuple[str, ...]  # every right value
    cues: tuple[tuple[str, ...], ...]  # a question is about this when all words of one group occur

    def contents(self, values: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """Return every form filled with each of `values` (the right ones by default)."""
        return tuple(form.replace("{value}", value) for form in self.forms for value in values or self.values)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _bare(subject: str) -> str:
    """Return the subject without its article."""
    return re.sub(r"^(a|an|the) ", "", subject)


def _ask(kind: str, **slots: str) -> tuple[str, ...]:
    return tuple(_capital(template.format(**slots)) for template in phrasings.PHRASINGS[kind])


def _cues(subjects: tuple[str, ...], kind: str) -> tuple[tuple[str, ...], ...]:
    return tuple((*_bare(subject).lower().split(), *cue) for subject in subjects for cue in phrasings.CUES[kind])


def _groups(cues: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(group.split()) for group in cues.split("|"))


def _english_facts() -> Iterator[Topic]:
    def topic(kind: str, subject: str, value: str, subjects: tuple[str, ...], forms: tuple[str, ...], **slots: str) -> Topic:
        questions = tuple(q for s in subjects for q in _ask(kind, **{**slots, "s": s, "bare": _bare(s)}))
        return Topic(f"{kind}/{_bare(subject)}", kind, "en", questions, forms, (value,), _cues(subjects, kind))

    for country, city, others in facts.CAPITALS:
        forms = (f"The capital of {country} is {{value}}.", f"{{value}} is the capital of {country}.", "It is {value}.")
        yield topic("capital", country, city, (country, *others), forms)
    for animal, animals, food, young in facts.ANIMALS:
        forms = (f"{_capital(animals)} eat {{value}}.", "They eat {value}.")
        yield topic("food", animal, food, (animal, animals), forms, many=animals)
        forms = (f"{_capital(young_of(animal))} is called {{value}}.", "It is called {value}.")
        yield topic("young", animal, young, (animal, animals), forms, many=animals)
    for thing, colour in facts.COLOURS:
        yield topic("colour", thing, colour, (thing,), (f"{_capital(thing)} is {{value}}.", "It is {value}."))
    for word, opposite in facts.OPPOSITES:
        yield topic("opposite", word, opposite, (word,), (f"The opposite of {word} is {{value}}.", "It is {value}."))
    for things, where, number in facts.COUNTS:
        forms = (f"There are {{value}} {things} {where}.", "There are {value}.")
        subject = f"{things} {_bare(where.split(' ', 1)[1])}"
        yield topic("count", subject, number, (subject,), forms, things=things, where=where)
    for thing, meaning in facts.DEFINITIONS:
        yield topic("definition", thing, meaning, (thing,), (f"{_capital(thing)} is {{value}}.", "It is {value}."))


def young_of(animal: str) -> str:
    """Return "a baby cat" for "a cat"."""
    return f"a baby {_bare(animal)}"


def _english_advice() -> Iterator[Topic]:
    for what, doing, cue, steps in advice.HOW_TOS:
        values = _steps(steps.split("|"), " ", "Like this:\n")
        yield Topic(f"how/{what}", "how", "en", _ask("how", what=what, doing=doing), ("{value}",), values, _groups(cue))
    for what, cue, ideas in advice.IDEAS:
        first, second, third = ideas.split("|")
        values = (f"You could try {first}, {second} or {third}.", f"Some ideas:\n- {first}\n- {second}\n- {third}")
        yield Topic(f"idea/{_bare(what)}", "idea", "en", _ask("idea", s=what), ("{value}",), values, (tuple(cue.split()),))
    for kind, table in (("feeling", advice.FEELINGS), ("talk", advice.SMALL_TALK)):
        for name, cues, questions, answers in table:
            if kind == "feeling":
                questions = tuple(f"{said}{plea}" for said in questions for plea in phrasings.PLEAS)
            yield Topic(f"{kind}/{name}", kind, "en", questions, ("{value}",), answers, _groups(cues))


def _steps(steps: list[str], gap: str, heading: str) -> tuple[str, ...]:
    prose = gap.join(steps)
    bullets = heading + "\n".join(f"- {step}" for step in steps)
    return prose, bullets


def _chinese() -> Iterator[Topic]:
    tables: dict[str, tuple[tuple[str, str], ...]] = {
        "capital": chinese.CAPITALS, "food": chinese.YOUNG_AND_FOOD,
        "colour": chinese.COLOURS, "opposite": chinese.OPPOSITES,
    }

    def ask(kind: str, subject: str) -> tuple[str, ...]:
        return tuple(template.format(s=subject) for template in chinese.PHRASINGS[kind])

    for kind, table in tables.items():
        for subject, value in table:
            forms = tuple(form.replace("{s}", subject) for form in chinese.FORMS[kind])
            cues = tuple((subject, cue) for cue in chinese.CUES[kind])
            yield Topic(f"{kind}/{subject}", kind, "zh", ask(kind, subject), forms, (value,), cues)
    for what, cue, steps in chinese.HOW_TOS:
        values = _steps(steps.split("|"), "", chinese.STEPS_HEADING)
        yield Topic(f"how/{what}", "how", "zh", ask("how", what), ("{value}",), values, ((cue,),))
    for what, ideas in chinese.IDEAS:
        values = tuple(form.format(*ideas.split("|")) for form in chinese.IDEA_FORMS)
        yield Topic(f"idea/{what}", "idea", "zh", ask("idea", what), ("{value}",), values, ((what,),))
    for name, cues, questions, answers in chinese.TALK:
        yield Topic(f"talk/{name}", "talk", "zh", questions, ("{value}",), answers, _groups(cues))


@lru_cache(maxsize=1)
def topics() -> tuple[Topic, ...]:
    """Return every topic the model is taught, in a fixed order."""
    return (*_english_facts(), *_english_advice(), *_chinese())


@lru_cache(maxsize=1)
def unknown_topics() -> dict[str, Topic]:
    """Return, for each language, the topic that stands for everything else."""
    return {
        language: Topic(f"{UNKNOWN_KEY}/{language}", UNKNOWN_KEY, language, (), ("{value}",), values, ())
        for language, values in (("en", phrasings.UNKNOWN_ANSWERS), ("zh", chinese.UNKNOWN))
    }


@lru_cache(maxsize=1)
def values_of_kind() -> dict[tuple[str, str], tuple[str, ...]]:
    """Return, for each (kind, language), all values: right for one topic, wrong for the others."""
    values: dict[tuple[str, str], list[str]] = {}
    for topic in topics():
        known = values.setdefault((topic.kind, topic.language), [])
        known.extend(value for value in topic.values if value not in known)
    return {key: tuple(known) for key, known in values.items()}


def has_chinese(text: str) -> bool:
    """Say whether the text holds a Chinese character."""
    return any("一" <= character <= "鿿" for character in text)


@lru_cache(maxsize=1)
def _cue_groups() -> tuple[tuple[Topic, frozenset[str]], ...]:
    """Return every group of cue words with its topic, the most telling first."""
    rows = [(topic, frozenset(group)) for topic in topics() for group in topic.cues]
    # Small talk ("hi", "thanks") often opens a real question, so anything else goes first.
    return tuple(sorted(rows, key=lambda row: (row[0].kind == "talk", -sum(map(len, row[1])))))


def _names(question: str, group: frozenset[str], words: set[str], language: str) -> bool:
    # Chinese has no spaces: a cue may stand anywhere. An English cue is a whole word.
    return all(cue in question for cue in group) if language == "zh" else group <= words


def topic_of(messages: list[Message]) -> Topic:
    """Return the topic of the last user message that names one.

    A follow-up such as "Could you repeat that?" names nothing, so earlier user
    messages are searched too, the latest first. Where none names a topic, the
    unknown topic of the last message's language is returned.
    """
    asked = [message["content"] for message in messages if message["role"] == "user"]
    for question in reversed(asked):
        words = set(re.findall(r"[a-z]+", question.lower()))
        for topic, group in _cue_groups():
            if _names(question, group, words, topic.language):
                return topic
    return unknown_topics()["zh" if asked and has_chinese(asked[-1]) else "en"]
