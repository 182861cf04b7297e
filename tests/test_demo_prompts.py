"""The starter, suggested and held-out prompts: many, natural in shape, and apart from each other."""

from demo.knowledge import UNKNOWN_KEY, has_chinese, topic_of
from demo.prompts import HELD_OUT, HELD_OUT_TOPICS, STARTERS, SUGGESTIONS, normalise, parse_prompt


def wordings(prompts):
    return {normalise(prompt[-1]["content"]) for prompt in prompts}


def test_a_line_parses_into_system_turns_and_question():
    assert parse_prompt("[Be kind.] | Hello! | Hello there. | Who are you?") == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hello!"},
        {"role": "assistant", "content": "Hello there."},
        {"role": "user", "content": "Who are you?"},
    ]


def test_there_are_enough_prompts_of_every_sort():
    assert len(HELD_OUT) >= 200 and len(STARTERS) >= 100 and 4 <= len(SUGGESTIONS) <= 8
    assert sum(has_chinese(p[-1]["content"]) for p in STARTERS) == 10
    for prompts in (HELD_OUT, STARTERS):
        assert any(p[0]["role"] == "system" for p in prompts)
        assert sum(any(m["role"] == "assistant" for m in p) for p in prompts) >= 3


def test_no_wording_occurs_twice_or_in_two_sets():
    suggested = {normalise(question) for question in SUGGESTIONS}
    sets = (wordings(HELD_OUT), wordings(STARTERS), suggested)
    assert len(set().union(*sets)) == len(HELD_OUT) + len(STARTERS) + len(SUGGESTIONS)


def test_every_prompt_alternates_and_ends_with_the_user():
    for prompt in (*HELD_OUT, *STARTERS):
        roles = [message["role"] for message in prompt if message["role"] != "system"]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]


def test_the_topic_of_every_held_out_prompt_is_the_one_it_was_written_for():
    assert tuple(topic_of(prompt).key for prompt in HELD_OUT) == HELD_OUT_TOPICS


def test_every_starter_and_suggestion_asks_for_something_the_model_was_taught():
    prompts = (*STARTERS, *(parse_prompt(question) for question in SUGGESTIONS))
    assert not [prompt for prompt in prompts if topic_of(prompt).kind == UNKNOWN_KEY]
