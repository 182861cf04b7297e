"""The order of examples, the cut into forward passes, and the split by prompt."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from training.batching import BatchOrder, micro_batches, packs, split_by_prompt

classes = st.lists(st.booleans(), min_size=1, max_size=40)


@given(classes, st.integers(1, 9), st.integers(0, 5))
def test_every_example_is_seen_equally_often(kinds, batch_size, seed) -> None:
    order = BatchOrder(kinds, batch_size, seed)
    seen = Counter(index for step in range(len(kinds)) for index in order.indices(step))
    assert set(seen.values()) == {batch_size} and set(seen) == set(range(len(kinds)))


@given(classes, st.integers(1, 9), st.integers(0, 5), st.integers(0, 30))
def test_the_order_depends_on_seed_and_step_alone(kinds, batch_size, seed, step) -> None:
    walked = BatchOrder(kinds, batch_size, seed)
    for before in range(step):
        walked.indices(before)
    assert walked.indices(step) == BatchOrder(kinds, batch_size, seed).indices(step)


def test_epochs_and_seeds_are_shuffled_differently() -> None:
    order = BatchOrder([True] * 30, 30, 0)
    assert order.epoch(0) != order.epoch(1)
    assert order.epoch(0) != BatchOrder([True] * 30, 30, 1).epoch(0)


def test_every_batch_holds_both_classes_where_there_are_enough_of_each() -> None:
    for rarer in (6, 10, 30):
        kinds = [True] * 30 + [False] * rarer
        order = BatchOrder(kinds, 8, 3)
        for step in range(30):
            assert {kinds[index] for index in order.indices(step)} == {True, False}


lengths = st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=2), min_size=1, max_size=20)


@given(lengths, st.integers(1, 200))
def test_parts_hold_everything_once_and_keep_the_budget(rows, tokens) -> None:
    parts = micro_batches(rows, tokens)
    assert sorted(place for part in parts for place in part) == list(range(len(rows)))
    for part in parts:
        padded = max(max(rows[place]) for place in part) * sum(len(rows[place]) for place in part)
        assert padded <= tokens or len(part) == 1


def test_the_longest_part_comes_first_so_that_memory_runs_out_at_once_or_never() -> None:
    assert micro_batches([[3], [9], [5], [4]], 10) == [[1], [2, 3], [0]]


@given(st.lists(st.integers(1, 8), min_size=1, max_size=40), st.floats(0, 0.5), st.integers(0, 3))
def test_a_prompt_is_never_on_both_sides_of_the_split(prompt_ids, share, seed) -> None:
    train, held = split_by_prompt(prompt_ids, share, seed)
    assert sorted(train + held) == list(range(len(prompt_ids)))
    assert not {prompt_ids[index] for index in train} & {prompt_ids[index] for index in held}
    assert share > 0 or not held
    assert len(held) <= max(round(share * len(prompt_ids)), len(prompt_ids) // 2)


def test_a_prompt_that_owns_most_of_the_labels_is_not_held_out_for_a_tenth() -> None:
    prompt_ids = [1] * 30 + [2] * 4 + [3] * 3 + [4] * 3
    for seed in range(20):
        train, held = split_by_prompt(prompt_ids, 0.1, seed)
        assert 3 <= len(held) <= 4 and 30 < len(train)


@given(st.lists(st.integers(1, 500), min_size=1, max_size=40), st.integers(1, 600))
def test_packed_lines_hold_everything_once_within_the_budget(costs: list[int], tokens: int) -> None:
    lines = packs(costs, tokens)
    assert sorted(place for line in lines for place in line) == list(range(len(costs)))
    for line in lines:
        assert sum(costs[place] for place in line) <= tokens or len(line) == 1


def test_packed_lines_are_few_and_about_equally_long() -> None:
    """900 tokens into lines of 500: two lines of 450, not one of 500 and one of 400."""
    lines = packs([200, 200, 150, 150, 100, 100], 500)
    assert sorted(sum([200, 200, 150, 150, 100, 100][place] for place in line) for line in lines) == [450, 450]
