"""The Data tab: what a project holds, bringing files and prompts in, drawing candidates, taking labels out.

Every callback reads the page, calls one action of `desk` and returns updates. Figures come from the store and a
running generation from `jobs`, so a reloaded page finds both again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from errors import AppError, as_toast, reported
from models.client import Sampling, Workers
from storage import Store
from transfer.desk import DEMO, IN_TURN, SHOWN_AS, Desk, Overview, import_line, job_line
from transfer.exporting.export import KINDS
from transfer.formats.registry import FORMATS, named
from transfer.jobs import Jobs
from transfer.markup import bar, figures, preview_html
from transfer.preview import Preview

FILE_TYPES = [
    ".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow", ".feather", ".gz", ".zip", ".txt",
]
MOST_FIELDS = 8  # of a format, each with a list of the file's columns
FILE_KINDS = {"JSON lines": ".jsonl", "CSV": ".csv", "Parquet": ".parquet"}
WHICH_LABELS = {
    "Everybody's; a final label stands for its votes": "all", "What most people said": "majority",
    "Only final labels": "adjudicated", "Only where all agree": "unanimous",
}
PAIR_RULES = {
    "each answer about once": IN_TURN, "all": "all", "in random order": "random", "the most different first": "different",
}
PAIR_SOURCES = {"any": "any", "the same model": "same", "different models": "other"}
PRIVATE = {"api_visibility": "private", "show_progress": "hidden"}
AT_ONCE = {**PRIVATE, "queue": False}
LOOK_SECONDS = 0.3

IMPORT_TEXT = """### … from a file
Preferences that others made: they count as labels and can be trained on at once. JSON, JSON lines, CSV, Parquet or
Arrow, also packed (`.gz`, `.zip`). The format is found by itself, and you see what was understood before anything is
stored."""
WRITE_TEXT = """### … or your own prompts
One question a line. A model then answers them, and you label the answers."""
GENERATE_TEXT = """### Let a model answer
Draws answers to every prompt of the project until each has as many as you ask for, and makes things to label of
them. You can leave the page meanwhile; answers appear on the Label tab as they come."""
EXPORT_TEXT = """### Take labels out
Files that TRL's trainers load as they are; **labels** has everything and can be brought in again. What a rule leaves out,
such as ties and skips, is counted here."""
COPY_TEXT = """### Keep a copy
All projects, labels and finished runs in one file. `python app.py restore FILE` brings them back."""


guarded = reported(gr.Warning, gr.skip)


def build(
    page: gr.Blocks, tab: gr.Tab, store: Store, project: gr.Dropdown, workers: Workers, jobs: Jobs | None = None
) -> None:
    """Fill the Data tab.

    page: the page it belongs to; project: the header's list of projects, whose value is a project's id or None.
    jobs: the background work to show, where the program has other work than this tab's.
    """
    DataTab(store, Desk(store, workers, jobs or Jobs())).build(tab, project)


def css() -> str:
    """Return the tab's style sheet."""
    return Path(__file__).with_name("data.css").read_text(encoding="utf-8")


def head() -> str:
    """Return what the tab adds to the page's head: nothing."""
    return ""


