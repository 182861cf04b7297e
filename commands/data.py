"""Files in and out, answers from models, copies of the whole: import, export, generate, backup, restore."""

from __future__ import annotations

from pathlib import Path

import click

from commands.base import (
    cli, data_option, device_option, json_option, pairs, progress, progress_bar, project_option, say, words, workers_of,
)
from errors import ImportFormatError
from models.client import Sampling
from storage import Store
from storage.records import KINDS


@cli.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@project_option
@click.option("--format", "format_name", help="Name of the format; found by itself when not given.")
@click.option("--map", "columns", multiple=True, metavar="FIELD=COLUMN", help="Which column is which field; may be repeated.")
@click.option("--bad-rows", type=click.Path(path_type=Path), help="Write broken rows here and store the good ones.")
@click.option("--problems", type=int, default=0, help="Print so many of the problems of a refused file, a line each.")
@data_option
@json_option
def import_command(
    file: Path, project: str, format_name: str | None, columns: tuple[str, ...],
    bad_rows: Path | None, problems: int, data: Path, as_json: bool,
) -> None:
    """Import a preference file; its preferences become labels of the project (made when new)."""
    from transfer.importing import import_file, shaped

    store = Store(data)
    shape = shaped(file, format_name, pairs(columns, "--map"))
    try:
        with progress_bar(f"Importing {file.name}") as show:
            report = import_file(
                store, project, file, shape=shape, bad_rows=bad_rows, progress=show
            )
    except ImportFormatError as error:
        for place, field, problem in error.problems[:problems]:
            progress(f"{place}: {field}: {problem}" if field else f"{place}: {problem}")
        raise
    say(report.as_dict(), words(report.as_dict()), as_json)


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
    say(report.as_dict(), words(report.as_dict()), as_json)


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
    with workers_of(store, device) as workers:
        report = generate(
            store, store.projects.get(project), workers, model=model, run_id=run_id, per_prompt=per_prompt,
            kinds=(kind,), sampling=sampling, progress=progress,
        )
    say(report.as_dict(), words(report.as_dict()), as_json)
