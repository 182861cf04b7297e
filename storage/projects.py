"""Projects. Does not know what is in them, but for the counts that a list shows."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from errors import NotFoundError
from storage.records import Project, from_row

if TYPE_CHECKING:
    from storage.database import Store


class Projects:
    """The projects of a store, by name."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def list(self) -> list[Project]:
        """Return all projects, oldest first; after them the matches, newest first."""
        rows = self.store.db.query("SELECT * FROM projects ORDER BY is_match, iif(is_match, -id, id)")
        return [from_row(Project, row) for row in rows]

    def get(self, name: str) -> Project:
        """Return the project of that name. Raises NotFoundError, naming those there are."""
        for row in self.store.db.query("SELECT * FROM projects WHERE name = ?", [name]):
            return from_row(Project, row)
        names = ", ".join(repr(project.name) for project in self.list()) or "none yet"
        raise NotFoundError(f"There is no project {name!r}. Projects here: {names}.")

    def by_id(self, project_id: int) -> Project:
        """Return the project with that id. Raises NotFoundError."""
        for row in self.store.rows("SELECT * FROM projects WHERE id = ?", [project_id]):
            return from_row(Project, row)
        raise NotFoundError(f"There is no project number {project_id}. Reload the page.")

    def home(self, project_id: int | None) -> int | None:
        """Return the project whose runs are meant: itself; for a match the one it was played for, None where there is none."""
        rows = self.store.rows("SELECT iif(is_match, home_id, id) AS home FROM projects WHERE id = ?", [project_id])
        return rows[0]["home"] if rows else None

    def ensure(
        self, name: str, guidelines: str = "", *, is_example: bool = False, is_match: bool = False, home_id: int | None = None
    ) -> Project:
        """Return the project of that name, made now when there is none. Raises NotFoundError for an empty name."""
        name = name.strip()
        if not name:
            raise NotFoundError("A project needs a name.")
        with self.store.transaction() as db:
            db.execute(
                "INSERT INTO projects (name, guidelines, is_example, is_match, home_id, created_at) VALUES (?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (name) DO NOTHING",
                [name, guidelines, is_example, is_match, home_id, time.time()],
            )
        return self.get(name)

    def set_guidelines(self, project_id: int, guidelines: str) -> None:
        """Replace what annotators are told."""
        with self.store.transaction() as db:
            db.execute("UPDATE projects SET guidelines = ? WHERE id = ?", [guidelines, project_id])

    def set_labeling(self, project_id: int, values: dict[str, Any]) -> None:
        """Replace how the project is labelled; see `labeling.settings`."""
        with self.store.transaction() as db:
            db.execute("UPDATE projects SET labeling = ? WHERE id = ?", [json.dumps(values), project_id])
