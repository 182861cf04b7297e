"""The folded settings under a chat, and how they are read. Does not know who answers.

Their defaults are those of `Sampling`; a field that is left alone changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from chat.session import read_seed
from models.client import Sampling

Setting = gr.Slider | gr.Textbox | gr.Checkbox
KEPT = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens", "system")


class Settings:
    """The components of the settings. fields: by name, in the order in which events hand their values over."""

    def __init__(self) -> None:
        """Lay them out, inside the block that is open."""
        default, self.fields = Sampling(), {}
        with gr.Accordion("Settings", open=False, elem_id="chat-settings"):
            with gr.Row():
                self._slider("temperature", 0, 2, default.temperature, 0.05, "0 always takes the likeliest word; higher is more varied.")
                self._slider(
                    "top_p", 0.05, 1, default.top_p, 0.05,
                    "Draw only from the likeliest words that share this much of the probability.",
                )
                self._slider("top_k", 0, 200, default.top_k, 1, "Draw only from so many of the likeliest words; 0: from all.")
                self._slider(
                    "min_p", 0, 1, default.min_p, 0.01, "Leave out words less likely than this share of the likeliest one's chance.",
                )
            with gr.Row():
                self._slider(
                    "repetition_penalty", 0.5, 2, default.repetition_penalty, 0.05,
                    "Above 1: words that were there already become less likely.", "Repetition penalty",
                )
                self._slider(
                    "max_tokens", 1, 4096, default.max_tokens, 1, "In tokens: short words or parts of words.", "Longest answer"
                )
                self.fields["seed"] = gr.Textbox(  # not a Number: an empty one turns into 0 when they are unfolded
                    label="Seed", elem_id="chat-seed", placeholder="a new one each time", max_length=10,
                    info="The same seed gives the same answers again.", min_width=160,
                )
                with gr.Column(min_width=160):
                    self.fields["different_seeds"] = gr.Checkbox(label="Another seed on each side", elem_id="chat-different-seeds")
                    self.fields["goes_on"] = gr.Checkbox(
                        True, label="After a vote, all sides go on from the better answer", elem_id="chat-goes-on"
                    )
            self.fields["system"] = gr.Textbox(
                label="System prompt", lines=2, elem_id="chat-system", placeholder="None",
                info="Told to all models before the conversation, from the next message on.",
            )

    def read(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a `Question` takes of the values of all fields. Raises ConfigError for a seed that is none."""
        sampling = Sampling(
            temperature=float(values["temperature"]), top_p=float(values["top_p"]), top_k=int(values["top_k"]),
            max_tokens=int(values["max_tokens"]), seed=read_seed(values["seed"]), min_p=float(values["min_p"]),
            repetition_penalty=float(values["repetition_penalty"]),
        )
        return {
            "sampling": sampling, "system": values["system"] or "", "goes_on": bool(values["goes_on"]),
            "different_seeds": bool(values["different_seeds"]),
        }

    def shown(self, kept: Mapping[str, Any]) -> dict[Setting, Any]:
        """Return the updates that show the settings a chat was left with; those it does not know stay."""
        return {self.fields[name]: kept[name] for name in KEPT if name in kept}

    def _slider(
        self, name: str, low: float, high: float, value: float, step: float, info: str, label: str | None = None
    ) -> None:
        self.fields[name] = gr.Slider(
            low, high, value, step=step, label=label or name.replace("_", "-").capitalize(), info=info, min_width=160,
            elem_id=f"chat-{name.replace('_', '-')}",
        )
