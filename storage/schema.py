"""The SQL scripts of the migrations, in their order. Never change one that was released: add the next.

Derived columns (`items.label_count`, the table `current_labels`) are kept by triggers, so that they follow
the history of labels whoever writes it.
"""

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

# A table whose checks change is copied; `Store` turns foreign keys off meanwhile and checks them at the end.
RICHER_ITEMS = """
DROP TRIGGER labels_are_append_only;
DROP TRIGGER labels_become_current;
CREATE TABLE new_items (
    id INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL REFERENCES projects(id) ON DELETE CASCADE,
    prompt_id INTEGER NOT NULL REFERENCES prompts(id) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('pair', 'single', 'ranking')),
    response_key TEXT NOT NULL,
    position REAL NOT NULL,
    wanted_labels INTEGER NOT NULL DEFAULT 1,
    label_count INTEGER NOT NULL DEFAULT 0,
    is_check INTEGER NOT NULL DEFAULT 0,
    margin REAL,
    contradiction REAL,
    created_at REAL NOT NULL,
    UNIQUE (prompt_id, response_key)
);
INSERT INTO new_items (id, project_id, prompt_id, kind, response_key, position, wanted_labels, label_count, created_at)
    SELECT id, project_id, prompt_id, kind, response_key, position, wanted_labels, label_count, created_at FROM items;
DROP TABLE items;
ALTER TABLE new_items RENAME TO items;
CREATE INDEX items_of_project ON items (project_id, kind);
CREATE INDEX items_shuffled ON items (project_id, kind, position)
    WHERE label_count < wanted_labels AND is_check = 0;
CREATE INDEX items_fewest ON items (project_id, kind, label_count, position)
    WHERE label_count < wanted_labels AND is_check = 0;
CREATE INDEX items_uncertain ON items (project_id, kind, abs(margin))
    WHERE label_count < wanted_labels AND is_check = 0 AND margin IS NOT NULL;
CREATE INDEX items_contradicted ON items (project_id, kind, -contradiction)
    WHERE label_count < wanted_labels AND is_check = 0 AND contradiction IS NOT NULL;
CREATE INDEX items_that_check ON items (project_id, kind, position) WHERE is_check = 1;
CREATE TABLE item_counts (
    project_id INTEGER NOT NULL REFERENCES projects(id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    total INTEGER NOT NULL,
    done INTEGER NOT NULL,
    PRIMARY KEY (project_id, kind)
) WITHOUT ROWID;
INSERT INTO item_counts SELECT project_id, kind, count(*), sum(label_count >= wanted_labels) FROM items GROUP BY 1, 2;
CREATE TRIGGER items_are_counted AFTER INSERT ON items BEGIN
    INSERT INTO item_counts VALUES
        (NEW.project_id, NEW.kind, 1 - NEW.is_check, NEW.is_check = 0 AND NEW.label_count >= NEW.wanted_labels)
        ON CONFLICT DO UPDATE SET total = total + excluded.total, done = done + excluded.done;
END;
CREATE TRIGGER items_are_recounted AFTER UPDATE OF label_count, wanted_labels, is_check ON items
WHEN OLD.is_check <> NEW.is_check
    OR (OLD.label_count >= OLD.wanted_labels) <> (NEW.label_count >= NEW.wanted_labels) BEGIN
    UPDATE item_counts SET
        total = total + OLD.is_check - NEW.is_check,
        done = done + (NEW.is_check = 0 AND NEW.label_count >= NEW.wanted_labels)
                    - (OLD.is_check = 0 AND OLD.label_count >= OLD.wanted_labels)
    WHERE project_id = NEW.project_id AND kind = NEW.kind;
END;
CREATE TRIGGER items_are_discounted AFTER DELETE ON items BEGIN
    UPDATE item_counts SET
        total = total - (1 - OLD.is_check), done = done - (OLD.is_check = 0 AND OLD.label_count >= OLD.wanted_labels)
    WHERE project_id = OLD.project_id AND kind = OLD.kind;
END;
"""

# What is held is gone with the upgrade: pages ask again within seconds.
RICHER_LEASES = """
DROP TABLE leases;
CREATE TABLE leases (
    item_id INTEGER NOT NULL REFERENCES items(id) ON DELETE CASCADE,
    session TEXT NOT NULL,
    annotator TEXT NOT NULL,
    picked TEXT NOT NULL,
    place INTEGER NOT NULL,
    expires_at REAL NOT NULL,
    PRIMARY KEY (item_id, session)
) WITHOUT ROWID;
CREATE INDEX leases_of_session ON leases (session, place);
CREATE INDEX leases_that_end ON leases (expires_at);
CREATE TABLE cursors (
    project_id INTEGER NOT NULL REFERENCES projects(id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    annotator TEXT NOT NULL,
    lane TEXT NOT NULL,
    after_key REAL NOT NULL,
    after_id INTEGER NOT NULL,
    PRIMARY KEY (project_id, kind, annotator, lane)
) WITHOUT ROWID;
CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
"""

