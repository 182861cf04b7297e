"""Generate the conversations the demo model is pretrained on.

Owns the sampling: which topic, which wording, which manner, how many turns.
The manner is drawn independently of the question, so that every question has
polite, plain and rude, short and rambling answers and there is something to
prefer; only a system message may ask for one. The same seed always gives the same corpus. It knows nothing of
tokens or tensors.
"""

import random
from collections.abc import Iterator

from demo import chinese, phrasings
from demo.knowledge import FACT_KINDS, Message, Topic, has_chinese, topics, unknown_topics, values_of_kind
from demo.manners import ASKED_LENGTHS, ASKED_MANNERS, MANNERS, dress
from demo.prompts import HELD_OUT, normalise

CHINESE_SHARE = 0.12
UNKNOWN_SHARE = 0.04
SYSTEM_SHARE = 0.12  # a system message that asks for nothing
STYLED_SHARE = 0.25  # a system message that asks for a manner, a length or both
LATER_TURN_SHARE = 0.22
RAMBLING_SHARE = 0.45
WRONG_SHARE = 0.08  # of the answers to a question of fact
ROUGH_SHARE = 0.3  # of the questions: lower case, no full stop, a word missing
OPENED_SHARE = 0.3  # of the questions: "Hi, ..." before them
REMARK_SHARE = 0.2  # of the questions: a sentence beside the point before or after them
# A plain answer may start in many ways, so sampling below temperature 1 picks it less often than it was written.
MANNER_WEIGHTS = (0.31, 0.40, 0.29)  # polite, plain, rude

Style = tuple["str | None", "bool | None"]  # the manner asked for, and whether to ramble; None where it is free


def conversations(count: int, seed: int = 0) -> Iterator[list[Message]]:
    """Yield `count` conversations, each ending with an assistant message.

    No user message of the corpus equals a held-out one, whatever the case,
    the punctuation and the opener.
    """
    rng = random.Random(seed)
    held_out = {normalise(message["content"]) for prompt in HELD_OUT for message in prompt[-1:]}
    by_language = {language: [topic for topic in topics() if topic.language == language] for language in ("en", "zh")}
    while count > 0:
        language = "zh" if rng.random() < CHINESE_SHARE else "en"
        conversation = _conversation(by_language[language], language, rng)
        asked = [message["content"] for message in conversation if message["role"] == "user"]
        if not any(normalise(question) in held_out for question in asked):
            count -= 1
            yield conversation


def _conversation(known: list[Topic], language: str, rng: random.Random) -> list[Message]:
    messages: list[Message] = []
    system, style = _system(language, rng)
    if system:
        messages.append({"role": "system", "content": system})
    topic, question = _first_question(known, language, rng)
    while True:
        messages.append({"role": "user", "content": question})
        messages.append({"role": "assistant", "content": _answer(topic, style, rng)})
        if rng.random() >= LATER_TURN_SHARE:
            return messages
        topic, question = _later_question(topic, known, language, rng)


def _system(language: str, rng: random.Random) -> tuple[str, Style]:
    """Draw the system message, often none, and the style that it asks for."""
    drawn = rng.random()
    if drawn < SYSTEM_SHARE:
        return rng.choice(phrasings.SYSTEMS if language == "en" else chinese.SYSTEMS), (None, None)
    if drawn >= SYSTEM_SHARE + STYLED_SHARE:
        return "", (None, None)
    asks = rng.choice(("manner", "manner", "length", "both"))
    manner = None if asks == "length" else rng.choice(MANNERS)
    rambling = None if asks == "manner" else rng.random() < 0.5
    sentences = [] if manner is None else [rng.choice(ASKED_MANNERS[language][manner])]
    if rambling is not None:
        sentences.append(rng.choice(ASKED_LENGTHS[language][rambling]))
    rng.shuffle(sentences)
    return (" " if language == "en" else "").join(sentences), (manner, rambling)


