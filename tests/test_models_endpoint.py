"""The client against servers that behave and servers that do not."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from errors import WorkerError
from models.client import Completion, Delta, Endpoint, Sampling, Usage

MESSAGES = [{"role": "user", "content": "Hi"}]
Reply = Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]


@contextmanager
def server(reply: Reply) -> Iterator[Endpoint]:
    """A server on a free port that answers every request by `reply`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            reply(self, json.loads(self.rfile.read(int(self.headers["content-length"]))))

        def do_GET(self) -> None:
            reply(self, {})

        def log_message(self, *arguments: Any) -> None: ...

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield Endpoint(f"http://127.0.0.1:{running.server_port}/v1", "key", timeout_seconds=5)
    finally:
        running.shutdown()
        running.server_close()


def answer(status: int, body: Any) -> Reply:
    def reply(handler: BaseHTTPRequestHandler, request: dict[str, Any]) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        handler.send_response(status)
        handler.send_header("content-length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return reply


def chunk(text: str, reason: str | None = None) -> bytes:
    body = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": reason}]}
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n".encode()


def both(endpoint: Endpoint) -> Iterator[Callable[[], Any]]:
    yield lambda: list(endpoint.stream("m", MESSAGES, Sampling()))
    yield lambda: endpoint.complete("m", MESSAGES, Sampling())


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, {"error": {"message": "bad key"}}, "refused the key .401.: bad key"),
        (404, {"error": {"message": "model 'm' not found"}}, "no such model.*'m' not found"),
        (404, {"error": "model not found"}, "no such model.*: model not found"),
        (404, {"detail": "Not Found"}, "Not Found.*Check the model's name and the address"),
        (429, {"error": {"message": "slow down"}}, "too much to do .429.: slow down"),
        (500, b"<html>oops</html>", r"failed \(500\)\. Try again"),
        (503, {"object": "error", "message": "loading"}, r"failed \(503\): loading"),
        (400, {"error": {"message": "`n` is wrong"}}, "refused the request .400.: `n` is wrong"),
    ],
)
def test_a_refusal_is_a_sentence_with_the_servers_own_words(status: int, body: Any, words: str) -> None:
    with server(answer(status, body)) as endpoint:
        for ask in both(endpoint):
            with pytest.raises(WorkerError, match=words):
                ask()


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"data: nonsense\n\n", {"choices": "none"}, [1], {"data": 3}])
def test_another_protocol_is_a_sentence_about_the_address(body: Any) -> None:
    with server(answer(200, body)) as endpoint:
        with pytest.raises(WorkerError, match="OpenAI chat protocol"):
            endpoint.complete("m", MESSAGES, Sampling())
        with pytest.raises(WorkerError, match="OpenAI chat protocol|broke off"):
            list(endpoint.stream("m", MESSAGES, Sampling()))
        with pytest.raises(WorkerError, match="OpenAI chat protocol"):
            endpoint.models()


def test_nobody_at_the_address_is_a_sentence() -> None:
    with server(answer(200, {})) as endpoint:
        pass
    for ask in both(endpoint):
        with pytest.raises(WorkerError, match="Nothing answers at .* Is the server running"):
            ask()


@pytest.mark.parametrize("address", ["nonsense", "ftp://127.0.0.1/v1", "http://[", ""])
def test_an_address_that_is_none_is_a_sentence(address: str) -> None:
    for ask in both(Endpoint(address, "")):
        with pytest.raises(WorkerError, match="not an address|Nothing answers"):
            ask()


@pytest.mark.parametrize("key", ["schl\xfcssel", "two\nlines", "\u4f60"])
def test_a_key_that_cannot_travel_is_a_sentence(key: str) -> None:
    for ask in both(Endpoint("http://127.0.0.1:9/v1", key)):
        with pytest.raises(WorkerError, match="API key"):
            ask()


def test_a_silent_server_is_given_up() -> None:
    released = threading.Event()
    with server(lambda handler, request: (released.wait(10), None)[1]) as endpoint:
        hasty = Endpoint(endpoint.base_url, "key", timeout_seconds=0.2)
        for ask in both(hasty):
            with pytest.raises(WorkerError, match="said nothing for 0.2 seconds"):
                ask()
        released.set()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (chunk("a"), "broke off in the middle"),
        (chunk("a") + b'data: {"error": {"message": "out of memory"}}\n\n', "out of memory"),
    ],
)
def test_a_stream_that_does_not_end_well_gives_its_beginning_and_then_an_error(body: bytes, words: str) -> None:
    with server(answer(200, body)) as endpoint:
        stream = endpoint.stream("m", MESSAGES, Sampling())
        assert next(stream) == Delta("a")
        with pytest.raises(WorkerError, match=words):
            next(stream)


def test_lines_end_at_line_feeds_only_and_comments_are_skipped() -> None:
    body = b": ping\r\n\r\n" + chunk("a\u2028b\x85c") + chunk("", "stop").replace(b"\n", b"\r\n") + b"data: [DONE]\n\n"
    with server(answer(200, body)) as endpoint:
        assert list(endpoint.stream("m", MESSAGES, Sampling())) == [Delta("a\u2028b\x85c"), Delta("", "stop")]


def data(**body: Any) -> bytes:
    return f"data: {json.dumps(body)}\n\n".encode()


