"""What an answer was made with, told by hashes: base weights, chat template, adapter. Does not know how it is made.

With the messages, the settings and the seed, which are stored too, it says whether the same answer can be had again.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from chat.speakers import Speaker
from errors import AppError
from models import catalog
from storage import Store

NAMES = {"base_identity": "the base model's weights", "template_hash": "the chat template", "adapter_hash": "the adapter"}
Stamp = tuple[tuple[str, int, int], ...]


def provenance(store: Store, speaker: Speaker) -> dict[str, str | None]:
    """Return NAMES with what each is now; None for what a speaker does not have, or what cannot be told.

    Files are hashed once for each time they are written: an answer must not wait for it.
    """
    try:
        base = Path(catalog.resolve(speaker.model))
        stamp = _stamp(base) if base.is_absolute() else ()
        told: dict[str, str | None] = {
            "base_identity": _identity(speaker.model, stamp), "template_hash": _template(speaker.model, stamp),
            "adapter_hash": None,
        }
        if speaker.run_id is not None:
            folder = store.runs.adapter_folder(speaker.run_id)
            told["adapter_hash"] = _adapter(folder, _stamp(folder))
        return told
    except (AppError, OSError):
        return dict.fromkeys(NAMES)  # who cannot be found cannot answer: the error comes from there, in words


def _stamp(folder: Path) -> Stamp:
    found = [(path.name, path.stat()) for path in sorted(folder.iterdir()) if path.is_file()]
    return tuple((name, status.st_mtime_ns, status.st_size) for name, status in found)


@lru_cache(maxsize=64)
def _identity(model: str, stamp: Stamp) -> str:
    return catalog.identity(model)


@lru_cache(maxsize=64)
def _template(model: str, stamp: Stamp) -> str | None:
    return catalog.template_hash(model)


@lru_cache(maxsize=64)
def _adapter(folder: Path, stamp: Stamp) -> str:
    return catalog.adapter_hash(folder)
