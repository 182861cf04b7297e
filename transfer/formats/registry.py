"""The shapes of preference data that others write, each read into one neutral `Record`.

Owns which fields make which format, and how a row of it becomes a prompt with responses. Pure: it does not know
files, nor what is stored. To add a format, write its `read` function and add a line to `FORMATS`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from transfer.formats.messages import Message, RowError, Unusable, as_messages, as_prompt, as_response, as_text, kind_of

Row = dict[str, Any]

SPEAKER = re.compile(r"(?:^|\n\n)(Human|Assistant):[ ]?")
TURNS = ("messages", "conversations")
# The words of a vote: its verdict, and the index of the response it prefers.
VOTES = {"a": ("chosen", 0), "b": ("chosen", 1), "tie": ("tie", 0), "both_bad": ("both_bad", 0)}
MAX_ANNOTATOR_CHARACTERS = 100


@dataclass(frozen=True)
class Record:
    """One row, whatever its shape was.

    messages: the prompt, ending with the user. responses: none, one, or two different ones.
    verdict: "chosen" (one response is preferred to the other), "tie", "both_bad", "good", "bad", or None when the
    file does not say. preferred: index of the chosen response. annotator: who says it, None when the file does not say.
    """

    messages: list[Message]
    responses: tuple[str, ...] = ()
    verdict: str | None = None
    preferred: int = 0
    annotator: str | None = None


@dataclass(frozen=True)
class Format:
    """A shape of rows. fits: whether a row has its fields; read: the row as a Record (RowError, Unusable)."""

    name: str
    description: str
    fits: Callable[[Row], bool]
    read: Callable[[Row], Record]


def detect(rows: Iterable[Any]) -> Format | None:
    """Return the format that most of the rows have, or None when none of them is known."""
    votes = Counter(known.name for row in rows if (known := format_of(row)))
    if not votes:
        return None
    winner = votes.most_common(1)[0][0]
    return next(known for known in FORMATS if known.name == winner)


def format_of(row: Any) -> Format | None:
    """Return the first format whose fields a row has, or None."""
    if not isinstance(row, dict):
        return None
    return next((known for known in FORMATS if known.fits(row)), None)


def read_row(known: Format, row: Any) -> Record:
    """Read one row of a known format.

    Raises RowError when the row is broken (a field is missing, of the wrong type, or no clean text) and Unusable
    when it is in good form but has nothing to compare or to answer.
    """
    if not isinstance(row, dict):
        raise RowError(f"a row should be an object with named fields, not {kind_of(row)}")
    if not known.fits(row):
        fields = ", ".join(repr(name[:40]) for name in list(row)[:8]) or "none"
        raise RowError(f"it does not have the fields of the file's other rows ({known.description}); it has: {fields}")
    record = known.read(row)
    if not record.messages or not record.messages[-1]["content"].strip():
        raise Unusable("with an empty prompt")
    if record.messages[-1]["role"] != "user":
        raise Unusable("whose prompt does not end with the user")
    if not all(response.strip() for response in record.responses):
        raise Unusable("with an empty response")
    if len({response.strip() for response in record.responses}) < len(record.responses):
        raise Unusable("whose two responses are the same")
    return record


def _explicit_pair(row: Row) -> Record:
    """TRL preference: `prompt, chosen, rejected`, each a text or messages.

    As in TRL, a `prompt` in plain text beside whole conversations says nothing new: the shared turns are the prompt.
    """
    if isinstance(row["prompt"], str) and _are_conversations(row["chosen"], row["rejected"]):
        as_text(row["prompt"], "prompt")
        return _implicit_pair(row)
    prompt = as_prompt(row["prompt"], "prompt")
    responses = (_after(prompt, row["chosen"], "chosen"), _after(prompt, row["rejected"], "rejected"))
    return Record(prompt, responses, "chosen")


def _after(prompt: list[Message], value: Any, field: str) -> str:
    """Return a response; messages that repeat the prompt first are accepted."""
    if isinstance(value, list):
        turns = as_messages(value, field)
        value = turns[len(prompt):] if len(turns) > len(prompt) and turns[: len(prompt)] == prompt else turns
    return as_response(value, field)


def _are_conversations(*values: Any) -> bool:
    return all(isinstance(value, list) and len(value) > 1 for value in values)


def _implicit_pair(row: Row) -> Record:
    """TRL preference with an implicit prompt: what `chosen` and `rejected` begin with is the prompt."""
    if isinstance(row["chosen"], str) and isinstance(row["rejected"], str):
        return _split_texts(as_text(row["chosen"], "chosen"), as_text(row["rejected"], "rejected"))
    return _split_turns(as_messages(row["chosen"], "chosen"), as_messages(row["rejected"], "rejected"))


def _transcript_pair(row: Row) -> Record:
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


def _split_turns(chosen: list[Message], rejected: list[Message]) -> Record:
    shared = _shared_length(chosen, rejected)
    answers = chosen[shared:], rejected[shared:]
    if not answers[0] and not answers[1]:
        raise Unusable("whose two responses are the same")
    if any([message["role"] for message in answer] != ["assistant"] for answer in answers):
        raise Unusable("that differ in more than the last answer")
    return Record(chosen[:shared], (answers[0][0]["content"], answers[1][0]["content"]), "chosen")


def _split_texts(chosen: str, rejected: str) -> Record:
    """Split two texts after their longest common prefix, a space at its end left out, as TRL's `extract_prompt`.

    Deviation: where one text is a prefix of the other, TRL moves the last shared character into the responses.
    """
    shared = _shared_length(chosen, rejected)
    if shared and shared < min(len(chosen), len(rejected)) and chosen[shared - 1] == " ":
        shared -= 1
    prompt = [{"role": "user", "content": chosen[:shared]}]
    responses = (as_response(chosen[shared:], "chosen"), as_response(rejected[shared:], "rejected"))
    return Record(prompt, responses, "chosen")


def _shared_length(first: Any, second: Any) -> int:
    limit = min(len(first), len(second))
    return next((index for index in range(limit) if first[index] != second[index]), limit)


def _single(row: Row) -> Record:
    """TRL unpaired preference (`prompt, completion, label`), or prompt and completion without a label."""
    prompt = as_prompt(row["prompt"], "prompt")
    verdict = _verdict(row["label"]) if "label" in row else None
    return Record(prompt, (_after(prompt, row["completion"], "completion"),), verdict)


def _vote(row: Row) -> Record:
    """One annotator's vote on two responses; the other votes on them are rows of their own, in either order."""
    prompt = as_prompt(row["prompt"], "prompt")
    responses = tuple(_after(prompt, row[field], field) for field in ("response_a", "response_b"))
    label = row.get("label")
    if not isinstance(label, str) or label not in VOTES:
        said = repr(label[:40]) if isinstance(label, str) else kind_of(label)
        raise RowError(f"the field 'label' should be one of {', '.join(VOTES)}, not {said}")
    verdict, preferred = VOTES[label]
    return Record(prompt, responses, verdict, preferred, _annotator(row.get("annotator")))


