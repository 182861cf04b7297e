"""Drawing tokens: the right distribution, row by row, and nothing of the neighbours."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from models.sampling import draw_tokens
from models.wire import Sampling

LOGITS = torch.tensor([2.0, -1.0, 0.5, 1.9, -3.0, 0.0, 0.6, -0.5])
SEEN = [0, 1, 1, 5, 7]


def reference(wanted: Sampling) -> torch.Tensor:
    """The distribution as transformers' own warpers make it."""
    scores = RepetitionPenaltyLogitsProcessor(wanted.repetition_penalty)(torch.tensor([SEEN]), LOGITS[None])
    scores = TemperatureLogitsWarper(wanted.temperature)(None, scores)
    if wanted.top_k:
        scores = TopKLogitsWarper(wanted.top_k)(None, scores)
    if wanted.top_p < 1:
        scores = TopPLogitsWarper(wanted.top_p)(None, scores)
    if wanted.min_p:
        scores = MinPLogitsWarper(wanted.min_p)(None, scores)
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
        Sampling(1.0, min_p=0.2),
        Sampling(2.0, min_p=1.0),
        Sampling(0.7, 0.95, 6, min_p=0.1),
        Sampling(1.5, repetition_penalty=1.4),
        Sampling(0.9, 0.9, 5, min_p=0.15, repetition_penalty=0.7),
    ],
)
def test_draws_follow_the_distribution_of_transformers_warpers(wanted: Sampling) -> None:
    count = 20_000
    expected = reference(wanted)
    draw = random.Random(0)
    found = torch.zeros(len(LOGITS))
    for _ in range(count // 500):
        tokens = draw_tokens(LOGITS.expand(500, -1), [wanted] * 500, [draw] * 500, [SEEN] * 500)
        found += torch.bincount(torch.tensor(tokens), minlength=len(LOGITS))
    assert (found[expected == 0] == 0).all()
    assert (found / count - expected).abs().max() < 0.012


def test_each_row_of_a_mixed_batch_is_penalised_and_cut_as_transformers_would() -> None:
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(40, 30, generator=generator) * 2
    seen = [torch.randint(0, 30, (length,), generator=generator).tolist() for length in range(1, 41)]
    greedy = [Sampling(0, repetition_penalty=1 + (row % 4) / 2) for row in range(40)]
    untouched = logits.clone()
    found = draw_tokens(logits, greedy, [random.Random(0)] * 40, seen)
    expected = [
        int(RepetitionPenaltyLogitsProcessor(wanted.repetition_penalty)(torch.tensor([ids]), scores[None]).argmax())
        for wanted, ids, scores in zip(greedy, seen, logits)
    ]
    assert found == expected and torch.equal(logits, untouched)
    assert found != logits.argmax(-1).tolist()
    mixed = [Sampling(1.5, [1.0, 0.8][row % 2], min_p=[0.0, 0.3, 0.9][row % 3]) for row in range(40)]
    draws = [random.Random(row) for row in range(40)]
    for _ in range(50):
        for row, token in enumerate(draw_tokens(logits, mixed, draws)):
            scores = TemperatureLogitsWarper(1.5)(None, logits[row : row + 1])
            if mixed[row].top_p < 1:
                scores = TopPLogitsWarper(mixed[row].top_p)(None, scores)
            assert MinPLogitsWarper(mixed[row].min_p)(None, scores)[0, token] > -torch.inf


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
    min_p=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    repetition_penalty=st.sampled_from([1.0, 1.3, 0.8, 5.0]),
)


@given(st.lists(st.tuples(row_settings, st.integers(0, 2**32)), min_size=2, max_size=9), st.integers(0, 999))
@settings(max_examples=100, deadline=None)
def test_a_row_draws_the_same_whatever_its_neighbours(rows: list, seed: int) -> None:
    logits = torch.randn(len(rows), 50, generator=torch.Generator().manual_seed(seed)) * 3
    seen = [[index, (7 * index + 3) % 50] for index in range(len(rows))]
    together = draw_tokens(logits, [wanted for wanted, _ in rows], [random.Random(number) for _, number in rows], seen)
    alone = [
        draw_tokens(logits[index : index + 1], [wanted], [random.Random(number)], [seen[index]])[0]
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
