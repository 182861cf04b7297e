"""The web side of merging: where merged weights are kept, and the process that makes them. Does not know torch."""

from __future__ import annotations

from pathlib import Path

from publish.adapter import pack
from publish.source import PublishError, finished
from storage import Store
from training.background import Work

DTYPES = ("auto", "float32", "bfloat16", "float16")
MERGE = Work(
    "merge", "merging", "publish.merge",
    "The merging ended without a word: it was killed, or the machine ran out of memory. Nothing was kept.",
    refusal=PublishError,
)


def usual_folder(store: Store, run_id: int) -> Path:
    """Return where the merged weights of a run are kept unless another place is named."""
    return store.folder / "merged" / f"run-{run_id}"


def merged_folder(store: Store, run_id: int) -> Path | None:
    """Return the usual folder of a run's merged weights; None where there are none in it."""
    folder = usual_folder(store, run_id)
    return folder if (folder / "config.json").is_file() else None


def size_bytes(folder: Path) -> int:
    """Return how large the files of merged weights are."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def archive(store: Store, run_id: int, folder: Path) -> Path:
    """Write the merged weights of a run as `run-N-merged.zip` into a folder; return the file.

    Raises PublishError when the run is not merged, or the file cannot be written.
    """
    merged = merged_folder(store, run_id)
    if merged is None:
        raise PublishError(f"Run {run_id} is not merged yet. Merge it first.")
    return pack({path.name: path for path in merged.iterdir() if path.is_file()}, f"run-{run_id}-merged", folder)


def check_empty(folder: Path) -> None:
    """Raise PublishError unless a folder is empty or not there yet: nothing is ever overwritten."""
    try:
        taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as error:
        raise PublishError(f"{folder} cannot be read: {error.strerror}. Choose another folder.") from error
    if taken:
        raise PublishError(f"{folder} is not empty, and nothing is overwritten. Empty it, or choose another folder.")


def start(store: Store, run_id: int, dtype: str = "auto") -> None:
    """Merge a run into its usual folder, in a process of its own that outlives this one.

    Raises NotFoundError, and PublishError when the run has no adapter, the folder is taken, it is being merged
    already, or the process cannot be started.
    """
    finished(store, run_id)
    folder = usual_folder(store, run_id)
    check_empty(folder)
    MERGE.start(store, run_id, ["--out", str(folder), "--dtype", dtype])
