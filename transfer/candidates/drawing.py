"""Many answers from one endpoint: what is asked at the same time, which seeds, what is tried again.

Owns concurrency and patience. It does not know what is stored, nor which answers are kept.
"""

from __future__ import annotations

import hashlib
import json
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from errors import WorkerError
from models.client import Completion, Endpoint, Sampling
from storage import Prompt

IN_FLIGHT = 32  # the worker decodes requests that are under way together in one batch
RETRY_SECONDS = (0.5, 1.0, 2.0)
JITTER = 0.25  # of a pause, so that those who failed together do not come back together
# What another try does not change: the key, the address or the request is wrong.
FINAL_STATUSES = (301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 413, 422)
TOO_MANY = 429
MOST_RATE_LIMITS = 5  # tries of one answer that end in TOO_MANY
LONGEST_PAUSE_SECONDS = 30.0
POLL_SECONDS = 0.05

FindEndpoint = Callable[[], Endpoint]


@dataclass(frozen=True)
class Task:
    """One answer to draw: the how-manieth of its prompt, and how often it was drawn before (`attempt`)."""

    prompt: Prompt
    index: int
    attempt: int = 0


@dataclass(frozen=True)
class Drawer:
    """Draws single answers. find_endpoint: asked before every request, since a worker that died comes back elsewhere.

    model_name: the name at the endpoint, such as "base" or "run-3". seed: what all seeds are derived from.
    """

    find_endpoint: FindEndpoint
    model_name: str
    sampling: Sampling
    seed: int
    pace: Pace = field(default_factory=lambda: Pace())

    def seed_of(self, task: Task) -> int:
        """Return the 31-bit seed of a task: the same for the same conversation, index, attempt and `seed`."""
        key = [self.seed, task.prompt.messages, task.index, task.attempt]
        return int.from_bytes(hashlib.sha256(json.dumps(key).encode()).digest()[:4], "big") >> 1

    def draw(self, task: Task, closing: threading.Event) -> Completion | Exception:
        """Return the answer, or the error that was left after some patience. closing: set when nobody waits."""
        sampling = replace(self.sampling, seed=self.seed_of(task))
        pauses, limited = iter(RETRY_SECONDS), 0
        while True:
            try:
                with self.pace.turn(closing):
                    return self.find_endpoint().complete(self.model_name, task.prompt.messages, sampling)[0]
            except WorkerError as error:
                if error.status in FINAL_STATUSES or closing.is_set():
                    return error
                if error.status == TOO_MANY and limited < MOST_RATE_LIMITS:
                    limited += 1
                    self.pace.slow_down(error.retry_after, limited)
                    continue
                seconds = next(pauses, None)
                if seconds is None or closing.wait(seconds * random.uniform(1 - JITTER, 1 + JITTER)):
                    return error
            except Exception as error:  # handed to the thread that asked, which raises it
                return error


class Pace:
    """How many may ask a server at the same time, and from when on: halved each time it was asked too often."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._until, self._asking, self.most = 0.0, 0, IN_FLIGHT

    def slow_down(self, seconds: float | None, times: int) -> None:
        """Let nobody ask for so long; where the server does not say how long, for twice as long each time."""
        seconds = RETRY_SECONDS[0] * 2**times if seconds is None else seconds
        with self._changed:
            now = time.monotonic()
            if now >= self._until:  # the others of the same moment are one warning
                self.most = max(1, self.most // 2)
            self._until = max(self._until, now + min(seconds, LONGEST_PAUSE_SECONDS))

    @contextmanager
    def turn(self, closing: threading.Event) -> Iterator[None]:
        """Wait until the server may be asked by one more, or nobody waits for the answer."""
        with self._changed:
            while not closing.is_set():
                pause = self._until - time.monotonic()
                if pause <= 0 and self._asking < self.most:
                    break
                self._changed.wait(POLL_SECONDS if pause <= 0 else min(pause, POLL_SECONDS))
            self._asking += 1
        try:
            yield
        finally:
            with self._changed:
                self._asking -= 1
                self._changed.notify()


def drawn(
    drawer: Drawer, tasks: Sequence[Task], stop: threading.Event
) -> Iterator[tuple[Task, Completion | Exception]]:
    """Yield each task with its answer or error as they come, at most `IN_FLIGHT` under way.

    It ends early, within a tenth of a second, when `stop` is set; answers still under way are then dropped. The
    threads are daemons: a server that hangs does not keep the program from ending.
    """
    inbox: queue.SimpleQueue[Task] = queue.SimpleQueue()
    outbox: queue.SimpleQueue[tuple[Task, Completion | Exception]] = queue.SimpleQueue()
    closing = threading.Event()
    for task in tasks:
        inbox.put(task)

    def work() -> None:
        while not closing.is_set():
            try:
                task = inbox.get_nowait()
            except queue.Empty:
                return
            outbox.put((task, drawer.draw(task, closing)))

    for _ in range(min(IN_FLIGHT, len(tasks))):
        threading.Thread(target=work, name="drawer", daemon=True).start()
    try:
        left = len(tasks)
        while left and not stop.is_set():
            try:
                answer = outbox.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            left -= 1
            yield answer
    finally:
        closing.set()
