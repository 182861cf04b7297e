"""What a run will need of memory, before it starts, and what is free. Does not know torch: the page asks here.

Computed from the numbers of `config.json` (exactly, for the weights, from the heads of local safetensors files) and
from the run's settings. An estimate: `tests/test_training_memory.py` holds it within a factor of two of what runs take.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path

from errors import ModelError
from models import catalog
from models.precision import BYTES, FOUR_BIT, FOUR_BIT_BYTES, likely_device
from training.config import TrainingConfig
from training.defaults import tokens_per_forward
from training.machine import free_bytes

# What the interpreter and its libraries take before a model is there, and what a GPU's driver takes.
PROGRAM_BYTES = {"cpu": 0.6e9, "mps": 0.6e9, "cuda": 0.5e9}
# Weight, gradient and the two moments of AdamW, all float32; and a copy while the gradients are clipped or saved.
BYTES_PER_TRAINED_WEIGHT = 20
# Logits exist for one block of tokens at a time, as values and as gradients (`models/lm_head.py`).
HEAD_BLOCK_NUMBERS = 1 << 24
# A safetensors file says in its first bytes how long its head is; a broken one says anything.
MOST_HEAD_BYTES = 100_000_000
UNKNOWN = "Memory: not known before the model's files are on this machine."


@dataclass(frozen=True)
class Shape:
    """The sizes of a transformer. query, key: width of all heads together; inner: width of the MLP; experts: MLPs of a
    layer; counted: weights in its files, 0 when there are none to count."""

    hidden: int
    layers: int
    query: int
    key: int
    inner: int
    vocabulary: int
    experts: int = 1
    tied: bool = True
    counted: int = 0

    @property
    def linear(self) -> int:
        """Weights of all linear layers but the last."""
        attention = 2 * self.hidden * self.query + 2 * self.hidden * self.key
        return self.layers * (attention + self.experts * 3 * self.hidden * self.inner)

    @property
    def embeddings(self) -> int:
        """Weights of the embedding and, when it is another matrix, of the last layer."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def parameters(self) -> int:
        """Weights of the whole model."""
        return self.counted or self.linear + self.embeddings


@dataclass(frozen=True)
class Estimate:
    """What a run needs, in bytes. free: what there is, None when that is not known. place: whose memory it is."""

    program: float
    weights: float
    adapter: float
    activations: float
    head: float
    tokens: int
    free: float | None = None
    place: str = "this machine"

    @property
    def total(self) -> float:
        """Everything together, in bytes."""
        return self.program + self.weights + self.adapter + self.activations + self.head

    @property
    def fits(self) -> bool:
        """False when it is known that less is free."""
        return self.free is None or self.total <= self.free

    @property
    def sentence(self) -> str:
        """What is needed and what is free, for people, with advice when that is too little."""
        parts = (
            f"base model {_size(self.weights)}, adapter and optimiser {_size(self.adapter)}, "
            f"{self.tokens:,} tokens at once {_size(self.activations + self.head)}, program {_size(self.program)}"
        )
        free = f"{_size(self.free)} are free" if self.free is not None else "how much is free is not known"
        needed = f"Memory: about {_size(self.total)} ({parts}); {free} on {self.place}."
        if self.fits:
            return needed
        return f"{needed} That may not be enough: lower tokens_per_forward, or choose a smaller model."


def estimate(config: TrainingConfig, device: str = "auto", free: float | None = None) -> Estimate | None:
    """Return what a run will need and what is free where it will run; None when the model's sizes are not known.

    device: where the program was told to train, for when the run does not say. free: bytes, when the caller knows
    better. Processes that share a CPU share its memory; each GPU holds all of it.
    """
    wanted = config.device if config.device != "auto" else device
    place = likely_device(wanted)
    shape = shape_of(config.model)
    if shape is None:
        return None
    copies = 1 if place == "cuda" else config.devices
    width = BYTES[_precision(config, place)]
    tokens = tokens_per_forward(config.tokens_per_forward, place)
    free = free if free is not None else free_bytes(place if wanted == "auto" else wanted)
    return Estimate(
        copies * PROGRAM_BYTES.get(place, PROGRAM_BYTES["cpu"]),
        copies * _weights(shape, config, width),
        copies * BYTES_PER_TRAINED_WEIGHT * adapter_weights(shape, config),
        copies * _activations(shape, config, tokens, width),
        copies * _head(shape, tokens, width),
        tokens,
        free,
        "the GPU" if place == "cuda" else "this machine",
    )


def told(config: TrainingConfig, device: str = "auto") -> str:
    """Return the estimate in one line, or that there is none. Arguments as in `estimate`."""
    known = estimate(config, device)
    return known.sentence if known else UNKNOWN


