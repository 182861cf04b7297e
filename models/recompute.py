"""Keeps only what enters a layer and computes the layer again in the backward pass: less memory, a third more work.

Does not know when that is worth it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from models.packed_attention import resumed


def recompute_layers(model: torch.nn.Module) -> bool:
    """Let every layer be computed again when its gradient is; return False when the model has none that can be.

    The layers' modes stay as they are, so a base model's dropout stays off.
    """
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False, context_fn=partial(_contexts, model))
    return bool(layers)


def _contexts(model: torch.nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    """The second pass runs in the backward pass, when the packed line is over: it is brought back for the layer."""
    return nullcontext(), resumed(model)
