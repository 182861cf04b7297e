"""What goes with an answer, in a browser: strength, reasons, a comment, a better answer; and changing it later."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from labeling.answers import Answer, Edit
from labeling.settings import LabelingSettings
from tests.labeling_page import ROOT, fill, press, ready, said_on, saved, text_of, word_on

pytestmark = pytest.mark.browser

PRESSED = re.compile("true")


def button(page: Page, name: str):
    return page.locator("#label-page .label-actions").get_by_role("button", name=name, exact=True)


def press_answer(page: Page, key: str, before: int) -> int:
    """Press a key that answers the open card from a field, where the page's own keys do not work."""
    page.keyboard.press(key)
    expect(page.locator(ROOT)).not_to_have_attribute("data-item", str(before))
    return ready(page)


def test_strength_goes_with_an_answer_by_one_key_or_by_a_toggle_before_it(store, opened):
    fill(store, pairs=9, singles=0)
    with opened() as page:
        shown = [ready(page)]
        for key in ("Shift+Digit1", "Shift+Digit2", "Shift+Digit3", "Shift+Digit4", "q", "w"):
            shown.append(press(page, key))
        page.keyboard.press("-")
        expect(button(page, "Slightly")).to_have_attribute("aria-pressed", PRESSED)
        page.keyboard.press("=")
        expect(button(page, "Slightly")).to_have_attribute("aria-pressed", "false")
        shown.append(press(page, "3"))
        button(page, "Slightly").click()
        press(page, "s")  # set aside: without a strength
        saved(page)
        answers = [said_on(store, item) for item in shown]
        assert [(answer.word, answer.strength) for answer in answers] == [
            ("a", "clearly"), ("b", "clearly"), ("tie", "clearly"), ("both_bad", "clearly"), ("a", "slightly"),
            ("b", "slightly"), ("tie", "clearly"), ("skip", None),
        ]  # fmt: skip


def test_reasons_of_the_project_and_a_comment_go_with_the_answer_and_end_with_it(store, opened):
    project = fill(store, pairs=3, singles=2)
    settings = LabelingSettings(reasons=("true", "kind", "<b>short</b>"))
    store.projects.set_labeling(project, settings.as_dict())
    with opened() as page:
        first = ready(page)
        page.keyboard.press("5")
        page.keyboard.press("6")
        page.keyboard.press("5")
        button(page, "<b>short</b>").click()
        page.keyboard.press("c")
        page.keyboard.type("1 is a digit here")
        page.keyboard.press("Escape")
        expect(page.locator(".label-comment")).to_be_hidden()
        second = press(page, "1")
        expect(page.locator(".label-reasons [aria-pressed=true]")).to_have_count(0)
        press(page, "2")
        page.keyboard.press("k")
        single = ready(page, "single")
        page.keyboard.press("6")
        page.keyboard.press("c")
        page.keyboard.type("said of a single")
        page.keyboard.press("Control+Enter")
        press(page, "g")
        saved(page)
        assert said_on(store, first) == Answer("a", None, ("kind", "<b>short</b>"), "1 is a digit here")
        assert said_on(store, second) == Answer("b")
        assert said_on(store, single) == Answer("good", None, ("kind",), "said of a single")


def test_a_better_answer_is_written_from_either_response_and_is_the_answer(store, opened):
    fill(store, pairs=3, singles=0)
    with opened() as page:
        first, sides = ready(page), (text_of(page, "a"), text_of(page, "b"))
        response_ids = [response.id for response in store.items.card(first).responses]
        page.keyboard.press("e")
        field = page.get_by_role("textbox", name="The better answer")
        expect(field).to_have_value(sides[0])
        page.keyboard.press("Control+Enter")
        expect(page.locator(".label-edit-note")).to_have_text("Nothing is changed yet.")
        page.get_by_role("radio", name="B", exact=True).check()
        expect(field).to_have_value(sides[1])
        field.fill("Better ${window.pwned=1} & best")
        page.get_by_role("radio", name="A", exact=True).check()
        page.get_by_role("radio", name="B", exact=True).check()
        field.press("Escape")
        expect(page.get_by_role("dialog")).to_be_hidden()
        page.keyboard.press("e")
        expect(field).to_have_value("Better ${window.pwned=1} & best")
        second = press_answer(page, "Control+Enter", first)
        saved(page)
        label = store.labels.current_of(first, "Ann")
        b = next(one for one in response_ids if store.responses.get(one).text == sides[1])
        assert said_on(store, first) == Answer("edited", edit=Edit(b, "Better ${window.pwned=1} & best"))
        assert label.rejected_response_id == b
        assert press(page, "u") == first != second
        expect(button(page, "Better answer")).to_have_class(re.compile("was"))
        page.keyboard.press("e")
        expect(field).to_have_value("Better ${window.pwned=1} & best")
        expect(page.get_by_role("radio", name="B", exact=True)).to_be_checked()


def test_a_better_answer_larger_than_a_keepalive_request_is_saved(store, opened):
    fill(store, pairs=2, singles=0)
    with opened() as page:
        first = ready(page)
        page.keyboard.press("e")
        page.get_by_role("textbox", name="The better answer").fill("光" * 60_000)
        press_answer(page, "Control+Enter", first)
        saved(page)
        assert said_on(store, first).edit.text == "光" * 60_000


