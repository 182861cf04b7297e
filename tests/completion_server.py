"""A chat-completions server for tests of candidates: it answers whole texts as a test tells it to, or misbehaves."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from models.client import Endpoint

Answer = Callable[[dict[str, Any]], str | int | bytes]


class CompletionServer:
    """A chat-completions server whose `answer` gives a text, an HTTP status, or raw bytes.

    headers: sent with every answer that is no text; status: that of an answer of raw bytes.
    """

    def __init__(self) -> None:
        self.answer: Answer = lambda body: f"{body['messages'][-1]['content']} {body['seed']}"
        self.headers: dict[str, str] = {}
        self.status: Callable[[bytes], int] = lambda content: 200
        self.requests: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.open = self.most_open = 0
        self.lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server.lock:
                    server.requests.append(body)
                    server.keys.add(self.headers.get("Authorization", ""))
                    server.open += 1
                    server.most_open = max(server.most_open, server.open)
                with suppress(OSError):
                    try:
                        answer = server.answer(body)
                    finally:
                        with server.lock:  # before it is sent: whoever has it may ask again at once
                            server.open -= 1
                    server._send(self, answer)

            def log_message(self, *args: Any) -> None:
                pass

        class Listener(ThreadingHTTPServer):
            request_queue_size = 128
            daemon_threads = True

        self._http = Listener(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.endpoint = Endpoint(f"http://127.0.0.1:{self._http.server_port}/v1", "secret", timeout_seconds=120.0)

    def _send(self, handler: BaseHTTPRequestHandler, answer: str | int | bytes) -> None:
        if isinstance(answer, str):
            choice = {"message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
            content = json.dumps({"choices": [choice], "usage": {"completion_tokens": 3}}).encode()
        else:
            content = b'{"error": {"message": "no"}}' if isinstance(answer, int) else answer
        status = answer if isinstance(answer, int) else 200 if isinstance(answer, str) else self.status(answer)
        handler.send_response(status)
        for name, value in () if isinstance(answer, str) else self.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


class Local:
    """Stands for `Workers` with one server for every model."""

    def __init__(self, server: CompletionServer) -> None:
        self.server, self.asked = server, 0

    def endpoint(self, model: str) -> Endpoint:
        self.asked += 1
        return self.server.endpoint
