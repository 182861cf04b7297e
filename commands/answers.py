"""What was labelled and learned, asked for: chat, replay, report, agreement."""

from __future__ import annotations

from pathlib import Path

import click

from commands.base import (
    cli, data_option, device_option, json_option, progress, project_option, say, workers_of,
)
from models.client import Sampling
from storage import Store
from storage.records import KINDS


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
    with workers_of(store, device) as workers:
        answers = compare_once(store, workers, model, run_id, prompt, sampling)
    say(answers, "\n\n".join(f"{side}:\n{text}" for side, text in answers.items() if text is not None), as_json)


@cli.command("replay")
@click.argument("message", type=int)
@data_option
@device_option
@json_option
def replay_command(message: int, data: Path, device: str, as_json: bool) -> None:
    """Ask for a stored answer of a chat again, with all it was made with; MESSAGE is its number in the JSON of the chat."""
    from chat.replay import replay

    store = Store(data)
    with workers_of(store, device) as workers:
        found = replay(store, workers, message)
    say(found.as_dict(), f"{found.text}\n\n{found.sentence()}", as_json)


@cli.command("report")
@click.argument("run_ids", type=int, nargs=-1, required=True, metavar="RUN...")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="The HTML file to write.")
@click.option("--measure", is_flag=True, help="Measure the runs first, also those that have been.")
@data_option
@device_option
@json_option
def report_command(run_ids: tuple[int, ...], output: Path, measure: bool, data: Path, device: str, as_json: bool) -> None:
    """Write what runs have learned as one self-contained HTML file; several runs are laid over each other."""
    from report import measure as measuring
    from report import page
    from report.measured import read

    store = Store(data)
    for run_id in run_ids:
        if measure or read(store.runs.folder(store.runs.get(run_id).id)) is None:
            measuring.execute(store, run_id, device, progress)
    written = page.write(store, run_ids, output)
    result = {"runs": list(run_ids), "file": str(written.absolute()), "size_bytes": written.stat().st_size}
    say(result, f"Written: {written} ({result['size_bytes'] / 1e3:,.0f} kB).", as_json)


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
    say(measured.as_dict(), measured.sentences(), as_json)
