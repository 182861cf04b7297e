"""What the page as a whole must keep to, whatever its tabs hold."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr
import pytest
from playwright.sync_api import Browser, Page, expect

import app
from models.client import Workers
from storage import Project, Store
from tests.browser import open_page, serve
from transfer.jobs import Jobs

# Notes, at each frame, whether the first tab is seen, and whether it was before the one that was asked for.
WATCH = """
window.seen = [];
(function look() {
  const panel = document.querySelector("#studio-tabs > .tabitem");
  if (panel) window.seen.push(panel.offsetParent !== null);
  requestAnimationFrame(look);
})();
"""


@pytest.fixture
def opened(store: Store, project: Project, browser: Browser) -> Callable[[str], AbstractContextManager[tuple[str, Page]]]:
    """A function that serves the whole page, of a project with two prompts, and opens it; yields its address too."""
    for text in ("What is rain?", "What is snow?"):
        store.prompts.add(project.id, [{"role": "user", "content": text}])

    @contextmanager
    def opened(behind: str = "", **options: int) -> Iterator[tuple[str, Page]]:
        with serve(app.create_app(store, Workers(store.folder / "runs", "cpu"), Jobs())) as address:
            with open_page(address + behind, browser, **options) as page:
                yield address, page

    return opened


def shown(page: Page, name: str) -> None:
    """Expect a tab to be the open one, and its panel, and no other, to be seen."""
    expect(page.get_by_role("tab", name=name, exact=True)).to_have_attribute("aria-selected", "true")
    expect(page.locator("#studio-tabs > .tabitem").filter(visible=True)).to_have_count(1)


def test_the_first_tab_does_not_listen_to_its_own_selection(store: Store) -> None:
    """An event that comes before the page is ready can keep it from ever being: one load in seven stayed "Loading..."."""
    page = app.build_page(store, Workers(store.folder / "runs", "cpu"), Jobs())
    tabs = {block._id: block for block in page.blocks.values() if isinstance(block, gr.Tab)}
    heard = {target for function in page.fns.values() for target, event in function.targets if event == "select"}
    assert {tabs[each].label for each in heard & set(tabs)} >= {"Train", "Chat", "Data"}  # the search finds listeners
    sets = {block.parent._id: [] for block in tabs.values()}
    for block in tabs.values():
        sets[block.parent._id].append(block)
    assert [each[0].label for each in sets.values() if each[0]._id in heard] == []


@pytest.mark.browser
@pytest.mark.parametrize("width", [1440, 390])
def test_a_reload_comes_back_to_the_open_tab(opened, width: int) -> None:  # noqa: ANN001
    with opened("?tab=data&__theme=dark", width=width) as (address, page):
        shown(page, "Data")
        expect(page.locator("#data-figures dd").first).to_have_text("2")  # of the project that is chosen by then
        page.reload()
        shown(page, "Data")
        expect(page.locator("#data-figures dd").first).to_have_text("2")
        page.get_by_role("tab", name="Label", exact=True).click()
        expect(page).to_have_url(f"{address}?__theme=dark")
        expect(page.get_by_text("Nothing to label yet")).to_be_visible()
        page.reload()
        shown(page, "Label")


@pytest.mark.browser
def test_the_address_follows_the_tabs_and_back_leaves_the_page(opened) -> None:  # noqa: ANN001
    with opened() as (address, page):
        shown(page, "Label")
        for name in ("Chat", "Train"):
            page.get_by_role("tab", name=name, exact=True).click()
            expect(page).to_have_url(f"{address}?tab={name.lower()}")
        page.goto(f"{address}health")
        page.go_back()
        shown(page, "Train")
        expect(page.locator("#train-start")).to_be_visible()
        page.go_forward()
        expect(page).to_have_url(f"{address}health")


@pytest.mark.browser
def test_the_first_tab_is_not_seen_before_the_one_that_a_link_opens(opened) -> None:  # noqa: ANN001
    with opened() as (address, page):
        page.add_init_script(WATCH)
        page.goto(f"{address}?tab=chat")
        shown(page, "Chat")
        expect(page.locator("#chat-a")).to_be_visible()
        expect(page.get_by_text("Loading...")).to_have_count(0)
        seen = page.evaluate("window.seen")
        assert seen and not any(seen)
        page.goto(f"{address}?tab=nothing")  # another one than there is: the first, which the watch must see
        shown(page, "Label")
        assert any(page.evaluate("window.seen"))