class DataTab:
    """The components of one Data tab and what they do."""

    def __init__(self, store: Store, desk: Desk) -> None:
        self.store, self.desk = store, desk

    def build(self, tab: gr.Tab, project: gr.Dropdown) -> None:
        """Lay the tab out and connect it."""
        with gr.Column(elem_id="data-root"):
            self.figures = gr.HTML(figures(Overview()), padding=False, elem_id="data-figures")
            with gr.Row(equal_height=False):
                with gr.Column(min_width=320):
                    self._way_in()
                with gr.Column(min_width=320):
                    self._candidates()
                    self._way_out()
        self.timer = gr.Timer(1.0, active=False)
        self._connect(tab, project)

    def _way_in(self) -> None:
        """Lay out the new project's name, the import and the written prompts."""
        with gr.Column(elem_classes="data-card"):
            gr.Markdown("### Put something in\nInto the project chosen at the top of the page, or into a new one.")
            self.new_name = gr.Textbox(
                label="Name of a new project", placeholder="leave empty to add to the chosen project", max_length=100,
                elem_id="data-new-project",
            )
        with gr.Column(elem_classes="data-card"):
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
                self.import_button = gr.Button("Import", variant="primary", elem_id="data-import", min_width=120)
                self.import_cancel = gr.Button(
                    "Cancel", variant="stop", interactive=False, elem_id="data-import-cancel", min_width=120
                )
            self.import_bar = gr.HTML(padding=False, elem_id="data-import-progress")
            self.import_report = gr.Markdown(elem_id="data-import-report", elem_classes="data-report")
            self.bad_rows = gr.DownloadButton("Download the broken rows", visible=False, elem_id="data-bad-rows")
        with gr.Column(elem_classes="data-card"):
            gr.Markdown(WRITE_TEXT)
            self.lines = gr.Textbox(
                label="Prompts", lines=4, max_lines=12, elem_id="data-prompts", max_length=200_000,
                placeholder="How do I make tea?\nWhat is a good name for a cat?",
            )
            self.write_button = gr.Button("Add prompts", elem_id="data-write")
            self.write_report = gr.Markdown(elem_id="data-write-report", elem_classes="data-report")

    def _candidates(self) -> None:
        """Lay out the generation: who answers, how many, how freely; its progress and its end."""
        with gr.Column(elem_classes="data-card"):
            gr.Markdown(GENERATE_TEXT)
            self.model = gr.Dropdown(
                self.desk.models(), value=[DEMO], label="Models", multiselect=True, allow_custom_value=True,
                elem_id="data-model",
                info="The demo, your runs; or type a folder, a hub name, or NAME@http://SERVER/v1 for any"
                " OpenAI-compatible server.",
            )
            with gr.Row():
                self.per_prompt = gr.Slider(
                    1, 8, 2, step=1, label="Answers per prompt", elem_id="data-per-prompt", min_width=140
                )
                self.temperature = gr.Slider(
                    0, 2, 1.0, step=0.05, label="Temperature", elem_id="data-temperature", min_width=140,
                    info="Higher: more varied.",
                )
            self.kind = gr.Radio(
                [(text, kind) for kind, text in SHOWN_AS.items()], value="pair", label="To label", elem_id="data-kind"
            )
            self.max_tokens = gr.Slider(
                16, 2048, Sampling().max_tokens, step=16, label="Longest answer in tokens", elem_id="data-max-tokens"
            )
            with gr.Accordion("Which pairs", open=False, elem_id="data-pairing"):
                self.rule = gr.Radio(list(PAIR_RULES.items()), value=IN_TURN, label="Pairs of each prompt", elem_id="data-rule")
                self.source = gr.Radio(
                    list(PAIR_SOURCES.items()), value="any", label="With several models: two answers of",
                    elem_id="data-source",
                )
            with gr.Row():
                self.start = gr.Button("Generate", variant="primary", elem_id="data-generate", min_width=120)
                self.cancel = gr.Button(
                    "Cancel", variant="stop", interactive=False, elem_id="data-cancel", min_width=120
                )
            self.bar = gr.HTML(padding=False, elem_id="data-progress")
            self.job_report = gr.Markdown(elem_id="data-generate-report", elem_classes="data-report")

    def _way_out(self) -> None:
        """Lay out the export."""
        with gr.Column(elem_classes="data-card"):
            gr.Markdown(EXPORT_TEXT)
            self.export_kind = gr.Radio(
                [(f"{kind}: {text}", kind) for kind, text in KINDS.items()], value="trl-preference", label="Format",
                elem_id="data-export-kind",
            )
            self.suffix = gr.Radio(list(FILE_KINDS.items()), value=".jsonl", label="File", elem_id="data-export-suffix")
            with gr.Accordion("Only some of the labels", open=False, elem_id="data-filters"):
                self.which = gr.Dropdown(list(WHICH_LABELS.items()), value="all", label="Labels", elem_id="data-which")
                self.annotators = gr.Dropdown(
                    [], multiselect=True, label="Annotators", info="All when none is chosen.", elem_id="data-annotators"
                )
                self.agreement = gr.Slider(
                    0.5, 1, 0.5, step=0.05, label="Least agreement", info="Share of votes that must say the same.",
                    elem_id="data-agreement",
                )
                with gr.Row():
                    self.since = gr.Textbox(label="From the day", placeholder="2026-01-01", elem_id="data-since", min_width=120)
                    self.until = gr.Textbox(label="To the day", placeholder="2026-12-31", elem_id="data-until", min_width=120)
            with gr.Row():
                self.export_button = gr.Button("Prepare the file", elem_id="data-export", min_width=120)
                self.download = gr.DownloadButton(
                    "Download", variant="primary", interactive=False, elem_id="data-download", min_width=120
                )
            self.export_report = gr.Markdown(elem_id="data-export-report", elem_classes="data-report")
        with gr.Column(elem_classes="data-card"):
            gr.Markdown(COPY_TEXT)
            with gr.Row():
                self.copy_button = gr.Button("Prepare the copy", elem_id="data-copy", min_width=120)
                self.copy_download = gr.DownloadButton(
                    "Download", variant="primary", interactive=False, elem_id="data-copy-download", min_width=120
                )

    def _connect(self, tab: gr.Tab, project: gr.Dropdown) -> None:
        """Connect every event. Those that may fail go through the queue: only there gradio shows toasts."""
        self.live = live = [
            self.figures, self.bar, self.job_report, self.start, self.cancel, self.import_bar, self.import_report,
            self.import_button, self.import_cancel, self.bad_rows, self.timer,
        ]
        taken = [self.new_name, project, self.figures]
        looked = [self.seen, self.understood, self.preview, self.format, *self.columns]
        gr.on(
            [self.upload.change, self.hub.submit, self.hub.blur], self.look_into, [self.upload, self.hub], looked,
            api_visibility="private", show_progress_on=[self.upload],
        )
        chosen = [self.upload, self.hub, self.format, *self.columns]
        self.format.input(self.look_again, chosen, looked, **PRIVATE)
        for column in self.columns:  # its answer leaves the columns alone: the next one may be chosen already
            column.input(self.look_closer, chosen, [self.seen, self.preview], **PRIVATE)
        self.import_button.click(
            self.bring_in,
            [project, self.new_name, self.upload, self.hub, self.keep_good, self.seen, self.format, *self.columns],
            [self.upload, self.hub, *taken, *live], **PRIVATE,
        )
        self.import_cancel.click(self.stop_import, project, live, **AT_ONCE)
        self.write_button.click(
            self.write, [project, self.new_name, self.lines], [self.write_report, self.lines, *taken], **PRIVATE
        )
        asked = [
            project, self.model, self.per_prompt, self.temperature, self.max_tokens, self.kind, self.rule, self.source,
        ]
        self.start.click(self.generate, asked, live, **PRIVATE)
        self.cancel.click(self.stop, project, live, **AT_ONCE)
        self.export_button.click(
            self.take_out,
            [project, self.export_kind, self.suffix, self.annotators, self.which, self.agreement, self.since, self.until],
            [self.export_report, self.download], **PRIVATE,
        )
        self.copy_button.click(self.copy, None, self.copy_download, **PRIVATE)
        self.timer.tick(self.look, project, live, **AT_ONCE)
        opened = [self.export_report, self.download, self.model, self.annotators, *live]
        project.change(self.open, project, opened, **AT_ONCE)
        tab.select(self.open, project, opened, **AT_ONCE)

    @guarded
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
        nothing = [gr.skip()] * 5
        if seen != (upload or hub):  # the format and the columns shown are those of another file
            format_name = None
        try:
            self.desk.bring_in(
                project_id, new_name, upload, hub, format_name, chosen_columns(format_name, columns), keep_good
            )
        except AppError as error:
            gr.Warning(as_toast(str(error)))
            yield *nothing, *self.look(project_id)
            return
        while (state := self.desk.imports.state) and state.running:
            yield *nothing, *self.look(project_id)
            time.sleep(LOOK_SECONDS)
        if state.report is None:
            gr.Warning(as_toast(state.message))
            yield *nothing, *self.look(project_id)
        else:
            went_into = state.report.project_id
            yield None, "", *self._taken(project_id, went_into), *self.look(went_into)

    def stop_import(self, project_id: int | None) -> Any:
        """Ask the import to end; nothing of it is stored then."""
        self.desk.imports.cancel()
        return self.look(project_id)

    def _understood(self, seen: Preview | None) -> tuple[Any, ...]:
        """Return the updates of the preview, the format and the columns."""
        if seen is None:
            return gr.Column(visible=False), "", *[gr.skip()] * (1 + MOST_FIELDS)
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

    @guarded
    def write(self, project_id: int | None, new_name: str, text: str) -> Any:
        """Add the written prompts and choose the project they went into."""
        project, report = self.desk.write(project_id, new_name, text)
        return report.sentence(), "", *self._taken(project_id, project.id)

    @guarded
    def generate(self, project_id: int | None, models: list[str] | None, *settings: Any) -> Any:
        """Begin a generation and show it. settings: as in `Desk.generate`."""
        self.desk.generate(project_id, models or [], *settings)
        return self.look(project_id)

    def stop(self, project_id: int | None) -> Any:
        """Ask the generation to end; the next look shows that it did."""
        self.desk.jobs.cancel()
        return self.look(project_id)

    @guarded
    def take_out(self, project_id: int | None, kind: str, suffix: str, annotators: list[str] | None, *filters: Any) -> Any:
        """Write the export and offer it. filters: as in `Desk.take_out`."""
        report = self.desk.take_out(project_id, kind, suffix, annotators or [], *filters)
        label = f"Download {report.rows:,} rows"
        return report.sentence(), gr.DownloadButton(label, value=report.path, interactive=True)

    @guarded
    def copy(self) -> Any:
        """Write a copy of everything and offer it."""
        report = self.desk.copy()
        label = f"Download {report.counts['labels']:,} labels ({max(1, report.size_bytes // 1000):,} kB)"
        return gr.DownloadButton(label, value=report.path, interactive=True)

    def open(self, project_id: int | None) -> Any:
        """Show a project; nothing of another project's export stays."""
        download = gr.DownloadButton("Download", value=None, interactive=False)
        people = gr.Dropdown(choices=self.desk.annotators(project_id), value=[])
        return "", download, gr.Dropdown(choices=self.desk.models()), people, *self.look(project_id)

    def look(self, project_id: int | None) -> tuple[Any, ...]:
        """Return the figures and the state of the generation, in the order of `live`."""
        state, arriving = self.desk.jobs.state, self.desk.imports.state
        running, importing = (each is not None and each.running for each in (state, arriving))
        bad_rows = getattr(arriving and arriving.report, "bad_rows_file", None)
        return (
            figures(self.desk.overview(project_id)), bar(state), job_line(state),
            gr.Button(interactive=not running), gr.Button(interactive=running),
            bar(arriving), import_line(arriving), gr.Button(interactive=not importing), gr.Button(interactive=importing),
            gr.DownloadButton(value=bad_rows, visible=bool(bad_rows)), gr.Timer(active=running or importing),
        )

    def _taken(self, chosen_id: int | None, project_id: int) -> tuple[Any, Any, str]:
        """Return the updates after something was taken in: the name emptied, its project chosen, its figures."""
        choices = [(each.name, each.id) for each in self.store.projects.list()]
        chooser = gr.skip() if project_id == chosen_id else gr.Dropdown(choices=choices, value=project_id)
        return "", chooser, figures(self.desk.overview(project_id))


def chosen_columns(format_name: str | None, columns: Sequence[str | None]) -> dict[str, str]:
    """Return which column a person chose for each field of a format, those of the same name left out."""
    fields = named(format_name).fields if format_name else ()
    return {name: column for name, column in zip(fields, columns) if column and column != name}
