"""One side's answer: a thread reads an endpoint, anyone may look at how far it is. Does not know the other side."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from chat.provenance import provenance
from chat.speakers import Speaker
from chat.transcript import Message, without_oldest_exchange
from errors import AppError, WorkerError
from models.client import Endpoint, Sampling, Workers
from storage import Store

DEATH_CHECKS, DEATH_CHECK_SECONDS = 20, 0.05
ENDED = ("done", "stopped", "failed")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """One side's answer at one moment.

    state: "loading" (the model is being started), "waiting" (for the first token), "writing", or one of ENDED.
    finish_reason: "stop" | "length" as the model says, "stopped" by a person, "error". error: its sentence.
    tokens: pieces received, about one a token; seconds: since the first request, or the first piece
    once there is one. left_out: oldest messages that were not sent because they did not fit. context_used: tokens of the
    conversation with this answer, and context_limit: what the model reads at most; None where the server does not tell.
    """

    speaker: Speaker
    seed: int | None
    text: str = ""
    state: str = "loading"
    finish_reason: str | None = None
    error: str = ""
    tokens: int = 0
    seconds: float = 0.0
    left_out: int = 0
    context_used: int | None = None
    context_limit: int | None = None

    @property
    def is_done(self) -> bool:
        """True when the answer will not grow any more."""
        return self.state in ENDED

    @property
    def tokens_per_second(self) -> float | None:
        """Speed since the first token; None while it cannot be told."""
        return (self.tokens - 1) / self.seconds if self.tokens > 1 and self.seconds > 0.02 else None

    def stopped(self) -> Answer:
        """Return this answer as a person's stop leaves it."""
        return self if self.is_done else replace(self, state="stopped", finish_reason="stopped")


@dataclass(frozen=True)
class Request:
    """What one side is asked. chat_id, number: where the answer is stored (chat_id None: nowhere) and on which side;
    settings: stored with it, beside what the answer itself knows; after: called once it is stored."""

    speaker: Speaker
    messages: list[Message]
    sampling: Sampling
    chat_id: int | None = None
    number: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    after: Callable[[], Any] = lambda: None


