"""Talking to any server of the OpenAI chat-completions protocol: our worker, a vLLM, an Ollama.

Owns the requests and the meaning of their answers. Does not know torch, nor which server is at the other end.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from errors import WorkerError
from models.wire import (
    Completion,
    Delta,
    Message,
    Sampling,
    TokenLogps,
    completions,
    deltas,
    refusal,
    request_body,
    strange,
    token_logps,
)

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_STOP_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Endpoint:
    """The address and key of a server; safe to use from several threads at once.

    base_url: the part before `/chat/completions`, usually ending in `/v1`.
    timeout_seconds: how long the server may be silent before the request is given up. name: what it is called in
    sentences, for a worker of ours, whose address says nothing to anybody; "" for its address.
    """

    base_url: str
    api_key: str
    timeout_seconds: float = 300.0
    name: str = ""

    @property
    def where(self) -> str:
        """What the server is called in sentences."""
        return self.name or self.base_url

    def __repr__(self) -> str:
        return f"Endpoint({self.base_url!r})"

    def stream(
        self,
        model: str,
        messages: list[Message],
        sampling: Sampling,
        stop: threading.Event | None = None,
        *,
        with_usage: bool = False,
    ) -> Iterator[Delta]:
        """Yield the answer as it is written. Closing the iterator or setting `stop` cancels it at the server.

        with_usage: ask how many tokens there were; the last piece has it, or None where the server does not tell.
        After `stop` the iterator just ends, within a tenth of a second. Raises WorkerError when the server refuses,
        is silent for too long, breaks off or answers with something else.
        """
        inbox: queue.SimpleQueue[Delta | Exception | None] = queue.SimpleQueue()
        request = _Exchange(self, request_body(model, messages, sampling, stream=True, with_usage=with_usage))
        threading.Thread(target=request.run, args=[inbox.put], name="answer-reader", daemon=True).start()
        try:
            while stop is None or not stop.is_set():
                try:
                    item = inbox.get(timeout=None if stop is None else _STOP_POLL_SECONDS)
                except queue.Empty:
                    continue
                if item is None:
                    return
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            request.abort()

    def complete(self, model: str, messages: list[Message], sampling: Sampling, n: int = 1) -> list[Completion]:
        """Return `n` whole answers to one prompt, each drawn with a seed of its own.

        A server that does not know `n` is asked again until there are enough. Raises WorkerError as `stream` does.
        """
        answers: list[Completion] = []
        seed = random.getrandbits(31) if sampling.seed is None else sampling.seed
        while len(answers) < n:
            body = request_body(model, messages, replace(sampling, seed=seed + len(answers)), stream=False)
            body["n"] = n - len(answers)
            answers += completions(self._request("POST", "/chat/completions", body), self.where, self.api_key.strip())
        return answers[:n]

    def models(self) -> list[str]:
        """Return the names of the models the server offers. Raises WorkerError as `stream` does."""
        return [entry["id"] for entry in self._models()]

    def context_length(self, model: str | None = None) -> int | None:
        """Return how many tokens the model reads at most, its answer included; None where the server does not tell.

        model: its name; None for the first one, as all models of our worker are alike. Raises WorkerError as `stream`.
        """
        entries = [entry for entry in self._models() if model is None or entry["id"] == model]
        for name in ("context_length", "max_model_len"):  # ours and OpenRouter's, and vLLM's
            if entries and type(entries[0].get(name)) is int:
                return entries[0][name]
        return None

    def token_logps(self, model: str, messages: list[Message], response: str) -> TokenLogps:
        """Return the log-probability of every token of a text as the answer to a conversation. Only our worker can.

        model: "base" or "run-<id>". Raises WorkerError when it is unknown or the text too long, and as `stream` does.
        """
        body = {"model": model, "messages": messages, "response": response}
        return token_logps(self._request("POST", "/token_logps", body), self.where)

    def _models(self) -> list[dict[str, Any]]:
        try:
            return [{**entry, "id": entry["id"]} for entry in self._request("GET", "/models", None)["data"]]
        except (KeyError, TypeError) as error:
            raise strange(self.where) from error

    def client(self) -> httpx.Client:
        """Open a connection. A proxy from the environment is used for other machines, never for this one."""
        key = self.api_key.strip()
        if not (key.isascii() and key.isprintable()):
            raise WorkerError(f"The API key for {self.where} holds characters that no key has. Copy it again.")
        url = httpx.URL(self.base_url)
        timeout = httpx.Timeout(self.timeout_seconds, connect=10.0)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        # Reading the certificates of all authorities costs 30 ms a client: only where they are needed.
        secure = url.scheme == "https"
        return httpx.Client(timeout=timeout, headers=headers, trust_env=url.host not in _LOOPBACK, verify=secure)

    def url(self, path: str) -> str:
        """Return the whole address of a path of the protocol."""
        return self.base_url.rstrip("/") + path

    def _request(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        try:
            with self.client() as client:
                response = client.request(method, self.url(path), json=body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self.unreachable(error) from error
        if response.status_code != 200:
            raise self.refused(response, response.content)
        try:
            return response.json()
        except (ValueError, RecursionError) as error:
            raise strange(self.where) from error

    def refused(self, response: httpx.Response, content: bytes) -> WorkerError:
        """Turn an answer that is none into a sentence; a server that repeats the key does not get it shown."""
        error = refusal(self.where, response.status_code, content, self.api_key.strip(), speaks_for_itself=bool(self.name))
        error.status, error.retry_after = response.status_code, _seconds(response.headers.get("retry-after"))
        return error

    def unreachable(self, error: Exception) -> WorkerError:
        """Turn a failure of the connection into a sentence."""
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return WorkerError(f"Nothing answers at {self.where} ({error}). Is the server running there?")
        if isinstance(error, httpx.TimeoutException):
            seconds = f"{self.timeout_seconds:g}"
            return WorkerError(f"{self.where} said nothing for {seconds} seconds. Try again, or ask for less.")
        if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
            return WorkerError(f"{self.base_url} is not an address. It should look like http://127.0.0.1:8000/v1.")
        return WorkerError(f"The connection to {self.where} broke off ({error}). Try again.")


def _seconds(retry_after: str | None) -> float | None:
    """Return the seconds of a Retry-After header: a number, or a date; None for anything else."""
    if retry_after is None:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(retry_after)
        return max(0.0, when.timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


class _Exchange:
    """One streamed request, read in a thread of its own so that it can be left at any moment."""

    def __init__(self, endpoint: Endpoint, body: dict[str, Any]) -> None:
        self._endpoint = endpoint
        self._body = body
        self._lock = threading.Lock()
        self._aborted = False
        self._response: httpx.Response | None = None

    def run(self, put: Callable[[Any], None]) -> None:
        """Put every `Delta`, then None, or the error that ended it."""
        endpoint = self._endpoint
        try:
            with (
                endpoint.client() as client,
                client.stream("POST", endpoint.url("/chat/completions"), json=self._body) as response,
            ):
                with self._lock:
                    self._response = response
                    if self._aborted:
                        return
                if response.status_code != 200:
                    put(endpoint.refused(response, response.read()))
                    return
                key, with_usage = endpoint.api_key.strip(), "stream_options" in self._body
                for delta in deltas(response.iter_bytes(), endpoint.where, key, with_usage):
                    put(delta)
            put(None)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            put(endpoint.unreachable(error))
        except Exception as error:  # the reading side raises it again
            put(error)
        finally:
            with self._lock:
                self._response = None

    def abort(self) -> None:
        """Break the connection, which wakes the reading thread and tells the server to stop. Twice is no harm."""
        with self._lock:
            self._aborted = True
            if self._response is not None:
                _shut_down(self._response)


def _shut_down(response: httpx.Response) -> None:
    """Shut the socket down both ways: closing it would not wake a thread that is reading from it."""
    stream = response.extensions.get("network_stream")
    connection = stream.get_extra_info("socket") if stream is not None else None
    if connection is not None:
        try:
            connection.shutdown(2)
        except OSError:  # already closed by the other side
            pass

