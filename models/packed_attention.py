"""Attention in a packed line, exact and without wasted work. Does not know log-probs or training.

Plugs into transformers' attention interface for the length of one forward pass. On a CPU every prompt with its first
response is one causal attention, every further response attends to its prompt and itself; on CUDA one FlexAttention
call takes a block mask. Models that bend attention in another way raise NotPackable.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface

from models.packing import Group, Packed

NAME = "packed_line"


class NotPackable(Exception):
    """This model cannot be computed in packed lines. Its text says why."""


@dataclass
class _Line:
    """What attention needs of the line being computed. calls: how many layers have asked."""

    packed: Packed
    calls: int = 0
    masks: dict[Any, Any] = field(default_factory=dict)


_LINE: ContextVar[_Line | None] = ContextVar("packed line", default=None)


@contextmanager
def packed_attention(model: torch.nn.Module, packed: Packed) -> Iterator[None]:
    """Let a transformers model compute a packed line: call it with the line's ids and positions and no mask.

    Raises NotPackable when a layer did not come here for its attention (recurrent, convolutional, hybrid), or asked
    for something that is not built here.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    line = _Line(packed)
    with _plugged(base, line):
        yield
    layers = base.config.get_text_config(decoder=True).num_hidden_layers
    if line.calls != layers:
        raise NotPackable(f"{layers - line.calls} of its {layers} layers are not attention as others have it")


def resumed(model: torch.nn.Module) -> AbstractContextManager[None]:
    """Return a context that brings the line being computed back later, in any thread; it does nothing without one."""
    line = _LINE.get()
    return nullcontext() if line is None else _plugged(model, line)


@contextmanager
def _plugged(model: torch.nn.Module, line: _Line) -> Iterator[None]:
    configs = {id(module.config): module.config for module in model.modules() if hasattr(module, "config")}
    before = {key: config._attn_implementation_internal for key, config in configs.items()}
    token = _LINE.set(line)
    try:
        for config in configs.values():
            config._attn_implementation_internal = NAME
        yield
    finally:
        _LINE.reset(token)
        for key, config in configs.items():
            config._attn_implementation_internal = before[key]


def _attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """The function that transformers calls in every layer. query: [1, heads, t, d]; returns [1, t, heads, d]."""
    line = _LINE.get()
    assert line is not None
    for name in ("softcap", "s_aux", "sinks", "position_bias", "head_mask"):
        if others.get(name) is not None:
            raise NotPackable(f"its attention uses {name}")
    if attention_mask is not None or dropout or query.shape[-2] != key.shape[-2]:
        raise NotPackable("its attention brings a mask, a cache or dropout of its own")
    line.calls += 1
    if query.is_cuda:
        out = _flex(line, query, key, value, scaling, sliding_window)
    else:
        out = _by_group(line, query, key, value, scaling, sliding_window)
    return out.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, _attend)


def _by_group(
    line: _Line, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None
) -> Tensor:
    """One causal call for each prompt with its first response, one call for each further response."""
    # Split and cat, not slices: the gradient of a slice is a line full of zeros.
    sizes = [size for group in line.packed.groups for size in _pieces(group)]
    pieces = iter(zip(query.split(sizes, 2), key.split(sizes, 2), value.split(sizes, 2)))
    settings = {"scale": scaling, "enable_gqa": query.shape[1] != key.shape[1]}
    outputs = []
    for group in line.packed.groups:
        first = next(pieces)
        prompt = tuple(part[:, :, : group.prompt] for part in first)
        # A window that is as long as the rows hides nothing.
        hides = window if window is not None and window < group.prompt + max(group.responses, default=0) else None
        if hides is None:
            outputs.append(F.scaled_dot_product_attention(*first, is_causal=True, **settings))
        else:
            outputs.append(F.scaled_dot_product_attention(*first, attn_mask=_mask(line, first[0], 0, hides), **settings))
        for own in (next(pieces) for _ in group.responses[1:]):
            keys, values = torch.cat([prompt[1], own[1]], 2), torch.cat([prompt[2], own[2]], 2)
            if hides is None and group.prompt < own[0].shape[2]:
                # The half that a causal kernel leaves out is more than the prompt's own part, which is not needed.
                queries = torch.cat([prompt[0], own[0]], 2)
                out = F.scaled_dot_product_attention(queries, keys, values, is_causal=True, **settings)
                outputs.append(out[:, :, group.prompt :])
            else:
                mask = _mask(line, own[0], group.prompt, hides)
                outputs.append(F.scaled_dot_product_attention(own[0], keys, values, attn_mask=mask, **settings))
    return torch.cat(outputs, 2)


def _pieces(group: Group) -> list[int]:
    return [group.prompt + sum(group.responses[:1]), *group.responses[1:]]


def _mask(line: _Line, query: Tensor, before: int, window: int | None) -> Tensor:
    """Return which keys each query sees, bool [queries, before + queries]: those up to itself, within the window."""
    wanted = (query.shape[2], before, window)
    if wanted not in line.masks:
        length = query.shape[2]
        mask = torch.ones(length, before + length, dtype=torch.bool, device=query.device).tril_(before)
        line.masks[wanted] = mask if window is None else mask.triu_(before - window + 1)
    return line.masks[wanted]


def _flex(line: _Line, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None) -> Tensor:
    """The whole line in one call, with blocks that hold nothing left out."""
    if window not in line.masks:
        line.masks[window] = block_mask(line.packed, window)
    return _compiled_flex()(
        query, key, value, block_mask=line.masks[window], scale=scaling, enable_gqa=query.shape[1] != key.shape[1]
    )


def block_mask(packed: Packed, window: int | None = None) -> Any:
    """Return FlexAttention's block mask of a line: own prompt and own response, up to oneself, within the window."""
    from torch.nn.attention.flex_attention import create_block_mask

    groups, parts = packed.spans
    positions = packed.positions[0]

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        same = (groups[query] == groups[key]) & ((parts[key] == 0) | (parts[key] == parts[query])) & (query >= key)
        return same if window is None else same & (positions[query] - positions[key] < window)

    length = len(positions)
    return create_block_mask(sees, None, None, length, length, device=packed.ids.device)


def _compiled_flex() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    if not hasattr(_compiled_flex, "function"):
        _compiled_flex.function = torch.compile(flex_attention, dynamic=True)
    return _compiled_flex.function
