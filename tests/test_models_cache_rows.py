"""A cache with room to grow holds what transformers' own holds, however its rows are chosen, joined and cut."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tiny_models import tiny_model
from transformers import DynamicCache

from models import cache_rows

CONFIG = tiny_model().config
KV_HEADS, SIZE = 2, 8


def columns(rows: int, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    drawn = torch.randn(2, rows, KV_HEADS, count, SIZE, generator=torch.Generator().manual_seed(seed))
    return drawn[0], drawn[1]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 90)),
        st.tuples(st.just("select"), st.lists(st.integers(0, 2), min_size=1, max_size=4)),
        st.tuples(st.just("trim"), st.integers(1, 3)),
        st.tuples(st.just("join"), st.integers(1, 9)),
    ),
    max_size=12,
)


@given(steps)
@settings(max_examples=80, deadline=None)
def test_a_roomy_cache_equals_transformers_own_through_any_changes(changes: list) -> None:
    ours, plain, rows = cache_rows.roomy(CONFIG), DynamicCache(config=CONFIG), 3
    for number, (kind, value) in enumerate([("add", 5), *changes]):
        if kind == "add":
            keys, values = columns(rows, value, number)
            for layer in range(2):
                found = ours.update(keys + layer, values + layer, layer)
                expected = plain.update(keys + layer, values + layer, layer)
                assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])
        elif kind == "select":
            indices = [index % rows for index in value]
            for cache in (ours, plain):
                cache_rows.select(cache, indices, torch.device("cpu"))
            rows = len(indices)
        elif kind == "trim" and plain.get_seq_length() > value:
            for cache in (ours, plain):
                cache_rows.trim(cache, value)
        elif kind == "join":
            width = plain.get_seq_length()
            both = max(width, value)
            keys, values = columns(1, value, number)
            for cache, other in ((ours, cache_rows.roomy(CONFIG)), (plain, DynamicCache(config=CONFIG))):
                for layer in range(2):
                    other.update(keys, values, layer)
                cache_rows.join(cache, both - width, other, both - value)
            rows += 1
        for found, expected in zip(ours.layers, plain.layers):
            assert torch.equal(found.keys, expected.keys) and torch.equal(found.values, expected.values)


def test_a_token_copies_nothing_that_stands_before_it() -> None:
    cache = cache_rows.roomy(CONFIG)
    cache.update(*columns(1, 300, 0), 0)
    cache.update(*columns(1, 1, 1), 0)
    place = cache.layers[0].keys.data_ptr()
    for number in range(60):
        cache.update(*columns(1, 1, number), 0)
    assert cache.layers[0].keys.data_ptr() == place and cache.get_seq_length() == 361


def test_layers_that_forget_columns_stay_transformers_own() -> None:
    sliding = tiny_model("mistral", sliding_window=16).config
    assert cache_rows.is_plain(cache_rows.roomy(CONFIG)) and not cache_rows.is_plain(cache_rows.roomy(sliding))
