"""How long an export of 50,000 labelled pairs takes, by kind and type of file. Does not know what is fast enough.

    python -m benchmarks.transfer_out [PAIRS]
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from storage import Store
from storage.backup import backup
from transfer.exporting.export import export

WORDS = "one of the longer answers that somebody may have given to a question, with a reason and an example. "


def filled(folder: Path, pairs: int) -> Store:
    """Return a store with one project of so many labelled pairs."""
    store = Store(folder)
    project = store.projects.ensure("bench")
    now, numbers = time.time(), range(1, pairs + 1)
    with store.transaction() as db:
        run = db.conn.executemany
        run("INSERT INTO prompts (id, project_id, messages, content_hash, created_at) VALUES (?, ?, ?, ?, ?)",
            ((n, project.id, f'[{{"role": "user", "content": "Question {n}?"}}]', str(n), now) for n in numbers))
        run("INSERT INTO responses (id, prompt_id, text, content_hash, created_at) VALUES (?, ?, ?, ?, ?)",
            ((2 * n + side, n, f"{side} {n} {WORDS * 4}", f"{side}", now) for n in numbers for side in (0, 1)))
        run("INSERT INTO items (id, project_id, prompt_id, kind, response_key, position, created_at)"
            " VALUES (?, ?, ?, 'pair', ?, ?, ?)", ((n, project.id, n, str(n), n, now) for n in numbers))
        run("INSERT INTO item_responses VALUES (?, ?, ?)", ((n, side, 2 * n + side) for n in numbers for side in (0, 1)))
        run("INSERT INTO labels (client_id, item_id, annotator, verdict, chosen_response_id, shown_response_ids, source,"
            " created_at) VALUES (?, ?, 'ann', 'chosen', ?, ?, 'person', ?)",
            ((str(n), n, 2 * n + n % 2, f"[{2 * n},{2 * n + 1}]", now) for n in numbers))
    return store


def main() -> None:
    """Print a line for each kind and type of file."""
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    with tempfile.TemporaryDirectory() as name:
        store = filled(Path(name) / "data", pairs)
        project = store.projects.list()[0]
        import pyarrow.parquet  # noqa: F401 - its import is no part of an export

        for kind in ("trl-preference", "labels"):
            for suffix in ("jsonl", "csv", "parquet"):
                began = time.perf_counter()
                report = export(store, project, kind, Path(name) / f"out.{suffix}")
                print(f"{kind} {suffix}: {report.rows:,} rows in {time.perf_counter() - began:.2f} s", flush=True)
        began = time.perf_counter()
        print(backup(store, Path(name) / "b.zip").size_bytes, f"bytes of backup in {time.perf_counter() - began:.2f} s")


if __name__ == "__main__":
    main()
