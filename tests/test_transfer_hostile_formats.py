"""Mutated files of every format come in or change nothing, with a sentence that says where they are broken."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from errors import ImportFormatError
from storage import Store
from transfer.importing import import_file

from test_transfer_formats_elsewhere import EVERY
from test_transfer_hostile import MUTATIONS, mutated

NAMES = sorted({name for name, _ in EVERY})
TABLES = ("prompts", "responses", "items", "labels", "projects")


def counts(store: Store) -> list[int]:
    return [store.rows(f"SELECT count(*) AS number FROM {table}")[0]["number"] for table in TABLES]


@pytest.mark.parametrize("name", NAMES)
def test_a_mutated_file_comes_in_whole_or_not_at_all(store: Store, tmp_path: Path, name: str) -> None:
    rows = [row for each, row in EVERY if each == name] * 2
    seed = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    path, chance, refused = tmp_path / "rows.jsonl", random.Random(name), 0
    for number in range(MUTATIONS):
        path.write_bytes(mutated(seed, chance))
        before = counts(store)
        try:
            import_file(store, f"project {number % 3}", path)
        except ImportFormatError as error:
            refused += 1
            assert counts(store) == before
            assert re.search(r"rows\.jsonl: nothing was stored; ", str(error)), str(error)
    assert refused
    assert store.rows("PRAGMA foreign_key_check") == [] and store.rows("PRAGMA integrity_check")[0]["integrity_check"] == "ok"
