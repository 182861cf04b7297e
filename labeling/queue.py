"""What comes next for one annotator in one browser tab, and which response is shown on which side.

A tab reserves the items that it is about to show; a reservation ends by itself after `LEASE_SECONDS`, so that a
closed laptop blocks nobody. Checks and repeats look like any other card. What is sent to the browser names no model
and nobody else's label. It does not know what a label means.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

from errors import LabelError
from labeling.settings import BY_A_RUN, LabelingSettings
from labeling.tickets import Tickets
from storage import Card, Store
from storage.leases import CHECK, Budget, Held
from storage.records import KINDS, REPEAT, Message

LEASE_SECONDS = 240.0
MAX_CARDS = 50
EXTRAS = (CHECK, REPEAT)


@dataclass(frozen=True)
class ShownResponse:
    """A response as the annotator sees it: without the name of the model that wrote it."""

    id: int
    text: str


@dataclass(frozen=True)
class ShownCard:
    """One item as it is sent to the browser; `responses` are in the order shown, left to right.

    key: what tells it from other cards: an item may come a second time. ticket: proves that it was given; it comes
    back with the answer.
    """

    key: str
    item_id: int
    kind: str
    messages: list[Message]
    responses: tuple[ShownResponse, ...]
    ticket: str


@dataclass(frozen=True)
class Lease:
    """What a tab holds: the keys of all its cards, and those of them that it does not have yet.

    more: the search was cut short, and the next request goes on with it: no cards do not mean that there are none.
    """

    keys: tuple[str, ...]
    cards: tuple[ShownCard, ...]
    more: bool = False


def shown_order(annotator: str, item_id: int, response_ids: Sequence[int], repeated: bool = False) -> list[int]:
    """Return response ids in the order this annotator sees them: drawn per annotator and item, always the same.

    The draw depends on nothing stored, so that a reload, another tab and an undo show the same sides. An item that
    is asked a second time has a draw of its own.
    """
    salt = f"{annotator}\n{REPEAT}" if repeated else annotator

    def draw(response_id: int) -> bytes:
        return hashlib.sha256(f"{item_id}\n{response_id}\n{salt}".encode("utf-8", "surrogatepass")).digest()

    return sorted(response_ids, key=draw)


def shown_card(
    card: Card, order: Sequence[int], annotator: str, picked: str, tickets: Tickets
) -> ShownCard:
    """Return what the browser gets of a card, its responses in the given order of ids."""
    texts = {response.id: response.text for response in card.responses}
    responses = tuple(ShownResponse(response_id, texts[response_id]) for response_id in order)
    ticket = tickets.issue(card.item.id, annotator, picked, order)
    return ShownCard(
        key_of(card.item.id, picked), card.item.id, card.item.kind, card.prompt.messages, responses, ticket
    )


def key_of(item_id: int, picked: str | None) -> str:
    """Return the key of an item's card."""
    return f"{item_id}r" if picked == REPEAT else str(item_id)


def tickets_of(store: Store) -> Tickets:
    """Return the tickets of a data folder."""
    return Tickets(store.secret("tickets"))


def card_for(store: Store, held: Held, annotator: str, tickets: Tickets) -> ShownCard:
    """Return one item as this annotator sees it. Raises NotFoundError."""
    card = store.items.card(held.item_id)
    order = shown_order(annotator, held.item_id, [response.id for response in card.responses], held.is_repeat)
    return shown_card(card, order, annotator, held.picked, tickets)


