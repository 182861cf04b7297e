"""The adapter of a finished run as one archive that loads with plain transformers and peft, far from this machine.

Owns which files go out and what they say of the base: a path of this machine helps nobody and tells who trained.
Does not know torch.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from publish.card import adapter_card
from publish.source import (
    BASE_FOLDER, CONFIG, PROVENANCE, WEIGHTS, Base, PublishError, base_of, finished, provenance, read_json,
)
from storage import Store

CARD = "README.md"
# What an adapter's folder may hold besides its card; anything else in it is nobody's business elsewhere.
_OWN = (CONFIG, WEIGHTS, PROVENANCE, "training_config.json", "metrics.json")
_BASE_KEYS = {CONFIG: "base_model_name_or_path", PROVENANCE: "base_model", "training_config.json": "model"}
# A base that is brought along: its weights, its tokenizer and what they need; no checkpoints, no logs.
_BASE_FILES = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "pytorch_model*.bin", "LICENSE*")
# The same files give the same archive to the byte, whenever it is made.
_EPOCH = (1980, 1, 1, 0, 0, 0)
_STORED = (".safetensors", ".bin")  # weights do not shrink


def name_of(run_id: int) -> str:
    """Return what a run's archive is called without its ending, which is also the folder inside it."""
    return f"run-{run_id}-adapter"


def archive(store: Store, run_id: int, folder: Path, include_base: bool | None = None) -> Path:
    """Write a run's adapter as `run-N-adapter.zip` into a folder, made when missing; return the file.

    include_base: put the base's files beside the adapter, for a base in a folder; None does so only for the demo,
    which nobody has elsewhere and which is small.
    Raises NotFoundError, and PublishError when the run has no adapter, the base cannot be put in, or the file cannot
    be written.
    """
    return pack(published(store, run_id, include_base), name_of(run_id), folder)


def pack(files: Mapping[str, Path | bytes], name: str, folder: Path) -> Path:
    """Write files as `NAME.zip` into a folder, made when missing, all inside a folder of that name; return the file.

    files: where they lie, or their bytes, by their names. Equal files give equal archives. Raises PublishError when it
    cannot be written; an archive that is there already stays until the new one is whole.
    """
    target = folder / f"{name}.zip"
    unfinished = target.with_name(f"{target.name}.unfinished")
    with writing(target, files):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with zipfile.ZipFile(unfinished, "w") as zipped:
                for each, content in sorted(files.items()):
                    _add(zipped, f"{name}/{each}", content)
            unfinished.replace(target)
        finally:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
    return target


def copy(store: Store, run_id: int, folder: Path, include_base: bool | None = None) -> None:
    """Write what `archive` puts in its file into a folder instead. Raises as it does."""
    files = published(store, run_id, include_base)
    with writing(folder, files):
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                shutil.copyfile(content, path)
            else:
                path.write_bytes(content)


def published(store: Store, run_id: int, include_base: bool | None = None) -> dict[str, Path | bytes]:
    """Return the files that go out, by their names: where they lie, or their bytes where they are written anew.

    Raises as `archive` does.
    """
    run = finished(store, run_id)
    base = base_of(store, run)
    inside = base.kind == "demo" if include_base is None else include_base
    if inside and base.folder is None:
        raise PublishError(
            f"{base.name} is not in a folder of this machine, so it cannot be put into the archive. Leave it out."
        )
    own = store.runs.adapter_folder(run_id)
    files: dict[str, Path | bytes] = {name: own / name for name in _OWN if (own / name).is_file()}
    for name, key in _BASE_KEYS.items():
        if name in files:
            files[name] = _renamed(own / name, key, f"./{BASE_FOLDER}" if inside and name == CONFIG else base.name)
    files[CARD] = adapter_card(run, base, provenance(store, run), inside).encode()
    if inside:
        files.update(_base_files(base))
    return files


@contextmanager
def writing(target: Path, files: Mapping[str, Path | bytes]) -> Iterator[None]:
    """Make room for files sure, and turn what the disk says while they are written into a PublishError."""
    try:
        sizes = [len(each) if isinstance(each, bytes) else each.stat().st_size for each in files.values()]
        check_space(target, sum(sizes))
        yield
    except OSError as error:
        raise PublishError(f"{target} could not be written: {error.strerror or error}. Choose another place.") from error


def check_space(target: Path, needed_bytes: int) -> None:
    """Raise PublishError where a disk has not so many bytes left. target: need not exist yet."""
    place = next(each for each in (target, *target.absolute().parents) if each.exists())
    free = shutil.disk_usage(place).free
    if free < needed_bytes:
        raise PublishError(
            f"{target} needs {needed_bytes / 1e6:,.0f} MB and its disk has {free / 1e6:,.0f} MB left."
            " Free some space, or choose another disk."
        )


def _base_files(base: Base) -> dict[str, Path | bytes]:
    assert base.folder is not None
    found = {path.name: path for pattern in _BASE_FILES for path in base.folder.glob(pattern) if path.is_file()}
    return {f"{BASE_FOLDER}/{name}": path for name, path in found.items()}


def _renamed(path: Path, key: str, base: str) -> bytes:
    values: dict[str, Any] = read_json(path)
    if not values:
        raise PublishError(f"{path} cannot be read. Put it back, or train the run again.")
    return (json.dumps({**values, key: base}, indent=2, ensure_ascii=False) + "\n").encode()


def _add(zipped: zipfile.ZipFile, name: str, content: Path | bytes) -> None:
    kind = zipfile.ZIP_STORED if name.endswith(_STORED) else zipfile.ZIP_DEFLATED
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type, entry.external_attr = kind, 0o644 << 16
    if isinstance(content, bytes):
        zipped.writestr(entry, content)
        return
    entry.file_size = content.stat().st_size  # tells zipfile early whether it needs 64 bits
    with content.open("rb") as source, zipped.open(entry, "w") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)
