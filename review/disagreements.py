"""Items that people do not agree on or flagged, and what the owner decides: final labels and checks.

A final label counts instead of the votes it was based on; storage takes it back when one of those changes. Does not
know how often people agree (`agreement`), nor a page.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from errors import LabelError
from labeling.annotate import checked_annotator, checked_id
from labeling.answers import Answer, checked, meaning, said
from storage import Card, Item, Label, Store
from storage.records import FINAL, FLAG, SET_ASIDE, UNDO, VOTE
from storage.votes import VIEWS

PAGE_ITEMS = 20
EXCERPT_CHARACTERS = 90
LETTERS = "ABCDEF"
# What a list shows, in the order to offer it; the keys are `storage.votes.VIEWS`.
LISTS = {"differ": "Labels differ", "flagged": "Flagged", "agree": "Labels agree", "decided": "Decided"}
VERDICTS_IN_WORDS = {"tie": "Tie", "both_bad": "Both bad", "good": "Good", "bad": "Bad", "skip": "Skipped", FLAG: "Flagged"}
assert set(LISTS) == set(VIEWS)


@dataclass(frozen=True)
class Row:
    """One item of a list: where its prompt begins, and how many votes, different choices and flags it has."""

    item_id: int
    prompt: str
    votes: int
    choices: int
    flags: int
    is_check: bool


@dataclass(frozen=True)
class Opinion:
    """What one person said of an item. words: with the letters of the stored order; edit: the answer they wrote."""

    annotator: str
    words: str
    reasons: tuple[str, ...]
    comment: str
    edit: str | None
    label: Label


@dataclass(frozen=True)
class Dispute:
    """One item with what everybody said of it, flags among it, and what was decided."""

    card: Card
    opinions: tuple[Opinion, ...]
    final: Opinion | None


def page(store: Store, project_id: int, kind: str, view: str, after: int = 0, limit: int = PAGE_ITEMS) -> list[Row]:
    """Return the items of one of LISTS that come after an item's id. Raises LabelError for an unknown list."""
    if view not in LISTS:
        raise LabelError(f"{view!r} is no list of items; it can be {', '.join(LISTS)}.")
    return [
        Row(each.item_id, _excerpt(store.items.card(each.item_id)), each.votes, each.choices, each.flags, each.is_check)
        for each in store.votes.items(project_id, kind, view, after, limit)
    ]


def look(store: Store, project_id: int, item_id: int) -> Dispute:
    """Return an item with what was said of it. Raises NotFoundError, and LabelError when it is not the project's."""
    _item_of(store, project_id, item_id)
    card = store.items.card(item_id)
    final = store.labels.current_of(item_id, "", FINAL)
    opinions = tuple(_opinion(store, card, label) for label in store.labels.current(item_id, VOTE))
    return Dispute(card, opinions, _opinion(store, card, final) if final else None)


def decide(
    store: Store, project_id: int, item_id: int, annotator: str, answer: Answer, client_id: str,
    *, as_check: bool | None = None,
) -> Label:
    """Record the final label of an item, once: the same `client_id` again returns the row it made the first time.

    annotator: who decides. answer: its "a" and "b" are the first and the second response in stored order, and its
    reasons and comment are kept. as_check: also make the item a check, or no check (None: leave it).
    Raises LabelError when something does not fit, NotFoundError when there is no such item.
    """
    annotator, client_id = checked_annotator(annotator), checked_id(client_id, "decision's id")
    with store.transaction():
        if known := store.labels.by_client_id(client_id):
            if (known.item_id, known.role, known.verdict == UNDO) != (item_id, FINAL, False):
                raise LabelError("That unique id belongs to another label; nothing was stored. Reload the page.")
            return known
        item = _item_of(store, project_id, item_id)
        if answer.word in SET_ASIDE:
            raise LabelError(f"{answer.word!r} decides nothing: a final label says which answer is better, or good.")
        shown = store.items.response_ids(item_id)
        fields = meaning(checked(answer, item.kind, shown), shown)
        if answer.edit is not None:
            fields["chosen_response_id"] = store.responses.add(item.prompt_id, answer.edit.text, author=annotator)[0]
        label = store.labels.add(
            item_id, annotator, client_id=client_id, shown_response_ids=shown, role=FINAL, **fields
        )
        if as_check is not None and as_check != item.is_check:
            store.items.set_check(item_id, as_check)
    return label


