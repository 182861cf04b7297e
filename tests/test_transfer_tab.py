"""The Data tab in a real browser: bring in, generate over a reload, take out, and hostile text."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import fastapi
import gradio as gr
import pytest
from playwright.sync_api import Page, expect

from tests.browser import open_browser, open_page, serve
from tests.completion_server import CompletionServer, Local
from storage import Store
from storage.backup import restore
from transfer import desk
from transfer import tab as data_tab
from transfer.reading.source import open_source

pytestmark = pytest.mark.browser
HOSTILE = "<img src=x onerror=alert(1)> ${alert(2)}"


def make_app(store: Store, workers: Local) -> fastapi.FastAPI:
    """Return an app whose page has the header's list of projects and the Data tab behind another one."""
    with gr.Blocks(analytics_enabled=False) as page:
        project = gr.Dropdown([], label="Project", elem_id="project")
        with gr.Tabs():
            with gr.Tab("Label", id="label"):
                gr.Markdown("Labels are here.")
            with gr.Tab("Data", id="data") as tab:
                data_tab.build(page, tab, store, project, workers)  # type: ignore[arg-type]

        def first() -> gr.Dropdown:
            listed = store.projects.list()
            return gr.Dropdown([(each.name, each.id) for each in listed], value=listed[0].id if listed else None)

        page.load(first, None, project, api_visibility="private", show_progress="hidden")
    return gr.mount_gradio_app(
        fastapi.FastAPI(), page, path="/", css=data_tab.css(), footer_links=[], run_history=False, ssr_mode=False
    )


class Room:
    """A served Data tab: its store, the server that answers, and a page that looks at it."""

    def __init__(self, store: Store, server: CompletionServer, page: Page, folder: Path) -> None:
        self.store, self.server, self.page, self.folder = store, server, page, folder

    def go(self) -> None:
        """Choose the tab and wait until it shows the project."""
        expect(self.page.locator("#project input")).not_to_have_value("")  # the list is filled after the page is there
        self.page.get_by_role("tab", name="Data").click()
        expect(self.page.locator("#data-figures dd")).to_have_count(4)

    def choose_file(self, name: str, rows: list[Any]) -> None:
        """Put a file of JSON lines into the file box."""
        path = self.folder / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        self.page.locator("#data-file input[type=file]").set_input_files(path)
        expect(self.page.locator("#data-file")).to_contain_text(path.stem)

    def figure(self, number: int) -> Any:
        """Return one of the four counts: prompts, pairs, single answers, labels."""
        return self.page.locator("#data-figures dd").nth(number)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """One store, server and page for all tests of this file, which build on each other's projects by name only."""
    folder = tmp_path_factory.mktemp("data-tab")
    store, server = Store(folder / "data"), CompletionServer()
    store.projects.ensure("First")
    with serve(make_app(store, Local(server))) as address, open_browser() as browser:
        with open_page(address, browser) as page:
            yield Room(store, server, page, folder)
    server.close()


def choose(page: Page, name: str) -> None:
    """Choose a project in the header's list."""
    page.locator("#project input").click()
    page.get_by_role("option", name=name, exact=True).click()


def pair(number: int) -> dict[str, str]:
    return {"prompt": f"Question {number}?", "chosen": f"Yes {number}.", "rejected": f"No {number}."}


def test_a_file_goes_into_a_new_project_which_is_then_chosen_and_comes_out_again(room: Room) -> None:
    room.go()
    room.choose_file("pairs.jsonl", [pair(number) for number in range(7)])
    room.page.get_by_label("Name of a new project").fill("Pairs <b>x</b>")
    room.page.locator("#data-import").click()
    expect(room.page.locator("#data-import-report")).to_contain_text("7 rows, 7 new pairs, 7 new labels")
    expect(room.page.locator("#project input")).to_have_value("Pairs <b>x</b>")
    expect(room.figure(3)).to_have_text("7")
    room.page.locator("#data-export").click()
    expect(room.page.locator("#data-export-report")).to_contain_text("7 rows")
    with room.page.expect_download() as download:
        room.page.locator("#data-download").click()
    written = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert download.value.suggested_filename == "Pairs-b-x-b-trl-preference.jsonl"
    assert [json.loads(line)["chosen"][0]["content"] for line in written] == [f"Yes {number}." for number in range(7)]


