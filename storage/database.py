"""The data folder and its SQLite file: opening, migrating, transactions. Does not know any table's meaning.

One `Store` a process; it is safe from several threads (each gets its own connection) and several processes
(WAL, immediate write transactions, a busy timeout).
"""

from __future__ import annotations

import random
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlite_utils

from errors import StorageError
from storage.chats import Chats
from storage.comparisons import Comparisons
from storage.items import Items
from storage.labels import Labels
from storage.leases import Leases
from storage.migrations import migrations
from storage.projects import Projects
from storage.prompts import Prompts
from storage.references import References
from storage.responses import Responses
from storage.rounds import Rounds
from storage.runs import Runs
from storage.votes import Votes
from storage.write_queue import WriteQueue

DATABASE_NAME = "studio.db"
BUSY_TIMEOUT_SECONDS = 30.0
# SQLite's own wait for the lock asks ever more seldom, up to ten times a second: beside a process that writes all the
# time it would starve. So it is asked for a few milliseconds only, again and again.
POLL_MILLISECONDS = 4


class Store:
    """Everything that is kept in one data folder.

    folder: the data folder, made when missing. Attributes are the aggregates: `projects`, `prompts`,
    `responses`, `items`, `leases`, `labels`, `votes`, `runs`, `references`, `chats`, `comparisons`, `rounds`; `writes` runs
    small writes of many threads together.
    Raises StorageError when the folder cannot be written, or the database is newer than the program.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder).expanduser().resolve()
        self._local = threading.local()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._migrate()
        except (OSError, sqlite3.DatabaseError) as error:
            raise StorageError(
                f"The data folder {self.folder} cannot be used: {error}. Choose another with --data."
            ) from error
        self.projects = Projects(self)
        self.prompts = Prompts(self)
        self.responses = Responses(self)
        self.items = Items(self)
        self.leases = Leases(self)
        self.labels = Labels(self)
        self.votes = Votes(self)
        self.runs = Runs(self)
        self.references = References(self)
        self.chats = Chats(self)
        self.comparisons = Comparisons(self)
        self.rounds = Rounds(self)
        self.writes = WriteQueue(self)

    @property
    def db(self) -> sqlite_utils.Database:
        """This thread's connection; opened at its first use."""
        if not hasattr(self._local, "db"):
            connection = sqlite3.connect(
                self.folder / DATABASE_NAME, timeout=BUSY_TIMEOUT_SECONDS, check_same_thread=False
            )
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(f"PRAGMA busy_timeout = {POLL_MILLISECONDS}")
            # Two that open a new file at once would wait for each other here: SQLite refuses one of them at once.
            _once_free(connection, "PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.create_function("casefold", 1, str.casefold, deterministic=True)  # LIKE knows the case of ASCII only
            self._local.db = sqlite_utils.Database(connection)
        return self._local.db

    @contextmanager
    def transaction(self) -> Iterator[sqlite_utils.Database]:
        """Write all of a block or nothing of it. Blocks nest: only the outermost commits.

        It takes the write lock at once: a transaction that began by reading could not wait for it later.
        Raises StorageError when the disk is full, the file is read-only, or the lock was not free in time.
        """
        db = self.db
        if db.conn.in_transaction:
            db.conn.execute("SAVEPOINT nested")
            try:
                yield db
            except BaseException:
                if db.conn.in_transaction:  # an error may have ended the transaction with all its savepoints
                    db.conn.execute("ROLLBACK TO nested")
                    db.conn.execute("RELEASE nested")
                raise
            db.conn.execute("RELEASE nested")
            return
        try:
            _once_free(db.conn, "BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.rollback()
                raise
            db.conn.execute("COMMIT")
        except sqlite3.OperationalError as error:
            db.rollback()
            raise self._explained(error) from error

    def rows(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[dict[str, Any]]:
        """Return what a query finds as dictionaries, at once: `db.query` costs two statements more."""
        cursor = self.db.conn.execute(sql, parameters)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row)) for row in cursor]

    def secret(self, name: str) -> bytes:
        """Return 32 random bytes that this data folder keeps under a name; made at the first call."""
        with self.transaction() as db:
            db.execute("INSERT OR IGNORE INTO secrets (name, value) VALUES (?, ?)", [name, secrets.token_bytes(32)])
            return db.execute("SELECT value FROM secrets WHERE name = ?", [name]).fetchone()[0]

    def close(self) -> None:
        """Close this thread's connection."""
        if hasattr(self._local, "db"):
            self._local.db.close()
            del self._local.db

    def _migrate(self) -> None:
        known = {migration.name for migration in migrations._migrations}
        applied = {migration.name for migration in migrations.applied(self.db)}
        if unknown := applied - known:
            raise StorageError(
                f"{self.folder / DATABASE_NAME} was written by a newer version of this program"
                f" ({', '.join(sorted(unknown))}). Update the program, or choose another folder with --data."
            )
        if applied != known:
            self.db.conn.execute("PRAGMA foreign_keys = OFF")  # a table that is copied and dropped would cascade
            with self.transaction() as db:  # a second process waits here, then finds nothing pending
                migrations.apply(db)
                if broken := db.conn.execute("PRAGMA foreign_key_check").fetchall():
                    raise sqlite3.DatabaseError(f"the upgrade would break {len(broken)} references")
            self.db.conn.execute("PRAGMA foreign_keys = ON")

    def _explained(self, error: sqlite3.OperationalError) -> StorageError | sqlite3.OperationalError:
        text = str(error)
        if "full" in text or "disk I/O" in text:
            return StorageError(f"Nothing was stored: the disk of {self.folder} is full ({text}). Free some space and try again.")
        if "readonly" in text or "read-only" in text:
            return StorageError(f"Nothing was stored: {self.folder / DATABASE_NAME} is read-only. Check its permissions.")
        if "locked" in text or "busy" in text:
            return StorageError(f"Nothing was stored: another process kept the database for {BUSY_TIMEOUT_SECONDS:.0f} s. Try again.")
        return error


def _once_free(connection: sqlite3.Connection, statement: str) -> None:
    """Run a statement that takes a lock, waiting for it. Raises sqlite3.OperationalError when it was not free in time."""
    deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while True:
        try:
            connection.execute(statement)
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(POLL_MILLISECONDS / 1000 * random.random())  # not in step with whoever else was refused
