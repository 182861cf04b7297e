"""Where a run can be taken up again: adapter, optimiser, step and figures in one file, replaced whole or not at all.

A step is a function of the settings, the labels and its number (the order of the rows, the dropout and the learning
rate follow from them), so no random state needs to be kept. Does not know the store, nor how a step is taken.
Reading the step of a checkpoint imports no torch: the web process does that.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from errors import TrainingError
from training.config import TrainingConfig
from training.dataset import snapshot_hash

if TYPE_CHECKING:
    import torch

NAME, UNFINISHED = "checkpoint.safetensors", "checkpoint.safetensors.unfinished"
FORMAT = 1
# What a run may be taken up with differently: it changes where, how fast and how often, not what is learned.
SPEED_ONLY = ("device", "devices", "shard_base", "tokens_per_forward", "checkpoint_seconds", "evaluate_every")
# What the other parts of a run's identity tell: its labels have a hash of their own.
TOLD_BY_OTHERS = ("labels",)
LONGEST_HEADER_BYTES = 100_000_000


@dataclass
class Checkpoint:
    """A run after `step` steps. tensors: on the CPU, by name. figures: the summary so far. extra: plain values."""

    step: int
    tensors: dict[str, torch.Tensor]
    figures: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


def identity_of(config: TrainingConfig, base: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what a run must agree with a checkpoint in: settings, base model and labels.

    base: `models.catalog.identity` of the base model. rows: the labels, as `store.labels.judged` yields them.
    """
    settings = {name: value for name, value in config.to_dict().items() if name not in (*SPEED_ONLY, *TOLD_BY_OTHERS)}
    return {"settings": json.loads(json.dumps(settings)), "base": base, "labels": snapshot_hash(rows)}


def step_of(path: Path) -> int | None:
    """Return how many steps the run of a checkpoint had taken; None when there is none that can be read."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if 0 < length < LONGEST_HEADER_BYTES else {}
        return int(json.loads(header["__metadata__"]["checkpoint"])["step"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remove(folder: Path) -> None:
    """Remove the checkpoint from a run's folder, when the run needs it no more."""
    for name in (NAME, UNFINISHED):
        with suppress(OSError):
            (folder / name).unlink(missing_ok=True)


def collect(
    step: int, model: torch.nn.Module, optimiser: torch.optim.Optimizer, figures: Mapping[str, Any]
) -> Checkpoint:
    """Return a run as it is after `step` steps. The tensors are the run's own: write them before the next step."""
    tensors = {f"weights/{name}": weight.detach() for name, weight in _trainable(model).items()}
    for place, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{place}/{name}": value.detach() for name, value in state.items()}
    return Checkpoint(step, {name: tensor.contiguous() for name, tensor in tensors.items()}, dict(figures))


def restore(checkpoint: Checkpoint, model: torch.nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Put a checkpoint's weights and optimiser state in place of a fresh run's. Raises TrainingError."""
    import torch

    weights = _trainable(model)
    saved = {name.removeprefix("weights/"): each for name, each in checkpoint.tensors.items() if name[0] == "w"}
    if {name: each.shape for name, each in saved.items()} != {name: each.shape for name, each in weights.items()}:
        raise TrainingError("The checkpoint's adapter is not the one of these settings. Start a new run.")
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(saved[name])
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in checkpoint.tensors.items():
        if name.startswith("optimiser/"):
            _, place, key = name.split("/", 2)
            state.setdefault(int(place), {})[key] = tensor.clone()
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


class Checkpoints:
    """The one checkpoint of a run: the last complete one.

    path: its file, called NAME. identity: `identity_of` the run; a checkpoint of another is refused. seconds: how
    long to train between two. say: gets a line when one cannot be written.
    """

    def __init__(
        self, path: Path, identity: Mapping[str, Any], seconds: float, say: Callable[[str], None] = lambda line: None
    ) -> None:
        self.path, self.identity, self.seconds, self.say = path, dict(identity), seconds, say
        self._unfinished = path.with_name(UNFINISHED)
        self._last = time.monotonic()

    @property
    def is_due(self) -> bool:
        """True when the last one, or the start, is `seconds` ago."""
        return time.monotonic() - self._last >= self.seconds

    def write(self, checkpoint: Checkpoint) -> bool:
        """Put a checkpoint in place of the one before, which stays until this one is complete; return whether it is.

        A full disk must not end a run that still learns: then, and where a weight is not finite, the one before
        stays and a line says so.
        """
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        self._last = time.monotonic()
        if not all(bool(tensor.isfinite().all()) for tensor in checkpoint.tensors.values()):
            self.say(f"No checkpoint at step {checkpoint.step}: a weight is not a finite number. {self._kept()}")
            return False
        about = {
            "format": FORMAT, "step": checkpoint.step, "figures": checkpoint.figures, "extra": checkpoint.extra,
            "identity": self.identity,
        }
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            save_file(checkpoint.tensors, self._unfinished, {"checkpoint": json.dumps(about)})
            _to_disk(self._unfinished)
            self._unfinished.replace(self.path)
            with suppress(OSError):  # folders cannot be opened everywhere
                _to_disk(self.path.parent)
        except (OSError, SafetensorError) as error:
            with suppress(OSError):
                self._unfinished.unlink(missing_ok=True)
            self.say(f"The checkpoint at step {checkpoint.step} could not be written ({error}). {self._kept()}")
            return False
        return True

    def read(self) -> Checkpoint | None:
        """Return the last complete checkpoint; None when there is none.

        Raises TrainingError when it cannot be read, or belongs to other settings, labels or weights.
        """
        from safetensors import SafetensorError, safe_open

        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, "pt") as file:
                about = json.loads(file.metadata()["checkpoint"])
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
            if about["format"] != FORMAT:
                raise ValueError(f"format {about['format']}")
            self._check(about["identity"])
            return Checkpoint(about["step"], tensors, about["figures"], about["extra"])
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(
                f"The checkpoint {self.path} cannot be read ({error}). Remove it and start a new run."
            ) from error

    def _kept(self) -> str:
        step = step_of(self.path)
        return "There is none before it." if step is None else f"The one of step {step} stays."

    def _check(self, theirs: Mapping[str, Any]) -> None:
        """Compare what a checkpoint was made with. Raises TrainingError."""
        ours = self.identity
        if theirs["base"] != ours["base"]:
            raise TrainingError(
                "The base model's weights are not those that this run began with. Put the old ones back, or start a"
                " new run."
            )
        if theirs["labels"] != ours["labels"]:
            raise TrainingError("The labels of this run are not what they were when it began. Start a new run.")
        known = {**theirs["settings"], **ours["settings"]}
        if other := [name for name in known if theirs["settings"].get(name) != ours["settings"].get(name)]:
            raise TrainingError(
                f"The checkpoint was made with other settings ({', '.join(sorted(other))}). Start a new run."
            )


def _trainable(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def _to_disk(path: Path) -> None:
    """Wait until a file, or what a folder lists, has reached the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
