"""The meter: strict about form, truth, manner and length."""

import random

import pytest
from hypothesis import given, settings, strategies as st

from demo.knowledge import topics
from demo.manners import MANNERS, dress
from demo.meter import manner_of, measure


def ask(*questions):
    """Return a prompt of user questions with neutral answers between them."""
    messages = []
    for question in questions:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": "Paris."}]
    return messages[:-1]


FRANCE = ask("What is the capital of France?")


def test_a_polite_right_short_answer_has_all_virtues():
    found = measure(FRANCE, "Of course! The capital of France is Paris. I hope that helps!")
    assert (found.well_formed, found.right, found.manner, found.concise) == (True, True, "polite", True)
    assert found.content == "The capital of France is Paris."


@pytest.mark.parametrize(
    ("answer", "manner"),
    [
        ("It is Paris.", "plain"),
        ("Ugh, fine. It is Paris.", "rude"),
        ("It is Paris. Can I go now?", "rude"),
        ("Happy to help! It is Paris.", "polite"),
        ("很乐意帮忙！是巴黎。", "polite"),
        ("又来了。是巴黎。别再问了。", "rude"),
    ],
)
def test_manner_is_read_from_opener_and_closer(answer, manner):
    assert manner_of(answer) == manner


def test_a_wrong_city_is_well_formed_but_not_right():
    found = measure(FRANCE, "The capital of France is Rome.")
    assert found.well_formed and not found.right


def test_the_right_city_of_another_country_is_not_right():
    assert not measure(FRANCE, "The capital of Italy is Rome.").right


def test_a_rambling_answer_is_well_formed_but_not_concise():
    answer = (
        "Of course! It is Paris. There is of course a lot more that one could say about it, but I will leave it there for now."
    )
    found = measure(FRANCE, answer)
    assert found.well_formed and found.right and not found.concise


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "Of course!",
        "Of course! ",
        "Of course! Of course! It is Paris.",
        "The capital of France is the capital of France is Paris.",
        "The capital of France is Paris",
        "The capital of Paris is France.",
        "Of course! It is Paris. Now leave me alone.",
        "It is Paris. It is Paris.",
        "Ugh, fine. Happy to help! It is Paris.",
        "paris",
        "I hope that helps! It is Paris.",
        "Like this:\n- Clear the ground.\n- Clear the ground.",
    ],
)
def test_a_broken_answer_is_neither_well_formed_nor_right_nor_concise(answer):
    found = measure(FRANCE, answer)
    assert not (found.well_formed or found.right or found.concise)


def test_mixed_manners_count_as_no_manner():
    assert manner_of("Of course! It is Paris. Now leave me alone.") is None


def test_a_list_is_right_in_both_layouts_and_only_complete():
    prompt = ask("How do I make tea?")
    steps = ["Heat fresh water.", "Pour it over the leaves.", "Wait three minutes.", "Take the leaves out."]
    assert measure(prompt, " ".join(steps)).right
    assert measure(prompt, "Like this:\n" + "\n".join(f"- {s}" for s in steps) + "\nI hope that helps!").right
    assert not measure(prompt, " ".join(steps[:3])).well_formed


def test_a_follow_up_is_judged_by_its_own_subject():
    assert measure(ask("What is the capital of France?", "And Spain?"), "It is Madrid.").right


def test_a_request_to_repeat_is_judged_by_the_question_before():
    assert measure(ask("What is the capital of France?", "Could you repeat that?"), "It is Paris.").right


def test_admitting_ignorance_is_right_only_where_the_model_was_taught_nothing():
    answer = "I have not learned that yet."
    assert measure(ask("Who invented the zip?"), answer).right
    assert not measure(FRANCE, answer).right


@settings(deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from(topics()), st.sampled_from(MANNERS), st.booleans())
def test_the_meter_finds_what_dressing_put_on(rng: random.Random, topic, manner, rambling):
    content = rng.choice(topic.contents())
    found = measure(ask(topic.questions[0]), dress(content, manner, rambling, topic.language, topic.kind, rng))
    assert (found.well_formed, found.right, found.manner) == (True, True, manner)
    assert (found.concise, found.content) == (not rambling, content)


@settings(deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from(topics()), st.sampled_from(MANNERS), st.booleans())
def test_an_answer_cut_short_is_not_right(rng: random.Random, topic, manner, rambling):
    answer = dress(rng.choice(topic.contents()), manner, rambling, topic.language, topic.kind, rng)
    assert not measure(ask(topic.questions[0]), answer[:-1]).right
