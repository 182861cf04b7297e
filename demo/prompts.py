"""The prompts that come with the demo model.

Owns three sets: `STARTERS` for the example project, `SUGGESTIONS` for the
chat page, and `HELD_OUT` for measuring. They share no wording with each
other. It knows nothing of answers.
"""

import re

from demo import held_out, starters

Message = dict[str, str]
Prompt = list[Message]
SYSTEM_PATTERN = re.compile(r"\[(?P<system>[^\]]*)\] \| ")


def parse_prompt(line: str) -> Prompt:
    """Return the messages of a line "[system] | question | answer | question".

    The system part and the earlier turns may be missing. The result ends with
    a user message.
    """
    messages: Prompt = []
    system = SYSTEM_PATTERN.match(line)
    if system:
        messages.append({"role": "system", "content": system["system"]})
        line = line[system.end():]
    for index, text in enumerate(line.split(" | ")):
        messages.append({"role": "assistant" if index % 2 else "user", "content": text})
    return messages


def normalise(question: str) -> str:
    """Return the question in lower case without punctuation, for telling wordings apart."""
    return " ".join(re.sub(r"[^\w\s]", " ", question.lower()).split())


STARTERS: tuple[Prompt, ...] = tuple(parse_prompt(line) for line in starters.LINES)
SUGGESTIONS: tuple[str, ...] = starters.SUGGESTIONS
HELD_OUT: tuple[Prompt, ...] = tuple(parse_prompt(line) for _, line in held_out.ROWS)
HELD_OUT_TOPICS: tuple[str, ...] = tuple(key for key, _ in held_out.ROWS)
