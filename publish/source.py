"""What is published: a finished run, the files of its adapter, and a name for its base that a stranger can follow.

Does not know torch, nor where anything is published to.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import AppError, ModelError
from models import catalog
from storage import Run, Store

# Of `models.lora_files`, which imports torch; a test holds that they are the same.
CONFIG, WEIGHTS, PROVENANCE = "adapter_config.json", "adapter_model.safetensors", "provenance.json"
DEMO_NAME = "preference-studio-demo"
# Where an archive that brings its base keeps it, beside the adapter's files.
BASE_FOLDER = "base"


class PublishError(AppError):
    """A run cannot be published as it was asked; nothing was published, and nothing half made was left behind."""


@dataclass(frozen=True)
class Base:
    """The base model of a run as strangers are told of it.

    name: a hub name, or for a folder its own name: never a path of this machine. kind: "hub", "demo" or "folder".
    folder: where its files lie here; None for a hub's, and for a folder that is gone. identity: of its weights, as
    `models.catalog.identity` gives it, from when the run trained; "" where none was kept.
    """

    name: str
    kind: str
    folder: Path | None
    identity: str

    @property
    def place(self) -> str:
        """What a program on this machine loads it from."""
        return str(self.folder) if self.folder is not None else self.name

    def sentence(self) -> str:
        """Say what the base is, for somebody who does not have this machine."""
        if self.kind == "hub":
            return f"The base model is [{self.name}](https://huggingface.co/{self.name}) on the Hugging Face hub."
        known = f" Its weights are known by `{self.identity}`." if self.identity else ""
        if self.kind == "demo":
            return f"The base model is the small demo model that comes with Preference Studio (`demo/model`).{known}"
        return (
            f"The base model was a folder called `{self.name}` on the machine that trained this adapter. Ask whoever"
            f" gave you the adapter for it: it fits no other model.{known}"
        )


def finished(store: Store, run_id: int) -> Run:
    """Return a run whose adapter is whole.

    Raises NotFoundError when there is no such run, PublishError when it has not finished or its files are gone.
    """
    run = store.runs.get(run_id)
    if run.adapter is None:
        raise PublishError(f"Run {run_id} has no adapter to publish: it is {run.state}. Choose a finished run.")
    folder = store.runs.adapter_folder(run_id)
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise PublishError(f"{folder} has lost {' and '.join(missing)}. Put the files back, or train the run again.")
    return run


def list_finished(store: Store, project_id: int | None) -> list[Run]:
    """Return a project's runs that have an adapter, newest first; of all projects when it is None."""
    return [run for run in store.runs.list(project_id) if run.adapter is not None]


def base_of(store: Store, run: Run) -> Base:
    """Return the base model of a run."""
    identity = str(provenance(store, run).get("base_identity") or "")
    try:
        resolved = catalog.resolve(run.model)
    except ModelError:  # its folder is gone: the adapter can be published all the same
        return Base(Path(run.model).name or run.model, "folder", None, identity)
    if not Path(resolved).is_absolute():
        return Base(resolved, "hub", None, identity)
    if Path(resolved) == catalog.DEMO_FOLDER:
        return Base(DEMO_NAME, "demo", Path(resolved), identity)
    return Base(Path(resolved).name, "folder", Path(resolved), identity)


def provenance(store: Store, run: Run) -> dict[str, Any]:
    """Return what training wrote of where the adapter is from; {} where it wrote nothing."""
    return read_json(store.runs.adapter_folder(run.id) / PROVENANCE)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; {} when there is no such file or it holds something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