class Side:
    """Writes one answer in a thread of its own, and stores it at the end.

    stop: ends the answer when it is set; changed: set whenever there is something new to look at.
    """

    def __init__(
        self, store: Store, workers: Workers, request: Request, stop: threading.Event, changed: threading.Event
    ) -> None:
        self._store, self._workers, self._request = store, workers, request
        self._stop, self._changed = stop, changed
        self._began = time.monotonic()
        self._answer = Answer(request.speaker, request.sampling.seed)
        self._error: Exception | None = None
        self._made_with: dict[str, str | None] = {}
        self._thread = threading.Thread(target=self._run, name=f"chat-side-{request.number}", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def snapshot(self) -> Answer:
        """Return how far the answer is; safe from any thread."""
        answer = self._answer
        if answer.state in ("loading", "waiting"):
            return replace(answer, seconds=time.monotonic() - self._began)
        return answer

    def result(self) -> str:
        """Wait for the end and return the text. Raises what went wrong."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._answer.text

    def _run(self) -> None:
        try:
            with self._workers.using(self._answer.speaker.model) as endpoint:
                self._made_with = provenance(self._store, self._answer.speaker)
                self._set(state="waiting")
                self._read_what_fits(endpoint)
        except AppError as error:
            self._fail(error, self._explained(error))
        except Exception as error:  # a fault of the program: it must not leave the page waiting
            logger.exception("answering failed")
            self._fail(error, f"Something unexpected went wrong ({type(error).__name__}); the log has the details.")
        finally:
            self._end()

    def _read_what_fits(self, endpoint: Endpoint) -> None:
        """Read the answer; while the server says that the chat is too long, leave out its oldest exchange."""
        messages = self._request.messages
        while True:
            try:
                return self._read(endpoint, messages)
            except WorkerError as error:
                shorter = without_oldest_exchange(messages)
                if not says_too_long(error) or len(shorter) == len(messages):
                    raise
                self._set(left_out=self._answer.left_out + len(messages) - len(shorter))
                messages = shorter

    def _read(self, endpoint: Endpoint, messages: list[Message]) -> None:
        request, first_at, text, tokens = self._request, 0.0, "", 0
        name, usage = request.speaker.served_name, None
        stream = endpoint.stream(name, messages, request.sampling, self._stop, with_usage=True)
        with closing(stream):
            for delta in stream:
                now = time.monotonic()
                first_at = first_at or now
                text, tokens = text + delta.text, tokens + bool(delta.text)
                reason, usage = delta.finish_reason or self._answer.finish_reason, delta.usage or usage
                self._set(state="writing", text=text, tokens=tokens, seconds=now - first_at, finish_reason=reason)
        if not self._answer.finish_reason and not self._stop.is_set():
            raise WorkerError("The answer broke off before its end. Send the message again.")
        if usage is not None:
            self._set(
                tokens=usage.completion_tokens, context_used=usage.prompt_tokens + usage.completion_tokens,
                context_limit=_context_limit(endpoint, name),
            )

    def _set(self, **values: Any) -> None:
        """Change the answer. Only this side's thread does, so readers always see a whole one."""
        self._answer = replace(self._answer, **values)
        self._changed.set()

    def _fail(self, error: Exception, sentence: str) -> None:
        self._error = error
        self._set(finish_reason="error", error=sentence)

    def _explained(self, error: AppError) -> str:
        """Return what to tell: that a connection broke off says little when it did because the worker is gone."""
        if self._answer.state == "loading":
            return str(error)
        for _ in range(DEATH_CHECKS):  # the connection ends a moment before the process can be seen to have
            if self._workers.state(self._answer.speaker.model) == "died":
                return "The model's process ended while it was answering. It starts again with your next message."
            time.sleep(DEATH_CHECK_SECONDS)
        return str(error)

    def _end(self) -> None:
        """Store the answer, then say that it is done."""
        answer = self._answer
        state = {"error": "failed", None: "stopped"}.get(answer.finish_reason, "done")
        answer = replace(answer, state=state, finish_reason=answer.finish_reason or "stopped")
        try:
            self._keep(answer)
            self._follow()
        except AppError as error:
            self._error = error
            answer = replace(answer, state="failed", finish_reason="error", error=str(error))
        finally:
            self._store.close()  # this thread's connection
            self._answer = answer
            self._changed.set()

    def _follow(self) -> None:
        try:
            self._request.after()
        except AppError:
            logger.exception("what follows from an answer failed")  # the answer itself is stored

    def _keep(self, answer: Answer) -> None:
        request, speaker = self._request, answer.speaker
        if request.chat_id is None:
            return
        settings = {
            **request.settings, "model": speaker.model, "run": speaker.run_id, "label": speaker.label,
            "tokens": answer.tokens, "seconds": round(answer.seconds, 3), "left_out": answer.left_out,
            "error": answer.error, "context_used": answer.context_used, "context_limit": answer.context_limit,
            **self._made_with,
        }
        self._store.chats.add_message(
            request.chat_id, "assistant", answer.text, side=request.number, model=speaker.key, settings=settings,
            finish_reason=answer.finish_reason,
        )


def _context_limit(endpoint: Endpoint, name: str) -> int | None:
    try:
        return endpoint.context_length(name)
    except WorkerError:
        return None  # the answer is there; how much more fits is only nice to know


def says_too_long(error: WorkerError) -> bool:
    """Return whether a server refused a request because the conversation does not fit its context."""
    words = str(error).lower()
    # Our worker; vLLM; llama.cpp; others. There is no field for it in the protocol that all of them fill.
    return any(phrase in words for phrase in ("model reads at most", "context length", "context size", "too long"))
