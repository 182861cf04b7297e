"""The Chat tab: two models answer the same message side by side. Does not know how, nor where answers are kept.

Every callback reads the page, calls one function of this package and returns updates. What is shown comes from
the store, never from the page: a reloaded page finds its chat again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import gradio as gr

from chat import view
from chat.session import Question, SideBySide, ask, read_seed
from chat.speakers import DEMO, Speaker, find, speakers
from chat.streams import Streams
from chat.transcript import Opened, begin, fresh, reopen
from errors import AppError, reported
from models.client import Sampling, Workers
from storage import Store

# No single "$": "from $5 to $10" would lose its words to a formula, and an answer must be read as it was given.
LATEX = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "\\[", "right": "\\]", "display": True},
    {"left": "\\(", "right": "\\)", "display": False},
]
THINKING = [("<think>", "</think>")]
PRIVATE = {"api_visibility": "private", "show_progress": "hidden"}
guarded = reported(gr.Warning, gr.skip)


def build(page: gr.Blocks, tab: gr.Tab, store: Store, project: gr.Dropdown, workers: Workers) -> None:
    """Fill the Chat tab.

    page: the page it belongs to; project: the header's list of projects, whose value is a project's id or None.
    """
    ChatTab(store, workers).build(tab, project)


def css() -> str:
    """Return the tab's style sheet."""
    return Path(__file__).with_name("chat.css").read_text(encoding="utf-8")


def head() -> str:
    """Return what the tab adds to the page's head: nothing."""
    return ""


def suggestions() -> list[list[str]]:
    """Return questions that the demo can answer, as rows of a data set; none where the demo's prompts are missing."""
    try:
        from demo.prompts import SUGGESTIONS
    except ImportError:
        return []
    return [[text] for text in SUGGESTIONS]


def choices(known: list[Speaker]) -> list[tuple[str, str]]:
    """Return speakers as the entries of a list: what is read, and what is chosen."""
    return [(speaker.label, speaker.key) for speaker in known]


