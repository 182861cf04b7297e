"""The Report tab ("Why"): what finished runs have learned, the labels that they contradict, and a file to send.

Everything shown is read from the store and the runs' folders, so a reload or a restart of the app loses nothing. Texts
of people and models reach the page escaped, or as values of components.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from errors import reported
from models.client import Workers
from outbox import outbox
from report import heat, job, page, view
from storage import Store

PRIVATE = {"api_visibility": "private", "show_progress": "hidden"}
AT_ONCE = {**PRIVATE, "queue": False}  # gradio shows toasts only for what went through its queue
# A project is chosen on every tab, but a report is for those who look at this one.
IS_OPEN = "(...inputs) => [...inputs.slice(0, -1), !!document.getElementById('report-root')?.offsetParent]"
HEAT_TEXT = (
    "Which words of an answer did training make more or less likely? Write a question and an answer, or take them from"
    " above; the first chosen run is compared with its base model. A whole conversation goes in too: begin each turn on a"
    " new line with `User:`, `Assistant:` or `System:`. When the answer is left empty, it is the conversation's last turn."
)
OPEN_TEXT = "Was it a slip? Open a label that the run contradicts, look at it again, and say what is right."
guarded = reported(gr.Warning, gr.skip)


def build(
    page: gr.Blocks,
    tab: gr.Tab,
    store: Store,
    project: gr.Dropdown,
    workers: Workers,
    on_open: Callable[[int], Any] | None = None,
    opened: Sequence[Any] = (),
) -> None:
    """Fill the Report tab. project: the header's list of projects, whose value is a project's id or None.

    on_open: called with the number of an item that is to be labelled again; what it returns updates the components
    `opened`. Without it there is no such button.
    """
    ReportTab(store, workers, on_open, opened).build(tab, project)


def css() -> str:
    """Return the tab's style sheet."""
    return _beside("tab.css")


def head() -> str:
    """Return the style sheet of reports: in the head, because Gradio confines `css` to what is inside its container."""
    return f"<style>{page.css()}</style>"


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


