"""Adapted layers in fewer passes over memory. Does not know losses, rows or which model it is.

What PEFT writes as y = W x, then A x, B A x, times the scale, plus y, each a pass over memory of its own, is three
matrix products here: W x, A x, and B A x added into y. The gradients are made the same way. The numbers agree with
PEFT's to rounding; whatever is not plain LoRA on a plain linear layer keeps PEFT's own forward. A gated unit,
silu(gate) · up, keeps its two factors and computes the rest again, which is a quarter less to keep in such a layer.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from peft import PeftModel
from peft.tuners.lora import Linear
from torch import Tensor
from transformers.activations import SiLUActivation

_SILU = (torch.nn.SiLU, SiLUActivation)


def fuse(model: PeftModel) -> int:
    """Give every plainly adapted linear layer the fused forward, and gated units theirs; return how many layers."""
    count = 0
    for module in model.modules():
        if type(module) is Linear and _is_plain(module):
            module.forward = MethodType(_forward, module)
            count += 1
        elif _is_gated(module):
            module.forward = MethodType(_gated_forward, module)
    return count


@torch.no_grad()
def _is_gated(module: torch.nn.Module) -> bool:
    """Say whether a module is down(silu(gate(x)) · up(x)): by its parts, and by what it makes of some input."""
    parts = {name for name, _ in module.named_children()}
    if parts != {"gate_proj", "up_proj", "down_proj", "act_fn"} or not isinstance(module.act_fn, _SILU):
        return False
    weight = module.gate_proj.weight
    if not weight.is_floating_point():  # quantised: its shape says nothing
        return False
    x = torch.linspace(-1, 1, 2 * weight.shape[1], dtype=weight.dtype, device=weight.device).view(2, -1)
    return torch.equal(module(x), module.down_proj(module.act_fn(module.gate_proj(x)) * module.up_proj(x)))


def _gated_forward(self: torch.nn.Module, x: Tensor) -> Tensor:
    return self.down_proj(_Gated.apply(self.gate_proj(x), self.up_proj(x)))


class _Gated(torch.autograd.Function):
    """silu(gate) · up, keeping only gate and up."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        for_gate = torch.ops.aten.silu_backward(gradient * up, gate)
        return for_gate, F.silu(gate).mul_(gradient)


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
