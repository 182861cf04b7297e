"""How much arithmetic a run must do at least, and how fast the machine multiplies matrices. Does not know who trains.

Counted are the products of a plain causal transformer with a gated MLP (Llama, Qwen2): linear layers, attention and
the LM head at response positions. Left out: norms, softmax, rotary embeddings, the adapter and its gradients.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import transformers


@dataclass(frozen=True)
class Group:
    """Responses that share one prompt, in tokens: each sees the prompt and itself."""

    prompt: int
    responses: tuple[int, ...]


def forward_flops(config: transformers.PretrainedConfig, groups: Iterable[Group]) -> int:
    """Return the floating point operations of one forward pass that computes no token twice and no padding."""
    width, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    head_width = getattr(config, "head_dim", None) or width // config.num_attention_heads
    queries, keys = config.num_attention_heads * head_width, config.num_key_value_heads * head_width
    linear = width * (queries + 2 * keys) + queries * width + 3 * width * inner
    total = 0
    for group in groups:
        tokens = group.prompt + sum(group.responses)
        seen = _seen(0, group.prompt) + sum(_seen(group.prompt, length) for length in group.responses)
        total += layers * (2 * linear * tokens + 4 * queries * seen)
        total += 2 * width * config.vocab_size * sum(group.responses)
    return total


def _seen(before: int, length: int) -> int:
    """Count the key positions that `length` tokens attend to after `before` others, themselves among them."""
    return length * before + length * (length + 1) // 2


def run_flops(config: transformers.PretrainedConfig, method: str, pairs: Iterable[Group]) -> dict[str, int]:
    """Return the operations of the reference pass and of one epoch of training with LoRA.

    Training is twice a forward pass: forward, and backward to the inputs through frozen weights. KTO takes each of
    a pair's responses by itself, beside another prompt's one, which needs a forward pass only.
    """
    if method != "kto":
        forward = forward_flops(config, pairs)
        return {"reference": forward, "training": 2 * forward}
    responses = [Group(pair.prompt, (length,)) for pair in pairs for length in pair.responses]
    foreign = responses[2:] + responses[:2]
    both = forward_flops(
        config, [Group(own.prompt, own.responses + other.responses) for own, other in zip(responses, foreign)]
    )
    return {"reference": both, "training": both + forward_flops(config, responses)}


def product_rates(device: str, width: int, dtype: torch.dtype, seconds: float = 1.0) -> dict[str, float]:
    """Return the FLOP/s of [1024, width] × [width, 1024] and of a square product of 4,096 (2,048 on a CPU)."""
    square = 2048 if device == "cpu" else 4096
    shapes = {"rows": (1024, width, 1024), "square": (square, square, square)}
    return {name: _rate(device, shape, dtype, seconds) for name, shape in shapes.items()}


def _rate(device: str, shape: tuple[int, int, int], dtype: torch.dtype, seconds: float) -> float:
    rows, inner, columns = shape
    left, right = torch.randn(rows, inner).to(device, dtype), torch.randn(inner, columns).to(device, dtype)
    out = torch.empty(rows, columns, device=device, dtype=dtype)
    repeats = max(1, int(2e9 if device == "cpu" else 2e12) // (2 * rows * inner * columns))
    times: list[float] = []
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends or len(times) < 3:
        started = time.perf_counter()
        for _ in range(repeats):
            torch.mm(left, right, out=out)
        if device != "cpu":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - started) / repeats)
    return 2 * rows * inner * columns / statistics.median(times)
