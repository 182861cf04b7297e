"""Rows of a transformers cache: room to grow, choosing, joining and trimming them.

Uses what transformers 5.17 to 5.24 have in common. Does not know what the rows are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


# Columns of room for tokens to come; a quarter more for long caches, so that a column is moved a few times only.
_ROOM = 64


class RoomyLayer(DynamicLayer):
    """Keys and values with room on their right, so that a token does not copy all that stand before it.

    Other code may replace `keys` and `values`; the next token then moves them into new room.
    """

    def __init__(self, **options: Any) -> None:
        """Start empty, without room."""
        super().__init__(**options)
        self._rooms: dict[str, torch.Tensor] = {}
        self._views: dict[str, torch.Tensor] = {}

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *arguments: Any, **options: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append new columns [rows, heads, columns, size] and return all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys = self._appended("keys", self.keys, key_states)
        self.values = self._appended("values", self.values, value_states)
        return self.keys, self.values

    def _appended(self, name: str, old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        if not old.numel():
            return new.contiguous()  # room is made by the next token: rows are often chosen anew before it
        seen, width = old.shape[-2], old.shape[-2] + new.shape[-2]
        room = self._rooms.get(name)
        if room is None or self._views[name] is not old or width > room.shape[-2]:
            room = self._rooms[name] = new.new_empty((*new.shape[:-2], width + max(_ROOM, width // 4), new.shape[-1]))
            room[..., :seen, :] = old
        room[..., seen:width, :] = new
        view = self._views[name] = room[..., :width, :]
        return view


def roomy(config: Any) -> DynamicCache:
    """Return an empty cache for a model's config, with room to grow where its layers keep all columns."""
    cache = DynamicCache(config=config)
    cache.layers = [RoomyLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def is_plain(cache: DynamicCache) -> bool:
    """Say whether every layer keeps all keys and values, so that rows can be padded and joined.

    Sliding windows and recurrent states cannot: what they hold depends on how many columns they have seen.
    """
    return all(type(layer) is RoomyLayer for layer in cache.layers)


def select(cache: DynamicCache, indices: Sequence[int], device: torch.device) -> None:
    """Keep the rows at `indices`, in that order; an index may come twice. Works on every kind of layer."""
    cache.reorder_cache(torch.tensor(indices, device=device))


def join(cache: DynamicCache, padding: int, other: DynamicCache, other_padding: int) -> None:
    """Append another plain cache's rows, after adding columns of padding to the left of each."""
    for layer, new in zip(cache.layers, other.layers):
        if layer.is_initialized and new.is_initialized:
            layer.keys = torch.cat([_padded(layer.keys, padding), _padded(new.keys, other_padding)])
            layer.values = torch.cat([_padded(layer.values, padding), _padded(new.values, other_padding)])


def trim(cache: DynamicCache, columns: int) -> None:
    """Forget the leftmost columns of a plain cache."""
    for layer in cache.layers:
        if layer.is_initialized:
            layer.keys = layer.keys[:, :, columns:]
            layer.values = layer.values[:, :, columns:]


def _padded(states: torch.Tensor, columns: int) -> torch.Tensor:
    """Add columns of zeros on the left of [rows, heads, columns, size]."""
    return torch.nn.functional.pad(states, (0, 0, columns, 0)) if columns else states
