"""The Chat tab in a real browser: streaming, stopping, starting afresh, reloading, closing, and hostile text."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import fastapi
import gradio as gr
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import open_browser, open_page, serve
from chat import tab as chat_tab
from tests.openai_server import FakeWorkers, Manner, SpeakingServer, speaking_server
from storage import Store

pytestmark = pytest.mark.browser
SLOW = [f"w{number} " for number in range(4000)]  # longer than any test waits
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script> ${alert(3)} costs $5 to $10"


def make_app(store: Store, workers: FakeWorkers) -> fastapi.FastAPI:
    """Return an app whose page has the header's list of projects and the Chat tab behind another one."""
    with gr.Blocks(analytics_enabled=False) as page:
        project = gr.Dropdown([], label="Project", elem_id="project")
        annotator = gr.Textbox("ann", label="Your name", elem_id="annotator")
        with gr.Tabs():
            with gr.Tab("Label", id="label"):
                gr.Markdown("Labels are here.")
            with gr.Tab("Chat", id="chat") as tab:
                chat_tab.build(page, tab, store, project, annotator, workers)

        def newest() -> gr.Dropdown:
            listed = store.projects.list()
            return gr.Dropdown([(each.name, each.id) for each in listed], value=listed[-1].id)

        page.load(newest, None, project, api_visibility="private", show_progress="hidden")
    return gr.mount_gradio_app(
        fastapi.FastAPI(), page, path="/", css=chat_tab.css(), footer_links=[], run_history=False, ssr_mode=False
    )


def finished_run(store: Store, project_id: int) -> int:
    run = store.runs.create(project_id, "dpo", "demo", {}, [])
    store.runs.end(run.id, "finished")
    return run.id


class Room:
    """A served Chat tab: its store, the server that answers, and the browser that looks at it."""

    def __init__(self, store: Store, server: SpeakingServer, address: str, browser: Browser) -> None:
        self.store, self.server, self.address, self.browser = store, server, address, browser

    def prepare(self, name: str) -> None:
        """Make a new project with a finished run; both models answer at once."""
        self.project = self.store.projects.ensure(name)
        self.run_id = finished_run(self.store, self.project.id)
        self.base, self.tuned = Manner(["From the ", "base"]), Manner(["From the ", "run"])
        self.server.manners.clear()
        self.server.manners.update({"base": self.base, f"run-{self.run_id}": self.tuned})
        self.server.cut = 0

    def slow_down(self) -> None:
        """Let both models answer for minutes."""
        for manner in (self.base, self.tuned):
            manner.words, manner.pause_seconds = SLOW, 0.25

    def enter(self) -> AbstractContextManager[Page]:
        """Open the page."""
        return open_page(self.address, self.browser)

    def go(self, page: Page) -> None:
        """Choose the tab and wait until it shows the project."""
        page.get_by_role("tab", name="Chat").click()
        expect(page.locator("#chat-b-model input")).to_have_value(f"Run {self.run_id} · DPO")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """One page and one browser for all tests; each test has a project of its own."""
    store = Store(tmp_path_factory.mktemp("chat") / "data")
    expect.set_options(timeout=20_000)  # a busy machine is slow, not wrong
    with speaking_server() as server, serve(make_app(store, FakeWorkers({"demo": server}))) as address:
        with open_browser() as browser:
            yield Room(store, server, address, browser)
    expect.set_options(timeout=5_000)


@pytest.fixture
def room(served: Room, request: pytest.FixtureRequest) -> Room:
    """The page, showing a new project."""
    served.prepare(request.node.name)
    return served


def say(page: Page, text: str) -> None:
    page.locator("#chat-box textarea").fill(text)
    page.locator("#chat-box textarea").press("Enter")


def test_both_sides_answer_and_a_reload_brings_the_chat_back(room: Room) -> None:
    with room.enter() as page:
        room.go(page)
        say(page, "Who are you?")
        expect(page.locator("#chat-a [data-testid=bot]")).to_have_text("From the base")
        expect(page.locator("#chat-b [data-testid=bot]")).to_have_text("From the run")
        expect(page.locator("#chat-a-note")).to_contain_text("2 tokens")
        expect(page.locator("#chat-box textarea")).to_have_value("")
        page.reload()
        room.go(page)
        expect(page.locator("#chat-a [data-testid=user]")).to_have_text("Who are you?")
        expect(page.locator("#chat-b [data-testid=bot]")).to_have_text("From the run")
        page.get_by_role("button", name="New chat").click()
        expect(page.locator("#chat-a [data-testid=user]")).to_have_count(0)
        page.reload()
        room.go(page)
        expect(page.locator("#chat-a [data-testid=user]")).to_have_count(0)


