"""What there is to decide, as a page of a list and one item in texts and rows of tables.

Knows no page and stores nothing. Texts of people and models are never put into HTML here.
"""

from __future__ import annotations

from dataclasses import dataclass

from review.disagreements import LISTS, PAGE_ITEMS, Dispute, Row, look, page
from review.view import NO_PROJECT
from storage import Store
from storage.records import SET_ASIDE

OPINION_COLUMNS = ("Who", "Says", "Reasons", "Comment")
LIST_COLUMNS = ("Item", "Prompt", "Labels", "Note")
EMPTY_LISTS = {
    "differ": "Nothing to decide: no two people have said different things of an item.",
    "flagged": "Nobody has flagged an item. Annotators flag one when something is wrong with it.",
    "agree": "No item has labels that agree yet.",
    "decided": "Nothing was decided yet. Choose a list and an item, and say which answer is better.",
}


@dataclass(frozen=True)
class Desk:
    """The list of items to decide, a page of it, and the item that is looked at.

    counts: items of each of LISTS. after: the page has what comes after this item. sentence: what to do when empty.
    """

    counts: dict[str, int]
    after: int
    rows: list[list[str]]
    has_more: bool
    dispute: Dispute | None
    sentence: str


def desk(
    store: Store, project_id: int | None, kind: str, name: str, after: int = 0, item_id: int | None = None,
    beyond: int | None = None,
) -> Desk:
    """Return one of LISTS from an item on, and one item: this one, the one beyond another, or the first."""
    if project_id is None:
        return Desk(dict.fromkeys(LISTS, 0), 0, [], False, None, NO_PROJECT)
    rows = page(store, project_id, kind, name, after, PAGE_ITEMS + 1)
    if not rows and after:
        rows, after = page(store, project_id, kind, name, 0, PAGE_ITEMS + 1), 0
    if item_id is None and beyond is not None:
        item_id = next((row.item_id for row in page(store, project_id, kind, name, beyond, 1)), None)
    if item_id is None and rows:
        item_id = rows[0].item_id
    dispute = None if item_id is None else look(store, project_id, item_id)
    counts = store.votes.counts(project_id, kind)
    return Desk(
        counts, after, _list_rows(rows[:PAGE_ITEMS]), len(rows) > PAGE_ITEMS, dispute, "" if rows else EMPTY_LISTS[name]
    )


def _list_rows(rows: list[Row]) -> list[list[str]]:
    return [[str(row.item_id), row.prompt, str(row.votes), _note(row)] for row in rows]


def title(dispute: Dispute) -> str:
    """Return an item's number and how it stands, as Markdown."""
    item = dispute.card.item
    state = "not decided yet" if dispute.final is None else f"decided: {dispute.final.words}"
    return f"#### Item {item.id} · {state}" + (" · a check" if item.is_check else "")


def opinion_rows(dispute: Dispute) -> list[list[str]]:
    """Return who said what of an item, and what was decided."""
    rows = [[each.annotator, each.words, ", ".join(each.reasons), each.comment] for each in dispute.opinions]
    if final := dispute.final:
        rows.append([f"{final.annotator} (final)", final.words, ", ".join(final.reasons), final.comment])
    return rows


def edits(dispute: Dispute) -> str:
    """Return the answers that people wrote, as Markdown, in the order of `opinion_rows`."""
    return "\n\n".join(
        f"###### {each.words.replace('Wrote', 'Somebody wrote')}\n\n{_quoted(each.edit)}"
        for each in dispute.opinions
        if each.edit
    )


def conversation(dispute: Dispute) -> tuple[str, str]:
    """Return the turns before the last as Markdown, empty when there are none, and the last."""
    *earlier, last = dispute.card.prompt.messages
    turns = [f"###### {message['role'].capitalize()}\n\n{_quoted(message['content'])}" for message in earlier]
    return "\n\n".join(turns), last["content"]


def _quoted(text: str) -> str:
    """Quote each line, so that nothing inside (an open code fence, a heading) reaches what comes after."""
    return "\n".join(f"> {line}" for line in text.splitlines())


def adoptable(dispute: Dispute) -> list[tuple[str, str]]:
    """Return the opinions that no button says: (words, annotator) of rankings and of edits."""
    return [
        (f"{each.annotator}: {each.words}", each.annotator)
        for each in dispute.opinions
        if each.label.verdict not in SET_ASIDE and (each.label.ranking is not None or each.edit is not None)
    ]


def _note(row: Row) -> str:
    flags = f"{row.flags} flag{'s' if row.flags > 1 else ''}" if row.flags else ""
    return ", ".join(filter(None, [flags, "a check" if row.is_check else ""]))
