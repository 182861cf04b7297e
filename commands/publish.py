"""A finished run out into the world: adapter, merge, push, serve-commands, api."""

from __future__ import annotations

from pathlib import Path

import click

from commands.base import cli, data_option, device_option, json_option, progress, say
from publish import api
from publish.merging import DTYPES
from storage import Store

run_argument = click.argument("run_id", type=int, metavar="RUN")


@cli.command("adapter")
@run_argument
@click.option(
    "--out", default=".", show_default=True, type=click.Path(path_type=Path), help="Folder to write the zip into.",
)
@click.option(
    "--base/--no-base", "include_base", default=None, help="Put the base's files in too; only the demo's when not given.",
)
@data_option
@json_option
def adapter_command(run_id: int, out: Path, include_base: bool | None, data: Path, as_json: bool) -> None:
    """Pack the adapter of a finished run as one zip that loads with plain transformers and peft."""
    from publish import adapter

    file = adapter.archive(Store(data), run_id, out, include_base)
    result = {"run": run_id, "file": str(file.absolute()), "size_bytes": file.stat().st_size}
    say(result, f"Run {run_id} is packed: {file} ({result['size_bytes'] / 1e6:,.1f} MB).", as_json)


@cli.command("merge")
@run_argument
@click.option(
    "--out", type=click.Path(path_type=Path), show_default="merged/run-RUN in the data folder",
    help="An empty folder, or a new one.",
)
@click.option(
    "--dtype", default="auto", show_default=True, type=click.Choice(DTYPES),
    help="What to keep the weights in; auto is what the base is in.",
)
@data_option
@json_option
def merge_command(run_id: int, out: Path | None, dtype: str, data: Path, as_json: bool) -> None:
    """Merge a finished run into its base: whole weights that load without peft."""
    from publish import merge, merging

    store = Store(data)
    report = merge.execute(store, run_id, out or merging.usual_folder(store, run_id), dtype, progress)
    say(report.as_dict(), report.sentence(), as_json)


@cli.command("push")
@run_argument
@click.argument("name", metavar="OWNER/NAME")
@click.option("--merged", is_flag=True, help="Push the merged weights instead of the adapter; `merge` makes them.")
@click.option("--private/--public", default=True, show_default=True, help="Whether only you can see it.")
@data_option
@json_option
def push_command(run_id: int, name: str, merged: bool, private: bool, data: Path, as_json: bool) -> None:
    """Push a finished run to a model hub, with the token of `hf auth login` or HF_TOKEN."""
    from publish import hub

    report = hub.execute(Store(data), run_id, name, merged, private, progress)
    say(report.as_dict(), report.sentence(), as_json)


@cli.command("serve-commands")
@run_argument
@click.option(
    "--merged", type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of its merged weights, when not in the usual place.",
)
@data_option
@json_option
def serve_commands_command(run_id: int, merged: Path | None, data: Path, as_json: bool) -> None:
    """Print the commands that serve a finished run with vLLM, transformers, llama.cpp and Ollama."""
    from publish import merging, serving, source

    store = Store(data)
    run = source.finished(store, run_id)
    folder = merged.absolute() if merged is not None else merging.merged_folder(store, run_id)
    found = serving.commands(run, source.base_of(store, run), store.runs.adapter_folder(run_id), folder)
    say({"run": run_id, "commands": [each.as_dict() for each in found]}, serving.told(found), as_json)


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
        address = api.address_of(listener)
        click.echo(f"The models are at {address}: {', '.join(names)}  (the key is the one in {key_variable})")

    progress(f"Loading {model} …")
    api.serve(Store(data), model, key, listener, device, ready)
