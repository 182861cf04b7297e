"""Rankings in a browser: responses are ranked by keys or buttons, and nothing moves while that is done."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from storage import Store
from tests.labeling_page import ROOT, boxes, fill, press, ready, resting, said_on, saved, text_of, word_on

pytestmark = pytest.mark.browser

CARDS = "#label-responses > .label-card:visible"


def shown_ids(store: Store, page: Page, item: int) -> list[int]:
    """Return the ids of the responses in the order they are shown, by their texts."""
    texts = {response.text: response.id for response in store.items.card(item).responses}
    return [texts[text_of(page, place)] for place in "abcdef"[: len(texts)]]


def ranking_on(store: Store, item: int) -> list[set[int]]:
    """Return the stored tiers, best first; the order within one means nothing."""
    return [set(tier) for tier in said_on(store, item).ranking]


def ranks(page: Page) -> list[str]:
    return [card.get_attribute("data-rank") for card in page.locator(CARDS).all()]


def test_responses_are_ranked_by_keys_and_the_last_one_is_placed_by_itself(store, opened):
    fill(store, pairs=0, singles=0, rankings=3, ranked=4)
    with opened() as page:
        first = ready(page, "ranking")
        one, two, three, four = shown_ids(store, page, first)
        page.keyboard.press("3")
        page.keyboard.press("3")  # said already
        page.keyboard.press("1")
        assert ranks(page) == ["2nd", "", "1st", ""]
        page.keyboard.press("Backspace")
        assert ranks(page) == ["", "", "1st", ""]
        page.keyboard.press("4")
        second = press(page, "2")
        assert ranks(page) == ["", "", "", ""]
        shown = shown_ids(store, page, second)
        page.get_by_role("button", name="Response 2", exact=True).click()
        press(page, "Enter")  # the button does not have the focus
        saved(page)
        assert ranking_on(store, first) == [{three}, {four}, {two}, {one}]
        assert ranking_on(store, second) == [{shown[1]}, {*shown} - {shown[1]}]
        expect(page.get_by_text("2 of 3 rankings · 2 by you")).to_be_visible()


def test_undo_shows_the_old_ranking_until_another_begins(store, opened):
    fill(store, pairs=0, singles=0, rankings=2, ranked=3)
    with opened() as page:
        first = ready(page, "ranking")
        one, two, three = shown_ids(store, page, first)
        page.keyboard.press("2")
        press(page, "Enter")
        assert press(page, "Backspace") == first
        assert ranks(page) == ["2nd", "1st", "2nd"]
        page.keyboard.press("7")
        press(page, "Enter")  # as it was, with a reason
        saved(page)
        assert (ranking_on(store, first), said_on(store, first).reasons) == ([{two}, {one, three}], ("correct",))
        assert press(page, "u") == first
        page.keyboard.press("3")
        assert ranks(page) == ["", "", "1st"]
        press(page, "1")
        saved(page)
        assert ranking_on(store, first) == [{three}, {one}, {two}]


def test_each_kind_has_its_place_and_a_ranking_is_skipped_flagged_and_edited_like_others(store, opened):
    fill(store, pairs=1, singles=1, rankings=4, ranked=6)
    with opened() as page:
        ready(page, "pair")
        expect(page.get_by_role("radio")).to_have_text(["Pairs1", "Singles1", "Rankings4"])
        page.keyboard.press("k")
        ready(page, "single")
        page.keyboard.press("k")
        first = ready(page, "ranking")
        expect(page.locator(CARDS)).to_have_count(6)
        second = press(page, "s")
        third = press(page, "f")
        page.keyboard.press("e")
        page.get_by_role("radio", name="3", exact=True).check()
        page.get_by_role("textbox", name="The better answer").fill("Better than all six")
        page.keyboard.press("Control+Enter")
        expect(page.locator(ROOT)).not_to_have_attribute("data-item", str(third))
        fourth = ready(page)
        for key in "65432":
            page.keyboard.press(key)
        expect(page.get_by_text("Nothing for you right now")).to_be_visible()
        saved(page)
        assert [word_on(store, item) for item in (first, second, third, fourth)] == ["skip", "flag", "edited", "ranked"]
        page.keyboard.press("h")
        rows = page.locator(".label-recent-verdict")
        expect(rows).to_have_text(["6 > 5 > 4 > 3 > 2 > 1", "Better answer written", "Flagged", "Skipped"])


def test_a_project_of_pairs_shows_no_other_kind(store, opened):
    fill(store, pairs=2, singles=0)
    with opened() as page:
        ready(page, "pair")
        expect(page.get_by_role("radio")).to_have_text(["Pairs2"])
        page.keyboard.press("k")
        ready(page, "pair")


def test_nothing_moves_while_a_ranking_is_made_nor_when_the_next_arrives(store, opened):
    project = store.projects.ensure("Sizes")
    for size in (1, 3, 40, 400, 2000, 3000, 4000):
        prompt_id, _ = store.prompts.add(project.id, [{"role": "user", "content": f"{size} " + "why " * size}])
        ids = [store.responses.add(prompt_id, side + " word" * size)[0] for side in "xyz"]
        store.items.add(project.id, prompt_id, ids)
    places = ("#label-conversation", ".label-card-a", ".label-card-c", ".label-extras", ".label-ranks", ".label-others")
    with opened() as page:
        ready(page, "ranking")
        for width in (1440, 1024, 390):
            page.set_viewport_size({"width": width, "height": 844})
            before = resting(page, places)
            page.keyboard.press("2")
            assert boxes(page, places) == before
            press(page, "1")
            assert boxes(page, places) == before
            assert page.evaluate("document.documentElement.scrollWidth") == width
            assert all(0 <= box["x"] and box["x"] + box["width"] <= width for box in before)
