"""Loads a base model and its tokenizer onto a device. Does not know adapters, training or who asks.

Whatever goes wrong becomes a ModelError with what to do about it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.utils import logging as transformers_logging

from errors import ConfigError, ModelError
from models.catalog import architecture, resolve
from models.precision import FOUR_BIT, four_bit_problem

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode without gradients, its tokenizer (which has a pad token and a chat template), and where
    it is. dtype: what it computes in. name: as the user named it."""

    model: transformers.PreTrainedModel
    tokenizer: transformers.PreTrainedTokenizerBase
    device: torch.device
    dtype: torch.dtype
    name: str


def pick_device(device: str = "auto") -> torch.device:
    """Return the device to use: for "auto" a GPU where there is one, then Apple's, then the CPU.

    Raises ModelError for a device that this machine or this build of torch does not have.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ModelError(f'"{device}" is no device. Use auto, cpu, cuda or mps.') from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f'There is no GPU for device "{device}". Use auto or cpu, or install a CUDA build of torch.')
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ModelError(f'There is no "{device}": this machine has {torch.cuda.device_count()} GPU(s), from cuda:0.')
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise ModelError('There is no Apple GPU for device "mps". Use auto or cpu.')
    return chosen


def pick_dtype(device: torch.device, precision: str | None = None) -> torch.dtype:
    """Return what to compute in on a device.

    precision: None, for answering, gives bfloat16 on GPUs that compute in it, and float32 elsewhere (older GPUs only
    emulate it, slowly). "auto", for training, differs on those older NVIDIA GPUs: float16, which they are fast in.
    "float32", "bfloat16" and "float16" mean themselves.
    """
    if precision not in (None, "auto"):
        return getattr(torch, precision)
    if device.type != "cuda":
        return torch.float32
    if torch.version.hip or torch.cuda.get_device_capability(device)[0] >= 8:
        return torch.bfloat16
    return torch.float16 if precision == "auto" and torch.cuda.get_device_capability(device)[0] >= 7 else torch.float32


def load_base(
    model: str,
    device: str = "auto",
    dtype: torch.dtype | None = None,
    *,
    precision: str | None = None,
    quantization: str = "none",
) -> LoadedModel:
    """Load a model for use or for training with adapters.

    model: "demo", a folder or a hub name. device: "auto", "cpu", "cuda", "cuda:1" or "mps". dtype, precision: what
    to compute in, `pick_dtype`'s when both are None. quantization: "none", or "4bit" for weights in NF4.
    Raises ModelError when it cannot be found or loaded, is of an architecture this version of transformers does not
    know, has no chat template, or does not fit into memory; ConfigError when 4 bits are asked for and cannot be had.
    """
    resolved = resolve(model)
    chosen_device = pick_device(device)
    chosen_dtype = dtype or pick_dtype(chosen_device, precision)
    transformers_logging.disable_progress_bar()
    options = _four_bit(chosen_device, chosen_dtype) if quantization == FOUR_BIT else {}
    _refuse_other_kinds(model)
    tokenizer = load_tokenizer(model)
    try:
        loaded = transformers.AutoModelForCausalLM.from_pretrained(resolved, dtype=chosen_dtype, **options)
        loaded = loaded if options else loaded.to(chosen_device)
    except torch.cuda.OutOfMemoryError as error:
        raise ModelError(
            f"{model} does not fit into the memory of {chosen_device}. Use a smaller model, or free the GPU."
        ) from error
    except Exception as error:  # transformers raises nearly every kind there is
        raise _explained(model, resolved, error) from error
    loaded.eval().requires_grad_(False)
    return LoadedModel(loaded, tokenizer, chosen_device, chosen_dtype, model)


def _four_bit(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return the arguments that make transformers load weights in NF4 onto a device. Raises ConfigError."""
    if problem := four_bit_problem(str(device)):
        raise ConfigError(f"{problem}.")
    quantized = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": quantized, "device_map": {"": device}}


def load_tokenizer(model: str) -> transformers.PreTrainedTokenizerBase:
    """Load a model's tokenizer; one without a pad token pads with its end-of-sequence token, always masked.

    Raises ModelError as `load_base` does.
    """
    resolved = resolve(model)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(resolved)
    except Exception as error:  # as above
        raise _explained(model, resolved, error) from error
    if not tokenizer.chat_template:
        raise ModelError(
            f"{model} has no chat template, so it cannot hold a conversation. "
            "Use its instruction-tuned ('-it', '-instruct', '-chat') sibling."
        )
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token is None:
            raise ModelError(f"{model}'s tokenizer has no end-of-sequence token. Name one in its tokenizer config.")
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def context_limit(model: transformers.PreTrainedModel) -> int | None:
    """Return the longest sequence the model reads, in tokens, or None when its config does not say."""
    config = model.config.get_text_config(decoder=True)
    for name in ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length"):
        limit = getattr(config, name, None)
        if isinstance(limit, int) and limit > 0:
            return limit
    return None


def _refuse_other_kinds(model: str) -> None:
    config = architecture(model)
    if config.get("is_encoder_decoder"):
        kind = config.get("model_type", "an encoder-decoder")
        raise ModelError(f"{model} is {kind}, which is not a causal language model. Choose a chat model.")


def _explained(model: str, resolved: str, error: Exception) -> ModelError:
    """Turn what transformers raised into a sentence; the whole of it goes to the log."""
    _log.debug("loading %s failed", model, exc_info=error)
    reason = " ".join(str(error).split())
    words = reason.lower()
    if not Path(resolved).is_absolute():
        if "gated" in words or "401" in words or "403" in words or "authenticat" in words:
            return ModelError(f"{model} is not open to you. Accept its terms on the hub and log in (`hf auth login`).")
        if any(sign in words for sign in ("couldn't connect", "offline", "connection", "resolve", "timed out")):
            return ModelError(
                f"{model} is not on this machine and the model hub cannot be reached. "
                'Connect, give a folder that holds the model, or use "demo".'
            )
        if "not a valid model identifier" in words or "404" in words or "repository not found" in words:
            return ModelError(f'The model hub has no "{model}". Check the spelling: names look like "org/name".')
    if "model type" in words or "unrecognized" in words or "does not recognize" in words:
        return ModelError(
            f"transformers {transformers.__version__} does not know the architecture of {model}. "
            "Upgrade transformers, or use another model."
        )
    place = f" from {resolved}" if Path(resolved).is_absolute() else ""
    return ModelError(
        f"{model} cannot be loaded{place}: {type(error).__name__}: {reason[:300]} "
        "Copy or download it again; a file may be missing or broken."
    )
