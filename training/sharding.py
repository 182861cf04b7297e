"""A base model divided among the devices of a run (FSDP), for one that does not fit one of them.

Every process keeps a part of each layer and gets the rest when it computes it. The adapter, the embeddings and the
head stay whole everywhere, so nothing else changes but that forward and backward passes need all processes: `Pace`
lets those that have fewer of them go on with empty ones. Does not know what is computed.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from peft import PeftModel
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers.modeling_layers import GradientCheckpointingLayer

from errors import TrainingError
from training.distributed import Processes

NOTHING, FORWARD, BACKWARD = 0, 1, 2


def shard(model: PeftModel, device: torch.device, processes: Processes) -> str:
    """Divide a base model, which is on the CPU and has its adapter, among the processes and move it to their devices.

    From then on `processes` waits for all whenever work has passes. Returns a line that says what each keeps.
    Raises TrainingError when its layers are not built as transformers builds them.
    """
    transformer = model.get_base_model().base_model
    layers = [module for module in transformer.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise TrainingError("The layers of this model cannot be divided among devices. Set shard_base to false.")
    mesh = init_device_mesh(device.type, (processes.count,))
    adapter = {weight for weight in model.parameters() if weight.requires_grad}
    whole = set(transformer.parameters()) - {weight for layer in layers for weight in layer.parameters()}
    for layer in layers:
        fully_shard(layer, mesh=mesh, ignored_params=adapter)
    fully_shard(transformer, mesh=mesh, ignored_params=adapter | whole)
    model.to(device)
    processes.pace = Pace(lambda: model(input_ids=torch.zeros((1, 1), dtype=torch.long, device=device)).logits)
    base = [weight for weight in model.parameters() if not weight.requires_grad]
    total, kept = (sum(weight.numel() for weight in each) for each in (base, [_own_part(weight) for weight in base]))
    return f"The base model is divided among {processes.count} processes: this one keeps {kept:,} of {total:,} weights."


def _own_part(weight: Tensor) -> Tensor:
    return weight.to_local() if isinstance(weight, DTensor) else weight


class Pace:
    """Keeps the passes of all processes in step. empty: computes a pass of one token, which means nothing."""

    def __init__(self, empty: Callable[[], Tensor]) -> None:
        self._empty = empty

    def begin_pass(self) -> None:
        """Say that a forward pass comes now, and with it a backward pass where gradients are wanted."""
        self._agree(BACKWARD if torch.is_grad_enabled() else FORWARD)

    def wait(self) -> None:
        """Go on with empty passes until no process has any left."""
        while kind := self._agree(NOTHING):
            with torch.set_grad_enabled(kind == BACKWARD):
                states = self._empty()
                if kind == BACKWARD:
                    states.backward(torch.zeros_like(states))

    def _agree(self, kind: int) -> int:
        wanted = torch.tensor(kind)
        torch.distributed.all_reduce(wanted, torch.distributed.ReduceOp.MAX)
        return int(wanted)