def adopt(
    store: Store, project_id: int, item_id: int, annotator: str, whose: str, client_id: str,
    *, as_check: bool | None = None,
) -> Label:
    """Decide what another annotator said of an item, as `decide`: their ranking, or the answer they wrote.

    Raises LabelError when that one has no label on the item.
    """
    for opinion in look(store, project_id, item_id).opinions:
        if opinion.annotator == whose and opinion.label.verdict not in SET_ASIDE:
            answer = said(replace(opinion.label, shown_response_ids=store.items.response_ids(item_id)), opinion.edit)
            return decide(store, project_id, item_id, annotator, answer, client_id, as_check=as_check)
    raise LabelError(f"{whose or 'Nobody'} has no label on item {item_id} to adopt. Choose somebody who has.")


def undo(store: Store, project_id: int, item_id: int, annotator: str, client_id: str) -> Label:
    """Take the final label of an item back, whoever gave it, and return the row of history that does it.

    Raises LabelError when nothing was decided, or the item is a check: its answer must stay known.
    """
    annotator, client_id = checked_annotator(annotator), checked_id(client_id, "undo's id")
    with store.transaction():
        if known := store.labels.by_client_id(client_id):
            if (known.item_id, known.role, known.verdict) != (item_id, FINAL, UNDO):
                raise LabelError("That unique id belongs to another label; nothing was stored. Reload the page.")
            return known
        if _item_of(store, project_id, item_id).is_check:
            raise LabelError("This item is a check: its answer must stay known. Stop using it as a check first.")
        shown = store.items.response_ids(item_id)
        return store.labels.add(item_id, annotator, UNDO, client_id=client_id, shown_response_ids=shown, role=FINAL)


def use_as_check(store: Store, project_id: int, item_id: int, is_check: bool) -> None:
    """Mix an item in as a check, or stop that. Raises NotFoundError when nothing was decided on it."""
    with store.transaction():
        if _item_of(store, project_id, item_id).is_check != is_check:
            store.items.set_check(item_id, is_check)


def _item_of(store: Store, project_id: int, item_id: int) -> Item:
    item = store.items.get(item_id)
    if item.project_id != project_id:
        raise LabelError(f"Item {item_id} is not of this project. Reload the page.")
    return item


def _opinion(store: Store, card: Card, label: Label) -> Opinion:
    edit = store.responses.get(label.chosen_response_id).text if label.verdict == "edited" else None
    return Opinion(label.annotator, words(card, label), tuple(label.reasons), label.comment, edit, label)


def words(card: Card, label: Label) -> str:
    """Return what a label says, its responses named by letters in stored order."""
    letter = {response.id: LETTERS[place] for place, response in enumerate(card.responses)}
    strength = {1: ", slightly", 2: ", clearly"}.get(label.strength, "")
    if label.verdict == "chosen":
        return f"{letter[label.chosen_response_id]} is better{strength}"
    if label.verdict == "edited":
        return f"Wrote a better {letter[label.rejected_response_id]}"
    if label.ranking is not None:
        return " > ".join(" = ".join(sorted(letter[each] for each in tier)) for tier in label.ranking)
    return VERDICTS_IN_WORDS[label.verdict] + strength


def _excerpt(card: Card) -> str:
    text = " ".join(card.prompt.messages[-1]["content"].split())
    return text if len(text) <= EXCERPT_CHARACTERS else text[: EXCERPT_CHARACTERS - 1] + "…"
