"""The last step of a language model, from hidden states to log-probs, without keeping logits.

Owns finding the LM head of a transformers model and scoring target tokens with it block by block. Does not know
rows, prompts or padding.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

# Logits of one block, in numbers; 2**24 float32 are 64 MiB, of which a few exist at once.
_BLOCK_NUMBERS = 1 << 24
# Without gradients on a CPU: tokens and vocabulary of one tile, which stays in the cache while it is summed up.
_TILE_TOKENS, _TILE_WORDS = 640, 2048
_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3}
_HALF_TOLERANCE = 5e-2


class NoPlainHead(Exception):
    """The model's logits are not `cap(scale · head(hidden))`; score with its whole logits instead."""


@dataclass(frozen=True)
class Head:
    """How a model makes logits of hidden states: cap · tanh(scale · module(hidden) / cap), or without the cap.

    transformer: the module whose output goes into the head. scale: e.g. Cohere's and Granite's factor.
    cap: Gemma's final soft cap, None without one.
    """

    transformer: torch.nn.Module
    module: torch.nn.Module
    scale: float
    cap: float | None

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return float32 logits [tokens, v] of hidden states [tokens, d]."""
        return self.transform(self.module(hidden).float())

    def transform(self, raw: torch.Tensor) -> torch.Tensor:
        """Scale and cap what the module returned."""
        if self.scale != 1.0:
            raw = raw * self.scale
        return raw if self.cap is None else torch.tanh(raw / self.cap) * self.cap

    @torch.no_grad()
    def check(self, hidden: torch.Tensor, logits: torch.Tensor) -> None:
        """Compare with logits that the model made itself. Raises NoPlainHead when they differ.

        hidden: [n, d]. logits: [n, v].
        """
        mine = self.logits(hidden)
        if mine.shape != logits.shape:
            raise NoPlainHead
        difference = (mine - logits.float()).abs().max()
        size = logits.float().abs().max().clamp(min=1.0)
        if not bool(difference <= _TOLERANCE.get(logits.dtype, _HALF_TOLERANCE) * size) and bool(size.isfinite()):
            raise NoPlainHead


def find_head(model: torch.nn.Module) -> Head:
    """Find a model's transformer and LM head. Raises NoPlainHead when it is built in another way.

    model: a transformers model, or a PeftModel around one.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    module = base.get_output_embeddings()
    transformer = base.base_model
    if module is None or transformer is base or "logits_to_keep" not in inspect.signature(base.forward).parameters:
        raise NoPlainHead
    config = base.config.get_text_config(decoder=True)
    scale = 1.0
    if config.model_type.startswith("cohere"):
        scale = float(getattr(config, "logit_scale", 1.0) or 1.0)
    elif config.model_type.startswith("granite"):
        scale = 1.0 / float(getattr(config, "logits_scaling", 1.0) or 1.0)
    return Head(transformer, module, scale, getattr(config, "final_logit_softcapping", None))


