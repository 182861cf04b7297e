"""LoRA adapters that share one base model, each applied to its own rows of a batch.

A forward hook on every adapted linear layer adds B(A x) · scale to the rows of each adapter, in place; rows of the
base are never touched, so they are exactly the base's. Does not know prompts, sampling or training.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from errors import ModelError
from models.catalog import identity
from models.lora_files import CONFIG, PROVENANCE, WEIGHTS, lora_weights

_Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Adapter:
    """An adapter in memory.

    pairs: for each adapted layer, Aᵀ [in, r] and Bᵀ · scale [r, out], on the base's device.
    """

    name: str
    pairs: dict[str, _Pair] = field(repr=False)


class AdapterSet:
    """The adapters of one base model. `load` may be called from any thread; `rows` only from the one that runs it."""

    def __init__(self, model: torch.nn.Module, base_name: str) -> None:
        """Hook nothing yet. base_name: the base model as `catalog.resolve` takes it."""
        self._model = model
        self._base_name = base_name
        self._layers = dict(model.named_modules())
        self._loaded: dict[str, tuple[Any, Adapter]] = {}
        self._lock = threading.Lock()
        self._hooked: set[str] = set()
        self._count = 0
        self._groups: list[tuple[int, int, Adapter]] = []

    def load(self, name: str, folder: Path) -> Adapter:
        """Return the adapter in a folder as peft saves it; it is read again when its files have changed.

        Raises ModelError when it is missing, broken, of another base model, or more than plain LoRA on linear layers.
        """
        with self._lock:
            stamp = _stamp(name, folder)
            known = self._loaded.get(name)
            if known is not None and known[0] == stamp:
                return known[1]
            adapter = Adapter(name, self._read(name, folder))
            self._loaded[name] = (stamp, adapter)
            return adapter

    @contextmanager
    def rows(self, adapters: Sequence[Adapter | None]) -> Iterator[None]:
        """Apply adapters to the rows of every batch that the model is given inside this context.

        adapters: one for each row, None for the base. Rows of one adapter are fastest side by side.
        """
        spans, start = [], 0
        for adapter, members in groupby(adapters):
            stop = start + len(list(members))
            if adapter is not None:
                spans.append((start, stop, adapter))
                self._hook(adapter)
            start = stop
        self._groups, self._count = spans, start
        try:
            yield
        finally:
            self._groups = []

    def _hook(self, adapter: Adapter) -> None:
        for name in adapter.pairs.keys() - self._hooked:
            self._layers[name].register_forward_hook(self._make_hook(name))
            self._hooked.add(name)

    def _make_hook(self, name: str) -> Callable:
        def add(module: torch.nn.Module, arguments: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            for start, stop, adapter in self._groups:
                pair = adapter.pairs.get(name)
                if pair is None:
                    continue
                states = arguments[0]
                if states.shape[0] != self._count:
                    raise ModelError(f"{adapter.name} cannot be used: the rows of a batch are mixed at layer {name}.")
                low = states[start:stop].reshape(-1, states.shape[-1]) @ pair[0]
                output[start:stop].view(-1, output.shape[-1]).addmm_(low, pair[1])

        return add

    def _read(self, name: str, folder: Path) -> dict[str, _Pair]:
        try:
            config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
            tensors = safetensors.torch.load_file(folder / WEIGHTS)
        except Exception as error:  # safetensors has its own kinds
            raise ModelError(f"{name} cannot be read from {folder} ({error}). Train it again.") from error
        self._check_base(name, str(config.get("base_model_name_or_path") or ""), _recorded_base(folder))
        pairs = {}
        for layer_name, (down, up, scale) in lora_weights(name, config, tensors).items():
            weight = getattr(self._layers.get(layer_name), "weight", None)
            expected = {(down.shape[1], up.shape[0]), (up.shape[0], down.shape[1])}
            if weight is None or tuple(weight.shape) not in expected:
                raise ModelError(
                    f"{name} does not fit {self._base_name}: its layer {layer_name} is missing there or has another "
                    "shape. It was trained on another model."
                )
            up = up.float() * scale
            pairs[layer_name] = tuple(part.to(weight.device, weight.dtype).t().contiguous() for part in (down, up))
        return pairs

    def _check_base(self, name: str, trained_on: str, recorded: str | None) -> None:
        """Compare the two base models: by what was recorded in training, else as far as their names tell.

        A folder that has moved, and of which nothing was recorded, is told by its shapes.
        """
        ours, named = _identity(self._base_name), _identity(trained_on)
        theirs = recorded or named
        if theirs is None or ours is None or theirs == ours:
            return
        if theirs.startswith("sha256:") != ours.startswith("sha256:"):
            return  # a hub name and a folder cannot be compared
        if named == ours:
            raise ModelError(
                f"{name} was trained on {trained_on} as it was then; its weights are others now. Train it again."
            )
        raise ModelError(f"{name} was trained on {trained_on}, not on {self._base_name}. Choose that base model.")


def _identity(model: str) -> str | None:
    try:
        return identity(model)
    except ModelError:
        return None


def _recorded_base(folder: Path) -> str | None:
    """Return the identity of the base that training wrote beside the adapter; None where it wrote none."""
    try:
        return str(json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))["base_identity"]) or None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _stamp(name: str, folder: Path) -> tuple[tuple[int, int], ...]:
    """Return what changes when the adapter's files are written anew."""
    try:
        found = [(folder / file).stat() for file in (CONFIG, WEIGHTS)]
    except OSError as error:
        raise ModelError(f"{name} has no adapter in {folder}. Train it again, or choose another.") from error
    return tuple((status.st_mtime_ns, status.st_size) for status in found)
