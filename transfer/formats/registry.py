"""The shapes of preference data that others write, and how a file's rows are told to be of one.

Owns which fields make which format, and which other names a column may have. Pure: it does not know files, nor what is
stored. To add a format, write its `read` function in a module beside this one and add a line to `FORMATS`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from errors import ConfigError
from transfer.formats.labelling_tools import argilla, has_argilla, has_label_studio, label_studio
from transfer.formats.messages import RowError, Unusable, kind_of
from transfer.formats.preference import (
    TURNS, conversation, conversation_pair, explicit_pair, implicit_pair, prompt_only, single, transcript_pair, vote,
)
from transfer.formats.rated import alpaca, conversation_tree, ultrafeedback
from transfer.formats.record import Reading, Record
from transfer.formats.studio import FIELDS, studio_label

Row = dict[str, Any]

# What people call the fields of these formats elsewhere, most usual first; compared without case, spaces and dashes.
SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "prompt": ("instruction", "question", "query", "input", "context", "user_input", "problem", "post"),
    "chosen": (
        "preferred", "accepted", "better", "winner", "win", "best", "positive", "chosen_response", "response_chosen",
        "preferred_response", "good_response", "answer_chosen", "pos",
    ),
    "rejected": (
        "dispreferred", "worse", "loser", "lose", "worst", "negative", "rejected_response", "response_rejected",
        "dispreferred_response", "bad_response", "answer_rejected", "neg",
    ),
    "response_a": ("answer_a", "completion_a", "output_a", "model_a_response", "response_1", "answer_1", "a"),
    "response_b": ("answer_b", "completion_b", "output_b", "model_b_response", "response_2", "answer_2", "b"),
    "completion": ("response", "answer", "output", "generation", "reply"),
    "label": ("is_good", "good", "is_preferred", "preference", "vote", "thumbs_up", "liked", "winner"),
    "annotator": ("judge", "rater", "labeler", "labeller", "user", "worker", "annotator_id", "user_id"),
}


@dataclass(frozen=True)
class Format:
    """A shape of rows.

    fields: the columns that matter, which a mapping can name. fits: whether a row has its fields; read: the row as a
    Record, or several with what was left out (RowError, Unusable).
    """

    name: str
    description: str
    fields: tuple[str, ...]
    fits: Callable[[Row], bool]
    read: Callable[[Row], Record | Reading]


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
    """A format, and which column of the file is which field of it where the names differ (field -> column).

    A column may be a path into objects: "data.prompt".
    """

    format: Format
    columns: dict[str, str] = field(default_factory=dict)

    def row(self, row: Row) -> Row:
        """Return a row with the format's names; a column that is missing is missing under its new name too."""
        if not self.columns:
            return row
        moved = set(self.columns.values())
        kept = {name: value for name, value in row.items() if name not in moved and name not in self.columns}
        found = {name: _at(row, column) for name, column in self.columns.items()}
        return kept | {name: value[0] for name, value in found.items() if value}


def _at(row: Row, path: str) -> list[Any]:
    """Return the value of a column, or of a path into objects, in a list; an empty list where there is none."""
    if path in row:
        return [row[path]]
    value: Any = row
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            return []
        value = value[name]
    return [value]


def guess(rows: Iterable[Any]) -> Shape | None:
    """Return the shape that most rows have, by the formats' own names or by other usual ones; None when unknown.

    Other names count where the formats' own give none that judges: a `prompt` beside a `winner` and a `loser` is a pair.
    """
    rows = list(rows)
    plain = detect(rows)
    if plain and plain.name not in NOT_JUDGED:
        return Shape(plain)
    columns = _renamed({name: None for row in rows if isinstance(row, dict) for name in row})
    moved = [Shape(FORMATS[0], columns).row(row) for row in rows if isinstance(row, dict)]
    known = detect(moved) if columns else None
    if known is None or (plain and FORMATS.index(known) >= FORMATS.index(plain)):
        return Shape(plain) if plain else None
    return Shape(known, {name: column for name, column in columns.items() if name in known.fields})


def _renamed(names: Iterable[str]) -> dict[str, str]:
    """Return which columns are fields by another name: field -> column. A column is taken once."""
    plain = {_plain(name): name for name in reversed(list(names))}
    columns: dict[str, str] = {}
    for name, others in SYNONYMS.items():
        for other in (name, *others):
            column = plain.get(_plain(other))
            if column is not None and column not in columns.values():
                columns[name] = column
                break
    return {name: column for name, column in columns.items() if name != column}


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


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
    records, left_out = [], []
    try:
        read = known.read(row)
        reading = Reading([read]) if isinstance(read, Record) else read
        left_out += reading.left_out
    except Unusable as reason:
        return Reading([], [str(reason)])
    for record in reading.records:
        try:
            _check(record)
            records.append(record)
        except Unusable as reason:
            left_out.append(str(reason))
    return Reading(records, left_out)


