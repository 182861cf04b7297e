"""Work on a finished run in a process of its own: what is said of one that dies."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import pytest

from storage import Project, Store
from training import launching
from training.background import Progress, Work

WORK = Work("thinking", "thinking", "training.score", "It ended without a word.")


def test_a_process_that_is_killed_is_said_to_have_died_at_once(
    store: Store, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = store.runs.create(project.id, "dpo", "demo", {}, [])
    started, detached = [], launching.detached

    def sleeping(words: Sequence[str], environment, log):  # noqa: ANN001, ANN202
        started.append(detached([sys.executable, "-c", "import time; time.sleep(600)"], environment, log))
        return started[0]

    monkeypatch.setattr(launching, "detached", sleeping)
    WORK.start(store, run.id, [])
    assert WORK.status(store, run.id) == Progress("The thinking is starting …", True)
    started[0].kill()
    until = time.monotonic() + 30  # well under START_SECONDS
    while WORK.status(store, run.id).active:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert WORK.status(store, run.id) == Progress(WORK.died)
