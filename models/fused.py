"""Adapted linear layers in one step forward and one step back. Does not know losses, rows or which model it is.

What PEFT writes as y = W x, then A x, B A x, times the scale, plus y, each a pass over memory of its own, is three
matrix products here: W x, A x, and B A x added into y. The gradients are made the same way. The numbers agree with
PEFT's to rounding; whatever is not plain LoRA on a plain linear layer keeps PEFT's own forward.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from peft import PeftModel
from peft.tuners.lora import Linear
from torch import Tensor


def fuse(model: PeftModel) -> int:
    """Give every plainly adapted linear layer the fused forward; return how many layers that are."""
    count = 0
    for module in model.modules():
        if type(module) is Linear and _is_plain(module):
            module.forward = MethodType(_forward, module)
            count += 1
    return count


def _is_plain(module: Linear) -> bool:
    """Say whether a layer is y = W x + scale · B A x and nothing else."""
    base = module.base_layer
    if type(base) is not torch.nn.Linear or base.weight.requires_grad or len(module.active_adapters) != 1:
        return False
    name = module.active_adapters[0]
    plain = name in module.lora_A and name not in module.lora_variant and not module.lora_bias[name]
    return plain and type(module.lora_dropout[name]) is torch.nn.Identity


def _forward(self: Linear, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    if self.disable_adapters or self.merged or args or kwargs or not _is_plain(self):
        return Linear.forward(self, x, *args, **kwargs)
    name = self.active_adapters[0]
    base, down, up = self.base_layer, self.lora_A[name].weight, self.lora_B[name].weight
    return _AdaptedLinear.apply(x, base.weight, base.bias, down, up, self.scaling[name])


class _AdaptedLinear(torch.autograd.Function):
    """y = W x + b + s · B A x, with gradients for x, A and B; W and b are frozen.

    The adapter is kept in float32 and multiplied in the precision of x, as under autocast.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        inner = flat @ down.to(x.dtype).t()
        y = F.linear(flat, weight, bias).addmm_(inner, up.to(x.dtype).t(), alpha=scale)
        ctx.save_for_backward(flat, inner, weight, down, up)
        ctx.scale = scale
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None, Tensor, Tensor, None]:
        flat, inner, weight, down, up = ctx.saved_tensors
        slope = gradient.reshape(-1, gradient.shape[-1])
        for_inner = (slope @ up.to(slope.dtype)).mul_(ctx.scale)
        for_up = (slope.t() @ inner).mul_(ctx.scale).to(up.dtype)
        for_down = (for_inner.t() @ flat).to(down.dtype)
        for_x = None
        if ctx.needs_input_grad[0]:
            for_x = (slope @ weight).addmm_(for_inner, down.to(slope.dtype)).view(*gradient.shape[:-1], -1)
        return for_x, None, None, for_down, for_up, None
