"""Workers that nobody uses are ended and come back; those in use stay."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.tiny_models import save_tiny_model

from models.client import Sampling, Workers
from models.process import WorkerProcess

MESSAGES = [{"role": "user", "content": "Hello"}]
IDLE_SECONDS = 2.0
SHORT = Sampling(temperature=0, max_tokens=5)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that reads and writes long answers."""
    return str(save_tiny_model(tmp_path_factory.mktemp("model"), max_position_embeddings=100_000))


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    running = Workers(tmp_path / "runs", device="cpu", idle_seconds=IDLE_SECONDS)
    yield running
    running.stop()


def becomes(workers: Workers, model: str, state: str, seconds: float = 30.0) -> bool:
    """Wait until the worker is in a state."""
    deadline = time.monotonic() + seconds
    while workers.state(model) != state and time.monotonic() < deadline:
        time.sleep(0.02)
    return workers.state(model) == state


def ended(process: WorkerProcess, seconds: float = 30.0) -> bool:
    """Wait until a process has ended."""
    deadline = time.monotonic() + seconds
    while process.alive and time.monotonic() < deadline:
        time.sleep(0.02)
    return not process.alive


def test_an_idle_worker_is_ended_and_the_next_request_starts_it_again(workers: Workers, model: str) -> None:
    assert workers._watcher is None
    (first,) = workers.endpoint(model).complete("base", MESSAGES, SHORT)
    process = workers._slots[model].process
    assert process is not None and workers._watcher is not None
    assert becomes(workers, model, "off") and ended(process)
    assert workers.last_error(model) == ""
    assert workers.endpoint(model).complete("base", MESSAGES, SHORT) == [first]
    assert workers.state(model) == "ready" and workers._slots[model].process is not process


def test_a_request_that_runs_for_longer_is_not_cut(workers: Workers, model: str) -> None:
    endpoint = workers.endpoint(model)
    tokens = 2500
    for _ in range(5):  # one long answer, and a longer one on a machine that is fast
        started = time.monotonic()
        last = list(endpoint.stream("base", MESSAGES, Sampling(temperature=0, max_tokens=tokens)))[-1]
        seconds = time.monotonic() - started
        assert last.finish_reason == "length"
        if seconds > 3 * IDLE_SECONDS:
            break
        tokens = min(90_000, int(tokens * max(2.0, 4 * IDLE_SECONDS / seconds)))
    assert seconds > 3 * IDLE_SECONDS and workers.state(model) == "ready"
    assert becomes(workers, model, "off")


@pytest.mark.slow
def test_a_worker_that_is_held_stays_without_requests(workers: Workers, model: str) -> None:
    with workers.using(model) as endpoint:
        with workers.using(model) as same:
            assert same == endpoint
        assert not becomes(workers, model, "off", 3 * IDLE_SECONDS)
        assert endpoint.complete("base", MESSAGES, SHORT)
    assert becomes(workers, model, "off")


@pytest.mark.slow
def test_a_worker_asked_for_again_and_again_stays(tmp_path: Path, model: str) -> None:
    running = Workers(tmp_path / "runs", device="cpu", idle_seconds=4.0)  # a busy machine may pause for seconds
    try:
        endpoint = running.endpoint(model)
        for _ in range(12):
            time.sleep(0.5)
            assert running.endpoint(model) == endpoint
        assert running.state(model) == "ready"
    finally:
        running.stop()


def test_the_watching_thread_leaves_when_no_worker_is_left(workers: Workers, model: str) -> None:
    workers.endpoint(model)
    workers.stop()
    deadline = time.monotonic() + 30
    while workers._watcher is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert workers._watcher is None and workers.state(model) == "off"


def test_without_a_limit_nobody_watches(tmp_path: Path, model: str) -> None:
    running = Workers(tmp_path / "runs", device="cpu", idle_seconds=math.inf)
    try:
        running.endpoint(model)
        assert running._watcher is None
    finally:
        running.stop()
