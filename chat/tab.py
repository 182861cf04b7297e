"""The Chat tab: models answer the same message side by side, and people say which is better. Does not know how.

Every callback reads the page, calls one function of this package and returns updates. What is shown comes from
the store, never from the page: a reloaded page finds its chat again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import gradio as gr

from chat import view, votes
from chat.ballot.tab import Ballot
from chat.composer.tab import Composer
from chat.library.tab import Library
from chat.origin.tab import Origin
from chat.session import Question, SideBySide, ask
from chat.settings.tab import Settings
from chat.sides.tab import Sides
from chat.speakers import Speaker, find, speakers
from chat.streams import Streams
from chat.transcript import Opened, begin, fresh, hides_names, open_chat, reopen
from errors import AppError, ConfigError, as_toast, reported
from models.client import Workers
from storage import Store

PRIVATE = {"api_visibility": "private", "show_progress": "hidden"}
AT_ONCE = {**PRIVATE, "queue": False}
guarded = reported(gr.Warning, gr.skip)


def build(
    page: gr.Blocks, tab: gr.Tab, store: Store, project: gr.Dropdown, annotator: gr.Textbox, workers: Workers
) -> None:
    """Fill the Chat tab.

    page: the page it belongs to; project: the header's list of projects, whose value is a project's id or None;
    annotator: the header's name, under which votes are kept.
    """
    ChatTab(store, workers).build(tab, project, annotator)


def css() -> str:
    """Return the tab's style sheet."""
    return Path(__file__).with_name("chat.css").read_text(encoding="utf-8")


def head() -> str:
    """Return what the tab adds to the page's head: nothing."""
    return ""