def test_a_broken_file_is_explained_in_plain_text_and_nothing_of_it_runs(room: Room) -> None:
    dialogs: list[Any] = []
    room.page.on("dialog", lambda dialog: (dialogs.append(dialog), dialog.dismiss()))
    room.page.reload()
    room.go()
    broken = {"prompt": [{"role": HOSTILE, "content": "x"}], "chosen": "a", "rejected": "b"}
    room.choose_file("broken.jsonl", [pair(1), broken])
    room.page.locator("#data-import").click()
    toast = room.page.get_by_test_id("toast-text")
    expect(toast).to_contain_text("broken.jsonl: nothing was stored; line 2")
    expect(toast).to_contain_text(HOSTILE)
    assert toast.locator("img").count() == 0 and dialogs == []
    assert room.store.projects.list()[0].name == "First" and room.store.prompts.count(1) == 0


def test_written_prompts_are_answered_in_the_background_and_a_reload_finds_it_running(room: Room) -> None:
    released = threading.Event()

    def some_at_once(body: dict[str, Any]) -> str:
        if body["messages"][-1]["content"] not in ("Ask 0", "Ask 1", "Ask 2"):
            released.wait(120)
        return f"{HOSTILE} {body['seed']}"

    room.server.answer = some_at_once
    room.page.reload()
    room.go()
    room.page.get_by_label("Prompts", exact=True).fill("\n".join(f"Ask {number}" for number in range(40)))
    room.page.locator("#data-write").click()
    expect(room.page.locator("#data-write-report")).to_contain_text("40 new prompts")
    expect(room.figure(0)).to_have_text("40")
    room.page.locator("#data-generate").click()
    report = room.page.locator("#data-generate-report")
    expect(report).to_contain_text("6 of 80 responses")
    room.page.reload()
    room.go()
    expect(report).to_contain_text("6 of 80 responses")
    expect(room.figure(1)).to_have_text("3")
    room.page.locator("#data-cancel").click()
    expect(report).to_contain_text("Cancelled; kept: 6 new responses and 3 new pairs.")
    expect(room.page.locator("#data-generate")).to_be_enabled()
    released.set()


def test_a_file_is_shown_before_it_comes_in_and_its_columns_can_be_changed(room: Room) -> None:
    room.page.reload()
    room.go()
    path = room.folder / "odd.csv"
    path.write_text("text;good one;bad one\nWhat is 1+1?;Two <b>.;Three.\nWhat is 2+2?;Four.;Five.\n", encoding="utf-8")
    room.page.locator("#data-file input[type=file]").set_input_files(path)
    rows = room.page.locator("#data-preview-rows")
    expect(rows).to_contain_text("of no format known here")
    room.page.locator("#data-format input").click()
    room.page.get_by_role("option", name="trl-preference: TRL preference: prompt, chosen, rejected").click()
    expect(rows).to_contain_text("read as trl-preference")
    room.page.locator("#data-columns button").first.click()
    for number, column in enumerate(("text", "good one", "bad one")):
        # Its own list: that of the box before may still be fading out. Typing would need a moment before Enter.
        box = room.page.locator(f"#data-column-{number} input")
        box.click()
        room.page.locator(f"#{box.get_attribute('aria-controls')}").get_by_role("option", name=column, exact=True).click()
        expect(rows).to_contain_text(f"{column} is taken for")
    expect(rows).to_contain_text("2 of its 2 rows can be used")
    expect(rows.locator("mark").first).to_have_text("better")
    expect(rows).to_contain_text("Two <b>.")
    room.page.get_by_label("Name of a new project").fill("Odd columns")
    room.page.locator("#data-import").click()
    expect(room.page.locator("#data-import-report")).to_contain_text("2 rows, 2 new pairs, 2 new labels")
    [label, _] = room.store.labels.judged(room.store.projects.get("Odd columns").id)
    assert [each["text"] for each in label["responses"] if each["chosen"]] == ["Two <b>."]


def test_good_rows_are_kept_when_asked_and_the_broken_ones_offered(room: Room) -> None:
    room.page.reload()
    room.go()
    room.choose_file("half.jsonl", [pair(1), {**pair(2), "chosen": 3}, pair(3)])
    expect(room.page.locator("#data-preview-rows")).to_contain_text("line 2: the field 'chosen'")
    room.page.get_by_label("Name of a new project").fill("Half")
    room.page.get_by_label("Store good rows even if others are broken").check()
    room.page.locator("#data-import").click()
    expect(room.page.locator("#data-import-report")).to_contain_text("2 new pairs")
    with room.page.expect_download() as download:
        room.page.locator("#data-bad-rows").click()
    [line] = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["place"] == "line 2"


