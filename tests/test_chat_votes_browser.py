"""Voting in a real browser: named and blind, thumbs, better answers, questions asked anew, more models, old chats."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from storage import Store
from tests.browser import open_browser, serve
from tests.openai_server import FakeWorkers, Manner, speaking_server
from tests.test_chat_tab import Room, finished_run, make_app, say

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    store = Store(tmp_path_factory.mktemp("votes") / "data")
    with speaking_server() as server, serve(make_app(store, FakeWorkers({"demo": server}))) as address:
        with open_browser() as browser:
            yield Room(store, server, address, browser)


@pytest.fixture
def room(served: Room, request: pytest.FixtureRequest) -> Room:
    served.prepare(request.node.name)
    return served


def answered(page: Page, count: int = 1) -> None:
    """Wait until both sides have given so many answers to the end."""
    for side in "ab":
        expect(page.locator(f"#chat-{side} [data-testid=bot]")).to_have_count(count)
    expect(page.get_by_test_id("submit-button")).to_be_visible()


def texts(room: Room) -> list[tuple[str, list[str]]]:
    """Return what was said of the project's answers, the better one first."""
    return [
        (row["said"], [each["text"] for each in sorted(row["responses"], key=lambda each: not each["chosen"])])
        for row in room.store.labels.judged(room.project.id)
    ]


def test_a_named_vote_is_a_label_and_the_chat_goes_on_from_the_better_answer(room: Room) -> None:
    with room.enter() as page:
        room.go(page)
        expect(page.locator("#chat-ballot")).to_be_hidden()
        say(page, "First?")
        answered(page)
        page.locator("#chat-vote-B").click()
        expect(page.locator("#chat-verdict")).to_contain_text(f"B (Run {room.run_id} · DPO) is better")
        assert texts(room) == [("chosen", ["From the run", "From the base"])]
        say(page, "Second?")
        answered(page, 2)
        told = room.server.requests[-1]["messages"]
        assert [message["content"] for message in told] == ["First?", "From the run", "Second?"]
        page.locator("#chat-vote-tie").click()
        expect(page.locator("#chat-verdict")).to_contain_text("equally good")
        page.reload()
        room.go(page)
        expect(page.locator("#chat-verdict")).to_contain_text("equally good")


def test_a_blind_chat_names_its_models_after_the_vote_only(room: Room) -> None:
    with room.enter() as page:
        room.go(page)
        page.get_by_label("Blind: hide who answers until the vote").check()
        expect(page.locator("#chat-hint")).to_contain_text("drawn with your first message, and shown after your vote")
        for side in "ab":  # the lists are in an order of their own, and nobody has a side yet
            expect(page.locator(f"#chat-{side}-model").get_by_label("Takes part")).to_be_visible()
        say(page, "Who?")
        answered(page)
        root = page.locator("#chat-root")
        expect(page.locator("#chat-a-model")).to_be_hidden()
        expect(page.locator("#chat-a-name")).to_have_text("A")
        expect(root).not_to_contain_text("DPO")
        expect(root).not_to_contain_text("tokens/s")
        page.locator("#chat-library").get_by_text("Conversations").click()
        expect(page.locator("#chat-json")).to_be_disabled()  # the file names the models
        listed = page.locator("#chat-list tbody tr")
        expect(listed.filter(has_text="hidden until the vote")).to_have_count(1)
        page.locator("#chat-vote-A").click()
        expect(page.locator("#chat-verdict")).to_contain_text("It is final")
        kept = room.store.chats.list(room.project.id)[0]
        expected = {"base:demo": "Base (demo)", f"run-{room.run_id}": f"Run {room.run_id} · DPO"}
        for letter, key in zip("AB", kept.models):
            expect(page.locator(f"#chat-{letter.lower()}-name")).to_have_text(f"{letter}: {expected[key]}")
        expect(page.locator("#chat-vote-B")).to_be_disabled()
        expect(page.locator("#chat-json")).to_be_enabled()
        expect(listed.filter(has_text=", ".join(expected[key] for key in kept.models))).to_have_count(1)
        say(page, "And now?")
        expect(page.locator("#chat-a-name")).to_have_text("A")
        answered(page)
        assert room.store.chats.list(room.project.id)[0].id != kept.id


