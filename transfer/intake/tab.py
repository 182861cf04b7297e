"""The cards that put something in: a new project's name, a file or a data set, prompts written by hand.

A file is shown before it comes in. What the project holds, and how far an import is, is shown by who laid the cards out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from errors import AppError, as_toast, reported
from transfer.desk import Desk, arrived, import_line
from transfer.formats.registry import FORMATS, named
from transfer.intake.markup import preview_html
from transfer.intake.preview import Preview
from transfer.markup import bar

FILE_TYPES = [
    ".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow", ".feather", ".gz", ".zip", ".txt",
]
MOST_FIELDS = 8  # of a format, each with a list of the file's columns
LOOK_SECONDS = 0.3
PRIVATE = {"api_visibility": "private", "show_progress": "hidden"}
AT_ONCE = {**PRIVATE, "queue": False}

IMPORT_TEXT = """### … from a file
Preferences that others made: they count as labels and can be trained on at once. JSON, JSON lines, CSV, Parquet or
Arrow, also packed (`.gz`, `.zip`). The format is found by itself, and you see what was understood before anything is
stored."""
WRITE_TEXT = """### … or your own prompts
One question a line. A model then answers them, and you label the answers."""
guarded = reported(gr.Warning, gr.skip)


def css() -> str:
    """Return the cards' style sheet."""
    return Path(__file__).with_name("intake.css").read_text(encoding="utf-8")


def nothing_understood() -> tuple[Any, ...]:
    """Return the updates that take the preview away: what was shown is not what is chosen now."""
    return None, gr.Column(visible=False), "", *[gr.skip()] * (1 + MOST_FIELDS)


