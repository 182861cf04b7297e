"""The Chat tab in a real browser: streaming, stopping, starting afresh, reloading, closing, and hostile text."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import fastapi
import gradio as gr
import pytest
from playwright.sync_api import Browser, Page, expect

from browser import open_browser, open_page, serve
from chat import tab as chat_tab
from openai_server import FakeWorkers, Manner, SpeakingServer, speaking_server
from storage import Store

pytestmark = pytest.mark.browser
SLOW = [f"w{number} " for number in range(200)]
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script> ${alert(3)} costs $5 to $10"


def make_app(store: Store, workers: FakeWorkers) -> fastapi.FastAPI:
    """Return an app whose page has the header's list of projects and the Chat tab behind another one."""
    with gr.Blocks(analytics_enabled=False) as page:
        choices = [(each.name, each.id) for each in store.projects.list()]
        project = gr.Dropdown(choices, value=None, label="Project", elem_id="project")
        with gr.Tabs():
            with gr.Tab("Label", id="label"):
                gr.Markdown("Labels are here.")
            with gr.Tab("Chat", id="chat") as tab:
                chat_tab.build(page, tab, store, project, workers)
        page.load(lambda: choices[0][1], None, project, api_visibility="private")
    return gr.mount_gradio_app(
        fastapi.FastAPI(), page, path="/", css=chat_tab.css(), footer_links=[], run_history=False, ssr_mode=False
    )


def finished_run(store: Store) -> None:
    run = store.runs.create(store.projects.list()[0].id, "dpo", "demo", {}, [])
    store.runs.end(run.id, "finished")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


class Room:
    """A served Chat tab: its store, the server that answers, and the browser that looks at it."""

    def __init__(self, store: Store, server: SpeakingServer, address: str, browser: Browser) -> None:
        self.store, self.server, self.address, self.browser = store, server, address, browser

    def enter(self, **context):
        """Open the page."""
        return open_page(self.address, self.browser, **context)


@pytest.fixture
def room(tmp_path: Path, browser: Browser) -> Iterator[Room]:
    """A project with one finished run, and a server where both models answer at once."""
    store = Store(tmp_path / "data")
    store.projects.ensure("First")
    store.projects.ensure("Second")
    finished_run(store)
    manners = {"base": Manner(["From the ", "base"]), "run_1": Manner(["From the ", "run"]), "run_2": Manner(["Newer"])}
    with speaking_server(**manners) as server, serve(make_app(store, FakeWorkers({"demo": server}))) as address:
        yield Room(store, server, address, browser)


def go(page: Page) -> None:
    page.get_by_role("tab", name="Chat").click()
    expect(page.locator("#chat-right-model input")).to_have_value("Run 1 · DPO")


def say(page: Page, text: str) -> None:
    page.locator("#chat-box textarea").fill(text)
    page.locator("#chat-box textarea").press("Enter")


def slow_down(room: Room) -> None:
    for manner in room.server.manners.values():
        manner.words, manner.pause_seconds = SLOW, 0.05


def test_both_sides_answer_and_a_reload_brings_the_chat_back(room: Room) -> None:
    with room.enter() as page:
        go(page)
        say(page, "Who are you?")
        expect(page.locator("#chat-left [data-testid=bot]")).to_have_text("From the base")
        expect(page.locator("#chat-right [data-testid=bot]")).to_have_text("From the run")
        expect(page.locator("#chat-left-note")).to_contain_text("2 tokens")
        expect(page.locator("#chat-box textarea")).to_have_value("")
        page.reload()
        go(page)
        expect(page.locator("#chat-left [data-testid=user]")).to_have_text("Who are you?")
        expect(page.locator("#chat-right [data-testid=bot]")).to_have_text("From the run")
        page.get_by_role("button", name="New chat").click()
        expect(page.locator("#chat-left [data-testid=user]")).to_have_count(0)
        page.reload()
        go(page)
        expect(page.locator("#chat-left [data-testid=user]")).to_have_count(0)


