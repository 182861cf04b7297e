"""The Train tab: what there is, one button, a live run, and the list of runs. Holds no state of its own.

Everything shown is read from the store, so a reload, a restart of the app and runs started elsewhere lose nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from errors import reported
from models.client import Workers
from storage import Store
from training import job, ordering, view
from training.config import settings_of
from training.defaults import Suggestion
from training.methods import METHODS

PRIVATE = {"api_visibility": "private", "show_progress": "hidden"}
AT_ONCE = {**PRIVATE, "queue": False}  # gradio shows toasts only for what went through its queue
DEMO = "demo"
LIVE = (
    '<div class="train-live"><div class="train-headline"></div><div class="train-detail" aria-live="polite"></div>'
    '<div class="train-bar" role="progressbar" aria-valuemin="0" aria-valuemax="100" hidden><i></i></div>'
    '<div class="train-scored" aria-live="polite" hidden></div></div>'
)
guarded = reported(gr.Warning, gr.skip)


def build(page: gr.Blocks, tab: gr.Tab, store: Store, project: gr.Dropdown, workers: Workers) -> None:
    """Fill the Train tab. project: the header's list of projects, whose value is a project's id or None."""
    TrainTab(store, workers).build(tab, project)


def css() -> str:
    """Return the tab's style sheet."""
    return _beside("train.css")


def head() -> str:
    """Return what the tab adds to the page's head: nothing."""
    return ""


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def setting_fields() -> dict[str, Any]:
    """Return one field per setting name, over all methods, in the order to show them: the methods' own first."""
    own = {spec.name: spec for method in METHODS for spec in settings_of(method)}
    common = [spec.name for spec in settings_of(next(iter(METHODS))) if spec.name not in _own_names(METHODS)]
    return {name: own[name] for name in [*(name for name in own if name not in common), *common]}


def _own_names(methods: dict[str, Any]) -> set[str]:
    return {name for method in methods.values() for name in method.__dataclass_fields__}