class ReportTab:
    """The components of the tab and what they do."""

    def __init__(
        self, store: Store, workers: Workers, on_open: Callable[[int], Any] | None = None, opened: Sequence[Any] = ()
    ) -> None:
        self.store, self.workers = store, workers
        self.on_open, self.opened = on_open, list(opened)

    def build(self, tab: gr.Tab, project: gr.Dropdown) -> None:
        """Lay the tab out and connect it."""
        with gr.Column(elem_id="report-root"):
            with gr.Row(elem_id="report-top"):
                self.runs = gr.Dropdown(
                    [], value=[], multiselect=True, max_choices=page.MOST_RUNS, label="Runs", filterable=False,
                    info="Finished runs. Choose several to compare them.", elem_id="report-runs", scale=3, min_width=260,
                )
                self.measure = gr.Button("Measure", variant="primary", interactive=False, elem_id="report-measure", min_width=140)
                self.stop = gr.Button("Stop", variant="stop", visible=False, elem_id="report-stop", min_width=90)
                self.download = gr.DownloadButton(
                    "Download as one HTML file", visible=False, elem_id="report-download", min_width=220
                )
            self.line = gr.HTML("", js_on_load=None, apply_default_css=False, elem_id="report-line")
            with gr.Row(visible=False, elem_id="report-again") as self.again:
                self.label = gr.Dropdown(
                    [], label="Labels that the run contradicts most", info=OPEN_TEXT, filterable=False, elem_id="report-label",
                    scale=3, min_width=260,
                )
                self.open_item = gr.Button("Open for relabelling", elem_id="report-open", min_width=180)
            self.shown = gr.HTML("", js_on_load=None, apply_default_css=False, elem_id="report-shown")
            with gr.Accordion("Look inside one answer", open=False, elem_id="report-heat-box"):
                self._heat()
        self.is_open, self.mark, self.timer = gr.Checkbox(visible=False), gr.State(None), gr.Timer(1.0, active=False)
        self._connect(tab, project)

    def _heat(self) -> None:
        gr.Markdown(HEAT_TEXT, elem_classes="report-help")
        with gr.Row():
            self.prompt = gr.Textbox(label="Question or conversation", lines=2, max_lines=8, elem_id="report-prompt", min_width=260)
            self.response = gr.Textbox(label="Answer", lines=2, max_lines=8, elem_id="report-response", min_width=260)
        self.compare = gr.Button("Show the tokens", elem_id="report-compare")
        self.map = gr.HTML("", js_on_load=_beside("heat.js"), apply_default_css=False, elem_id="report-map")

    def _connect(self, tab: gr.Tab, project: gr.Dropdown) -> None:
        state = [self.line, self.measure, self.stop, self.timer, self.mark]
        everything = [self.shown, self.again, self.label, self.download, *state]
        tab.select(self.open, [project, self.runs], [self.runs, *everything], **PRIVATE)
        project.change(self.follow, [project, self.runs, self.is_open], [self.runs, *everything], js=IS_OPEN, **PRIVATE)
        self.runs.input(self.show, self.runs, everything, **PRIVATE)
        self.measure.click(self.start, self.runs, everything, **PRIVATE)
        self.stop.click(self.halt, self.runs, everything, **PRIVATE)
        self.timer.tick(self.tick, [self.runs, self.mark], everything, **AT_ONCE)
        self.compare.click(self.compare_tokens, [self.runs, self.prompt, self.response], self.map, **{**PRIVATE, "show_progress": "minimal"})
        if self.on_open is not None:
            self.open_item.click(self.open_label, self.label, self.opened, **PRIVATE)

    @guarded
    def open(self, project_id: int | None, chosen: list[int] | None) -> Any:
        """Show the runs of a project: those chosen before, else the newest."""
        choices = view.choices(self.store, project_id)
        known = [run_id for _, run_id in choices]
        kept = [run_id for run_id in chosen or [] if run_id in known] or known[:1]
        return [gr.Dropdown(choices, value=kept, multiselect=True), *self._everything(kept, bool(known))]

    @guarded
    def follow(self, project_id: int | None, chosen: list[int] | None, is_open: bool) -> Any:
        """Show another project, if the tab is looked at."""
        return self.open(project_id, chosen) if is_open else gr.skip()

    @guarded
    def show(self, chosen: list[int] | None) -> Any:
        """Show other runs."""
        return self._everything(chosen or [])

    @guarded
    def start(self, chosen: list[int] | None) -> Any:
        """Measure the first of the runs that is not measured yet, else the first one again."""
        panel = view.panel(self.store, chosen or [])
        if panel.next_run is not None:
            job.start(self.store, panel.next_run, self.workers.device, self.workers.free_gpu)
        return self._everything(chosen or [])

    @guarded
    def halt(self, chosen: list[int] | None) -> Any:
        """Stop what is being measured."""
        for run_id in chosen or []:
            job.stop(self.store, run_id)
        return self._everything(chosen or [])

    @guarded
    def tick(self, chosen: list[int] | None, mark: Any) -> Any:
        """Show how far the measuring is, and the report once it is there; what has not changed is not sent again."""
        panel = view.panel(self.store, chosen or [])
        if mark is not None and list(mark)[:-1] == panel.mark[:-1]:
            return [*[gr.skip()] * 4, *self._state(panel)]
        return self._everything(chosen or [])

    @reported(gr.Warning, str)  # an old picture beside another text would mislead
    def compare_tokens(self, chosen: list[int] | None, prompt: str, response: str) -> str:
        """Show which tokens of an answer the first chosen run finds more or less likely than the base."""
        return f'<div class="report">{heat.ask(self.workers, view.first(self.store, chosen or []), prompt, response)}</div>'

    @guarded
    def open_label(self, item_id: int | None) -> Any:
        """Hand the item of a contradicted label to whoever shows it for labelling."""
        assert self.on_open is not None
        return gr.skip() if item_id is None else self.on_open(item_id)

    def _everything(self, chosen: list[int], any_there: bool = True) -> list[Any]:
        panel = view.panel(self.store, chosen)
        shown = view.shown(self.store, chosen, outbox(), any_there)
        return [
            shown.html, gr.Row(visible=bool(shown.labels) and self.on_open is not None),
            gr.Dropdown(shown.labels, value=shown.labels[0][1] if shown.labels else None),
            gr.update(value=shown.file, visible=shown.file is not None), *self._state(panel),
        ]

    def _state(self, panel: view.Panel) -> list[Any]:
        return [
            panel.line, gr.Button(panel.button, interactive=panel.next_run is not None and not panel.active),
            gr.Button(visible=panel.active), gr.Timer(active=panel.active), panel.mark,
        ]
