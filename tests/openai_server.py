"""A small OpenAI-compatible server for tests: it speaks as slowly, dies as early or refuses as often as it is told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from models.client import Endpoint


@dataclass
class Manner:
    """How one model answers: its words, seconds between them, and what goes wrong.

    dies_after: words after which the connection breaks; refuses: an HTTP status and sentence; fits: the most
    messages it takes; waits_for: requests that must be open at once before the first word is said.
    """

    words: list[str] = field(default_factory=lambda: ["Hello", " there", "."])
    pause_seconds: float = 0.0
    dies_after: int | None = None
    refuses: tuple[int, str] | None = None
    fits: int | None = None
    waits_for: int = 1
    finish_reason: str = "stop"


class SpeakingServer:
    """What the server was asked, and how its models answer."""

    def __init__(self, port: int, manners: dict[str, Manner]) -> None:
        self.endpoint = Endpoint(f"http://127.0.0.1:{port}/v1", "secret")
        self.manners = manners
        self.requests: list[dict[str, Any]] = []
        self.open, self.cut = 0, 0  # requests being answered; answers that the client broke off
        self.most = 0  # requests that were open at once, since there was none
        self.said = 0  # words sent, in all answers
        self.changed = threading.Condition()

    def wait(self, true: Any, seconds: float = 60.0) -> bool:
        """Wait until `true()` holds; return whether it did in time."""
        with self.changed:
            return self.changed.wait_for(true, seconds)


class FakeWorkers:
    """Stands for `Workers`: the endpoint of each base model is a server of the test, or an error to raise."""

    def __init__(self, servers: dict[str, SpeakingServer | Exception]) -> None:
        self.servers = servers
        self.states: dict[str, str] = {}
        self.loaded = threading.Event()  # clear it, and every model goes on loading until it is set
        self.loaded.set()

    @contextmanager
    def using(self, model: str) -> Iterator[Endpoint]:
        yield self.endpoint(model)

    def endpoint(self, model: str) -> Endpoint:
        self.loaded.wait(60)
        server = self.servers[model]
        if isinstance(server, Exception):
            raise server
        return server.endpoint

    def state(self, model: str) -> str:
        return self.states.get(model, "ready")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        speaking: SpeakingServer = self.server.speaking  # type: ignore[attr-defined]
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        manner = speaking.manners[body["model"]]
        with speaking.changed:
            speaking.requests.append(body)
            speaking.open += 1
            speaking.most = max(speaking.most, speaking.open)
            speaking.changed.notify_all()
            # Not `open`: the other one may have been answered before this thread is awake.
            together = speaking.changed.wait_for(lambda: speaking.most >= manner.waits_for, 60.0)
        try:
            if manner.refuses or not together:
                self._refuse(*(manner.refuses or (500, "the requests were not sent together")))
            elif manner.fits is not None and len(body["messages"]) > manner.fits:
                self._refuse(400, "The conversation has 9 tokens and the model reads at most 8, its answer included.")
            else:
                self._speak(manner, speaking)
        except OSError:
            with speaking.changed:
                speaking.cut += 1
        finally:
            self.close_connection = True
            with speaking.changed:
                speaking.open -= 1
                speaking.most = speaking.most if speaking.open else 0
                speaking.changed.notify_all()

    def _refuse(self, status: int, sentence: str) -> None:
        content = json.dumps({"error": {"message": sentence}}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _speak(self, manner: Manner, speaking: SpeakingServer) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for number, word in enumerate(manner.words):
            if number == manner.dies_after:
                return
            self._event({"delta": {"content": word}, "finish_reason": None})
            with speaking.changed:
                speaking.said += 1
                speaking.changed.notify_all()
            time.sleep(manner.pause_seconds)
        self._event({"delta": {}, "finish_reason": manner.finish_reason})
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, choice: dict[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps({"choices": [{"index": 0, **choice}]}).encode() + b"\n\n")


@contextmanager
def speaking_server(**manners: Manner) -> Iterator[SpeakingServer]:
    """Serve the manners of `base` and of runs (`run_3` is the model `run-3`) for the length of a block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    named = {name.replace("_", "-"): manner for name, manner in manners.items()}
    server.speaking = SpeakingServer(server.server_port, named)  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.speaking  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
