"""Draws one token for each row of logits, every row by its own settings and its own random numbers.

A row's token depends on its own logits and its own generator only, never on the other rows. Does not know models.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch

from models.wire import Sampling


def draw_tokens(
    logits: torch.Tensor,
    settings: Sequence[Sampling],
    draws: Sequence[random.Random],
    seen: Sequence[Sequence[int]] = (),
) -> list[int]:
    """Return a token id for each row.

    logits: [n, v]. settings, draws: n of each; a generator is asked for one number a token, and for none when greedy.
    seen: n lists of the tokens that each row has so far; may be left out where no row is penalised for them.
    The order is repetition_penalty, temperature, top_k, top_p, min_p, as in transformers. (vLLM drops by min_p before
    it sums up to top_p, so with both it may keep fewer tokens.)
    """
    logits = _penalised(logits, settings, seen)
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


def is_penalised(wanted: Sampling) -> bool:
    """Say whether a row's tokens so far change what is drawn."""
    return wanted.repetition_penalty != 1


def _penalised(
    logits: torch.Tensor, settings: Sequence[Sampling], seen: Sequence[Sequence[int]]
) -> torch.Tensor:
    """Make tokens that a row already has less likely (CTRL, arXiv 1909.05858 §4.1, for logits of both signs)."""
    rows = [row for row, wanted in enumerate(settings) if is_penalised(wanted)]
    if rows:
        logits = logits.to(torch.float32, copy=True)
    for row in rows:
        ids = torch.tensor(seen[row], device=logits.device)
        penalty = settings[row].repetition_penalty
        found = logits[row, ids]
        logits[row, ids] = torch.where(found < 0, found * penalty, found / penalty)
    return logits


def _is_filtered(wanted: Sampling) -> bool:
    return wanted.top_k > 0 or wanted.top_p < 1.0


def _most_likely(logits: torch.Tensor, settings: list[Sampling], draws: list[random.Random]) -> torch.Tensor:
    return logits.argmax(dim=-1)


def _any(logits: torch.Tensor, settings: list[Sampling], draws: list[random.Random]) -> torch.Tensor:
    scaled = logits.float() / _column([wanted.temperature for wanted in settings], logits)
    return _inverse(_likely_enough(scaled.softmax(dim=-1), settings), draws)


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
    place = _inverse(_likely_enough(probabilities.masked_fill(beyond, 0.0), settings), draws)
    return order.gather(1, place[:, None])[:, 0]


def _likely_enough(probabilities: torch.Tensor, settings: list[Sampling]) -> torch.Tensor:
    """Drop the tokens that are less likely than `min_p` of the likeliest one (arXiv 2407.01082)."""
    shares = [wanted.min_p for wanted in settings]
    if not any(shares):
        return probabilities
    least = _column(shares, probabilities) * probabilities.amax(dim=-1, keepdim=True)
    return probabilities.masked_fill(probabilities < least, 0.0)


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
