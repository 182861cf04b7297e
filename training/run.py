"""One training process: takes a queued run, trains it, and leaves its adapter and its last word in the store.

    python -m training.run --data DIR --run ID [--device auto]

Everything it says goes to the run's `log.txt` as well. Torch is imported only after the run is marked as running,
so that a page sees it alive at once. Does not know who started it.
"""

from __future__ import annotations

import argparse
import errno
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from errors import AppError, TrainingError
from storage import Run, Store
from training.config import TrainingConfig
from training.dataset import examples_for, summary_of
from training.lock import ProcessLock

if TYPE_CHECKING:
    from training.trainer import TrainingResult

HEARTBEAT_SECONDS = 1.0
LOG_NAME, LOCK_NAME, ADAPTER_NAME = "log.txt", "process.lock", "adapter"
CANCELLED = "Cancelled after {step} of {total} steps; nothing was kept."


def execute(
    store: Store, run_id: int, device: str = "auto", progress: Callable[[str], None] = lambda line: None
) -> Run:
    """Train a queued run in this process and return it as it ended: finished, failed or cancelled.

    device: used when the run's own setting is "auto". progress: gets every line of the log. SIGTERM, Ctrl-C and
    a cancel in the store stop it after the current forward pass. Whatever goes wrong becomes the run's message,
    with the traceback in its log. Raises TrainingError when the run has ended before, or another process has it.
    """
    run = store.runs.get(run_id)
    if not run.is_active:
        raise TrainingError(f"Run {run_id} is {run.state} already. Start a new one.")
    folder = store.runs.folder(run_id)
    lock = ProcessLock(folder / LOCK_NAME)
    if not lock.take():
        raise TrainingError(f"Run {run_id} is being trained by another process.")
    say = _logger(folder / LOG_NAME, progress)
    stop = threading.Event()
    try:
        store.runs.start(run_id, os.getpid(), int(run.config.get("steps", 0)))
        with _cancelled_by_signals(stop), _heartbeat(store, run_id, stop):
            state, message, summary, adapter = _attempt(store, run, device, say, stop)
        say(message)
        store.runs.end(run_id, state, message, summary, adapter)
    finally:
        lock.release()
    return store.runs.get(run_id)


def _attempt(
    store: Store, run: Run, device: str, say: Callable[[str], None], stop: threading.Event
) -> tuple[str, str, dict[str, Any] | None, str | None]:
    """Train and save; return state, message, summary and adapter folder of the end, whatever happens."""
    try:
        return _trained(store, run, device, say, stop)
    except AppError as error:
        return "failed", str(error), None, None
    except KeyboardInterrupt:
        return "cancelled", "Cancelled; nothing was kept.", None, None
    except Exception as error:  # the last word of a run must not be a traceback
        say(traceback.format_exc().rstrip())
        return "failed", _explained(error, store.folder), None, None


def _trained(
    store: Store, run: Run, device: str, say: Callable[[str], None], stop: threading.Event
) -> tuple[str, str, dict[str, Any] | None, str | None]:
    config = TrainingConfig.from_dict(run.config)
    rows = list(store.labels.judged(run.project_id, run.id))
    say(f"Run {run.id}: {config.loss.title} on {config.model}. {summary_of(rows).sentence.partition(';')[0]}.")
    say("Loading the model …")
    started = time.perf_counter()
    from models.loading import load_base
    from training import adapter
    from training.trainer import train

    loaded = load_base(
        config.model, device if config.device == "auto" else config.device,
        precision=config.precision, quantization=config.quantization,
    )
    say(f"Loaded {config.model} on {loaded.device} ({loaded.dtype}) in {time.perf_counter() - started:.1f} s.")

    def on_step(step: int, metrics: dict[str, float]) -> None:
        say(_step_line(step, config.steps, metrics))
        if store.runs.add_metrics(run.id, step, metrics):
            stop.set()

    result = train(examples_for(config.method, rows), loaded, config, on_step, stop.is_set, say)
    if result.stopped:
        step = store.runs.get(run.id).step
        return "cancelled", CANCELLED.format(step=step, total=config.steps), result.summary, None
    sentence = _finished_sentence(config, result)
    folder = store.runs.folder(run.id) / ADAPTER_NAME
    adapter.write(result.model, folder, config, result.summary, adapter.model_card(config, result.summary, sentence))
    return "finished", sentence, result.summary, folder.relative_to(store.folder).as_posix()


def _step_line(step: int, total: int, metrics: dict[str, float]) -> str:
    words = [f"step {step}/{total}", f"loss {metrics['loss']:.4f}"]
    for key, word in (("rewards/margins", "margin"), ("rewards/accuracies", "accuracy"), ("kl", "kl")):
        if key in metrics:
            words.append(f"{word} {metrics[key]:.3f}")
    return "  ".join([*words, f"lr {metrics['learning_rate']:.2e}", f"{metrics['seconds']:.1f} s"])


def _finished_sentence(config: TrainingConfig, result: TrainingResult) -> str:
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


def _explained(error: Exception, data_folder: Path) -> str:
    """Turn what went wrong into a sentence that says what to do."""
    text = " ".join(str(error).split())
    if (isinstance(error, OSError) and error.errno == errno.ENOSPC) or "No space left on device" in text:
        return f"The disk of {data_folder} is full, so nothing was saved. Free some space and train again."
    out_of_memory = ("out of memory", "can't allocate memory", "not enough memory")
    if isinstance(error, MemoryError) or any(words in text.lower() for words in out_of_memory):
        return (
            "The memory ran out. Lower tokens_per_forward (it changes nothing but speed), or max_length_tokens,"
            " close what else uses the memory, or choose a smaller model."
        )
    return f"Training stopped with {type(error).__name__}: {text[:300]} The log has the details."


@contextmanager
def _heartbeat(store: Store, run_id: int, stop: threading.Event) -> Iterator[None]:
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
def _cancelled_by_signals(stop: threading.Event) -> Iterator[None]:
    """Take SIGTERM as a wish to stop. Only the main thread may; elsewhere the store's cancel remains."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _logger(path: Path, progress: Callable[[str], None]) -> Callable[[str], None]:
    path.parent.mkdir(parents=True, exist_ok=True)

    def say(line: str) -> None:
        # Opened for every line: a full disk or a deleted folder must not end a run that still learns.
        with suppress(OSError), path.open("a", encoding="utf-8", errors="replace") as file:
            file.write(f"{time.strftime('%H:%M:%S')} {line}\n")
        progress(line)

    return say


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; return 0 when the run finished or was cancelled, 2 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m training.run", description="Train one queued run.")
    parser.add_argument("--data", type=Path, required=True, help="the data folder")
    parser.add_argument("--run", type=int, required=True, help="number of the run")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    given = parser.parse_args(arguments)
    try:
        ended = execute(Store(given.data), given.run, given.device)
    except AppError as error:
        print(error, flush=True)
        return 2
    return 2 if ended.state == "failed" else 0


if __name__ == "__main__":
    raise SystemExit(main())