class TrainTab:
    """The components of the tab and what they do."""

    def __init__(self, store: Store, workers: Workers) -> None:
        self.store, self.workers = store, workers
        self.fields = setting_fields()

    def build(self, tab: gr.Tab, project: gr.Dropdown) -> None:
        """Lay the tab out and connect it."""
        self.summary = gr.Markdown(elem_id="train-summary")
        with gr.Row(elem_id="train-root"):
            with gr.Column(scale=2, min_width=300, elem_id="train-setup"):
                self._setup()
            with gr.Column(scale=3, min_width=300, elem_id="train-run"):
                self._run()
        self._all_settings()
        self.table = gr.Dataframe(
            headers=list(view.COLUMNS), value=[], interactive=False, wrap=True, label="Runs (click one to see it)",
            elem_id="train-runs", show_row_numbers=False, max_height=320, buttons=[], datatype="str",
            column_widths=[50, 90, 90, 110, 70, 70, 80, 100, 90, 110, 380],
        )
        self.shown = gr.State(None)
        self.timer = gr.Timer(1.0, active=False)
        self._connect(tab, project)

    def _setup(self) -> None:
        titles = [(method.title, name) for name, method in METHODS.items()]
        self.method = gr.Dropdown(titles, value="dpo", label="Method", filterable=False, elem_id="train-method")
        self.about = gr.Markdown(elem_id="train-about")
        self.model = gr.Dropdown(
            [DEMO], value=DEMO, label="Model", allow_custom_value=True, elem_id="train-model",
            info="demo, a folder on this machine, or a name on a model hub (org/name)",
        )
        self.train = gr.Button("Train", variant="primary", size="lg", elem_id="train-start")
        self.plan = gr.Markdown(elem_id="train-plan")

    def _all_settings(self) -> None:
        with gr.Accordion("Settings", open=False, elem_id="train-settings"):
            gr.Markdown("Nothing here needs to be changed: an empty field takes the value shown in it.")
            with gr.Row(elem_classes="train-grid"):
                self.settings = [self._setting(name, spec) for name, spec in self.fields.items()]

    def _setting(self, name: str, spec: Any) -> gr.Textbox | gr.Dropdown | gr.Checkbox:
        label, info = name.replace("_", " "), spec.metadata["help"]
        shared = {"label": label, "info": info, "elem_id": f"train-set-{name}", "min_width": 230}
        if spec.metadata["choices"]:
            return gr.Dropdown([("default", ""), *spec.metadata["choices"]], value="", filterable=False, **shared)
        if spec.type == "bool":
            return gr.Checkbox(value=spec.default, **shared)
        return gr.Textbox(value="", max_lines=1, **shared)

    def _run(self) -> None:
        self.live = gr.HTML({}, html_template=LIVE, js_on_load=_beside("live.js"), elem_id="train-live")
        self.cancel = gr.Button("Cancel", variant="stop", size="sm", visible=False, elem_id="train-cancel")
        self.resume = gr.Button("Resume", variant="secondary", size="sm", visible=False, elem_id="train-resume")
        self.order = gr.Button(
            "Order the labelling by this run", variant="secondary", size="sm", visible=False, elem_id="train-order"
        )
        self.charts = gr.HTML("", js_on_load=None, elem_id="train-charts")
        with gr.Accordion("Log", open=False, elem_id="train-log-box"):
            self.log = gr.HTML("", html_template="<pre></pre>", js_on_load=_beside("log.js"), elem_id="train-log")

    def _connect(self, tab: gr.Tab, project: gr.Dropdown) -> None:
        chosen = [project, self.method, self.model]
        setup = [self.summary, self.method, self.about, self.plan, self.train, *self.settings]
        run = [self.live, self.charts, self.log, self.cancel, self.resume, self.order, self.timer, self.shown]
        everything = [*setup, *run, self.table, self.model]
        gr.on([project.change, tab.select], self.open, [project, self.model], everything, **AT_ONCE)
        gr.on([self.method.input, self.model.change], self.choose, chosen, setup, **AT_ONCE)
        self.train.click(self.start, [*chosen, *self.settings], [*run, self.table, self.train], **PRIVATE)
        self.cancel.click(self.stop, [project, self.shown], [*run, self.table, self.train], **PRIVATE)
        self.resume.click(self.go_on, [project, self.shown], [*run, self.table, self.train], **PRIVATE)
        self.order.click(self.score, [project, self.shown], [*run, self.table, self.train], **PRIVATE)
        self.timer.tick(self.tick, [project, self.shown], [*run, self.table, self.train], **AT_ONCE)
        self.table.select(self.pick, [project, self.table], run, **AT_ONCE)

    @guarded
    def open(self, project_id: int | None, model: str) -> Any:
        """Show a project: what it has to train on, its active or newest run, and all its runs."""
        models = list(dict.fromkeys([DEMO, *(run.model for run in self.store.runs.list())]))
        listed = gr.Dropdown([*models], value=model or DEMO)
        run = self._run_updates(view.panel(self.store, project_id))
        return [*self._setup_updates(project_id, None, model), *run, self._table(project_id), listed]

    @guarded
    def choose(self, project_id: int | None, method: str, model: str) -> Any:
        """Show what another method or model would do."""
        return self._setup_updates(project_id, method, model)

    @guarded
    def start(self, project_id: int | None, method: str, model: str, *texts: str) -> Any:
        """Start a run and show it."""
        device = self.workers.device
        config = view.configured(self.store, project_id, method, model, dict(zip(self.fields, texts)), device)
        project = self.store.projects.by_id(project_id)
        run = job.start(self.store, project, config, device, self.workers.free_gpu)
        return self._all_updates(project_id, run.id)

    @guarded
    def stop(self, project_id: int | None, shown: Any) -> Any:
        """Cancel the run that is shown, a second time at once; or its scoring of the pairs."""
        if shown:
            job.cancel(self.store, shown[0])
            ordering.stop(self.store, shown[0])
        return self._all_updates(project_id, shown[0] if shown else None)

    @guarded
    def go_on(self, project_id: int | None, shown: Any) -> Any:
        """Resume the run that is shown, from its checkpoint."""
        device = self.workers.device
        if shown:
            job.resume(self.store, shown[0], device, self.workers.free_gpu)
        return self._all_updates(project_id, shown[0] if shown else None)

    @guarded
    def score(self, project_id: int | None, shown: Any) -> Any:
        """Ask the run that is shown which answer of each pair it prefers, for the order of labelling."""
        device = self.workers.device
        if shown:
            ordering.start(self.store, shown[0], device, self.workers.free_gpu)
        return self._all_updates(project_id, shown[0] if shown else None)

    @guarded
    def tick(self, project_id: int | None, shown: Any) -> Any:
        """Show what the run has done since; what has not changed is not sent again."""
        panel = view.panel(self.store, project_id, shown[0] if shown else None)
        updates = self._run_updates(panel)
        if list(shown or []) == updates[-1]:
            return [updates[0], gr.skip(), updates[2], *[gr.skip()] * 7]
        return [*updates, self._table(project_id), gr.Button(interactive=not panel.active)]

    @guarded
    def pick(self, project_id: int | None, table: Any, event: gr.SelectData) -> Any:
        """Show the run of the row that was clicked."""
        return self._run_updates(view.panel(self.store, project_id, int(event.row_value[0])))

    def _table(self, project_id: int | None) -> Any:
        rows = view.runs_table(self.store, project_id)
        return gr.Dataframe(rows, visible=bool(rows))

    def _all_updates(self, project_id: int | None, run_id: int | None) -> list[Any]:
        panel = view.panel(self.store, project_id, run_id)
        return [*self._run_updates(panel), self._table(project_id), gr.Button(interactive=not panel.active)]

    def _setup_updates(self, project_id: int | None, method: str | None, model: str) -> list[Any]:
        setup = view.setup(self.store, project_id, method, model or DEMO, self.workers.device)
        ready = not setup.problem and self.store.runs.active() is None
        specs = {spec.name: spec for spec in settings_of(setup.method)}
        settings = [self._setting_update(specs.get(name), setup.settings.get(name)) for name in self.fields]
        return [
            setup.sentence, setup.method, setup.about, "\n\n".join([setup.plan or setup.problem, *setup.notes]),
            gr.Button(interactive=ready), *settings,
        ]

    def _setting_update(self, spec: Any, suggestion: Suggestion | None) -> Any:
        """Show a setting with this method's words and the value it takes when it is left alone."""
        if spec is None or suggestion is None:
            return gr.update(visible=False)
        shared = {"visible": True, "info": spec.metadata["help"]}
        if spec.metadata["choices"]:
            return gr.update(choices=[(f"default: {suggestion.told}", ""), *spec.metadata["choices"]], **shared)
        if spec.type == "bool":
            return gr.update(**shared)
        return gr.update(placeholder=suggestion.told, **shared)

    def _run_updates(self, panel: view.Panel) -> list[Any]:
        """Return the updates of the run's components; the last is what `tick` compares."""
        mark = [
            panel.run_id, panel.live["state"], panel.live["progress"], panel.cancel_label, panel.resume_label, panel.scoring,
        ]
        cancel = gr.Button(panel.cancel_label, visible=panel.active or panel.scoring)
        resume = gr.Button(panel.resume_label or "Resume", visible=bool(panel.resume_label))
        order = gr.Button(visible=panel.orders)
        timer = gr.Timer(active=panel.active or panel.scoring)
        return [panel.live, panel.charts, panel.log, cancel, resume, order, timer, mark]