def test_other_kinds_of_files_and_a_copy_of_everything_can_be_taken(room: Room) -> None:
    room.page.reload()
    room.go()
    room.page.get_by_label("Name of a new project").fill("Out")
    room.choose_file("out.jsonl", [pair(number) for number in range(3)])
    room.page.locator("#data-import").click()
    expect(room.page.locator("#data-import-report")).to_contain_text("3 new pairs")
    expect(room.page.locator("#project input")).to_have_value("Out")
    for kind, suffix, ending in (("labels", "CSV", "Out-labels.csv"), ("dataset", "Parquet", "Out-dataset.zip")):
        room.page.locator("#data-export-kind").get_by_label(f"{kind}:").check()
        room.page.locator("#data-export-suffix").get_by_label(suffix).check()
        room.page.locator("#data-export").click()
        expect(room.page.locator("#data-export-report")).to_contain_text(f"as {kind} in {ending}")
        with room.page.expect_download() as download:
            room.page.locator("#data-download").click()
        assert download.value.suggested_filename == ending
    room.page.locator("#data-copy").click()
    expect(room.page.locator("#data-copy-report")).to_contain_text("labels, all that belongs to them")
    expect(room.page.locator("#data-copy-download")).to_contain_text("kB")
    with room.page.expect_download() as download:
        room.page.locator("#data-copy-download").click()
    restored = restore(Path(download.value.path()), room.folder / "restored")
    assert "Out" in {project.name for project in Store(Path(restored.folder)).projects.list()}


def test_several_models_answer_and_are_shown_against_each_other(room: Room) -> None:
    room.server.answer = lambda body: f"{body['model']} {body['seed']}"
    room.page.reload()
    room.go()
    room.page.get_by_label("Name of a new project").fill("Two models")
    room.page.get_by_label("Prompts", exact=True).fill("One?\nTwo?")
    room.page.locator("#data-write").click()
    expect(room.page.locator("#project input")).to_have_value("Two models")
    models = room.page.locator("#data-model input")
    models.fill(f"other@{room.server.endpoint.base_url}")
    models.press("Enter")
    models.press("Escape")
    room.page.locator("#data-pairing button").first.click()
    room.page.get_by_label("different models").check()
    room.page.locator("#data-generate").click()
    expect(room.page.locator("#data-generate-report")).to_contain_text("4 new pairs")
    project = room.store.projects.get("Two models")
    for prompt in room.store.prompts.list(project.id):
        assert {each.model.partition("@")[0] for each in room.store.responses.of_prompt(prompt.id)} == {"demo", "other"}


def test_what_was_done_for_one_project_is_not_said_of_another(room: Room) -> None:
    room.page.reload()
    room.go()
    room.page.get_by_label("Name of a new project").fill("Here")
    room.choose_file("here.jsonl", [pair(number) for number in range(2)])
    room.page.locator("#data-import").click()
    expect(room.page.locator("#data-import-report")).to_contain_text("went into 'Here'")
    room.page.locator("#data-generate").click()
    expect(room.page.locator("#data-generate-report")).to_contain_text("new pairs")
    choose(room.page, "First")
    expect(room.page.locator("#data-import-report")).not_to_contain_text("Here")
    expect(room.page.locator("#data-generate-report")).not_to_contain_text("pairs")
    choose(room.page, "Here")
    expect(room.page.locator("#data-import-report")).to_contain_text("went into 'Here'")
    expect(room.page.locator("#data-generate-report")).to_contain_text("new pairs")


def test_a_preview_goes_when_what_is_chosen_now_cannot_be_read(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.page.reload()
    room.go()
    path = room.folder / "hub.jsonl"
    path.write_text(json.dumps(pair(1)) + "\n", encoding="utf-8")
    # Two data sets, of a hub that has only the first.
    found = {"hub:some/first": str(path)}
    monkeypatch.setattr(desk, "open_source", lambda wanted: open_source(found.get(wanted, wanted.replace("hub:", "/nothing/"))))
    hub = room.page.locator("#data-hub input, #data-hub textarea")
    hub.fill("some/first")
    hub.press("Enter")
    expect(room.page.locator("#data-preview-rows")).to_contain_text("Question 1?")
    hub.fill("some/second")
    hub.press("Enter")
    expect(room.page.get_by_test_id("toast-text").first).to_contain_text("nothing")
    expect(room.page.locator("#data-preview")).to_be_hidden()
    room.page.locator("#data-file input[type=file]").set_input_files(path)
    expect(room.page.get_by_test_id("toast-text").filter(has_text="Both a file and a data set").first).to_be_visible()
    expect(room.page.locator("#data-preview")).to_be_hidden()
    hub.fill("")
    hub.press("Enter")
    expect(room.page.locator("#data-preview-rows")).to_contain_text("Question 1?")


def test_the_tab_fits_a_phone(room: Room) -> None:
    room.page.set_viewport_size({"width": 390, "height": 844})
    assert room.page.evaluate("document.documentElement.scrollWidth") <= 390
