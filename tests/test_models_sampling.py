"""Drawing tokens: the right distribution, row by row, and nothing of the neighbours."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from models.sampling import draw_tokens
from models.wire import Sampling

LOGITS = torch.tensor([2.0, -1.0, 0.5, 1.9, -3.0, 0.0, 0.6, -0.5])


def reference(wanted: Sampling) -> torch.Tensor:
    """The distribution as transformers' own warpers make it."""
    scores = TemperatureLogitsWarper(wanted.temperature)(None, LOGITS[None])
    if wanted.top_k:
        scores = TopKLogitsWarper(wanted.top_k)(None, scores)
    if wanted.top_p < 1:
        scores = TopPLogitsWarper(wanted.top_p)(None, scores)
    return scores.softmax(-1)[0]


@pytest.mark.parametrize(
    "wanted",
    [
        Sampling(1.0),
        Sampling(0.5),
        Sampling(1.0, top_k=3),
        Sampling(0.9, top_p=0.7),
        Sampling(2.0, 0.8, 5),
        Sampling(1.0, 0.01),
    ],
)
def test_draws_follow_the_distribution_of_transformers_warpers(wanted: Sampling) -> None:
    count = 20_000
    expected = reference(wanted)
    draw = random.Random(0)
    found = torch.zeros(len(LOGITS))
    for _ in range(count // 500):
        tokens = draw_tokens(LOGITS.expand(500, -1), [wanted] * 500, [draw] * 500)
        found += torch.bincount(torch.tensor(tokens), minlength=len(LOGITS))
    assert (found[expected == 0] == 0).all()
    assert (found / count - expected).abs().max() < 0.012


def test_greedy_takes_the_most_likely_and_asks_for_no_number() -> None:
    draw = random.Random(0)
    before = draw.getstate()
    assert draw_tokens(LOGITS[None], [Sampling(0)], [draw]) == [0]
    assert draw.getstate() == before


row_settings = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.3, 1.0, 5.0]),
    top_p=st.sampled_from([0.05, 0.5, 0.95, 1.0]),
    top_k=st.sampled_from([0, 1, 4, 1000]),
)


@given(st.lists(st.tuples(row_settings, st.integers(0, 2**32)), min_size=2, max_size=9), st.integers(0, 999))
@settings(max_examples=100, deadline=None)
def test_a_row_draws_the_same_whatever_its_neighbours(rows: list, seed: int) -> None:
    logits = torch.randn(len(rows), 50, generator=torch.Generator().manual_seed(seed)) * 3
    together = draw_tokens(logits, [wanted for wanted, _ in rows], [random.Random(number) for _, number in rows])
    alone = [
        draw_tokens(logits[index : index + 1], [wanted], [random.Random(number)])[0]
        for index, (wanted, number) in enumerate(rows)
    ]
    assert together == alone


class _Fixed:
    def __init__(self, value: float) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


@pytest.mark.parametrize("number", [0.0, 1.0 - 2**-53])
@pytest.mark.parametrize("wanted", [Sampling(1.0), Sampling(1.0, top_k=2), Sampling(1.0, top_p=0.5)])
def test_the_ends_of_the_unit_interval_draw_tokens_that_can_be_drawn(number: float, wanted: Sampling) -> None:
    logits = torch.tensor([[-torch.inf, 3.0, 1.0, -torch.inf, 2.0, -torch.inf]])
    assert draw_tokens(logits, [wanted], [_Fixed(number)])[0] in (1, 2, 4)  # type: ignore[list-item]
