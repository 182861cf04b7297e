"""The Review tab: how the project is labelled, how good the labels are, and what its owner decides.

Everything is read when the tab is opened, "Refresh" is pressed or something is decided; nothing runs on a timer.
Text of people and models reaches the page only as values of Markdown components and of cells.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import gradio as gr

from labeling.settings import ORDERS, LabelingSettings
from review import view
from review.desk.tab import PRIVATE, DeskSection, filled, guarded, said, table
from review.project import save, settings_of
from storage import Store

AT_ONCE = {**PRIVATE, "queue": False}
# A project is chosen on every tab, but figures are for those who look at this one.
IS_OPEN = "(...inputs) => [...inputs.slice(0, -1), !!document.getElementById('review-root')?.offsetParent]"

AGREEMENT_TEXT = """Do people say the same of the same item? **1** is always, **0** is what chance would give. The interval
holds the figure you would get from other items like these in 95 of 100 cases: more items, a narrower interval."""
TAGS_TEXT = """By reason: do people name it for the same items, and do their answers agree where somebody names it?"""
ANNOTATORS_TEXT = """Shares have their 95% interval. **Chose left**: far from 50% says that the side was chosen, not the
answer. **Checks right**: answers to items whose answer is known. **Repeats the same**: the same answer when asked a
second time. **Fast**: labels in less time than the setting says; they are kept."""
ORDER_TEXT = """Did the order find more than chance? Labels that contradict the run's own preference, by how their items came.
If the share is higher than for items that came by chance, the order finds what the model has not learned yet."""
SETTINGS_TEXT = "What annotators read above the items, in Markdown: what makes an answer better, with examples of hard cases."


def build(page: gr.Blocks, tab: gr.Tab, store: Store, project: gr.Dropdown, annotator: gr.Textbox) -> ReviewTab:
    """Fill the Review tab and return it. project: the header's list, whose value is a project's id or None; annotator:
    its name."""
    made = ReviewTab(store)
    made.build(tab, project, annotator)
    return made


def css() -> str:
    """Return the tab's style sheet."""
    return Path(__file__).with_name("review.css").read_text(encoding="utf-8")


def head() -> str:
    """Return what the tab adds to the page's head: nothing."""
    return ""


