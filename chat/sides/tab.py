"""The columns of a chat: who answers, what was said, a line of figures. Does not know how answers come.

A blind chat shows letters in place of the lists of models, and the names beside them after the vote.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import gradio as gr

from chat import view
from chat.session import SideBySide
from chat.speakers import Speaker, speakers
from chat.transcript import Opened, open_chat, turns
from chat.votes import CHOICES, rate, ratings
from errors import AppError, ConfigError, as_toast
from models.client import Workers
from storage import Store

# No single "$": "from $5 to $10" would lose its words to a formula, and an answer must be read as it was given.
LATEX = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "\\[", "right": "\\]", "display": True},
    {"left": "\\(", "right": "\\)", "display": False},
]
NOBODY = ("nobody", "")
SAID_HERE = "Its answers appear here."
DRAWN = "Takes part"  # over a list of a blind chat: before the first message nobody has a side
DRAWN_HERE = "Side {}: one of those who take part, drawn with your first message."
ALWAYS = 2  # sides that are always there


class Side(NamedTuple):
    """The components of one side: its column, who answers, the heading of a blind chat, what was said, figures."""

    column: gr.Column
    who: gr.Dropdown
    name: gr.Markdown
    said: gr.Chatbot
    note: gr.Markdown


class Sides:
    """All sides of a chat, those that are not used hidden."""

    def __init__(self, store: Store) -> None:
        """Lay them out, inside the block that is open."""
        self.store = store
        listed = speakers(store, None)
        with gr.Row(elem_id="chat-sides"):
            self.all = [self._side(number, letter, listed) for number, letter in enumerate(CHOICES)]
        self.who = [side.who for side in self.all]
        self.said = [side.said for side in self.all]
        self.parts = [part for side in self.all for part in side]

    def frame(self, opened: Opened) -> dict[Any, Any]:
        """Return the updates that show who answers."""
        masked, drawn = opened.is_blind and bool(opened.turns), opened.is_blind and not opened.turns
        listed = sorted(opened.sides, key=opened.known.index) if opened.is_blind else list(opened.sides)
        frame: dict[Any, Any] = {}
        for number, side in enumerate(self.all):
            there = number < len(opened.sides)
            value = {"value": listed[number].key} if there else {"value": NOBODY[1]} if number >= ALWAYS else {}
            frame[side.column] = gr.update(visible=there)
            frame[side.who] = gr.update(
                choices=choices(opened.known, number), visible=not masked, label=DRAWN if drawn else CHOICES[number], **value
            )
            frame[side.name] = gr.update(value=view.heading(opened, number) if there else "", visible=masked)
        return frame

    def stored(self, opened: Opened, workers: Workers, annotator: str) -> dict[Any, Any]:
        """Return the updates that show what was said, and what somebody said of it."""
        updates: dict[Any, Any] = {}
        for number, side in enumerate(self.all[: len(opened.sides)]):
            thumbs = self.thumbs(opened, number, annotator)
            updates[side.said] = gr.update(
                value=view.column(opened.turns, number), feedback_value=thumbs,
                placeholder=DRAWN_HERE.format(CHOICES[number]) if opened.is_blind else SAID_HERE,
            )
            updates[side.note] = "" if opened.hides_names else view.idle_note(workers, opened, number)
        return updates

    def thumbs(self, opened: Opened, side: int, annotator: str) -> list[str | None]:
        """Return what somebody said of each message of a side's model, as the chat component shows it."""
        if opened.chat is None:
            return []
        return view.thumbs(opened.turns, side, ratings(self.store, opened.chat, opened.turns, side, annotator))

    def rate(
        self, event: gr.LikeData, side: int, annotator: str, chat_id: int | None, painted: list[int], project_id: int | None
    ) -> Iterator[Any]:
        """Label one answer good or bad, or take that back; then show what is kept, whatever was pressed."""
        try:
            entry = self.touched(chat_id, painted, side, event)
            good = event.liked if isinstance(event.liked, bool) else None
            rate(self.store, entry.question_id, side, good, annotator)
            gr.Info("Taken back." if good is None else f"Labelled {'good' if good else 'bad'}.")
        except AppError as error:
            gr.Warning(as_toast(str(error)))
        if chat_id is None:
            yield gr.skip()
            return
        kept = self.thumbs(open_chat(self.store, project_id, chat_id), side, annotator or "")
        # A thumb follows changes only: what a press changed on the page alone has to be changed here first.
        yield gr.update(feedback_value=["Like" if thumb is None else None for thumb in kept])
        yield gr.update(feedback_value=kept)

    def live(self, snapshot: SideBySide, hides_names: bool) -> dict[Any, Any]:
        """Return the updates that show what is being said."""
        updates: dict[Any, Any] = {}
        for number, answer in enumerate(snapshot.answers):
            updates[self.all[number].said] = view.live(snapshot, number)
            updates[self.all[number].note] = view.note(answer, hides_names)
        return updates

    def listed(self, known: Sequence[Speaker]) -> dict[Any, Any]:
        """Return the updates that bring the lists up to date."""
        return {who: gr.update(choices=choices(known, number)) for number, who in enumerate(self.who)}

    def touched(self, chat_id: int | None, painted: list[int], side: int, event: gr.EventData) -> view.Entry:
        """Return the message of a side that an event is about. painted: the questions that the page shows.

        Raises ConfigError when it is not stored yet, or the chat has gone on on another page.
        """
        past = turns(self.store, chat_id) if chat_id else []
        if [turn.question.id for turn in past] != list(painted):
            raise ConfigError("This chat has gone on on another page. Open this tab again to see it as it is now.")
        shown = view.entries(past, side)
        index = event.index[0] if isinstance(event.index, (list, tuple)) else event.index
        if not 0 <= index < len(shown):
            raise ConfigError("The answer is still being written. Wait for its end.")
        return shown[index]

    def _side(self, number: int, letter: str, known: Sequence[Speaker]) -> Side:
        listed, name = choices(known, number), letter.lower()
        with gr.Column(min_width=280, elem_classes="chat-side", visible=number < ALWAYS) as column:
            who = gr.Dropdown(
                listed, value=listed[0][1], label=letter, filterable=False, interactive=True, elem_id=f"chat-{name}-model"
            )
            heading = gr.Markdown(letter, elem_id=f"chat-{name}-name", elem_classes="chat-name", visible=False)
            said = gr.Chatbot(
                elem_id=f"chat-{name}", height=None, show_label=False, buttons=["copy"], layout="bubble",
                latex_delimiters=LATEX, allow_tags=False, sanitize_html=True, editable="all",
                placeholder=SAID_HERE, elem_classes="chat-said",
                group_consecutive_messages=False,  # so that each message has its own buttons
            )
            note = gr.Markdown(elem_id=f"chat-{name}-note", elem_classes="chat-note")
        return Side(column, who, heading, said, note)


def choices(known: Sequence[Speaker], side: int) -> list[tuple[str, str]]:
    """Return speakers as the entries of a side's list: what is read, and what is chosen."""
    return [*([NOBODY] if side >= ALWAYS else []), *((speaker.label, speaker.key) for speaker in known)]
