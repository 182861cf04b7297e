"""The command line's verbs for scripts: import, export, generate, train, score, chat, runs, agreement.

Each does what a button on the page does, through the same service; the page it does not know. With `--json` the last
line of standard output is one JSON object; progress goes to standard error. Exit code 0, or 2 with one line that says
what is wrong.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click_default_group import DefaultGroup

from errors import AppError, ConfigError
from models.client import Sampling, Workers
from settings import Settings
from storage import Run, Store
from storage.records import KINDS

data_option = click.option(
    "--data", type=click.Path(path_type=Path), default=lambda: Settings().data, show_default="./data",
    help="Data folder: database, adapters, logs.",
)
device_option = click.option(
    "--device", default=lambda: Settings().device, show_default="auto", help="auto, cpu, cuda, cuda:1 or mps.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object as the last line.")
project_option = click.option("--project", required=True, help="Name of the project.")


@click.group(cls=DefaultGroup, default_if_no_args=True, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Preference Studio: label preferences, train on them, compare base and tuned model."""


def report_errors(command: click.Command) -> None:
    """Run the command line; an error its user can mend becomes one line and exit code 2."""
    try:
        command(standalone_mode=False)
    except (AppError, click.ClickException) as error:
        text = error.format_message() if isinstance(error, click.ClickException) else str(error)
        click.echo(f"Error: {' '.join(text.split())}", err=True)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)


@contextmanager
def _workers(store: Store, device: str) -> Iterator[Workers]:
    """Give the worker processes of one command, ended with it."""
    workers = Workers(store.folder / "runs", device)
    try:
        yield workers
    finally:
        workers.stop()


def _say(result: dict[str, Any], text: str, as_json: bool) -> None:
    """Print a result for a person, or as one line of JSON."""
    click.echo(json.dumps(result, ensure_ascii=False) if as_json else text)


def _words(result: dict[str, Any]) -> str:
    """Return `key: value` lines of a result, for people."""
    return "\n".join(f"{key}: {value}" for key, value in result.items() if value not in (None, [], {}))


def _progress(*parts: Any) -> None:
    """Show how far a long command is, on standard error."""
    click.echo(" ".join(str(part) for part in parts), err=True)


@cli.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@project_option
@data_option
@json_option
def import_command(file: Path, project: str, data: Path, as_json: bool) -> None:
    """Import a preference file; its preferences become labels of the project (made when new)."""
    from transfer.importing import import_file

    store = Store(data)
    report = import_file(store, project, file)
    _say(report.as_dict(), _words(report.as_dict()), as_json)


@cli.command("export")
@project_option
@click.option("--as", "kind", required=True, help="trl-preference or trl-unpaired.")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="File to write.")
@data_option
@json_option
def export_command(project: str, kind: str, output: Path, data: Path, as_json: bool) -> None:
    """Export a project's labels as JSON Lines that TRL's trainers load as they are."""
    from transfer.exporting.export import export

    store = Store(data)
    report = export(store, store.projects.get(project), kind, output)
    _say(report.as_dict(), _words(report.as_dict()), as_json)