def lease_cards(
    store: Store,
    project_id: int,
    kind: str,
    annotator: str,
    session: str,
    count: int,
    known: Collection[str] = (),
    previous: str | None = None,
    tickets: Tickets | None = None,
    draws: random.Random | None = None,
) -> Lease:
    """Reserve up to `count` items (1 to MAX_CARDS) for a tab, renew those it holds, and return the new cards.

    session: unique id of one loaded page. previous: the id this tab had before it was reloaded; what that one
    held is taken over in the same transaction, so that nobody slips in between. known: keys of cards that the tab
    already has. draws: where the mixing-in of checks, repeats and random items is drawn.
    Raises LabelError for an unknown kind, NotFoundError for an unknown project.
    """
    if kind not in KINDS:
        raise LabelError(f"{kind!r} is no kind of item; it can be {' or '.join(KINDS)}.")
    tickets = tickets or tickets_of(store)
    with store.transaction():
        settings = LabelingSettings.of(store.projects.by_id(project_id).labeling)
        if previous and previous != session:
            store.leases.hand_over(previous, session)
        held = store.leases.held(project_id, kind, annotator, session)
        wanted = min(max(count, 1), MAX_CARDS)
        with ExitStack() as stack:
            picks = _Picks(store, project_id, kind, annotator, session, settings, draws or random.Random(), stack)
            fresh = picks.take(wanted - len(held), held)
        held = held[:wanted] + fresh
        store.leases.take(session, annotator, held, LEASE_SECONDS)
        cards = [card_for(store, one, annotator, tickets) for one in held if key_of(one.item_id, one.picked) not in known]
    return Lease(tuple(key_of(one.item_id, one.picked) for one in held), tuple(cards), picks.budget.is_spent)


def next_cards(
    store: Store, project_id: int, kind: str, annotator: str, session: str, count: int
) -> list[ShownCard]:
    """Return up to `count` cards to show next in this tab, reserved for it. See `lease_cards`."""
    return list(lease_cards(store, project_id, kind, annotator, session, count).cards)


class _Picks:
    """Chooses new items for one tab: the project's order, with checks, repeats and random items mixed in."""

    def __init__(
        self, store: Store, project_id: int, kind: str, annotator: str, session: str, settings: LabelingSettings,
        draws: random.Random, stack: ExitStack,
    ) -> None:
        self.store, self.settings, self.draws, self.stack = store, settings, draws, stack
        self.whose = (project_id, kind, annotator)
        self.session = session
        self.taken: set[int] = set()
        self.budget = Budget()
        self.lanes: dict[str, Iterator[int]] = {}

    def take(self, count: int, held: Sequence[Held]) -> list[Held]:
        """Return up to `count` new items. Checks and repeats come only where there is work beside them."""
        picks: list[Held] = []
        has_work = any(one.picked not in EXTRAS for one in held)
        while len(picks) < count:
            pick = (self._extra() if has_work else None) or self._work()
            if pick is None:
                break
            has_work = has_work or pick.picked not in EXTRAS
            self.taken.add(pick.item_id)
            picks.append(pick)
        return picks

    def _extra(self) -> Held | None:
        draw = self.draws.random()
        item_id, picked = None, CHECK
        if draw < self.settings.check_rate:
            item_id = self.store.leases.free_check(*self.whose, self.taken)
        elif draw < self.settings.check_rate + self.settings.repeat_rate:
            item_id, picked = self.store.leases.free_repeat(*self.whose, self.draws.random(), self.taken), REPEAT
        return None if item_id is None else Held(item_id, picked)

    def _work(self) -> Held | None:
        """Return the next item that wants a label, or None. What the order does not reach is taken shuffled."""
        order, kind = self.settings.order, self.whose[1]
        if order in BY_A_RUN and (kind != "pair" or self.draws.random() < self.settings.random_share):
            order = "shuffled"
        tiers: tuple[int | None, ...] = (None,)
        if order == "fewest":
            tiers = tuple(range(self.settings.labels_per_item))
        for lane, tier in [*((order, tier) for tier in tiers), ("shuffled", None)]:
            for item_id in self._lane(lane, tier):
                if item_id not in self.taken:
                    return Held(item_id, lane)
        return None

    def _lane(self, lane: str, tier: int | None) -> Iterator[int]:
        name = f"{lane} {tier}"
        if name not in self.lanes:
            # Where one label is enough, people begin apart; else together, so that items get all of theirs early.
            apart = lane == "fewest" or (lane == "shuffled" and self.settings.labels_per_item == 1)
            found = self.store.leases.free(*self.whose, self.session, lane, tier, apart, self.budget)
            self.lanes[name] = self.stack.enter_context(closing(found))
        return self.lanes[name]
