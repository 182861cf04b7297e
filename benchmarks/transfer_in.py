"""How long an import of 50,000 pairs takes, by type of file, and how much memory an import of a large file needs.

    python -m benchmarks.transfer_in [PAIRS [MEGABYTES]]

Each import is the command line's own, in a process of its own, with its start and its imports in the time.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WORDS = "one of the longer answers that somebody may have given to a question, with a reason and an example. "


def pairs(count: int, words: int = 4) -> Iterator[dict[str, str]]:
    """Yield different pairs of a length that is usual: 400 characters an answer."""
    for number in range(count):
        yield {
            "prompt": f"Question {number}: {hash(str(number)) % 10**9} and what comes of it?",
            "chosen": f"Yes {number}, {WORDS * words}", "rejected": f"No {number}, {WORDS * words}",
        }


def write(path: Path, count: int, words: int = 4) -> None:
    """Write pairs as JSON lines, CSV or Parquet, by the name."""
    rows = pairs(count, words)
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(list(rows)), path)
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            writer = csv.DictWriter(file, ["prompt", "chosen", "rejected"])
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.writelines(json.dumps(row) + "\n" for row in rows)


def written(*arguments: Any) -> None:
    """Write in a process of its own: an import's memory is counted from what its parent had."""
    process = get_context("spawn").Process(target=write, args=arguments)
    process.start()
    process.join()


def measured(path: Path, data: Path) -> str:
    """Import a file in a process of its own; return its seconds, and its most memory at any time, in words."""
    began = time.perf_counter()
    command = [sys.executable, "app.py", "import", str(path), "--project", "bench", "--data", str(data), "--json"]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        output.seek(0)
        report = json.loads(output.read().splitlines()[-1])
    assert status == 0
    return (
        f"{report['pairs']:,} pairs of {path.stat().st_size / 1e6:,.0f} MB in {seconds:.1f} s,"
        f" at most {usage.ru_maxrss / 1000:,.0f} MB of memory"
    )


def main() -> None:
    """Print a line for each import."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    megabytes = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for suffix in ("jsonl", "csv", "parquet"):
            path = folder / f"pairs.{suffix}"
            written(path, count)
            print(f"{suffix}: {measured(path, folder / suffix)}", flush=True)
        if megabytes:
            path = folder / "large.jsonl"
            written(path, megabytes * 10**6 // 6200, 30)
            print(f"large jsonl: {measured(path, folder / 'large')}", flush=True)


if __name__ == "__main__":
    main()