NUMBERS = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
END = b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("body", "last"),
    [
        (chunk("b", "length") + data(choices=[], usage=NUMBERS) + END, Delta("b", "length", Usage(7, 2))),
        (chunk("b", "length") + data(choices=[], usage=NUMBERS), Delta("b", "length", Usage(7, 2))),
        (data(choices=[{"delta": {}, "finish_reason": "stop"}], usage=NUMBERS) + END, Delta("", "stop", Usage(7, 2))),
        (data(choices=[{"delta": {"content": "b"}}], usage=None) + chunk("", "stop") + END, Delta("", "stop")),
        (chunk("b", "stop") + END, Delta("b", "stop")),
        (chunk("b", "stop") + data(choices=[], usage={"prompt_tokens": "7"}) + END, Delta("b", "stop")),
        (data(choices=[], usage=NUMBERS) + END, Delta("", None, Usage(7, 2))),
    ],
)
def test_usage_is_on_the_last_piece_wherever_a_server_puts_it_or_does_not(body: bytes, last: Delta) -> None:
    asked = []

    def reply(handler: BaseHTTPRequestHandler, request: dict[str, Any]) -> None:
        asked.append(request.get("stream_options"))
        answer(200, chunk("a") + body)(handler, request)

    with server(reply) as endpoint:
        with_usage = list(endpoint.stream("m", MESSAGES, Sampling(), with_usage=True))
        without = list(endpoint.stream("m", MESSAGES, Sampling()))
    assert with_usage[0] == Delta("a") and with_usage[-1] == last
    assert [piece.usage for piece in with_usage[:-1]] == [None] * (len(with_usage) - 1)
    assert all(piece.usage is None for piece in without)
    assert "".join(piece.text for piece in without) == "".join(piece.text for piece in with_usage)
    assert asked == [{"include_usage": True}, None]


@pytest.mark.parametrize(
    ("entries", "first", "second"),
    [
        ([{"id": "m", "context_length": 512}, {"id": "n", "context_length": 64}], 512, 64),
        ([{"id": "m", "max_model_len": 4096}, {"id": "n"}], 4096, None),
        ([{"id": "m", "context_length": None}, {"id": "n", "context_length": "many"}], None, None),
        ([], None, None),
    ],
)
def test_the_length_of_the_context_is_read_where_a_server_tells_it(
    entries: list, first: int | None, second: int | None
) -> None:
    with server(answer(200, {"data": entries})) as endpoint:
        assert (endpoint.context_length(), endpoint.context_length("n")) == (first, second)


@pytest.mark.parametrize(
    "body", [{}, {"tokens": ["a"], "logps": [-1.0], "base_logps": []}, {"tokens": "a", "logps": [None], "base_logps": [0]}, []]
)
def test_scores_that_do_not_match_are_another_protocol(body: Any) -> None:
    with server(answer(200, body)) as endpoint, pytest.raises(WorkerError, match="OpenAI chat protocol"):
        endpoint.token_logps("run-1", MESSAGES, "a")


def endless(gone: threading.Event) -> Reply:
    def reply(handler: BaseHTTPRequestHandler, request: dict[str, Any]) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(chunk("first"))
        handler.wfile.flush()
        handler.connection.settimeout(10)
        gone.set() if handler.connection.recv(1) == b"" else None  # the client has hung up

    return reply


def test_stop_ends_a_stream_that_is_waiting_and_hangs_up() -> None:
    gone, stop = threading.Event(), threading.Event()
    with server(endless(gone)) as endpoint:
        stream = endpoint.stream("m", MESSAGES, Sampling(), stop)
        assert next(stream) == Delta("first")
        threading.Timer(0.1, stop.set).start()
        started = time.monotonic()
        assert list(stream) == []
        assert time.monotonic() - started < 2
        assert gone.wait(5)


def test_closing_the_iterator_hangs_up() -> None:
    gone = threading.Event()
    with server(endless(gone)) as endpoint:
        stream = endpoint.stream("m", MESSAGES, Sampling())
        next(stream)
        stream.close()
        assert gone.wait(5)


def test_a_server_that_ignores_n_is_asked_again_with_other_seeds() -> None:
    seeds = []

    def reply(handler: BaseHTTPRequestHandler, request: dict[str, Any]) -> None:
        seeds.append(request["seed"])
        choice = {"message": {"content": f"t{len(seeds)}"}, "finish_reason": "length"}
        answer(200, {"choices": [choice], "usage": {"completion_tokens": 7}})(handler, request)

    with server(reply) as endpoint:
        found = endpoint.complete("m", MESSAGES, Sampling(seed=3), n=3)
    assert found == [Completion(f"t{number}", "length", 7) for number in (1, 2, 3)]
    assert seeds == [3, 4, 5]


def test_the_key_travels_as_a_bearer_token_and_is_not_shown() -> None:
    seen = []

    def reply(handler: BaseHTTPRequestHandler, request: dict[str, Any]) -> None:
        seen.append((handler.path, handler.headers["authorization"]))
        answer(200, {"data": [{"id": "base"}]})(handler, request)

    with server(reply) as endpoint:
        assert endpoint.models() == ["base"]
        assert "key" not in repr(endpoint)
    assert seen == [("/v1/models", "Bearer key")]


def test_a_proxy_of_the_environment_is_not_used_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    with server(answer(200, {"data": []})) as endpoint:
        assert endpoint.models() == []
