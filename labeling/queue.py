"""What comes next for one annotator in one browser tab, and which response is shown on which side.

A tab reserves the items that it is about to show; a reservation ends by itself after `LEASE_SECONDS`, so that a
closed laptop blocks nobody. What is sent to the browser names no model. It does not know what a label means.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from errors import LabelError
from storage import Card, Store
from storage.items import KINDS
from storage.records import Message

LEASE_SECONDS = 240.0
MAX_CARDS = 50


@dataclass(frozen=True)
class ShownResponse:
    """A response as the annotator sees it: without the name of the model that wrote it."""

    id: int
    text: str


@dataclass(frozen=True)
class ShownCard:
    """One item as it is sent to the browser; `responses` are in the order shown, left to right."""

    item_id: int
    kind: str
    messages: list[Message]
    responses: tuple[ShownResponse, ...]


@dataclass(frozen=True)
class Lease:
    """What a tab holds: the ids of all its items, and the cards of those that it does not have yet."""

    item_ids: tuple[int, ...]
    cards: tuple[ShownCard, ...]


def shown_order(annotator: str, item_id: int, response_ids: Sequence[int]) -> list[int]:
    """Return response ids in the order this annotator sees them: drawn per annotator and item, always the same.

    The draw depends on nothing stored, so that a reload, another tab and an undo show the same sides.
    """
    def draw(response_id: int) -> bytes:
        return hashlib.sha256(f"{item_id}\n{response_id}\n{annotator}".encode()).digest()

    return sorted(response_ids, key=draw)


def shown_card(card: Card, order: Sequence[int]) -> ShownCard:
    """Return what the browser gets of a card, its responses in the given order of ids."""
    texts = {response.id: response.text for response in card.responses}
    responses = tuple(ShownResponse(response_id, texts[response_id]) for response_id in order)
    return ShownCard(card.item.id, card.item.kind, card.prompt.messages, responses)


def card_for(store: Store, item_id: int, annotator: str) -> ShownCard:
    """Return one item as this annotator sees it. Raises NotFoundError."""
    card = store.items.card(item_id)
    return shown_card(card, shown_order(annotator, item_id, [response.id for response in card.responses]))


def lease_cards(
    store: Store,
    project_id: int,
    kind: str,
    annotator: str,
    session: str,
    count: int,
    known: Collection[int] = (),
    previous: str | None = None,
) -> Lease:
    """Reserve up to `count` items (1 to MAX_CARDS) for a tab, renew those it holds, and return the new cards.

    session: unique id of one loaded page. previous: the id this tab had before it was reloaded; what that one
    held is taken over in the same transaction, so that nobody slips in between. known: ids of items whose cards
    the tab already has. Raises LabelError for an unknown kind.
    """
    if kind not in KINDS:
        raise LabelError(f"{kind!r} is no kind of item; it can be {' or '.join(KINDS)}.")
    with store.transaction():
        if previous and previous != session:
            store.items.release(previous)
        wanted = min(max(count, 1), MAX_CARDS)
        item_ids = store.items.lease(project_id, kind, annotator, session, wanted, LEASE_SECONDS)
    cards = tuple(card_for(store, item_id, annotator) for item_id in item_ids if item_id not in known)
    return Lease(tuple(item_ids), cards)


def next_cards(
    store: Store, project_id: int, kind: str, annotator: str, session: str, count: int
) -> list[ShownCard]:
    """Return up to `count` cards to show next in this tab, reserved for it. See `lease_cards`."""
    return list(lease_cards(store, project_id, kind, annotator, session, count).cards)
