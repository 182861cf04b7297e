"""What the page shows of chats: lists of messages for one side, and lines of plain words. Does not know gradio.

Text of models and people goes into messages only; the lines hold our own words and figures.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from chat.answering import Answer
from chat.session import SideBySide
from chat.speakers import DEMO
from chat.thoughts import parted, words_of
from chat.transcript import Opened, Turn
from chat.votes import CHOICES
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
BLIND_LINE = "Blind: who answers on which side is shown after your vote, which then is final."
DRAWN_LINE = "Blind: who answers on which side is drawn with your first message, and shown after your vote, which then is final."
# Where Markdown shows signs as they are: code, and formulas.
CODE = re.compile(r"(```.*?(?:```|\Z)|`[^`\n]*`|\$\$.*?\$\$|\\\[.*?\\\]|\\\(.*?\\\))", re.DOTALL)
QUESTION, THOUGHT, ANSWER, NOTE = "question", "thought", "answer", "note"


@dataclass(frozen=True)
class Entry:
    """One message of a side as it is shown. what: QUESTION, THOUGHT, ANSWER or NOTE; question_id: of its turn."""

    shown: Shown
    question_id: int
    what: str


def column(past: list[Turn], side: int) -> list[Shown]:
    """Return the stored turns as one side saw them."""
    return [entry.shown for entry in entries(past, side)]


def entries(past: list[Turn], side: int) -> list[Entry]:
    """Return the messages of the stored turns on one side, in the order in which they are shown."""
    return [
        Entry(shown, turn.question.id, what)
        for turn in past
        for what, shown in [(QUESTION, _message("user", turn.question.content)), *_stored(turn.answers[side])]
    ]


def thumbs(past: list[Turn], side: int, said: dict[int, bool]) -> list[str | None]:
    """Return, for each message of a model that is shown, what was said of it. said: by question, True for good."""
    words = {True: "Like", False: "Dislike"}
    return [
        words.get(said.get(entry.question_id)) if entry.what == ANSWER else None
        for entry in entries(past, side) if entry.what != QUESTION
    ]


def live(snapshot: SideBySide, side: int) -> list[Shown]:
    """Return a side's turns and the one that is being answered."""
    answer = snapshot.answers[side]
    shown = [*column(snapshot.past, side), _message("user", snapshot.question)]
    if not answer.is_done and not answer.text:
        return [*shown, _message("assistant", f"*{_pending(answer)}*")]
    return [*shown, *(each for _, each in _answer(answer.text, answer.finish_reason if answer.is_done else None, answer.error))]


def note(answer: Answer, hides_names: bool = False) -> str:
    """Return the line under a side whose answer is, or was just, written. hides_names: without what tells its model."""
    if not answer.is_done and not answer.text:
        return ""  # the conversation itself says what is waited for
    return _figures(
        answer.finish_reason if answer.is_done else None, answer.tokens,
        None if hides_names else answer.tokens_per_second, answer.seed, answer.left_out,
        None if hides_names else answer.context_used, None if hides_names else answer.context_limit,
    )


def idle_note(workers: Workers, opened: Opened, side: int) -> str:
    """Return the line under a side while nothing is written: of its last answer, else of its model's process."""
    try:
        state = workers.state(opened.sides[side].model)
    except AppError as error:
        return str(error)
    answer = opened.turns[-1].answers[side] if opened.turns else None
    if answer is None or answer.settings is None or state == "died":
        return WORKER_LINES[state]
    known = answer.settings
    return _figures(
        answer.finish_reason, known.get("tokens", 0), None, known.get("seed"), known.get("left_out", 0),
        known.get("context_used"), known.get("context_limit"),
    )


def hint(opened: Opened) -> str:
    """Return what to know of the speakers before reading them; empty when there is nothing to say."""
    lines = []
    if opened.hides_names:
        lines.append(BLIND_LINE if opened.turns else DRAWN_LINE)
    elif all(speaker.run_id is None for speaker in opened.sides):
        untrained = opened.newest_run_id is None and len(set(opened.sides)) == 1
        lines.append(TRAIN_LINE if untrained else "All sides are untrained models.")
    if any(speaker.model == DEMO for speaker in opened.sides):
        lines.append(DEMO_LINE)
    return " ".join(lines)


def heading(opened: Opened, side: int) -> str:
    """Return who answers on a side of a blind chat: its letter, and after the vote its name."""
    return f"**{CHOICES[side]}**" + ("" if opened.hides_names else f": {plain(opened.sides[side].label)}")


