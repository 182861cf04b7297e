"""How an answer was made: told in words, never before a blind vote, and asked for again on the page."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from chat.origin.facts import answers, facts, told
from chat.transcript import open_chat
from errors import ConfigError, NotFoundError
from storage import Project, Store
from tests.browser import open_browser, serve
from tests.openai_server import FakeWorkers, speaking_server
from tests.test_chat_tab import Room, finished_run, make_app, say

MADE_WITH = {
    "temperature": 0.8, "top_p": 0.95, "top_k": 40, "min_p": 0.0, "repetition_penalty": 1.1, "max_tokens": 256, "seed": 7,
    "system": "Be brief.", "model": "demo", "label": "Run 1 · DPO", "run": 1, "tokens": 9, "seconds": 1.25, "left_out": 2,
    "base_identity": "sha256:base", "template_hash": "sha256:template", "adapter_hash": "sha256:adapter",
}

WRITTEN = "<img src=x> | $$x$$ **b** ${y} # h [a](b) https://x.y me@x.y `c`"


def chat_with(store: Store, project: Project, is_blind: bool = False, unfinished: str = "error") -> tuple[int, int, list[int]]:
    """Store a chat with one answered question; return its number, the question's and those of the answers."""
    run_id = finished_run(store, project.id)
    chat = store.chats.create(["base:demo", f"run-{run_id}"], {}, project.id, is_blind=is_blind)
    question = store.chats.add_message(chat.id, "user", "Hi")
    made = [
        store.chats.add_message(
            chat.id, "assistant", text, side=side, model=key, settings={**MADE_WITH, "question_id": question},
            finish_reason=reason,
        )
        for side, key, text, reason in ((0, "base:demo", "Hello", "length"), (1, f"run-{run_id}", "", unfinished))
    ]
    return chat.id, question, made


@pytest.mark.parametrize("unfinished", ["error", "stopped"])
def test_only_answers_that_can_be_had_again_are_listed_the_newest_first(
    store: Store, project: Project, unfinished: str
) -> None:
    chat_id, question, (first, _) = chat_with(store, project, unfinished=unfinished)
    again = store.chats.add_message(chat_id, "user", "Again")
    more = store.chats.add_message(
        chat_id, "assistant", "Bye", side=1, model="run-1", settings={**MADE_WITH, "question_id": again}, finish_reason="stop"
    )
    assert answers(open_chat(store, project.id, chat_id)) == [
        ("Question 2, B: Run 1 · DPO", more), ("Question 1, A: Base (demo)", first),
    ]
    store.chats.add_message(chat_id, "user", "Other words", settings={"replaces": question})
    assert answers(open_chat(store, project.id, chat_id)) == []


def test_everything_an_answer_was_made_with_is_told(store: Store, project: Project) -> None:
    _, _, (first, _) = chat_with(store, project)
    said = dict(facts(told(store, first)))
    assert said["Settings"] == "temperature 0.8 · top-p 0.95 · top-k 40 · min-p 0 · repetition penalty 1.1 · longest answer 256"
    assert (said["Seed"], said["System prompt"], said["Adapter"]) == ("7", "Be brief.", "sha256:adapter")
    assert said["Model"] == "Run 1 · DPO · demo" and said["Ended"] == "cut off at the longest answer, 9 tokens in 1.2 s"
    assert f"replay {first}" in said["Number"] and "2 oldest messages" in said["Left out"]


def test_a_blind_chat_tells_nothing_before_its_vote(store: Store, project: Project) -> None:
    chat_id, question, (first, _) = chat_with(store, project, is_blind=True)
    assert answers(open_chat(store, project.id, chat_id)) == []
    with pytest.raises(ConfigError, match="after your vote"):
        told(store, first)
    store.chats.add_vote(question, "ann", "tie")
    assert told(store, first).content == "Hello"
    assert [number for _, number in answers(open_chat(store, project.id, chat_id))] == [first]
    with pytest.raises(ConfigError, match="Choose an answer"):
        told(store, None)
    with pytest.raises(NotFoundError):
        told(store, 99)


@pytest.fixture
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    store = Store(tmp_path_factory.mktemp("origin") / "data")
    with speaking_server() as server, serve(make_app(store, FakeWorkers({"demo": server}))) as address:
        with open_browser() as browser:
            served = Room(store, server, address, browser)
            served.prepare("Origin")
            yield served


@pytest.mark.browser
def test_an_answer_is_replayed_on_the_page_and_not_before_a_blind_vote(room: Room) -> None:
    with room.enter() as page:
        room.go(page)
        card = page.locator("#chat-origin")
        expect(card).to_be_hidden()
        page.locator("#chat-settings").get_by_role("button", name="Settings").click()
        page.locator("#chat-system textarea").fill(WRITTEN)
        say(page, "Who?")
        card.get_by_role("button", name="How an answer was made").click()
        expect(page.locator("#chat-origin-answer input")).to_have_value("Question 1, A: Base (demo)")
        page.locator("#chat-origin-answer input").click()
        page.get_by_role("option", name=f"Question 1, B: Run {room.run_id} · DPO").click()
        expect(page.locator("#chat-origin-facts")).to_contain_text(f"Run {room.run_id} · DPO · demo")
        expect(page.locator("#chat-origin-facts")).to_contain_text(WRITTEN)
        assert page.locator("#chat-origin-facts :is(a, img, strong, code)").count() == 0
        page.locator("#chat-replay").click()
        expect(page.locator("#chat-replay-said")).to_contain_text("The same answer came again.")
        expect(page.locator("#chat-replay-text")).to_be_hidden()
        asked = [request for request in room.server.requests if request["model"] == f"run-{room.run_id}"]
        assert len(asked) == 2 and asked[0] == asked[1]
        room.tuned.words = ["<b>Otherwise</b>"]
        page.locator("#chat-replay").click()
        expect(page.locator("#chat-replay-said")).to_contain_text("Another answer came.")
        expect(page.locator("#chat-replay-text textarea")).to_have_value("<b>Otherwise</b>")
        room.tuned.words, room.tuned.pause_seconds = ["Hello"] + [" there"] * 300, 0.1
        said = room.server.said
        page.locator("#chat-replay").click()
        assert room.server.wait(lambda: room.server.said > said + 5)
        page.locator("#chat-replay-stop").click()
        expect(page.locator("#chat-replay-said")).to_contain_text("as far as it went: it was stopped.")
        expect(page.locator("#chat-replay-text textarea")).to_have_value(re.compile("^Hello there"))
        expect(page.locator("#chat-replay-stop")).to_be_hidden()
        room.tuned.words, room.tuned.pause_seconds = ["Hello"], 0.0
        room.tuned.refuses = (500, "no memory left")
        page.locator("#chat-replay").click()
        expect(page.get_by_text("no memory left")).to_be_visible()
        expect(page.locator("#chat-replay")).to_be_enabled()
        room.tuned.refuses = None
        page.get_by_label("Blind: hide who answers until the vote").check()
        expect(page.locator("#chat-root")).to_contain_text("drawn with your first message")
        say(page, "And now?")
        expect(page.locator("#chat-vote-A")).to_be_visible()
        expect(page.locator("#chat-b [data-testid=bot]")).to_have_count(1)
        expect(page.get_by_test_id("submit-button")).to_be_visible()
        expect(card).to_be_hidden()
        page.locator("#chat-vote-A").click()
        expect(page.locator("#chat-verdict")).to_contain_text("It is final")
        expect(card).to_be_visible()
