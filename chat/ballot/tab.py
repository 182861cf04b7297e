"""The ballot under the conversations: one button a side, a tie, and none of them. Does not know what a vote becomes."""

from __future__ import annotations

from typing import Any

import gradio as gr

from chat import view
from chat.transcript import Opened
from chat.votes import BOTH_BAD, CHOICES, TIE

WORDS = {TIE: "Tie", BOTH_BAD: "None is good"}


class Ballot:
    """The components of the ballot. buttons: by the choice that each stands for."""

    def __init__(self) -> None:
        """Lay it out, inside the block that is open."""
        with gr.Row(elem_id="chat-ballot", visible=False) as self.row:
            self.buttons = {
                choice: gr.Button(
                    WORDS.get(choice) or f"{choice} is better", size="sm", min_width=90, elem_id=f"chat-vote-{choice}",
                    visible=choice not in CHOICES[2:],
                )
                for choice in (*CHOICES, *WORDS)
            }
        self.verdict = gr.Markdown(elem_id="chat-verdict", elem_classes="chat-note")
        self.parts = [self.row, *self.buttons.values(), self.verdict]

    def frame(self, opened: Opened) -> dict[Any, Any]:
        """Return the updates that show what can be voted now, and what was."""
        last = opened.turns[-1] if opened.turns else None
        closed = opened.is_blind and not opened.hides_names
        given = last.votes[-1] if last and last.votes else None
        chosen = None if given is None else CHOICES[given.side] if given.side is not None else given.verdict
        frame: dict[Any, Any] = {self.row: gr.update(visible=last is not None), self.verdict: view.vote_line(opened)}
        for number, (choice, button) in enumerate(self.buttons.items()):
            there = choice in WORDS or number < len(opened.sides)
            frame[button] = gr.update(
                visible=there, interactive=not closed, variant="primary" if choice == chosen else "secondary"
            )
        return frame
