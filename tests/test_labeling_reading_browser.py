"""Reading and keys in a browser: scrolling together, differences of two responses, and keys of one's own."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.sync_api import Page, expect

from labeling import tab
from storage import Store
from tests.labeling_page import ROOT, fill, press, ready, saved, text_of, word_on

pytestmark = pytest.mark.browser

DIFFERENCES = "([code, a, b]) => new Function('a', 'b', code + '; return differences(a, b)')(a, b)"


@pytest.fixture(scope="module")
def empty_page(browser):
    page = browser.new_page()
    yield page
    page.close()


def add_pair(store: Store, a: str, b: str) -> None:
    project = store.projects.ensure("Texts")
    number = len(store.projects.list()) + sum(kind["total"] for kind in store.items.counts(project.id).values())
    prompt_id, _ = store.prompts.add(project.id, [{"role": "user", "content": f"Question {number}?"}])
    store.items.add(project.id, prompt_id, [store.responses.add(prompt_id, text)[0] for text in (a, b)])


def scrolled(page: Page) -> list[int]:
    return page.evaluate("['a', 'b'].map((side) => document.querySelector('.label-card-' + side).scrollTop)")


def scroll(page: Page, side: str, by: int) -> None:
    page.evaluate(f"document.querySelector('.label-card-{side}').scrollBy(0, {by})")


def until(page: Page, places: list[int]) -> None:
    page.wait_for_function(
        "(places) => ['a', 'b'].every((side, index) =>"
        " Math.abs(document.querySelector('.label-card-' + side).scrollTop - places[index]) <= 1)",
        arg=places,
    )


def test_long_responses_scroll_together_until_the_link_is_cut_and_start_at_the_top(store, opened):
    for number in range(3):
        add_pair(store, f"{number} " + "long\n\n" * 300, f"{number} " + "longer\n\n" * 300)
    with opened() as page:
        ready(page)
        scroll(page, "a", 300)
        until(page, [300, 300])
        scroll(page, "b", -100)
        until(page, [200, 200])
        page.keyboard.press("l")
        expect(page.get_by_role("button", name="Scroll the responses together")).to_have_attribute("aria-pressed", "false")
        scroll(page, "a", 100)
        until(page, [300, 200])
        page.keyboard.press("l")
        scroll(page, "b", 50)
        until(page, [350, 250])
        press(page, "1")
        until(page, [0, 0])
        page.keyboard.press("PageDown")
        page.wait_for_function("document.querySelector('.label-card-a').scrollTop > 100")
        places = scrolled(page)
        assert places[0] == places[1]
        page.keyboard.press("PageUp")
        until(page, [0, 0])


def test_the_shorter_response_comes_back_in_step(store, opened):
    add_pair(store, "short\n\n" * 12, "long\n\n" * 300)
    with opened() as page:
        ready(page)
        short, long = ("a", "b") if text_of(page, "a").startswith("short") else ("b", "a")
        room = page.evaluate(
            f"(({{scrollHeight, clientHeight}}) => scrollHeight - clientHeight)(document.querySelector('.label-card-{short}'))"
        )
        order = (lambda one, other: [one, other]) if short == "a" else (lambda one, other: [other, one])
        assert 0 < room < 900
        scroll(page, long, 1000)
        until(page, order(room, 1000))
        scroll(page, long, -990)
        until(page, order(10, 10))


def test_differences_are_marked_word_by_word_and_stay_on_for_the_next_card(store, opened):
    hostile = '<img src=x onerror="window.pwned=1"> ${window.pwned=1} **bold**'
    for number in range(2):
        add_pair(store, f"The cat {number} sat on the mat. {hostile}", f"The dog {number} sat on a mat. {hostile}")
    with opened() as page:
        for key in ("d", "1"):
            ready(page)
            page.keyboard.press(key)
            sides = [page.locator(f".label-card-{side} .label-difference") for side in "ab"]
            for side in sides:
                expect(side).to_contain_text(hostile)
            marked = [[part.strip() for part in side.locator("del, ins").all_text_contents()] for side in sides]
            assert sorted(marked) == [["cat", "the"], ["dog", "a"]]
            expect(page.locator("#label-a")).to_be_hidden()
        ready(page)
        page.keyboard.press("d")
        expect(page.locator("#label-a strong")).to_be_visible()
        assert page.evaluate("window.pwned") is None


WORDS = st.lists(st.sampled_from(["a", "b ", "c\n", "好", "です", " ", ".", "🙂", "\n\n", "العربية "]), max_size=30).map("".join)


@given(WORDS, WORDS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_differences_lose_no_text_and_what_is_the_same_is_on_both_sides(empty_page, a, b):
    one, other = compare(empty_page, a, b)
    assert "".join(run["text"] for run in one) == a and "".join(run["text"] for run in other) == b
    same = ["".join("".join(run["text"] for run in side if run["same"]).split()) for side in (one, other)]
    assert same[0] == same[1]
    if a == b:
        assert all(run["same"] for run in one + other)


def test_differences_of_five_thousand_words_are_marked_by_words(empty_page):
    words = [f"word{number}" for number in range(5000)]
    changed = [word if number % 10 else f"other{number}" for number, word in enumerate(words)]
    one, other = compare(empty_page, " ".join(words), " ".join(changed))
    assert sum(not run["same"] for run in one) == sum(not run["same"] for run in other) == 500


def test_texts_that_share_too_little_are_told_apart_as_a_whole_and_in_an_instant(empty_page):
    a, b = (" ".join(f"{sign}{number} differs. " for number in range(25_000)) for sign in "xy")
    begun = time.monotonic()
    assert compare(empty_page, a, b) == [[{"text": a, "same": False}], [{"text": b, "same": False}]]
    assert time.monotonic() - begun < 5  # a quarter of a second on an idle machine; without a bound minutes, or no memory


def compare(page: Page, a: str, b: str) -> list[list[dict]]:
    return page.evaluate(DIFFERENCES, [(Path(tab.PAGE) / "diff.js").read_text(encoding="utf-8"), a, b])


def rebind(page: Page, sentence: str, key: str) -> None:
    page.get_by_role("button", name=re.compile(f"^{sentence}: ")).click()
    expect(page.get_by_text("Press the new key")).to_be_visible()
    page.keyboard.press(key)
    expect(page.get_by_text("Click a key to change it.")).to_be_visible()


def test_a_key_can_be_given_to_another_command_and_stays_there(store, opened):
    fill(store, pairs=6, singles=0)
    with opened() as page:
        first = ready(page)
        page.keyboard.press("?")
        rebind(page, "Skip: set it aside without a label", "x")
        rebind(page, "A is better", "j")
        expect(page.get_by_role("button", name="Skip: set it aside without a label: X. Change the key")).to_be_visible()
        expect(page.get_by_role("button", name="Both are bad: 4. Change the key")).to_be_visible()
        rebind(page, "Guidelines of this project", "d")
        expect(page.get_by_role("button", name=re.compile("^Show where A and B differ.*: none"))).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("button", name="A is better").locator("kbd:visible")).to_have_text(["J"])
        page.reload()
        ready(page)
        page.keyboard.press("1")  # means nothing now
        second = press(page, "j")
        press(page, "x")
        saved(page)
        assert [word_on(store, item) for item in (first, second)] == ["a", "skip"]
        expect(page.get_by_role("button", name="Skip")).to_have_attribute("aria-keyshortcuts", "X")


def test_presets_and_reset_set_the_answers_keys(store, opened):
    fill(store, pairs=6, singles=0)
    with opened() as page:
        shown = [ready(page)]
        page.keyboard.press("?")
        page.get_by_role("button", name="Arrows").click()
        page.keyboard.press("Escape")
        for key in ("ArrowUp", "ArrowDown"):
            shown.append(press(page, key))
        page.keyboard.press("3")
        assert ready(page) == shown[-1]
        page.keyboard.press("?")
        page.get_by_role("button", name="Reset").click()
        expect(page.get_by_role("button", name="Tie: equally good: 3, T. Change the key")).to_be_visible()
        page.get_by_role("button", name="Digits").click()
        expect(page.get_by_role("button", name="Tie: equally good: 3. Change the key")).to_be_visible()
        page.keyboard.press("Escape")
        page.keyboard.press("ArrowUp")
        assert ready(page) == shown[-1]
        press(page, "3")
        saved(page)
        assert [word_on(store, item) for item in shown] == ["tie", "both_bad", "tie"]


def test_a_digit_is_told_by_its_place_whatever_the_layout(store, opened):
    fill(store, pairs=4, singles=0)
    pressed = "(init) => dispatchEvent(new KeyboardEvent('keydown', {bubbles: true, ...init}))"
    with opened() as page:
        first = ready(page)
        page.evaluate(pressed, {"key": "&", "code": "Digit1"})  # French, without Shift
        expect(page.locator(ROOT)).not_to_have_attribute("data-item", str(first))
        second = ready(page)
        page.evaluate(pressed, {"key": "2", "code": "Digit2", "shiftKey": True})
        expect(page.locator(ROOT)).not_to_have_attribute("data-item", str(second))
        saved(page)
        labels = [store.labels.current_of(item, "Ann") for item in (first, second)]
        assert [word_on(store, item) for item in (first, second)] == ["a", "b"]
        assert [label.strength is not None for label in labels] == [False, True]


def test_the_focus_stays_in_a_panel_and_returns_when_it_closes(store, opened):
    fill(store, pairs=2, singles=0)
    with opened() as page:
        ready(page)
        opener = page.get_by_role("button", name="Guidelines")
        opener.focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog", name="Guidelines")).to_be_focused()
        page.keyboard.press("Tab")
        expect(page.locator("#label-guidelines:focus, #label-guidelines :focus")).to_have_count(1)
        page.keyboard.press("Escape")
        expect(opener).to_be_focused()
        page.keyboard.press("?")
        for _ in range(3):
            page.keyboard.press("Shift+Tab")
        expect(page.locator(".label-help :focus")).to_have_count(1)
        page.keyboard.press("Escape")
        expect(opener).to_be_focused()


# Where a paragraph's text begins and ends, as shares of its card's width.
EDGES = """(side) => {
    const card = document.querySelector('.label-card-' + side).getBoundingClientRect(), range = document.createRange();
    range.selectNodeContents(document.querySelector('#label-' + side + ' p'));
    const text = range.getBoundingClientRect();
    return [(text.left - card.left) / card.width, (text.right - card.left) / card.width];
}"""


def test_each_paragraph_begins_on_the_side_of_its_script_and_nothing_runs_out_of_its_card(store, opened):
    arabic, chinese = "هذا جواب قصير.", "猫是一种小型哺乳动物。" * 60
    add_pair(store, arabic, f"A short answer.\n\n{chinese}")
    with opened() as page:
        ready(page)
        sides = {text_of(page, side)[:7]: page.evaluate(EDGES, side) for side in "ab"}
        assert sides[arabic[:7]][0] > 0.5 and sides[arabic[:7]][1] > 0.9
        assert sides["A short"][0] < 0.15
        for side in "ab":
            card = page.locator(f".label-card-{side}")
            assert card.evaluate("(card) => card.scrollWidth <= card.clientWidth")


def test_time_on_another_tab_or_a_hidden_page_does_not_count(store, opened):
    fill(store, pairs=3, singles=0)
    with opened() as page:
        ready(page)
        begun = time.monotonic()
        item = press(page, "1")  # its clock starts after ours
        page.get_by_role("tab", name="Train").click()
        page.wait_for_timeout(1200)
        page.get_by_role("tab", name="Label").click()
        ready(page)
        for state in ("hidden", "visible"):
            page.evaluate(
                "(state) => { Object.defineProperty(document, 'visibilityState', {value: state, configurable: true});"
                " document.dispatchEvent(new Event('visibilitychange')); }",
                state,
            )
            page.wait_for_timeout(1200 if state == "hidden" else 100)
        press(page, "1")
        passed = time.monotonic() - begun  # with the press: its time counts as well
        saved(page)
        assert 0 < store.labels.current_of(item, "Ann").active_seconds < passed - 2.2
