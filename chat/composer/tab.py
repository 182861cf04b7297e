"""What a chat is asked with: suggestions, the text, a new chat, and how models answer. Does not know who answers."""

from __future__ import annotations

from typing import Any

import gradio as gr

from chat.speakers import DEMO
from chat.transcript import Opened
from chat.votes import CHOICES


class Composer:
    """The components of the composer."""

    def __init__(self) -> None:
        """Lay it out, inside the block that is open."""
        self.chips = gr.Dataset(
            components=["textbox"], samples=suggestions(), label="Try one of these", elem_id="chat-suggestions",
            visible=bool(suggestions()), samples_per_page=20,
        )
        with gr.Row(elem_id="chat-composer", equal_height=True):
            self.box = gr.Textbox(
                label="Message", placeholder="Ask all…", show_label=False, container=False, lines=1, max_lines=8, submit_btn=True,
                stop_btn=False, scale=8, elem_id="chat-box", max_length=20_000,
            )
            self.renew = gr.Button("New chat", scale=0, min_width=110, elem_id="chat-new")
        with gr.Row(elem_id="chat-modes"):
            self.blind = gr.Checkbox(label="Blind: hide who answers until the vote", elem_id="chat-blind", container=False)
            self.add = gr.Button("Add a model", size="sm", scale=0, min_width=120, elem_id="chat-add")
        self.parts = [self.chips, self.box, self.blind, self.add]

    def frame(self, opened: Opened) -> dict[Any, Any]:
        """Return the updates that show what can be asked of these speakers."""
        demo = any(speaker.model == DEMO for speaker in opened.sides)
        more = len(opened.sides) < len(CHOICES) and not set(opened.known) <= set(opened.sides)
        return {self.chips: gr.update(visible=demo and bool(suggestions())), self.add: gr.update(visible=more)}

    def waiting(self, is_blind: bool) -> dict[Any, Any]:
        """Return the updates of a chat in which nothing is being answered."""
        return {self.box: gr.update(submit_btn=True, stop_btn=False), self.blind: is_blind}

    def answering(self, is_done: bool, empties: bool) -> dict[Any, Any]:
        """Return the updates while an answer is written, or at its end. empties: the text was taken from the box."""
        emptied = {"value": ""} if empties else {}
        return {self.box: gr.update(submit_btn=is_done, stop_btn=not is_done, **emptied)}


def suggestions() -> list[list[str]]:
    """Return questions that the demo can answer, as rows of a data set; none where the demo's prompts are missing."""
    try:
        from demo.prompts import SUGGESTIONS
    except ImportError:
        return []
    return [[text] for text in SUGGESTIONS]
