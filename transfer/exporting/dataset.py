"""A project as a folder that `datasets.load_dataset` reads: Parquet files and a card. Does not know how rows come about."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path

import orjson

from errors import StorageError
from transfer.exporting.filters import Filters
from transfer.exporting.write import sync_folder
from transfer.wording import left_out_sentence

# What marks a folder as one that an export made, and may make again.
MARK = "<!-- made by Preference Studio -->"


def write_dataset(folder: Path, project: str, filters: Filters, annotators: int, fill: Callable[[Path], Mapping]) -> None:
    """Write a folder whole or not at all; replace one only if an export made it.

    fill: writes `<config>.parquet` files into the folder it is given and returns their reports by config.
    Raises StorageError when the folder is another's, or cannot be written.
    """
    if not folder.parent.is_dir():
        raise StorageError(f"Nothing was exported: the folder {folder.parent} does not exist. Make it first.")
    if folder.exists() and not _is_ours(folder):
        raise StorageError(f"Nothing was exported: {folder} is there and no export made it. Choose another name.")
    built = folder.with_name(f".{folder.name[:100]}.{uuid.uuid4().hex[:8]}.part")
    old = built.with_suffix(".old")
    try:
        built.mkdir()
        reports = fill(built)
        with (built / "README.md").open("x", encoding="utf-8") as file:
            file.write(_card(project, filters, annotators, reports))
            file.flush()
            os.fsync(file.fileno())
        sync_folder(built)
        if folder.exists():
            os.replace(folder, old)
        try:
            os.replace(built, folder)
        except OSError:
            if old.exists():
                os.replace(old, folder)
            raise
        sync_folder(folder.parent)
    except OSError as error:
        raise StorageError(f"Nothing was exported: {folder} cannot be written ({error.strerror or error}).") from error
    finally:
        shutil.rmtree(built, ignore_errors=True)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    card = folder / "README.md"
    if not folder.is_dir() or folder.is_symlink():
        return False
    if any(file.name != "README.md" and file.suffix != ".parquet" for file in folder.iterdir()):
        return False
    return not any(folder.iterdir()) or (card.is_file() and MARK in card.read_text(encoding="utf-8", errors="replace"))


def _card(project: str, filters: Filters, annotators: int, reports: Mapping) -> str:
    configs = "".join(f"- config_name: {name}\n  data_files: {name}.parquet\n" for name in reports)
    rows = "\n".join(
        f"- `{name}`: {report.rows:,} rows. {left_out_sentence(report.left_out)}".rstrip() for name, report in reports.items()
    )
    agreement = f"what most say (`{filters.which}` labels), by a share of votes of at least {filters.min_agreement:g}"
    # A project's name is anybody's text: as a JSON string it can neither end the front matter nor mark up the card.
    title = orjson.dumps(project).decode()
    return (
        f"---\npretty_name: {title}\nconfigs:\n{configs}---\n{MARK}\n# Preferences of the project\n\n"
        f"    {title}\n\nExported on {datetime.now(timezone.utc):%Y-%m-%d} (timezone.utc); labelled by {annotators:,} annotators.\n"
        f"Agreement: {agreement}.\n\n{rows}\n"
    )
