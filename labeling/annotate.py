"""Record what an annotator says, take it back, and count it.

The only place that maps the words people use ("a", "b", "good" …) to verdicts and response ids, by the order in
which the responses were shown. It does not know how a word was given (key, button, another page).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from errors import LabelError
from labeling.queue import ShownCard, shown_card
from storage import Item, Label, Store
from storage.records import PAIR_VERDICTS, SINGLE_VERDICTS, SKIP, UNDO

CHOSEN = "chosen"
SIDES = ("a", "b")
WORDS = {"pair": (*SIDES, "tie", "both_bad", SKIP), "single": ("good", "bad", SKIP)}
MAX_ANNOTATOR_CHARACTERS = 100
MAX_ACTIVE_SECONDS = 86_400.0
UNIQUE_ID = re.compile(r"[0-9A-Za-z_-]{8,64}")
# One annotator's skips of a project that can be brought back in one go.
MAX_SKIPS = 10_000


@dataclass(frozen=True)
class Undone:
    """A card that comes back after an undo, as it was shown, and the word that was said of it."""

    card: ShownCard
    word: str


@dataclass(frozen=True)
class KindProgress:
    """How far the items of one kind are: all of them, those with all their labels, and this annotator's labels."""

    total: int
    done: int
    mine: int


@dataclass(frozen=True)
class Progress:
    """How far a project is. skipped: items that this annotator has set aside, of either kind."""

    pair: KindProgress
    single: KindProgress
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


def verdict_of(kind: str, word: str, shown_response_ids: Sequence[int]) -> tuple[str, int | None]:
    """Return the verdict and chosen response id that a word means, for responses shown in that order.

    Raises LabelError when the word does not fit the kind of item.
    """
    if word not in WORDS[kind]:
        raise LabelError(f"{word!r} is no answer for a {kind}; it can be {', '.join(WORDS[kind])}.")
    if word not in SIDES:
        return word, None
    if len(shown_response_ids) != len(SIDES):
        raise LabelError(f"{word!r} needs the two responses that were shown.")
    return CHOSEN, shown_response_ids[SIDES.index(word)]


def word_of(label: Label) -> str:
    """Return the word that a label was given with: the way back from `verdict_of`."""
    if label.verdict == CHOSEN:
        return SIDES[label.shown_response_ids.index(label.chosen_response_id)]
    return label.verdict


def record(
    store: Store,
    project_id: int,
    item_id: int,
    annotator: str,
    word: str,
    shown_response_ids: Sequence[int],
    *,
    client_id: str,
    session: str,
    active_seconds: float | None = None,
) -> Label:
    """Store one label, once: the same `client_id` again returns the row that it made the first time.

    shown_response_ids: the responses as shown, left to right. session: the tab that held the item.
    active_seconds: time the card was visible; clamped to 0 … one day.
    Raises LabelError when something does not fit, or when the item got all the labels it wants from others
    after the tab's reservation had ended; NotFoundError when there is no such item.
    """
    annotator, client_id = checked_annotator(annotator), checked_id(client_id, "label's id")
    checked_id(session, "tab's id")
    with store.transaction():
        item = _item_of(store, project_id, item_id)
        verdict, chosen_response_id = verdict_of(item.kind, word, shown_response_ids)
        if verdict != SKIP and item.label_count >= item.wanted_labels:
            _refuse_one_too_many(store, item, annotator, client_id)
        label = store.labels.add(
            item_id, annotator, verdict, client_id=client_id, shown_response_ids=shown_response_ids,
            chosen_response_id=chosen_response_id, active_seconds=clamped_seconds(active_seconds),
        )
        _check_same(label, item_id, annotator, is_undo=False)
        # The reservation of an item that wants one label is left to end by itself: it keeps the item for an undo.
        if item.wanted_labels > 1 or verdict == SKIP:
            store.items.release(session, [item_id])
    return label


def undo(
    store: Store, project_id: int, annotator: str, *, client_id: str, item_id: int | None = None
) -> Undone:
    """Take back an annotator's label of an item (None: their latest of the project) with a new row of history.

    Returns the card as it was shown then, and the word that was said. The same `client_id` changes nothing twice.
    Raises LabelError when there is nothing to undo.
    """
    annotator, client_id = checked_annotator(annotator), checked_id(client_id, "undo's id")
    with store.transaction():
        if chosen_here := item_id is None:
            latest = store.labels.latest(project_id, annotator)
            if not latest:
                raise LabelError("There is nothing to undo: you have no label in this project.")
            item_id = latest[0].item_id
        item = _item_of(store, project_id, item_id)
        current = store.labels.current_of(item.id, annotator)
        shown = current.shown_response_ids if current else [r.id for r in store.items.card(item.id).responses]
        row = store.labels.add(item.id, annotator, UNDO, client_id=client_id, shown_response_ids=shown)
        _check_same(row, row.item_id if chosen_here else item.id, annotator, is_undo=True)
    taken_back = store.labels.get(row.replaces_id)
    return Undone(shown_card(store.items.card(row.item_id), taken_back.shown_response_ids), word_of(taken_back))


def restore_skipped(store: Store, project_id: int, kind: str, annotator: str, *, client_id: str) -> int:
    """Take back all of an annotator's skips of one kind, and return how many there were."""
    annotator, client_id = checked_annotator(annotator), checked_id(client_id, "request's id")
    with store.transaction():
        skips = [
            label
            for label in store.labels.latest(project_id, annotator, kind, limit=MAX_SKIPS)
            if label.verdict == SKIP
        ]
        for label in skips:
            store.labels.add(
                label.item_id, annotator, UNDO, client_id=f"{client_id}-{label.id}",
                shown_response_ids=label.shown_response_ids,
            )
    return len(skips)


def progress(store: Store, project_id: int, annotator: str) -> Progress:
    """Return how far a project is, and this annotator's part of it."""
    items, mine = store.items.counts(project_id), store.labels.counts(project_id, annotator)
    verdicts = {"pair": PAIR_VERDICTS, "single": SINGLE_VERDICTS}
    kinds = {kind: KindProgress(**items[kind], mine=sum(mine[verdict] for verdict in verdicts[kind])) for kind in items}
    return Progress(kinds["pair"], kinds["single"], skipped=mine[SKIP])


def _item_of(store: Store, project_id: int, item_id: int) -> Item:
    item = store.items.get(item_id)
    if item.project_id != project_id:
        raise LabelError(f"Item {item_id} is not of this project. Reload the page.")
    return item


def _check_same(row: Label, item_id: int, annotator: str, *, is_undo: bool) -> None:
    """Raise LabelError when a unique id was used before for something else: a repeat must be the same request."""
    if (row.item_id, row.annotator, row.verdict == UNDO) != (item_id, annotator, is_undo):
        raise LabelError("That unique id belongs to another label; nothing was stored. Reload the page.")


def _refuse_one_too_many(store: Store, item: Item, annotator: str, client_id: str) -> None:
    """Raise LabelError unless the label replaces one of the annotator's own, or has been stored already."""
    own = store.labels.current_of(item.id, annotator)
    if own is not None and own.verdict != SKIP:
        return
    if not any(label.client_id == client_id for label in store.labels.history(item.id)):
        raise LabelError(
            f"Item {item.id} got all the labels it wants from others while it waited here; this one was not needed."
        )
