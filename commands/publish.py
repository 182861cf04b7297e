"""A finished run out into the world: api."""

from __future__ import annotations

from pathlib import Path

import click

from commands.base import cli, data_option, device_option, progress
from publish import api
from storage import Store


@cli.command("api")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=int, help="Port; 0 takes a free one.")
@click.option("--model", default="demo", show_default=True, help="demo, a folder, or a hub name: the base of the runs.")
@click.option(
    "--key-variable", default=api.KEY_VARIABLE, show_default=True, metavar="NAME",
    help="Environment variable that holds the key which programs must bring.",
)
@data_option
@device_option
def api_command(host: str, port: int, model: str, key_variable: str, data: Path, device: str) -> None:
    """Open a base model and its runs to other programs, as an OpenAI-compatible server behind a key."""
    key = api.take_key(key_variable)
    listener = api.bind(host, port)
    if warning := api.warning(host):
        progress(warning)

    def ready(names: list[str]) -> None:
        click.echo(f"The models are at {api.address_of(listener)}: {', '.join(names)}  (the key is the one in {key_variable})")

    progress(f"Loading {model} …")
    api.serve(Store(data), model, key, listener, device, ready)