class ReviewTab:
    """The components of the tab and what they do."""

    def __init__(self, store: Store) -> None:
        self.store, self.desk = store, DeskSection(store)

    def build(self, tab: gr.Tab, project: gr.Dropdown, annotator: gr.Textbox) -> None:
        """Lay the tab out and connect it."""
        self.is_open = gr.Checkbox(visible=False)
        with gr.Column(elem_id="review-root"):
            with gr.Row(elem_id="review-top"):
                self.kind = gr.Radio([("Pairs", "pair")], value="pair", show_label=False, container=False, elem_id="review-kind")
                self.refresh = gr.Button("Refresh", size="sm", elem_id="review-refresh", min_width=90)
            with gr.Tabs(elem_id="review-sections", overflow_behavior="wrap") as self.sections:
                with gr.Tab("Agreement"):
                    self._agreement()
                with gr.Tab("Annotators"):
                    self._annotators()
                with gr.Tab("Decide", id="decide"):
                    self.desk.build()
                with gr.Tab("Settings"):
                    self._settings()
        self._connect(tab, project, annotator)
        self.opened = [self.sections, *self.desk.card_outputs]

    def open_item(self, item_id: int) -> list[Any]:
        """Return the updates of `opened` that show one item, to be decided. Raises NotFoundError."""
        return [gr.Tabs(selected="decide"), *self.desk.open_item(item_id)]

    def _agreement(self) -> None:
        self.agreement_said = gr.Markdown(elem_id="review-agreement-said")
        gr.Markdown(AGREEMENT_TEXT, elem_classes="review-help")
        self.agreement = table(view.AGREEMENT_COLUMNS, "review-agreement")
        self.tags_help = gr.Markdown(TAGS_TEXT, elem_classes="review-help", visible=False)
        self.tags = table(view.TAG_COLUMNS, "review-tags")

    def _annotators(self) -> None:
        self.annotators_said = gr.Markdown(elem_id="review-annotators-said")
        gr.Markdown(ANNOTATORS_TEXT, elem_classes="review-help")
        self.annotators = table(view.ANNOTATOR_COLUMNS, "review-annotators")
        self.orders_help = gr.Markdown(ORDER_TEXT, elem_classes="review-help", visible=False)
        self.orders = table(view.ORDER_COLUMNS, "review-orders")

    def _settings(self) -> None:
        self.guidelines = gr.Textbox(
            label="Guidelines", info=SETTINGS_TEXT, lines=6, max_lines=20, elem_id="review-guidelines",
        )
        with gr.Row(elem_id="review-settings"):
            self.settings = [self._setting(spec) for spec in fields(LabelingSettings)]
        self.save = gr.Button("Save", variant="primary", elem_id="review-save")
        self.saved = gr.Markdown(elem_id="review-saved")

    def _setting(self, spec: Any) -> gr.components.Component:
        shared = {
            "label": spec.name.replace("_", " ").capitalize(), "info": spec.metadata["help"], "min_width": 230,
            "elem_id": f"review-set-{spec.name}",
        }
        if spec.name == "order":
            return gr.Dropdown(list(ORDERS), value=spec.default, filterable=False, **shared)
        if spec.name == "reasons":
            return gr.Textbox(", ".join(spec.default), lines=2, **shared)
        return gr.Number(spec.default, step=1 if spec.type == "int" else 0.05, **shared)

    def _connect(self, tab: gr.Tab, project: gr.Dropdown, annotator: gr.Textbox) -> None:
        self.desk.connect(project, self.kind, annotator)
        chosen, desk = self.desk.chosen, self.desk.outputs
        figures = [
            self.agreement_said, self.agreement, self.tags_help, self.tags,
            self.annotators_said, self.annotators, self.orders_help, self.orders,
        ]
        measured = {
            "fn": self.measure, "inputs": [project, self.kind], "outputs": figures,
            "api_visibility": "private", "show_progress": "minimal",
            "show_progress_on": [self.agreement_said, self.annotators_said],
        }
        project.change(self.load, project, [self.guidelines, *self.settings, self.saved], **AT_ONCE)
        project.change(
            self.follow, [*chosen, self.is_open], [self.kind, *desk, *figures], js=IS_OPEN, **PRIVATE
        )
        gr.on(
            [tab.select, self.refresh.click], self.open, [*chosen, self.desk.item], [self.kind, *desk], **PRIVATE
        ).then(**measured)
        self.kind.input(self.desk.show, chosen, desk, **PRIVATE).then(**measured)
        self.save.click(self.keep, [project, self.guidelines, *self.settings], [self.saved, *self.settings], **PRIVATE)

    @guarded
    def load(self, project_id: int | None) -> Any:
        """Show the settings of a project."""
        if project_id is None:
            return ["", *self._values(LabelingSettings()), ""]
        chosen = self.store.projects.by_id(project_id)
        return [chosen.guidelines, *self._values(settings_of(self.store, project_id)), ""]

    @guarded
    def keep(self, project_id: int | None, guidelines: str, *values: Any) -> Any:
        """Save the settings."""
        names = [spec.name for spec in fields(LabelingSettings)]
        settings = save(self.store, project_id, guidelines, dict(zip(names, values)))
        return ["Saved. Pages that are open take it up with their next items.", *self._values(settings)]

    @guarded
    def follow(self, project_id: int | None, kind: str, name: str, is_open: bool) -> Any:
        """Show another project, if the tab is looked at."""
        if not is_open:
            return gr.skip()
        shown = view.kinds_of(self.store, project_id, kind)[1]
        return [*self.open(project_id, kind, name), *self.measure(project_id, shown)]

    @guarded
    def open(self, project_id: int | None, kind: str, name: str, item_id: int | None = None) -> Any:
        """Show a project's kinds of items, and what there is to decide; an item of it that is open stays open."""
        choices, kind = view.kinds_of(self.store, project_id, kind)
        if item_id is not None and self.store.items.get(item_id).project_id != project_id:
            item_id = None
        return [
            gr.Radio(choices, value=kind, visible=len(choices) > 1),
            *self.desk.show(project_id, kind, name, item_id=item_id),
        ]

    @guarded
    def measure(self, project_id: int | None, kind: str) -> Any:
        """Show how far people agree and how each of them labels."""
        found = view.agreement_view(self.store, project_id, kind)
        people = view.annotators_view(self.store, project_id)
        return [
            said(found.sentence), filled(found.rows), gr.Markdown(visible=bool(found.tags)), filled(found.tags),
            said(people.sentence), filled(people.rows), gr.Markdown(visible=bool(people.orders)), filled(people.orders),
        ]

    def _values(self, settings: LabelingSettings) -> list[Any]:
        return [*(getattr(settings, spec.name) for spec in fields(settings) if spec.name != "reasons"), ", ".join(settings.reasons)]