def test_stop_ends_both_answers_and_the_next_message_goes_through(room: Room) -> None:
    room.slow_down()
    with room.enter() as page:
        room.go(page)
        say(page, "Count")
        expect(page.locator("#chat-b [data-testid=bot]")).to_contain_text("w2")
        page.get_by_test_id("stop-button").click()
        expect(page.locator("#chat-a-note")).to_contain_text("Stopped")
        expect(page.locator("#chat-b-note")).to_contain_text("Stopped")
        assert room.server.wait(lambda: room.server.cut == 2, 20)
        room.base.words = room.tuned.words = ["Done"]
        say(page, "Again")
        expect(page.locator("#chat-a [data-testid=bot]")).to_have_count(2)
        expect(page.locator("#chat-a [data-testid=bot]").last).to_have_text("Done")
        expect(page.get_by_test_id("submit-button")).to_be_visible()


def test_a_new_chat_in_the_middle_of_an_answer_stays_empty(room: Room) -> None:
    room.slow_down()
    with room.enter() as page:
        room.go(page)
        say(page, "Count")
        expect(page.locator("#chat-b [data-testid=bot]")).to_contain_text("w2")
        page.get_by_role("button", name="New chat").click()
        assert room.server.wait(lambda: room.server.open == 0, 20)
        expect(page.locator("#chat-a [data-testid=user]")).to_have_count(0)
        page.wait_for_timeout(400)  # what was on its way would have arrived
        expect(page.locator("#chat-a [data-testid=user]")).to_have_count(0)
        expect(page.get_by_test_id("submit-button")).to_be_visible()


def test_leaving_the_page_ends_the_answers(room: Room) -> None:
    room.slow_down()
    with room.enter() as page:
        room.go(page)
        say(page, "Count")
        expect(page.locator("#chat-b [data-testid=bot]")).to_contain_text("w2")
        page.reload()
        assert room.server.wait(lambda: room.server.cut == 2, 20)
        room.go(page)
        expect(page.locator("#chat-a [data-testid=bot]")).to_contain_text("w2")


def test_a_side_that_fails_and_an_empty_message_are_sentences(room: Room) -> None:
    room.tuned.refuses = (500, "no memory left")
    with room.enter() as page:
        room.go(page)
        say(page, "   ")
        expect(page.get_by_text("Write a message first.")).to_be_visible()
        say(page, "Hi")
        expect(page.locator("#chat-a [data-testid=bot]")).to_have_text("From the base")
        expect(page.locator("#chat-b [data-testid=bot]")).to_contain_text("no memory left")


def test_hostile_text_is_only_text(room: Room) -> None:
    room.base.words = ["<think>let me", " see</think>", HOSTILE]
    with room.enter() as page:
        dialogs = []
        page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        room.go(page)
        say(page, HOSTILE)
        left = page.locator("#chat-a [data-testid=bot]")
        expect(left.last).to_contain_text("${alert(3)} costs $5 to $10")
        expect(left.last).not_to_contain_text("<think>")
        expect(page.get_by_text("Thinking", exact=True)).to_be_visible()
        assert dialogs == [] and page.locator("#chat-a [onerror]").count() == 0


def test_suggestions_settings_and_other_models_do_what_they_say(room: Room) -> None:
    untrained = room.store.projects.ensure("Untrained")
    room.prepare("Trained")
    assert untrained.id < room.project.id
    with room.enter() as page:
        room.go(page)
        page.get_by_text("Settings").click()
        expect(page.locator("#chat-seed input, #chat-seed textarea")).to_have_value("")
        page.locator("#chat-seed input, #chat-seed textarea").fill("41")
        page.get_by_role("button", name="What do owls eat?").click()
        expect(page.locator("#chat-b [data-testid=user]")).to_have_text("What do owls eat?")
        expect(page.locator("#chat-b-note")).to_contain_text("seed 41")
        newer = finished_run(room.store, room.project.id)
        room.server.manners[f"run-{newer}"] = Manner(["Newer"])
        page.get_by_role("tab", name="Label").click()
        page.get_by_role("tab", name="Chat").click()
        expect(page.locator("#chat-b-model input")).to_have_value(f"Run {newer} · DPO")
        expect(page.locator("#chat-b [data-testid=user]")).to_have_count(0)
        page.locator("#chat-a-model input").click()
        with page.expect_response(lambda response: response.request.method == "POST"):
            page.get_by_role("option", name=f"Run {room.run_id} · DPO", exact=True).click()
        say(page, "Hi")
        expect(page.locator("#chat-a [data-testid=bot]")).to_have_text("From the run")
        expect(page.locator("#chat-b [data-testid=bot]")).to_have_text("Newer")
        page.get_by_label("Project").click()
        page.get_by_role("option", name="Untrained").click()
        expect(page.locator("#chat-hint")).to_contain_text("Train first")
        expect(page.locator("#chat-a [data-testid=user]")).to_have_count(0)
