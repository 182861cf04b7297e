"""Work on a finished run in a process of its own: what is said of one that dies."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from storage import Project, Run, Store
from training import launching
from training.background import Progress, Work

WORK = Work("thinking", "thinking", "training.score", "It ended without a word.")
STARTING = Progress("The thinking is starting …", True)
SLEEPS = "import time; time.sleep(600)"
SPEAKS_AND_LINGERS = f"print('Thought.', flush=True); {SLEEPS}"

Start = Callable[[str], subprocess.Popen]


@pytest.fixture
def trained(store: Store, project: Project) -> Run:
    return store.runs.create(project.id, "dpo", "demo", {}, [])


@pytest.fixture
def start(store: Store, trained: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start the work with a program in the place of its module; what still runs at the end is killed."""
    started, detached = [], launching.detached

    def start(program: str) -> subprocess.Popen:
        def instead(words: Sequence[str], environment, log):  # noqa: ANN001, ANN202
            started.append(detached([sys.executable, "-c", program], environment, log))
            return started[-1]

        monkeypatch.setattr(launching, "detached", instead)
        WORK.start(store, trained.id, [])
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def wait_for(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 30  # well under START_SECONDS
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


def waiters(run: Run) -> list[threading.Thread]:
    """Return the threads that wait for the end of a process of the work, the first started first."""
    return [thread for thread in threading.enumerate() if thread.name == f"thinking-{run.id}"]


def test_a_process_that_is_killed_is_said_to_have_died_at_once(store: Store, trained: Run, start: Start) -> None:
    process = start(SLEEPS)
    assert WORK.status(store, trained.id) == STARTING
    process.kill()
    wait_for(lambda: not WORK.status(store, trained.id).active)
    assert WORK.status(store, trained.id) == Progress(WORK.died)


def test_a_process_that_lingers_after_its_last_word_says_nothing_of_its_successor(
    store: Store, trained: Run, start: Start
) -> None:
    lingering = start(SPEAKS_AND_LINGERS)
    wait_for(lambda: WORK.status(store, trained.id) == Progress("Thought."))
    [waiter] = waiters(trained)
    successor = start(SLEEPS)
    lingering.kill()
    waiter.join(30)
    assert not waiter.is_alive() and WORK.status(store, trained.id) == STARTING
    successor.kill()
    wait_for(lambda: WORK.status(store, trained.id) == Progress(WORK.died))


def test_a_process_that_lingers_says_nothing_of_work_that_is_done_without_a_start(
    store: Store, trained: Run, start: Start
) -> None:
    lingering = start(SPEAKS_AND_LINGERS)
    wait_for(lambda: WORK.status(store, trained.id) == Progress("Thought."))
    [waiter] = waiters(trained)
    with WORK.doing(store, trained.id, lambda line: None) as (say, _):
        say("Thinking …")
        lingering.kill()
        waiter.join(30)
        assert not waiter.is_alive() and WORK.status(store, trained.id) == Progress("Thinking …", True)
