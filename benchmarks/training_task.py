"""What the contenders of the training benchmark share: the task, memory, tokens scored, waits for the GPU.

Does not know how anyone trains.
"""

from __future__ import annotations

import hashlib
import json
import resource
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks import training_world as world
from training.dataset import PairedExample, UnpairedExample


@dataclass(frozen=True)
class Task:
    """What to train. batch: pairs per optimiser step (KTO: as many good and as many bad responses). settings: of
    this contender, by its own names."""

    contender: str
    method: str
    shape: str
    size: str
    device: str
    pairs: int
    batch: int = 8
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def dtype(self) -> torch.dtype:
        """float32 on a CPU, bfloat16 on a GPU."""
        return torch.float32 if self.device == "cpu" else torch.bfloat16

    @property
    def examples(self) -> list[PairedExample] | list[UnpairedExample]:
        """The pairs, or for KTO each pair as a good and a bad response."""
        pairs = [
            PairedExample(number, number, [{"role": "user", "content": pair.prompt}], pair.chosen, pair.rejected)
            for number, pair in enumerate(world.texts(self.shape, self.pairs))
        ]
        if self.method != "kto":
            return pairs
        return [
            UnpairedExample(2 * pair.label_id + (not good), pair.prompt_id, pair.messages, text, good)
            for pair in pairs
            for text, good in ((pair.chosen, True), (pair.rejected, False))
        ]

    @property
    def batch_size(self) -> int:
        """Examples per optimiser step."""
        return self.batch if self.method != "kto" else 2 * self.batch


class Memory:
    """The most memory a process has used, in bytes: resident on a CPU, allocated on a GPU."""

    def __init__(self, device: str) -> None:
        self._device = device
        self.base = self._now()

    def peak(self) -> int:
        """Return the peak since the process began."""
        if self._device != "cpu":
            return torch.cuda.max_memory_allocated()
        # ru_maxrss would count what the parent had before it started this program.
        return self._status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def _now(self) -> int:
        return self._status("VmRSS") if self._device == "cpu" else torch.cuda.memory_allocated()

    def _status(self, name: str) -> int:
        lines = Path("/proc/self/status").read_text() if Path("/proc/self/status").exists() else ""
        return sum(int(line.split()[1]) * 1024 for line in lines.splitlines() if line.startswith(f"{name}:"))


def fingerprint(rows: Iterable[list[int]]) -> str:
    """Return how many tokens some rows have, and a hash that does not depend on the rows' order."""
    rows = sorted(rows)
    return f"{sum(map(len, rows))} {hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]}"


@contextmanager
def counted_synchronisations(device: str) -> Iterator[dict[str, int]]:
    """Count how often the host waits for the GPU inside the block; nothing is counted on a CPU."""
    found: dict[str, int] = {}
    if device == "cpu":
        yield found
        return
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode(before)
            found["count"] = sum("synchroniz" in str(warning.message) for warning in caught)
