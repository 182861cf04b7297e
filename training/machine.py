"""How much memory is free here: on the machine, within its container, on a GPU. Does not know torch or what for."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SECONDS_TO_ASK = 5


def free_bytes(device: str) -> float | None:
    """Return the free memory of a GPU ("cuda", "cuda:1") or else of the machine, in bytes; None when nothing tells.

    A container's limit counts where there is one.
    """
    kind, _, index = device.partition(":")
    if kind == "cuda":
        return _free_on_gpu(int(index) if index.isdigit() else 0)
    known = [value for value in (_free_of_machine(), _free_of_container()) if value is not None]
    return min(known, default=None)


def _free_of_machine() -> float | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return None


def _free_of_container() -> float | None:
    folder = Path("/sys/fs/cgroup")
    try:
        limit, used, figures = (
            (folder / f"memory.{name}").read_text(encoding="ascii") for name in ("max", "current", "stat")
        )
        cached = dict(line.split() for line in figures.splitlines())["inactive_file"]  # given back when asked for
        return None if limit.strip() == "max" else max(0.0, float(limit) - float(used) + float(cached))
    except (OSError, ValueError, KeyError):
        return None


def _free_on_gpu(index: int) -> float | None:
    command = ["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_TO_ASK, check=True).stdout
        return float(said.splitlines()[index]) * 2**20
    except (OSError, ValueError, IndexError, subprocess.SubprocessError):
        return None
