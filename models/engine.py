"""The thread that owns the model: it groups waiting requests, decodes them together and hands out text.

Owns who is admitted when. Does not know HTTP, nor how tokens are made.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch

from errors import ModelError
from models.adapters import Adapter, AdapterSet
from models.decoding import Decoder, Row
from models.detokenize import TextStream
from models.loading import LoadedModel
from models.wire import Sampling

_log = logging.getLogger(__name__)
_CLOSED_POLL_SECONDS = 1.0

Result = TypeVar("Result")


@dataclass(frozen=True)
class Piece:
    """A piece of an answer. The last one has a finish_reason ("stop" or "length"), or an error in its place.

    tokens: how many the whole answer has so far.
    """

    text: str
    tokens: int
    finish_reason: str | None = None
    error: str | None = None

    @property
    def is_last(self) -> bool:
        """True when nothing follows."""
        return self.finish_reason is not None or self.error is not None


class Ticket:
    """An answer that was asked for. `cancel` may be called from any thread, at any time."""

    def __init__(self, row: Row, text: TextStream, give: Callable[[Piece], None]) -> None:
        """give: called by the engine's thread with every piece; it must not block."""
        self.row = row
        self.cancelled = False
        self._text = text
        self._give = give

    def cancel(self) -> None:
        """Leave the batch before the next token; nothing is given any more."""
        self.cancelled = True

    def give_new(self) -> None:
        """Give out what the row's last token made certain, and the end when it has ended."""
        row = self.row
        text = self._text.add(row.new_ids[-1]) if row.finish_reason != "stop" else ""
        if row.finish_reason:
            text += self._text.finish()
        if (text or row.finish_reason) and not self.cancelled:
            self._give(Piece(text, len(row.new_ids), row.finish_reason))

    def fail(self, reason: str) -> None:
        """Give out that the answer cannot be finished."""
        if not self.cancelled:
            self._give(Piece("", len(self.row.new_ids), error=reason))


class _Errand:
    """Other work with the model, done by the engine's thread between two tokens."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.result: Future[Any] = Future()
        self._work = work

    def run(self) -> None:
        """Do it, and hand its value or its error to whoever waits."""
        try:
            self.result.set_result(self._work())
        except torch.cuda.OutOfMemoryError:
            self.result.set_exception(ModelError("The GPU's memory is full. Try again, with less text."))
            torch.cuda.empty_cache()
        except Exception as error:
            self.result.set_exception(error)


class Engine:
    """Decodes requests in a thread of its own, those that are there together in one batch."""

    def __init__(
        self, loaded: LoadedModel, adapters: AdapterSet, max_rows: int = 64, window_seconds: float = 0.004
    ) -> None:
        """Start the thread.

        max_rows: the most answers written at once; others wait. window_seconds: how long an idle engine waits for
        company after a first request, so that two that are sent together start together.
        """
        self._loaded = loaded
        self._decoder = Decoder(loaded, adapters)
        self._max_rows = max_rows
        self._window_seconds = window_seconds
        self._inbox: queue.SimpleQueue[Ticket | _Errand | None] = queue.SimpleQueue()
        self._errands: deque[_Errand] = deque()
        self._waiting: list[Ticket] = []
        self._running: dict[Row, Ticket] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def submit(
        self, prompt_ids: list[int], sampling: Sampling, adapter: Adapter | None, give: Callable[[Piece], None]
    ) -> Ticket:
        """Ask for one answer; its pieces go to `give`, from another thread.

        sampling: without a seed one is drawn. Raises ModelError when the prompt leaves no room for an answer.
        """
        limit = self._decoder.context_limit
        if not prompt_ids or (limit is not None and len(prompt_ids) >= limit):
            raise ModelError(
                f"The conversation has {len(prompt_ids)} tokens and the model reads at most {limit}, its answer "
                "included. Start a new conversation, or shorten it."
            )
        if sampling.seed is None:
            sampling = replace(sampling, seed=random.SystemRandom().getrandbits(63))
        ticket = Ticket(Row(prompt_ids, sampling, adapter), TextStream(self._loaded.tokenizer), give)
        self._inbox.put(ticket)
        return ticket

    def run(self, work: Callable[[], Result]) -> Result:
        """Do other work with the model while no token is made, and return its value or raise its error.

        Waits for it. Answers that are being written go on after it, and between two such works.
        Raises ModelError when the engine is closed.
        """
        errand = _Errand(work)
        self._inbox.put(errand)
        while True:
            try:
                return errand.result.result(timeout=_CLOSED_POLL_SECONDS)
            except FutureTimeout:
                if errand.result.done():  # just now, or its own error is a time out
                    return errand.result.result()
                if self._closed and not self._thread.is_alive():
                    raise ModelError("The model is being closed. Start it again and try again.") from None

    @property
    def busy_rows(self) -> int:
        """How many answers are being written."""
        return len(self._running)

    def close(self) -> None:
        """End the thread after the step in hand; open answers are not finished."""
        self._closed = True
        self._inbox.put(None)
        self._thread.join(timeout=30)

    def _run(self) -> None:
        while not self._closed:
            self._collect()
            if self._errands:
                self._errands.popleft().run()
            try:
                self._leave()
                self._enter()
                if self._decoder.rows:
                    self._give(self._decoder.step())
            except torch.cuda.OutOfMemoryError:
                self._fail_all("The GPU's memory is full. Ask for shorter or fewer answers at once.")
                torch.cuda.empty_cache()
            except ModelError as error:
                self._fail_all(str(error))
            except Exception as error:
                _log.exception("decoding failed")
                self._fail_all(f"Decoding failed ({type(error).__name__}: {error}). The worker's log has the details.")

    def _collect(self) -> None:
        """Take what has been asked for; wait only when there is nothing else to do."""
        idle = not self._decoder.rows and not self._waiting and not self._errands
        deadline = None
        while True:
            try:
                if idle and deadline is None:
                    ticket = self._inbox.get()
                    deadline = time.monotonic() + self._window_seconds
                elif idle and len(self._waiting) < self._max_rows:
                    ticket = self._inbox.get(timeout=max(0.0, deadline - time.monotonic()))
                else:
                    ticket = self._inbox.get_nowait()
            except queue.Empty:
                return
            if ticket is None:
                return
            if isinstance(ticket, _Errand):
                self._errands.append(ticket)
                return
            self._waiting.append(ticket)

    def _leave(self) -> None:
        self._waiting = [ticket for ticket in self._waiting if not ticket.cancelled]
        gone = [row for row, ticket in self._running.items() if ticket.cancelled]
        if gone:
            self._decoder.drop(gone)
            for row in gone:
                del self._running[row]

    def _enter(self) -> None:
        room = self._max_rows - len(self._decoder.rows)
        if not self._waiting or room < 1 or not self._decoder.can_join:
            return
        entering, self._waiting = self._waiting[:room], self._waiting[room:]
        self._running.update({ticket.row: ticket for ticket in entering})
        self._give(self._decoder.admit([ticket.row for ticket in entering]))

    def _give(self, rows: list[Row]) -> None:
        for row in rows:
            self._running[row].give_new()
            if row.finish_reason:
                del self._running[row]

    def _fail_all(self, reason: str) -> None:
        self._decoder.clear()
        running, self._running = self._running, {}
        for ticket in running.values():
            ticket.fail(reason)
