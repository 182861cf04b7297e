"""A minimal page with nothing but the Label tab, a store with items, and what tests do with the page.

For browser tests and the benchmark.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import fastapi
import gradio as gr
from playwright.sync_api import Page, expect

from labeling import routes, tab
from labeling.answers import Answer
from labeling.answers import said as said_by
from storage import Store

ROOT = "#label-page [data-state]"


def fill(
    store: Store,
    name: str = "Example",
    pairs: int = 6,
    singles: int = 4,
    guidelines: str = "Prefer short answers.",
    rankings: int = 0,
    ranked: int = 3,
) -> int:
    """Make a project with items whose texts name their prompt; return its id. ranked: responses of a ranking."""
    project = store.projects.ensure(name, guidelines=guidelines)
    sizes = [2] * pairs + [1] * singles + [ranked] * rankings
    for number, size in enumerate(sizes):
        messages = [{"role": "user", "content": f"Question {number} of {name}?"}]
        prompt_id, _ = store.prompts.add(project.id, messages)
        texts = [f"Answer {number}{side}" for side in "xyzuvw"[: max(size, 2)]]
        responses = [store.responses.add(prompt_id, text, model="secret-model")[0] for text in texts]
        store.items.add(project.id, prompt_id, responses[:size])
    return project.id


def make_app(store: Store, annotator: str = "Ann") -> fastapi.FastAPI:
    """Return an app with the routes and a page that has the header's two fields and the Label tab."""
    with gr.Blocks(analytics_enabled=False) as page:
        with gr.Row():
            choices = [(project.name, project.id) for project in store.projects.list()]
            project = gr.Dropdown(choices, value=None, label="Project", elem_id="project")
            name = gr.Textbox(annotator, label="Annotator", elem_id="annotator")
        with gr.Tabs():
            with gr.Tab("Label", id="label") as label:
                tab.build(page, label, store, project, name)
            with gr.Tab("Train", id="train"):
                gr.Markdown("Training is here.")
        page.load(lambda: store.projects.list()[0].id, None, project, api_visibility="private", show_progress="hidden")
    app = fastapi.FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.include_router(routes.router(store))
    return gr.mount_gradio_app(
        app, page, path="/", css=tab.css(), head=tab.head(), footer_links=[], run_history=False,
        enable_monitoring=False, ssr_mode=False,
    )


def ready(page: Page, kind: str | None = None) -> int:
    """Wait until a card (of a kind) takes answers; return its item id."""
    root = page.locator(f'{ROOT}[data-state="card"][data-ready="yes"]' + (f'[data-kind="{kind}"]' if kind else ""))
    expect(root).to_have_count(1)
    return int(root.get_attribute("data-item"))


def press(page: Page, key: str) -> int:
    """Press a key that leads to another card; return the id of the item that is shown then."""
    before = ready(page)
    page.keyboard.press(key)
    expect(page.locator(ROOT)).not_to_have_attribute("data-item", str(before))
    return ready(page)


def saved(page: Page) -> None:
    """Wait until the server has everything."""
    expect(page.locator(ROOT)).to_have_attribute("data-waiting", "0")


def text_of(page: Page, place: str) -> str:
    """Return what a card says; place: "prompt", or the letter of a response."""
    return page.locator(f"#label-{place}").text_content().strip()


def said_on(store: Store, item_id: int, annotator: str = "Ann") -> Answer | None:
    """Return what an annotator's label of an item says now, None without one."""
    label = store.labels.current_of(item_id, annotator)
    if label is None:
        return None
    return said_by(label, store.responses.get(label.chosen_response_id).text if label.verdict == "edited" else None)


def word_on(store: Store, item_id: int, annotator: str = "Ann") -> str | None:
    """Return the word of an annotator's label of an item, None without one."""
    answer = said_on(store, item_id, annotator)
    return answer.word if answer else None


def boxes(page: Page, places: Sequence[str]) -> list[dict]:
    """Return where the elements of some selectors are."""
    return [page.locator(place).bounding_box() for place in places]


def resting(page: Page, places: Sequence[str]) -> list[dict]:
    """Return the boxes when they stay as they are for some frames: a new size may take more than one."""
    frames = "let left = 6; const next = () => left-- ? requestAnimationFrame(next) : done(); next();"
    for _ in range(50):
        seen = boxes(page, places)
        page.evaluate(f"new Promise(done => {{ {frames} }})")
        if boxes(page, places) == seen:
            return seen
    raise AssertionError("The page does not come to rest.")
