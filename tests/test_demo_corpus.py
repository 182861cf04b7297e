"""The generated corpus: repeatable, clean of held-out wordings, with something to prefer."""

import subprocess
import sys
from collections import Counter

import pytest

from demo.corpus import conversations
from demo.knowledge import FACT_KINDS, has_chinese, topic_of, topics
from demo.manners import ASKED_LENGTHS, ASKED_MANNERS
from demo.meter import manner_of, measure
from demo.prompts import HELD_OUT, normalise


@pytest.fixture(scope="module")
def corpus():
    return list(conversations(3_000, seed=5))


def first_exchange(conversation):
    """Return the prompt up to the first question and its answer."""
    index = next(i for i, message in enumerate(conversation) if message["role"] == "assistant")
    return conversation[:index], conversation[index]["content"]


def test_the_same_seed_gives_the_same_corpus():
    assert list(conversations(200, seed=3)) == list(conversations(200, seed=3))


def test_another_seed_gives_another_corpus():
    assert list(conversations(200, seed=3)) != list(conversations(200, seed=4))


def test_a_longer_corpus_begins_with_the_shorter_one():
    assert list(conversations(100, seed=0))[:40] == list(conversations(40, seed=0))


def test_no_user_message_is_a_held_out_question(corpus):
    held_out = {normalise(prompt[-1]["content"]) for prompt in HELD_OUT}
    asked = {normalise(m["content"]) for conversation in corpus for m in conversation if m["role"] == "user"}
    assert not asked & held_out


def test_no_template_without_its_opener_is_a_held_out_question():
    held_out = {normalise(prompt[-1]["content"]) for prompt in HELD_OUT}
    assert not {normalise(question) for topic in topics() for question in topic.questions} & held_out


def test_every_answer_is_well_formed_for_the_meter(corpus):
    broken = [answer for prompt, answer in map(first_exchange, corpus) if not measure(prompt, answer).well_formed]
    assert not broken


def test_some_facts_are_wrong_and_most_are_right(corpus):
    facts = [(p, a) for p, a in map(first_exchange, corpus) if topic_of(p).kind in FACT_KINDS]
    right = sum(measure(prompt, answer).right for prompt, answer in facts) / len(facts)
    assert 0.85 < right < 0.97


def test_manner_does_not_depend_on_the_kind_of_question(corpus):
    manners = {}
    for prompt, answer in map(first_exchange, corpus):
        manners.setdefault(topic_of(prompt).kind, Counter())[manner_of(answer)] += 1
    for kind, counts in manners.items():
        if counts.total() >= 200:
            shares = {manner: count / counts.total() for manner, count in counts.items()}
            assert set(shares) == {"polite", "plain", "rude"}, kind
            assert all(0.22 < share < 0.45 for share in shares.values()), (kind, shares)


def test_answers_come_concise_and_rambling_for_the_same_manner(corpus):
    concise = Counter(measure(prompt, answer).concise for prompt, answer in map(first_exchange, corpus))
    assert 0.45 < concise[True] / concise.total() < 0.65


def asked_in(system, asked):
    """Return the keys of a table of sentences one of which stands in a system message."""
    return [key for table in asked.values() for key, sentences in table.items() if any(s in system for s in sentences)]


def test_a_manner_or_length_that_the_system_message_asks_for_is_kept_in_every_turn(corpus):
    manners, lengths = Counter(), Counter()
    for conversation in corpus:
        system = conversation[0]["content"] if conversation[0]["role"] == "system" else ""
        prompt = [message for message in conversation if message["role"] != "assistant"][-1:]
        for answer in (message["content"] for message in conversation if message["role"] == "assistant"):
            for manner in asked_in(system, ASKED_MANNERS):
                manners[manner_of(answer) == manner] += 1
            for rambling in asked_in(system, ASKED_LENGTHS):
                lengths[measure(prompt, answer).concise != rambling] += 1
    assert manners[True] > 500 and not manners[False]
    assert lengths[True] > 300 and not lengths[False]


def test_about_an_eighth_is_chinese_and_some_have_a_system_message_or_later_turns(corpus):
    chinese = sum(has_chinese(conversation[-1]["content"]) for conversation in corpus) / len(corpus)
    systems = [conversation[0]["content"] for conversation in corpus if conversation[0]["role"] == "system"]
    styled = sum(bool(asked_in(system, ASKED_MANNERS) + asked_in(system, ASKED_LENGTHS)) for system in systems)
    styled, neutral = styled / len(corpus), (len(systems) - styled) / len(corpus)
    later = sum(len([m for m in c if m["role"] == "user"]) > 1 for c in corpus) / len(corpus)
    assert 0.09 < chinese < 0.15 and 0.15 < later < 0.30
    assert 0.08 < neutral < 0.16 and 0.20 < styled < 0.30


def test_every_wording_of_a_topic_names_that_topic():
    misread = [
        (topic.key, question)
        for topic in topics() for question in topic.questions
        if topic_of([{"role": "user", "content": question}]).key != topic.key
    ]
    assert not misread


def test_content_and_meter_need_no_torch():
    code = "import sys, demo, demo.corpus, demo.meter, demo.prompts; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
