"""What every verb of the command line shares: the group, its options, how results and errors are said.

Each does what a button on the page does, through the same service; the page it does not know. With `--json` the last
line of standard output is one JSON object; progress goes to standard error. Exit code 0, or 2 with one line that says
what is wrong.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click_default_group import DefaultGroup

from errors import AppError, ConfigError
from models.client import Workers
from settings import Settings
from storage import Store

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
def workers_of(store: Store, device: str) -> Iterator[Workers]:
    """Give the worker processes of one command, ended with it."""
    workers = Workers(store.folder / "runs", device)
    try:
        yield workers
    finally:
        workers.stop()


def say(result: dict[str, Any], text: str, as_json: bool) -> None:
    """Print a result for a person, or as one line of JSON."""
    click.echo(json.dumps(result, ensure_ascii=False) if as_json else text)


def words(result: dict[str, Any]) -> str:
    """Return `key: value` lines of a result, for people."""
    return "\n".join(f"{key}: {value}" for key, value in result.items() if value not in (None, [], {}))


def progress(*parts: Any) -> None:
    """Show how far a long command is, on standard error."""
    click.echo(" ".join(str(part) for part in parts), err=True)


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """Give a function that takes steps done and in all, shown as one bar on standard error where a person looks at it."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    with click.progressbar(length=100, label=title, file=sys.stderr) as bar:

        def show(done: int, total: int) -> None:
            bar.update(int(100 * done / max(1, total)) - bar.pos)

        yield show


def pairs(words: tuple[str, ...], option: str) -> dict[str, str]:
    """Split KEY=VALUE words. Raises ConfigError naming the ones that are not."""
    wrong = [each for each in words if "=" not in each]
    if wrong:
        raise ConfigError([f"{option} {each} is not KEY=VALUE" for each in wrong])
    return dict(each.split("=", 1) for each in words)
