"""The schema, as numbered append-only migrations. Never change one that was released: add the next.

Derived columns (`items.label_count`, the table `current_labels`) are kept by triggers, so that they follow
the history of labels whoever writes it.
"""

from __future__ import annotations

import sqlite_utils
from sqlite_utils.migrations import Migrations

migrations = Migrations("preference_studio")

PROJECTS = """
CREATE TABLE projects (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    guidelines TEXT NOT NULL DEFAULT '',
    is_example INTEGER NOT NULL DEFAULT 0,
    created_at REAL NOT NULL
);
CREATE TABLE prompts (
    id INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL REFERENCES projects(id) ON DELETE CASCADE,
    messages TEXT NOT NULL,
    content_hash TEXT NOT NULL,
    source TEXT NOT NULL DEFAULT '',
    created_at REAL NOT NULL,
    UNIQUE (project_id, content_hash)
);
CREATE TABLE responses (
    id INTEGER PRIMARY KEY,
    prompt_id INTEGER NOT NULL REFERENCES prompts(id) ON DELETE CASCADE,
    text TEXT NOT NULL,
    content_hash TEXT NOT NULL,
    model TEXT,
    run_id INTEGER REFERENCES runs(id) ON DELETE SET NULL,
    settings TEXT,
    author TEXT,
    created_at REAL NOT NULL,
    UNIQUE (prompt_id, content_hash)
);
"""

LABELS = """
CREATE TABLE items (
    id INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL REFERENCES projects(id) ON DELETE CASCADE,
    prompt_id INTEGER NOT NULL REFERENCES prompts(id) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('pair', 'single')),
    response_key TEXT NOT NULL,
    position REAL NOT NULL,
    wanted_labels INTEGER NOT NULL DEFAULT 1,
    label_count INTEGER NOT NULL DEFAULT 0,
    created_at REAL NOT NULL,
    UNIQUE (prompt_id, response_key)
);
CREATE INDEX items_waiting ON items (project_id, kind, position) WHERE label_count < wanted_labels;
CREATE INDEX items_of_project ON items (project_id, kind);
CREATE TABLE item_responses (
    item_id INTEGER NOT NULL REFERENCES items(id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    response_id INTEGER NOT NULL REFERENCES responses(id) ON DELETE CASCADE,
    PRIMARY KEY (item_id, position)
) WITHOUT ROWID;
CREATE INDEX item_responses_of_response ON item_responses (response_id);
CREATE TABLE leases (
    item_id INTEGER NOT NULL REFERENCES items(id) ON DELETE CASCADE,
    session TEXT NOT NULL,
    annotator TEXT NOT NULL,
    expires_at REAL NOT NULL,
    PRIMARY KEY (item_id, session)
) WITHOUT ROWID;
CREATE INDEX leases_of_session ON leases (session);
CREATE TABLE labels (
    id INTEGER PRIMARY KEY,
    client_id TEXT NOT NULL UNIQUE,
    item_id INTEGER NOT NULL REFERENCES items(id) ON DELETE CASCADE,
    annotator TEXT NOT NULL,
    verdict TEXT NOT NULL CHECK (verdict IN ('chosen', 'tie', 'both_bad', 'good', 'bad', 'skip', 'undo')),
    chosen_response_id INTEGER REFERENCES responses(id),
    shown_response_ids TEXT NOT NULL,
    active_seconds REAL,
    replaces_id INTEGER REFERENCES labels(id),
    source TEXT NOT NULL CHECK (source IN ('person', 'import', 'chat')),
    created_at REAL NOT NULL,
    CHECK ((verdict = 'chosen') = (chosen_response_id IS NOT NULL))
);
CREATE INDEX labels_of_item ON labels (item_id, annotator, id);
CREATE INDEX labels_of_annotator ON labels (annotator, id);
CREATE TABLE current_labels (
    item_id INTEGER NOT NULL REFERENCES items(id) ON DELETE CASCADE,
    annotator TEXT NOT NULL,
    label_id INTEGER NOT NULL REFERENCES labels(id) ON DELETE CASCADE,
    PRIMARY KEY (item_id, annotator)
) WITHOUT ROWID;
CREATE INDEX current_labels_of_annotator ON current_labels (annotator, label_id);
CREATE TRIGGER labels_are_append_only BEFORE UPDATE ON labels BEGIN
    SELECT RAISE(ABORT, 'labels are append-only');
END;
CREATE TRIGGER labels_become_current AFTER INSERT ON labels BEGIN
    DELETE FROM current_labels WHERE item_id = NEW.item_id AND annotator = NEW.annotator;
    INSERT INTO current_labels (item_id, annotator, label_id)
        SELECT NEW.item_id, NEW.annotator, NEW.id WHERE NEW.verdict <> 'undo';
    UPDATE items SET label_count = (
        SELECT count(*) FROM current_labels JOIN labels ON labels.id = current_labels.label_id
        WHERE current_labels.item_id = NEW.item_id AND labels.verdict <> 'skip'
    ) WHERE id = NEW.item_id;
END;
"""

RUNS = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL REFERENCES projects(id) ON DELETE CASCADE,
    method TEXT NOT NULL,
    model TEXT NOT NULL,
    config TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'finished', 'failed', 'cancelled')),
    message TEXT NOT NULL DEFAULT '',
    pid INTEGER,
    step INTEGER NOT NULL DEFAULT 0,
    total_steps INTEGER NOT NULL DEFAULT 0,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    adapter TEXT,
    summary TEXT NOT NULL DEFAULT '{}',
    created_at REAL NOT NULL,
    started_at REAL,
    heartbeat_at REAL,
    ended_at REAL
);
CREATE UNIQUE INDEX one_active_run ON runs ((1)) WHERE state IN ('queued', 'running');
CREATE TABLE run_labels (
    run_id INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
    label_id INTEGER NOT NULL REFERENCES labels(id),
    PRIMARY KEY (run_id, label_id)
) WITHOUT ROWID;
CREATE TABLE metrics (
    run_id INTEGER NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
    step INTEGER NOT NULL,
    "values" TEXT NOT NULL,
    created_at REAL NOT NULL,
    PRIMARY KEY (run_id, step)
) WITHOUT ROWID;
"""

CHATS = """
CREATE TABLE chats (
    id INTEGER PRIMARY KEY,
    project_id INTEGER REFERENCES projects(id) ON DELETE CASCADE,
    models TEXT NOT NULL,
    settings TEXT NOT NULL,
    created_at REAL NOT NULL
);
CREATE TABLE chat_messages (
    id INTEGER PRIMARY KEY,
    chat_id INTEGER NOT NULL REFERENCES chats(id) ON DELETE CASCADE,
    side INTEGER,
    role TEXT NOT NULL,
    content TEXT NOT NULL,
    model TEXT,
    settings TEXT,
    finish_reason TEXT,
    created_at REAL NOT NULL
);
CREATE INDEX chat_messages_of_chat ON chat_messages (chat_id, id);
"""


@migrations()
def m001_first_schema(db: sqlite_utils.Database) -> None:
    """Projects, prompts, responses, items, labels, runs, metrics and chats."""
    for script in (PROJECTS, LABELS, RUNS, CHATS):
        db.executescript(script)


@migrations()
def m002_reference_logps(db: sqlite_utils.Database) -> None:
    """What base models gave to rows of tokens, by the hash of weights, precision and tokens."""
    db.executescript("CREATE TABLE reference_logps (key BLOB PRIMARY KEY, logps REAL NOT NULL) WITHOUT ROWID;")
