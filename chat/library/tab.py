"""The folded list of conversations under a chat: search, open, name, take out. Does not know what is shown of one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import gradio as gr

from chat.library.exporting import as_json, as_markdown
from chat.speakers import Speaker, name_of, speakers
from chat.transcript import Opened, hides_names
from errors import ConfigError, reported
from outbox import outbox
from storage import Store
from storage.chats import ChatEntry

COLUMNS = ("Number", "Conversation", "Models", "Questions", "Votes", "Begun")
MOST_LETTERS = 80
FOUND, NOTHING = "Click one to open it", "No conversation holds all of these words"
HIDDEN = {"api_visibility": "private", "show_progress": "hidden"}
guarded = reported(gr.Warning, gr.skip)


class Library:
    """The components of the list. table: a click on its row opens the conversation of the number in its first cell."""

    def __init__(self, store: Store) -> None:
        """Lay it out, inside the block that is open."""
        self.store = store
        with gr.Accordion("Conversations", open=False, elem_id="chat-library") as self.fold:
            self.words = gr.Textbox(
                label="Search", placeholder="Words of a name, a question or an answer, in any order", elem_id="chat-search", max_lines=1
            )
            self.table = gr.Dataframe(
                headers=list(COLUMNS), value=[], interactive=False, wrap=True, elem_id="chat-list", show_row_numbers=False,
                max_height=320, buttons=[], datatype="str", column_widths=[80, 400, 290, 110, 80, 180],
                label=FOUND,
            )
            with gr.Row(elem_id="chat-open-one"):
                self.name = gr.Textbox(
                    label="Name of the open conversation", elem_id="chat-rename", max_lines=1, max_length=200, scale=3
                )
                self.rename = gr.Button("Keep the name", size="sm", scale=1, min_width=120, elem_id="chat-rename-button")
                self.markdown = gr.DownloadButton("Download as text", size="sm", scale=1, min_width=140, elem_id="chat-markdown")
                self.json = gr.DownloadButton("Download as JSON", size="sm", scale=1, min_width=140, elem_id="chat-json")
        self.parts = [self.table, self.name, self.markdown, self.json]

    def connect(self, project: gr.Dropdown, chat_id: gr.State, told: Sequence[gr.State | gr.Markdown]) -> None:
        """Connect what changes only the list itself. told: what changes with a question or a vote, which the list counts."""
        changes = [self.words.change, self.fold.expand, *(each.change for each in (chat_id, *told))]
        gr.on(changes, self.search, [project, self.words], self.table, queue=False, **HIDDEN)
        gr.on(
            [self.rename.click, self.name.submit], self.keep_name, [project, self.words, chat_id, self.name],
            [self.table, self.markdown, self.json], **HIDDEN,
        )

    def updates(self, opened: Opened) -> dict[Any, Any]:
        """Return the updates that show a conversation as the open one, in the list of its project."""
        chat = opened.chat
        used = chat is not None and bool(opened.turns) and not opened.hides_names  # the files name the models
        paths = self._written(chat.id) if used else (None, None)
        updates: dict[Any, Any] = {self.name: chat.name if chat else ""}
        for button, path in zip((self.markdown, self.json), paths):
            updates[button] = gr.update(value=path, interactive=used)
        return updates

    @guarded
    def search(self, project_id: int | None, words: str | None) -> Any:
        """List the conversations that hold some words."""
        return self._listed(project_id, words or "")

    @guarded
    def keep_name(self, project_id: int | None, words: str | None, chat_id: int | None, name: str) -> Any:
        """Name the open conversation."""
        if chat_id is None:
            raise ConfigError("Open a conversation first.")
        self.store.chats.rename(chat_id, name)
        gr.Info("The name is kept.")
        files = [gr.skip()] * 2 if hides_names(self.store, chat_id) else self._written(chat_id)
        return self._listed(project_id, words or ""), *files

    def rows(self, project_id: int | None, words: str) -> list[list[str]]:
        """Return the rows of the list."""
        known = speakers(self.store, project_id)
        return [
            [
                str(entry.chat.id), _short(entry.title), _models(entry, known), str(entry.questions), str(entry.votes),
                time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.chat.created_at)),
            ]
            for entry in self.store.chats.search(project_id, words)
        ]

    def _listed(self, project_id: int | None, words: str) -> dict[str, Any]:
        rows = self.rows(project_id, words)
        return gr.update(value=rows, label=FOUND if rows or not words.strip() else NOTHING)

    def _written(self, chat_id: int) -> tuple[str, str]:
        paths = outbox() / f"chat-{chat_id}.md", outbox() / f"chat-{chat_id}.json"
        for path, text in zip(paths, (as_markdown(self.store, chat_id), as_json(self.store, chat_id))):
            path.write_text(text, encoding="utf-8")
        return str(paths[0]), str(paths[1])


def _models(entry: ChatEntry, known: Sequence[Speaker]) -> str:
    if entry.chat.is_blind and not entry.votes:
        return "hidden until the vote"
    return ", ".join(name_of(key, known) for key in entry.chat.models)


def _short(text: str) -> str:
    return text if len(text) <= MOST_LETTERS else f"{text[: MOST_LETTERS - 1]}…"