def test_flag_and_skip_are_set_aside_and_come_back(store, opened):
    fill(store, pairs=3, singles=0)
    with opened() as page:
        first = ready(page)
        second = press(page, "f")
        third = press(page, "s")
        page.keyboard.press("1")
        page.get_by_role("button", name="Bring back what I skipped").click()
        assert ready(page) in (first, second)
        saved(page)
        assert [word_on(store, item) for item in (first, second, third)] == [None, None, "a"]
        assert [row.verdict for row in store.labels.history(first)] == ["flag", "undo"]


def test_undo_shows_all_that_was_said_again_and_another_word_drops_what_depended_on_it(store, opened):
    fill(store, pairs=3, singles=0)
    with opened() as page:
        first = ready(page)
        page.keyboard.press("7")
        page.keyboard.press("c")
        page.keyboard.type("why")
        page.keyboard.press("Escape")
        press(page, "Shift+Digit1")
        saved(page)
        page.reload()
        ready(page)
        assert press(page, "z") == first
        expect(button(page, "A is better · your answer")).to_be_visible()
        expect(button(page, "Clearly")).to_have_attribute("aria-pressed", PRESSED)
        expect(button(page, "clear")).to_have_attribute("aria-pressed", PRESSED)
        expect(button(page, "Comment: why")).to_be_visible()
        press(page, "1")  # the same word: all of it stays
        saved(page)
        assert said_on(store, first) == Answer("a", "clearly", ("clear",), "why")
        assert press(page, "u") == first
        page.keyboard.press("8")  # touched: reasons stay, strength and comment go
        press(page, "2")
        saved(page)
        assert said_on(store, first) == Answer("b", None, ("clear", "concise"))


def test_my_last_labels_can_be_opened_and_changed_and_the_card_that_was_there_returns(store, opened):
    fill(store, pairs=6, singles=0)
    with opened() as page:
        first = ready(page)
        second = press(page, "1")
        third = press(page, "f")
        here = press(page, "4")
        page.keyboard.press("h")
        rows = page.locator(".label-recent li")
        expect(rows.locator(".label-recent-verdict")).to_have_text(["Both bad", "Flagged", "A is better"])
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        expect(page.locator(ROOT)).to_have_attribute("data-item", str(first))
        ready(page)
        expect(page.get_by_text("You said: A is better")).to_be_visible()
        expect(button(page, "A is better · your answer")).to_be_visible()
        assert press(page, "b") == here
        page.keyboard.press("h")
        expect(rows.locator(".label-recent-verdict")).to_have_text(["B is better", "Both bad", "Flagged"])
        rows.nth(1).get_by_role("button").click()
        expect(page.locator(ROOT)).to_have_attribute("data-item", str(third))
        assert press(page, "Escape") == here
        page.keyboard.press("h")
        rows.nth(2).get_by_role("button").click()
        expect(page.locator(ROOT)).to_have_attribute("data-item", str(second))
        ready(page)
        page.get_by_role("button", name="Keep my answer").click()
        expect(page.locator(ROOT)).to_have_attribute("data-item", str(here))
        saved(page)
        assert [word_on(store, item) for item in (first, second, third)] == ["b", "flag", "both_bad"]
        assert [row.verdict for row in store.labels.history(first)] == ["chosen", "chosen"]
        expect(page.get_by_text("2 of 6 pairs · 2 by you")).to_be_visible()


def test_my_last_labels_work_without_the_network(store, opened):
    fill(store, pairs=5, singles=0)
    with opened() as page:
        first = ready(page)
        press(page, "1")
        here = press(page, "2")
        page.context.set_offline(True)
        page.keyboard.press("h")
        page.locator(".label-recent li button").nth(1).click()
        expect(page.locator(ROOT)).to_have_attribute("data-item", str(first))
        assert press(page, "3") == here
        page.context.set_offline(False)
        saved(page)
        assert word_on(store, first) == "tie"


def test_a_repeated_item_looks_like_any_other_and_both_answers_are_kept(store, opened):
    project = fill(store, pairs=30, singles=0)
    store.projects.set_labeling(project, LabelingSettings(repeat_rate=0.5).as_dict())
    with opened() as page:
        for _ in range(30):
            key = page.locator(ROOT).get_attribute("data-key")
            if key and key.endswith("r"):
                break
            before = page.locator(ROOT).get_attribute("data-key")
            ready(page)
            page.keyboard.press("1")
            expect(page.locator(ROOT)).not_to_have_attribute("data-key", before)
        item = ready(page)
        assert key == f"{item}r"
        page.keyboard.press("2")
        expect(page.locator(ROOT)).not_to_have_attribute("data-key", key)
        ready(page)
        page.keyboard.press("u")
        expect(page.locator(ROOT)).to_have_attribute("data-key", key)
        ready(page)
        page.keyboard.press("2")
        expect(page.locator(ROOT)).not_to_have_attribute("data-key", key)
        saved(page)
        history = store.labels.history(item)
        assert word_on(store, item) == "a"
        assert [(row.role, row.verdict) for row in history] == [
            ("vote", "chosen"), ("repeat", "chosen"), ("repeat", "undo"), ("repeat", "chosen"),
        ]  # fmt: skip
