"""One training process: takes a queued run, trains it, and leaves its adapter and its last word in the store.

    python -m training.run --data DIR --run ID [--device auto]

Launched several times by `accelerate launch`, one of the processes leads (it alone writes) and the others follow it.
Everything the run says goes to its `log.txt` as well. Torch is imported only after the run is marked as running,
so that a page sees it alive at once. Does not know who started it.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from errors import AppError, DivergedError, TrainingError
from models import catalog
from storage import Run, Store
from training import checkpoint, memory
from training.config import TrainingConfig
from training.dataset import examples_for, learned_before, summary_of
from training.distributed import is_follower, join, leave
from training.lock import ProcessLock
from training.report import (
    Figures,
    References,
    cancelled_by_signals,
    explained,
    finished_sentence,
    heartbeat,
    insist,
    logger,
    step_line,
)

if TYPE_CHECKING:
    from models.loading import LoadedModel
    from training.reference import ReferenceCache
    from training.distributed import Processes
    from training.trainer import TrainingResult

LOG_NAME, LOCK_NAME, ADAPTER_NAME = "log.txt", "process.lock", "adapter"


@dataclass(frozen=True)
class Ending:
    """How a run ended; the fields are those of `store.runs.end`."""

    state: str
    message: str
    summary: dict[str, Any] | None = None
    adapter: str | None = None


@dataclass(frozen=True)
class Task:
    """What all processes of a run train: the leading one tells the others, who need no store."""

    config: TrainingConfig
    examples: list[Any]
    device: str
    start: Path | None = None
    learned: frozenset[int] = frozenset()


def execute(
    store: Store, run_id: int, device: str = "auto", progress: Callable[[str], None] = lambda line: None
) -> Run:
    """Train a queued run in this process and return it as it ended: finished, failed or cancelled.

    A run that has a checkpoint goes on from there. device: used when the run's own setting is "auto". progress:
    gets every line of the log. SIGTERM, Ctrl-C and a cancel in the store stop it after the current forward pass.
    Whatever goes wrong becomes the run's message, with the traceback in its log. Raises TrainingError when the run
    has ended before, or another process has it, StorageError when the database cannot be written for minutes.
    """
    run = store.runs.get(run_id)
    if not run.is_active:
        raise TrainingError(f"Run {run_id} is {run.state} already. Start a new one.")
    folder = store.runs.folder(run_id)
    lock = ProcessLock(folder / LOCK_NAME)
    if not lock.take():
        raise TrainingError(f"Run {run_id} is being trained by another process.")
    say = logger(folder / LOG_NAME, progress)
    stop, figures = threading.Event(), Figures(store, run_id, say)
    try:
        store.runs.start(run_id, os.getpid(), int(run.config.get("steps", 0)))
        with cancelled_by_signals(stop), heartbeat(store, run_id, stop):
            ending = _attempt(store, run, device, figures, say, stop)
            say(ending.message)
            insist(figures.flush, say)
            insist(lambda: store.runs.end(run_id, ending.state, ending.message, ending.summary, ending.adapter), say)
        if ending.state == "finished":
            checkpoint.remove(folder)
    finally:
        lock.release()
    return store.runs.get(run_id)


def follow() -> int:
    """Train in this process what the leading one of its group tells, and write nothing; return the exit code."""
    processes = join()
    stop = threading.Event()
    with cancelled_by_signals(stop):
        try:
            _train(processes.tell(), processes, stop, lambda line: None, lambda step, metrics: None)
        except AppError:
            pass  # every process fails when one does; the leading one says why
        finally:
            leave()
    return 0


def resumable_note(folder: Path) -> str:
    """Say from which step a run can be resumed, as the end of a sentence; "" when it cannot."""
    step = checkpoint.step_of(folder / checkpoint.NAME)
    return "" if step is None else f" It can be resumed from step {step}."


def _attempt(
    store: Store, run: Run, device: str, figures: Figures, say: Callable[[str], None], stop: threading.Event
) -> Ending:
    """Train and save; return how it ended, whatever happens."""
    folder = store.runs.folder(run.id)
    try:
        return _trained(store, run, device, figures, say, stop)
    except DivergedError as error:
        step = checkpoint.step_of(folder / checkpoint.NAME)
        kept = "" if step is None else f" The checkpoint of step {step} is kept."
        return Ending("failed", f"{error}{kept}")
    except AppError as error:
        return Ending("failed", f"{error}{resumable_note(folder)}")
    except KeyboardInterrupt:
        return Ending("cancelled", f"Cancelled at once.{resumable_note(folder) or ' Nothing was kept.'}")
    except Exception as error:  # the last word of a run must not be a traceback
        say(traceback.format_exc().rstrip())
        return Ending("failed", f"{explained(error, store.folder)}{resumable_note(folder)}")
    finally:
        leave()


def _trained(
    store: Store, run: Run, device: str, figures: Figures, say: Callable[[str], None], stop: threading.Event
) -> Ending:
    config = TrainingConfig.from_dict(run.config)
    rows = list(store.labels.judged(run.project_id, run.id))
    summary, labels = summary_of(rows), len({row["label_id"] for row in rows})
    counted = f"{labels} label{'' if labels == 1 else 's'} ({config.labels})"
    say(f"Run {run.id}: {config.loss.title} on {config.model}, {counted}. {summary.sentence.partition(';')[0]}.")
    say(memory.told(config, device))
    folder = store.runs.folder(run.id)

    def on_step(step: int, metrics: dict[str, float]) -> None:
        say(step_line(step, config.steps, metrics))
        if figures.add(step, metrics):
            stop.set()

    start = store.runs.adapter_folder(config.start_run) if config.start_run else None
    task = Task(
        config, examples_for(config.method, rows), device if config.device == "auto" else config.device, start,
        learned_before(store, run.project_id, config.start_run),
    )
    processes = join()
    processes.tell(task)
    identity = checkpoint.identity_of(config, catalog.identity(config.model), rows)
    checkpoints = checkpoint.Checkpoints(folder / checkpoint.NAME, identity, config.checkpoint_seconds, say)

    def references_of(*precision: str) -> References:
        return References(store.references.of(identity["base"], *precision), say)

    result = _train(task, processes, stop, say, on_step, references_of, checkpoints)
    insist(lambda: store.runs.hold_out(run.id, result.held_out), say)
    if result.stopped:
        return Ending("cancelled", _cancelled_sentence(folder, config, result), result.summary)
    from training import adapter

    sentence = finished_sentence(config, result)
    origin = adapter.Origin(identity["base"], identity["labels"], labels)
    card = adapter.model_card(config, result.summary, sentence, origin)
    adapter.write(result.model, folder / ADAPTER_NAME, config, result.summary, card, origin)
    return Ending("finished", sentence, result.summary, (folder / ADAPTER_NAME).relative_to(store.folder).as_posix())


def _train(
    task: Task,
    processes: Processes,
    stop: threading.Event,
    say: Callable[[str], None],
    on_step: Callable[[int, dict[str, float]], None],
    references_of: Callable[..., ReferenceCache] | None = None,
    checkpoints: checkpoint.Checkpoints | None = None,
) -> TrainingResult:
    """Load the model and train, in every process of the run.

    The last two are the leading one's. references_of: gives what is known of this base in a precision.
    """
    say("Loading the model …")
    started = time.perf_counter()
    from training.trainer import train

    config = task.config
    loaded = processes.guard(lambda: _loaded(config, processes.device_of(task.device), processes))
    if len(set(processes.each(lambda: catalog.identity(config.model)))) > 1:
        raise TrainingError(f"The processes of this run found other weights under {config.model}. Copy the same to all.")
    seconds = time.perf_counter() - started
    helped = f", {processes.count} processes" if processes.count > 1 else ""
    say(f"Loaded {config.model} on {loaded.device} ({loaded.dtype}{helped}) in {seconds:.1f} s.")
    references = None
    if references_of is not None:
        references = references_of(*reference_scope(loaded, config))
    return train(
        task.examples, loaded, config, on_step, stop.is_set, say,
        references=references, checkpoints=checkpoints, processes=processes, start=task.start,
        learned=task.learned,
    )


def reference_scope(loaded: LoadedModel, config: TrainingConfig) -> tuple[str, str, str]:
    """Return what the log-probs of a base model depend on besides its identity: see `store.references.of`."""
    # A name on the hub may stand for other weights later: they have another commit.
    return str(loaded.dtype), config.quantization, getattr(loaded.model.config, "_commit_hash", None) or ""


def _loaded(config: TrainingConfig, device: str, processes: Processes) -> LoadedModel:
    """Load the base onto this process's device; one that will be divided stays on the CPU until it is."""
    from models.loading import load_base, pick_device, pick_dtype

    if not config.shard_base or processes.count == 1:
        return load_base(config.model, device, precision=config.precision, quantization=config.quantization)
    chosen = pick_device(device)
    return replace(load_base(config.model, "cpu", pick_dtype(chosen, config.precision)), device=chosen)


def _cancelled_sentence(folder: Path, config: TrainingConfig, result: TrainingResult) -> str:
    done, kept = result.steps, checkpoint.step_of(folder / checkpoint.NAME)
    if kept is None:
        return f"Cancelled after {done} of {config.steps} steps; nothing was kept."
    where = "" if kept == done else f" from step {kept}"
    return f"Cancelled after {done} of {config.steps} steps; it can be resumed{where}."


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; return 0 when the run finished or was cancelled, 2 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m training.run", description="Train one queued run.")
    parser.add_argument("--data", type=Path, required=True, help="the data folder")
    parser.add_argument("--run", type=int, required=True, help="number of the run")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--say", action="store_true", help="print what goes to the log")
    given = parser.parse_args(arguments)
    if is_follower():
        return follow()
    progress = (lambda line: print(line, flush=True)) if given.say else (lambda line: None)
    try:
        ended = execute(Store(given.data), given.run, given.device, progress)
    except AppError as error:
        print(error, flush=True)
        return 2
    return 2 if ended.state == "failed" else 0


if __name__ == "__main__":
    raise SystemExit(main())
