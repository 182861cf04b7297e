"""Several processes that train one run together: who does what, and how their results become one.

`accelerate launch` starts the processes and tells each its place; accelerate forms their group (nccl between GPUs,
gloo between CPUs). The adapter is small and every process has all of it, so nothing is wrapped: each takes a share of
a batch, and the gradients are added up in one exchange. Does not know losses, checkpoints or the store.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from errors import AppError, TrainingError

if TYPE_CHECKING:
    from torch import Tensor

    from training.sharding import Pace

T = TypeVar("T")


class Stopped(Exception):
    """Somebody asked to stop; carries no words because nothing went wrong."""


class PeerError(RuntimeError):
    """Another process of the same run failed; the text is what it said."""


def launched_processes() -> int:
    """Return how many processes a launcher started together with this one, itself included. Imports no torch."""
    return max(1, int(os.environ.get("WORLD_SIZE") or 1))


def is_follower() -> bool:
    """Say whether this process was launched to help another one that leads. Imports no torch."""
    return launched_processes() > 1 and int(os.environ.get("RANK") or 0) > 0


class Processes:
    """This process and its peers; alone, everything here is what a plain loop would do.

    index: this process's place, 0 leads. count: how many there are. device: "cpu", or the GPU that is this one's
    own; None when there is none for it. pace: set while passes need all processes (a base divided among them).
    """

    def __init__(self, index: int = 0, count: int = 1, device: str | None = None) -> None:
        self.index, self.count, self.device = index, count, device
        self.pace: Pace | None = None

    @property
    def leads(self) -> bool:
        """True in the one process that writes: store, log, checkpoints and adapter."""
        return self.index == 0

    def device_of(self, wish: str) -> str:
        """Return where this process computes. wish: as in the config. Raises TrainingError when GPUs are too few."""
        if self.count == 1 or wish.startswith("cpu") or self.device == "cpu":
            return "cpu" if self.count > 1 else wish
        if self.device is None:
            raise TrainingError(
                "This machine has fewer GPUs than processes were started. Start fewer, or use device cpu."
            )
        return self.device

    def share(self, items: Sequence[T]) -> list[T]:
        """Return this process's part of what all have; the parts of all processes are all of it."""
        return list(items[self.index :: self.count])

    def guard(self, work: Callable[[], T]) -> T:
        """Do this process's work and return its result, once every process has done its own.

        Where one fails, all fail: it with its own error, the others with what it said. Raises Stopped everywhere
        when it was raised anywhere. `work` must not exchange anything itself.
        """
        return self._outcomes(work)[self.index]

    def each(self, work: Callable[[], T]) -> list[T]:
        """Do this process's work and return the results of all, in order. Fails as `guard` does."""
        return self._outcomes(work, gather=True)

    def tell(self, value: T | None = None) -> T:
        """Return in every process the value that the leading one gives."""
        if self.count == 1:
            return value  # type: ignore[return-value]
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors of one device, in place, by their sums over all processes, in one exchange."""
        if self.count == 1:
            return
        import torch
        from accelerate.utils import reduce

        total = reduce(torch.cat([tensor.reshape(-1) for tensor in tensors]), reduction="sum")
        for tensor, part in zip(tensors, total.split([tensor.numel() for tensor in tensors])):
            tensor.copy_(part.view_as(tensor))

    def _outcomes(self, work: Callable[[], T], gather: bool = False) -> list[Any]:
        if self.count == 1:
            return [work()]
        from accelerate.utils import gather_object

        result, error = None, None
        try:
            result = work()
        except Exception as caught:  # told to the others first: they would wait for ever
            error = caught
        if self.pace is not None:
            self.pace.wait()
        outcomes = gather_object([(_words(error), isinstance(error, Stopped), result if gather else None)])
        if error is not None:
            raise error
        if any(stopped for _, stopped, _ in outcomes):
            raise Stopped
        for place, (words, _, _) in enumerate(outcomes):
            if words is not None:
                known, text = words
                raise TrainingError(text) if known else PeerError(f"Process {place + 1} of {self.count}: {text}")
        results = [value for _, _, value in outcomes]
        results[self.index] = result
        return results


def join() -> Processes:
    """Form a group with the processes that were launched together with this one; alone when there are none.

    Values travel between CPUs, and gradients between GPUs where that is where they are.
    """
    if launched_processes() == 1:
        return Processes()
    import torch
    from accelerate import PartialState

    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true" or not torch.cuda.is_available()
    state = PartialState(cpu=True) if on_cpu else PartialState(backend="cpu:gloo,cuda:nccl")
    device = "cpu" if on_cpu else None
    if not on_cpu and state.local_process_index < torch.cuda.device_count():
        device = f"cuda:{state.local_process_index}"
    return Processes(state.process_index, state.num_processes, device)


def leave() -> None:
    """Take this process out of its group, if it is in one."""
    if launched_processes() > 1:
        import torch

        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _words(error: Exception | None) -> tuple[bool, str] | None:
    """Say what went wrong, and whether that is a sentence for people already."""
    if error is None:
        return None
    known = isinstance(error, AppError)
    return known, str(error) if known else f"{type(error).__name__}: {error}"
