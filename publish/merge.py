"""One merging process: puts a run's adapter into its base's weights, for programs that know no adapters.

    python -m publish.merge --data DIR --run ID --out FOLDER [--dtype auto|float32|bfloat16|float16]

The folder appears whole or not at all. Torch is imported only when there is something to do. Does not know who
started it, nor where the weights go from there.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from errors import AppError, ModelError
from models import catalog
from publish import merging
from publish.adapter import CARD, check_space
from publish.card import merged_card
from publish.merging import DTYPES, MERGE
from publish.source import PROVENANCE, PublishError, base_of, finished, provenance
from storage import Run, Store
from training.background import MORE, exit_code

# The tokenizer's files and the like, card and index besides.
SMALL_BYTES = 64 << 20
# Noise of rounding below this share of what training changed is not worth a word.
WORTH_A_WORD = 0.01


@dataclass(frozen=True)
class MergeReport:
    """What a merging wrote. layers: that the adapter changed; size_bytes: of the weights.

    noise: the size of what rounding to `dtype` added to those layers, as a share of what training changed in them.
    notes: what else is to know, in sentences, or "".
    """

    run: int
    folder: str
    dtype: str
    layers: int
    size_bytes: int
    noise: float
    notes: str

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)

    def sentence(self) -> str:
        """Say what was written, and where."""
        written = f"Run {self.run} is merged: {self.size_bytes / 1e6:,.0f} MB in {self.dtype} in {self.folder}."
        return f"{written} {self.notes}".rstrip()


def execute(
    store: Store, run_id: int, folder: Path, dtype: str = "auto", progress: Callable[[str], None] = lambda line: None
) -> MergeReport:
    """Write the merged weights of a run into a folder that is empty or not there yet.

    dtype: what to keep them in: one of `merging.DTYPES`; "auto" is what the base is in. Sums are made in float32 and
    rounded once. progress: gets every line of the log. SIGTERM, Ctrl-C and `MERGE.stop` stop it, and nothing is
    left behind. Raises NotFoundError; PublishError when the run has no adapter, the folder is taken or the disk too
    full, or it is being merged already; ModelError when the base or the adapter cannot be loaded.
    """
    if dtype not in DTYPES:
        raise PublishError(f'There is no dtype "{dtype}" to merge into. Use {", ".join(DTYPES)}.')
    run = finished(store, run_id)
    folder = folder.expanduser().absolute()
    merging.check_empty(folder)
    unfinished = folder.with_name(f"{folder.name}.run-{run_id}.unfinished")
    with MERGE.doing(store, run_id, progress, lambda error: _explained(error, folder)) as (say, should_stop):
        try:
            report = _merged(store, run, folder, unfinished, dtype, say, should_stop)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        say(report.sentence())
    return report


def _merged(
    store: Store, run: Run, folder: Path, unfinished: Path, dtype: str, say: Callable[[str], None],
    should_stop: Callable[[], bool],
) -> MergeReport:
    from models.adapters import recorded_base
    from publish import weights

    adapter, base = store.runs.adapter_folder(run.id), base_of(store, run)
    say(f"Loading {run.model} {MORE}")
    loaded = weights.load(run.model, dtype)
    recorded = recorded_base(adapter)
    if recorded is not None and recorded != catalog.identity(run.model):
        raise ModelError(f"Run {run.id} was trained on other weights of {run.model}. Put them back, or train it again.")
    size, name = weights.size_bytes(loaded.model), str(loaded.dtype).removeprefix("torch.")
    check_space(folder, size + SMALL_BYTES)

    def on_layer(done: int, total: int) -> None:
        if should_stop():
            raise PublishError("The merging was stopped; nothing was kept.")
        if done % max(1, total // 10) == 0:
            say(f"Merged {done} of {total} layers {MORE}")

    layers, noise = weights.merge(loaded.model, f"run-{run.id}", adapter, on_layer)
    notes = _notes(run, name, noise)
    say(f"Writing {size / 1e6:,.0f} MB {MORE}")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
    weights.write(loaded, unfinished)
    origin = provenance(store, run)
    kept = {**origin, "base_model": base.name, "merged_run": run.id, "merged_dtype": name}
    (unfinished / PROVENANCE).write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (unfinished / CARD).write_text(merged_card(run, base, origin, name, notes), encoding="utf-8")
    on_layer(1, 1)
    _appear(unfinished, folder)
    return MergeReport(run.id, str(folder), name, layers, size, noise, notes)


def _notes(run: Run, dtype: str, noise: float) -> str:
    notes = []
    if run.config.get("quantization") == "4bit":
        notes.append(
            "It was trained on a base in 4 bits and is merged into the base in full precision, so answers may differ"
            " a little from those during training."
        )
    if noise > WORTH_A_WORD:
        notes.append(
            f"Rounding to {dtype} added noise of {noise:.0%} of the size of what training changed; float32 adds none."
        )
    return " ".join(notes)


def _appear(unfinished: Path, folder: Path) -> None:
    """Give a whole folder its name, unless somebody has put something there meanwhile."""
    merging.check_empty(folder)
    if folder.exists():
        folder.rmdir()  # Windows renames onto nothing that exists
    os.replace(unfinished, folder)


def _explained(error: BaseException, folder: Path) -> BaseException:
    """Turn what a full disk or memory raises into a sentence; leave everything else as it is."""
    words = str(error).lower()
    if isinstance(error, OSError) and not isinstance(error, AppError):
        full = error.errno == errno.ENOSPC
        return PublishError(f"{folder} could not be written: {'the disk is full' if full else error}. Choose another place.")
    if "no space left" in words:
        return PublishError(f"{folder} could not be written: the disk is full. Choose another place.")
    if isinstance(error, MemoryError) or "can't allocate memory" in words or "not enough memory" in words:
        return PublishError("The memory ran out. Close what else uses it, or merge into bfloat16, which needs half.")
    return error


def main(arguments: list[str] | None = None) -> int:
    """Merge from the command line; return 0, or 2 when it could not be done."""
    parser = MERGE.parser("Merge a run into its base's weights.")
    parser.add_argument("--out", type=Path, required=True, help="an empty folder, or one that is made")
    parser.add_argument("--dtype", default="auto", choices=DTYPES, help="auto keeps the base's")
    given = parser.parse_args(arguments)
    return exit_code(lambda: execute(Store(given.data), given.run, given.out, given.dtype))


if __name__ == "__main__":
    raise SystemExit(main())