RICHER_LABELS = """
ALTER TABLE projects ADD COLUMN labeling TEXT NOT NULL DEFAULT '{}';
CREATE TABLE new_labels (
    id INTEGER PRIMARY KEY,
    client_id TEXT NOT NULL UNIQUE,
    item_id INTEGER NOT NULL REFERENCES items(id) ON DELETE CASCADE,
    annotator TEXT NOT NULL,
    role TEXT NOT NULL DEFAULT 'vote' CHECK (role IN ('vote', 'final', 'repeat')),
    verdict TEXT NOT NULL CHECK (verdict IN
        ('chosen', 'tie', 'both_bad', 'good', 'bad', 'ranked', 'edited', 'skip', 'flag', 'undo')),
    chosen_response_id INTEGER REFERENCES responses(id),
    rejected_response_id INTEGER REFERENCES responses(id),
    ranking TEXT,
    strength INTEGER CHECK (strength IN (1, 2)),
    reasons TEXT NOT NULL DEFAULT '[]',
    comment TEXT NOT NULL DEFAULT '',
    shown_response_ids TEXT NOT NULL,
    active_seconds REAL,
    picked TEXT,
    margin REAL,
    replaces_id INTEGER REFERENCES labels(id),
    source TEXT NOT NULL CHECK (source IN ('person', 'import', 'chat')),
    created_at REAL NOT NULL,
    CHECK ((verdict IN ('chosen', 'edited')) = (chosen_response_id IS NOT NULL)),
    CHECK ((verdict = 'edited') = (rejected_response_id IS NOT NULL)),
    CHECK ((verdict = 'ranked') = (ranking IS NOT NULL))
);
INSERT INTO new_labels (id, client_id, item_id, annotator, verdict, chosen_response_id, shown_response_ids,
        active_seconds, replaces_id, source, created_at)
    SELECT id, client_id, item_id, annotator, verdict, chosen_response_id, shown_response_ids,
        active_seconds, replaces_id, source, created_at FROM labels;
DROP TABLE labels;
ALTER TABLE new_labels RENAME TO labels;
CREATE INDEX labels_of_item ON labels (item_id, annotator, id);
CREATE TABLE new_current_labels (
    item_id INTEGER NOT NULL REFERENCES items(id) ON DELETE CASCADE,
    role TEXT NOT NULL,
    annotator TEXT NOT NULL,
    label_id INTEGER NOT NULL REFERENCES labels(id) ON DELETE CASCADE,
    PRIMARY KEY (item_id, role, annotator)
) WITHOUT ROWID;
INSERT INTO new_current_labels SELECT item_id, 'vote', annotator, label_id FROM current_labels;
DROP TABLE current_labels;
ALTER TABLE new_current_labels RENAME TO current_labels;
CREATE INDEX current_labels_of_annotator ON current_labels (annotator, role, label_id);
CREATE UNIQUE INDEX one_final_label ON current_labels (item_id) WHERE role = 'final';
CREATE TABLE label_counts (
    project_id INTEGER NOT NULL REFERENCES projects(id) ON DELETE CASCADE,
    annotator TEXT NOT NULL,
    role TEXT NOT NULL,
    kind TEXT NOT NULL,
    verdict TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (project_id, annotator, role, kind, verdict)
) WITHOUT ROWID;
INSERT INTO label_counts
    SELECT items.project_id, current_labels.annotator, current_labels.role, items.kind, labels.verdict, count(*)
    FROM current_labels JOIN labels ON labels.id = label_id JOIN items ON items.id = current_labels.item_id
    GROUP BY 1, 2, 3, 4, 5;
CREATE TRIGGER current_labels_are_counted AFTER INSERT ON current_labels BEGIN
    INSERT INTO label_counts
        SELECT items.project_id, NEW.annotator, iif(NEW.role = 'vote' AND items.is_check, 'check', NEW.role), items.kind,
            labels.verdict, 1
        FROM items, labels WHERE items.id = NEW.item_id AND labels.id = NEW.label_id
        ON CONFLICT DO UPDATE SET count = count + 1;
END;
CREATE TRIGGER current_labels_are_discounted AFTER DELETE ON current_labels BEGIN
    UPDATE label_counts SET count = count - 1
    FROM (SELECT project_id, kind, is_check FROM items WHERE id = OLD.item_id) AS item,
        (SELECT verdict FROM labels WHERE id = OLD.label_id) AS label
    WHERE label_counts.project_id = item.project_id AND annotator = OLD.annotator
        AND role = iif(OLD.role = 'vote' AND item.is_check, 'check', OLD.role)
        AND label_counts.kind = item.kind AND label_counts.verdict = label.verdict;
END;
CREATE TRIGGER labels_are_append_only BEFORE UPDATE ON labels BEGIN
    SELECT RAISE(ABORT, 'labels are append-only');
END;
-- A vote that changes takes with it what was decided or repeated on its ground; the known answer of a check stays.
CREATE TRIGGER labels_become_current AFTER INSERT ON labels BEGIN
    DELETE FROM current_labels
        WHERE item_id = NEW.item_id AND role = NEW.role AND (annotator = NEW.annotator OR NEW.role = 'final');
    DELETE FROM current_labels
        WHERE item_id = NEW.item_id AND NEW.role = 'vote' AND NEW.replaces_id IS NOT NULL AND (
            (role = 'repeat' AND annotator = NEW.annotator)
            OR (role = 'final' AND NOT (SELECT is_check FROM items WHERE id = NEW.item_id)));
    INSERT INTO current_labels (item_id, role, annotator, label_id)
        SELECT NEW.item_id, NEW.role, NEW.annotator, NEW.id WHERE NEW.verdict <> 'undo';
    UPDATE items SET label_count = (
        SELECT count(*) FROM current_labels JOIN labels ON labels.id = current_labels.label_id
        WHERE current_labels.item_id = NEW.item_id AND current_labels.role = 'vote'
            AND labels.verdict NOT IN ('skip', 'flag')
    ) WHERE id = NEW.item_id AND NEW.role = 'vote';
END;
"""