def test_stop_ends_both_answers_and_the_next_message_goes_through(room: Room) -> None:
    slow_down(room)
    with room.enter() as page:
        go(page)
        say(page, "Count")
        expect(page.locator("#chat-right [data-testid=bot]")).to_contain_text("w2")
        page.get_by_test_id("stop-button").click()
        expect(page.locator("#chat-left-note")).to_contain_text("Stopped")
        expect(page.locator("#chat-right-note")).to_contain_text("Stopped")
        assert room.server.wait(lambda: room.server.cut == 2)
        room.server.manners["base"].words = ["Done"]
        room.server.manners["run-1"].words = ["Done"]
        say(page, "Again")
        expect(page.locator("#chat-left [data-testid=bot]")).to_have_count(2)
        expect(page.locator("#chat-left [data-testid=bot]").last).to_have_text("Done")
        expect(page.get_by_test_id("submit-button")).to_be_visible()


def test_a_new_chat_in_the_middle_of_an_answer_stays_empty(room: Room) -> None:
    slow_down(room)
    with room.enter() as page:
        go(page)
        say(page, "Count")
        expect(page.locator("#chat-right [data-testid=bot]")).to_contain_text("w2")
        page.get_by_role("button", name="New chat").click()
        assert room.server.wait(lambda: room.server.open == 0)
        expect(page.locator("#chat-left [data-testid=user]")).to_have_count(0)
        page.wait_for_timeout(400)  # what was on its way would have arrived
        expect(page.locator("#chat-left [data-testid=user]")).to_have_count(0)
        expect(page.get_by_test_id("submit-button")).to_be_visible()


def test_leaving_the_page_ends_the_answers(room: Room) -> None:
    slow_down(room)
    with room.enter() as page:
        go(page)
        say(page, "Count")
        expect(page.locator("#chat-right [data-testid=bot]")).to_contain_text("w2")
        page.reload()
        assert room.server.wait(lambda: room.server.cut == 2)
        go(page)
        expect(page.locator("#chat-left [data-testid=bot]")).to_contain_text("w2")


def test_a_side_that_fails_and_an_empty_message_are_sentences(room: Room) -> None:
    room.server.manners["run-1"].refuses = (500, "no memory left")
    with room.enter() as page:
        go(page)
        say(page, "   ")
        expect(page.get_by_text("Write a message first.")).to_be_visible()
        say(page, "Hi")
        expect(page.locator("#chat-left [data-testid=bot]")).to_have_text("From the base")
        expect(page.locator("#chat-right [data-testid=bot]")).to_contain_text("no memory left")


def test_hostile_text_is_only_text(room: Room) -> None:
    room.server.manners["base"].words = ["<think>let me", " see</think>", HOSTILE]
    with room.enter() as page:
        dialogs = []
        page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        go(page)
        say(page, HOSTILE)
        left = page.locator("#chat-left [data-testid=bot]")
        expect(left.last).to_contain_text("${alert(3)} costs $5 to $10")
        expect(left.last).not_to_contain_text("<think>")
        expect(page.get_by_text("Reasoning")).to_be_visible()
        assert dialogs == [] and page.locator("#chat-left [onerror]").count() == 0


def test_suggestions_settings_and_other_models_do_what_they_say(room: Room) -> None:
    with room.enter() as page:
        go(page)
        page.get_by_text("Settings").click()
        expect(page.locator("#chat-seed input, #chat-seed textarea")).to_have_value("")
        page.locator("#chat-seed input, #chat-seed textarea").fill("41")
        page.get_by_role("button", name="What do owls eat?").click()
        expect(page.locator("#chat-right [data-testid=user]")).to_have_text("What do owls eat?")
        expect(page.locator("#chat-right-note")).to_contain_text("seed 41")
        finished_run(room.store)
        page.get_by_role("tab", name="Label").click()
        page.get_by_role("tab", name="Chat").click()
        expect(page.locator("#chat-right-model input")).to_have_value("Run 2 · DPO")
        expect(page.locator("#chat-right [data-testid=user]")).to_have_count(0)
        page.locator("#chat-left-model input").click()
        page.get_by_role("option", name="Run 1 · DPO").click()
        say(page, "Hi")
        expect(page.locator("#chat-left [data-testid=bot]")).to_have_text("From the run")
        expect(page.locator("#chat-right [data-testid=bot]")).to_have_text("Newer")
        page.get_by_label("Project").click()
        page.get_by_role("option", name="Second").click()
        expect(page.locator("#chat-hint")).to_contain_text("Train first")
        expect(page.locator("#chat-left [data-testid=user]")).to_have_count(0)
