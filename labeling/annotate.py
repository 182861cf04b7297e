"""Record what an annotator says, take it back, change it, and count it.

It does not know how an answer was given (key, button, another page), nor what its words mean (`answers`).
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from errors import LabelError
from labeling.answers import EDITED, Answer, checked, meaning, said
from labeling.queue import LEASE_SECONDS, ShownCard, shown_card, tickets_of
from labeling.tickets import OWN, Tickets
from storage import Item, Label, Store
from storage.leases import CHECK, Held
from storage.records import FLAG, KINDS, REPEAT, SET_ASIDE, SKIP, UNDO, VERDICTS_OF_KIND, VOTE

MAX_ANNOTATOR_CHARACTERS = 100
MAX_ACTIVE_SECONDS = 86_400.0
UNIQUE_ID = re.compile(r"[0-9A-Za-z_-]{8,64}")
# One annotator's skips of a project that can be brought back in one go.
MAX_SKIPS = 10_000
RECENT = 20


@dataclass(frozen=True)
class Undone:
    """A card that comes back after an undo, as it was shown, and what was said of it."""

    card: ShownCard
    said: Answer


@dataclass(frozen=True)
class Recent:
    """One of an annotator's latest labels: its id, its age in seconds, its card and what was said of it."""

    label: int
    age_seconds: float
    card: ShownCard
    said: Answer


@dataclass(frozen=True)
class KindProgress:
    """How far the items of one kind are: all of them, those with all their labels, and this annotator's labels."""

    total: int
    done: int
    mine: int


@dataclass(frozen=True)
class Progress:
    """How far a project is. skipped: items that this annotator has set aside, of any kind, skipped or flagged."""

    pair: KindProgress
    single: KindProgress
    ranking: KindProgress
    skipped: int


def checked_annotator(name: object) -> str:
    """Return an annotator's name without outer white space. Raises LabelError when it cannot be one."""
    if not isinstance(name, str) or not (name := name.strip()):
        raise LabelError("Write your name at the top of the page first: labels are kept by annotator.")
    if len(name) > MAX_ANNOTATOR_CHARACTERS:
        raise LabelError(f"The annotator's name has {len(name)} characters; at most {MAX_ANNOTATOR_CHARACTERS}.")
    if not name.isprintable():
        raise LabelError("The annotator's name has characters that cannot be shown; write it again.")
    return name


def checked_id(value: object, what: str) -> str:
    """Return a unique id made by a browser (8 to 64 letters, digits, - and _). Raises LabelError."""
    if not isinstance(value, str) or not UNIQUE_ID.fullmatch(value):
        raise LabelError(f"The {what} must be 8 to 64 letters, digits, - or _. Reload the page.")
    return value


def clamped_seconds(seconds: object) -> float:
    """Return an active time between 0 and a day, whatever a browser with a wrong clock has sent."""
    try:
        number = float(seconds)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return min(max(number, 0.0), MAX_ACTIVE_SECONDS) if math.isfinite(number) else 0.0


def record(
    store: Store,
    project_id: int,
    item_id: int,
    annotator: str,
    answer: Answer | str,
    shown_response_ids: Sequence[int],
    *,
    client_id: str,
    session: str,
    active_seconds: float | None = None,
    picked: str | None = None,
) -> Label:
    """Store one label, once: the same `client_id` again returns the row that it made the first time.

    answer: what is said, or just its word. shown_response_ids: the responses as shown, left to right. session: the
    tab that held the item. active_seconds: time the card was visible; clamped to 0 … one day. picked: why the item
    was given; a second answer (REPEAT) is kept beside the first and does not count for the item.
    Raises LabelError when something does not fit, or when the item got all the labels it wants from others
    after the tab's reservation had ended; NotFoundError when there is no such item.
    """
    annotator, client_id = checked_annotator(annotator), checked_id(client_id, "label's id")
    checked_id(session, "tab's id")
    role = REPEAT if picked == REPEAT else VOTE
    answer = Answer(answer) if isinstance(answer, str) else answer
    with store.transaction():
        if known := store.labels.by_client_id(client_id):
            _check_same(known, item_id, annotator, is_undo=False)
            return known
        item = _item_of(store, project_id, item_id)
        fields = meaning(checked(answer, item.kind, shown_response_ids), shown_response_ids)
        own = store.labels.current_of(item_id, annotator)
        if role == REPEAT and (own is None or own.verdict in SET_ASIDE):
            raise LabelError(f"Item {item_id} has no first answer of yours to repeat.")
        if item.is_check and role == VOTE:  # it may have become one on the table
            picked = CHECK
        elif role == VOTE and answer.word not in SET_ASIDE:
            _refuse_one_too_many(item, own)
        if answer.edit is not None:
            fields["chosen_response_id"] = _better_response(store, item, answer, annotator)
        label = store.labels.add(
            item_id, annotator, client_id=client_id, shown_response_ids=shown_response_ids, role=role, picked=picked,
            active_seconds=clamped_seconds(active_seconds), **fields,
        )
        # The reservation of an item that wants one label is left to end by itself: it keeps the item for an undo.
        if item.wanted_labels > 1 or answer.word in SET_ASIDE:
            store.leases.release(session, [item_id])
    return label


