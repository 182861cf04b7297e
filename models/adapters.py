"""LoRA adapters that share one base model, read from their folders and checked against it.

How their rows of a batch get them is `lora_rows`'. Does not know prompts, sampling or training.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from errors import ModelError
from models.catalog import adapter_hash, identity
from models.lora_files import CONFIG, PROVENANCE, WEIGHTS, LoraLayer, lora_weights
from models.lora_rows import Adapter, Layer, LoraRows


class AdapterSet:
    """The adapters of one base model. `load` may be called from any thread; `rows` only from the one that runs it."""

    def __init__(self, model: torch.nn.Module, base_name: str) -> None:
        """Hook nothing yet. base_name: the base model as `catalog.resolve` takes it."""
        self._model = model
        self._base_name = base_name
        self._layers = dict(model.named_modules())
        self._loaded: dict[str, tuple[Any, Adapter]] = {}
        self._lock = threading.Lock()
        self._rows = LoraRows(self._layers)

    def load(self, name: str, folder: Path) -> Adapter:
        """Return the adapter in a folder as peft saves it; it is read again when its files have changed.

        Raises ModelError when it is missing, broken, of another base model, or more than LoRA or DoRA on linear layers.
        """
        with self._lock:
            stamp = _stamp(name, folder)
            known = self._loaded.get(name)
            if known is not None and known[0] == stamp:
                return known[1]
            adapter = Adapter(name, adapter_hash(folder), self._read(name, folder))
            self._loaded[name] = (stamp, adapter)
            return adapter

    @contextmanager
    def rows(self, adapters: Sequence[Adapter | None]) -> Iterator[None]:
        """Apply adapters to the rows of every batch that the model is given inside this context.

        adapters: one for each row, None for the base. Rows of one adapter are fastest side by side.
        """
        with self._rows.apply(adapters):
            yield

    def _read(self, name: str, folder: Path) -> dict[str, Layer]:
        try:
            config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
            tensors = safetensors.torch.load_file(folder / WEIGHTS)
        except Exception as error:  # safetensors has its own kinds
            raise ModelError(f"{name} cannot be read from {folder} ({error}). Train it again.") from error
        self._check_base(name, str(config.get("base_model_name_or_path") or ""), recorded_base(folder))
        layers = {}
        for layer_name, lora in lora_weights(name, config, tensors).items():
            module = self._layers.get(layer_name)
            weight = getattr(module, "weight", None)
            expected = {(lora.down.shape[1], lora.up.shape[0]), (lora.up.shape[0], lora.down.shape[1])}
            if weight is None or tuple(weight.shape) not in expected:
                raise ModelError(
                    f"{name} does not fit {self._base_name}: its layer {layer_name} is missing there or has another "
                    "shape. It was trained on another model."
                )
            layers[layer_name] = _prepared(module, lora)
        return layers

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


@torch.no_grad()
def _prepared(module: torch.nn.Module, lora: LoraLayer) -> Layer:
    """Bring an adapter to the device and precision of its layer.

    DoRA keeps the direction of each row of W + scale · B A and learns its length, so the output without bias is
    multiplied by the learned length over the real one (arXiv 2402.09353 Eq. 5).
    """
    weight, bias = module.weight, getattr(module, "bias", None)
    up = lora.up.float() * lora.scale
    down, up = (part.to(weight.device, weight.dtype).t().contiguous() for part in (lora.down, up))
    if lora.lengths is None:
        return Layer(down, up)
    rows = weight.float() if isinstance(module, torch.nn.Linear) else weight.float().t()
    rows = rows + lora.scale * (lora.up.float() @ lora.down.float()).to(weight.device)
    factor = lora.lengths.to(weight.device).float() / rows.norm(dim=1)
    shift = None if bias is None else (bias.float() * (1 - factor)).to(weight.dtype)
    return Layer(down, up, factor.to(weight.dtype), shift)


def _identity(model: str) -> str | None:
    try:
        return identity(model)
    except ModelError:
        return None


def recorded_base(folder: Path) -> str | None:
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
