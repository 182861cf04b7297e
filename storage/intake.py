"""Rows on their way into a project: gathered in a file of their own, then stored in one short transaction.

Gathering takes no lock of the database, however large the file is, and what is gathered is on the disk, not in memory.
Owns what makes two rows the same. Does not know files or formats, nor what a label means.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from errors import StorageError
from storage.items import kind_of
from storage.prompts import messages_hash
from storage.records import KINDS, Message, Project

if TYPE_CHECKING:
    from storage.database import Store

ROWS_AT_ONCE = 1000
CACHE_KIB = 32 * 1024

TABLES = """
CREATE TABLE prompts (hash TEXT PRIMARY KEY, row INTEGER, messages TEXT, source TEXT, id INTEGER);
CREATE TABLE responses (
    prompt TEXT, hash TEXT, row INTEGER, text TEXT, model TEXT, settings TEXT, author TEXT, id INTEGER,
    PRIMARY KEY (prompt, hash)
);
CREATE TABLE items (
    key BLOB PRIMARY KEY, row INTEGER, prompt TEXT, kind TEXT, hashes TEXT, wanted INTEGER, is_check INTEGER, id INTEGER
);
CREATE TABLE labels (
    seq INTEGER PRIMARY KEY, row INTEGER, item BLOB, prompt TEXT, annotator TEXT, role TEXT, verdict TEXT, chosen TEXT,
    rejected TEXT, ranking TEXT, strength INTEGER, reasons TEXT, comment TEXT, shown TEXT, active_seconds REAL,
    picked TEXT, margin REAL, source TEXT, created_at REAL
);
"""
# What a label is in the database: with ids, lists spelt as `json.dumps` does (equal rankings are the same text), and the
# id that makes the same row again known.
RESOLVED = """
CREATE TABLE staged.resolved AS
SELECT labels.seq, labels.row, items.id AS item_id, annotator, role, verdict,
    (SELECT id FROM staged.responses AS r WHERE r.prompt = labels.prompt AND r.hash = chosen) AS chosen_id,
    (SELECT id FROM staged.responses AS r WHERE r.prompt = labels.prompt AND r.hash = rejected) AS rejected_id,
    iif(ranking IS NULL, NULL, (SELECT replace(json_group_array(json(tier)), ',', ', ') FROM (
        SELECT (SELECT json_group_array(id) FROM (
            SELECT r.id FROM json_each(tiers.value) AS one
            JOIN staged.responses AS r ON r.prompt = labels.prompt AND r.hash = one.value ORDER BY r.id)) AS tier
        FROM json_each(ranking) AS tiers ORDER BY tiers.key))) AS ranking,
    (SELECT replace(json_group_array(id), ',', ', ') FROM (
        SELECT r.id FROM json_each(shown) AS one
        JOIN staged.responses AS r ON r.prompt = labels.prompt AND r.hash = one.value ORDER BY one.key)) AS shown,
    strength, reasons, comment, active_seconds, picked, margin, source, created_at, '' AS client_id
FROM staged.labels JOIN staged.items ON items.key = labels.item ORDER BY labels.seq;
UPDATE staged.resolved SET client_id = 'import:' || item_id || ':' || verdict || ':'
    || coalesce(ranking, chosen_id, '') || iif(annotator = 'import', '', ':' || annotator)
    || iif(created_at IS NULL, '', ':' || role || ':' || created_at);
"""
# In order: labels that are new, each with the one it replaces: the one before it in the file, else the current one.
NUMBERED = """
CREATE TABLE staged.numbered AS
WITH fresh AS (
    SELECT *, row_number() OVER (ORDER BY seq) AS number FROM staged.resolved
    WHERE seq IN (SELECT min(seq) FROM staged.resolved GROUP BY client_id)
        AND NOT EXISTS (SELECT 1 FROM main.labels AS known WHERE known.client_id = resolved.client_id)
        AND NOT EXISTS (SELECT 1 FROM main.labels AS known WHERE resolved.created_at IS NOT NULL
            AND known.item_id = resolved.item_id AND known.annotator = resolved.annotator AND known.role = resolved.role
            AND known.verdict = resolved.verdict AND known.created_at = resolved.created_at)
)
SELECT *, (SELECT coalesce(max(id), 0) FROM main.labels) + number AS id,
    iif(lag(verdict) OVER own IS NULL,
        (SELECT label_id FROM main.current_labels AS current WHERE current.item_id = fresh.item_id
            AND current.role = fresh.role AND (fresh.role = 'final' OR current.annotator = fresh.annotator)),
        iif(lag(verdict) OVER own = 'undo', NULL,
            (SELECT coalesce(max(id), 0) FROM main.labels) + lag(number) OVER own)) AS replaces_id
