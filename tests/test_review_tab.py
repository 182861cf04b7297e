"""The Review tab in a real browser: figures, decisions, checks, settings, empty projects and hostile text."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import fastapi
import gradio as gr
import pytest
from playwright.sync_api import Locator, Page, expect

from review import tab as review_tab
from review.project import settings_of
from storage import Project, Store
from tests.browser import open_browser, open_page, serve

pytestmark = pytest.mark.browser
HOSTILE = "<img src=x onerror=alert(1)> ${alert(2)}"


def make_app(store: Store) -> fastapi.FastAPI:
    """Return an app whose page has the header's fields and the Review tab behind another one."""
    with gr.Blocks(analytics_enabled=False) as page:
        project = gr.Dropdown([], label="Project", elem_id="project")
        annotator = gr.Textbox("owner", label="Your name")
        with gr.Tabs():
            with gr.Tab("Label", id="label"):
                gr.Markdown("Labels are here.")
            with gr.Tab("Review", id="review") as tab:
                review_tab.build(page, tab, store, project, annotator)

        def first() -> gr.Dropdown:
            listed = store.projects.list()
            return gr.Dropdown([(each.name, each.id) for each in listed], value=listed[0].id if listed else None)

        page.load(first, None, project, api_visibility="private", show_progress="hidden")
    return gr.mount_gradio_app(
        fastapi.FastAPI(), page, path="/", css=review_tab.css(), footer_links=[], run_history=False, ssr_mode=False
    )


def add(store: Store, project: Project, number: int, said: dict[str, int | str], texts: tuple[str, ...] = ("Yes.", "No.")) -> int:
    """Store an item and what each annotator says of it: the position they prefer, or a verdict."""
    prompt_id, _ = store.prompts.add(project.id, [{"role": "user", "content": f"Question {number}? {HOSTILE}"}])
    ids = [store.responses.add(prompt_id, text)[0] for text in texts]
    item_id, _ = store.items.add(project.id, prompt_id, ids, wanted_labels=len(said))
    for who, word in said.items():
        verdict, fields = (word, {}) if isinstance(word, str) else ("chosen", {"chosen_response_id": ids[word]})
        store.labels.add(
            item_id, who, verdict, client_id=f"{item_id}-{who}", shown_response_ids=ids, comment=HOSTILE,
            reasons=["clear"], **fields,
        )
    return item_id


def add_ranking(store: Store, project: Project) -> None:
    """Store three answers that one person ranks, and for which another writes a better one."""
    item_id = add(store, project, 0, {}, ("Yes.", "No.", "Maybe."))
    ids, prompt_id = store.items.response_ids(item_id), store.items.get(item_id).prompt_id
    better, _ = store.responses.add(prompt_id, "A *better* one.", author="bob")
    shown = {"shown_response_ids": ids}
    store.labels.add(item_id, "ann", "ranked", client_id="rank-1", ranking=[[ids[2]], ids[:2]], **shown)
    store.labels.add(
        item_id, "bob", "edited", client_id="rank-2", chosen_response_id=better, rejected_response_id=ids[0], **shown
    )


class Room:
    """A served Review tab: its store, and a page that looks at it."""

    def __init__(self, store: Store, page: Page) -> None:
        self.store, self.page = store, page

    def go(self, section: str, project: str | None = None) -> None:
        """Load the page anew and open a section of the tab."""
        self.page.reload()
        expect(self.page.locator("#project input")).to_have_value("Kind answers")
        self.page.get_by_role("tab", name="Review").click()
        if project:
            self.page.locator("#project input").click()
            self.page.get_by_role("option", name=project).click()
        self.page.get_by_role("tab", name=section).click()

    def rows(self, name: str) -> Locator:
        """Return the rows of a table that are shown."""
        return self.page.locator(f"#review-{name} [role=row]:has([role=gridcell])")

    def final(self, item_id: int) -> Any:
        return self.store.labels.current_of(item_id, "", "final")


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """One store, server and page for all tests of this file; each decides items of its own."""
    store = Store(tmp_path_factory.mktemp("review-tab") / "data")
    project = store.projects.ensure("Kind answers")
    for number in range(30):
        add(store, project, number, {"ann": 0, "bob": number % 2, "cat <i>x</i>": "tie" if number % 3 else 0})
    add(store, project, 30, {"ann": 0, "bob": "flag"}, (f"**bold** {HOSTILE}", "No."))
    store.projects.ensure("Nothing yet")
    add_ranking(store, store.projects.ensure("Three answers"))
    with serve(make_app(store)) as address, open_browser() as browser:
        with open_page(address, browser) as page:
            dialogs: list[Any] = []
            page.on("dialog", lambda dialog: (dialogs.append(dialog), dialog.dismiss()))
            yield Room(store, page)
            assert dialogs == []


def test_agreement_is_shown_with_intervals_and_pairs_of_people(room: Room) -> None:
    room.go("Agreement")
    expect(room.page.locator("#review-agreement-said")).to_contain_text("31 pairs have labels, from 3 people.")
    expect(room.rows("agreement")).to_have_count(5)
    expect(room.page.locator("#review-agreement")).to_contain_text("ann and cat <i>x</i>")
    expect(room.rows("tags")).to_have_count(1)


def test_each_annotator_has_a_row(room: Room) -> None:
    room.go("Annotators")
    expect(room.rows("annotators")).to_have_count(3)
    expect(room.rows("annotators").first).to_contain_text("100% (")


