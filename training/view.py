"""What the Train tab shows, as plain values: the plan, the live run, the list of runs. Does not know the page.

Everything comes from the store and the run's log, so a reloaded page, a restarted app and a run that the command
line started all look the same.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from errors import ConfigError, ModelError
from models import catalog
from storage import Run, Store
from training import job, memory, ordering
from training.charts import charts
from training.config import TrainingConfig, build, explained, settings_of
from training.dataset import NO_LABELS, LabelSummary, summarise
from training.defaults import Suggestion
from training.methods import METHODS, KTOConfig, weights_sentence

STATES = {"queued": "starting", "running": "training"}
COLUMNS = ("Run", "State", "Method", "Model", "Steps", "Loss", "Margin", "Accuracy", "Time", "Started", "What happened")
QUIET_SECONDS = 30.0
NOTHING_YET = "Nothing has been trained in this project yet."


@dataclass(frozen=True)
class Setup:
    """What can be trained now. problem: why it cannot, and what to do; "" when it can.

    plan: what the run would do. notes: what it needs, one line each.
    """

    sentence: str
    method: str
    about: str
    plan: str
    problem: str
    settings: dict[str, Suggestion] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Panel:
    """One run as it is shown. live: headline, detail, progress 0–1, state and the last word of a scoring by it.

    charts: HTML of numbers only. resume_label: what a click on Resume would do; "" when the run cannot be resumed.
    orders: the run can order the labelling now; scoring: it is at that.
    """

    run_id: int | None
    live: dict[str, Any]
    charts: str = ""
    log: str = ""
    active: bool = False
    cancel_label: str = "Cancel"
    resume_label: str = ""
    orders: bool = False
    scoring: bool = False


def setup(
    store: Store, project_id: int | None, method: str | None, model: str, device: str = "auto"
) -> Setup:
    """Return what a method would do with a project's labels; no method means the one that suits them.

    device: where the program was told to train.
    """
    summary = summarise(store, project_id) if project_id is not None else LabelSummary()
    chosen = method or summary.suggested
    about = METHODS[chosen].about
    if project_id is None:
        return Setup("Choose a project, or make one in Data.", chosen, about, "", "No project is chosen.")
    try:
        architecture = catalog.architecture(model)
    except ModelError as error:
        return Setup(_sentence(summary), chosen, about, "", str(error), explained(chosen, summary, None, device))
    problem = summary.problem(chosen) or ""
    if summary.sentence == NO_LABELS:
        problem = NO_LABELS
    settings = explained(chosen, summary, architecture, device)
    if problem:
        return Setup(_sentence(summary), chosen, about, "", problem, settings)
    config = build(chosen, model, {}, summary, architecture, device)
    plan, notes = plan_sentence(config, summary), needs(config, summary, device)
    return Setup(_sentence(summary), chosen, about, plan, "", settings, tuple(notes))


def configured(
    store: Store, project_id: int | None, method: str, model: str, texts: dict[str, str], device: str = "auto"
) -> TrainingConfig:
    """Return the config that the page's fields describe. Raises ConfigError or ModelError."""
    if project_id is None:
        raise ConfigError("Choose a project first.")
    own = {spec.name for spec in settings_of(method)}
    given = {name: text for name, text in texts.items() if name in own}
    summary = summarise(store, project_id, given.get("labels") or "all")
    return build(method, model, given, summary, catalog.architecture(model), device)


def plan_sentence(config: TrainingConfig, summary: LabelSummary) -> str:
    """Say what a run would do, in one line."""
    unit = "pairs" if config.loss.paired else "answers"
    passes = config.steps * config.batch_size / max(1, summary.examples(config.loss.paired))
    held = f", {config.held_out_share:.0%} held out to measure on" if config.held_out_share else ""
    which = "" if config.labels == "all" else f"{config.labels} "
    return f"{config.steps} steps of {config.batch_size} {unit} ({passes:.0f}× over the {which}labels){held}."


def needs(config: TrainingConfig, summary: LabelSummary, device: str = "auto") -> list[str]:
    """Say how good and bad answers weigh, where they do, and what memory the run needs, one line each."""
    lines = []
    if isinstance(config.loss, KTOConfig) and summary.desirable and summary.undesirable:
        lines.append(weights_sentence(summary.desirable, summary.undesirable, config.loss))
    return [*lines, memory.told(config, device)]


def told(config: TrainingConfig, summary: LabelSummary, architecture: dict[str, Any], device: str) -> list[str]:
    """Return what a run will do, every setting that follows from model, data or device with its reason, and needs."""
    values = {**config.to_dict(), **config.to_dict()["loss"]}
    suggested = explained(config.method, summary, architecture, device, values)
    reasons = [
        f"{name}: {entry.told}" for name, entry in suggested.items() if entry.reason and entry.value == values[name]
    ]
    return [plan_sentence(config, summary), *reasons, *needs(config, summary, device)]


