"""The schema, as numbered append-only migrations. Never change one that was released: add the next.

Their scripts are in `schema`.
"""

from __future__ import annotations

import sqlite_utils
from sqlite_utils.migrations import Migrations

from storage.schema import (
    CHAT_VOTES, CHATS, LABELS, PROJECTS, RICHER_ITEMS, RICHER_LABELS, RICHER_LEASES, ROUNDS, RUNS,
)
from storage.snapshots import snapshot_name

migrations = Migrations("preference_studio")


@migrations()
def m001_first_schema(db: sqlite_utils.Database) -> None:
    """Projects, prompts, responses, items, labels, runs, metrics and chats."""
    for script in (PROJECTS, LABELS, RUNS, CHATS):
        db.executescript(script)


@migrations()
def m002_reference_logps(db: sqlite_utils.Database) -> None:
    """What base models gave to rows of tokens, by the hash of weights, precision and tokens."""
    db.executescript("CREATE TABLE reference_logps (key BLOB PRIMARY KEY, logps REAL NOT NULL) WITHOUT ROWID;")


@migrations()
def m003_richer_labels(db: sqlite_utils.Database) -> None:
    """Rankings, edits, flags, strength, reasons; final labels, repeats and checks; counts that cost no scan."""
    for script in (RICHER_ITEMS, RICHER_LEASES, RICHER_LABELS):
        db.executescript(script)


@migrations()
def m004_named_snapshots(db: sqlite_utils.Database) -> None:
    """Every run says by a hash which labels it used; of runs that there are, too."""
    db.conn.execute("ALTER TABLE runs ADD COLUMN snapshot TEXT NOT NULL DEFAULT ''")
    for (run_id,) in db.conn.execute("SELECT id FROM runs").fetchall():
        db.conn.execute("UPDATE runs SET snapshot = ? WHERE id = ?", [snapshot_name(db.conn, run_id), run_id])


@migrations()
def m005_chat_votes(db: sqlite_utils.Database) -> None:
    """Names of chats, blind ones, and what people preferred in them; which labels a run only measured on."""
    db.executescript(CHAT_VOTES)


@migrations()
def m006_rounds(db: sqlite_utils.Database) -> None:
    """Rounds and where each stands; which projects hold the answers of a match, and for which project it was played."""
    db.executescript(ROUNDS)