class ChatTab:
    """The components of one Chat tab and what they do. Holds no chat: only which pages are being answered."""

    def __init__(self, store: Store, workers: Workers) -> None:
        self.store, self.workers, self.streams = store, workers, Streams()

    def build(self, tab: gr.Tab, project: gr.Dropdown, annotator: gr.Textbox) -> None:
        """Lay the tab out and connect it."""
        # painted: the numbers of the questions that the page shows; another page may have gone on with the chat.
        # whose: the annotator whose chat is shown.
        self.chat_id, self.newest_run, self.painted, self.whose = gr.State(None), gr.State(None), gr.State([]), gr.State("")
        with gr.Column(elem_id="chat-root"):
            self.hint = gr.Markdown(elem_id="chat-hint")
            self.sides, self.ballot = Sides(self.store), Ballot()
            self.composer = Composer()
            self.settings = Settings()
            self.origin = Origin(self.store, self.workers)
            self.library = Library(self.store)
        self._connect(tab, project, annotator)

    def _connect(self, tab: gr.Tab, project: gr.Dropdown, annotator: gr.Textbox) -> None:
        """Connect every event. All of them may repaint everything: a running answer hands over to what replaces it."""
        everything = [
            *self.sides.parts, *self.ballot.parts, *self.composer.parts, *self.settings.fields.values(),
            *self.origin.parts, *self.library.parts, self.hint, self.chat_id, self.newest_run, self.painted, self.whose,
        ]
        composer = self.composer
        setup = [annotator, project, composer.blind, *self.sides.who]
        asking = [self.chat_id, self.painted, *self.settings.fields.values(), *setup]
        # Gradio would drop a question without a word while the last one's event is about to end.
        streaming = {**PRIVATE, "concurrency_limit": 32, "trigger_mode": "multiple"}
        for trigger, text in ((composer.box.submit, composer.box), (composer.chips.click, composer.chips)):
            trigger(self.send, [text, *asking], everything, **streaming)
        for number, said in enumerate(self.sides.said):
            side = gr.State(number)
            said.retry(self.retry, [side, *asking], everything, **streaming)
            said.edit(self.edit, [side, *asking], everything, **streaming)
            said.like(self.sides.rate, [side, annotator, self.chat_id, self.painted, project], said, **PRIVATE)
        for choice, button in self.ballot.buttons.items():
            button.click(self.vote, [gr.State(choice), annotator, self.painted, project], everything, **PRIVATE)
        composer.box.stop(self.halt, None, None, **AT_ONCE)
        composer.renew.click(self.begin, setup, everything, **AT_ONCE)
        composer.add.click(self.widen, setup, everything, **PRIVATE)
        gr.on([composer.blind.input, *(who.input for who in self.sides.who)], self.choose, setup, everything, **AT_ONCE)
        project.change(self.open, [project, annotator], everything, **AT_ONCE)
        gr.on([annotator.blur, annotator.submit], self.meet, [project, annotator, self.whose], everything, **AT_ONCE)
        tab.select(self.look, [project, annotator, self.newest_run, self.chat_id, composer.blind], everything, **AT_ONCE)
        self.origin.connect()
        self.library.connect(project, self.chat_id, [self.painted, self.ballot.verdict])
        self.library.table.select(self.pick, [project, annotator, self.library.table], everything, **PRIVATE)  # toasts need the queue

    def send(
        self, request: gr.Request, text: str | list[str] | None, chat_id: int | None, painted: list[int],
        *values: Any,
    ) -> Iterator[Any]:
        """Ask all sides and stream what they answer."""
        words = text[0] if isinstance(text, list) else text
        yield from self._asked(request, words or "", chat_id, values)

    def retry(
        self, event: gr.RetryData, request: gr.Request, side: int, chat_id: int | None, painted: list[int],
        *values: Any,
    ) -> Iterator[Any]:
        """Ask a question once more, on all sides."""
        try:
            entry = self.sides.touched(chat_id, painted, side, event)
        except AppError as error:
            gr.Warning(as_toast(str(error)))
            yield gr.skip()
            return
        yield from self._asked(request, self.store.chats.message(entry.question_id).content, chat_id, values, entry.question_id)

    def edit(
        self, event: gr.EditData, request: gr.Request, side: int, chat_id: int | None, painted: list[int],
        *values: Any,
    ) -> Iterator[Any]:
        """Ask an earlier question in other words; or keep what somebody made of an answer as a better one."""
        annotator, project_id = values[len(self.settings.fields) :][:2]
        try:
            entry = self.sides.touched(chat_id, painted, side, event)
            if entry.what == view.QUESTION:
                yield from self._asked(request, view.written(str(event.value)), chat_id, values, entry.question_id)
                return
            if entry.what != view.ANSWER:
                raise ConfigError("Only questions and answers can be changed.")
            votes.improve(self.store, entry.question_id, side, view.written(str(event.value)), annotator)
            gr.Info("Kept: your text is labelled better than the answer.")
        except AppError as error:
            gr.Warning(as_toast(str(error)))
        yield gr.skip() if chat_id is None else self._updates(open_chat(self.store, project_id, chat_id), annotator)

    def _asked(
        self, request: gr.Request, text: str, chat_id: int | None, values: Sequence[Any], replaces: int | None = None
    ) -> Iterator[Any]:
        """Ask; values: of the settings, then the annotator, the project, the blind mode and who is on each side."""
        fields, page = self.settings.fields, str(request.session_hash)
        annotator, project_id, blind, *keys = values[len(fields) :]
        try:
            told = self.settings.read(dict(zip(fields, values)))
            sides = self._chosen(project_id, keys)
            question = Question(
                text, sides, chat_id=chat_id, project_id=project_id, is_blind=blind, replaces=replaces,
                annotator=(annotator or "").strip(), **told,
            )
            yield from self._stream(page, question)
        except AppError as error:
            gr.Warning(as_toast(str(error)))
            if chat_id is None or self.streams.is_busy(page):
                yield gr.skip()
            else:  # what was written over a message does not stay there as if it had been asked
                yield self.sides.stored(open_chat(self.store, project_id, chat_id), self.workers, annotator or "")

    def _stream(self, page: str, question: Question) -> Iterator[Any]:
        stream, first, last = self.streams.begin(page), True, None
        try:
            with closing(ask(self.store, self.workers, question, stream.stop)) as snapshots:
                for snapshot in snapshots:
                    if stream.successor is not None:
                        break
                    painted, first = self._painted(snapshot, question, first), False
                    if snapshot.is_done:
                        last = painted
                        break
                    yield painted
        finally:  # reached too when the page is closed
            last = self.streams.end(page) or last
        if last is not None:  # by now the next question may come
            yield last

    def _painted(self, snapshot: SideBySide, question: Question, first: bool) -> dict[Any, Any]:
        """Return the updates for one moment. The text box is emptied once: the next message may be in it already."""
        painted: dict[Any, Any] = {}
        if first or snapshot.is_done:
            opened = open_chat(self.store, question.project_id, snapshot.chat_id)
            painted |= self.composer.answering(snapshot.is_done, first and question.replaces is None)
            painted |= self._frame(opened)
        if snapshot.is_done:
            painted |= self.library.updates(opened)
        masked = question.is_blind and hides_names(self.store, snapshot.chat_id)
        asked = [*(turn.question.id for turn in snapshot.past), snapshot.question_id]
        return {
            **painted, **self.sides.live(snapshot, masked), self.chat_id: snapshot.chat_id, self.painted: asked,
        }

    def halt(self, request: gr.Request) -> None:
        """Stop this page's answers; the stream itself then shows what is left of them."""
        self.streams.stop(str(request.session_hash))

    @guarded
    def vote(self, choice: str, annotator: str, painted: list[int], project_id: int | None) -> Any:
        """Keep which of the latest answers on the page is better, and name the models of a blind chat."""
        if not painted:
            raise ConfigError("Ask something first.")
        try:
            votes.vote(self.store, painted[-1], choice, annotator)
        except AppError as error:
            gr.Warning(as_toast(str(error)))  # the page may not know yet why
        opened = open_chat(self.store, project_id, self.store.chats.message(painted[-1]).chat_id)
        return {**self._frame(opened), **self.library.updates(opened)}

    @guarded
    def open(self, project_id: int | None, annotator: str, request: gr.Request) -> Any:
        """Show the newest chat of a project that somebody began."""
        return self._shown(reopen(self.store, project_id, (annotator or "").strip()), annotator, request)

    @guarded
    def meet(self, project_id: int | None, annotator: str, whose: str, request: gr.Request) -> Any:
        """Show the newest chat of another person, once they have written their name."""
        name = (annotator or "").strip()
        return gr.skip() if name in ("", whose) else self._shown(reopen(self.store, project_id, name), name, request)

    @guarded
    def look(
        self, project_id: int | None, annotator: str, newest_run: int | None, chat_id: int | None, blind: bool,
        request: gr.Request,
    ) -> Any:
        """Bring an opened tab up to date; a run that has finished meanwhile is chosen at once."""
        # Before the page knows its project, an answer to this could arrive after, and paint over, the project's own.
        if project_id is None or self.streams.is_busy(str(request.session_hash)):
            return gr.skip()
        opened = reopen(self.store, project_id, (annotator or "").strip())
        if opened.newest_run_id != newest_run or (opened.chat and opened.chat.id == chat_id):
            return self._shown(opened, annotator, request)
        return self.sides.listed(opened.known)

    @guarded
    def pick(
        self, project_id: int | None, annotator: str, table: Any, event: gr.SelectData, request: gr.Request
    ) -> Any:
        """Open the conversation of the row that was clicked."""
        return self._shown(open_chat(self.store, project_id, int(event.row_value[0])), annotator, request)

    @guarded
    def choose(self, request: gr.Request, annotator: str, project_id: int | None, blind: bool, *keys: str) -> Any:
        """Begin afresh with other speakers: answers of one model are no history for another."""
        return self._shown(fresh(self.store, project_id, self._chosen(project_id, keys), blind), annotator, request)

    @guarded
    def begin(self, request: gr.Request, annotator: str, project_id: int | None, blind: bool, *keys: str) -> Any:
        """Begin a new chat; the old one stays stored."""
        sides = self._chosen(project_id, keys)
        return self._shown(begin(self.store, project_id, sides, blind, (annotator or "").strip()), annotator, request)

    @guarded
    def widen(self, request: gr.Request, annotator: str, project_id: int | None, blind: bool, *keys: str) -> Any:
        """Let one more model answer, one that does not yet, if there is one."""
        sides = self._chosen(project_id, keys)
        known = speakers(self.store, project_id)
        more = next((each for each in known if each not in sides), known[0])
        return self._shown(fresh(self.store, project_id, (*sides, more)[: len(votes.CHOICES)], blind), annotator, request)

    def _chosen(self, project_id: int | None, keys: Sequence[str | None]) -> tuple[Speaker, ...]:
        """Return who is chosen; the first two sides must be, the others may be nobody."""
        return find(self.store, project_id, *keys[:2], *filter(None, keys[2:]))

    def _shown(self, opened: Opened, annotator: str, request: gr.Request) -> Any:
        """Return the updates that show a chat, or leave them to a running answer."""
        updates = self._updates(opened, annotator)
        return gr.skip() if self.streams.replace(str(request.session_hash), updates) else updates

    def _updates(self, opened: Opened, annotator: str) -> dict[Any, Any]:
        if opened.chat:
            votes.settle_chat(self.store, opened.chat.id)
        updates: dict[Any, Any] = {
            **self._frame(opened), **self.sides.stored(opened, self.workers, annotator or ""),
            **self.composer.waiting(opened.is_blind), **self.settings.shown(opened.settings),
            **self.library.updates(opened),
            self.chat_id: opened.chat.id if opened.chat else None, self.newest_run: opened.newest_run_id,
            self.painted: [turn.question.id for turn in opened.turns], self.whose: (annotator or "").strip(),
        }
        return updates

    def _frame(self, opened: Opened) -> dict[Any, Any]:
        """Return the updates of what stands around the conversations: who answers, the ballot, how answers were made."""
        return {
            **self.sides.frame(opened), **self.ballot.frame(opened), **self.composer.frame(opened),
            **self.origin.frame(opened), self.hint: view.hint(opened),
        }
