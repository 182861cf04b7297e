"""What a training process tells and hears: its log, its figures, its sign of life, its last sentence.

A full disk, a deleted folder or a database that somebody else keeps must not end a run that still learns. Does not
know how a run trains.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from errors import AppError, StorageError
from storage import Store
from training.config import TrainingConfig

if TYPE_CHECKING:
    from training.reference import ReferenceCache
    from training.trainer import TrainingResult

HEARTBEAT_SECONDS = 1.0
# A database that was busy or full is left alone for so long: each try may wait for its lock, and training with it.
RETRY_SECONDS = 30.0
LAST_WORD_TRIES = 10

T = TypeVar("T")


class Figures:
    """Stores the metrics of steps; what the database refuses now is stored with a later step."""

    def __init__(self, store: Store, run_id: int, say: Callable[[str], None]) -> None:
        self.store, self.run_id, self.say = store, run_id, say
        self._waiting: list[tuple[int, dict[str, float]]] = []
        self._not_before = 0.0

    def add(self, step: int, metrics: dict[str, float]) -> bool:
        """Store the metrics of a step; return True when somebody asked the run to cancel."""
        self._waiting.append((step, metrics))
        if time.monotonic() < self._not_before:
            return False
        try:
            return self.flush()
        except StorageError as error:
            self._not_before = time.monotonic() + RETRY_SECONDS
            self.say(f"The figures from step {self._waiting[0][0]} on wait for the database, training goes on. {error}")
            return False

    def flush(self) -> bool:
        """Store all that waits; return True when asked to cancel. Raises StorageError where the database refuses."""
        asked = False
        while self._waiting:
            asked |= self.store.runs.add_metrics(self.run_id, *self._waiting[0])
            del self._waiting[0]
        return asked


class References:
    """The store's reference log-probs, without which a run computes them: a busy database must not end it."""

    def __init__(self, kept: ReferenceCache, say: Callable[[str], None]) -> None:
        self.kept, self.say = kept, say

    def get(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        """Return those that are known."""
        return self.kept.get(keys)

    def put(self, values: dict[bytes, float]) -> None:
        """Keep some, if the database lets it."""
        try:
            self.kept.put(values)
        except StorageError as error:
            self.say(f"The reference was not kept for the next run. {error}")


def insist(write: Callable[[], T], say: Callable[[str], None]) -> T:
    """Do what a run must not end without, patiently. Raises StorageError when the database stays closed to it."""
    for left in reversed(range(LAST_WORD_TRIES)):
        try:
            return write()
        except StorageError as error:
            if not left:
                raise
            say(f"The end of the run waits for the database. {error}")
            time.sleep(min(RETRY_SECONDS, 5.0))
    raise AssertionError


def step_line(step: int, total: int, metrics: dict[str, float]) -> str:
    """Return the log's line of a step."""
    words = [f"step {step}/{total}", f"loss {metrics['loss']:.4f}"]
    for key, word in (("rewards/margins", "margin"), ("rewards/accuracies", "accuracy"), ("kl", "kl")):
        if key in metrics:
            words.append(f"{word} {metrics[key]:.3f}")
    return "  ".join([*words, f"lr {metrics['learning_rate']:.2e}", f"{metrics['seconds']:.1f} s"])


def finished_sentence(config: TrainingConfig, result: TrainingResult) -> str:
    """Say what a finished run reached and left out."""
    from training.rows import left_out_sentence

    summary = result.summary
    seconds = summary["seconds"]
    took = f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.1f}"
    words = [f"Finished {config.steps} steps in {took} s: loss {summary['loss']:.3f}"]
    words.append(f"accuracy {summary['rewards/accuracies']:.0%}")
    if "held_out/accuracies" in summary:
        before, after = summary["held_out_before/accuracies"], summary["held_out/accuracies"]
        words.append(f"held-out accuracy {before:.0%} before, {after:.0%} after")
    sentence = f"{', '.join(words)}."
    left_out = left_out_sentence(result.left_out)
    return f"{sentence} {left_out}." if left_out else sentence


def explained(error: Exception, data_folder: Path) -> str:
    """Turn what ended a run into a sentence that says what to do."""
    text = " ".join(str(error).split())
    if (isinstance(error, OSError) and error.errno == errno.ENOSPC) or "No space left on device" in text:
        return f"The disk of {data_folder} is full, so the adapter could not be saved. Free some space and try again."
    out_of_memory = ("out of memory", "can't allocate memory", "not enough memory")
    if isinstance(error, MemoryError) or any(words in text.lower() for words in out_of_memory):
        return (
            "The memory ran out. Lower tokens_per_forward (it changes nothing but speed), or max_length_tokens,"
            " close what else uses the memory, or choose a smaller model."
        )
    if any(words in text.lower() for words in ("closed by peer", "connection reset", "remote process", "nccl")):
        return "Another process of this run is gone: it was killed, or ran out of memory. The log has the details."
    return f"Training stopped with {type(error).__name__}: {text[:300]} The log has the details."


def logger(path: Path, progress: Callable[[str], None]) -> Callable[[str], None]:
    """Return what writes a line to a log with its time, and hands it to `progress`."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def say(line: str) -> None:
        # Opened for every line: a full disk or a deleted folder must not end a run that still learns.
        with suppress(OSError), path.open("a", encoding="utf-8", errors="replace") as file:
            file.write(f"{time.strftime('%H:%M:%S')} {line}\n")
        progress(line)

    return say


@contextmanager
def heartbeat(store: Store, run_id: int, stop: threading.Event) -> Iterator[None]:
    """Tell the store that this process lives, loading and saving included, and hear from it when to stop."""
    ended = threading.Event()

    def beat() -> None:
        try:
            while not ended.wait(HEARTBEAT_SECONDS):
                with suppress(AppError):  # a database that is busy or full now may not be at the next beat
                    if store.runs.heartbeat(run_id, os.getpid()) or not store.runs.get(run_id).is_active:
                        stop.set()
        finally:
            store.close()

    thread = threading.Thread(target=beat, daemon=True, name="heartbeat")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def cancelled_by_signals(stop: threading.Event) -> Iterator[None]:
    """Take SIGTERM and a first Ctrl-C as a wish to stop; a second Ctrl-C interrupts.

    Only the main thread may; elsewhere the store's cancel remains.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: stop.set()),
        signal.SIGINT: signal.signal(signal.SIGINT, interrupt),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
