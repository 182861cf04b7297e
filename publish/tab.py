"""The Publish tab: take a finished run elsewhere. Holds no state of its own but the files that wait for a download.

Everything shown is read from the run's folder, so a reload, a restart of the app and work started elsewhere lose nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from errors import reported
from models.client import Workers
from outbox import outbox
from publish import adapter, hub, merging, view
from storage import Store

PRIVATE = {"api_visibility": "private", "show_progress": "hidden"}
AT_ONCE = {**PRIVATE, "queue": False}  # gradio shows toasts only for what went through its queue
guarded = reported(gr.Warning, gr.skip)

ADAPTER_TEXT = """### The adapter
What was learned, as one small zip in peft's format. It needs its base model; the card inside says which, and how to load it."""
MERGE_TEXT = """### Whole weights
Base and adapter as one model that loads without peft, for servers that know no adapters. The base is loaded once
more, so it needs as much memory and disk as the base."""
SERVE_TEXT = """### Serve it
The commands for this run, to copy. They change when the run has been merged."""
PUSH_TEXT = """### Push it to a model hub
With the token of `hf auth login`, or of HF_TOKEN, on the machine that runs this page."""
API_TEXT = """### Let other programs ask it from here
This program can serve its models to others itself. It is off until you start it."""
DTYPES = [("as the base is", "auto"), *((each, each) for each in merging.DTYPES[1:])]


def build(page: gr.Blocks, tab: gr.Tab, store: Store, project: gr.Dropdown, workers: Workers) -> None:
    """Fill the Publish tab. project: the header's list of projects, whose value is a project's id or None."""
    PublishTab(store).build(tab, project)


def css() -> str:
    """Return the tab's style sheet."""
    return _beside("publish.css")


def head() -> str:
    """Return what the tab adds to the page's head: nothing."""
    return ""


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _line(name: str) -> gr.HTML:
    """Return a component that shows its value as plain text."""
    return gr.HTML(
        "", html_template='<p role="status"></p>', js_on_load=_beside("line.js"), elem_id=name, elem_classes="publish-line"
    )


