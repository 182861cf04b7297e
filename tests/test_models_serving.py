"""The worker's HTTP side with a made-up model behind it: what a reader who leaves, and an error, do to the answers."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import uvicorn

from errors import ModelError, WorkerError
from models.client import Completion, Delta, Endpoint, Sampling
from models.engine import Piece
from models.serving import build_app

MESSAGES = [{"role": "user", "content": "Hi"}]


class FakeTicket:
    def __init__(self, give: Callable[[Piece], None]) -> None:
        self.give = give
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        self.cancelled.set()


class FakeService:
    """Gives every answer the pieces in `script`, and keeps what was asked for."""

    def __init__(self) -> None:
        self.engine: object | None = object()
        self.script: list[Piece] = []
        self.tickets: list[FakeTicket] = []
        self.samplings: list[Sampling] = []
        self.refusal: Exception | None = None
        self.context_length: int | None = None

    def names(self) -> list[str]:
        return ["base"]

    def prepare(self, asked: Any) -> Any:
        if self.refusal is not None:
            raise self.refusal
        return SimpleNamespace(prompt_ids=[1, 2, 3], fingerprint="sha256:abc")

    def submit(self, prepared: Any, sampling: Sampling, give: Callable[[Piece], None]) -> FakeTicket:
        ticket = FakeTicket(give)
        self.tickets.append(ticket)
        self.samplings.append(sampling)
        threading.Thread(target=lambda: [give(piece) for piece in self.script]).start()
        return ticket


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[FakeService, Endpoint]]:
    service = FakeService()
    listener = socket.create_server(("127.0.0.1", 0))
    app = build_app(service, "secret")  # type: ignore[arg-type]
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    thread = threading.Thread(target=lambda: server.run(sockets=[listener]), daemon=True)
    thread.start()
    yield service, Endpoint(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", "secret", timeout_seconds=20)
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def service(running: tuple[FakeService, Endpoint]) -> FakeService:
    running[0].__init__()  # type: ignore[misc]
    return running[0]


@pytest.fixture
def endpoint(running: tuple[FakeService, Endpoint]) -> Endpoint:
    return running[1]




def test_pieces_are_streamed_as_they_come(service: FakeService, endpoint: Endpoint) -> None:
    service.script = [Piece("a", 1)]
    stream = endpoint.stream("base", MESSAGES, Sampling())
    assert next(stream) == Delta("a")
    service.tickets[0].give(Piece("b", 2, "length"))
    assert list(stream) == [Delta("b"), Delta("", "length")]


def test_a_reader_who_leaves_a_stream_cancels_it(service: FakeService, endpoint: Endpoint) -> None:
    service.script = [Piece("a", 1)]
    stream = endpoint.stream("base", MESSAGES, Sampling())
    next(stream)
    assert not service.tickets[0].cancelled.is_set()
    stream.close()
    assert service.tickets[0].cancelled.wait(20)


def test_a_reader_who_leaves_before_the_answer_is_whole_cancels_all_of_them(
    service: FakeService, endpoint: Endpoint
) -> None:
    hasty = Endpoint(endpoint.base_url, endpoint.api_key, timeout_seconds=0.5)
    with pytest.raises(WorkerError, match="said nothing"):
        hasty.complete("base", MESSAGES, Sampling(), n=3)
    deadline = time.monotonic() + 20
    while len(service.tickets) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(service.tickets) == 3
    assert all(ticket.cancelled.wait(20) for ticket in service.tickets)


def test_several_answers_are_put_together_by_choice_and_seeded_apart(service: FakeService, endpoint: Endpoint) -> None:
    service.script = [Piece("x", 1), Piece("y", 2), Piece("z", 3, "stop")]
    found = endpoint.complete("base", MESSAGES, Sampling(seed=40), n=3)
    assert found == [Completion("xyz", "stop", 3)] * 3
    assert [sampling.seed for sampling in service.samplings] == [40, 41, 42]


def test_an_error_while_writing_reaches_the_reader_either_way(service: FakeService, endpoint: Endpoint) -> None:
    service.script = [Piece("x", 1), Piece("", 1, error="The GPU's memory is full.")]
    with pytest.raises(WorkerError, match="memory is full"):
        endpoint.complete("base", MESSAGES, Sampling())
    stream = endpoint.stream("base", MESSAGES, Sampling())
    assert next(stream) == Delta("x")
    with pytest.raises(WorkerError, match="memory is full"):
        next(stream)


def test_what_the_model_refuses_is_the_users_to_mend(service: FakeService, endpoint: Endpoint) -> None:
    service.refusal = ModelError("run-1 was trained on another model.")
    with pytest.raises(WorkerError, match=r"refused the request \(400\): run-1 was trained on another"):
        list(endpoint.stream("base", MESSAGES, Sampling()))


def test_health_tells_loading_from_ready_and_nothing_else(service: FakeService, endpoint: Endpoint) -> None:
    address = endpoint.base_url.replace("/v1", "/health")
    assert httpx.get(address, trust_env=False).json() == {"status": "ready"}
    service.engine = None
    assert httpx.get(address, trust_env=False).json() == {"status": "loading"}


@pytest.mark.parametrize("path", ["/v1/models", "/v1/activity", "/v1/chat/completions", "/v1/token_logps"])
@pytest.mark.parametrize("key", ["", "Bearer", "Bearer secret2", "secret", "Bearer Secret", "Bearer \xe9"])
def test_every_other_path_asks_for_the_token(path: str, key: str, service: FakeService, endpoint: Endpoint) -> None:
    method = "GET" if path in ("/v1/models", "/v1/activity") else "POST"
    headers = {"authorization": key.encode("latin-1")} if key else {}
    response = httpx.request(method, endpoint.base_url[:-3] + path, headers=headers, trust_env=False)
    assert response.status_code == 401 and response.json()["error"]["type"] == "authentication_error"
    assert not service.tickets


def test_a_body_that_makes_no_sense_is_refused_in_openais_words(service: FakeService, endpoint: Endpoint) -> None:
    with endpoint.client() as client:
        response = client.post(endpoint.url("/chat/completions"), content=b"{")
    assert response.status_code == 400 and "not JSON" in response.json()["error"]["message"]