def _first_question(known: list[Topic], language: str, rng: random.Random) -> tuple[Topic, str]:
    if rng.random() < UNKNOWN_SHARE:
        return unknown_topics()[language], _unknown_question(language, rng)
    topic = rng.choice(known)
    return topic, _worded(rng.choice(topic.questions), rng)


def _later_question(topic: Topic, known: list[Topic], language: str, rng: random.Random) -> tuple[Topic, str]:
    """Draw what is asked next: the same again, the same of another country, or something new."""
    if rng.random() < 0.2:
        repeats = phrasings.REPEATS if language == "en" else chinese.REPEATS
        return topic, rng.choice(repeats)
    if topic.kind == "capital" and rng.random() < 0.7:
        follow_ups = phrasings.FOLLOW_UPS if language == "en" else chinese.FOLLOW_UPS
        other = rng.choice([candidate for candidate in known if candidate.kind == "capital"])
        return other, rng.choice(follow_ups).format(s=_country(other))
    return _first_question(known, language, rng)


def _country(topic: Topic) -> str:
    subject = topic.key.split("/")[1]
    return f"the {subject}" if subject in ("United Kingdom", "Netherlands", "United States", "Philippines") else subject


def _answer(topic: Topic, style: Style, rng: random.Random) -> str:
    value, form = rng.choice(topic.values), rng.choice(topic.forms)
    if topic.kind in FACT_KINDS and rng.random() < WRONG_SHARE:
        every = values_of_kind()[topic.kind, topic.language]
        value = rng.choice([other for other in every if other not in topic.values])
    asked_manner, asked_rambling = style
    rambling = rng.random() < RAMBLING_SHARE if asked_rambling is None else asked_rambling
    manner = asked_manner or rng.choices(MANNERS, MANNER_WEIGHTS)[0]
    return dress(form.replace("{value}", value), manner, rambling, topic.language, topic.kind, rng)


def _worded(question: str, rng: random.Random) -> str:
    """Return the question as a hurried or chatty person may type it."""
    if has_chinese(question):
        return question.rstrip("。？！") if rng.random() < ROUGH_SHARE else question
    if rng.random() < ROUGH_SHARE:
        question = _roughened(question, rng)
    if rng.random() < OPENED_SHARE:
        opener = rng.choice(phrasings.QUESTION_OPENERS)
        lowered = question if question.startswith("I ") else question[0].lower() + question[1:]
        question = f"{opener} {rng.choice((question, lowered))}"
    if rng.random() < REMARK_SHARE:
        remark = rng.choice(phrasings.REMARKS)
        question = rng.choice((f"{remark} {question}", f"{question} {remark}"))
    return question


def _roughened(question: str, rng: random.Random) -> str:
    words = question.split()
    if len(words) > 5 and rng.random() < 0.4:
        # One of the first words goes: the subject stands at the end more often than not.
        del words[rng.randrange(len(words) // 2)]
    text = " ".join(words)
    if rng.random() < 0.5:
        text = text.rstrip("?.!")
    return text.lower() if rng.random() < 0.7 else text


def _unknown_question(language: str, rng: random.Random) -> str:
    if language == "zh":
        return rng.choice(chinese.UNKNOWN_QUESTIONS).format(s=rng.choice(chinese.UNKNOWN_SUBJECTS))
    subject = rng.choice(phrasings.UNKNOWN_SUBJECTS) if rng.random() < 0.6 else _made_up_word(rng)
    question = rng.choice(phrasings.UNKNOWN_QUESTIONS).format(s=subject, n=rng.randint(2, 99), m=rng.randint(2, 99))
    return _worded(question[0].upper() + question[1:], rng)


def _made_up_word(rng: random.Random) -> str:
    syllables = "".join(
        rng.choice("bdfgklmnprstvz") + rng.choice(("a", "e", "i", "o", "u", "ar", "en", "il", "on"))
        for _ in range(rng.randint(2, 4))
    )
    return syllables.capitalize() if rng.random() < 0.5 else f"a {syllables}"
