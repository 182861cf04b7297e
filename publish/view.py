"""What the Publish tab shows of a run, as plain values. Does not know gradio, and changes nothing."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from errors import AppError
from publish import api, hub, merging, serving
from publish.source import base_of, finished, list_finished
from storage import Run, Store
from training.methods import METHODS

NO_RUN = "There is no finished run yet. Train one on the Train tab; then it can be taken anywhere from here."
NO_PROJECT = (
    "There is no project yet. Make one on the Data tab, label, and train a run; then it can be taken anywhere from here."
)
# Larger merged weights are fetched from their folder: a browser's download of them is slow and cannot be resumed.
DOWNLOAD_BYTES = 1 << 30


@dataclass(frozen=True)
class Panel:
    """What there is to show of a run. about: what it is, or why nothing can be done with it (then `usable` is False).

    merge_line, push_line: how far that work is, or how it ended; commands, api: Markdown. merged: there are merged
    weights; downloadable: and they are small enough to be downloaded.
    """

    about: str
    usable: bool = False
    merge_line: str = ""
    merging: bool = False
    merged: bool = False
    downloadable: bool = False
    push_line: str = ""
    pushing: bool = False
    commands: str = ""
    api: str = ""

    @property
    def active(self) -> bool:
        """True while something is at work."""
        return self.merging or self.pushing


def choices(store: Store, project_id: int | None) -> list[tuple[str, int]]:
    """Return a project's finished runs, newest first, as what a list shows and the run's number."""
    return [(f"Run {run.id}: {_method(run)} on {run.model}", run.id) for run in _runs(store, project_id)]


def panel(store: Store, project_id: int | None, run_id: int | None) -> Panel:
    """Return what to show of a run; of none, why there is none."""
    if run_id is None:
        return Panel(NO_PROJECT if project_id is None else NO_RUN)
    try:
        run = finished(store, run_id)
        base, folder = base_of(store, run), merging.merged_folder(store, run_id)
        found = serving.commands(run, base, store.runs.adapter_folder(run_id), folder)
    except AppError as error:
        return Panel(str(error))
    merge, push = merging.MERGE.status(store, run_id), hub.PUSH.status(store, run_id)
    merge_line = merge.line or (f"The merged model is in {folder}." if folder is not None else "")
    small = folder is not None and merging.size_bytes(folder) <= DOWNLOAD_BYTES
    return Panel(
        f"{_method(run)} on {base.name}. {run.message}", True, merge_line, merge.active, folder is not None, small,
        push.line, push.active, commands_text(found), api_text(store, run),
    )


def commands_text(found: list[serving.ServeCommand]) -> str:
    """Return the ways to serve a run as Markdown, each command in a block that can be copied."""
    parts = []
    for each in found:
        block = [fenced(each.text, each.language)] if each.lines else []
        parts.append("\n\n".join([f"**{each.title}**", *block, *([each.note] if each.note else [])]))
    return "\n\n".join(parts)


def api_text(store: Store, run: Run) -> str:
    """Return how this program itself is asked by others, as Markdown."""
    start = shlex.join(["python", "app.py", "api", "--model", run.model, "--data", str(store.folder)])
    ask = (
        "from openai import OpenAI\n\n"
        f'client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="the key")\n'
        f'messages = [{{"role": "user", "content": {serving.QUESTION!r}}}]\n'
        f'print(client.chat.completions.create(model="run-{run.id}", messages=messages).choices[0].message.content)'
    )
    key = f"export {api.KEY_VARIABLE}=$({api.MAKE_A_KEY})\necho ${api.KEY_VARIABLE}"
    return (
        f"Make a key, and start the server in a terminal:\n\n{fenced(f'{key}{chr(10)}{start}', 'shell')}\n\n"
        f"Any program that speaks to OpenAI can then ask for `base` and `run-{run.id}`:\n\n{fenced(ask, 'python')}"
    )


def fenced(text: str, language: str) -> str:
    """Return text as a block of code that nothing in it can end."""
    longest = max((len(each) for each in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _runs(store: Store, project_id: int | None) -> list[Run]:
    return [] if project_id is None else list_finished(store, project_id)


def _method(run: Run) -> str:
    method = METHODS.get(run.method)
    return method.title if method is not None else run.method
