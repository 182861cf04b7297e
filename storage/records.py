"""The rows of the database as frozen dataclasses. Does not know how they are stored or queried.

Times are seconds since 1970 (UTC). A conversation is a list of `{"role", "content"}` messages.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

Message = dict[str, str]

# What a person can say of an item. "chosen" names the preferred response of a pair in `chosen_response_id`; "ranked"
# orders three to six in `ranking`; "edited" prefers a text the person wrote (`chosen_response_id`) to the response it
# was made from (`rejected_response_id`).
VERDICTS_OF_KIND = {
    "pair": ("chosen", "tie", "both_bad", "edited"),
    "single": ("good", "bad", "edited"),
    "ranking": ("ranked", "edited"),
}
KINDS = tuple(VERDICTS_OF_KIND)
# Rows that are not preferences: "skip" and "flag" (something is wrong with it) set an item aside, "undo" takes the row
# `replaces_id` back.
SKIP, FLAG, UNDO = "skip", "flag", "undo"
SET_ASIDE = (SKIP, FLAG)
# A vote counts for the item. "final" decides an item after all votes, "repeat" is the same person's second answer.
VOTE, FINAL, REPEAT = "vote", "final", "repeat"
SLIGHTLY, CLEARLY = 1, 2
MOST_RANKED = 6

SAMPLE, LABEL, TRAIN, COMPARE = "sample", "label", "train", "compare"
ROUND_STEPS = (SAMPLE, LABEL, TRAIN, COMPARE)

ACTIVE_STATES = ("queued", "running")
ENDED_STATES = ("finished", "failed", "cancelled")


def _json() -> Any:
    """A field that is stored as JSON text."""
    return field(metadata={"json": True})


@dataclass(frozen=True)
class Project:
    """A set of prompts, responses and labels that belong together. labeling: `labeling.settings` as JSON values.

    is_match: it holds what models answered to a list of prompts, to be voted on. home_id: the project for which the match
    was played, if there is one.
    """

    id: int
    name: str
    guidelines: str
    is_example: bool
    labeling: dict[str, Any] = _json()
    created_at: float
    is_match: bool = False
    home_id: int | None = None


@dataclass(frozen=True)
class Prompt:
    """A conversation that asks for a response; its last message is the user's."""

    id: int
    project_id: int
    messages: list[Message] = _json()
    source: str
    created_at: float


@dataclass(frozen=True)
class Response:
    """One answer to a prompt, and where it came from.

    model, run_id, settings: the base model's name, the run whose adapter was used (None for the base) and the
    sampling settings; all None when a person or a file is the author. author: who wrote it, None for a model.
    """

    id: int
    prompt_id: int
    text: str
    model: str | None
    run_id: int | None
    settings: dict[str, Any] | None = _json()
    author: str | None
    created_at: float


@dataclass(frozen=True)
class Item:
    """Something to label: one prompt with one response ("single"), two ("pair") or three to six ("ranking").

    wanted_labels: from how many people a vote is wanted. is_check: its answer is known (the final label), it is mixed
    in to see how well people do, and wants a vote from everybody. margin: reward of the first response minus the
    second's, by the run that scored the project last; contradiction: the gradient weight σ(−margin toward the votes).
    """

    id: int
    project_id: int
    prompt_id: int
    kind: str
    wanted_labels: int
    label_count: int
    is_check: bool
    margin: float | None
    contradiction: float | None
    created_at: float


@dataclass(frozen=True)
class Card:
    """An item with all that is needed to show it. `responses` are in stored order, not in the order shown."""

    item: Item
    prompt: Prompt
    responses: tuple[Response, ...]


