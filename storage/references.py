"""Log-probs that a base model gave to rows of tokens, so that no run computes them twice. Does not know tokens.

A value belongs to a scope (which weights, in which precision) and a key (which tokens).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from storage.database import Store

# SQLite takes at most 32,766 values in a query; this many keep the statement small.
KEYS_AT_ONCE = 500


class References:
    """The reference log-probs of a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def of(self, *scope: str) -> ScopedReferences:
        """Return those of one base model. scope: texts that say which weights in which precision."""
        return ScopedReferences(self.store, "\0".join(scope))


class ScopedReferences:
    """The log-probs of one base model in one precision, by key."""

    def __init__(self, store: Store, scope: str) -> None:
        self.store, self._scope = store, scope.encode()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        """Return the log-probs that are known."""
        own = {self._own(key): key for key in keys}
        found = {}
        wanted = list(own)
        for start in range(0, len(wanted), KEYS_AT_ONCE):
            part = wanted[start : start + KEYS_AT_ONCE]
            marks = ", ".join("?" * len(part))
            rows = self.store.db.execute(f"SELECT key, logps FROM reference_logps WHERE key IN ({marks})", part)
            found |= {own[bytes(key)]: logps for key, logps in rows.fetchall()}
        return found

    def put(self, values: dict[bytes, float]) -> None:
        """Keep log-probs; those that are there already stay as they are."""
        with self.store.transaction() as db:
            db.conn.executemany(
                "INSERT OR IGNORE INTO reference_logps (key, logps) VALUES (?, ?)",
                [(self._own(key), logps) for key, logps in values.items()],
            )

    def _own(self, key: bytes) -> bytes:
        return hashlib.blake2b(key, key=hashlib.blake2b(self._scope, digest_size=32).digest(), digest_size=16).digest()
