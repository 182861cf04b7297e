"""Training runs: train, runs, score."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from click_default_group import DefaultGroup

from commands.base import cli, data_option, device_option, json_option, pairs, progress, say, words
from errors import AppError, ConfigError
from storage import Run, Store


@cli.command("train")
@click.option("--project", help="Name of the project (not needed with --resume).")
@click.option("--method", help="dpo, kto, ipo, simpo …; the one that suits the labels when not given.")
@click.option("--model", show_default="demo", help="demo, a folder, or a hub name.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting; may be repeated.")
@click.option("--resume", type=int, metavar="RUN", help="Go on with a run that was cancelled, killed or has failed.")
@data_option
@device_option
@json_option
def train_command(
    project: str | None, method: str | None, model: str | None, overrides: tuple[str, ...], resume: int | None,
    data: Path, device: str, as_json: bool,
) -> None:
    """Train an adapter on the project's labels and wait for it."""
    from training import distributed, job, run

    if distributed.is_follower():  # `accelerate launch` started several of us: one leads, and only it writes
        sys.exit(run.follow())
    store = Store(data)
    if resume is None:
        queued = _new_run(store, project, method, model or "demo", overrides, device)
    elif method or model or overrides:
        raise ConfigError("A resumed run keeps its method, model and settings: give --resume without them.")
    else:
        queued = job.reopen(store, resume)
    ended = job.work(store, queued.id, device, progress)
    result = _run_as_dict(store, ended)
    say(result, words(result), as_json)
    if ended.state == "failed":
        raise AppError(ended.message)


def _new_run(
    store: Store, project: str | None, method: str | None, model: str, overrides: tuple[str, ...], device: str
) -> Run:
    """Queue a run of a project's labels, and say what it will do."""
    from models import catalog
    from training import config, dataset, job, view

    if project is None:
        raise ConfigError("Name a project with --project, or a run with --resume.")
    chosen, given = store.projects.get(project), pairs(overrides, "--set")
    summary = dataset.summarise(store, chosen.id, given.get("labels") or "all")
    architecture = catalog.architecture(model)
    settings = config.build(method or summary.suggested, model, given, summary, architecture, device)
    for line in view.told(settings, summary, architecture, device):
        progress(line)
    return job.create(store, chosen, settings)


def _run_as_dict(store: Store, run: Run) -> dict[str, Any]:
    adapter = str(store.folder / run.adapter) if run.adapter else None
    return {
        "run": run.id, "project": store.projects.by_id(run.project_id).name, "method": run.method, "model": run.model,
        "state": run.state, "message": run.message, "adapter": adapter, "metrics": run.summary,
        "snapshot": run.snapshot,
    }


@cli.group("runs", cls=DefaultGroup, default="list", default_if_no_args=True)
def runs_group() -> None:
    """List the training runs, or say how two differ."""


@runs_group.command("list")
@click.option("--project", help="Only this project's.")
@data_option
@json_option
def runs_command(project: str | None, data: Path, as_json: bool) -> None:
    """List the training runs, newest first."""
    from training import job

    store = Store(data)
    job.reconcile(store)
    runs = store.runs.list(store.projects.get(project).id if project else None)
    rows = [_run_as_dict(store, run) for run in runs]
    lines = [f"run-{row['run']}  {row['state']:9}  {row['method']:8}  {row['model']}  {row['project']}  {row['message']}" for row in rows]
    say({"runs": rows}, "\n".join(lines) or "No runs yet: `python app.py train --project NAME`.", as_json)


@runs_group.command("diff")
@click.argument("run_a", type=int, metavar="A")
@click.argument("run_b", type=int, metavar="B")
@data_option
@json_option
def diff_command(run_a: int, run_b: int, data: Path, as_json: bool) -> None:
    """Say which labels run B used otherwise than run A."""
    difference = Store(data).runs.diff(run_a, run_b)
    say(difference.as_dict(), "\n".join(difference.lines()), as_json)


@cli.command("score")
@click.option("--run", "run_id", required=True, type=int, help="A finished run; the pairs of its project are scored.")
@data_option
@device_option
@json_option
def score_command(run_id: int, data: Path, device: str, as_json: bool) -> None:
    """Ask a run which answer of each pair it prefers, so that labelling can begin where it is least certain."""
    from training import score

    report = score.execute(Store(data), run_id, device, progress)
    say(report.as_dict(), report.sentence(), as_json)