def test_a_decision_is_stored_and_the_next_item_is_shown(room: Room) -> None:
    room.go("Decide")
    title = room.page.locator("#review-title")
    expect(title).to_contain_text("Item 2 · not decided yet")
    expect(room.page.locator("#review-opinions")).to_contain_text("B is better")
    expect(room.page.locator("#review-opinions")).to_contain_text(HOSTILE)
    room.page.get_by_role("button", name="B is better").click()
    expect(title).to_contain_text("Item 3 · not decided yet")
    assert room.final(2).annotator == "owner" and room.final(2).chosen_response_id == room.store.items.response_ids(2)[1]
    room.page.get_by_text("Decided (1)").click()
    expect(title).to_contain_text("Item 2 · decided: B is better")
    room.page.locator("#review-undo").click()
    expect(room.page.locator("#review-empty")).to_contain_text("Nothing was decided yet")
    assert room.final(2) is None


def test_a_row_that_is_clicked_is_shown_and_can_become_a_check(room: Room) -> None:
    room.go("Decide")
    title = room.page.locator("#review-title")
    expect(title).to_contain_text("Item 2 ·")
    room.rows("items").nth(3).get_by_role("gridcell").first.click()
    expect(title).to_contain_text(re.compile(r"Item (?!2 )\d+ ·"))  # while it changes, Gradio writes seconds there
    item_id = int(re.search(r"Item (\d+) ·", title.inner_text())[1])
    room.page.get_by_label("Use this item as a check").check()
    room.page.get_by_role("button", name="Tie").click()
    expect(title).not_to_contain_text(f"Item {item_id} ·")
    assert room.store.items.get(item_id).is_check and room.final(item_id).verdict == "tie"
    room.page.get_by_text("Decided (1)").click()
    expect(title).to_contain_text(f"Item {item_id} · decided: Tie · a check")
    room.page.locator("#review-undo").click()
    expect(room.page.get_by_test_id("toast-text")).to_contain_text("Stop using it as a check first")
    room.page.get_by_label("Use this item as a check").uncheck()
    expect(title).not_to_contain_text("a check")
    assert not room.store.items.get(item_id).is_check


def test_a_list_is_turned_a_page_at_a_time(room: Room) -> None:
    room.go("Decide")
    title, shown = room.page.locator("#review-title"), room.page.locator("#review-items")
    expect(title).to_contain_text("Item 2 ·")
    room.page.locator("#review-next").click()
    expect(title).not_to_contain_text("Item 2 ·")
    expect(room.page.locator("#review-next")).to_be_hidden()
    expect(shown).not_to_contain_text("Question 1?")
    room.page.locator("#review-first").click()
    expect(title).to_contain_text("Item 2 ·")


def test_flags_are_shown_with_comments_and_nothing_of_a_model_runs(room: Room) -> None:
    room.go("Decide")
    room.page.get_by_text("Flagged (1)").click()
    expect(room.page.locator("#review-title")).to_contain_text("Item 31 ·")
    expect(room.rows("opinions").nth(1)).to_contain_text("Flagged")
    answer = room.page.locator("#review-response-a")
    expect(answer.locator("strong")).to_have_text("bold")
    assert room.page.locator("#review-root [onerror]").count() == 0


def test_somebodys_ranking_is_taken_over(room: Room) -> None:
    room.go("Decide", "Three answers")
    title = room.page.locator("#review-title")
    expect(title).to_contain_text("not decided yet")
    expect(room.page.locator("#review-edits blockquote")).to_contain_text("A better one.")
    expect(room.page.locator("#review-response-c")).to_contain_text("Maybe.")
    expect(room.page.get_by_role("button", name="A is better")).to_be_hidden()
    expect(room.page.locator("#review-whose input")).to_have_value("ann: C > A = B")
    room.page.get_by_role("button", name="Take it over").click()
    expect(room.page.locator("#review-empty")).to_contain_text("Nothing to decide")
    room.page.get_by_text("Decided (1)").click()
    expect(title).to_contain_text("decided: C > A = B")


def test_settings_are_saved_and_what_cannot_be_is_explained(room: Room) -> None:
    room.go("Settings")
    room.page.get_by_label("Guidelines").fill("Prefer the *kind* one.")
    room.page.get_by_label("Labels per item").fill("2")
    room.page.get_by_label("Check rate").fill("0.7")
    room.page.get_by_role("button", name="Save").click()
    expect(room.page.get_by_test_id("toast-text")).to_contain_text("check_rate should be from 0 to 0.5")
    room.page.get_by_label("Check rate").fill("0.1")
    room.page.get_by_label("Reasons").fill("kind, short")
    room.page.get_by_role("button", name="Save").click()
    expect(room.page.locator("#review-saved")).to_contain_text("Saved.")
    settings = settings_of(room.store, 1)
    assert (settings.labels_per_item, settings.check_rate, settings.reasons) == (2, 0.1, ("kind", "short"))
    assert room.store.projects.by_id(1).guidelines == "Prefer the *kind* one."


def test_another_project_is_shown_when_it_is_chosen_and_an_empty_one_says_what_to_do(room: Room) -> None:
    room.go("Agreement", "Nothing yet")
    expect(room.page.locator("#review-agreement-said")).to_contain_text("Labels are given on the Label tab.")
    expect(room.rows("agreement")).to_have_count(0)
    room.page.get_by_role("tab", name="Decide").click()
    expect(room.page.locator("#review-empty")).to_contain_text("Nothing to decide")
    expect(room.page.locator("#review-item")).to_be_hidden()
    room.page.get_by_role("tab", name="Settings").click()
    expect(room.page.get_by_label("Guidelines")).to_have_value("")


@pytest.mark.parametrize("section", ["Agreement", "Annotators", "Decide", "Settings"])
def test_the_tab_fits_a_phone(room: Room, section: str) -> None:
    room.page.set_viewport_size({"width": 390, "height": 844})
    room.go(section)
    expect(room.page.get_by_role("tab", name=section)).to_have_attribute("aria-selected", "true")
    assert room.page.evaluate("document.documentElement.scrollWidth") <= 390