def vote_line(opened: Opened) -> str:
    """Return what was voted on the last answers, in words; what to do where nothing was."""
    votes = opened.turns[-1].votes if opened.turns else ()
    if not votes:
        return "Which answer is better? You need not wait for the end." if opened.turns else ""
    latest = votes[-1]
    said = {"tie": "they are equally good", "both_bad": "none of them is good"}.get(latest.verdict)
    side = latest.side or 0
    said = said or f"{CHOICES[side]} ({plain(opened.sides[side].label)}) is better"
    after = "It is final; your next message begins a new blind chat." if opened.is_blind else "Vote again to change it."
    if not opened.is_blind and latest.verdict == "chosen":
        after += " All sides go on from that answer, unless the settings say otherwise."
    return f"Voted: {said}. {after}"


def as_read(text: str) -> str:
    """Return Markdown in which tags are read, not obeyed: what is judged must be what was said."""
    return _outside_code(text, lambda part: part.replace("<", "&lt;"))


def written(text: str) -> str:
    """Return what `as_read` was given, after somebody has written in it."""
    return _outside_code(text, lambda part: part.replace("&lt;", "<"))


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    parts = CODE.split(text)
    return "".join(part if number % 2 else change(part) for number, part in enumerate(parts))


def plain(text: str) -> str:
    """Return a name so that Markdown shows it as it is."""
    return re.sub(r"([\\`*_{}\[\]()#+.!|<>~&$:@-])", r"\\\1", text)


def _message(role: str, text: str, **more: Any) -> Shown:
    # As a part, not as a bare string: a bare one loses its indentation.
    return {"role": role, "content": [{"type": "text", "text": as_read(text)}], **more}


def _stored(answer: ChatMessage | None) -> list[tuple[str, Shown]]:
    if answer is None:
        unknown = "No answer yet: it is being written on another page, or the program ended meanwhile."
        return _answer("", "error", unknown)
    return _answer(answer.content, answer.finish_reason, (answer.settings or {}).get("error", ""))


def _answer(text: str, finish_reason: str | None, error: str) -> list[tuple[str, Shown]]:
    """Return an answer's thoughts, folded, its text, and after it what went wrong, if something did."""
    shown = list(_parts(text, finish_reason is not None)) if text.strip() else []
    if finish_reason == "error":
        shown.append((NOTE, _message("assistant", f"⚠️ {error}")))
    elif finish_reason is not None and not shown:
        nothing = "stopped before the first word" if finish_reason == "stopped" else "an empty answer"
        shown.append((NOTE, _message("assistant", f"*({nothing})*")))
    return shown


def _parts(text: str, is_done: bool) -> Iterator[tuple[str, Shown]]:
    """Split what a model thought before it answered from the answer."""
    thought, answer = parted(text)
    if thought:
        metadata = {"title": "Thinking", "status": "done" if is_done or answer else "pending"}
        yield THOUGHT, _message("assistant", words_of(thought) or "…", metadata=metadata)
    if answer.strip():
        yield ANSWER, _message("assistant", answer)


def _pending(answer: Answer) -> str:
    if answer.state == "loading" and answer.seconds > 0.5:
        return f"Loading the model… {answer.seconds:.0f} s"
    return "Waiting for the first word…"


def _figures(
    finish_reason: str | None, tokens: int, tokens_per_second: float | None, seed: int | None, left_out: int,
    context_used: int | None = None, context_limit: int | None = None,
) -> str:
    parts = {"stopped": ["Stopped"], "error": ["No whole answer"]}.get(finish_reason or "", [])
    # Until the server tells, pieces are counted: a character of several tokens (some Chinese) comes as one piece.
    parts = [*parts, f"{'≈ ' if context_used is None else ''}{tokens} token{'' if tokens == 1 else 's'}"]
    if tokens_per_second is not None:
        parts.append(f"{tokens_per_second:.0f} tokens/s")
    if finish_reason == "length":
        parts.append("cut off at the token limit")
    if context_used is not None:
        parts.append(f"context {context_used:,}{f' of {context_limit:,}' if context_limit else ''}")
    if finish_reason is not None and seed is not None:
        parts.append(f"seed {seed}")
    if left_out:
        parts.append(f"the {left_out} oldest messages no longer fit and were left out")
    return " · ".join(parts)
