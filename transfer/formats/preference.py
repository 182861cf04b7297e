"""Rows that say which of two responses is better, or whether one is good: TRL, ShareGPT, HH-RLHF, votes of people.

Owns how a prompt is told from its responses where a row holds both. It does not know which rows are of which format.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from transfer.formats.messages import Message, RowError, Unusable, as_messages, as_prompt, as_response, as_text, kind_of
from transfer.formats.record import Answer, Opinion, Reading, Record

Row = dict[str, Any]

SPEAKER = re.compile(r"(?:^|\n\n)(Human|Assistant):[ ]?")
TURNS = ("messages", "conversations")
# The words of a vote: its verdict, and the index of the response it prefers.
VOTES = {"a": ("chosen", 0), "b": ("chosen", 1), "tie": ("tie", 0), "both_bad": ("both_bad", 0)}
# A table of text has only texts.
TRUE, FALSE = ("true", "1", "good", "yes"), ("false", "0", "bad", "no")
MAX_ANNOTATOR_CHARACTERS = 100
CUT = "with turns after the first answer that differs (only those turns)"


def judged(
    messages: list[Message], responses: Iterable[str], verdict: str | None, preferred: int = 0, annotator: str | None = None
) -> Record:
    """Return a record with what one person says of it, when somebody does. preferred: the index of the chosen one."""
    chosen = preferred if verdict == "chosen" else None
    opinions = (Opinion(verdict, annotator, chosen),) if verdict else ()
    return Record(messages, tuple(Answer(text) for text in responses), opinions)


def explicit_pair(row: Row) -> Record | Reading:
    """TRL preference: `prompt, chosen, rejected`, each a text or messages.

    As in TRL, a `prompt` in plain text beside whole conversations says nothing new: the shared turns are the prompt.
    """
    if isinstance(row["prompt"], str) and _are_conversations(row["chosen"], row["rejected"]):
        as_text(row["prompt"], "prompt")
        return implicit_pair(row)
    prompt = as_prompt(row["prompt"], "prompt")
    responses = (_after(prompt, row["chosen"], "chosen"), _after(prompt, row["rejected"], "rejected"))
    return judged(prompt, responses, "chosen")


def _after(prompt: list[Message], value: Any, field: str) -> str:
    """Return a response; messages that repeat the prompt first are accepted."""
    if isinstance(value, list):
        turns = as_messages(value, field)
        value = turns[len(prompt):] if len(turns) > len(prompt) and turns[: len(prompt)] == prompt else turns
    return as_response(value, field)


def _are_conversations(*values: Any) -> bool:
    return all(isinstance(value, list) and len(value) > 1 for value in values)


def implicit_pair(row: Row) -> Record | Reading:
    """TRL preference with an implicit prompt: what `chosen` and `rejected` begin with is the prompt."""
    if isinstance(row["chosen"], str) and isinstance(row["rejected"], str):
        return _split_texts(as_text(row["chosen"], "chosen"), as_text(row["rejected"], "rejected"))
    return _split_turns(as_messages(row["chosen"], "chosen"), as_messages(row["rejected"], "rejected"))


def transcript_pair(row: Row) -> Record | Reading:
    """HH-RLHF: two transcripts of "\\n\\nHuman: …\\n\\nAssistant: …" that share their first turns."""
    return _split_turns(
        _transcript(as_text(row["chosen"], "chosen")), _transcript(as_text(row["rejected"], "rejected"))
    )


def _transcript(text: str) -> list[Message]:
    parts = SPEAKER.split(text)
    return [
        {"role": "user" if speaker == "Human" else "assistant", "content": content.strip()}
        for speaker, content in zip(parts[1::2], parts[2::2])
    ]


def _split_turns(chosen: list[Message], rejected: list[Message]) -> Record | Reading:
    """Part two conversations where they begin to differ: what they share is the prompt.

    Where more turns follow the first answers that differ, as in HH-RLHF, those answers are the pair and the rest is cut.
    """
    shared = _shared_length(chosen, rejected)
    answers = chosen[shared:], rejected[shared:]
    if not answers[0] and not answers[1]:
        raise Unusable("whose two responses are the same")
    if not all(answer and answer[0]["role"] == "assistant" for answer in answers):
        raise Unusable("that do not differ in an answer")
    record = judged(chosen[:shared], (answers[0][0]["content"], answers[1][0]["content"]), "chosen")
    return Reading([record], [CUT]) if len(answers[0]) > 1 or len(answers[1]) > 1 else record


def _split_texts(chosen: str, rejected: str) -> Record:
    """Split two texts after their longest common prefix, a space at its end left out, as TRL's `extract_prompt`.

    Deviation: where one text is a prefix of the other, TRL moves the last shared character into the responses.
    """
    shared = _shared_length(chosen, rejected)
    if shared and shared < min(len(chosen), len(rejected)) and chosen[shared - 1] == " ":
        shared -= 1
    prompt = [{"role": "user", "content": chosen[:shared]}]
    responses = (as_response(chosen[shared:], "chosen"), as_response(rejected[shared:], "rejected"))
    return judged(prompt, responses, "chosen")


def _shared_length(first: Any, second: Any) -> int:
    limit = min(len(first), len(second))
    return next((index for index in range(limit) if first[index] != second[index]), limit)


def single(row: Row) -> Record:
    """TRL unpaired preference (`prompt, completion, label`), or prompt and completion without a label."""
    prompt = as_prompt(row["prompt"], "prompt")
    verdict = verdict_of(row["label"]) if "label" in row else None
    return judged(prompt, (_after(prompt, row["completion"], "completion"),), verdict)


def vote(row: Row) -> Record:
    """One annotator's vote on two responses; the other votes on them are rows of their own, in either order."""
    prompt = as_prompt(row["prompt"], "prompt")
    responses = tuple(_after(prompt, row[field], field) for field in ("response_a", "response_b"))
    label = row.get("label")
    if not isinstance(label, str) or label not in VOTES:
        said = repr(label[:40]) if isinstance(label, str) else kind_of(label)
        raise RowError(f"the field 'label' should be one of {', '.join(VOTES)}, not {said}", "label")
    verdict, preferred = VOTES[label]
    return judged(prompt, responses, verdict, preferred, annotator(row.get("annotator")))