def test_a_vote_need_not_wait_for_the_answers(room: Room) -> None:
    room.slow_down()
    with room.enter() as page:
        room.go(page)
        say(page, "Count")
        expect(page.locator("#chat-b [data-testid=bot]")).to_contain_text("w2")
        page.locator("#chat-vote-A").click()
        expect(page.locator("#chat-verdict")).to_contain_text("A (Base (demo)) is better")
        page.get_by_test_id("stop-button").click()
        answered(page)
        assert len(room.store.chats.votes(room.store.chats.list(room.project.id)[0].id)) == 1
        assert texts(room) == []  # broken off: no example to learn from


def test_thumbs_and_better_answers_are_labels(room: Room) -> None:
    room.base.words = ["<think>hm</think>", "From the base"]
    with room.enter() as page:
        room.go(page)
        say(page, "Hi")
        expect(page.locator("#chat-a [data-testid=bot]").last).to_have_text("From the base")
        answered_b = page.locator("#chat-b")
        answered_b.get_by_label("Dislike", exact=True).click()
        expect(page.get_by_text("Labelled bad.")).to_be_visible()
        assert texts(room) == [("bad", ["From the run"])]
        page.reload()
        room.go(page)
        expect(page.locator("#chat-b").get_by_label("Disliked", exact=True)).to_be_visible()
        expect(page.locator("#chat-a").get_by_label("Disliked", exact=True)).to_have_count(0)
        page.locator("#annotator input, #annotator textarea").fill(" ")
        page.locator("#chat-a").get_by_label("Like", exact=True).last.click()
        expect(page.get_by_text("Write your name at the top")).to_be_visible()
        page.locator("#annotator input, #annotator textarea").fill("ann")
        expect(page.locator("#chat-b").get_by_label("Disliked", exact=True)).to_be_visible()
        expect(page.locator("#chat-a").get_by_label("Liked", exact=True)).to_have_count(0)
        buttons = page.locator("#chat-a .message-buttons-left").last
        buttons.get_by_label("Edit").click()
        page.locator("#chat-a textarea").last.fill("Much better")
        buttons.get_by_label("Submit").click()
        expect(page.get_by_text("Kept: your text is labelled better")).to_be_visible()
        better = [each for each in texts(room) if each[0] == "edited"]
        assert [said[0] for _, said in better] == ["<think>hm</think>Much better"] and "From the base" in better[0][1][1]
        expect(page.locator("#chat-a [data-testid=bot]").last).to_have_text("From the base")


def test_a_question_is_asked_once_more_and_in_other_words(room: Room) -> None:
    with room.enter() as page:
        room.go(page)
        say(page, "First?")
        answered(page)
        room.base.words = ["Another"]
        page.locator("#chat-b").get_by_label("Retry").click()
        expect(page.locator("#chat-a [data-testid=bot]")).to_have_text("Another")
        answered(page)
        edit = page.locator("#chat-a .message-buttons-right").first
        edit.get_by_label("Edit").click()
        page.locator("#chat-a textarea").first.fill("   ")
        edit.get_by_label("Submit").click()
        expect(page.get_by_text("Write a message first.")).to_be_visible()
        expect(page.locator("#chat-a [data-testid=user]")).to_have_text("First?")
        edit.get_by_label("Edit").click()
        page.locator("#chat-a textarea").first.fill("Other words?")
        edit.get_by_label("Submit").click()
        expect(page.locator("#chat-b [data-testid=user]")).to_have_text("Other words?")
        answered(page)
        asked = [request["messages"][-1]["content"] for request in room.server.requests[-6:]]
        assert asked == ["First?"] * 4 + ["Other words?"] * 2
        seeds = {request["seed"] for request in room.server.requests[-6:-2]}
        assert len(seeds) == 2  # a retry draws anew


def test_a_third_model_answers_and_the_best_of_three_beats_each(room: Room) -> None:
    more = finished_run(room.store, room.project.id)
    room.server.manners[f"run-{more}"] = Manner(["From the newest"])
    with room.enter() as page:
        page.get_by_role("tab", name="Chat").click()
        expect(page.locator("#chat-b-model input")).to_have_value(f"Run {more} · DPO")
        expect(page.locator("#chat-c")).to_be_hidden()
        page.get_by_role("button", name="Add a model").click()
        expect(page.locator("#chat-c-model input")).to_have_value(f"Run {room.run_id} · DPO")
        say(page, "Hi")
        expect(page.locator("#chat-c [data-testid=bot]")).to_have_text("From the run")
        answered(page)
        page.locator("#chat-vote-C").click()
        expect(page.locator("#chat-verdict")).to_contain_text("C (Run")
        assert sorted(said[1] for _, said in texts(room)) == ["From the base", "From the newest"]
        assert {said[0] for _, said in texts(room)} == {"From the run"}


