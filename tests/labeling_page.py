"""A minimal page with nothing but the Label tab, and a store with items: for browser tests and the benchmark."""

from __future__ import annotations

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import fastapi
import gradio as gr

from labeling import routes, tab
from storage import Store


def fill(
    store: Store, name: str = "Example", pairs: int = 6, singles: int = 4, guidelines: str = "Prefer short answers."
) -> int:
    """Make a project with items whose texts name their prompt; return its id."""
    project = store.projects.ensure(name, guidelines=guidelines)
    for number in range(pairs + singles):
        messages = [{"role": "user", "content": f"Question {number} of {name}?"}]
        prompt_id, _ = store.prompts.add(project.id, messages)
        responses = [store.responses.add(prompt_id, f"Answer {number}{side}", model="secret-model")[0] for side in "xy"]
        store.items.add(project.id, prompt_id, responses if number < pairs else responses[:1])
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
        page.load(lambda: store.projects.list()[0].id, None, project, api_visibility="private")
    app = fastapi.FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.include_router(routes.router(store))
    return gr.mount_gradio_app(
        app, page, path="/", css=tab.css(), head=tab.head(), footer_links=[], run_history=False,
        enable_monitoring=False, ssr_mode=False,
    )
