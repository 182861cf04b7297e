"""Keys count for the texts that are on the screen, however long the page takes to paint them."""

from __future__ import annotations

import pytest

from tests.labeling_page import ROOT, fill, press, ready, saved, text_of, word_on

pytestmark = pytest.mark.browser

SLOW = """(milliseconds) => {
    const page = window.preferenceStudioLabel, texts = page.texts;
    page.texts = async () => {
        await new Promise((resolve) => setTimeout(resolve, milliseconds));
        return texts();
    };
}"""


def test_a_key_pressed_while_the_old_texts_are_still_shown_does_not_label_the_new_pair(store, opened):
    fill(store, pairs=4, singles=0)
    with opened() as page:
        first, sides = ready(page), (text_of(page, "a"), text_of(page, "b"))
        page.evaluate(SLOW, 1500)
        page.keyboard.press("1")
        page.wait_for_timeout(900)  # past the time in which a quick page would have painted
        assert (text_of(page, "a"), text_of(page, "b")) == sides
        second = int(page.locator(ROOT).get_attribute("data-item"))
        page.keyboard.press("2")  # for nothing: what it was pressed for is not to be seen yet
        assert ready(page) == second != first
        assert {text_of(page, "a"), text_of(page, "b")}.isdisjoint(sides)
        third = press(page, "2")
        saved(page)
        assert (word_on(store, first), word_on(store, second), word_on(store, third)) == ("a", "b", None)
