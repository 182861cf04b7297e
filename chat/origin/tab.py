"""The folded card under a chat that says how an answer was made, and asks for it again. Does not know how that is done."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from chat import view
from chat.origin.facts import answers, facts, told
from chat.replay import replay
from chat.streams import Streams
from chat.transcript import Opened
from errors import AppError, as_toast, reported
from models.client import Workers
from storage import Store

PRIVATE = {"api_visibility": "private", "show_progress": "hidden"}
AT_A_TIME = 4
guarded = reported(gr.Warning, gr.skip)


class Origin:
    """The components of the card. chosen: the list of answers, whose value is the number of a message."""

    def __init__(self, store: Store, workers: Workers) -> None:
        """Lay it out, inside the block that is open."""
        self.store, self.workers, self.streams = store, workers, Streams()
        with gr.Accordion("How an answer was made", open=False, elem_id="chat-origin", visible=False) as self.fold:
            with gr.Row(elem_id="chat-origin-row"):
                self.chosen = gr.Dropdown(
                    [], label="Answer", filterable=False, elem_id="chat-origin-answer", scale=3, min_width=260
                )
                self.again = gr.Button("Replay", size="sm", scale=1, min_width=120, elem_id="chat-replay")
                self.halt = gr.Button(
                    "Stop", size="sm", scale=1, min_width=120, variant="stop", visible=False, elem_id="chat-replay-stop"
                )
            self.said = gr.Markdown("", elem_id="chat-replay-said", elem_classes="chat-note")
            self.text = gr.Textbox(
                label="This time", lines=2, max_lines=12, interactive=False, visible=False, elem_id="chat-replay-text"
            )
            self.table = gr.Markdown("", elem_id="chat-origin-facts")
        self.parts = [self.fold, self.chosen, self.said, self.text, self.table]

    def connect(self) -> None:
        """Connect what changes only the card itself."""
        self.chosen.input(self.describe, self.chosen, [self.table, self.said, self.text], **PRIVATE)
        self.again.click(
            self.ask_again, self.chosen, [self.said, self.text, self.again, self.halt], concurrency_limit=AT_A_TIME,
            trigger_mode="multiple", **PRIVATE,
        )
        self.halt.click(self.stop, None, None, queue=False, **PRIVATE)

    def frame(self, opened: Opened) -> dict[Any, Any]:
        """Return the updates that show the newest answer of a chat; none while nobody is to see who answers."""
        listed = answers(opened)
        newest = listed[0][1] if listed else None
        return {
            self.fold: gr.update(visible=bool(listed)), self.chosen: gr.update(choices=listed, value=newest),
            self.table: self._described(newest), self.said: "", self.text: gr.update(visible=False),
        }

    @guarded
    def describe(self, message_id: int | None) -> Any:
        """Show how the chosen answer was made."""
        return self._described(message_id), "", gr.update(visible=False)

    def ask_again(self, message_id: int | None, request: gr.Request) -> Iterator[Any]:
        """Ask for the chosen answer again, and show whether it is the same."""
        page = str(request.session_hash)
        try:
            told(self.store, message_id)
            stream = self.streams.begin(page)
        except AppError as error:
            gr.Warning(as_toast(str(error)))
            yield [gr.skip()] * 4
            return
        said, text = "", gr.update(visible=False)
        try:
            yield "Asking again…", text, gr.update(visible=False), gr.update(visible=True)
            found = replay(self.store, self.workers, message_id, stream.stop)
            said, text = f"Message {message_id}: {found.sentence()}", gr.update(value=found.text, visible=not found.is_same)
        except AppError as error:
            gr.Warning(as_toast(str(error)))
        finally:  # reached too when the page is closed
            self.streams.end(page)
        yield said, text, gr.update(visible=True), gr.update(visible=False)

    def stop(self, request: gr.Request) -> None:
        """Stop what this page asks for again; how far it came is shown then."""
        self.streams.stop(str(request.session_hash))

    def _described(self, message_id: int | None) -> str:
        if message_id is None:
            return ""
        rows = [f"| {name} | {view.plain(' '.join(value.split()))} |" for name, value in facts(told(self.store, message_id))]
        return "\n".join(["| | |", "|---|---|", *rows])
