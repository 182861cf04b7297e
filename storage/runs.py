"""Training runs, the labels they used and their metrics. Does not know how a run trains.

At most one run of a data folder is active at a time; the schema holds that.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from errors import NotFoundError, TrainingError
from storage.records import ACTIVE_STATES, ENDED_STATES, MetricRow, Run, from_row
from storage.snapshots import Difference, difference, snapshot_name

if TYPE_CHECKING:
    from storage.database import Store


class Runs:
    """The runs of a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def create(
        self, project_id: int, method: str, model: str, config: dict[str, Any], label_ids: Iterable[int]
    ) -> Run:
        """Store a queued run with the snapshot of labels it will use. Raises TrainingError while one is active."""
        with self.store.transaction() as db:
            try:
                cursor = db.execute(
                    "INSERT INTO runs (project_id, method, model, config, state, created_at)"
                    " VALUES (?, ?, ?, ?, 'queued', ?) RETURNING id",
                    [project_id, method, model, json.dumps(config), time.time()],
                )
                run_id = cursor.fetchone()[0]
            except sqlite3.IntegrityError as error:
                raise self._still_training() from error
            db.conn.executemany(
                "INSERT INTO run_labels (run_id, label_id) VALUES (?, ?)", [(run_id, label_id) for label_id in label_ids]
            )
            self._update(run_id, "snapshot = ?", [snapshot_name(db.conn, run_id)])
        return self.get(run_id)

    def get(self, run_id: int) -> Run:
        """Return one run. Raises NotFoundError."""
        for row in self.store.db.query("SELECT * FROM runs WHERE id = ?", [run_id]):
            return from_row(Run, row)
        raise NotFoundError(f"There is no run number {run_id}. `python app.py runs` lists them.")

    def ancestors(self, run_id: int) -> list[int]:
        """Return a run and those it goes on from, one after the other. Raises NotFoundError."""
        found: list[int] = []
        while run_id and run_id not in found:
            found.append(run_id)
            run_id = self.get(run_id).config.get("start_run") or 0
        return found

    def hold_out(self, run_id: int, label_ids: Iterable[int]) -> None:
        """Remember which labels of its snapshot a run did not learn from, only measured on."""
        with self.store.transaction() as db:
            db.conn.executemany(
                "UPDATE run_labels SET held_out = 1 WHERE run_id = ? AND label_id = ?",
                [(run_id, label_id) for label_id in label_ids],
            )

    def list(self, project_id: int | None = None) -> list[Run]:
        """Return the runs of a project, or all, newest first."""
        rows = self.store.db.query(
            "SELECT * FROM runs WHERE ? IS NULL OR project_id = ? ORDER BY id DESC", [project_id, project_id]
        )
        return [from_row(Run, row) for row in rows]

    def active(self) -> Run | None:
        """Return the run that is queued or running, if any."""
        rows = self.store.db.query("SELECT * FROM runs WHERE state IN (?, ?)", ACTIVE_STATES)
        return next((from_row(Run, row) for row in rows), None)

    def adapter_folder(self, run_id: int) -> Path:
        """Return the folder that a run's adapter is kept in (it exists only once the run has finished)."""
        return self.folder(run_id) / "adapter"

    def folder(self, run_id: int) -> Path:
        """Return the folder of a run's files: its log, config and adapter."""
        return self.store.folder / "runs" / f"run-{run_id}"

    def start(self, run_id: int, pid: int, total_steps: int) -> None:
        """Mark a queued run as running in the process `pid`."""
        now = time.time()
        self._update(
            run_id,
            "state = 'running', pid = ?, total_steps = ?, started_at = coalesce(started_at, ?), heartbeat_at = ?",
            [pid, total_steps, now, now],
        )

    def reopen(self, run_id: int, step: int) -> Run:
        """Queue a cancelled or failed run again, to go on after `step` steps; what it said of later ones is forgotten.

        Its start moves by the time it lay still, so that end − start stays the time it ran.
        Raises TrainingError while another run is active, or when it has not been cancelled and has not failed.
        """
        now = time.time()
        with self.store.transaction() as db:
            try:
                cursor = db.execute(
                    "UPDATE runs SET state = 'queued', message = '', pid = NULL, step = ?, cancel_requested = 0,"
                    " started_at = started_at + ? - coalesce(ended_at, heartbeat_at), heartbeat_at = ?, ended_at = NULL"
                    " WHERE id = ? AND state IN ('cancelled', 'failed')",
                    [step, now, now, run_id],
                )
            except sqlite3.IntegrityError as error:
                raise self._still_training() from error
            if cursor.rowcount == 0:
                run = self.get(run_id)
                raise TrainingError(f"Run {run_id} is {run.state}: only a cancelled or failed run can be resumed.")
            db.execute("DELETE FROM metrics WHERE run_id = ? AND step > ?", [run_id, step])
        return self.get(run_id)

    def heartbeat(self, run_id: int, pid: int) -> bool:
        """Say that the run's process is alive; return True when somebody asked it to cancel."""
        self._update(run_id, "heartbeat_at = ?, pid = ?", [time.time(), pid])
        return self.get(run_id).cancel_requested

    def add_metrics(self, run_id: int, step: int, values: dict[str, float]) -> bool:
        """Store the metrics of one step, which is a heartbeat too; return True when asked to cancel."""
        now = time.time()
        with self.store.transaction() as db:
            db.execute(
                'INSERT OR REPLACE INTO metrics (run_id, step, "values", created_at) VALUES (?, ?, ?, ?)',
                [run_id, step, json.dumps(values), now],
            )
            self._update(run_id, "step = ?, heartbeat_at = ?, summary = ?", [step, now, json.dumps(values)])
        return self.get(run_id).cancel_requested

    def metrics(self, run_id: int, after_step: int = -1) -> list[MetricRow]:
        """Return the metrics of the steps after `after_step`, in order."""
        rows = self.store.db.query(
            "SELECT * FROM metrics WHERE run_id = ? AND step > ? ORDER BY step", [run_id, after_step]
        )
        return [from_row(MetricRow, row) for row in rows]

    def request_cancel(self, run_id: int) -> None:
        """Ask an active run to stop after its current step."""
        self._update(run_id, "cancel_requested = 1", [])

    def end(
        self, run_id: int, state: str, message: str = "", summary: dict[str, Any] | None = None, adapter: str | None = None
    ) -> bool:
        """Mark an active run as ended; return False when it had ended before.

        state: one of ENDED_STATES. summary: the final metrics. adapter: its folder relative to the data folder.
        """
        assert state in ENDED_STATES
        changed = self._update(
            run_id,
            "state = ?, message = ?, summary = coalesce(?, summary), adapter = ?, ended_at = ?",
            [state, message, None if summary is None else json.dumps(summary), adapter, time.time()],
        )
        return changed == 1

    def label_ids(self, run_id: int) -> list[int]:
        """Return the ids of the labels in a run's snapshot."""
        rows = self.store.db.execute("SELECT label_id FROM run_labels WHERE run_id = ? ORDER BY label_id", [run_id])
        return [row[0] for row in rows.fetchall()]

    def diff(self, run_a: int, run_b: int) -> Difference:
        """Return which labels two runs of a store used differently. Raises NotFoundError."""
        return difference(self.store, self.get(run_a).id, self.get(run_b).id)

    def _still_training(self) -> TrainingError:
        active = self.active()
        name = f"Run {active.id}" if active else "Another run"
        return TrainingError(f"{name} is still training. Wait for it, or cancel it first.")

    def _update(self, run_id: int, assignments: str, values: list[Any]) -> int:
        """Change a run that is active; one that has ended stays as it is."""
        with self.store.transaction() as db:
            cursor = db.execute(
                f"UPDATE runs SET {assignments} WHERE id = ? AND state IN (?, ?)", [*values, run_id, *ACTIVE_STATES]
            )
            return cursor.rowcount
