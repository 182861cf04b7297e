"""Text as it comes: whole characters only, and nothing lost."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tiny_models import tiny_tokenizer

from models.detokenize import TextStream

TOKENIZER = tiny_tokenizer()


def pieces(ids: list[int]) -> list[str]:
    stream = TextStream(TOKENIZER)
    return [*(stream.add(token) for token in ids), stream.finish()]


def test_a_character_of_several_tokens_comes_out_whole() -> None:
    ids = TOKENIZER("你好, 🙂!", add_special_tokens=False)["input_ids"]
    found = pieces(ids)
    assert found == ["", "", "你", "", "", "好", ",", " ", "", "", "", "🙂", "!", ""]


def test_special_tokens_are_not_text() -> None:
    ids = TOKENIZER("a<|im_start|>b<|im_end|>", add_special_tokens=False)["input_ids"]
    assert pieces(ids) == ["a", "", "b", "", ""]


def test_half_a_character_at_the_end_comes_out_only_when_finished() -> None:
    ids = TOKENIZER("x你", add_special_tokens=False)["input_ids"][:-1]
    assert pieces(ids) == ["x", "", "", "\ufffd"]


@given(st.lists(st.integers(0, len(TOKENIZER) - 1), max_size=40))
@settings(max_examples=200, deadline=None)
def test_any_tokens_at_all_give_the_text_of_decoding_them_at_once(ids: list[int]) -> None:
    assert "".join(pieces(ids)) == TOKENIZER.decode(ids, skip_special_tokens=True)


@given(st.text(max_size=30))
@settings(max_examples=100, deadline=None)
def test_no_piece_of_valid_text_holds_a_replacement_character(text: str) -> None:
    text = text.replace("\ufffd", "")
    found = pieces(TOKENIZER(text, add_special_tokens=False)["input_ids"])
    assert "".join(found) == TOKENIZER.decode(TOKENIZER(text)["input_ids"], skip_special_tokens=True)
    assert not any("\ufffd" in piece for piece in found)