def target_logps(head: Head, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return log softmax(logits)[target] for each token, float32 [tokens], without keeping the logits.

    hidden: [tokens, d], the states that predict. targets: int64 [tokens].
    """
    if len(targets) == 0:
        return hidden.new_zeros(0, dtype=torch.float32) + hidden.sum() * 0.0
    weight = getattr(head.module, "weight", None)
    block = 64 if weight is None else max(1, _BLOCK_NUMBERS // weight.shape[0])
    gradient = torch.is_grad_enabled()
    if gradient and _is_frozen_linear(head.module) and hidden.requires_grad:
        return _FrozenHead.apply(hidden, targets, head, block)
    if not gradient and _is_tileable(head, hidden):
        return _target_logits(head, hidden, targets) - _log_normalisers(head, hidden)
    scores = []
    for states, wanted in zip(hidden.split(block), targets.split(block)):
        if gradient:
            scores.append(checkpoint(_block_logps, head, states, wanted, use_reentrant=False))
        else:
            scores.append(_block_logps(head, states, wanted))
    return torch.cat(scores)


def _block_logps(head: Head, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return -torch.nn.functional.cross_entropy(head.logits(hidden), targets, reduction="none")


def _is_plain_linear(module: torch.nn.Module) -> bool:
    return type(module) is torch.nn.Linear and not module._forward_hooks and not module._forward_pre_hooks


def _is_frozen_linear(module: torch.nn.Module) -> bool:
    return _is_plain_linear(module) and not any(parameter.requires_grad for parameter in module.parameters())


def _is_tileable(head: Head, hidden: torch.Tensor) -> bool:
    """Say whether logits are scale · W h in float32 on a CPU, which has kernels for that."""
    plain = _is_plain_linear(head.module) and head.module.bias is None and head.cap is None
    return plain and hidden.device.type == "cpu" and hidden.dtype == head.module.weight.dtype == torch.float32


def _target_logits(head: Head, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (hidden * head.module.weight[targets]).sum(1) * head.scale


def _log_normalisers(head: Head, hidden: torch.Tensor) -> torch.Tensor:
    """Return log Σ exp(logits) of each token, float32 [tokens], tile by tile."""
    weight = head.module.weight
    tile = hidden.new_empty(min(_TILE_TOKENS, len(hidden)) * min(_TILE_WORDS, len(weight)))
    sums = []
    for states in (hidden * head.scale).split(_TILE_TOKENS):
        total = None
        for words in weight.split(_TILE_WORDS):
            logits = torch.mm(states, words.t(), out=tile[: len(states) * len(words)].view(len(states), len(words)))
            largest = logits.amax(1, keepdim=True)
            part = logits.sub_(largest).exp_().sum(1).log_().add_(largest[:, 0])
            total = part if total is None else torch.logaddexp(total, part)
        sums.append(total)
    return torch.cat(sums)


class _FrozenHead(torch.autograd.Function):
    """Scores through a head that is not trained.

    The gradient of a token's log-prob by its hidden state needs nothing from further on:
    d log p(y) / dh = Wᵀ · (s · (onehot(y) − p)), where s is the derivative of the transform. So it is made together
    with the value, block by block, and the logits are made once instead of twice.

    Without a cap, Wᵀ p = Σ_v softmax(W h)_v W_v is attention of the hidden state to the vocabulary, with the head's
    weight as keys and as values: a CPU's flash attention gives it and the log-normaliser in one pass over W, and
    no logit reaches the memory.
    """

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, targets: torch.Tensor, head: Head, block: int) -> torch.Tensor:
        if _is_tileable(head, hidden):
            weight = head.module.weight[None, None]
            means, normalisers = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                hidden[None, None], weight, weight, scale=head.scale
            )
            ctx.save_for_backward((head.module.weight[targets] - means[0, 0]).mul_(head.scale))
            return _target_logits(head, hidden, targets) - normalisers.reshape(-1)
        scores = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
        slopes = torch.empty_like(hidden)
        weight = head.module.weight
        for start in range(0, len(targets), block):
            part = slice(start, start + block)
            logits = head.logits(hidden[part])
            chosen = logits.gather(1, targets[part, None])
            # In place from here on: logits become the probabilities, then minus the gradient by the raw logits.
            normaliser = logits.logsumexp(dim=1, keepdim=True)
            scores[part] = (chosen - normaliser)[:, 0]
            capped = None if head.cap is None else 1.0 - (logits / head.cap) ** 2
            slope = logits.sub_(normaliser).exp_().neg_()
            slope.scatter_add_(1, targets[part, None], torch.ones_like(chosen))
            if capped is not None:
                slope.mul_(capped)
            slopes[part] = slope.mul_(head.scale).to(weight.dtype) @ weight
        ctx.save_for_backward(slopes)
        return scores

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (slopes,) = ctx.saved_tensors
        return gradient[:, None].to(slopes.dtype) * slopes, None, None, None