CHAT_VOTES = """
ALTER TABLE chats ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE chats ADD COLUMN is_blind INTEGER NOT NULL DEFAULT 0;
ALTER TABLE chats ADD COLUMN annotator TEXT NOT NULL DEFAULT '';
CREATE INDEX chats_of_project ON chats (project_id, id);
ALTER TABLE run_labels ADD COLUMN held_out INTEGER NOT NULL DEFAULT 0;
CREATE TABLE chat_votes (
    id INTEGER PRIMARY KEY,
    question_id INTEGER NOT NULL REFERENCES chat_messages(id) ON DELETE CASCADE,
    annotator TEXT NOT NULL,
    verdict TEXT NOT NULL CHECK (verdict IN ('chosen', 'tie', 'both_bad')),
    side INTEGER,
    is_blind INTEGER NOT NULL,
    created_at REAL NOT NULL,
    CHECK ((verdict = 'chosen') = (side IS NOT NULL))
);
CREATE INDEX chat_votes_of_question ON chat_votes (question_id, id);
CREATE TRIGGER chat_votes_are_append_only BEFORE UPDATE ON chat_votes BEGIN
    SELECT RAISE(ABORT, 'votes are append-only');
END;
"""

ROUNDS = """
ALTER TABLE projects ADD COLUMN is_match INTEGER NOT NULL DEFAULT 0;
ALTER TABLE projects ADD COLUMN home_id INTEGER REFERENCES projects(id) ON DELETE SET NULL;
CREATE INDEX projects_of_home ON projects (home_id);
UPDATE projects SET is_match = 1 WHERE id IN (SELECT project_id FROM prompts WHERE source = 'arena');
UPDATE projects SET home_id = (
    SELECT runs.project_id FROM prompts JOIN responses ON prompt_id = prompts.id JOIN runs ON runs.id = run_id
    WHERE prompts.project_id = projects.id ORDER BY runs.id DESC LIMIT 1
) WHERE is_match = 1;
CREATE TABLE rounds (
    id INTEGER PRIMARY KEY,
    project_id INTEGER NOT NULL REFERENCES projects(id) ON DELETE CASCADE,
    step TEXT NOT NULL CHECK (step IN ('sample', 'label', 'train', 'compare', 'ended')),
    sampled_run_id INTEGER REFERENCES runs(id) ON DELETE SET NULL,
    prompt_ids TEXT NOT NULL,
    run_id INTEGER REFERENCES runs(id) ON DELETE SET NULL,
    match_id INTEGER REFERENCES projects(id) ON DELETE SET NULL,
    created_at REAL NOT NULL
);
CREATE INDEX rounds_of_project ON rounds (project_id, id);
"""
