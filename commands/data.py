"""Files in and out, answers from models, copies of the whole: import, export, generate, backup, restore."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from commands.base import (
    cli, data_option, device_option, json_option, pairs, progress, progress_bar, project_option, say, words, workers_of,
)
from errors import ImportFormatError
from models.client import Sampling
from storage import Store
from storage.records import KINDS

HUB = "hub:"
DAY = click.DateTime(["%Y-%m-%d"])


@cli.command("import")
@click.argument("file", metavar="FILE")
@project_option
@click.option("--format", "format_name", help="Name of the format; found by itself when not given.")
@click.option("--map", "columns", multiple=True, metavar="FIELD=COLUMN", help="Which column is which field; may be repeated.")
@click.option("--encoding", help="Of the file's text, such as utf-16 or gb18030; found by itself when not given.")
@click.option("--bad-rows", type=click.Path(path_type=Path), help="Write broken rows here and store the good ones.")
@click.option("--problems", type=int, default=0, help="Print so many of the problems of a refused file, a line each.")
@data_option
@json_option
def import_command(
    file: str, project: str, format_name: str | None, columns: tuple[str, ...], encoding: str | None,
    bad_rows: Path | None, problems: int, data: Path, as_json: bool,
) -> None:
    """Import a preference file; its preferences become labels of the project (made when new).

    FILE may be hub:OWNER/NAME, with @CONFIG and :SPLIT behind it, for a data set of the Hugging Face hub.
    """
    from transfer.importing import import_file, shaped

    store = Store(data)
    path = file if file.startswith(HUB) else Path(file)
    shape = shaped(path, format_name, pairs(columns, "--map"), encoding)
    try:
        with progress_bar(f"Importing {file if file.startswith(HUB) else Path(file).name}") as show:
            report = import_file(
                store, project, path, shape=shape, encoding=encoding, bad_rows=bad_rows, progress=show
            )
    except ImportFormatError as error:
        for place, field, problem in error.problems[:problems]:
            progress(f"{place}: {field}: {problem}" if field else f"{place}: {problem}")
        raise
    say(report.as_dict(), words(report.as_dict()), as_json)


@cli.command("export")
@project_option
@click.option("--as", "kind", required=True, help="trl-preference, trl-unpaired, sharegpt, labels or dataset (a folder).")
@click.option(
    "--output", required=True, type=click.Path(path_type=Path),
    help="File to write; its ending says its type: .jsonl, .csv (each also .gz) or .parquet.",
)
@click.option("--state", default="current", show_default=True, help="Of labels: current, or all versions.")
@click.option("--annotator", "annotators", multiple=True, help="Only this one's labels; may be repeated.")
@click.option("--which", default="all", show_default=True, help="all, majority, adjudicated or unanimous labels.")
@click.option("--min-agreement", default=0.5, show_default=True, type=float, help="Least share of votes that say the same.")
@click.option("--since", type=DAY, help="Labels from this day on (UTC).")
@click.option("--until", type=DAY, help="Labels up to this day, which counts too.")
@click.option("--run", type=int, help="Exactly the labels that this run was trained on.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(KINDS), help="Only labels of such items; may be repeated.")
@data_option
@json_option
def export_command(
    project: str, kind: str, output: Path, since: datetime | None, until: datetime | None, data: Path, as_json: bool,
    **filters: Any,
) -> None:
    """Export a project's labels: files that TRL's trainers load as they are, or everything."""
    from transfer.exporting.export import export
    from transfer.exporting.filters import Filters

    store = Store(data)
    chosen = Filters(since=since and since.date(), until=until and until.date(), **filters)
    report = export(store, store.projects.get(project), kind, output, filters=chosen)
    say(report.as_dict(), words(report.as_dict()), as_json)


@cli.command("generate")
@project_option
@click.option(
    "--model", "models", multiple=True, metavar="MODEL",
    help="demo, run-3, a folder, a hub name, or NAME@http://SERVER/v1; may be repeated. Settings of its own behind it:"
    " 'demo;n=4;temperature=0.7;seed=1'.",
)
@click.option("--run", "run_id", type=int, help="Use this run's adapter (the same as --model run-3).")
@click.option("--per-prompt", default=2, show_default=True, type=int, help="Responses wanted per prompt and model.")
@click.option(
    "--label-as", "kind", default="pair", show_default=True, type=click.Choice(KINDS),
    help="What to make of the responses.",
)
@click.option("--rule", type=click.Choice(["all", "random", "different"]), help="Which pairs of a prompt's responses.")
@click.option("--most", type=int, help="So many pairs of a prompt at most.")
@click.option("--source", type=click.Choice(["any", "same", "other"]), help="Pairs of one model's responses, or of two.")
@click.option("--temperature", default=1.0, show_default=True, type=float)
@click.option("--max-tokens", default=256, show_default=True, type=int)
@click.option("--seed", default=0, show_default=True, type=int)
@click.option("--key-variable", default="OPENAI_API_KEY", show_default=True, help="Environment variable with the server's key.")
@data_option
@device_option
@json_option
def generate_command(
    project: str, models: tuple[str, ...], run_id: int | None, per_prompt: int, kind: str, rule: str | None,
    most: int | None, source: str | None, temperature: float, max_tokens: int, seed: int, key_variable: str,
    data: Path, device: str, as_json: bool,
) -> None:
    """Let models answer the project's prompts, so that there is something to label."""
    from transfer.candidates.asking import ask

    store = Store(data)
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens, seed=seed)
    specs = [*models, *([f"run-{run_id}"] if run_id is not None else [])]
    with workers_of(store, device) as workers, progress_bar("Generating") as show:
        report = ask(
            store, store.projects.get(project), workers, specs or ["demo"], kind=kind, per_prompt=per_prompt,
            sampling=sampling, rule=rule, most=most, source=source, key_variable=key_variable, progress=show,
        )
    say(report.as_dict(), words(report.as_dict()), as_json)


@cli.command("backup")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="The .zip to write.")
@data_option
@json_option
def backup_command(output: Path, data: Path, as_json: bool) -> None:
    """Write a copy of all projects, labels and finished runs, also while people label."""
    from storage.backup import backup

    report = backup(Store(data), output)
    say(report.as_dict(), report.sentence(), as_json)


@cli.command("restore")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--replace", is_flag=True, help="Move what is in the data folder aside first.")
@data_option
@json_option
def restore_command(file: Path, replace: bool, data: Path, as_json: bool) -> None:
    """Make a data folder from a backup; no program may be using it."""
    from storage.backup import restore

    report = restore(file, data, replace=replace)
    say(report.as_dict(), report.sentence(), as_json)
