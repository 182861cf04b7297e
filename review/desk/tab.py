"""The Decide section of the Review tab: lists of items, one of them with all that was said of it, and decisions.

Text of people and models reaches the page only as values of Markdown components and of cells.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import gradio as gr

from errors import reported
from labeling.answers import WORDS, Answer
from review import disagreements
from review.desk import view
from review.disagreements import LETTERS, LISTS
from storage import Store

PRIVATE = {"api_visibility": "private", "show_progress": "hidden"}
BUTTONS = {
    "a": "A is better", "b": "B is better", "tie": "Tie", "both_bad": "Both bad", "good": "Good", "bad": "Bad",
}
DECIDE_TEXT = """What you decide is the item's **final label**: it stands above the votes when a run learns from the majority. A vote
that changes later takes it back. An item used as a **check** is mixed in among others, to see how well people do."""
guarded = reported(gr.Warning, gr.skip)


def table(columns: tuple[str, ...], elem_id: str, max_height: int = 420) -> gr.Dataframe:
    """Make a table of the tab, hidden until it has rows."""
    return gr.Dataframe(
        headers=list(columns), value=[], interactive=False, wrap=True, elem_id=elem_id, elem_classes="review-table",
        buttons=[], datatype="str", visible=False, max_height=max_height,
    )


def filled(rows: list[list[str]]) -> gr.Dataframe:
    """Return the update of a table; without rows it is hidden."""
    return gr.Dataframe(rows, visible=bool(rows))


def said(text: str) -> gr.Markdown:
    """Return the update of a text; an empty one is hidden."""
    return gr.Markdown(text, visible=bool(text))


class DeskSection:
    """The components of the section and what they do."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def build(self) -> None:
        """Lay the section out."""
        self.after, self.item = gr.State(0), gr.State(None)
        gr.Markdown(DECIDE_TEXT, elem_classes="review-help")
        self.list = gr.Radio(
            [(words, name) for name, words in LISTS.items()], value="differ", show_label=False, container=False,
            elem_id="review-list",
        )
        self.empty = gr.Markdown(elem_id="review-empty")
        self.items = table(view.LIST_COLUMNS, "review-items", max_height=250)
        with gr.Row(elem_classes="review-buttons"):
            self.first = gr.Button("First page", size="sm", visible=False, elem_id="review-first")
            self.next = gr.Button("Next page", size="sm", visible=False, elem_id="review-next")
        with gr.Column(visible=False, elem_id="review-item") as self.card:
            self._card()

    def _card(self) -> None:
        self.title = gr.Markdown(elem_id="review-title")
        with gr.Column(elem_classes="review-text"):
            self.context = gr.Markdown(elem_id="review-context")
            self.prompt = gr.Markdown(elem_id="review-prompt")
        with gr.Row(elem_id="review-responses"):
            self.columns, self.texts = [], []
            for letter in LETTERS:
                with gr.Column(visible=False, min_width=0, elem_classes="review-text") as column:
                    gr.Markdown(f"**{letter}**")
                    self.texts.append(gr.Markdown(elem_id=f"review-response-{letter.lower()}"))
                self.columns.append(column)
        self.opinions = table(view.OPINION_COLUMNS, "review-opinions")
        self.edits = gr.Markdown(elem_id="review-edits", visible=False)
        with gr.Row(elem_classes="review-buttons"):
            self.buttons = {
                word: gr.Button(words, variant="primary", visible=False, min_width=110, elem_id=f"review-{word}")
                for word, words in BUTTONS.items()
            }
        with gr.Row(visible=False, elem_classes="review-buttons") as self.others:
            self.whose = gr.Dropdown([], label="Take over what somebody said", elem_id="review-whose")
            self.adopt = gr.Button("Take it over", variant="primary", min_width=110, elem_id="review-adopt")
        with gr.Row(elem_classes="review-buttons"):
            self.check = gr.Checkbox(label="Use this item as a check", elem_id="review-check", container=False)
            self.undo = gr.Button("Take the decision back", size="sm", visible=False, elem_id="review-undo")

    def connect(self, project: gr.Dropdown, kind: gr.Radio, annotator: gr.Textbox) -> None:
        """Connect every event. Those that may fail go through the queue: only there gradio shows toasts."""
        self.chosen, place = [project, kind, self.list], [self.after, self.item]
        card = [
            self.item, self.card, self.title, self.context, self.prompt, *self.columns, *self.texts, self.opinions,
            self.edits, *self.buttons.values(), self.others, self.whose, self.check, self.undo,
        ]
        self.card_outputs = card
        self.outputs = [self.list, self.after, self.empty, self.items, self.first, self.next, *card]
        for shown in (self.list.input, self.first.click):
            shown(self.show, self.chosen, self.outputs, **PRIVATE)
        self.next.click(self.turn, [*self.chosen, self.items], self.outputs, **PRIVATE)
        self.items.select(self.pick, project, card, **PRIVATE)
        answer = [*self.chosen, *place, annotator, self.check]
        for word, button in self.buttons.items():
            button.click(self._deciding(word), answer, self.outputs, **PRIVATE)
        self.adopt.click(self.take_over, [*answer, self.whose], self.outputs, **PRIVATE)
        self.undo.click(self.take_back, [*self.chosen, *place, annotator], self.outputs, **PRIVATE)
        self.check.input(self.mark, [*self.chosen, *place, self.check], self.outputs, **PRIVATE)

    @guarded
    def show(self, project_id: int | None, kind: str, name: str, after: int = 0, **place: int) -> Any:
        """Show one list of items and one of them."""
        desk = view.desk(self.store, project_id, kind, name, after, **place)
        lists = [(f"{words} ({desk.counts[each]:,})", each) for each, words in LISTS.items()]
        return [
            gr.Radio(lists, value=name), desk.after, said(desk.sentence),
            filled(desk.rows), gr.Button(visible=desk.after > 0), gr.Button(visible=desk.has_more), *self._look(desk.dispute),
        ]

    @guarded
    def turn(self, project_id: int | None, kind: str, name: str, items: Any) -> Any:
        """Show the next page of the list."""
        return self.show(project_id, kind, name, int(items.iloc[-1, 0]) if len(items) else 0)

    @guarded
    def pick(self, project_id: int, event: gr.SelectData) -> Any:
        """Show the item of the row that was clicked."""
        return self._look(disagreements.look(self.store, project_id, int(event.row_value[0])))

    def open_item(self, item_id: int) -> list[Any]:
        """Return the updates of `card_outputs` that show an item. Raises NotFoundError."""
        return self._look(disagreements.look(self.store, self.store.items.get(item_id).project_id, item_id))

    def _deciding(self, word: str) -> Callable:
        @guarded
        def decide(
            project_id: int, kind: str, name: str, after: int, item_id: int, annotator: str, as_check: bool
        ) -> Any:
            disagreements.decide(
                self.store, project_id, item_id, annotator, Answer(word), secrets.token_hex(16), as_check=as_check
            )
            return self.show(project_id, kind, name, after, beyond=item_id)

        return decide

    @guarded
    def take_over(
        self, project_id: int, kind: str, name: str, after: int, item_id: int, annotator: str, as_check: bool,
        whose: str | None,
    ) -> Any:
        """Decide what somebody said, and show the next item."""
        disagreements.adopt(
            self.store, project_id, item_id, annotator, whose or "", secrets.token_hex(16), as_check=as_check
        )
        return self.show(project_id, kind, name, after, beyond=item_id)

    @guarded
    def take_back(self, project_id: int, kind: str, name: str, after: int, item_id: int, annotator: str) -> Any:
        """Take a decision back, and show the item again."""
        disagreements.undo(self.store, project_id, item_id, annotator, secrets.token_hex(16))
        return self.show(project_id, kind, name, after, item_id=item_id)

    @guarded
    def mark(self, project_id: int, kind: str, name: str, after: int, item_id: int, is_check: bool) -> Any:
        """Use a decided item as a check or not; of one that is not decided yet, the tick counts with the decision."""
        if disagreements.look(self.store, project_id, item_id).final is None:
            return gr.skip()
        disagreements.use_as_check(self.store, project_id, item_id, is_check)
        return self.show(project_id, kind, name, after, item_id=item_id)

    def _look(self, dispute: disagreements.Dispute | None) -> list[Any]:
        """Return the updates of the card, in the order of `card`."""
        if dispute is None:
            return [None, gr.Column(visible=False), *[gr.skip()] * (9 + 2 * len(LETTERS) + len(BUTTONS))]
        item, responses = dispute.card.item, dispute.card.responses
        context, prompt = view.conversation(dispute)
        texts = [response.text for response in responses] + [""] * (len(LETTERS) - len(responses))
        written, others = view.edits(dispute), view.adoptable(dispute)
        return [
            item.id, gr.Column(visible=True), view.title(dispute), said(context), prompt,
            *(gr.Column(visible=place < len(responses)) for place in range(len(LETTERS))), *texts,
            filled(view.opinion_rows(dispute)), said(written),
            *(gr.Button(visible=word in WORDS[item.kind]) for word in BUTTONS),
            gr.Row(visible=bool(others)), gr.Dropdown(others, value=others[0][1] if others else None), item.is_check, gr.Button(visible=dispute.final is not None),
        ]