class ChatTab:
    """The components of one Chat tab and what they do. Holds no chat: only which pages are being answered."""

    def __init__(self, store: Store, workers: Workers) -> None:
        self.store, self.workers, self.streams = store, workers, Streams()

    def build(self, tab: gr.Tab, project: gr.Dropdown) -> None:
        """Lay the tab out and connect it."""
        self.chat_id, self.newest_run = gr.State(None), gr.State(None)
        with gr.Column(elem_id="chat-root"):
            self.hint = gr.Markdown(elem_id="chat-hint")
            with gr.Row(elem_id="chat-sides"):
                sides = [self._side(name) for name in ("left", "right")]
            self.lists, self.bots, self.notes = (list(parts) for parts in zip(*sides, strict=True))
            self._composer()
            self._settings()
        self._connect(tab, project)

    def _side(self, name: str) -> tuple[gr.Dropdown, gr.Chatbot, gr.Markdown]:
        """Lay one side out: who answers, what was said, and a line of figures."""
        listed = choices(speakers(self.store, None))
        with gr.Column(min_width=280, elem_classes="chat-side"):
            who = gr.Dropdown(
                listed, value=listed[0][1], label=f"{name.capitalize()} side", filterable=False,
                interactive=True, elem_id=f"chat-{name}-model",
            )
            said = gr.Chatbot(
                elem_id=f"chat-{name}", height=None, show_label=False, buttons=["copy"], layout="bubble",
                latex_delimiters=LATEX, reasoning_tags=THINKING, allow_tags=False, sanitize_html=True,
                placeholder="Its answers appear here.", feedback_options=None,
            )
            note = gr.Markdown(elem_id=f"chat-{name}-note", elem_classes="chat-note")
        return who, said, note

    def _composer(self) -> None:
        """Lay out what is asked with: suggestions, the text, and a new chat."""
        self.chips = gr.Dataset(
            components=["textbox"], samples=suggestions(), label="Try one of these", elem_id="chat-suggestions",
            visible=bool(suggestions()), samples_per_page=20,
        )
        with gr.Row(elem_id="chat-composer", equal_height=True):
            self.box = gr.Textbox(
                placeholder="Ask both…", show_label=False, container=False, lines=1, max_lines=8, submit_btn=True,
                stop_btn=False, scale=8, elem_id="chat-box", max_length=20_000,
            )
            self.renew = gr.Button("New chat", scale=0, min_width=110, elem_id="chat-new")

    def _settings(self) -> None:
        """Lay the folded settings out; their defaults are those of `Sampling`."""
        default = Sampling()
        with gr.Accordion("Settings", open=False, elem_id="chat-settings"):
            with gr.Row():
                self.temperature = gr.Slider(
                    0, 2, default.temperature, step=0.05, label="Temperature", elem_id="chat-temperature",
                    info="0 always takes the likeliest word; higher is more varied.",
                )
                self.top_p = gr.Slider(
                    0.05, 1, default.top_p, step=0.05, label="Top-p", elem_id="chat-top-p",
                    info="Draw only from the likeliest words that share this much of the probability.",
                )
                self.max_tokens = gr.Slider(
                    1, 4096, default.max_tokens, step=1, label="Longest answer", elem_id="chat-max-tokens",
                    info="In tokens: short words or parts of words.",
                )
                self.seed = gr.Textbox(  # not a Number: an empty one turns into 0 when the settings are unfolded
                    label="Seed", elem_id="chat-seed", placeholder="a new one each time", max_length=10,
                    info="The same seed gives the same answers again.",
                )
            self.system = gr.Textbox(
                label="System prompt", lines=2, elem_id="chat-system", placeholder="None",
                info="Told to both models before the conversation, from the next message on.",
            )

    def _connect(self, tab: gr.Tab, project: gr.Dropdown) -> None:
        """Connect every event. All of them may repaint everything: a running answer hands over to what replaces it."""
        everything = [
            self.hint, self.chips, *self.lists, *self.bots, *self.notes, self.chat_id, self.newest_run, self.box,
            self.temperature, self.top_p, self.max_tokens, self.system,
        ]
        pair = [project, *self.lists]
        settings = [self.temperature, self.top_p, self.max_tokens, self.seed, self.system]
        for trigger, text in ((self.box.submit, self.box), (self.chips.click, self.chips)):
            trigger(self.send, [text, *pair, self.chat_id, *settings], everything, concurrency_limit=32, **PRIVATE)
        self.box.stop(self.halt, None, None, queue=False, **PRIVATE)
        self.renew.click(self.begin, pair, everything, queue=False, **PRIVATE)
        for each in self.lists:
            each.input(self.choose, pair, everything, queue=False, **PRIVATE)
        project.change(self.open, project, everything, queue=False, **PRIVATE)
        tab.select(self.look, [project, self.newest_run, self.chat_id], everything, queue=False, **PRIVATE)

    def send(
        self, text: str | list[str] | None, project_id: int | None, left: str, right: str, chat_id: int | None,
        temperature: float, top_p: float, max_tokens: int, seed: str | None, system: str | None, request: gr.Request,
    ) -> Iterator[Any]:
        """Ask both sides and stream what they answer."""
        try:
            sampling = Sampling(float(temperature), float(top_p), max_tokens=int(max_tokens), seed=read_seed(seed))
            pair = find(self.store, project_id, left, right)
            words = text[0] if isinstance(text, list) else text
            question = Question(words or "", pair, sampling, system or "", chat_id, project_id)
            yield from self._stream(str(request.session_hash), question)
        except AppError as error:
            gr.Warning(str(error))
            yield gr.skip()

    def _stream(self, page: str, question: Question) -> Iterator[Any]:
        stream, first = self.streams.begin(page), True
        try:
            with closing(ask(self.store, self.workers, question, stream.stop)) as snapshots:
                for snapshot in snapshots:
                    if stream.successor is not None:
                        break
                    yield self._painted(snapshot, first)
                    first = False
        finally:  # reached too when the page is closed
            successor = self.streams.end(page)
        if successor is not None:
            yield successor

    def _painted(self, snapshot: SideBySide, first: bool) -> tuple[Any, ...]:
        """Return the updates for one moment. The text box is emptied once: the next message may be in it already."""
        box: dict[str, Any] = gr.skip()
        if first or snapshot.is_done:
            emptied = {"value": ""} if first else {}
            box = gr.update(submit_btn=snapshot.is_done, stop_btn=not snapshot.is_done, **emptied)
        bots = [view.live(snapshot, side) for side in range(2)]
        notes = [view.note(answer) for answer in snapshot.answers]
        return (*[gr.skip()] * 4, *bots, *notes, snapshot.chat_id, gr.skip(), box, *[gr.skip()] * 4)

    def halt(self, request: gr.Request) -> None:
        """Stop this page's answers; the stream itself then shows what is left of them."""
        self.streams.stop(str(request.session_hash))

    @guarded
    def open(self, project_id: int | None, request: gr.Request) -> Any:
        """Show the newest chat of a project."""
        return self._shown(reopen(self.store, project_id), request)

    @guarded
    def look(
        self, project_id: int | None, newest_run: int | None, chat_id: int | None, request: gr.Request
    ) -> Any:
        """Bring an opened tab up to date; a run that has finished meanwhile is chosen at once."""
        # Before the page knows its project, an answer to this could arrive after, and paint over, the project's own.
        if project_id is None or self.streams.is_busy(str(request.session_hash)):
            return gr.skip()
        opened = reopen(self.store, project_id)
        if opened.newest_run_id != newest_run or (opened.chat and opened.chat.id == chat_id):
            return self._shown(opened, request)
        lists = [gr.update(choices=choices(opened.known))] * 2
        return (gr.skip(), gr.skip(), *lists, *[gr.skip()] * 11)

    @guarded
    def choose(self, project_id: int | None, left: str, right: str, request: gr.Request) -> Any:
        """Begin afresh with other speakers: answers of one model are no history for another."""
        return self._shown(fresh(self.store, project_id, find(self.store, project_id, left, right)), request)

    @guarded
    def begin(self, project_id: int | None, left: str, right: str, request: gr.Request) -> Any:
        """Begin a new chat; the old one stays stored."""
        return self._shown(begin(self.store, project_id, find(self.store, project_id, left, right)), request)

    def _shown(self, opened: Opened, request: gr.Request) -> Any:
        """Return the updates that show a chat, in the order of `everything`, or leave them to a running answer."""
        lists = [gr.update(choices=choices(opened.known), value=speaker.key) for speaker in opened.pair]
        bots = [view.column(opened.turns, side) for side in range(2)]
        notes = [view.idle_note(self.workers, opened, side) for side in range(2)]
        demo = any(speaker.model == DEMO for speaker in opened.pair)
        chips = gr.update(visible=demo and bool(suggestions()))
        chat_id = opened.chat.id if opened.chat else None
        box = gr.update(submit_btn=True, stop_btn=False)
        names = ("temperature", "top_p", "max_tokens", "system")
        kept = [opened.settings.get(name, gr.skip()) for name in names]
        updates = (
            view.hint(opened.pair), chips, *lists, *bots, *notes, chat_id, opened.newest_run_id, box, *kept
        )
        return gr.skip() if self.streams.replace(str(request.session_hash), updates) else updates
