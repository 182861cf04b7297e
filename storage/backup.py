"""A data folder as one .zip file, and back. Owns what is kept in it; does not know what the tables mean.

A zip file is hostile until proven: names, sizes and hashes are checked against its manifest before anything is moved.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sqlite3
import time
import uuid
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from errors import StorageError
from storage.database import DATABASE_NAME, Store
from storage.migrations import migrations

FORMAT = 1
MANIFEST = "manifest.json"
MANIFEST_LIMIT_BYTES = 16 << 20
CHUNK_BYTES = 1 << 20
SAFE_NAME = re.compile(r"runs/run-\d+/(?:[A-Za-z0-9_][A-Za-z0-9._-]*/)*[A-Za-z0-9_][A-Za-z0-9._-]*")
INTERRUPTED = "It was running when the backup was made; its checkpoint is not part of a backup. Start it again."


@dataclass(frozen=True)
class BackupReport:
    """What a backup holds. counts: rows of the main tables."""

    path: str
    files: int
    size_bytes: int
    counts: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)

    def sentence(self) -> str:
        """Return the report in words."""
        return f"{self.files:,} files with {self.counts['labels']:,} labels in {self.path} ({self.size_bytes:,} bytes)."


@dataclass(frozen=True)
class RestoreReport:
    """What a restore brought back. moved_aside: where the earlier data folder lies now."""

    folder: str
    files: int
    counts: dict[str, int]
    moved_aside: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)

    def sentence(self) -> str:
        """Return the report in words."""
        aside = f" The earlier folder is now {self.moved_aside}." if self.moved_aside else ""
        return f"{self.files:,} files with {self.counts['labels']:,} labels are in {self.folder}.{aside}"


def backup(store: Store, path: Path | str, progress: Callable[[str], None] | None = None) -> BackupReport:
    """Write the database and finished runs' files to a .zip, while others may write; whole or not at all.

    Raises StorageError when it cannot be written.
    """
    path = Path(path).expanduser().resolve()
    partial = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex[:8]}.part")
    copy = partial.with_suffix(".db")
    try:
        # One read transaction: writers neither wait for it nor make it start again, as they do the page-wise copy.
        store.db.conn.execute("VACUUM INTO ?", [str(copy)])
        counts, run_ids = _look(copy)
        files = {DATABASE_NAME: copy}
        for run_id in run_ids:
            folder = store.runs.folder(run_id)
            for file in sorted(folder.rglob("*")):
                name = file.relative_to(store.folder).as_posix()
                if file.is_file() and not file.is_symlink() and SAFE_NAME.fullmatch(name):
                    files[name] = file
        with partial.open("xb") as raw:
            with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                entries = {}
                for name, file in files.items():
                    if progress:
                        progress(name)
                    entries[name] = _pack(archive, name, file)
                known = sorted(migration.name for migration in migrations._migrations)
                manifest = {"format": FORMAT, "migrations": known, "made_at": time.time(), "counts": counts, "files": entries}
                archive.writestr(MANIFEST, json.dumps(manifest, indent=1))
            raw.flush()
            os.fsync(raw.fileno())
        os.replace(partial, path)
        _sync(path.parent)
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"No backup was made: {path} cannot be written ({error}).") from error
    finally:
        partial.unlink(missing_ok=True)
        copy.unlink(missing_ok=True)
    return BackupReport(str(path), len(files), path.stat().st_size, counts)


def restore(path: Path | str, folder: Path | str, *, replace: bool = False) -> RestoreReport:
    """Make a data folder from a backup, all of it or nothing. No program may be using the folder.

    replace: move what is in the folder aside, beside it; without, a folder that is not empty is refused.
    Raises StorageError when the backup is damaged, unsafe or newer than the program, with nothing changed.
    """
    path, folder = Path(path).expanduser(), Path(folder).expanduser().resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not replace:
        raise StorageError(f"Nothing was restored: {folder} is not empty. Choose another folder, or say to replace it.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    built = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.restoring")
    aside = None
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = _manifest(archive)
            built.mkdir()
            for name, entry in manifest["files"].items():
                _unpack(archive, name, entry, built / name)
        _check_database(built / DATABASE_NAME)
        counts, _ = _look(built / DATABASE_NAME)
        if folder.exists():
            aside = folder.with_name(f"{folder.name}.before-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:4]}")
            os.replace(folder, aside)
        try:
            os.replace(built, folder)
        except OSError:
            if aside:
                os.replace(aside, folder)
            raise
        _sync(folder.parent)
    except StorageError:
        raise
    except (OSError, sqlite3.Error, zipfile.BadZipFile, ValueError, KeyError, TypeError, AttributeError, EOFError,
            NotImplementedError, RuntimeError, zlib.error) as error:
        raise StorageError(f"Nothing was restored: {path} is no whole backup ({error}). Try another one.") from error
    finally:
        shutil.rmtree(built, ignore_errors=True)
    return RestoreReport(str(folder), len(manifest["files"]), counts, str(aside) if aside else None)


def _look(database: Path) -> tuple[dict[str, int], list[int]]:
    """Return counts of rows and the numbers of finished runs."""
    connection = sqlite3.connect(database)
    try:
        tables = ("projects", "prompts", "responses", "items", "labels", "runs")
        counts = {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}
        return counts, [row[0] for row in connection.execute("SELECT id FROM runs WHERE state = 'finished'")]
    finally:
        connection.close()


def _pack(archive: zipfile.ZipFile, name: str, file: Path) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    with file.open("rb") as source, archive.open(name, "w", force_zip64=True) as target:
        while chunk := source.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
            target.write(chunk)
    return {"sha256": digest.hexdigest(), "size": size}


def _manifest(archive: zipfile.ZipFile) -> dict[str, Any]:
    """Return the manifest once it agrees with the names and sizes in the zip. Raises StorageError."""
    if archive.getinfo(MANIFEST).file_size > MANIFEST_LIMIT_BYTES:
        raise StorageError("Nothing was restored: the backup's manifest is too large.")
    with archive.open(MANIFEST) as file:
        manifest = json.loads(file.read(MANIFEST_LIMIT_BYTES))
    unknown = set(manifest["migrations"]) - {migration.name for migration in migrations._migrations}
    if manifest["format"] != FORMAT or unknown:
        raise StorageError("Nothing was restored: a newer version of this program made the backup. Update the program.")
    files, names = manifest["files"], archive.namelist()
    if bad := [name for name in files if name != DATABASE_NAME and not SAFE_NAME.fullmatch(name)]:
        raise StorageError(f"Nothing was restored: the backup has a file of an unsafe name, {bad[0]!r}.")
    if DATABASE_NAME not in files or sorted(names) != sorted([*files, MANIFEST]):
        raise StorageError("Nothing was restored: the backup's files are not those of its manifest.")
    if any(archive.getinfo(name).file_size != entry["size"] for name, entry in files.items()):
        raise StorageError("Nothing was restored: a file in the backup has another size than its manifest says.")
    return manifest


def _unpack(archive: zipfile.ZipFile, name: str, entry: dict[str, Any], target: Path) -> None:
    """Write one file of the size and hash that the manifest says. Raises StorageError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with archive.open(name) as source, target.open("xb") as file:
        while chunk := source.read(CHUNK_BYTES):
            size += len(chunk)
            if size > entry["size"]:
                break
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    if size != entry["size"] or digest.hexdigest() != entry["sha256"]:
        raise StorageError(f"Nothing was restored: {name} in the backup is damaged.")


def _check_database(database: Path) -> None:
    """Refuse a database that is broken or newer; end the runs that were active. Raises StorageError."""
    connection = sqlite3.connect(database)
    try:
        if connection.execute("PRAGMA integrity_check").fetchone()[0] != "ok":
            raise StorageError("Nothing was restored: the database in the backup is damaged.")
        if connection.execute("PRAGMA foreign_key_check").fetchone():
            raise StorageError("Nothing was restored: rows in the backup's database refer to rows that are missing.")
        known = {migration.name for migration in migrations._migrations}
        if {row[0] for row in connection.execute("SELECT name FROM _sqlite_migrations")} - known:
            raise StorageError("Nothing was restored: a newer version of this program made the backup. Update the program.")
        with connection:
            connection.execute(
                "UPDATE runs SET state = 'cancelled', message = ?, pid = NULL, ended_at = coalesce(heartbeat_at, created_at)"
                " WHERE state IN ('queued', 'running')",
                [INTERRUPTED],
            )
    finally:
        connection.close()


def _sync(folder: Path) -> None:
    handle: int = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
