"""The shapes of preference data that others write, each read into one neutral `Record`.

Owns which fields make which format, and how a row of it becomes a prompt with responses. Pure: it does not know
files, nor what is stored. To add a format, write its `read` function and add a line to `FORMATS`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from errors import ConfigError
from transfer.formats.messages import Message, RowError, Unusable, as_messages, as_prompt, as_response, as_text, kind_of
from transfer.formats.record import Answer, Opinion, Record

Row = dict[str, Any]

SPEAKER = re.compile(r"(?:^|\n\n)(Human|Assistant):[ ]?")
TURNS = ("messages", "conversations")
# The words of a vote: its verdict, and the index of the response it prefers.
VOTES = {"a": ("chosen", 0), "b": ("chosen", 1), "tie": ("tie", 0), "both_bad": ("both_bad", 0)}
MAX_ANNOTATOR_CHARACTERS = 100


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


def named(name: str) -> Format:
    """Return the format of a name. Raises ConfigError that lists the known ones."""
    for known in FORMATS:
        if known.name == name:
            return known
    raise ConfigError(f"there is no format {name!r}; known are {', '.join(known.name for known in FORMATS)}")


@dataclass(frozen=True)
class Shape:
    """A format, and which column of the file is which field of it where the names differ (field -> column)."""

    format: Format
    columns: dict[str, str] = field(default_factory=dict)

    def row(self, row: Row) -> Row:
        """Return a row with the format's names; a column that is missing is missing under its new name too."""
        if not self.columns:
            return row
        moved = set(self.columns.values())
        kept = {name: value for name, value in row.items() if name not in moved and name not in self.columns}
        return kept | {name: row[column] for name, column in self.columns.items() if column in row}


def guess(rows: Iterable[Any]) -> Shape | None:
    """Return the shape that most rows have, or None when none of them is known."""
    known = detect(rows)
    return Shape(known) if known else None


@dataclass(frozen=True)
class Reading:
    """What one row gave: records, and why what it also held was left out."""

    records: list[Record]
    left_out: list[str]


def read_row(shape: Shape, row: Any) -> Reading:
    """Read one row of a known shape.

    Raises RowError when the row is broken: a field is missing, of the wrong type, or no clean text. A row in good form
    that has nothing to compare or to answer gives no record, and the reason.
    """
    if not isinstance(row, dict):
        raise RowError(f"a row should be an object with named fields, not {kind_of(row)}")
    known, row = shape.format, shape.row(row)
    if not known.fits(row):
        fields = ", ".join(repr(name[:40]) for name in list(row)[:8]) or "none"
        raise RowError(f"it does not have the fields of the file's other rows ({known.description}); it has: {fields}")
    try:
        record = known.read(row)
        _check(record)
    except Unusable as reason:
        return Reading([], [str(reason)])
    return Reading([record], [])


def _check(record: Record) -> None:
    if not record.messages or not record.messages[-1]["content"].strip():
        raise Unusable("with an empty prompt")
    if record.messages[-1]["role"] != "user":
        raise Unusable("whose prompt does not end with the user")
    if not all(answer.text.strip() for answer in record.answers):
        raise Unusable("with an empty response")
    if len({answer.text.strip() for answer in record.answers}) < len(record.answers):
        raise Unusable("whose two responses are the same")


def _record(
    messages: list[Message], responses: Iterable[str], verdict: str | None, preferred: int = 0, annotator: str | None = None
) -> Record:
    """Return a record with what one person says of it, when somebody does."""
    chosen = preferred if verdict == "chosen" else None
    opinions = (Opinion(verdict, annotator, chosen),) if verdict else ()
    return Record(messages, tuple(Answer(text) for text in responses), opinions)


def _explicit_pair(row: Row) -> Record:
    """TRL preference: `prompt, chosen, rejected`, each a text or messages.

    As in TRL, a `prompt` in plain text beside whole conversations says nothing new: the shared turns are the prompt.
    """
    if isinstance(row["prompt"], str) and _are_conversations(row["chosen"], row["rejected"]):
        as_text(row["prompt"], "prompt")
        return _implicit_pair(row)
    prompt = as_prompt(row["prompt"], "prompt")
    responses = (_after(prompt, row["chosen"], "chosen"), _after(prompt, row["rejected"], "rejected"))
    return _record(prompt, responses, "chosen")


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
    return _record(chosen[:shared], (answers[0][0]["content"], answers[1][0]["content"]), "chosen")


def _split_texts(chosen: str, rejected: str) -> Record:
    """Split two texts after their longest common prefix, a space at its end left out, as TRL's `extract_prompt`.

    Deviation: where one text is a prefix of the other, TRL moves the last shared character into the responses.
    """
    shared = _shared_length(chosen, rejected)
    if shared and shared < min(len(chosen), len(rejected)) and chosen[shared - 1] == " ":
        shared -= 1
    prompt = [{"role": "user", "content": chosen[:shared]}]
    responses = (as_response(chosen[shared:], "chosen"), as_response(rejected[shared:], "rejected"))
    return _record(prompt, responses, "chosen")


def _shared_length(first: Any, second: Any) -> int:
    limit = min(len(first), len(second))
    return next((index for index in range(limit) if first[index] != second[index]), limit)


def _single(row: Row) -> Record:
    """TRL unpaired preference (`prompt, completion, label`), or prompt and completion without a label."""
    prompt = as_prompt(row["prompt"], "prompt")
    verdict = _verdict(row["label"]) if "label" in row else None
    return _record(prompt, (_after(prompt, row["completion"], "completion"),), verdict)


def _vote(row: Row) -> Record:
    """One annotator's vote on two responses; the other votes on them are rows of their own, in either order."""
    prompt = as_prompt(row["prompt"], "prompt")
    responses = tuple(_after(prompt, row[field], field) for field in ("response_a", "response_b"))
    label = row.get("label")
    if not isinstance(label, str) or label not in VOTES:
        said = repr(label[:40]) if isinstance(label, str) else kind_of(label)
        raise RowError(f"the field 'label' should be one of {', '.join(VOTES)}, not {said}")
    verdict, preferred = VOTES[label]
    return _record(prompt, responses, verdict, preferred, _annotator(row.get("annotator")))


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
    return _record(_turns(row), responses, "chosen")


def _conversation(row: Row) -> Record:
    """Turns that end with an answer, judged by a boolean `label` or not at all; or turns that end with a question."""
    turns = _turns(row)
    if "label" not in row and turns and turns[-1]["role"] == "user":
        return Record(turns)
    if not turns or turns[-1]["role"] != "assistant":
        raise Unusable("whose turns do not end with an answer")
    return _record(turns[:-1], (turns[-1]["content"],), _verdict(row["label"]) if "label" in row else None)


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
