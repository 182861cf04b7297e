"""Draws one token for each row of logits, every row by its own settings and its own random numbers.

A row's token depends on its own logits and its own generator only, never on the other rows. Does not know models.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch

from models.wire import Sampling


def draw_tokens(logits: torch.Tensor, settings: Sequence[Sampling], draws: Sequence[random.Random]) -> list[int]:
    """Return a token id for each row.

    logits: [n, v]. settings, draws: n of each; a generator is asked for one number a token, and for none when greedy.
    The order is temperature, then top_k, then top_p, as elsewhere in the field.
    """
    tokens = [0] * len(settings)
    greedy = [row for row, wanted in enumerate(settings) if wanted.temperature <= 0]
    plain = [row for row, wanted in enumerate(settings) if wanted.temperature > 0 and not _is_filtered(wanted)]
    filtered = [row for row, wanted in enumerate(settings) if wanted.temperature > 0 and _is_filtered(wanted)]
    for rows, pick in ((greedy, _most_likely), (plain, _any), (filtered, _filtered)):
        if rows:
            part = logits if len(rows) == len(settings) else logits[rows]
            chosen = pick(part, [settings[row] for row in rows], [draws[row] for row in rows])
            for row, token in zip(rows, chosen.tolist()):
                tokens[row] = token
    return tokens


def _is_filtered(wanted: Sampling) -> bool:
    return wanted.top_k > 0 or wanted.top_p < 1.0


def _most_likely(logits: torch.Tensor, settings: list[Sampling], draws: list[random.Random]) -> torch.Tensor:
    return logits.argmax(dim=-1)


def _any(logits: torch.Tensor, settings: list[Sampling], draws: list[random.Random]) -> torch.Tensor:
    return _inverse(_probabilities(logits, settings), draws)


def _filtered(logits: torch.Tensor, settings: list[Sampling], draws: list[random.Random]) -> torch.Tensor:
    """Draw from the most likely tokens only, most likely first. A tie at the edge goes to either, for ever the same."""
    vocabulary = logits.shape[-1]
    kept = [wanted.top_k if 0 < wanted.top_k < vocabulary else vocabulary for wanted in settings]
    scaled = logits.float() / _column([wanted.temperature for wanted in settings], logits)
    scaled, order = scaled.topk(max(kept), dim=-1) if max(kept) < vocabulary else scaled.sort(-1, descending=True)
    rank = torch.arange(scaled.shape[-1], device=logits.device)
    scaled = scaled.masked_fill(rank >= _column(kept, logits), -torch.inf)
    probabilities = scaled.softmax(dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities
    beyond = before >= _column([wanted.top_p for wanted in settings], logits)
    beyond[:, 0] = False
    place = _inverse(probabilities.masked_fill(beyond, 0.0), draws)
    return order.gather(1, place[:, None])[:, 0]


def _probabilities(logits: torch.Tensor, settings: list[Sampling]) -> torch.Tensor:
    return (logits.float() / _column([wanted.temperature for wanted in settings], logits)).softmax(dim=-1)


def _inverse(probabilities: torch.Tensor, draws: list[random.Random]) -> torch.Tensor:
    """Return the first index at which the cumulative probability exceeds a uniform number. Rows need not sum to 1."""
    cumulative = probabilities.cumsum(dim=-1)
    point = _column([draw.random() for draw in draws], probabilities) * cumulative[:, -1:]
    place = torch.searchsorted(cumulative, point, right=True)[:, 0]
    # Rounding may put the point on the very end; the last index that can be drawn is where the sum is complete.
    last = (cumulative < cumulative[:, -1:]).sum(dim=-1)
    return torch.minimum(place, last)


def _column(values: Sequence[float], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device)[:, None]
