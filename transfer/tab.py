"""The Data tab: what a project holds, bringing files and prompts in, drawing candidates, taking labels out.

Every callback reads the page, calls one action of `desk` and returns updates. Figures come from the store and a
running generation from `jobs`, so a reloaded page finds both again.
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import gradio as gr

from errors import reported
from models.client import Sampling, Workers
from storage import Store
from transfer.desk import DEMO, SHOWN_AS, Desk, Overview, job_line
from transfer.exporting.export import KINDS
from transfer.jobs import Jobs, JobState

FILE_TYPES = [".json", ".jsonl", ".gz", ".ndjson", ".txt"]
PRIVATE = {"api_visibility": "private", "show_progress": "hidden"}
AT_ONCE = {**PRIVATE, "queue": False}

IMPORT_TEXT = """### … from a file
Preferences that others made: they count as labels and can be trained on at once. JSON or JSON lines, also `.gz`.
The format is found by itself: TRL (preference, unpaired, prompts only), ShareGPT with chosen and rejected,
messages with a good/bad label, HH-RLHF, votes of several annotators."""
WRITE_TEXT = """### … or your own prompts
One question a line. A model then answers them, and you label the answers."""
GENERATE_TEXT = """### Let a model answer
Draws answers to every prompt of the project until each has as many as you ask for, and makes things to label of
them. You can leave the page meanwhile; answers appear on the Label tab as they come."""
EXPORT_TEXT = """### Take labels out
A JSON-lines file that TRL's trainers load as it is. Ties and skips are left out, and counted here."""


def _warn(message: str) -> None:
    """Show a toast. Gradio renders it as HTML, and it may quote a file."""
    gr.Warning(html.escape(message, quote=False), title="That did not work", duration=20)


guarded = reported(_warn, gr.skip)


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
            self.import_button = gr.Button("Import", variant="primary", elem_id="data-import")
            self.import_report = gr.Markdown(elem_id="data-import-report", elem_classes="data-report")
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
                self.desk.models(), value=DEMO, label="Model", allow_custom_value=True, elem_id="data-model",
                info="The demo, one of your runs, a folder with a model, or a name on the hub.",
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
            with gr.Row():
                self.export_button = gr.Button("Prepare the file", elem_id="data-export", min_width=120)
                self.download = gr.DownloadButton(
                    "Download", variant="primary", interactive=False, elem_id="data-download", min_width=120
                )
            self.export_report = gr.Markdown(elem_id="data-export-report", elem_classes="data-report")

    def _connect(self, tab: gr.Tab, project: gr.Dropdown) -> None:
        """Connect every event. Those that may fail go through the queue: only there gradio shows toasts."""
        live = [self.figures, self.bar, self.job_report, self.start, self.cancel, self.timer]
        taken = [self.new_name, project, self.figures]
        self.import_button.click(
            self.bring_in, [project, self.new_name, self.upload], [self.import_report, self.upload, *taken],
            api_visibility="private", show_progress_on=[self.import_report],
        )
        self.write_button.click(
            self.write, [project, self.new_name, self.lines], [self.write_report, self.lines, *taken], **PRIVATE
        )
        asked = [project, self.model, self.per_prompt, self.temperature, self.max_tokens, self.kind]
        self.start.click(self.generate, asked, live, **PRIVATE)
        self.cancel.click(self.stop, project, live, **AT_ONCE)
        self.export_button.click(
            self.take_out, [project, self.export_kind], [self.export_report, self.download], **PRIVATE
        )
        self.timer.tick(self.look, project, live, **AT_ONCE)
        project.change(self.open, project, [self.export_report, self.download, self.model, *live], **AT_ONCE)
        tab.select(self.open, project, [self.export_report, self.download, self.model, *live], **AT_ONCE)

    @guarded
    def bring_in(self, project_id: int | None, new_name: str, upload: str | None) -> Any:
        """Import the uploaded file and choose the project it went into."""
        report = self.desk.bring_in(project_id, new_name, upload)
        return report.sentence(), None, *self._taken(project_id, report.project_id)

    @guarded
    def write(self, project_id: int | None, new_name: str, text: str) -> Any:
        """Add the written prompts and choose the project they went into."""
        project, report = self.desk.write(project_id, new_name, text)
        return report.sentence(), "", *self._taken(project_id, project.id)

    @guarded
    def generate(
        self, project_id: int | None, model: str | None, per_prompt: int, temperature: float, max_tokens: int, kind: str
    ) -> Any:
        """Begin a generation and show it."""
        self.desk.generate(project_id, model, per_prompt, temperature, max_tokens, kind)
        return self.look(project_id)

    def stop(self, project_id: int | None) -> Any:
        """Ask the generation to end; the next look shows that it did."""
        self.desk.jobs.cancel()
        return self.look(project_id)

    @guarded
    def take_out(self, project_id: int | None, kind: str) -> Any:
        """Write the export and offer it."""
        report = self.desk.take_out(project_id, kind)
        label = f"Download {report.rows:,} rows"
        return report.sentence(), gr.DownloadButton(label, value=report.path, interactive=True)

    def open(self, project_id: int | None) -> Any:
        """Show a project; nothing of another project's export stays."""
        download = gr.DownloadButton("Download", value=None, interactive=False)
        return "", download, gr.Dropdown(choices=self.desk.models()), *self.look(project_id)

    def look(self, project_id: int | None) -> tuple[Any, ...]:
        """Return the figures and the state of the generation, in the order of `live`."""
        state = self.desk.jobs.state
        running = state is not None and state.running
        return (
            figures(self.desk.overview(project_id)), bar(state), job_line(state),
            gr.Button(interactive=not running), gr.Button(interactive=running), gr.Timer(active=running),
        )

    def _taken(self, chosen_id: int | None, project_id: int) -> tuple[Any, Any, str]:
        """Return the updates after something was taken in: the name emptied, its project chosen, its figures."""
        choices = [(each.name, each.id) for each in self.store.projects.list()]
        chooser = gr.skip() if project_id == chosen_id else gr.Dropdown(choices=choices, value=project_id)
        return "", chooser, figures(self.desk.overview(project_id))


def figures(overview: Overview) -> str:
    """Return the counts as HTML; numbers and our own words only."""
    cells = [
        (overview.prompts, "prompts", ""),
        (overview.pairs, "pairs", f"{overview.pairs_done:,} labelled"),
        (overview.singles, "single answers", f"{overview.singles_done:,} labelled"),
        *([(overview.rankings, "rankings", f"{overview.rankings_done:,} labelled")] if overview.rankings else []),
        (overview.labels, "labels", "ready to train on" if overview.labels else ""),
    ]
    return "<dl>" + "".join(
        f"<div><dd>{number:,}</dd><dt>{noun}</dt><small>{note}</small></div>" for number, noun, note in cells
    ) + "</dl>"


def bar(state: JobState | None) -> str:
    """Return a progress bar as HTML while a job runs, or nothing."""
    if state is None or not state.running:
        return ""
    percent = 100 * state.done / state.total if state.total else 0
    waiting = "" if state.done else " data-waiting"
    return f'<div class="data-bar{waiting}"><div style="width:{percent:.0f}%"></div></div>'
