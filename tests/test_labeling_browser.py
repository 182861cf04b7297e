"""What only a browser shows: keys, the outbox, two tabs, hostile texts, and that nothing moves."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from labeling import annotate
from labeling.answers import said
from storage import leases
from tests.labeling_page import ROOT, boxes, fill, press, ready, resting, saved, text_of, word_on

pytestmark = pytest.mark.browser

TALK = ("It is $x^2$, **not** $5 or $6", "5\n\n```python\nprice = '$x$'\n```")
HOSTILE = '${window.pwned=1} {{value}} `${pwned=1}` <img src=x onerror="window.pwned=1"><script>window.pwned=1</script>'


def test_each_key_saves_its_answer_and_shows_the_next_pair(store, opened):
    fill(store, pairs=7, singles=0)
    with opened() as page:
        answered = {}
        for key, word in [("1", "a"), ("ArrowRight", "b"), ("t", "tie"), ("4", "both_bad"), ("A", "a"), ("s", "skip")]:
            shown, sides = ready(page), (text_of(page, "a"), text_of(page, "b"))
            press(page, key)
            answered[shown] = (word, sides)
        saved(page)
        for item_id, (word, sides) in answered.items():
            label = store.labels.current_of(item_id, "Ann")
            assert said(label).word == word
            assert tuple(store.responses.get(response_id).text for response_id in label.shown_response_ids) == sides
            assert 0 < label.active_seconds < 60
        expect(page.get_by_text("5 of 7 pairs · 5 by you")).to_be_visible()


def test_singles_have_good_and_bad_by_key_and_button(store, opened):
    fill(store, pairs=0, singles=3)
    with opened() as page:
        first = ready(page, "single")
        second = press(page, "g")
        page.get_by_role("button", name="Bad").click()
        expect(page.locator(ROOT)).not_to_have_attribute("data-item", str(second))
        saved(page)
        assert (word_on(store, first), word_on(store, second)) == ("good", "bad")


def test_undo_brings_back_the_same_card_with_its_answer_marked(store, opened):
    fill(store, pairs=4, singles=0)
    with opened() as page:
        first, sides = ready(page), (text_of(page, "a"), text_of(page, "b"))
        second = press(page, "2")
        assert press(page, "u") == first
        assert (text_of(page, "a"), text_of(page, "b")) == sides
        expect(page.get_by_role("button", name="B is better")).to_have_class(re.compile("was"))
        assert press(page, "1") == second
        saved(page)
        assert word_on(store, first) == "a"
        assert [row.verdict for row in store.labels.history(first)] == ["chosen", "undo", "chosen"]


def test_a_reload_keeps_the_place_and_undo_still_works(store, opened):
    fill(store, pairs=12, singles=0)
    with opened() as page:
        first = ready(page)
        second = press(page, "3")
        sides = (text_of(page, "a"), text_of(page, "b"))
        saved(page)
        page.reload()
        assert ready(page) == second and (text_of(page, "a"), text_of(page, "b")) == sides
        assert press(page, "Backspace") == first
        expect(page.get_by_role("button", name="Tie")).to_have_class(re.compile("was"))


def test_answers_given_offline_wait_and_are_saved_when_the_network_is_back(store, opened):
    fill(store, pairs=8, singles=0)
    with opened() as page:
        first = ready(page)
        page.context.set_offline(True)
        second = press(page, "1")
        third = press(page, "2")
        press(page, "u")
        expect(page.get_by_text("3 waiting to be saved")).to_be_visible()
        assert ready(page) == second and store.labels.history(first) == []
        page.context.set_offline(False)
        saved(page)
        assert [word_on(store, item) for item in (first, second, third)] == ["a", None, None]
        assert [row.verdict for row in store.labels.history(second)] == ["chosen", "undo"]


def test_answers_survive_a_closed_page(store, opened):
    fill(store, pairs=5, singles=0)
    with opened() as page:
        first = ready(page)
        page.route("**/api/label/record", lambda route: route.abort())
        press(page, "1")
        expect(page.get_by_text("1 waiting to be saved")).to_be_visible()
        context, address = page.context, page.url
        page.close()
        page = context.new_page()
        page.goto(address)
        assert ready(page) != first
        saved(page)
        assert word_on(store, first) == "a"


def test_a_refused_answer_is_said_and_does_not_block_the_rest(store, opened):
    project = fill(store, pairs=4, singles=0)
    with opened() as page:
        first = ready(page)
        shown = [response.id for response in store.items.card(first).responses]
        annotate.record(store, project, first, "Bob", "tie", shown, client_id="bobs-label", session="bobs-tab")
        second = press(page, "1")
        expect(page.get_by_role("alert")).to_contain_text("was not needed")
        press(page, "2")
        saved(page)
        assert [word_on(store, item) for item in (first, second)] == [None, "b"]


def test_two_tabs_and_a_duplicated_tab_never_show_the_same_item(store, opened):
    fill(store, pairs=30, singles=0)
    with opened() as page:
        shown = [ready(page)]
        other = page.context.new_page()
        other.goto(page.url)
        shown.append(ready(other))
        with page.expect_popup() as popup:  # it starts with a copy of the first tab's sessionStorage
            page.evaluate("open(location.href)")
        shown.append(ready(popup.value))
        assert len(set(shown)) == 3
        for tab in (page, other, popup.value):
            tab.bring_to_front()
            shown.append(press(tab, "1"))
        assert len(set(shown)) == 6


def test_keys_that_are_not_meant_for_labels_are_ignored(store, opened):
    fill(store, pairs=3, singles=0)
    with opened() as page:
        first = ready(page)
        page.locator("#annotator input, #annotator textarea").first.focus()
        page.keyboard.press("ArrowLeft")
        page.locator("#annotator input, #annotator textarea").first.blur()
        for key in ("Control+1", "Alt+a", "Meta+2"):
            page.keyboard.press(key)
        page.evaluate("dispatchEvent(new KeyboardEvent('keydown', {key: '1', repeat: true, bubbles: true}))")
        page.evaluate("dispatchEvent(new KeyboardEvent('keydown', {key: '1', isComposing: true, bubbles: true}))")
        page.keyboard.press("?")
        page.keyboard.press("1")
        expect(page.get_by_role("dialog")).to_be_visible()
        page.keyboard.press("Escape")
        page.get_by_role("tab", name="Train").click()
        page.keyboard.press("1")
        page.get_by_role("tab", name="Label").click()
        assert ready(page) == first and store.labels.history(first) == []
        press(page, "1")  # the focus is on the tab's button, and the key works
        saved(page)
        assert word_on(store, first) == "a"


def test_hostile_texts_are_shown_and_do_not_run(store, opened):
    project = store.projects.ensure("Hostile", guidelines=HOSTILE)
    for number in range(2):
        contents = [("system", HOSTILE + "\n```"), ("user", f"{HOSTILE} {number}")]
        messages = [{"role": role, "content": content} for role, content in contents]
        prompt_id, _ = store.prompts.add(project.id, messages)
        store.items.add(project.id, prompt_id, [store.responses.add(prompt_id, HOSTILE + side)[0] for side in "xy"])
    with opened() as page:
        ready(page)
        assert "${window.pwned=1} {{value}} ${pwned=1}" in text_of(page, "a")
        page.keyboard.press("i")
        expect(page.locator("#label-guidelines-text")).to_contain_text("${window.pwned=1} {{value}}")
        page.keyboard.press("i")
        press(page, "1")
        page.wait_for_load_state("networkidle")
        assert page.evaluate("window.pwned") is None
        assert page.locator("#label-page script, #label-page [onerror]").count() == 0


def test_the_whole_conversation_is_shown_with_roles(store, opened):
    project = store.projects.ensure("Talk")
    messages = [
        {"role": "system", "content": "Be terse.\n```\nan open fence"}, {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "# Hello"}, {"role": "user", "content": "What is `2 + 2`?"},
    ]  # fmt: skip
    prompt_id, _ = store.prompts.add(project.id, messages)
    store.items.add(project.id, prompt_id, [store.responses.add(prompt_id, text)[0] for text in TALK])
    with opened() as page:
        ready(page)
        expect(page.locator("#label-context h6")).to_have_text(["System", "User", "Assistant"])
        expect(page.locator("#label-context blockquote")).to_contain_text(["an open fence", "Hi", "Hello"])
        expect(page.locator("#label-prompt code")).to_have_text("2 + 2")
        expect(page.locator("#label-responses .katex")).to_have_count(1)
        expect(page.locator("#label-responses")).to_contain_text("$5 or $6")
        expect(page.locator("#label-responses pre")).to_contain_text("'$x$'")
        expect(page.locator("#label-responses pre .token").first).to_be_visible()


def test_nothing_moves_when_a_longer_or_shorter_card_arrives(store, opened):
    project = store.projects.ensure("Sizes")
    for size in (1, 2, 30, 40, 3000, 4000):
        prompt_id, _ = store.prompts.add(project.id, [{"role": "user", "content": f"{size} " + "why " * size}])
        ids = [store.responses.add(prompt_id, side + " word" * size)[0] for side in "xy"]
        store.items.add(project.id, prompt_id, ids)
    places = ("#label-conversation", ".label-card-a", ".label-card-b", ".label-actions", ".label-extras", ".label-others", ".label-bar")
    with opened() as page:
        ready(page)
        for width in (1440, 1024, 390):
            page.set_viewport_size({"width": width, "height": 844})
            before = resting(page, places)
            press(page, "1")
            assert boxes(page, places) == before
            press(page, "1" if width > 400 else "u")
            assert boxes(page, places) == before
            assert page.evaluate("document.documentElement.scrollWidth") == width
            assert all(0 <= box["x"] and box["x"] + box["width"] <= width for box in before)


def test_on_a_phone_cards_stack_and_buttons_stay_at_the_bottom(store, opened):
    fill(store, pairs=3, singles=0)
    with opened(width=390, height=844, has_touch=True, is_mobile=True) as page:
        first = ready(page)
        a, b = (page.locator(card).bounding_box() for card in (".label-card-a", ".label-card-b"))
        actions = page.locator(".label-actions").bounding_box()
        assert a["x"] == b["x"] and b["y"] >= a["y"] + a["height"]
        assert actions["y"] + actions["height"] == 844 and actions["width"] == 390
        page.mouse.wheel(0, 400)
        expect(page.locator(".label-card-b")).to_be_in_viewport(ratio=0.9)
        assert page.locator(".label-actions").bounding_box() == actions
        page.get_by_role("button", name="A is better").tap()
        expect(page.locator(ROOT)).not_to_have_attribute("data-item", str(first))
        second = ready(page)
        page.get_by_role("button", name="Flag").tap()  # it is to the right in a row that scrolls
        expect(page.locator(ROOT)).not_to_have_attribute("data-item", str(second))
        saved(page)
        assert [word_on(store, item) for item in (first, second)] == ["a", "flag"]


def test_items_that_arrive_later_appear_by_themselves_and_the_end_says_what_next(store, opened):
    store.projects.ensure("Example", is_example=True)
    with opened() as page:
        expect(page.get_by_text("The demo model is writing the first answers")).to_be_visible()
        fill(store, pairs=1, singles=1)
        first = ready(page, "pair")
        page.keyboard.press("1")
        expect(page.get_by_text("All done")).to_be_visible()
        page.get_by_role("button", name="Label 1 single response").click()
        ready(page, "single")
        page.keyboard.press("1")
        expect(page.get_by_text("Labelled: 1 single response, 1 of them by you.")).to_be_visible()
        page.keyboard.press("k")
        page.get_by_role("button", name="Undo the last label").click()
        ready(page, "single")
        page.keyboard.press("2")
        page.get_by_role("button", name="Go to Train").click()
        expect(page.get_by_text("Training is here.")).to_be_visible()
        assert word_on(store, first) == "a"


def test_another_project_or_annotator_begins_anew(store, opened):
    fill(store, "One", pairs=3, singles=0)
    two = fill(store, "Two", pairs=3, singles=0)
    with opened() as page:
        first = ready(page)
        page.locator("#project input").click()
        page.get_by_role("option", name="Two").click()
        expect(page.locator("#label-prompt")).to_contain_text("of Two")
        item = ready(page)
        page.locator("#annotator input, #annotator textarea").first.fill("")
        expect(page.get_by_text("Who is labelling?")).to_be_visible()
        page.locator("#annotator input, #annotator textarea").first.fill("Bob")
        page.locator("#annotator input, #annotator textarea").first.blur()
        item = ready(page)
        press(page, "1")
        saved(page)
        assert word_on(store, item, "Bob") == "a" and store.items.get(item).project_id == two
        assert store.labels.history(first) == []


def test_a_card_far_behind_ones_own_labels_is_found_at_once(store, opened, monkeypatch):
    monkeypatch.setattr(leases, "MOST_ROWS", 2)  # thirty requests; at the pace of the poll they would take a minute
    project = fill(store, pairs=60, singles=0)
    store.items.want(project, 2)
    store.db.execute("UPDATE items SET position = id / 100.0")
    for item_id in range(1, 60):
        shown = store.items.response_ids(item_id)
        annotate.record(
            store, project, item_id, "Ann", "tie", shown, client_id=f"client-{item_id:04d}", session="anns-session",
        )
    with opened() as page:
        assert ready(page) == 60
