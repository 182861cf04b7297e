"""The card that lets models answer: who, how many, how freely, which pairs; its progress and its end.

A generation goes on without the page: what is shown of it is read from `jobs`, so a reloaded page finds it again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from errors import reported
from models.client import Sampling
from transfer.desk import DEMO, IN_TURN, SHOWN_AS, Desk, job_line
from transfer.markup import bar

PAIR_RULES = {
    "each answer about once": IN_TURN, "all": "all", "in random order": "random", "the most different first": "different",
}
PAIR_SOURCES = {"any": "any", "the same model": "same", "different models": "other"}
PRIVATE = {"api_visibility": "private", "show_progress": "hidden"}
AT_ONCE = {**PRIVATE, "queue": False}

GENERATE_TEXT = """### Let a model answer
Draws answers to every prompt of the project until each has as many as you ask for, and makes things to label of
them. You can leave the page meanwhile; answers appear on the Label tab as they come."""
guarded = reported(gr.Warning, gr.skip)


class Candidates:
    """The components of the card and what they do. live: those that a generation under way changes."""

    def __init__(self, desk: Desk, look: Callable[[int | None], Sequence[Any]]) -> None:
        """Lay it out, inside the block that is open.

        look: returns the updates of all that shows a project and what is under way, given the project's id.
        """
        self.desk, self._look = desk, look
        with gr.Column(elem_classes="data-card"):
            gr.Markdown(GENERATE_TEXT)
            self.model = gr.Dropdown(
                desk.models(), value=[DEMO], label="Models", multiselect=True, allow_custom_value=True, elem_id="data-model",
                info="The demo, your runs; or type a folder, a hub name, or NAME@http://SERVER/v1 for any"
                " OpenAI-compatible server.",
            )
            with gr.Row():
                self.per_prompt = gr.Slider(
                    1, 8, 2, step=1, label="Answers per prompt", elem_id="data-per-prompt", min_width=200
                )
                self.temperature = gr.Slider(
                    0, 2, 1.0, step=0.05, label="Temperature", elem_id="data-temperature", min_width=200,
                    info="Higher: more varied.",
                )
            self.kind = gr.Radio(
                [(text, kind) for kind, text in SHOWN_AS.items()], value="pair", label="To label", elem_id="data-kind"
            )
            self.max_tokens = gr.Slider(
                16, 2048, Sampling().max_tokens, step=16, label="Longest answer in tokens", elem_id="data-max-tokens"
            )
            with gr.Accordion("Which pairs", open=False, elem_id="data-pairing"):
                self.rule = gr.Radio(list(PAIR_RULES.items()), value=IN_TURN, label="Pairs of each prompt", elem_id="data-rule")
                self.source = gr.Radio(
                    list(PAIR_SOURCES.items()), value="any", label="With several models: two answers of",
                    elem_id="data-source",
                )
            with gr.Row():
                self.start = gr.Button("Generate", variant="primary", elem_id="data-generate", min_width=120)
                self.cancel = gr.Button(
                    "Cancel", variant="stop", interactive=False, elem_id="data-cancel", min_width=120
                )
            self.bar = gr.HTML(padding=False, elem_id="data-progress")
            self.report = gr.Markdown(elem_id="data-generate-report", elem_classes="data-report")
        self.live = [self.bar, self.report, self.start, self.cancel]

    def connect(self, project: gr.Dropdown, live: Sequence[Any]) -> None:
        """Connect every event. One that may fail goes through the queue: only there gradio shows toasts.

        live: the components that `look` updates.
        """
        asked = [
            project, self.model, self.per_prompt, self.temperature, self.max_tokens, self.kind, self.rule, self.source,
        ]
        self.start.click(self.generate, asked, live, **PRIVATE)
        self.cancel.click(self.stop, project, live, **AT_ONCE)

    @property
    def is_running(self) -> bool:
        """Whether a generation, or other work of the program in its place, is under way."""
        state = self.desk.jobs.state
        return state is not None and state.running

    def look(self, project_id: int | None) -> tuple[Any, ...]:
        """Return the updates of `live`, as they are seen from a project."""
        state = self.desk.jobs.state
        running = state is not None and state.running
        return bar(state), job_line(state, project_id), gr.Button(interactive=not running), gr.Button(interactive=running)

    def listed(self) -> gr.Dropdown:
        """Return the update that brings the list of models up to date."""
        return gr.Dropdown(choices=self.desk.models())

    @guarded
    def generate(self, project_id: int | None, models: list[str] | None, *settings: Any) -> Any:
        """Begin a generation and show it. settings: as in `Desk.generate`."""
        self.desk.generate(project_id, models or [], *settings)
        return self._look(project_id)

    def stop(self, project_id: int | None) -> Any:
        """Ask the generation to end; the next look shows that it did."""
        self.desk.jobs.cancel()
        return self._look(project_id)