def panel(store: Store, project_id: int | None, run_id: int | None = None) -> Panel:
    """Return the run to show: the active one, else `run_id`, else the project's newest."""
    active = job.reconcile(store)
    run = active or (store.runs.get(run_id) if run_id is not None else None)
    if run is None and project_id is not None:
        run = next(iter(store.runs.list(project_id)), None)
    if run is None:
        return Panel(None, _live(NOTHING_YET, "The curves of a run appear here while it trains.", "none", None))
    metrics = [(row.step, row.values) for row in store.runs.metrics(run.id)]
    scored = ordering.status(store, run)
    return Panel(
        run.id,
        _live(_headline(store, run, project_id), _detail(run), run.state, _progress(run), scored.line),
        charts(metrics, run.total_steps) if metrics else "",
        job.log_tail(store, run.id),
        run.is_active,
        "Stop at once" if run.cancel_requested else "Cancel",
        _resume_label(store, run),
        run.adapter is not None and not active and not scored.active,
        scored.active,
    )


def runs_table(store: Store, project_id: int | None) -> list[list[str]]:
    """Return a project's runs, newest first, as rows of COLUMNS."""
    if project_id is None:
        return []
    return [_row(run) for run in store.runs.list(project_id)]


def seconds_left(run: Run) -> float | None:
    """Estimate how long a run still takes, from the pace of its steps; None before the first."""
    if not run.step or "seconds" not in run.summary:
        return None
    stepping = run.summary["seconds"] - run.summary.get("reference_seconds", 0.0)
    return stepping / run.step * (run.total_steps - run.step)


def duration(seconds: float) -> str:
    """Return a length of time in words: "12 s", "3 min 5 s", "2 h 10 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _live(headline: str, detail: str, state: str, progress: float | None, scored: str = "") -> dict[str, Any]:
    return {"headline": headline, "detail": detail, "state": state, "progress": progress, "scored": scored}


def _sentence(summary: LabelSummary) -> str:
    return summary.sentence if summary.sentence.endswith(".") else f"{summary.sentence}."


def _headline(store: Store, run: Run, project_id: int | None) -> str:
    state = STATES.get(run.state, run.state)
    elsewhere = "" if run.project_id == project_id else f" in project “{store.projects.by_id(run.project_id).name}”"
    return f"Run {run.id}{elsewhere}: {METHODS[run.method].title} on {run.model}, {state}"


def _detail(run: Run) -> str:
    if not run.is_active:
        hint = " Compare it with the base in Chat." if run.state == "finished" else ""
        return f"{run.message}{hint}"
    if run.cancel_requested:
        return "Stopping after the current pass …"
    if run.state == "queued":
        return "The training process is starting …"
    quiet = time.time() - (run.heartbeat_at or run.created_at)
    if quiet > QUIET_SECONDS:
        return f"No sign of life for {duration(quiet)}; it may be waiting for memory. Cancel it if that lasts."
    if not run.step:
        return "Loading the model and scoring the answers with the base …"
    left = seconds_left(run)
    return f"Step {run.step} of {run.total_steps}" + (f", about {duration(left)} left" if left is not None else "")


def _resume_label(store: Store, run: Run) -> str:
    step = job.resumable_from(store, run)
    return "" if step is None else f"Resume from step {step} of {run.total_steps}"


def _progress(run: Run) -> float | None:
    if not run.is_active and run.state != "finished":
        return None
    return run.step / run.total_steps if run.total_steps else 0.0


def _row(run: Run) -> list[str]:
    figures = run.summary
    margin, accuracy = figures.get("rewards/margins"), figures.get("rewards/accuracies")
    held_out = figures.get("held_out/accuracies")
    took = (run.ended_at or time.time()) - run.started_at if run.started_at else None
    return [
        str(run.id),
        STATES.get(run.state, run.state),
        METHODS[run.method].title if run.method in METHODS else run.method,
        run.model,
        f"{run.step}/{run.total_steps}" if run.total_steps else "",
        f"{figures['loss']:.3f}" if "loss" in figures else "",
        "" if margin is None else f"{margin:.2f}",
        "" if accuracy is None else f"{accuracy:.0%}" + ("" if held_out is None else f" ({held_out:.0%} held out)"),
        "" if took is None else duration(took),
        time.strftime("%d %b %H:%M", time.localtime(run.created_at)),
        run.message,
    ]
