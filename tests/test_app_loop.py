"""The whole loop as a stranger meets it: the real program, the embedded model, a real browser, key presses.

Label forty pairs by a plain rule, train with one click, reload in the middle, read both answers side by side.
Screenshots of every station are left in `screenshots/` (or where the environment says), for people to look at.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from demo.meter import manner_of
from storage import Store
from tests.browser import open_page

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parent.parent
SCREENSHOTS = Path(os.environ.get("PREFERENCE_STUDIO_SCREENSHOTS", ROOT / "screenshots"))
RANK = {"polite": 2, "plain": 1, "rude": 0, None: 1}
CARD = '#label-page [data-state="card"][data-ready="yes"]'
NARROW = 700  # pixels: below it the tabs do not fit in a row
SLOW_MS = 240_000  # what waits for a model: its start, and a whole run, on a machine that others use too


@contextmanager
def started(data: Path) -> Iterator[str]:
    """Start the program as the README says, on a free port; yield its address; end it, and see that it leaves nothing behind."""
    temporary = data.with_name(f"{data.name}-temporary")
    temporary.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "app.py", "--port", "0", "--data", str(data)], cwd=ROOT, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    try:
        line = process.stdout.readline()
        assert (address := re.search(r"http://\S+", line)), line
        yield address[0]
    finally:
        process.terminate()
        assert process.wait(30) == 0
    kept = [path for path in temporary.rglob("*") if path.is_file() and path.stat().st_size]
    assert not kept, "no copy of what was sent up or down stays"


def photograph(page: Page, name: str) -> None:
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


def open_tab(page: Page, name: str) -> None:
    """Open a tab; on a narrow screen those that find no room are in a menu."""
    shown, more = page.get_by_role("tab", name=name, exact=True), page.get_by_label("More tabs").first
    if page.viewport_size["width"] < NARROW:
        expect(more).to_be_visible()  # by then it is settled which tabs find room
    if page.viewport_size["width"] >= NARROW or shown.count():
        shown.click()
    else:
        more.click()
        page.locator(".overflow-dropdown").get_by_role("button", name=name, exact=True).click()


def text_of(page: Page, place: str) -> str:
    return page.locator(f"#label-{place}").inner_text().strip()


def label_by_the_polite_rule(page: Page, pairs: int) -> Counter[str]:
    """Press 1, 2 or 3 for each pair, as the more polite answer is left, right or neither; count what was pressed."""
    pressed: Counter[str] = Counter()
    while pressed["1"] + pressed["2"] < pairs:
        item = page.locator(CARD).get_attribute("data-item")
        a, b = (RANK[manner_of(text_of(page, place))] for place in ("a", "b"))
        key = "1" if a > b else "2" if b > a else "3"
        page.keyboard.press(key)
        pressed[key] += 1
        expect(page.locator(f'{CARD}:not([data-item="{item}"])')).to_have_count(1, timeout=SLOW_MS)
    return pressed


def test_the_whole_loop_in_a_browser(browser: Browser, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with started(data) as address, open_page(address, browser) as page:
        expect(page.locator(CARD)).to_have_count(1, timeout=SLOW_MS)
        pressed = label_by_the_polite_rule(page, 20)
        photograph(page, "1-label")
        pressed += label_by_the_polite_rule(page, 20)
        expect(page.locator("#label-page [data-waiting]")).to_have_attribute("data-waiting", "0")
        store = Store(data)
        counts = store.labels.counts(store.projects.list()[0].id)
        assert counts == {"chosen": pressed["1"] + pressed["2"], **({"tie": pressed["3"]} if pressed["3"] else {})}

        open_tab(page, "Train")
        expect(page.locator("#train-summary")).to_contain_text("40 pairs")
        expect(page.locator("#train-summary")).to_contain_text("DPO suggested")
        page.locator("#train-start").click()
        live = page.locator("#train-live .train-live")
        expect(live).to_have_attribute("data-state", re.compile("queued|running"), timeout=SLOW_MS)
        charts = page.locator("#train-charts svg").first
        expect(charts).to_be_visible(timeout=SLOW_MS)
        drawn = charts.inner_html()
        expect(live).to_have_attribute("data-state", "running")
        wait_for_change(page, "#train-charts svg", drawn)
        photograph(page, "2-train")

        page.reload()
        open_tab(page, "Train")
        expect(live).to_have_attribute("data-state", re.compile("running|finished"))
        expect(charts).to_be_visible()
        expect(live).to_have_attribute("data-state", "finished", timeout=SLOW_MS)
        photograph(page, "3-trained")

        open_tab(page, "Chat")
        expect(page.locator("#chat-b-model input")).to_have_value(re.compile("Run 1"))
        assert all(ask(page, "How do I light a campfire?"))
        photograph(page, "4-chat")
        assert all(ask(page, "And what do owls eat?"))
        messages = store.chats.messages(store.chats.list()[0].id)
        assert [message.side for message in messages].count(None) == 2 and len(messages) == 6
        run = store.runs.list()[0]
        assert run.state == "finished" and run.step == run.total_steps and run.summary["rewards/accuracies"] > 0.7


def wait_for_change(page: Page, selector: str, before: str) -> None:
    """Wait until an element's content is no longer what it was: the live chart moves."""
    page.wait_for_function(
        "([selector, before]) => document.querySelector(selector)?.innerHTML !== before", arg=[selector, before],
        timeout=SLOW_MS,
    )