def undo(
    store: Store,
    project_id: int,
    annotator: str,
    *,
    client_id: str,
    item_id: int | None = None,
    repeated: bool = False,
    session: str | None = None,
    tickets: Tickets | None = None,
) -> Undone:
    """Take back an annotator's label of an item (None: their latest of the project) with a new row of history.

    repeated: their second answer to that item. session: the tab that shows the card again, for which it is reserved.
    Returns the card as it was shown then, and what was said. The same
    `client_id` changes nothing twice. Raises LabelError when there is nothing to undo.
    """
    annotator, client_id = checked_annotator(annotator), checked_id(client_id, "undo's id")
    role = REPEAT if repeated else VOTE
    with store.transaction():
        if row := store.labels.by_client_id(client_id):
            _check_same(row, row.item_id if item_id is None else item_id, annotator, is_undo=True)
        else:
            if item_id is None:
                latest = store.labels.latest(project_id, annotator)
                if not latest:
                    raise LabelError("There is nothing to undo: you have no label in this project.")
                item_id, role = latest[0].item_id, latest[0].role
            item = _item_of(store, project_id, item_id)
            current = store.labels.current_of(item.id, annotator, role)
            shown = current.shown_response_ids if current else store.items.response_ids(item.id)
            row = store.labels.add(
                item.id, annotator, UNDO, client_id=client_id, shown_response_ids=shown, role=role,
            )
        taken_back = store.labels.get(row.replaces_id)
        if session is not None:
            store.leases.take(session, annotator, [Held(taken_back.item_id, _picked(taken_back))], LEASE_SECONDS)
        return Undone(_shown_as_then(store, taken_back, tickets or tickets_of(store)), _said(store, taken_back))


def recent(store: Store, project_id: int, annotator: str, tickets: Tickets | None = None) -> list[Recent]:
    """Return an annotator's last RECENT labels, newest first, each with its card as it was shown, to be changed."""
    annotator, tickets = checked_annotator(annotator), tickets or tickets_of(store)
    now = time.time()
    return [
        Recent(label.id, max(0.0, now - label.created_at), _shown_as_then(store, label, tickets), _said(store, label))
        for label in store.labels.latest(project_id, annotator, limit=RECENT)
    ]


def restore_skipped(store: Store, project_id: int, kind: str, annotator: str, *, client_id: str) -> int:
    """Take back all that an annotator skipped or flagged of one kind, and return how many there were."""
    annotator, client_id = checked_annotator(annotator), checked_id(client_id, "request's id")
    with store.transaction():
        skips = store.labels.latest(project_id, annotator, kind, limit=MAX_SKIPS, set_aside=True)
        for label in skips:
            store.labels.add(
                label.item_id, annotator, UNDO, client_id=f"{client_id}-{label.id}", role=label.role,
                shown_response_ids=label.shown_response_ids,
            )
    return len(skips)


def progress(store: Store, project_id: int, annotator: str) -> Progress:
    """Return how far a project is, and this annotator's part of it."""
    items, mine = store.items.counts(project_id), store.labels.counts_by_kind(project_id, annotator)
    kinds = {
        kind: KindProgress(**items[kind], mine=sum(mine[kind][verdict] for verdict in VERDICTS_OF_KIND[kind]))
        for kind in KINDS
    }
    set_aside = [*mine.values(), *store.labels.counts_by_kind(project_id, annotator, CHECK).values()]
    return Progress(**kinds, skipped=sum(counts[SKIP] + counts[FLAG] for counts in set_aside))


def _item_of(store: Store, project_id: int, item_id: int) -> Item:
    item = store.items.get(item_id)
    if item.project_id != project_id:
        raise LabelError(f"Item {item_id} is not of this project. Reload the page.")
    return item


def _check_same(row: Label, item_id: int, annotator: str, *, is_undo: bool) -> None:
    """Raise LabelError when a unique id was used before for something else: a repeat must be the same request."""
    if (row.item_id, row.annotator, row.verdict == UNDO) != (item_id, annotator, is_undo):
        raise LabelError("That unique id belongs to another label; nothing was stored. Reload the page.")


def _refuse_one_too_many(item: Item, own: Label | None) -> None:
    """Raise LabelError when the item has what it wants, unless the label replaces one of the annotator's own."""
    if item.label_count >= item.wanted_labels and (own is None or own.verdict in SET_ASIDE):
        raise LabelError(
            f"Item {item.id} got all the labels it wants from others while it waited here; this one was not needed."
        )


def _better_response(store: Store, item: Item, answer: Answer, annotator: str) -> int:
    """Store the answer that an annotator wrote and return its id. Raises LabelError when it is the one shown."""
    response_id, _ = store.responses.add(item.prompt_id, answer.edit.text, author=annotator)
    if response_id in store.items.response_ids(item.id):
        raise LabelError("The better answer is the same as one that was shown. Change it, or choose that one.")
    return response_id


def _shown_as_then(store: Store, label: Label, tickets: Tickets) -> ShownCard:
    card = store.items.card(label.item_id)
    return shown_card(card, label.shown_response_ids, label.annotator, _picked(label), tickets)


def _picked(label: Label) -> str:
    """Return why a card comes that comes back with its label."""
    return REPEAT if label.role == REPEAT else label.picked or OWN


def _said(store: Store, label: Label) -> Answer:
    return said(label, store.responses.get(label.chosen_response_id).text if label.verdict == EDITED else None)