@dataclass(frozen=True)
class Label:
    """One row of the append-only history of labels.

    client_id: unique id made where the key was pressed; storing the same one twice changes nothing.
    role: VOTE, FINAL or REPEAT. verdict: one of VERDICTS_OF_KIND, SET_ASIDE or UNDO.
    chosen_response_id: the preferred response, for "chosen" and "edited"; rejected_response_id: for "edited".
    ranking: for "ranked", the response ids in tiers, best first; those of one tier are equally good, and in
    order of their ids, so that equal rankings are the same text.
    strength: SLIGHTLY, CLEARLY or None (not said). reasons: tags of the project. comment: free words.
    shown_response_ids: the responses as shown, left to right.
    active_seconds: time the card was on a visible screen.
    picked: why this item came ("shuffled", "fewest", "uncertain", "contradicted", "check", "repeat"), None when nobody
    chose. margin: the item's margin then.
    replaces_id: the earlier row of the same annotator, item and role that this one changes or takes back.
    source: "person", "import" or "chat".
    """

    id: int
    client_id: str
    item_id: int
    annotator: str
    role: str
    verdict: str
    chosen_response_id: int | None
    rejected_response_id: int | None
    ranking: list[list[int]] | None = _json()
    strength: int | None
    reasons: list[str] = _json()
    comment: str
    shown_response_ids: list[int] = _json()
    active_seconds: float | None
    picked: str | None
    margin: float | None
    replaces_id: int | None
    source: str
    created_at: float


@dataclass(frozen=True)
class Run:
    """One training run. `adapter` is a folder relative to the data folder, set when the run has finished.

    model: the base model's name as the user gave it; config: the whole training config; state: one of
    ACTIVE_STATES or ENDED_STATES; message: why it ended as it did, for people; summary: the last metrics;
    snapshot: the name of the labels it used, equal for equal content.
    """

    id: int
    project_id: int
    method: str
    model: str
    config: dict[str, Any] = _json()
    state: str
    message: str
    pid: int | None
    step: int
    total_steps: int
    cancel_requested: bool
    adapter: str | None
    summary: dict[str, Any] = _json()
    created_at: float
    started_at: float | None
    heartbeat_at: float | None
    ended_at: float | None
    snapshot: str = ""

    @property
    def is_active(self) -> bool:
        """True while the run is queued or running."""
        return self.state in ACTIVE_STATES


@dataclass(frozen=True)
class Round:
    """One time round the loop: a run answers prompts, that is labelled, a run is trained on top of it and compared.

    step: one of ROUND_STEPS, or "ended". sampled_run_id: the run that answers; prompt_ids: what it is asked. run_id: the one
    that is trained, None until it is there; match_id: the project of the comparison, likewise.
    """

    id: int
    project_id: int
    step: str
    sampled_run_id: int | None
    prompt_ids: list[int] = _json()
    run_id: int | None
    match_id: int | None
    created_at: float


@dataclass(frozen=True)
class MetricRow:
    """The metrics of one optimiser step."""

    run_id: int
    step: int
    values: dict[str, float] = _json()
    created_at: float


@dataclass(frozen=True)
class Chat:
    """A conversation with one to four models side by side; `models` are their names, left to right.

    name: what people call it, "" for one that was never named. is_blind: who answers on which side was not to be seen
    before the vote. annotator: who began it, "" where nobody gave a name.
    """

    id: int
    project_id: int | None
    models: list[str] = _json()
    settings: dict[str, Any] = _json()
    created_at: float
    name: str = ""
    is_blind: bool = False
    annotator: str = ""


@dataclass(frozen=True)
class ChatMessage:
    """One message of a chat. side: from 0 for an answer, left to right; None for what was said to all models."""

    id: int
    chat_id: int
    side: int | None
    role: str
    content: str
    model: str | None
    settings: dict[str, Any] | None = _json()
    finish_reason: str | None
    created_at: float


@dataclass(frozen=True)
class ChatVote:
    """Which answer to a question of a chat somebody preferred.

    verdict: "chosen" (the answer of `side`), "tie" or "both_bad" (none of them is good). is_blind: given without knowing
    who had answered.
    """

    id: int
    question_id: int
    annotator: str
    verdict: str
    side: int | None
    is_blind: bool
    created_at: float


Record = TypeVar("Record")


@functools.cache
def _columns(record: type) -> list[tuple[str, Callable[[Any], Any] | None]]:
    """Return each field's name with what turns a stored value into it (None: it is stored as it is)."""
    return [
        (spec.name, json.loads if spec.metadata.get("json") else bool if spec.type == "bool" else None)
        for spec in fields(record)
    ]


def from_row(record: type[Record], row: Mapping[str, Any]) -> Record:
    """Build a record from a database row whose columns have the record's field names."""
    values = []
    for name, convert in _columns(record):
        value = row[name]
        values.append(value if convert is None or value is None else convert(value))
    return record(*values)