def _annotator(value: Any) -> str | None:
    if value is None:
        return None
    name = as_text(value, "annotator").strip()
    if not 0 < len(name) <= MAX_ANNOTATOR_CHARACTERS or not name.isprintable():
        raise RowError(f"the field 'annotator' should have 1 to {MAX_ANNOTATOR_CHARACTERS} printable characters")
    return name


def _prompt_only(row: Row) -> Record:
    return Record(as_prompt(row["prompt"], "prompt"))


def _conversation_pair(row: Row) -> Record:
    """ShareGPT with `chosen` and `rejected`: the turns are the prompt."""
    responses = (as_response(row["chosen"], "chosen"), as_response(row["rejected"], "rejected"))
    return Record(_turns(row), responses, "chosen")


def _conversation(row: Row) -> Record:
    """Turns that end with an answer, judged by a boolean `label` or not at all; or turns that end with a question."""
    turns = _turns(row)
    if "label" not in row and turns and turns[-1]["role"] == "user":
        return Record(turns)
    if not turns or turns[-1]["role"] != "assistant":
        raise Unusable("whose turns do not end with an answer")
    return Record(turns[:-1], (turns[-1]["content"],), _verdict(row["label"]) if "label" in row else None)


def _turns(row: Row) -> list[Message]:
    field = next(field for field in TURNS if field in row)
    turns = as_messages(row[field], field)
    if row.get("system"):  # LLaMA-Factory keeps the system message in a column of its own
        turns.insert(0, {"role": "system", "content": as_text(row["system"], "system")})
    return turns


def _verdict(label: Any) -> str:
    if label in (0, 1) and isinstance(label, (bool, int)):
        return "good" if label else "bad"
    raise RowError(f"the field 'label' should be true or false, not {kind_of(label)}")


def _has(*fields: str) -> Callable[[Row], bool]:
    return lambda row: all(field in row for field in fields)


def _has_turns(*fields: str) -> Callable[[Row], bool]:
    return lambda row: any(field in row for field in TURNS) and all(field in row for field in fields)


def _has_transcripts(row: Row) -> bool:
    texts = [row.get("chosen"), row.get("rejected")]
    return "prompt" not in row and all(isinstance(text, str) and text.lstrip().startswith("Human:") for text in texts)


# The first that fits is taken: those that ask for more come first.
FORMATS: tuple[Format, ...] = (
    Format(
        "trl-preference", "TRL preference: prompt, chosen, rejected",
        _has("prompt", "chosen", "rejected"), _explicit_pair,
    ),
    Format(
        "pairwise-votes", "votes: prompt, response_a, response_b, label (a, b, tie or both_bad), annotator",
        _has("prompt", "response_a", "response_b"), _vote,
    ),
    Format("trl-unpaired", "TRL unpaired: prompt, completion, label", _has("prompt", "completion", "label"), _single),
    Format(
        "sharegpt-preference", "turns with chosen and rejected",
        _has_turns("chosen", "rejected"), _conversation_pair,
    ),
    Format("messages-label", "turns with a good/bad label", _has_turns("label"), _conversation),
    Format("hh-rlhf", "HH-RLHF transcripts", _has_transcripts, _transcript_pair),
    Format(
        "trl-preference-implicit", "TRL preference: chosen, rejected with the prompt inside",
        _has("chosen", "rejected"), _implicit_pair,
    ),
    Format("prompt-completion", "prompts with one answer, not judged", _has("prompt", "completion"), _single),
    Format("prompt-only", "prompts only", _has("prompt"), _prompt_only),
    Format("messages", "conversations, not judged", _has_turns(), _conversation),
)