FROM fresh WINDOW own AS (PARTITION BY item_id, role, iif(role = 'final', '', annotator) ORDER BY seq)
ORDER BY seq;
DELETE FROM staged.numbered WHERE verdict = 'undo' AND replaces_id IS NULL;
"""


@dataclass(frozen=True)
class Stored:
    """Where the gathered rows went, and what was new. kinds: items by kind; replaced: labels that changed an earlier one;
    rows: rows that brought something new.
    """

    project: Project
    prompts: int
    kinds: dict[str, int]
    labels: int
    replaced: int
    rows: int


class Intake:
    """Gathers rows for one project; to be closed. The gathered is lost with the process, the database untouched."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.path: Path = store.folder / f".intake-{uuid.uuid4().hex}.db"
        self._db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{CACHE_KIB}", "locking_mode = EXCLUSIVE"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.executescript(TABLES)
        self._db.execute("BEGIN")
        self._prompts: list[tuple] = []
        self._responses: list[tuple] = []
        self._items: list[tuple] = []
        self._labels: list[tuple] = []

    def add(
        self, row: int, messages: list[Message], source: str, answers: Sequence[Any] = (), opinions: Sequence[Any] = (),
        *, wanted_labels: int | None = None, is_check: bool = False,
    ) -> None:
        """Gather what one row says.

        row: its number. answers: with the attributes `text, model, settings, author`, none to six different ones.
        opinions: with the attributes of `Label`, but `chosen`, `rejected`, `tiers` and `shown` are indices of the
        answers, and `better` is an answer or None. wanted_labels: what the project says when not given.
        Raises StorageError when the disk is full.
        """
        prompt = messages_hash(messages)
        self._prompts.append((prompt, row, json.dumps(messages, ensure_ascii=False), source))
        if answers:
            hashes = [self._response(prompt, row, answer) for answer in answers]
            key = hashlib.blake2b("\n".join([prompt, *sorted(hashes)]).encode(), digest_size=20).digest()
            self._items.append(
                (key, row, prompt, kind_of(len(hashes)), json.dumps(hashes), wanted_labels, int(is_check))
            )
            for opinion in opinions:
                self._labels.append(self._label(row, key, prompt, hashes, opinion))
        if len(self._prompts) >= ROWS_AT_ONCE:
            self._flush()

    def prompts(self) -> Iterator[str]:
        """Yield the text of each different prompt that was gathered, in order of their rows."""
        self._flush()
        for (messages,) in self._db.execute("SELECT messages FROM prompts ORDER BY rowid"):
            yield "\n".join(message["content"] for message in json.loads(messages))

    def save(self, project: str, progress: Callable[[float], None] = lambda share: None) -> Stored:
        """Store all that was gathered, or nothing; call it once.

        project: its name, made when there is none. progress: called with the share that is done.

        Raises StorageError as `Store.transaction` does.
        """
        self._flush()
        self._db.execute("COMMIT")
        self._db.close()
        db = self.store.db
        db.conn.execute("ATTACH ? AS staged", [str(self.path)])
        try:
            with self.store.transaction():
                return self._save(db.conn, self.store.projects.ensure(project), progress)
        finally:
            db.conn.execute("DETACH staged")

    def close(self) -> None:
        """Forget what was gathered."""
        self._db.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Intake:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _response(self, prompt: str, row: int, answer: Any) -> str:
        text = answer.text
        digest = hashlib.sha256(text.strip().encode()).hexdigest()
        settings = None if answer.settings is None else json.dumps(answer.settings)
        author = answer.author or (None if answer.model else "import")
        self._responses.append((prompt, digest, row, text, answer.model, settings, author))
        return digest

    def _label(self, row: int, key: bytes, prompt: str, hashes: list[str], opinion: Any) -> tuple:
        chosen = None if opinion.chosen is None else hashes[opinion.chosen]
        if opinion.better is not None:
            chosen = self._response(prompt, row, opinion.better)
        ranking = [[hashes[index] for index in tier] for tier in opinion.tiers]
        shown = [hashes[index] for index in opinion.shown] or hashes
        return (
            row, key, prompt, opinion.annotator or "import", opinion.role, opinion.verdict, chosen,
            None if opinion.rejected is None else hashes[opinion.rejected], json.dumps(ranking) if ranking else None,
            opinion.strength, json.dumps(list(opinion.reasons), ensure_ascii=False), opinion.comment, json.dumps(shown),
            opinion.active_seconds, opinion.picked, opinion.margin, opinion.source, opinion.created_at,
        )

    def _flush(self) -> None:
        try:
            for table, rows, columns in (
                ("prompts", self._prompts, "hash, row, messages, source"),
                ("responses", self._responses, "prompt, hash, row, text, model, settings, author"),
                ("items", self._items, "key, row, prompt, kind, hashes, wanted, is_check"),
                ("labels", self._labels,
                 "row, item, prompt, annotator, role, verdict, chosen, rejected, ranking, strength, reasons, comment,"
                 " shown, active_seconds, picked, margin, source, created_at"),
            ):
                places = ", ".join("?" * (columns.count(",") + 1))
                self._db.executemany(f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({places})", rows)
                rows.clear()
        except sqlite3.OperationalError as error:
            raise StorageError(
                f"Nothing was stored: {self.store.folder} has no room for what is brought in ({error})."
            ) from error

    def _save(self, conn: sqlite3.Connection, project: Project, progress: Callable[[float], None]) -> Stored:
        now = time.time()
        own = {"project": project.id, "now": now}
        last = {
            table: conn.execute(f"SELECT coalesce(max(id), 0) FROM main.{table}").fetchone()[0]
            for table in ("prompts", "responses", "items")
        }
        steps: list[tuple[str, dict[str, Any]]] = [
            ("INSERT INTO main.prompts (project_id, messages, content_hash, source, created_at)"
             " SELECT :project, messages, hash, source, :now FROM staged.prompts WHERE true ORDER BY row"
             " ON CONFLICT DO NOTHING", own),
            ("UPDATE staged.prompts SET id = (SELECT id FROM main.prompts AS p"
             " WHERE p.project_id = :project AND p.content_hash = hash)", own),
            ("INSERT INTO main.responses (prompt_id, text, content_hash, model, settings, author, created_at)"
             " SELECT p.id, text, r.hash, model, settings, author, :now FROM staged.responses AS r"
             " JOIN staged.prompts AS p ON p.hash = r.prompt WHERE true ORDER BY r.rowid ON CONFLICT DO NOTHING", own),
            ("UPDATE staged.responses SET id = (SELECT r.id FROM main.responses AS r JOIN staged.prompts AS p"
             " ON r.prompt_id = p.id WHERE p.hash = responses.prompt AND r.content_hash = responses.hash)", {}),
            ("INSERT INTO main.items (project_id, prompt_id, kind, response_key, position, wanted_labels, is_check, created_at)"
             " SELECT :project, p.id, kind, (SELECT group_concat(id, ',') FROM (SELECT r.id FROM json_each(i.hashes) AS one"
             " JOIN staged.responses AS r ON r.prompt = i.prompt AND r.hash = one.value ORDER BY r.id)),"
             " abs(random() % 9007199254740992) / 9007199254740992.0, coalesce(wanted, (SELECT json_extract(labeling,"
             " '$.labels_per_item') FROM main.projects WHERE id = :project), 1), is_check, :now FROM staged.items AS i"
             " JOIN staged.prompts AS p ON p.hash = i.prompt WHERE true ORDER BY i.rowid ON CONFLICT DO NOTHING", own),
            ("UPDATE staged.items SET id = (SELECT known.id FROM main.items AS known JOIN staged.prompts AS p"
             " ON known.prompt_id = p.id WHERE p.hash = items.prompt AND known.response_key = (SELECT group_concat(id, ',')"
             " FROM (SELECT r.id FROM json_each(items.hashes) AS one JOIN staged.responses AS r"
             " ON r.prompt = items.prompt AND r.hash = one.value ORDER BY r.id)))", {}),
            ("INSERT INTO main.item_responses (item_id, position, response_id) SELECT i.id, one.key, r.id"
             " FROM staged.items AS i, json_each(i.hashes) AS one JOIN staged.responses AS r"
             " ON r.prompt = i.prompt AND r.hash = one.value WHERE i.id > :items", last),
            *((statement, {}) for statement in (*RESOLVED.split(";\n")[:-1], *NUMBERED.split(";\n")[:-1])),
            ("INSERT INTO main.labels (id, client_id, item_id, annotator, role, verdict, chosen_response_id,"
             " rejected_response_id, ranking, strength, reasons, comment, shown_response_ids, active_seconds, picked, margin,"
             " replaces_id, source, created_at) SELECT id, client_id, item_id, annotator, role, verdict, chosen_id,"
             " rejected_id, ranking, strength, reasons, comment, shown, active_seconds, picked, margin, replaces_id, source,"
             " coalesce(created_at, :now) FROM staged.numbered ORDER BY id", own),
        ]
        for number, (statement, values) in enumerate(steps, start=1):
            conn.execute(statement, values)
            progress(number / len(steps))
        new = (
            "SELECT row FROM staged.prompts WHERE id > :prompts UNION SELECT row FROM staged.items WHERE id > :items"
            " UNION SELECT row FROM staged.numbered"
        )
        one = lambda sql: conn.execute(sql, last).fetchone()[0]  # noqa: E731
        kinds = conn.execute("SELECT kind, count(*) FROM staged.items WHERE id > :items GROUP BY kind", last).fetchall()
        return Stored(
            project=project,
            prompts=one("SELECT count(*) FROM staged.prompts WHERE id > :prompts"),
            kinds=dict.fromkeys(KINDS, 0) | dict(kinds),
            labels=one("SELECT count(*) FROM staged.numbered"),
            replaced=one("SELECT count(*) FROM staged.numbered WHERE replaces_id IS NOT NULL"),
            rows=one(f"SELECT count(*) FROM ({new})"),
        )
