"""What a LoRA adapter's files say, as peft writes them. Does not know which model they belong to."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import torch

from errors import ModelError
from models.catalog import ADAPTER_CONFIG, ADAPTER_WEIGHTS

CONFIG, WEIGHTS = ADAPTER_CONFIG, ADAPTER_WEIGHTS
# Beside them where our training wrote them: "base_identity" is `catalog.identity` of the base as it was then.
PROVENANCE = "provenance.json"

_KEY = re.compile(
    r"base_model\.model\.(?P<layer>.+)\.lora_(?:(?P<part>[AB])\.weight|(?P<length>magnitude_vector)(?:\.weight)?)"
)
# Fields that make an adapter more than LoRA or DoRA on linear layers, when they are set.
_REFUSED = {
    "modules_to_save": "whole layers saved with it (modules_to_save)",
    "lora_bias": "LoRA biases",
    "layer_replication": "replicated layers",
    "trainable_token_indices": "trained tokens",
    "target_parameters": "adapted parameters outside linear layers",
    "alora_invocation_tokens": "activated LoRA",
    "use_qalora": "QALoRA",
    "use_bdlora": "BD-LoRA",
    "arrow_config": "Arrow routing",
    "kasa_config": "KaSA",
    "monteclora_config": "MonteCLoRA",
}
# Ways to initialise that also change the base model's weights.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass(frozen=True)
class LoraLayer:
    """The adapter of one linear layer W [out, in]: the layer becomes W + scale · up · down.

    down: A [r, in]; up: B [out, r]. lengths: DoRA's lengths of the rows of the sum, [out]; None for LoRA.
    """

    down: torch.Tensor
    up: torch.Tensor
    scale: float
    lengths: torch.Tensor | None = None


def lora_weights(name: str, config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> dict[str, LoraLayer]:
    """Return the adapter of each adapted layer, by the layer's name in the base model.

    name: of the adapter, for messages. config, tensors: the contents of its two files.
    Raises ModelError when the adapter is anything but LoRA or DoRA on linear layers.
    """
    _check_plain(name, config)
    parts: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        if match is None or tensor.ndim != (1 if match["length"] else 2):
            raise ModelError(f"{name} has weights besides plain LoRA on linear layers ({key}), which cannot be served.")
        parts.setdefault(match["layer"], {})[match["part"] or "length"] = tensor
    if not parts:
        raise ModelError(f"{name} holds no LoRA weights at all. Train it again.")
    weights = {}
    for layer, pair in parts.items():
        wanted = {"A", "B", "length"} if config.get("use_dora") else {"A", "B"}
        if set(pair) != wanted or pair["A"].shape[0] != pair["B"].shape[1]:
            raise ModelError(f"{name} is broken at layer {layer}: its LoRA matrices do not match. Train it again.")
        scale = _scale(config, layer, rank=pair["A"].shape[0])
        weights[layer] = LoraLayer(pair["A"], pair["B"], scale, pair.get("length"))
    return weights


def _check_plain(name: str, config: dict[str, Any]) -> None:
    kind = str(config.get("peft_type", "")).upper()
    if kind != "LORA":
        raise ModelError(f"{name} is {kind or 'no peft adapter'}; only LoRA adapters can be served beside the base.")
    problems = [words for key, words in _REFUSED.items() if config.get(key)]
    if config.get("bias", "none") != "none":
        problems.append("trained biases")
    start = str(config.get("init_lora_weights", True)).lower()
    if start.startswith(_CHANGES_BASE):
        problems.append(f"a start that changes the base model ({start})")
    if problems:
        found = ", ".join(problems)
        raise ModelError(f"{name} is more than plain LoRA ({found}), which cannot be served beside the base.")


def _scale(config: dict[str, Any], layer: str, rank: int) -> float:
    """Return alpha / r, or alpha / √r for rank-stabilised LoRA; patterns name layers with an alpha of their own."""
    alpha = config.get("lora_alpha", 8)
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", layer):
            alpha = value
            break
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)
