"""Examples → rows of tokens: what is left out is counted, and KTO's mismatched responses are foreign."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny_models import tiny_tokenizer

from errors import ConfigError
from training.config import build
from training.dataset import PairedExample, UnpairedExample
from training.material import gather
from training.rows import (
    Exclusion,
    left_out_sentence,
    mismatch,
    pair_rows,
    renderer,
    response_rows,
    with_mismatched,
)

ASK = [{"role": "user", "content": "Why?"}]


def pair(label_id: int, chosen: str, rejected: str) -> PairedExample:
    return PairedExample(label_id, label_id, ASK, chosen, rejected)


def single(label_id: int, response: str, desirable: bool, prompt_id: int | None = None) -> UnpairedExample:
    asked = [{"role": "user", "content": f"Why {label_id if prompt_id is None else prompt_id}?"}]
    return UnpairedExample(label_id, label_id if prompt_id is None else prompt_id, asked, response, desirable)


def test_unusable_pairs_are_left_out_with_their_reason() -> None:
    examples = [
        pair(1, "yes", "no"), pair(2, "same ", "same "), pair(3, " ", "no"), pair(4, "yes", "x" * 99),
        pair(5, "a", "b"),
    ]
    rows, left_out = pair_rows(examples, renderer(tiny_tokenizer(), 60))
    assert [row.example.label_id for row in rows] == [1, 5]
    assert [exclusion.label_id for exclusion in left_out] == [2, 3, 4]
    assert left_out_sentence(left_out) == (
        "3 left out (1 the same to this model's tokenizer, 1 empty, 1 longer than max_length_tokens)"
    )
    assert left_out_sentence([]) == ""


def test_a_response_is_never_cut_and_a_long_prompt_loses_its_beginning() -> None:
    long_prompt = [{"role": "user", "content": "a" * 200 + "END"}]
    tokenizer = tiny_tokenizer()
    rows, _ = pair_rows([PairedExample(1, 1, long_prompt, "yes", "no")], renderer(tokenizer, 40))
    assert len(rows[0].chosen.ids) == 40
    assert tokenizer.decode(rows[0].chosen.response_ids) == "yes<|im_end|>"
    assert "END" in tokenizer.decode(rows[0].chosen.ids)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=30), st.integers(0, 5))
def test_a_mismatched_response_never_belongs_to_the_same_prompt(prompt_ids, seed) -> None:
    partners = mismatch(prompt_ids, seed)
    if len(set(prompt_ids)) == 1:
        assert set(partners) == {None}
        return
    assert all(prompt_ids[partner] != own for partner, own in zip(partners, prompt_ids))
    if max(Counter(prompt_ids).values()) * 2 <= len(prompt_ids):
        assert sorted(partners) == list(range(len(prompt_ids)))
    assert partners == mismatch(prompt_ids, seed)


def test_mismatched_rows_join_the_own_prompt_with_a_foreign_response() -> None:
    tokenizer = tiny_tokenizer()
    rendered = renderer(tokenizer, 200)
    rows, left_out = response_rows([single(1, "yes", True), single(2, "no", False), single(3, "", True)], rendered)
    assert left_out == [Exclusion(3, "empty")]
    texts = [tokenizer.decode(row.mismatched.ids) for row in with_mismatched(rows, rendered, 0)]
    assert "Why 1?" in texts[0] and "no" in texts[0] and "Why 2?" in texts[1] and "yes" in texts[1]


def kto(**overrides: object):
    return build("kto", "demo", overrides)


def test_kto_says_how_good_and_bad_weigh() -> None:
    examples = [single(number, f"text {number}", number >= 3) for number in range(12)]
    material = gather(examples, tiny_tokenizer(), kto(), 200)
    assert "KTO: 9 good, 3 bad, so desirable 1 and undesirable 3." in material.lines
    assert all(row.mismatched is not None for row in material.train)


def test_kto_with_one_prompt_says_that_it_measures_no_distance() -> None:
    examples = [single(number, f"text {number}", number > 3, prompt_id=7) for number in range(8)]
    material = gather(examples, tiny_tokenizer(), kto(), 200)
    assert all(row.mismatched is None for row in material.train)
    assert any("z0" in line for line in material.lines)


def test_too_little_left_to_train_on_is_an_error_that_says_why() -> None:
    with pytest.raises(ConfigError, match="at least two pairs, and 1 usable.*1 left out .1 empty"):
        gather([pair(1, "yes", "no"), pair(2, "", "no")], tiny_tokenizer(), build("dpo", "demo"), 200)
    with pytest.raises(ConfigError, match="both good and bad"):
        gather([single(1, "yes", True), single(2, "", False)], tiny_tokenizer(), kto(), 200)


def test_held_out_prompts_are_whole_and_never_leave_too_little() -> None:
    examples = [single(number, f"text {number}", number % 2 == 0, prompt_id=number // 2) for number in range(20)]
    material = gather(examples, tiny_tokenizer(), kto(held_out_share=0.2), 200)
    prompts = [{row.example.prompt_id for row in rows} for rows in (material.train, material.held_out)]
    assert len(material.held_out) == 4 and not prompts[0] & prompts[1]
    small = gather(examples[:2], tiny_tokenizer(), kto(held_out_share=0.5), 200)
    assert (len(small.train), len(small.held_out)) == (2, 0)


def test_both_responses_of_a_pair_follow_the_same_shortened_prompt() -> None:
    """Cut each for itself, the prompts would differ, and the preference would compare two questions."""
    asked = [{"role": "user", "content": "a" * 100}]
    rows, _ = pair_rows([PairedExample(1, 1, asked, "yes" * 10, "no")], renderer(tiny_tokenizer(), 80))
    prompts = [row.ids[: row.prompt_length] for row in (rows[0].chosen, rows[0].rejected)]
    assert prompts[0] == prompts[1] and len(rows[0].chosen.ids) == 80
    assert rows[0].chosen.lost == rows[0].rejected.lost > 0


def test_a_model_that_reads_less_than_asked_says_so() -> None:
    material = gather([pair(1, "yes", "no"), pair(2, "a", "b")], tiny_tokenizer(), build("dpo", "demo"), 200)
    assert "demo reads 200 tokens, so that is the longest prompt + response." in material.lines
