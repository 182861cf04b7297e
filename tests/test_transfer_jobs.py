"""One job at a time, its state readable by anyone, its errors shown and never lost."""

from __future__ import annotations

import threading
import time

import pytest

from errors import ConfigError, WorkerError
from transfer.jobs import Jobs, JobState, Progress


class Done:
    def sentence(self) -> str:
        return "All done."


def ended(jobs: Jobs) -> JobState:
    """Wait for the job's end."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if (state := jobs.state) and not state.running:
            return state
        time.sleep(0.005)
    raise AssertionError("the job did not end")


def test_a_job_shows_its_progress_and_then_its_report() -> None:
    jobs, go_on = Jobs(), threading.Event()
    stepped = threading.Event()

    def work(progress: Progress, stop: threading.Event) -> Done:
        progress(3, 10)
        stepped.set()
        go_on.wait(5)
        return Done()

    assert jobs.state is None
    jobs.start("Generating", 7, work)
    assert stepped.wait(5)
    state = jobs.state
    assert state and state.running and (state.title, state.project_id) == ("Generating", 7)
    assert (state.done, state.total) == (3, 10)
    with pytest.raises(ConfigError, match="Generating is still at work"):
        jobs.start("Another", 7, work)
    go_on.set()
    assert (ended(jobs).message, ended(jobs).failed) == ("All done.", False)
    jobs.start("Another", 7, work)
    assert ended(jobs).title == "Another"


def test_cancelling_sets_the_stop_of_the_running_job_only() -> None:
    jobs = Jobs()

    def work(progress: Progress, stop: threading.Event) -> Done:
        assert stop.wait(5)
        return Done()

    jobs.cancel()
    jobs.start("Generating", 1, work)
    jobs.cancel()
    assert not ended(jobs).failed


@pytest.mark.parametrize(
    ("error", "says"),
    [(WorkerError("The worker died."), "The worker died."), (KeyError("x"), "unexpected error: KeyError")],
)
def test_errors_end_the_job_with_a_sentence(error: Exception, says: str) -> None:
    jobs = Jobs()

    def work(progress: Progress, stop: threading.Event) -> Done:
        raise error

    jobs.start("Generating", 1, work)
    assert ended(jobs).failed and says in ended(jobs).message