def shape_of(model: str) -> Shape | None:
    """Return the sizes of a model, or None when its config is not on this machine or says something else."""
    try:
        config = catalog.architecture(model)
        counted = _counted(Path(catalog.resolve(model)))
    except ModelError:
        return None
    values = {**(config.get("text_config") or {}), **{key: value for key, value in config.items() if value is not None}}

    def first(*names: str, otherwise: int = 0) -> int:
        found = (values[name] for name in names if isinstance(values.get(name), int) and values[name] > 0)
        return next(found, otherwise)

    hidden, layers = first("hidden_size", "n_embd", "d_model"), first("num_hidden_layers", "n_layer")
    if not hidden or not layers:
        return None
    heads = first("num_attention_heads", "n_head", otherwise=1)
    head = first("head_dim", otherwise=hidden // heads)
    experts = first("num_experts", "num_local_experts", "n_routed_experts", otherwise=1)
    inner = first("moe_intermediate_size") if experts > 1 else 0
    return Shape(
        hidden, layers, heads * head, first("num_key_value_heads", otherwise=heads) * head,
        inner or first("intermediate_size", "n_inner", "ffn_dim", otherwise=4 * hidden),
        first("vocab_size"), experts, bool(values.get("tie_word_embeddings", True)), counted,
    )


def adapter_weights(shape: Shape, config: TrainingConfig) -> int:
    """Return how many weights the adapter trains, for layers named as in Llama; for others as if all were adapted.

    Experts kept in one tensor are not adapted.
    """
    sides = {
        "q_proj": (shape.hidden, shape.query), "k_proj": (shape.hidden, shape.key),
        "v_proj": (shape.hidden, shape.key), "o_proj": (shape.query, shape.hidden),
    }
    if shape.experts == 1:
        sides |= {"gate_proj": (shape.hidden, shape.inner), "up_proj": (shape.hidden, shape.inner)}
        sides |= {"down_proj": (shape.inner, shape.hidden)}
    names = {name.strip().rpartition(".")[2] for name in config.lora_targets.split(",")}
    chosen = [both for name, both in sides.items() if name in names] or list(sides.values())
    rows = sum(output for _, output in chosen) if config.lora_dora else 0
    return shape.layers * (config.lora_rank * sum(sum(both) for both in chosen) + rows)


def _precision(config: TrainingConfig, place: str) -> str:
    if config.precision != "auto":
        return config.precision
    return "bfloat16" if place == "cuda" else "float32"


def _weights(shape: Shape, config: TrainingConfig, width: float) -> float:
    if config.quantization == FOUR_BIT:
        rest = max(shape.parameters - shape.linear, shape.embeddings)
        return shape.linear * FOUR_BIT_BYTES + rest * width
    if config.shard_base:  # the layers are divided, the embeddings are not
        return (shape.linear / config.devices + max(shape.parameters - shape.linear, shape.embeddings)) * width
    return shape.parameters * width


def _activations(shape: Shape, config: TrainingConfig, tokens: int, width: float) -> float:
    """Return what is kept for the backward pass at the token budget, with two layers' worth of work in progress.

    Kept of each token in each layer, in widths of the model: the states before and after both norms and after the
    attention (twice: as computed and as its next layer reads it), query, key and value, and of the MLP gate, up,
    activated gate and product; in half precision the norms keep float32 copies. Dropout and DoRA also keep what goes
    into each adapted layer or comes out of it, and peft's own layers, which they need, read float32.
    """
    token = width * (6 * shape.hidden + 2 * shape.query + 2 * shape.key + 4 * shape.inner)
    into = 5 * shape.hidden + shape.query + shape.inner
    out = 2 * shape.hidden + shape.query + 2 * shape.key + 2 * shape.inner
    if width < 4:
        token += 4 * 2 * shape.hidden
        if config.lora_dropout or config.lora_dora or config.quantization == FOUR_BIT:
            token += 4 * into
    if config.lora_dropout:
        token += (width + 1) * into
    if config.lora_dora:
        token += 2 * width * out
    return tokens * token * (shape.layers + 2)


def _head(shape: Shape, tokens: int, width: float) -> float:
    """Return one block of logits, their gradient, and the gradient of each token's last state."""
    block = min(HEAD_BLOCK_NUMBERS, tokens * shape.vocabulary)
    return 2 * 4 * block + 2 * width * tokens * shape.hidden


def _counted(folder: Path) -> int:
    """Return how many weights the safetensors files of a folder hold by their heads; 0 when there are none."""
    if not folder.is_absolute():
        return 0
    count = 0
    for path in folder.glob("*.safetensors"):
        try:
            with path.open("rb") as file:
                head = json.loads(file.read(min(MOST_HEAD_BYTES, int.from_bytes(file.read(8), "little"))))
            count += sum(prod(tensor["shape"]) for name, tensor in head.items() if name != "__metadata__")
        except (OSError, ValueError, KeyError, TypeError, MemoryError):
            return 0
    return count


def _size(count: float) -> str:
    """Return bytes in words: "1.4 GB", "35 MB"."""
    return f"{count / 1e9:.1f} GB" if count >= 0.95e9 else f"{max(1, round(count / 1e6))} MB"
