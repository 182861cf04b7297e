"""The cards that take something out: the labels of a project as a file, and a copy of everything.

A file is made first and downloaded then: what was left out of it, and how large it is, is said before.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from errors import reported
from transfer.desk import Desk
from transfer.exporting.export import KINDS

FILE_KINDS = {"JSON lines": ".jsonl", "CSV": ".csv", "Parquet": ".parquet"}
WHICH_LABELS = {
    "Everybody's; a final label stands for its votes": "all", "What most people said": "majority",
    "Only final labels": "adjudicated", "Only where all agree": "unanimous",
}
PRIVATE = {"api_visibility": "private", "show_progress": "hidden"}

EXPORT_TEXT = """### Take labels out
Files that TRL's trainers load as they are; **labels** has everything and can be brought in again. What a rule leaves out,
such as ties and skips, is counted here."""
COPY_TEXT = """### Keep a copy
All projects, labels and finished runs in one file. `python app.py restore FILE` brings them back."""
guarded = reported(gr.Warning, gr.skip)


class Exporting:
    """The components of an export and what they do. opened: those that another project changes."""

    def __init__(self, desk: Desk) -> None:
        """Lay them out, inside the block that is open."""
        self.desk = desk
        with gr.Column(elem_classes="data-card"):
            gr.Markdown(EXPORT_TEXT)
            self.kind = gr.Radio(
                [(f"{kind}: {text}", kind) for kind, text in KINDS.items()], value="trl-preference", label="Format",
                elem_id="data-export-kind",
            )
            self.suffix = gr.Radio(list(FILE_KINDS.items()), value=".jsonl", label="File", elem_id="data-export-suffix")
            with gr.Accordion("Only some of the labels", open=False, elem_id="data-filters"):
                self._filters()
            with gr.Row():
                self.prepare = gr.Button("Prepare the file", elem_id="data-export", min_width=170)
                self.download = gr.DownloadButton(
                    "Download", variant="primary", interactive=False, elem_id="data-download", min_width=170
                )
            self.report = gr.Markdown(elem_id="data-export-report", elem_classes="data-report")
        self.opened = [self.report, self.download, self.annotators]

    def _filters(self) -> None:
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

    def connect(self, project: gr.Dropdown) -> None:
        """Connect what writes the file; it may fail, so it goes through the queue: only there gradio shows toasts."""
        self.prepare.click(
            self.take_out,
            [project, self.kind, self.suffix, self.annotators, self.which, self.agreement, self.since, self.until],
            [self.report, self.download], **PRIVATE,
        )

    def open(self, project_id: int | None) -> tuple[Any, ...]:
        """Return the updates of `opened`: nothing of another project's export stays."""
        download = gr.DownloadButton("Download", value=None, interactive=False)
        return "", download, gr.Dropdown(choices=self.desk.annotators(project_id), value=[])

    @guarded
    def take_out(self, project_id: int | None, kind: str, suffix: str, annotators: list[str] | None, *filters: Any) -> Any:
        """Write the export and offer it. filters: as in `Desk.take_out`."""
        report = self.desk.take_out(project_id, kind, suffix, annotators or [], *filters)
        label = f"Download {report.rows:,} rows"
        return report.sentence(), gr.DownloadButton(label, value=report.path, interactive=True)


class Copy:
    """The components of a copy of everything and what they do."""

    def __init__(self, desk: Desk) -> None:
        """Lay them out, inside the block that is open."""
        self.desk = desk
        with gr.Column(elem_classes="data-card"):
            gr.Markdown(COPY_TEXT)
            with gr.Row():
                self.prepare = gr.Button("Prepare the copy", elem_id="data-copy", min_width=170)
                self.download = gr.DownloadButton(
                    "Download", variant="primary", interactive=False, elem_id="data-copy-download", min_width=170
                )
            self.report = gr.Markdown(elem_id="data-copy-report", elem_classes="data-report")

    def connect(self) -> None:
        """Connect what writes the copy; it may fail, so it goes through the queue."""
        self.prepare.click(self.write, None, [self.report, self.download], **PRIVATE)

    @guarded
    def write(self) -> Any:
        """Write a copy of everything and offer it."""
        report = self.desk.copy()
        size = f"{max(1, report.size_bytes // 1000):,} kB"
        said = f"{report.counts['labels']:,} labels, all that belongs to them, and finished runs in {Path(report.path).name}."
        return said, gr.DownloadButton(f"Download {size}", value=report.path, interactive=True)
