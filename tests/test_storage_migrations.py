"""Upgrades: a data folder of an earlier version keeps every label, run and reference."""

from __future__ import annotations

import sqlite3

import sqlite_utils

from storage import Store
from storage.database import DATABASE_NAME
from storage.migrations import migrations

OLD = """
INSERT INTO projects VALUES (1, 'Old', 'Be kind.', 0, 1.0);
INSERT INTO prompts VALUES (1, 1, '[{"role": "user", "content": "Why?"}]', 'h', 'file', 1.0);
INSERT INTO responses VALUES (1, 1, 'Because.', 'a', 'demo', NULL, NULL, NULL, 1.0), (2, 1, 'No.', 'b', 'demo', NULL, NULL, NULL, 1.0);
INSERT INTO items VALUES (1, 1, 1, 'pair', '1,2', 0.5, 1, 0, 1.0), (2, 1, 1, 'single', '1', 0.25, 1, 0, 1.0);
INSERT INTO item_responses VALUES (1, 0, 1), (1, 1, 2), (2, 0, 1);
INSERT INTO leases VALUES (2, 'session-1', 'Ann', 9e9);
INSERT INTO labels VALUES (1, 'c-1', 1, 'Ann', 'tie', NULL, '[1, 2]', 2.0, NULL, 'person', 1.0);
INSERT INTO labels VALUES (2, 'c-2', 1, 'Ann', 'chosen', 2, '[2, 1]', 1.5, 1, 'person', 2.0);
INSERT INTO labels VALUES (3, 'c-3', 2, 'Ann', 'skip', NULL, '[1]', 0.5, NULL, 'person', 3.0);
INSERT INTO runs (id, project_id, method, model, config, state, created_at) VALUES (1, 1, 'dpo', 'demo', '{}', 'finished', 1.0);
INSERT INTO run_labels VALUES (1, 2);
"""


def old_folder(folder) -> None:
    """Write a database as the version before richer labels left it."""
    folder.mkdir()
    db = sqlite_utils.Database(sqlite3.connect(folder / DATABASE_NAME))
    migrations.apply(db, stop_before="m003_richer_labels")
    db.executescript(OLD)
    db.close()


def test_an_upgrade_keeps_history_counts_and_snapshots(tmp_path):
    old_folder(tmp_path / "data")
    store = Store(tmp_path / "data")
    assert [(label.verdict, label.role, label.reasons) for label in store.labels.history(1)] == [
        ("tie", "vote", []), ("chosen", "vote", []),
    ]  # fmt: skip
    assert store.labels.current_of(1, "Ann").chosen_response_id == 2
    assert store.items.counts(1)["pair"] == {"total": 1, "done": 1}
    assert store.items.counts(1)["single"] == {"total": 1, "done": 0}
    assert store.labels.counts(1) == {"chosen": 1, "skip": 1}
    (row,) = store.labels.judged(1, run_id=1)
    assert [response["text"] for response in row["responses"] if response["chosen"]] == ["No."]
    assert store.db.execute("PRAGMA foreign_key_check").fetchall() == []
    assert store.db.execute("PRAGMA foreign_keys").fetchone() == (1,)
    store.close()


def test_an_upgraded_folder_takes_new_labels_and_forgets_none_with_its_project(tmp_path):
    old_folder(tmp_path / "data")
    store = Store(tmp_path / "data")
    store.labels.add(1, "Bob", "tie", client_id="c-4", shown_response_ids=[1, 2], strength=None, reasons=["kind"])
    assert store.labels.counts(1) == {"chosen": 1, "skip": 1, "tie": 1}
    assert store.items.get(1).label_count == 2
    store.db.execute("DELETE FROM run_labels")
    store.db.execute("DELETE FROM projects")
    for table in ("items", "labels", "current_labels", "item_counts", "label_counts"):
        assert store.db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
    store.close()


def test_an_upgrade_knows_the_matches_of_before_and_whose_they_are(tmp_path):
    (tmp_path / "data").mkdir()
    db = sqlite_utils.Database(sqlite3.connect(tmp_path / "data" / DATABASE_NAME))
    migrations.apply(db, stop_before="m006_rounds")
    db.executescript(
        "INSERT INTO projects (id, name, created_at) VALUES (1, 'Arena: a against b', 1.0), (2, 'Mine', 2.0);"
        "INSERT INTO prompts VALUES (1, 1, '[]', 'h', 'arena', 1.0), (2, 2, '[]', 'h', 'file', 1.0);"
        "INSERT INTO runs (id, project_id, method, model, config, state, created_at)"
        " VALUES (7, 2, 'dpo', 'demo', '{}', 'finished', 1.0);"
        "INSERT INTO responses VALUES (1, 1, 'Yes.', 'a', 'demo', NULL, NULL, NULL, 1.0), (2, 1, 'No.', 'b', 'demo', 7, NULL, NULL, 1.0);"
    )
    db.close()
    store = Store(tmp_path / "data")
    found = [(each.name, each.is_match, each.home_id) for each in store.projects.list()]
    assert found == [("Mine", False, None), ("Arena: a against b", True, 2)]
    store.close()


def test_a_fresh_folder_has_the_schema_of_an_upgraded_one(tmp_path):
    old_folder(tmp_path / "old")
    schemas = []
    for store in (Store(tmp_path / "old"), Store(tmp_path / "new")):
        rows = store.rows("SELECT type, name, sql FROM sqlite_master ORDER BY type, name")
        schemas.append([row for row in rows if row["name"] != "_sqlite_migrations"])
        store.close()
    assert schemas[0] == schemas[1]