@cli.command("generate")
@project_option
@click.option("--model", default="demo", show_default=True, help="demo, a folder, or a hub name.")
@click.option("--run", "run_id", type=int, help="Use this run's adapter.")
@click.option("--per-prompt", default=2, show_default=True, type=int, help="Responses wanted per prompt.")
@click.option(
    "--label-as", "kind", default="pair", show_default=True, type=click.Choice(KINDS),
    help="What to make of the responses.",
)
@click.option("--temperature", default=1.0, show_default=True, type=float)
@click.option("--max-tokens", default=256, show_default=True, type=int)
@click.option("--seed", default=0, show_default=True, type=int)
@data_option
@device_option
@json_option
def generate_command(
    project: str, model: str, run_id: int | None, per_prompt: int, kind: str, temperature: float, max_tokens: int,
    seed: int, data: Path, device: str, as_json: bool,
) -> None:
    """Let a model answer the project's prompts, so that there is something to label."""
    from transfer.candidates.generate import generate

    store = Store(data)
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens, seed=seed)
    with _workers(store, device) as workers:
        report = generate(
            store, store.projects.get(project), workers, model=model, run_id=run_id, per_prompt=per_prompt,
            kinds=(kind,), sampling=sampling, progress=_progress,
        )
    _say(report.as_dict(), _words(report.as_dict()), as_json)


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
    ended = job.work(store, queued.id, device, _progress)
    result = _run_as_dict(store, ended)
    _say(result, _words(result), as_json)
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
    chosen, given = store.projects.get(project), _pairs(overrides)
    summary = dataset.summarise(store, chosen.id, given.get("labels") or "all")
    architecture = catalog.architecture(model)
    settings = config.build(method or summary.suggested, model, given, summary, architecture, device)
    for line in view.told(settings, summary, architecture, device):
        _progress(line)
    return job.create(store, chosen, settings)


def _pairs(overrides: tuple[str, ...]) -> dict[str, str]:
    """Split KEY=VALUE words. Raises ConfigError naming the ones that are not."""
    wrong = [each for each in overrides if "=" not in each]
    if wrong:
        raise ConfigError([f"--set {each} is not KEY=VALUE" for each in wrong])
    return dict(each.split("=", 1) for each in overrides)


def _run_as_dict(store: Store, run: Run) -> dict[str, Any]:
    adapter = str(store.folder / run.adapter) if run.adapter else None
    return {
        "run": run.id, "project": store.projects.by_id(run.project_id).name, "method": run.method, "model": run.model,
        "state": run.state, "message": run.message, "adapter": adapter, "metrics": run.summary,
    }


@cli.command("chat")
@click.option("--model", default="demo", show_default=True, help="demo, a folder, or a hub name.")
@click.option("--run", "run_id", type=int, help="Compare with this run's adapter.")
@click.option("--prompt", required=True, help="What to ask.")
@click.option("--temperature", default=0.0, show_default=True, type=float, help="0 takes the likeliest token.")
@click.option("--max-tokens", default=256, show_default=True, type=int)
@click.option("--seed", default=0, show_default=True, type=int)
@data_option
@device_option
@json_option
def chat_command(
    model: str, run_id: int | None, prompt: str, temperature: float, max_tokens: int, seed: int,
    data: Path, device: str, as_json: bool,
) -> None:
    """Ask the base model, and a run's tuned model, the same question."""
    from chat.session import compare_once

    store = Store(data)
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens, seed=seed)
    with _workers(store, device) as workers:
        answers = compare_once(store, workers, model, run_id, prompt, sampling)
    _say(answers, "\n\n".join(f"{side}:\n{text}" for side, text in answers.items() if text is not None), as_json)


@cli.command("runs")
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
    _say({"runs": rows}, "\n".join(lines) or "No runs yet: `python app.py train --project NAME`.", as_json)


@cli.command("score")
@click.option("--run", "run_id", required=True, type=int, help="A finished run; the pairs of its project are scored.")
@data_option
@device_option
@json_option
def score_command(run_id: int, data: Path, device: str, as_json: bool) -> None:
    """Ask a run which answer of each pair it prefers, so that labelling can begin where it is least certain."""
    from training import score

    report = score.execute(Store(data), run_id, device, _progress)
    _say(report.as_dict(), report.sentence(), as_json)


@cli.command("agreement")
@project_option
@click.option("--kind", type=click.Choice(KINDS), help="Of which items; those with most votes when not given.")
@data_option
@json_option
def agreement_command(project: str, kind: str | None, data: Path, as_json: bool) -> None:
    """Say how far the project's annotators agree beyond chance, with 95% intervals."""
    from review.agreement import agreement

    store = Store(data)
    measured = agreement(store, store.projects.get(project).id, kind, tags=False)
    _say(measured.as_dict(), measured.sentences(), as_json)