def annotator(value: Any) -> str | None:
    """Return the name of a person as a row gives it; None where it gives none."""
    if value is None or value == "":
        return None
    name = as_text(value, "annotator").strip()
    if not 0 < len(name) <= MAX_ANNOTATOR_CHARACTERS or not name.isprintable():
        raise RowError(f"the field 'annotator' should have 1 to {MAX_ANNOTATOR_CHARACTERS} printable characters", "annotator")
    return name


def prompt_only(row: Row) -> Record:
    """A prompt to be answered."""
    return Record(as_prompt(row["prompt"], "prompt"))


def conversation_pair(row: Row) -> Record:
    """ShareGPT with `chosen` and `rejected`: the turns are the prompt."""
    responses = (as_response(row["chosen"], "chosen"), as_response(row["rejected"], "rejected"))
    return judged(_turns(row), responses, "chosen")


def conversation(row: Row) -> Record:
    """Turns that end with an answer, judged by a boolean `label` or not at all; or turns that end with a question."""
    turns = _turns(row)
    if "label" not in row and turns and turns[-1]["role"] == "user":
        return Record(turns)
    if not turns or turns[-1]["role"] != "assistant":
        raise Unusable("whose turns do not end with an answer")
    return judged(turns[:-1], (turns[-1]["content"],), verdict_of(row["label"]) if "label" in row else None)


def _turns(row: Row) -> list[Message]:
    field = next(field for field in TURNS if field in row)
    turns = as_messages(row[field], field)
    if row.get("system"):  # LLaMA-Factory keeps the system message in a column of its own
        turns.insert(0, {"role": "system", "content": as_text(row["system"], "system")})
    return turns


def verdict_of(label: Any, field: str = "label") -> str:
    """Return "good" or "bad" for true or false, also as 1 or 0 or in words, as tables have them."""
    said = str(label).strip().lower() if isinstance(label, (str, bool, int, float)) else None
    said = said.removesuffix(".0") if said else said
    if said in TRUE or said in FALSE:
        return "good" if said in TRUE else "bad"
    raise RowError(f"the field {field!r} should be true or false, not {kind_of(label)}", field)
