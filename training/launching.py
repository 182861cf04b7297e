"""The words and the environment that start the process of a run, or the several it asks for; and a detached process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from storage import Run, Store

ROOT = Path(__file__).resolve().parents[1]


def detached(words: Sequence[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen:
    """Start a process that outlives this one; what it prints is added to a log. Raises OSError."""
    log.parent.mkdir(parents=True, exist_ok=True)
    apart: dict = {"start_new_session": True}
    if os.name == "nt":
        apart = {"creationflags": subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP}
    with log.open("ab") as output:
        return subprocess.Popen(
            words, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, **apart
        )


def command(store: Store, run: Run, device: str) -> list[str]:
    """Return the words that train a run: one process, or accelerate's launcher of several."""
    own = ["training.run", "--data", str(store.folder), "--run", str(run.id), "--device", device]
    if devices(run) == 1:
        return [sys.executable, "-m", *own]
    # --multi_gpu is accelerate's word for "several processes here"; on CPUs they talk through gloo.
    launcher = ["accelerate.commands.launch", "--multi_gpu", "--num_machines", "1", "--main_process_port", "0"]
    chosen = ["--num_processes", str(devices(run)), "--mixed_precision", "no", "--dynamo_backend", "no"]
    return [sys.executable, "-m", *launcher, *chosen, "--module", *own]


def environment(processes: int = 1) -> dict[str, str]:
    """Return the environment of so many processes: this one's, and how their threads wait and share the cores."""
    # Threads that wait by spinning starve a chat worker on the same cores: five times slower, measured.
    own = {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONUNBUFFERED": "1"}
    if processes > 1:  # each process would take all cores, and the launcher would leave each but one
        own["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // processes))
    return {**own, **os.environ}


def devices(run: Run) -> int:
    """Return how many processes a run asks for."""
    return int(run.config.get("devices") or 1)
