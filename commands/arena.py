"""Which model is better, asked and voted: ranking, match, round."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from commands.base import (
    cli, data_option, device_option, json_option, progress, progress_bar, project_option, say, workers_of,
)
from errors import ConfigError
from models.client import Sampling
from storage import Store


@cli.command("ranking")
@click.option("--project", help="Only votes of this project.")
@click.option("--named", is_flag=True, help="Count votes given with the models' names in sight too.")
@data_option
@json_option
def ranking_command(project: str | None, named: bool, data: Path, as_json: bool) -> None:
    """Rank models and runs by what people preferred, with 95% intervals."""
    from arena.ranking import ranking
    from transfer.wording import counted

    store = Store(data)
    found = ranking(store, store.projects.get(project).id if project else None, with_named=named)
    lines = [
        f"{rank.model:24} {rank.rating:6.0f}  ({rank.low:.0f} to {rank.high:.0f}, {counted(rank.votes, 'vote')})"
        if rank.rating is not None else f"{rank.model:24} has not met the others yet ({counted(rank.votes, 'vote')})"
        for rank in found.ranks
    ]
    lines += [
        f"{duel.model} against {duel.other}: {duel.wins} won, {duel.losses} lost, {duel.ties} ties:"
        f" {duel.rate:.0%} ({duel.low:.0%} to {duel.high:.0%})"
        for duel in found.duels
    ]
    lines += [f"left out: {reason} ({count:,})" for reason, count in found.excluded.items()]
    say(asdict(found), "\n".join(lines) or "No votes yet: vote in a blind chat, or play a `match`.", as_json)


@cli.command("match")
@click.argument("first")
@click.argument("second")
@click.option("--project", help="Ask its prompts that neither model has been trained on.")
@click.option("--prompts", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Ask these: one a line.")
@click.option("--most", default=40, show_default=True, type=int, help="At most so many prompts, evenly spread.")
@click.option("--temperature", default=Sampling().temperature, show_default=True, type=float)
@click.option("--seed", type=int, help="The same seed gives the same answers.")
@data_option
@device_option
@json_option
def match_command(
    first: str, second: str, project: str | None, prompts: Path | None, most: int, temperature: float, seed: int | None,
    data: Path, device: str, as_json: bool,
) -> None:
    """Let two models answer a list of prompts; vote through the answers on the Label tab.

    FIRST and SECOND are run-3, or base:demo, base:FOLDER, base:NAME for an untuned model.
    """
    from arena import matches
    from chat.speakers import find

    store = Store(data)
    if (project is None) == (prompts is None):
        raise ConfigError("Give either --project or --prompts.")
    project_id = store.projects.get(project).id if project else None
    pair = find(store, project_id, first, second)
    if prompts is not None:
        asked = matches.written(prompts.read_text(encoding="utf-8"))
    else:
        asked = matches.held_out(store, project_id, pair)
    played = matches.prepare(store, pair, asked, most, project_id)
    sampling = Sampling(temperature=temperature, seed=seed)
    with workers_of(store, device) as workers, progress_bar("Answering") as show:
        report = matches.play(store, workers, played, pair, sampling, progress=show)
    say(report.as_dict(), report.sentence(), as_json)


@cli.command("round")
@project_option
@click.option("--most", type=click.IntRange(1), help="At most so many prompts are asked; all but a fifth of the unlabelled if not given.")
@click.option("--enough", is_flag=True, help="Train on the labels there are, without waiting for the others.")
@data_option
@device_option
@json_option
def round_command(project: str, most: int | None, enough: bool, data: Path, device: str, as_json: bool) -> None:
    """Go on with a project's next round: sample the best run, and once that is labelled train on top and compare.

    It ends where people are needed: label the answers and call it again, then vote.
    """
    from arena import next_round

    store, labels_do = Store(data), threading.Event()
    if enough:
        labels_do.set()
    with workers_of(store, device) as workers, progress_bar("Answering") as show:
        report = next_round.go(
            store, workers, store.projects.get(project), most=most, wait=False, enough=labels_do, progress=show,
            told=_told(),
        )
    say(report.as_dict(), report.sentence(), as_json)


def _told() -> Callable[[Any], None]:
    """Return what says each step of a round once."""
    said: list[tuple[str, int]] = []

    def tell(step: Any) -> None:
        if (step.kind, step.run.id) not in said:
            said.append((step.kind, step.run.id))
            progress(f"{step.kind}: run {step.run.id}")

    return tell
