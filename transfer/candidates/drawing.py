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
from dataclasses import dataclass, field, replace

from errors import WorkerError
from models.client import Completion, Endpoint, Sampling
from storage import Prompt

IN_FLIGHT = 32  # the worker decodes requests that are under way together in one batch
RETRY_SECONDS = (0.5, 1.0, 2.0)
JITTER = 0.25  # of a pause, so that those who failed together do not come back together
# What another try does not change: the key, the address or the request is wrong.
FINAL_STATUSES = (400, 401, 403, 404, 405, 413, 422)
TOO_MANY = 429
MOST_RATE_LIMITS = 8  # tries of one answer that end in TOO_MANY
LONGEST_PAUSE_SECONDS = 60.0
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
            self.pace.wait(closing)
            try:
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
    """When a server may be asked again, after it said that it was asked too often; one for all who ask it."""

    def __init__(self) -> None:
        self._until = 0.0

    def slow_down(self, seconds: float | None, times: int) -> None:
        """Let nobody ask for so long; where the server does not say how long, for twice as long each time."""
        seconds = RETRY_SECONDS[0] * 2**times if seconds is None else seconds
        until = time.monotonic() + min(seconds, LONGEST_PAUSE_SECONDS)
        self._until = max(self._until, until)

    def wait(self, closing: threading.Event) -> None:
        """Wait until the server may be asked, or nobody waits for the answer; not all at the same moment."""
        seconds = self._until - time.monotonic()
        if seconds > 0:
            closing.wait(seconds * random.uniform(1, 1 + JITTER))


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
