"""What the web process uses of the models: endpoints, and this machine's worker processes.

Importing it never imports torch. It does not know how text is generated, nor where models come from.
"""

from __future__ import annotations

import hashlib
import math
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from errors import AppError
from models.catalog import resolve
from models.endpoint import Endpoint
from models.precision import has_nvidia_gpu
from models.process import WorkerProcess
from models.wire import Completion, Delta, Message, Sampling, TokenLogps, Usage

__all__ = ["Completion", "Delta", "Endpoint", "Message", "Sampling", "TokenLogps", "Usage", "Workers"]


# A worker that is busy is looked at again after this share of the time after which an idle one is ended.
_BUSY_SHARE = 0.25


@dataclass
class _Slot:
    """The place of one base model. `starting` is held by the one thread that starts or ends its process.

    users: how many hold it by `Workers.using`. last_used: when it was last asked for, by `time.monotonic`.
    """

    starting: threading.Lock = field(default_factory=threading.Lock)
    process: WorkerProcess | None = None
    error: str = ""
    users: int = 0
    last_used: float = 0.0

    def waits_seconds(self) -> float:
        """How long nobody has wanted the worker; 0 while somebody does."""
        return 0.0 if self.users else time.monotonic() - self.last_used


class Workers:
    """This machine's worker processes, one per base model, started on demand. Safe to use from several threads."""

    def __init__(
        self, runs_folder: Path, device: str = "auto", ready_timeout_seconds: float = 1800.0, idle_seconds: float = 900.0
    ) -> None:
        """Start nothing yet.

        runs_folder: where run 3's adapter is `run-3/adapter`. device: "auto", "cpu", "cuda" or "mps".
        ready_timeout_seconds: the longest a model may take to load, its download from a hub included.
        idle_seconds: a worker without requests for this long is ended, which frees its memory; the next request
        starts it again. A request that runs is never cut. `math.inf` ends none.
        """
        self._runs_folder = Path(runs_folder).resolve()
        self._logs_folder = self._runs_folder.parent / "logs"
        self.device = device
        self._ready_timeout_seconds = ready_timeout_seconds
        self._idle_seconds = idle_seconds
        self._watcher: threading.Thread | None = None
        self._lock = threading.Lock()
        self._slots: dict[str, _Slot] = {}

    def endpoint(self, model: str) -> Endpoint:
        """Return where the base model is served, as `base`, and its adapters, as `run-<id>`.

        Starts the worker when there is none, or when it has died, and waits until the model is loaded. Ask again
        before every request: the address changes when a worker is started anew.
        model: as the user named it: "demo", a folder or a hub name.
        Raises ModelError when the model cannot be loaded, WorkerError when the worker died, with the end of its log.
        """
        slot = self._slot(resolve(model))
        with slot.starting:
            process = slot.process
            try:
                if process is None or process.stopped or not process.alive:
                    slot.error = self.last_error(model)  # the new process writes its log anew
                    process = slot.process = WorkerProcess(model, self._arguments(model), self._log(model))
                process.wait(self._ready_timeout_seconds)
            except AppError as error:
                slot.error = str(error)
                raise
            slot.last_used = time.monotonic()
            self._watch()
            return process.endpoint

    @contextmanager
    def using(self, model: str) -> Iterator[Endpoint]:
        """Give the endpoint as `endpoint` does, and keep its worker until the end of the block, requests or not."""
        slot = self._slot(resolve(model))
        with self._lock:
            slot.users += 1
        try:
            yield self.endpoint(model)
        finally:
            with self._lock:
                slot.users -= 1
                slot.last_used = time.monotonic()

    def state(self, model: str) -> str:
        """Return "off", "loading", "ready" or "died" without waiting. Raises ModelError for an unknown model."""
        process = self._slot(resolve(model)).process
        if process is None or process.stopped:
            return "off"
        if not process.alive:
            return "died"
        return "ready" if process.ready else "loading"

    def last_error(self, model: str) -> str:
        """Return why the model's worker died or did not start, or "" when it never did."""
        slot = self._slot(resolve(model))
        process = slot.process
        if process is not None and not process.alive and not process.stopped:
            return str(process.failure())
        return slot.error

    def stop(self, model: str | None = None) -> None:
        """End one worker, or all of them, and free their memory. Threads that wait for one get a WorkerError."""
        with self._lock:
            slots = list(self._slots.values()) if model is None else [self._slots.get(resolve(model))]
        for slot in slots:
            if slot is not None and slot.process is not None:
                slot.process.stop()

    def free_gpu(self) -> None:
        """End all workers where they may hold a GPU that something else needs; chat starts them again."""
        if self.device != "cpu" and has_nvidia_gpu():
            self.stop()

    def _watch(self) -> None:
        """See that the one thread runs that ends idle workers; it sleeps, and leaves when there are none."""
        with self._lock:
            if self._watcher is None and math.isfinite(self._idle_seconds):
                self._watcher = threading.Thread(target=self._free_idle, name="idle-workers", daemon=True)
                self._watcher.start()

    def _free_idle(self) -> None:
        pause = self._idle_seconds
        while True:
            time.sleep(pause)
            with self._lock:
                live = [slot for slot in self._slots.values() if slot.process is not None and slot.process.alive]
                if not live:
                    self._watcher = None
                    return
            waited = max(self._free(slot) for slot in live)
            pause = max(self._idle_seconds - waited, self._idle_seconds * _BUSY_SHARE)

    def _free(self, slot: _Slot) -> float:
        """End a worker that has been idle for long enough, and return for how long it has been."""
        if not slot.starting.acquire(blocking=False):
            return 0.0  # somebody waits for it
        try:
            waited = slot.waits_seconds()
            process = slot.process
            if waited >= self._idle_seconds and process is not None and process.alive:
                # Only the worker knows of requests that go on since they were sent.
                waited = min(waited, process.idle_seconds())
                if waited >= self._idle_seconds:
                    process.stop()
            return waited
        finally:
            slot.starting.release()

    def _slot(self, resolved: str) -> _Slot:
        with self._lock:
            return self._slots.setdefault(resolved, _Slot())

    def _arguments(self, model: str) -> list[str]:
        return ["--model", resolve(model), "--adapters", str(self._runs_folder), "--device", self.device]

    def _log(self, model: str) -> Path:
        readable = re.sub(r"[^A-Za-z0-9.]+", "-", model.strip())[-40:].strip("-.")
        digest = hashlib.sha256(resolve(model).encode()).hexdigest()[:8]
        return self._logs_folder / f"worker-{readable}-{digest}.log"
