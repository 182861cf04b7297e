"""Rows of a transformers cache: choosing, joining and trimming them.

Uses what transformers 5.17 to 5.23 have in common. Does not know what the rows are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


def is_plain(cache: DynamicCache) -> bool:
    """Say whether every layer keeps all keys and values, so that rows can be padded and joined.

    Sliding windows and recurrent states cannot: what they hold depends on how many columns they have seen.
    """
    return all(type(layer) is DynamicLayer for layer in cache.layers)


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