def _check(record: Record) -> None:
    if not record.messages or not record.messages[-1]["content"].strip():
        raise Unusable("with an empty prompt")
    if record.messages[-1]["role"] != "user":
        raise Unusable("whose prompt does not end with the user")
    if not all(answer.text.strip() for answer in record.answers):
        raise Unusable("with an empty response")
    if len({answer.text.strip() for answer in record.answers}) < len(record.answers):
        raise Unusable("whose two responses are the same")


def _has(*fields: str) -> Callable[[Row], bool]:
    return lambda row: all(field in row for field in fields)


def _has_turns(*fields: str) -> Callable[[Row], bool]:
    return lambda row: any(field in row for field in TURNS) and all(field in row for field in fields)


def _has_transcripts(row: Row) -> bool:
    texts = [row.get("chosen"), row.get("rejected")]
    return "prompt" not in row and all(isinstance(text, str) and text.lstrip().startswith("Human:") for text in texts)


def _has_alpaca(row: Row) -> bool:
    return "instruction" in row and ("input" in row or "output" in row or _has("chosen", "rejected")(row))


def _has_tree(row: Row) -> bool:
    prompt = row.get("prompt")
    return isinstance(prompt, dict) and "text" in prompt and "replies" in prompt


def _has_completions(row: Row) -> bool:
    return ("instruction" in row or "prompt" in row) and "completions" in row and "data" not in row


NOT_JUDGED = ("prompt-completion", "prompt-only", "messages")
PAIR = ("prompt", "chosen", "rejected")
VOTE = ("prompt", "response_a", "response_b", "label", "annotator")

# The first that fits is taken: those that ask for more come first.
FORMATS: tuple[Format, ...] = (
    Format(
        "studio-labels", "the labels export of Preference Studio: responses, verdict, annotator, times",
        FIELDS, _has(*FIELDS), studio_label,
    ),
    Format("openassistant", "OpenAssistant trees: prompt with replies, each with a rank", ("prompt",), _has_tree, conversation_tree),
    Format(
        "ultrafeedback", "UltraFeedback: instruction, completions with scores",
        ("instruction", "completions"), _has_completions, ultrafeedback,
    ),
    Format(
        "label-studio", "Label Studio: tasks with data and annotations, or flat", ("data", "annotations"),
        has_label_studio, label_studio,
    ),
    Format("argilla", "Argilla: fields and people's responses", ("fields", "responses"), has_argilla, argilla),
    Format("trl-preference", "TRL preference: prompt, chosen, rejected", PAIR, _has(*PAIR), explicit_pair),
    Format(
        "pairwise-votes", "votes: prompt, response_a, response_b, label (a, b, tie or both_bad), annotator",
        VOTE, _has(*VOTE[:3]), vote,
    ),
    Format(
        "trl-unpaired", "TRL unpaired: prompt, completion, label", ("prompt", "completion", "label"),
        _has("prompt", "completion", "label"), single,
    ),
    Format(
        "sharegpt-preference", "turns with chosen and rejected", (*TURNS, "system", "chosen", "rejected"),
        _has_turns("chosen", "rejected"), conversation_pair,
    ),
    Format(
        "alpaca", "Alpaca: instruction, input, and output, two outputs, or chosen and rejected",
        ("instruction", "input", "output", "chosen", "rejected", "system", "history"), _has_alpaca, alpaca,
    ),
    Format("messages-label", "turns with a good/bad label", (*TURNS, "system", "label"), _has_turns("label"), conversation),
    Format("hh-rlhf", "HH-RLHF transcripts: chosen, rejected", ("chosen", "rejected"), _has_transcripts, transcript_pair),
    Format(
        "trl-preference-implicit", "TRL preference: chosen, rejected with the prompt inside",
        ("chosen", "rejected"), _has("chosen", "rejected"), implicit_pair,
    ),
    Format(
        "prompt-completion", "prompts with one answer, not judged", ("prompt", "completion"),
        _has("prompt", "completion"), single,
    ),
    Format("prompt-only", "prompts only", ("prompt",), _has("prompt"), prompt_only),
    Format("messages", "conversations, not judged", (*TURNS, "system"), _has_turns(), conversation),
)
