"""What the page shows of chats: lists of messages for one side, and lines of plain words. Does not know gradio.

Text of models and people goes into messages only; the lines hold our own words and figures.
"""

from __future__ import annotations

from typing import Any

from chat.answering import Answer
from chat.session import SideBySide
from chat.speakers import DEMO, Speaker
from chat.transcript import Opened, Turn
from errors import AppError
from models.client import Workers
from storage import ChatMessage

Shown = dict[str, Any]  # a message as a chat component takes it

WORKER_LINES = {
    "off": "The model is loaded with the first message.",
    "loading": "The model is being loaded…",
    "ready": "Ready.",
    "died": "The model's process has ended. It starts again with the next message.",
}
DEMO_LINE = (
    "The demo is a tiny model: it answers simple everyday questions, in English or Chinese, and it is often wrong."
)
TRAIN_LINE = "Train first; then the tuned model appears here. Until then the same model is on both sides."


def column(past: list[Turn], side: int) -> list[Shown]:
    """Return the stored turns as one side saw them."""
    shown: list[Shown] = []
    for turn in past:
        shown.append(_message("user", turn.question.content))
        shown.extend(_stored(turn.answers[side]))
    return shown


def live(snapshot: SideBySide, side: int) -> list[Shown]:
    """Return a side's turns and the one that is being answered."""
    answer = snapshot.answers[side]
    shown = [*column(snapshot.past, side), _message("user", snapshot.question)]
    if not answer.is_done and not answer.text:
        return [*shown, _message("assistant", f"*{_pending(answer)}*")]
    return [*shown, *_answer(answer.text, answer.finish_reason if answer.is_done else None, answer.error)]


def note(answer: Answer) -> str:
    """Return the line under a side whose answer is, or was just, written."""
    if not answer.is_done and not answer.text:
        return ""  # the conversation itself says what is waited for
    return _figures(
        answer.finish_reason if answer.is_done else None, answer.tokens, answer.tokens_per_second, answer.seed,
        answer.left_out,
    )


def idle_note(workers: Workers, opened: Opened, side: int) -> str:
    """Return the line under a side while nothing is written: of its last answer, else of its model's process."""
    try:
        state = workers.state(opened.pair[side].model)
    except AppError as error:
        return str(error)
    answer = opened.turns[-1].answers[side] if opened.turns else None
    if answer is None or answer.settings is None or state == "died":
        return WORKER_LINES[state]
    known = answer.settings
    return _figures(answer.finish_reason, known.get("tokens", 0), None, known.get("seed"), known.get("left_out", 0))


def hint(pair: tuple[Speaker, Speaker]) -> str:
    """Return what to know of the two speakers before reading them; empty when there is nothing to say."""
    lines = []
    if all(speaker.run_id is None for speaker in pair):
        lines.append(TRAIN_LINE if pair[0] == pair[1] else "Both sides are untrained models.")
    if any(speaker.model == DEMO for speaker in pair):
        lines.append(DEMO_LINE)
    return " ".join(lines)


def _message(role: str, text: str) -> Shown:
    # As a part, not as a bare string: a bare one loses its indentation.
    return {"role": role, "content": [{"type": "text", "text": text}]}


def _stored(answer: ChatMessage | None) -> list[Shown]:
    if answer is None:
        unknown = "No answer yet: it is being written on another page, or the program ended meanwhile."
        return _answer("", "error", unknown)
    return _answer(answer.content, answer.finish_reason, (answer.settings or {}).get("error", ""))


def _answer(text: str, finish_reason: str | None, error: str) -> list[Shown]:
    """Return an answer's text, and after it what went wrong, if something did."""
    shown = [_message("assistant", text)] if text.strip() else []
    if finish_reason == "error":
        shown.append(_message("assistant", f"⚠️ {error}"))
    elif finish_reason is not None and not shown:
        nothing = "stopped before the first word" if finish_reason == "stopped" else "an empty answer"
        shown.append(_message("assistant", f"*({nothing})*"))
    return shown


def _pending(answer: Answer) -> str:
    if answer.state == "loading" and answer.seconds > 0.5:
        return f"Loading the model… {answer.seconds:.0f} s"
    return "Thinking…"


def _figures(
    finish_reason: str | None, tokens: int, tokens_per_second: float | None, seed: int | None, left_out: int
) -> str:
    parts = {"stopped": ["Stopped"], "error": ["No whole answer"]}.get(finish_reason or "", [])
    # Pieces are counted: a character of several tokens (rare ones, some Chinese) comes as one piece.
    parts = [*parts, f"≈ {tokens} token{'' if tokens == 1 else 's'}"]
    if tokens_per_second is not None:
        parts.append(f"{tokens_per_second:.0f} tokens/s")
    if finish_reason == "length":
        parts.append("cut off at the token limit")
    if finish_reason is not None and seed is not None:
        parts.append(f"seed {seed}")
    if left_out:
        parts.append(f"the {left_out} oldest messages no longer fit and were left out")
    return " · ".join(parts)