def ask(page: Page, question: str) -> list[str]:
    """Ask both sides and return their whole answers; the line under a side names the seed once it has ended."""
    said = [page.locator(f"#chat-{side} [data-testid=bot]") for side in ("a", "b")]
    before = said[0].count()
    box = page.locator("#chat-box textarea")
    box.fill(question)
    box.press("Enter")
    for side, answers in zip(("a", "b"), said):
        expect(answers).to_have_count(before + 1, timeout=SLOW_MS)
        expect(page.locator(f"#chat-{side}-note")).to_contain_text("seed", timeout=SLOW_MS)
    return [answers.last.inner_text().strip() for answers in said]


@pytest.mark.parametrize(
    ("theme", "width"),
    [("light", 390), ("dark", 1440), pytest.param("light", 1440, marks=pytest.mark.slow), pytest.param("dark", 390, marks=pytest.mark.slow)],
)
def test_every_tab_fits_the_screen(browser: Browser, tmp_path_factory, width: int, theme: str) -> None:
    data = tmp_path_factory.mktemp("screens")
    with started(data) as address, open_page(f"{address}/?__theme={theme}", browser, width=width) as page:
        expect(page.locator(CARD)).to_have_count(1, timeout=SLOW_MS)
        for name in ("Label", "Review", "Train", "Report", "Chat", "Arena", "Data", "Publish"):
            open_tab(page, name)
            expect(page.get_by_role("tabpanel").locator("visible=true").first).to_be_visible()
            time.sleep(0.5)  # only so that the photograph shows the tab painted; nothing is asserted on it
            photograph(page, f"{name.lower()}-{width}-{theme}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_project_chosen_last_is_open_after_a_reload(browser: Browser, tmp_path: Path) -> None:
    store = Store(tmp_path / "data")
    store.projects.ensure("First")
    second = store.projects.ensure("Second")
    with started(tmp_path / "data") as address, open_page(address, browser) as page:
        expect(page.locator("#studio-project input")).to_have_value("First")
        page.locator("#studio-project input").click()
        page.get_by_role("option", name=second.name).click()
        kept = "id => JSON.parse(localStorage.getItem('preference-studio') || '{}').project === id"
        page.wait_for_function(kept, arg=second.id)
        page.reload()
        expect(page.locator("#studio-project input")).to_have_value("Second")
