"""Merged weights: an adapter's change added to its base's layers, and a folder that any program loads.

Imports torch: only the merging process may import it. Does not know runs or where the folder is.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import transformers
from transformers.utils import cached_file

from errors import ModelError
from models import catalog
from models.loading import LoadedModel, load_base
from models.lora_files import CONFIG, WEIGHTS, LoraLayer, lora_weights
from publish.source import PublishError

# Taken from the base as they are: a newer transformers writes them in ways that older programs do not read.
_TOKENIZER = (
    "tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json", "chat_template*", "*.model",
    "*.tiktoken",
)
_BESIDE = ("generation_config.json", "preprocessor_config.json", "processor_config.json", "LICENSE*")
_PROBE = "Hello, 世界!  <|im_start|>\n123"


def load(model: str, dtype: str = "auto") -> LoadedModel:
    """Load a base onto the CPU, whole. dtype: "auto" for what its config says, float32 where that says nothing.

    Raises ModelError when it cannot be loaded, PublishError when it is quantised itself.
    """
    loaded = load_base(model, "cpu", _dtype_of(model) if dtype == "auto" else getattr(torch, dtype))
    if getattr(loaded.model.config, "quantization_config", None) is not None:
        raise PublishError(f"{model} is quantised itself, so nothing can be added to its weights. Publish the adapter.")
    return loaded


def _dtype_of(model: str) -> torch.dtype:
    try:
        config = transformers.AutoConfig.from_pretrained(catalog.resolve(model))
    except (OSError, ValueError, KeyError):
        return torch.float32  # `load_base` says what is wrong
    return config.get_text_config(decoder=True).dtype or config.dtype or torch.float32


def size_bytes(model: torch.nn.Module) -> int:
    """Return how many bytes a model's weights have, tied ones once."""
    return sum(weight.numel() * weight.element_size() for weight in model.parameters())


@torch.no_grad()
def merge(
    model: torch.nn.Module, name: str, adapter: Path, on_layer: Callable[[int, int], None] = lambda done, total: None
) -> tuple[int, float]:
    """Add an adapter to a base's weights, in place; return how many layers it changed, and the noise of rounding.

    name: of the adapter, for messages. adapter: its folder. on_layer: gets how many are done, of how many; what it
    raises ends the merging. The noise is the Frobenius norm of all that rounding changed over that of all that the
    adapter changed. Raises ModelError when the adapter cannot be read or is of another base, PublishError when a sum
    is too large for the weights' dtype.
    """
    try:
        config = json.loads((adapter / CONFIG).read_text(encoding="utf-8"))
        tensors = safetensors.torch.load_file(adapter / WEIGHTS)
    except Exception as error:  # safetensors has its own kinds
        raise ModelError(f"{name} cannot be read from {adapter} ({error}). Train it again.") from error
    layers, modules = lora_weights(name, config, tensors), dict(model.named_modules())
    rounded = changed = 0.0
    for done, (layer, lora) in enumerate(layers.items()):
        on_layer(done, len(layers))
        added = _add(name, layer, modules.get(layer), lora)
        rounded, changed = rounded + added[0], changed + added[1]
    return len(layers), math.sqrt(rounded / changed) if changed else 0.0


def _add(name: str, layer: str, module: torch.nn.Module | None, lora: LoraLayer) -> tuple[float, float]:
    """Add an adapter to one layer; return the squared norms of what rounding and what the adapter changed in it.

    W + scale · B A; for DoRA every row is then given its learned length (arXiv 2402.09353 Eq. 5).
    """
    weight = getattr(module, "weight", None)
    is_linear = isinstance(module, torch.nn.Linear)  # else a Conv1D, which keeps its weight the other way round
    shape = (lora.up.shape[0], lora.down.shape[1]) if is_linear else (lora.down.shape[1], lora.up.shape[0])
    if weight is None or tuple(weight.shape) != shape:
        raise ModelError(f"{name} does not fit its base: layer {layer} is missing there or has another shape.")
    before = weight.float() if is_linear else weight.float().t()
    after = before + lora.scale * (lora.up.float() @ lora.down.float())
    if lora.lengths is not None:
        after *= (lora.lengths.float() / after.norm(dim=1)).unsqueeze(1)
    kept = after.to(weight.dtype)
    if not kept.isfinite().all():
        reason = f"are too large for {weight.dtype}" if after.isfinite().all() else "are no numbers: the run diverged"
        raise PublishError(f"The merged weights of layer {layer} {reason}. Use float32 or bfloat16, or another run.")
    weight.copy_(kept if is_linear else kept.t())
    return (kept.float() - after).square().sum().item(), (after - before).square().sum().item()


def write(loaded: LoadedModel, folder: Path) -> None:
    """Write a model into a new folder as its base is kept: weights as safetensors, the base's own tokenizer files,
    chat template and generation config."""
    loaded.model.save_pretrained(folder, max_shard_size="5GB")
    base = _folder_of(loaded.name)
    _copy(base, folder, _BESIDE)
    _copy(base, folder, _TOKENIZER)
    if not _same_tokenizer(folder, loaded.tokenizer):
        loaded.tokenizer.save_pretrained(folder)
    own = json.loads((base / "config.json").read_text(encoding="utf-8"))
    if type(loaded.model).__name__ in (own.get("architectures") or ()):
        kept = _in_dtype(own, str(loaded.dtype).removeprefix("torch."))
        (folder / "config.json").write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _folder_of(model: str) -> Path:
    """Return where a base's files lie; those of a hub's are in its cache by now."""
    resolved = catalog.resolve(model)
    found = resolved if Path(resolved).is_absolute() else str(Path(str(cached_file(resolved, "config.json"))).parent)
    return Path(found)


def _copy(base: Path, folder: Path, patterns: tuple[str, ...]) -> None:
    for path in {path for pattern in patterns for path in base.glob(pattern) if path.is_file()}:
        shutil.copyfile(path, folder / path.name)


def _same_tokenizer(folder: Path, ours: transformers.PreTrainedTokenizerBase) -> bool:
    """Say whether the files in a folder are the whole tokenizer, its chat template included."""
    try:
        copied = transformers.AutoTokenizer.from_pretrained(folder)
    except Exception:  # transformers raises nearly every kind there is
        return False
    return copied.chat_template == ours.chat_template and copied(_PROBE)["input_ids"] == ours(_PROBE)["input_ids"]


def _in_dtype(config: dict[str, Any], dtype: str) -> dict[str, Any]:
    """Return a base's config for weights in another dtype, under the name that the base's own version uses."""
    kept = {name: _in_dtype(value, dtype) if isinstance(value, dict) else value for name, value in config.items()}
    named = [name for name in ("dtype", "torch_dtype") if name in config]
    return {**kept, **dict.fromkeys(named or (["torch_dtype"] if "architectures" in config else []), dtype)}