def test_conversations_are_found_named_opened_and_taken_out(room: Room) -> None:
    with room.enter() as page:
        room.go(page)
        for question in ("About tea?", "About owls?"):
            say(page, question)
            answered(page)
            page.get_by_role("button", name="New chat").click()
            expect(page.locator("#chat-a [data-testid=user]")).to_have_count(0)
        page.locator("#chat-library").get_by_text("Conversations").click()
        rows = page.locator("#chat-list tbody tr")
        expect(rows.filter(has_text="About owls?")).to_have_count(1)
        expect(rows.filter(has_text="About owls?")).to_contain_text(f"Base (demo), Run {room.run_id} · DPO")
        page.locator("#chat-search textarea, #chat-search input").fill("TEA")
        expect(rows.filter(has_text="About owls?")).to_have_count(0)
        page.locator("#chat-search textarea, #chat-search input").fill("TEA and biscuits")
        expect(page.get_by_text("No conversation holds all of these words")).to_be_visible()
        page.locator("#chat-search textarea, #chat-search input").fill("TEA")
        expect(rows.filter(has_text="About tea?")).to_have_count(1)
        page.locator("#chat-list [data-testid=cell-0-1]").filter(visible=True).click()
        expect(page.locator("#chat-a [data-testid=user]")).to_have_text("About tea?")
        page.locator("#chat-rename textarea, #chat-rename input").fill("Kitchen talk")
        page.locator("#chat-rename-button").click()
        expect(rows.filter(has_text="Kitchen talk")).to_have_count(1)
        with page.expect_download() as taken:
            page.locator("#chat-json").click()
        told = json.loads(taken.value.path().read_text(encoding="utf-8"))
        assert [turn["question"] for turn in told["turns"]] == ["About tea?"]
        assert [answer["text"] for answer in told["turns"][0]["answers"]] == ["From the base", "From the run"]
        assert re.fullmatch(r"\d+", str(told["turns"][0]["answers"][0]["settings"]["seed"]))
        with page.expect_download() as taken:
            page.locator("#chat-markdown").click()
        assert "## You\n\nAbout tea?" in taken.value.path().read_text(encoding="utf-8")


def test_a_vote_is_on_what_the_page_shows_though_the_chat_has_gone_on_elsewhere(room: Room) -> None:
    with room.enter() as page:
        room.go(page)
        say(page, "First?")
        answered(page)
        chat = room.store.chats.list(room.project.id)[0]
        shown = room.store.chats.messages(chat.id)[0].id
        room.store.chats.add_message(chat.id, "user", "Asked on another page")
        page.locator("#chat-vote-A").click()
        expect(page.locator("#chat-vote-A")).to_be_enabled()
        for _ in range(600):
            if room.store.chats.votes(chat.id):
                break
            page.wait_for_timeout(50)
        assert [vote.question_id for vote in room.store.chats.votes(chat.id)] == [shown]
        page.locator("#chat-a").get_by_label("Like", exact=True).click()
        expect(page.get_by_text("gone on on another page")).to_be_visible()


def test_another_name_finds_its_own_chat_and_the_first_one_finds_its_own_again(room: Room) -> None:
    with room.enter() as page:
        room.go(page)
        say(page, "Of ann")
        answered(page)
        name = page.locator("#annotator input, #annotator textarea")
        name.fill("bob")
        name.press("Enter")
        expect(page.locator("#chat-a [data-testid=user]")).to_have_count(0)
        say(page, "Of bob")
        answered(page)
        name.fill("ann")
        name.blur()
        expect(page.locator("#chat-a [data-testid=user]")).to_have_text("Of ann")
        name.fill("")
        name.blur()
        page.wait_for_timeout(300)
        expect(page.locator("#chat-a [data-testid=user]")).to_have_text("Of ann")
