"""What the page as a whole must keep to, whatever its tabs hold."""

from __future__ import annotations

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr

import app
from models.client import Workers
from storage import Store
from transfer.jobs import Jobs


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
