"""One worker process: started, waited for, watched and ended. Does not know torch, nor what the worker does.

The worker prints one line of JSON with its port on standard output; everything else goes to its log file.
It ends when its standard input is closed, so it never outlives this process, however that one ends.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from errors import ModelError, WorkerError
from models.endpoint import Endpoint

TOKEN_VARIABLE = "PREFERENCE_STUDIO_WORKER_TOKEN"
# The worker's exit code when the model, rather than the worker, is at fault; its last log line says how.
MODEL_FAULT = 3
ERROR_PREFIX = "error: "

_PROJECT = Path(__file__).resolve().parents[1]
_POLL_SECONDS = 0.05
_TAIL_LINES = 8


class WorkerProcess:
    """A running worker of one base model."""

    def __init__(self, name: str, arguments: Sequence[str], log: Path) -> None:
        """Start it; `wait` waits until it can answer. Raises WorkerError when the process cannot be started.

        name: what to call the model in messages. arguments: for `python -m models.worker`. log: written anew.
        """
        self.name = name
        self.log = log
        self.ready = False
        self.stopped = False
        self._token = secrets.token_urlsafe(32)
        self._port: int | None = None
        command = [sys.executable, "-m", "models.worker", *arguments, "--exit-with-parent"]
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("wb") as file:
                self._process = subprocess.Popen(
                    command,
                    cwd=_PROJECT,
                    env=_environment(self._token),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=file,
                    start_new_session=True,
                )
        except OSError as error:
            raise WorkerError(f"The worker for {name} cannot be started ({error}). Is the disk full?") from error
        threading.Thread(target=self._read_port, name="worker-port", daemon=True).start()

    @property
    def alive(self) -> bool:
        """True while the process runs."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def endpoint(self) -> Endpoint:
        """Where it answers; only after `wait` has returned."""
        return Endpoint(f"http://127.0.0.1:{self._port}/v1", self._token, name=f"The worker of {self.name}")

    def wait(self, timeout_seconds: float) -> None:
        """Return when the model is loaded. Raises what `failure` returns when it dies, WorkerError after a time out."""
        deadline = time.monotonic() + timeout_seconds
        while not self.ready:
            if not self.alive:
                raise self.failure()
            if time.monotonic() > deadline:
                self.stop()
                raise WorkerError(
                    f"{self.name} was not loaded after {timeout_seconds:g} seconds, so its worker was ended. "
                    f"Its log is {self.log}."
                )
            self.ready = self._port is not None and self._says_ready()
            if not self.ready:
                time.sleep(_POLL_SECONDS)

    def failure(self) -> ModelError | WorkerError:
        """Say why the process has ended, with the end of its log."""
        lines = self._last_lines()
        said = [line[len(ERROR_PREFIX) :] for line in lines if line.startswith(ERROR_PREFIX)]
        if self.stopped:
            return WorkerError(f"The worker for {self.name} was stopped. Ask again to start it anew.")
        if self._process.returncode == MODEL_FAULT and said:
            return ModelError(said[-1])
        tail = " | ".join(lines) or "its log is empty"
        return WorkerError(
            f"The worker for {self.name} ended with code {self._process.returncode}: {tail}. The log is {self.log}."
        )

    def idle_seconds(self) -> float:
        """Return for how long the worker has had no request; 0 while it has one, or when it cannot say."""
        answer = self._get("/v1/activity")
        try:
            return 0.0 if answer["open_requests"] else float(answer["idle_seconds"])
        except (KeyError, ValueError, TypeError):
            return 0.0

    def stop(self, grace_seconds: float = 3.0) -> None:
        """End the process: ask first, then kill. Does nothing when it has ended already."""
        self.stopped = self.stopped or self.alive
        for close in (self._process.terminate, self._process.kill):
            if self.alive:
                close()
                try:
                    self._process.wait(grace_seconds)
                except subprocess.TimeoutExpired:
                    continue
        if self._process.stdin:
            self._process.stdin.close()

    def _read_port(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as announcements:
            try:
                self._port = int(json.loads(announcements.readline())["port"])
            except (ValueError, KeyError, TypeError):
                return  # it ended before it could say; `wait` sees that
            announcements.read()

    def _says_ready(self) -> bool:
        return self._get("/health").get("status") == "ready"

    def _get(self, path: str) -> dict[str, Any]:
        """Return what the worker answers at a path, {} when it is no JSON object or does not come."""
        headers = {"Authorization": f"Bearer {self._token}"}
        try:
            with httpx.Client(trust_env=False, timeout=5.0, headers=headers) as client:
                answer = client.get(f"http://127.0.0.1:{self._port}{path}").json()
        except (httpx.HTTPError, ValueError):
            return {}
        return answer if isinstance(answer, dict) else {}

    def _last_lines(self) -> list[str]:
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - 8192))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return []
        return [line.strip() for line in text.splitlines() if line.strip()][-_TAIL_LINES:]


def _environment(token: str) -> dict[str, str]:
    """Return the worker's environment.

    Torch leaves one core to others and its threads wait passively: spinning ones of two processes (this worker, a
    training run) fight for the cores and slow each other down several times.
    """
    environment = {**os.environ, TOKEN_VARIABLE: token, "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1"}
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 2) - 1)))
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    environment.setdefault("KMP_BLOCKTIME", "0")
    return environment
