"""Adds to each row of a batch what its adapter adds. Does not know files, prompts, sampling or training.

The layers' own products run once for all rows; those of each adapter follow for its rows alone, in place. Rows of the
base are never touched, so they are exactly the base's. Adapters of one shape with equally many rows share a product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby

import torch

from errors import ModelError


@dataclass(frozen=True, eq=False)
class Layer:
    """One adapted layer, ready to use on the base's device: y becomes (y + x · down · up) · factor + shift.

    down: Aᵀ [in, r]; up: Bᵀ · scale [r, out]. factor, shift: DoRA's, [out]; None where there is none.
    """

    down: torch.Tensor
    up: torch.Tensor
    factor: torch.Tensor | None = None
    shift: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class Adapter:
    """An adapter in memory: its layers by their names in the base model. hash: `catalog.adapter_hash` of its files."""

    name: str
    hash: str
    layers: dict[str, Layer] = field(repr=False)


@dataclass(frozen=True, eq=False)
class _Part:
    """The rows from `start` to `stop`, all of one adapter, or equally many of each of several: then down and up are
    stacked, [a, in, r] and [a, r, out]."""

    start: int
    stop: int
    layer: Layer

    def add(self, states: torch.Tensor, output: torch.Tensor) -> None:
        """Add to a layer's output [n, …, out] for its states [n, …, in], in place."""
        layer = self.layer
        states, rows = states[self.start : self.stop], output[self.start : self.stop]
        if layer.down.dim() == 3:
            count, width, _ = layer.down.shape
            low = torch.bmm(states.reshape(count, -1, width), layer.down)
            rows.view(count, -1, rows.shape[-1]).baddbmm_(low, layer.up)
            return
        low = torch.mm(states.reshape(-1, states.shape[-1]), layer.down)
        rows = rows.view(-1, rows.shape[-1]).addmm_(low, layer.up)
        if layer.factor is not None:
            rows.mul_(layer.factor)
        if layer.shift is not None:
            rows.add_(layer.shift)


_Spans = tuple[tuple[Adapter, int, int], ...]


class LoraRows:
    """Puts adapters on a model's layers. To be used by one thread, the one that runs the model."""

    def __init__(self, layers: dict[str, torch.nn.Module]) -> None:
        """Change nothing yet. layers: the model's modules by name."""
        self._layers = layers
        self._wrapped: set[str] = set()
        self._count = 0
        self._parts: dict[str, list[_Part]] = {}
        self._planned: tuple[_Spans, dict[str, list[_Part]]] = ((), {})

    @contextmanager
    def apply(self, adapters: Sequence[Adapter | None]) -> Iterator[None]:
        """Apply adapters to the rows of every batch that the model is given inside this context.

        adapters: one for each row, None for the base. Rows of one adapter are fastest side by side.
        """
        spans, start = [], 0
        for adapter, members in groupby(adapters):
            stop = start + len(list(members))
            if adapter is not None:
                spans.append((adapter, start, stop))
            start = stop
        self._parts, self._count = self._plan(tuple(spans)), start
        try:
            yield
        finally:
            self._parts = {}

    def _plan(self, spans: _Spans) -> dict[str, list[_Part]]:
        """Return what to add at each layer; the last plan is kept, because a batch seldom changes between tokens."""
        if spans != self._planned[0]:
            parts: dict[str, list[_Part]] = {}
            for name in sorted({name for adapter, _, _ in spans for name in adapter.layers}):
                self._wrap(name)
                parts[name] = _parts(name, spans)
            self._planned = (spans, parts)
        return self._planned[1]

    def _wrap(self, name: str) -> None:
        """Let a layer add its parts. Its `forward` is replaced: a hook would cost half of what the adapter does."""
        if name in self._wrapped:
            return
        module = self._layers[name]
        module.forward = self._adding(name, module.forward)
        self._wrapped.add(name)

    def _adding(self, name: str, forward: Callable[[torch.Tensor], torch.Tensor]) -> Callable:
        def add(states: torch.Tensor) -> torch.Tensor:
            output = forward(states)
            parts = self._parts.get(name)
            if parts is None:
                return output
            if states.shape[0] != self._count:
                raise ModelError(f"The adapters cannot be used: the rows of a batch are mixed at layer {name}.")
            for part in parts:
                part.add(states, output)
            return output

        return add


def _parts(name: str, spans: _Spans) -> list[_Part]:
    """Return the parts of one layer: one stacked part where the adapters are alike there, else one for each."""
    found = [(start, stop, adapter.layers[name]) for adapter, start, stop in spans if name in adapter.layers]
    layers = [layer for _, _, layer in found]
    alike = len(found) > 1 and all(layer.factor is None for layer in layers)
    alike = alike and len({(layer.down.shape, stop - start) for start, stop, layer in found}) == 1
    if alike and all(before[1] == after[0] for before, after in zip(found, found[1:])):
        stacked = Layer(torch.stack([one.down for one in layers]), torch.stack([one.up for one in layers]))
        return [_Part(found[0][0], found[-1][1], stacked)]
    return [_Part(start, stop, layer) for start, stop, layer in found]