class PublishTab:
    """The components of the tab and what they do."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def build(self, tab: gr.Tab, project: gr.Dropdown) -> None:
        """Lay the tab out and connect it."""
        with gr.Column(elem_id="publish-root"):
            self.run = gr.Dropdown([], label="Finished run", filterable=False, visible=False, elem_id="publish-run")
            self.about = _line("publish-about")
            with gr.Row(equal_height=False, visible=False) as self.cards:
                with gr.Column(min_width=300):
                    self._adapter()
                    self._merge()
                    self._push()
                with gr.Column(min_width=300):
                    self._serve()
        self.timer = gr.Timer(1.0, active=False)
        self._connect(tab, project)

    def _adapter(self) -> None:
        with gr.Column(elem_classes="publish-card"):
            gr.Markdown(ADAPTER_TEXT)
            with gr.Row():
                self.pack = gr.Button("Prepare the file", interactive=False, elem_id="publish-pack", min_width=120)
                self.download = gr.DownloadButton(
                    "Download", variant="primary", interactive=False, elem_id="publish-download", min_width=120
                )

    def _merge(self) -> None:
        with gr.Column(elem_classes="publish-card"):
            gr.Markdown(MERGE_TEXT)
            self.dtype = gr.Dropdown(
                DTYPES, value="auto", label="Kept in", filterable=False, elem_id="publish-dtype",
                info="float32 is exact and twice as large as the others.",
            )
            with gr.Row():
                self.merge = gr.Button("Merge", interactive=False, elem_id="publish-merge", min_width=120)
                self.stop = gr.Button("Stop", variant="stop", visible=False, elem_id="publish-stop", min_width=120)
            self.merge_line = _line("publish-merge-line")
            with gr.Row():
                self.pack_merged = gr.Button("Prepare the file", visible=False, elem_id="publish-pack-merged", min_width=120)
                self.download_merged = gr.DownloadButton(
                    "Download", variant="primary", visible=False, elem_id="publish-download-merged", min_width=120
                )

    def _push(self) -> None:
        with gr.Column(elem_classes="publish-card"):
            gr.Markdown(PUSH_TEXT)
            self.name = gr.Textbox(
                label="Repository", placeholder="your-name/my-model", max_lines=1, max_length=120, elem_id="publish-name",
                info="OWNER/NAME, or NAME in your own account; it is made when it is not there.",
            )
            self.what = gr.Radio(
                [("The adapter", "adapter"), ("The merged model", "merged")], value="adapter", label="What",
                elem_id="publish-push-what",
            )
            self.private = gr.Checkbox(value=True, label="Private: only I can see it", elem_id="publish-private")
            self.push = gr.Button("Push", interactive=False, elem_id="publish-push")
            self.push_line = _line("publish-push-line")

    def _serve(self) -> None:
        plain = {"latex_delimiters": [], "header_links": False}
        with gr.Column(elem_classes="publish-card"):
            gr.Markdown(SERVE_TEXT)
            self.commands = gr.Markdown(elem_id="publish-commands", **plain)
        with gr.Column(elem_classes="publish-card"):
            gr.Markdown(API_TEXT)
            self.api = gr.Markdown(elem_id="publish-api", **plain)

    def _connect(self, tab: gr.Tab, project: gr.Dropdown) -> None:
        chosen = [project, self.run]
        moving = [self.merge, self.stop, self.merge_line, self.pack_merged, self.push, self.push_line, self.timer]
        still = [self.about, self.cards, self.pack, self.download, self.download_merged, self.commands, self.api]
        gr.on([project.change, tab.select], self.open, chosen, [self.run, *moving, *still], **AT_ONCE)
        self.run.input(self.choose, chosen, [*moving, *still], **AT_ONCE)
        self.timer.tick(self.look, chosen, [*moving, self.commands], **AT_ONCE)
        self.pack.click(self.prepare, self.run, self.download, **PRIVATE)
        self.pack_merged.click(self.prepare_merged, self.run, self.download_merged, **PRIVATE)
        self.merge.click(self.start_merge, [*chosen, self.dtype], [*moving, self.download_merged], **PRIVATE)
        self.stop.click(self.stop_merge, chosen, moving, **PRIVATE)
        self.push.click(self.start_push, [*chosen, self.name, self.what, self.private], moving, **PRIVATE)

    def open(self, project_id: int | None, run_id: int | None) -> Any:
        """Show a project: the run that is chosen when it is one of its own, or its newest."""
        listed = view.choices(self.store, project_id)
        known = [number for _, number in listed]
        chosen = run_id if run_id in known else next(iter(known), None)
        return [gr.Dropdown(listed, value=chosen, visible=bool(listed)), *self.choose(project_id, chosen)]

    def choose(self, project_id: int | None, run_id: int | None) -> list[Any]:
        """Show a run; nothing that was prepared of another one stays."""
        panel = view.panel(self.store, project_id, run_id)
        empty = gr.DownloadButton("Download", value=None, interactive=False)
        return [
            *self._moving(panel), panel.about, gr.Row(visible=panel.usable), gr.Button(interactive=panel.usable), empty,
            gr.DownloadButton(visible=False), panel.commands, panel.api,
        ]

    def look(self, project_id: int | None, run_id: int | None) -> list[Any]:
        """Show how far the work on the run is."""
        panel = view.panel(self.store, project_id, run_id)
        return [*self._moving(panel), gr.skip() if panel.merging else panel.commands]

    @guarded
    def prepare(self, run_id: int | None) -> Any:
        """Pack the adapter and offer it."""
        return self._offered(adapter.archive(self.store, int(run_id or 0), outbox()))

    @guarded
    def prepare_merged(self, run_id: int | None) -> Any:
        """Pack the merged weights and offer them."""
        return self._offered(merging.archive(self.store, int(run_id or 0), outbox()))

    @guarded
    def start_merge(self, project_id: int | None, run_id: int | None, dtype: str) -> Any:
        """Begin to merge the run."""
        merging.start(self.store, int(run_id or 0), dtype)
        return [*self._moving(view.panel(self.store, project_id, run_id)), gr.DownloadButton(visible=False)]

    @guarded
    def stop_merge(self, project_id: int | None, run_id: int | None) -> Any:
        """Ask the merging to stop; a later look shows that it did."""
        merging.MERGE.stop(self.store, int(run_id or 0))
        return self._moving(view.panel(self.store, project_id, run_id))

    @guarded
    def start_push(self, project_id: int | None, run_id: int | None, name: str, what: str, private: bool) -> Any:
        """Begin to push the run."""
        hub.start(self.store, int(run_id or 0), name, what == "merged", private)
        return self._moving(view.panel(self.store, project_id, run_id))

    def _moving(self, panel: view.Panel) -> list[Any]:
        """Return the updates of what changes while something is at work."""
        return [
            gr.Button(interactive=panel.usable and not panel.merging), gr.Button(visible=panel.merging), panel.merge_line,
            gr.Button(visible=panel.downloadable and not panel.merging),
            gr.Button(interactive=panel.usable and not panel.pushing), panel.push_line, gr.Timer(active=panel.active),
        ]

    def _offered(self, file: Path) -> gr.DownloadButton:
        label = f"Download {file.name} ({file.stat().st_size / 1e6:,.1f} MB)"
        return gr.DownloadButton(label, value=file, interactive=True, visible=True)