class Intake:
    """The components of the cards and what they do. live: those that an import under way changes."""

    def __init__(self, desk: Desk, look: Callable[[int | None], Sequence[Any]]) -> None:
        """Lay them out, inside the block that is open.

        look: returns the updates of all that shows a project and what is under way, given the project's id.
        """
        self.desk, self._look = desk, look
        with gr.Column(elem_classes="data-card"):
            gr.Markdown("### Put something in\nInto the project chosen at the top of the page, or into a new one.")
            self.new_name = gr.Textbox(
                label="Name of a new project", placeholder="leave empty to add to the chosen project", max_length=100,
                elem_id="data-new-project",
            )
        with gr.Column(elem_classes="data-card"):
            self._file()
        with gr.Column(elem_classes="data-card"):
            self._written()
        self.live = [self.bar, self.report, self.start, self.cancel, self.bad_rows]

    def _file(self) -> None:
        gr.Markdown(IMPORT_TEXT)
        self.upload = gr.File(label="File", file_types=FILE_TYPES, height=130, elem_id="data-file")
        self.seen = gr.State(None)  # the file that the format and the columns below were found for
        self.hub = gr.Textbox(
            label="… or a data set on the hub", placeholder="OWNER/NAME or OWNER/NAME:SPLIT", max_length=200,
            elem_id="data-hub",
        )
        with gr.Column(visible=False, elem_id="data-preview") as self.understood:
            self.preview = gr.HTML(padding=False, elem_id="data-preview-rows")
            self.format = gr.Dropdown(
                [(f"{known.name}: {known.description}", known.name) for known in FORMATS], label="Format",
                value=None, elem_id="data-format",
            )
            with gr.Accordion("Which column is what", open=False, elem_id="data-columns"):
                self.columns = [
                    gr.Dropdown([], visible=False, min_width=140, elem_id=f"data-column-{number}")
                    for number in range(MOST_FIELDS)
                ]
        self.keep_good = gr.Checkbox(
            label="Store good rows even if others are broken", elem_id="data-keep-good",
            info="Broken rows then go to a file that you can download. Otherwise one broken row refuses all.",
        )
        with gr.Row():
            self.start = gr.Button("Import", variant="primary", elem_id="data-import", min_width=120)
            self.cancel = gr.Button(
                "Cancel", variant="stop", interactive=False, elem_id="data-import-cancel", min_width=120
            )
        self.bar = gr.HTML(padding=False, elem_id="data-import-progress")
        self.report = gr.Markdown(elem_id="data-import-report", elem_classes="data-report")
        self.bad_rows = gr.DownloadButton("Download the broken rows", visible=False, elem_id="data-bad-rows")

    def _written(self) -> None:
        gr.Markdown(WRITE_TEXT)
        self.lines = gr.Textbox(
            label="Prompts", lines=4, max_lines=12, elem_id="data-prompts", max_length=200_000,
            placeholder="How do I make tea?\nWhat is a good name for a cat?",
        )
        self.write_button = gr.Button("Add prompts", elem_id="data-write")
        self.write_report = gr.Markdown(elem_id="data-write-report", elem_classes="data-report")

    def connect(self, project: gr.Dropdown, live: Sequence[Any]) -> None:
        """Connect every event. Those that may fail go through the queue: only there gradio shows toasts.

        live: the components that `look` updates.
        """
        looked = [self.seen, self.understood, self.preview, self.format, *self.columns]
        chosen = [self.upload, self.hub, self.format, *self.columns]
        gr.on(
            [self.upload.change, self.hub.submit, self.hub.blur], self.look_into, [self.upload, self.hub], looked,
            api_visibility="private", show_progress_on=[self.upload],
        )
        self.format.input(self.look_again, chosen, looked, **PRIVATE)
        for column in self.columns:  # its answer leaves the columns alone: the next one may be chosen already
            column.input(self.look_closer, chosen, [self.seen, self.preview], **PRIVATE)
        self.start.click(
            self.bring_in,
            [project, self.new_name, self.upload, self.hub, self.keep_good, self.seen, self.format, *self.columns],
            [self.upload, self.hub, self.new_name, project, *live], **PRIVATE,
        )
        self.cancel.click(self.stop, project, live, **AT_ONCE)
        self.write_button.click(
            self.write, [project, self.new_name, self.lines],
            [self.write_report, self.lines, self.new_name, project, *live], **PRIVATE,
        )

    @property
    def is_running(self) -> bool:
        """Whether an import is under way."""
        state = self.desk.imports.state
        return state is not None and state.running

    def look(self, project_id: int | None) -> tuple[Any, ...]:
        """Return the updates of `live`, as they are seen from a project."""
        state = self.desk.imports.state
        running = state is not None and state.running
        report = arrived(state, project_id)
        bad_rows = report and report.bad_rows_file
        return (
            bar(state), import_line(state, project_id), gr.Button(interactive=not running), gr.Button(interactive=running),
            gr.DownloadButton(value=bad_rows, visible=bool(bad_rows)),
        )

    @reported(gr.Warning, nothing_understood)
    def look_into(self, upload: str | None, hub: str) -> Any:
        """Show what a file seems to hold."""
        return upload or hub, *self._understood(self.desk.look_into(upload, hub, None, {}))

    @guarded
    def look_again(self, upload: str | None, hub: str, format_name: str | None, *_: str | None) -> Any:
        """Show what a file holds when it is of another format; its columns are found anew."""
        return upload or hub, *self._understood(self.desk.look_into(upload, hub, format_name, {}))

    @guarded
    def look_closer(self, upload: str | None, hub: str, format_name: str | None, *columns: str | None) -> Any:
        """Show what a file holds when its columns are what a person says."""
        seen = self.desk.look_into(upload, hub, format_name, chosen_columns(format_name, columns))
        return upload or hub, preview_html(seen) if seen else ""

    def bring_in(
        self, project_id: int | None, new_name: str, upload: str | None, hub: str, keep_good: bool,
        seen: str | None, format_name: str | None, *columns: str | None,
    ) -> Iterator[Any]:
        """Import the file, showing how far it is, and choose the project it went into."""
        nothing = [gr.skip()] * 4
        if seen != (upload or hub):  # the format and the columns shown are those of another file
            format_name = None
        try:
            self.desk.bring_in(
                project_id, new_name, upload, hub, format_name, chosen_columns(format_name, columns), keep_good
            )
        except AppError as error:
            gr.Warning(as_toast(str(error)))
            yield *nothing, *self._look(project_id)
            return
        while (state := self.desk.imports.state) and state.running:
            yield *nothing, *self._look(project_id)
            time.sleep(LOOK_SECONDS)
        if state.report is None:
            gr.Warning(as_toast(state.message))
            yield *nothing, *self._look(project_id)
        else:
            yield None, "", *self._taken(project_id, state.report.project_id)

    def stop(self, project_id: int | None) -> Any:
        """Ask the import to end; nothing of it is stored then."""
        self.desk.imports.cancel()
        return self._look(project_id)

    @guarded
    def write(self, project_id: int | None, new_name: str, text: str) -> Any:
        """Add the written prompts and choose the project they went into."""
        project, report = self.desk.write(project_id, new_name, text)
        return report.sentence(), "", *self._taken(project_id, project.id)

    def _understood(self, seen: Preview | None) -> tuple[Any, ...]:
        """Return the updates of the preview, the format and the columns."""
        if seen is None:
            return nothing_understood()[1:]
        choices = ["", *seen.columns]
        fields = () if seen.format is None else seen.format.fields
        columns = [
            gr.Dropdown(
                choices, value=seen.mapping.get(name) or (name if name in seen.columns else ""), label=name, visible=True
            )
            for name in fields[:MOST_FIELDS]
        ]
        rest = [gr.Dropdown(visible=False, value=None)] * (MOST_FIELDS - len(columns))
        known = None if seen.format is None else seen.format.name
        return gr.Column(visible=True), preview_html(seen), gr.Dropdown(value=known), *columns, *rest

    def _taken(self, chosen_id: int | None, project_id: int) -> tuple[Any, ...]:
        """Return the updates after something was taken in: the name emptied, its project chosen and shown."""
        choices = [(each.name, each.id) for each in self.desk.store.projects.list()]
        chooser = gr.skip() if project_id == chosen_id else gr.Dropdown(choices=choices, value=project_id)
        return "", chooser, *self._look(project_id)


def chosen_columns(format_name: str | None, columns: Sequence[str | None]) -> dict[str, str]:
    """Return which column a person chose for each field of a format, those of the same name left out."""
    fields = named(format_name).fields if format_name else ()
    return {name: column for name, column in zip(fields, columns) if column and column != name}
