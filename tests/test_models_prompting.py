"""Conversations become tokens: the prompt is what generation starts from, the response what it would write."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tiny_models import CHATML, tiny_tokenizer

from errors import ModelError
from models.catalog import DEMO_FOLDER
from models.prompting import DoesNotFit, closing_length, end_of_turn_id, render, render_prompt, response_pieces

USER = [{"role": "user", "content": "Hello there"}]
SYSTEM = [{"role": "system", "content": "Be brief."}, *USER]

# Keeps thoughts out of history and opens them for a new turn, as R1 does.
OPENS_THINKING = CHATML.replace("assistant\n' }}{% endif %}", "assistant\n<think>\n' }}{% endif %}")
# Writes an empty block of thoughts into the last answer but not into the generation prompt.
ADDS_THINKING = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Closes thoughts in the generation prompt when told not to think, and never writes them into a finished turn.
STRIPS_THINKING = CHATML.replace(
    "assistant\n' }}{% endif %}",
    "assistant\n' }}{% if enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}",
)
REFUSES_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
DROPS_SYSTEM = CHATML.replace("{{ '<|im", "{% if message['role'] != 'system' %}{{ '<|im", 1).replace(
    "{% endfor %}", "{% endif %}{% endfor %}", 1
)
NO_GENERATION_PROMPT = CHATML[: CHATML.index("{% if add_generation_prompt")]
SPACED = (  # as Llama 2: blanks around the answer belong to it
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ ' ' + m['content'] + ' <|im_end|>' }}"
    "{% else %}{{ '[INST] ' + m['content'] + ' [/INST]' }}{% endif %}{% endfor %}"
)
TRIMS = CHATML.replace("message['content']", "message['content'] | trim")
NO_END = (
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    "{{ 'assistant: ' if add_generation_prompt }}"
)
TEMPLATES = {
    name: globals()[name]
    for name in (
        "CHATML", "OPENS_THINKING", "ADDS_THINKING", "STRIPS_THINKING", "REFUSES_SYSTEM", "DROPS_SYSTEM",
        "NO_GENERATION_PROMPT", "SPACED", "TRIMS", "NO_END",
    )
}  # fmt: skip


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
@pytest.mark.parametrize("messages", [USER, SYSTEM, [*USER, {"role": "assistant", "content": "Hi"}, *USER]])
def test_the_prompt_of_a_rendered_pair_is_the_one_generation_starts_from(template: str, messages: list) -> None:
    tokenizer = tiny_tokenizer(template)
    rendered = render(tokenizer, messages, "A river. 河流")
    assert rendered.ids[: rendered.prompt_length] == render_prompt(tokenizer, messages)


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_the_response_is_scored_word_for_word_and_ends_with_the_end_of_turn(template: str) -> None:
    tokenizer = tiny_tokenizer(template)
    rendered = render(tokenizer, USER, "Yes: 好的")
    text = tokenizer.decode(rendered.response_ids)
    blank = " " if template is SPACED else ""
    assert text == f"{blank}Yes: 好的{blank}<|im_end|>"


@pytest.mark.parametrize(
    ("template", "ending"),
    [
        (CHATML, "<|im_start|>assistant\n"),
        (OPENS_THINKING, "<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        (ADDS_THINKING, "<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        (STRIPS_THINKING, "<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        (NO_GENERATION_PROMPT, "<|im_start|>assistant\n"),
        (SPACED, "[/INST]"),
    ],
)
def test_the_prompt_ends_where_the_answer_begins(template: str, ending: str) -> None:
    tokenizer = tiny_tokenizer(template)
    assert tokenizer.decode(render_prompt(tokenizer, USER)).endswith(ending)


@pytest.mark.parametrize("template", [REFUSES_SYSTEM, DROPS_SYSTEM], ids=["refused", "dropped"])
def test_a_system_message_without_a_place_goes_before_the_first_user_message(template: str) -> None:
    tokenizer = tiny_tokenizer(template)
    assert "user\nBe brief.\n\nHello there<" in tokenizer.decode(render_prompt(tokenizer, SYSTEM))


def test_a_template_that_renders_a_finished_turn_differently_is_an_error() -> None:
    template = "{% if add_generation_prompt %}open{% else %}finished{% endif %}" + CHATML
    with pytest.raises(ModelError, match="differently"):
        render(tiny_tokenizer(template), USER, "x")


def test_a_template_that_refuses_the_conversation_is_an_error_with_its_words() -> None:
    template = "{% if messages | length > 1 %}{{ raise_exception('one message only') }}{% endif %}" + CHATML
    with pytest.raises(ModelError, match="one message only"):
        render_prompt(tiny_tokenizer(template), [*USER, *USER])


def test_a_template_that_loses_the_answer_is_an_error() -> None:
    with pytest.raises(ModelError, match="leaves the answer out"):
        render(tiny_tokenizer("{{ messages[0]['content'] }}"), USER, "x")


def test_a_long_prompt_loses_its_left_and_a_response_is_never_cut() -> None:
    tokenizer = tiny_tokenizer()
    whole = render(tokenizer, USER, "Yes")
    cut = render(tokenizer, USER, "Yes", max_length_tokens=len(whole.ids) - 4)
    assert cut.ids == whole.ids[4:]
    assert cut.response_ids == whole.response_ids
    assert render(tokenizer, USER, "Yes", max_length_tokens=len(whole.ids)) == whole
    shortest = render(tokenizer, USER, "Yes", max_length_tokens=len(whole.response_ids) + 1)
    assert shortest.prompt_length == 1
    with pytest.raises(DoesNotFit):
        render(tokenizer, USER, "Yes", max_length_tokens=len(whole.response_ids))


def test_the_begin_of_sequence_token_survives_the_cut() -> None:
    tokenizer = tiny_tokenizer("{{ bos_token }}" + CHATML)
    tokenizer.bos_token = "<|im_start|>"
    whole = render(tokenizer, USER, "Yes")
    cut = render(tokenizer, USER, "Yes", max_length_tokens=len(whole.ids) - 6)
    assert cut.ids == [tokenizer.bos_token_id, *whole.ids[7:]]


def test_a_token_that_reaches_over_the_boundary_is_split_as_generation_would() -> None:
    template = "{% for m in messages %}{{ m['content'] + ('t' if loop.first else '') }}{% endfor %}"
    tokenizer = tiny_tokenizer(template)
    joined = tokenizer("t" + "he", add_special_tokens=False)["input_ids"]
    rendered = render(tokenizer, USER, "he")
    assert len(joined) == 2 and tokenizer.convert_ids_to_tokens(joined) == ["th", "e"]
    assert tokenizer.convert_ids_to_tokens(rendered.ids[rendered.prompt_length - 1 :]) == ["t", "he", "<|im_end|>"]


def test_the_end_of_turn_is_what_ends_an_answer() -> None:
    tokenizer = tiny_tokenizer()
    assert end_of_turn_id(tokenizer) == tokenizer.convert_tokens_to_ids("<|im_end|>")


@given(st.text(max_size=40), st.text(max_size=40))
@settings(max_examples=60, deadline=None)
def test_any_text_keeps_the_prompt_a_prefix_and_the_response_whole(question: str, answer: str) -> None:
    tokenizer = tiny_tokenizer()
    messages = [{"role": "user", "content": question}]
    rendered = render(tokenizer, messages, answer)
    assert rendered.ids[: rendered.prompt_length] == render_prompt(tokenizer, messages)
    assert tokenizer.decode(rendered.response_ids) == answer + "<|im_end|>"


@pytest.mark.skipif(not (DEMO_FOLDER / "config.json").is_file(), reason="the demo model has not been built")
def test_the_demo_model_scores_exactly_the_response_and_its_end() -> None:
    from models.loading import load_tokenizer

    tokenizer = load_tokenizer("demo")
    rendered = render(tokenizer, SYSTEM, "A river is water. 河流是水。")
    assert rendered.ids[: rendered.prompt_length] == render_prompt(tokenizer, SYSTEM)
    assert rendered.ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(rendered.response_ids, skip_special_tokens=True) == "A river is water. 河流是水。"


def test_what_a_cut_prompt_must_keep_to_ask_anything_is_known() -> None:
    tokenizer = tiny_tokenizer()
    closing = closing_length(tokenizer, USER)
    whole = render_prompt(tokenizer, USER)
    assert tokenizer.decode(whole[-closing:]) == "<|im_end|>\n<|im_start|>assistant\n"
    assert render(tokenizer, USER, "Yes", max_length_tokens=len(whole)).lost == 4


def test_a_conversation_without_messages_is_refused() -> None:
    with pytest.raises(ModelError, match="without messages"):
        render(tiny_tokenizer(), [], "Yes")


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
@given(text=st.text(max_size=12) | st.sampled_from(["", " ", "\n", "👩‍👩‍👧 你好 the he", "<|im_end|>", " a ", "e\u0301"]))
@settings(max_examples=40, deadline=None)
def test_the_pieces_of_a_response_put_together_are_exactly_the_response(template: str, text: str) -> None:
    tokenizer = tiny_tokenizer(template)
    rendered, pieces = response_pieces(tokenizer, USER, text)
    assert rendered == render(tokenizer, USER, text)
    assert "".join(pieces) == text and len(pieces) == len(rendered.response_ids) and pieces[-1] == ""


def test_a_piece_is_what_its_token_writes() -> None:
    assert response_pieces(tiny_tokenizer(), USER, "the你 ")[1] == ["th", "e", "你", "", "", " ", ""]


def test_a_tokenizer_that_does_not_tell_places_gives_the_same_text(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tiny_tokenizer()
    monkeypatch.setattr(type(tokenizer), "is_fast", property(lambda self: False))
    for text in ("the river", "a 你好 👩‍👩‍👧", "", "\n\n"):
        pieces = response_pieces(tokenizer, USER, text)[1]
        assert "".join(pieces) == text and pieces[-1] == ""
