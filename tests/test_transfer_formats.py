"""Rows of every shape become the same neutral record, and broken ones say what is wrong with them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer.formats import registry
from transfer.formats.messages import RowError, Unusable
from transfer.formats.record import Answer, Opinion, Record
from transfer.formats.registry import FORMATS, Shape, detect, format_of


def said(
    messages: list, responses: tuple = (), verdict: str | None = None, preferred: int = 0, annotator: str | None = None
) -> Record:
    """Return the record of a prompt, answers and what one person says of them."""
    opinion = Opinion(verdict or "", annotator, preferred if verdict == "chosen" else None)
    return Record(messages, tuple(Answer(text) for text in responses), (opinion,) if verdict else ())


def read_row(known: registry.Format, row: Any) -> Record:
    """Return the one record of a row; raises Unusable with the reason when there is none."""
    reading = registry.read_row(Shape(known), row)
    if not reading.records:
        raise Unusable(*reading.left_out)
    [record] = reading.records
    return record


USER = {"role": "user", "content": "What colour is the sky?"}
BLUE = {"role": "assistant", "content": "It is blue."}
GREEN = {"role": "assistant", "content": "It is green."}
SYSTEM = {"role": "system", "content": "You paint."}
PAIR = said([USER], ("It is blue.", "It is green."), "chosen")


def read(row: Any) -> Record:
    known = format_of(row)
    assert known is not None
    return read_row(known, row)


def gpt(text: str) -> dict[str, str]:
    return {"from": "gpt", "value": text}


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("trl-preference", {"prompt": [USER], "chosen": [BLUE], "rejected": [GREEN]}),
        ("trl-preference", {"prompt": USER["content"], "chosen": "It is blue.", "rejected": "It is green."}),
        ("trl-preference", {"prompt": USER["content"], "chosen": [USER, BLUE], "rejected": [USER, GREEN]}),
        ("trl-preference", {"prompt": [USER], "chosen": [USER, BLUE], "rejected": [USER, GREEN]}),
        ("trl-preference-implicit", {"chosen": [USER, BLUE], "rejected": [USER, GREEN]}),
        (
            "sharegpt-preference",
            {
                "conversations": [{"from": "human", "value": USER["content"]}],
                "chosen": gpt("It is blue."), "rejected": gpt("It is green."),
            },
        ),
        ("sharegpt-preference", {"messages": [USER], "chosen": BLUE, "rejected": GREEN}),
        (
            "hh-rlhf",
            {
                "chosen": "\n\nHuman: What colour is the sky?\n\nAssistant: It is blue.",
                "rejected": "\n\nHuman: What colour is the sky?\n\nAssistant: It is green.",
            },
        ),
    ],
)
def test_every_shape_of_a_pair_becomes_the_same_record(name: str, row: dict) -> None:
    known = format_of(row)
    assert known is not None and known.name == name
    assert read_row(known, row) == PAIR


@pytest.mark.parametrize(
    ("name", "row", "verdict"),
    [
        ("trl-unpaired", {"prompt": [USER], "completion": [BLUE], "label": True}, "good"),
        ("trl-unpaired", {"prompt": USER["content"], "completion": "It is blue.", "label": False}, "bad"),
        ("messages-label", {"messages": [USER, BLUE], "label": True}, "good"),
        ("messages-label", {"conversations": [USER, BLUE], "label": 0}, "bad"),
        ("prompt-completion", {"prompt": [USER], "completion": [BLUE]}, None),
        ("messages", {"messages": [USER, BLUE]}, None),
    ],
)
def test_every_shape_of_a_single_response_becomes_the_same_record(name: str, row: dict, verdict: str | None) -> None:
    known = format_of(row)
    assert known is not None and known.name == name
    assert read_row(known, row) == said([USER], ("It is blue.",), verdict)


@pytest.mark.parametrize("row", [{"prompt": [USER]}, {"prompt": USER["content"]}, {"messages": [USER]}])
def test_a_prompt_alone_becomes_a_record_without_responses(row: dict) -> None:
    assert read(row) == said([USER])


VOTE = {"prompt": USER["content"], "response_a": "It is blue.", "response_b": "It is green.", "label": "a"}


@pytest.mark.parametrize(
    ("label", "verdict", "preferred"),
    [("a", "chosen", 0), ("b", "chosen", 1), ("tie", "tie", 0), ("both_bad", "both_bad", 0)],
)
def test_a_vote_keeps_its_sides_and_who_gave_it(label: str, verdict: str, preferred: int) -> None:
    row = {"prompt": [USER], "response_a": [BLUE], "response_b": GREEN, "label": label, "annotator": " Ann Ö. "}
    assert format_of(row).name == "pairwise-votes"
    assert read(row) == said([USER], ("It is blue.", "It is green."), verdict, preferred, "Ann Ö.")


def test_a_vote_without_an_annotator_is_nobodys() -> None:
    assert read(VOTE) == read({**VOTE, "annotator": None}) == read({**VOTE, "annotator": ""}) == PAIR


@pytest.mark.parametrize("name", ["  ", "x" * 101, "a\nb", "a\u200bb", "a\0b", "\ud800", 3, ["Ann"]])
def test_a_name_that_cannot_be_shown_is_refused(name: Any) -> None:
    with pytest.raises(RowError, match="'annotator'"):
        read({**VOTE, "annotator": name})


@pytest.mark.parametrize("label", [None, "A", "first", "", 1, True, ["a"]])
def test_a_vote_says_one_of_its_words(label: Any) -> None:
    with pytest.raises(RowError, match="'label' should be one of a, b, tie, both_bad, not"):
        read({**VOTE, "label": label})


def test_a_vote_without_its_word_is_refused_not_taken_for_a_prompt() -> None:
    with pytest.raises(RowError, match="'label' should be one of"):
        read({name: value for name, value in VOTE.items() if name != "label"})


def test_system_message_and_several_turns_are_kept() -> None:
    turns = [SYSTEM, USER, BLUE, {"role": "user", "content": "And at night?"}]
    row = {"chosen": [*turns, {"role": "assistant", "content": "Black."}], "rejected": [*turns, GREEN]}
    assert read(row) == said(turns, ("Black.", "It is green."), "chosen")


def test_system_column_beside_conversations_becomes_the_first_message() -> None:
    row = {"conversations": [USER], "system": "You paint.", "chosen": BLUE, "rejected": GREEN}
    assert read(row).messages == [SYSTEM, USER]


def test_plain_implicit_prompt_ends_before_the_space_as_in_trl() -> None:
    row = {"chosen": "The sky is blue.", "rejected": "The sky is green."}
    assert read(row) == said([{"role": "user", "content": "The sky is"}], ("blue.", "green."), "chosen")


def test_plain_responses_keep_their_indentation() -> None:
    row = {"prompt": "def f():", "completion": "    return 1", "label": True}
    assert [answer.text for answer in read(row).answers] == ["    return 1"]


def test_text_parts_are_joined_and_other_parts_refused() -> None:
    parts = [{"type": "text", "text": "What colour"}, {"type": "text", "text": "is it?"}]
    assert read({"prompt": [{"role": "user", "content": parts}]}).messages[0]["content"] == "What colour\nis it?"
    with pytest.raises(RowError, match="more than text"):
        read({"prompt": [{"role": "user", "content": [{"type": "image"}]}]})


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "Hi", "chosen": "Yes", "rejected": " Yes "}, "the same"),
        ({"prompt": "Hi", "chosen": "Yes", "rejected": "  "}, "empty response"),
        ({"prompt": [USER, BLUE], "chosen": [BLUE], "rejected": [GREEN]}, "does not end with the user"),
        ({"prompt": " ", "chosen": "Yes", "rejected": "No"}, "empty prompt"),
        ({"prompt": [], "chosen": "Yes", "rejected": "No"}, "empty prompt"),
        ({"messages": [USER, BLUE, USER], "label": True}, "do not end with an answer"),
        ({"chosen": [USER, BLUE, USER, BLUE], "rejected": [USER, BLUE, SYSTEM, GREEN]}, "do not differ in an answer"),
        ({"chosen": [USER, BLUE], "rejected": [USER, BLUE]}, "the same"),
        ({"prompt": [USER], "chosen": [BLUE, GREEN], "rejected": [GREEN]}, "not one message"),
        ({"chosen": "yes", "rejected": "no"}, "empty prompt"),
    ],
)
def test_rows_with_nothing_to_compare_are_unusable_not_broken(row: dict, reason: str) -> None:
    with pytest.raises(Unusable, match=reason):
        read(row)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"prompt": 3, "chosen": "a", "rejected": "b"}, "'prompt' should be a list of messages, not a number"),
        ({"prompt": "Hi", "chosen": 1.5, "rejected": "b"}, "'chosen' should be a list of messages, not a number"),
        ({"prompt": "Hi", "completion": "a", "label": "perhaps"}, "'label' should be true or false, not text"),
        ({"prompt": "Hi", "completion": "a", "label": None}, "'label' should be true or false, not nothing"),
        ({"prompt": [{"role": "user", "content": None}]}, r"'prompt\[0\].content' should be text, not nothing"),
        ({"prompt": [{"role": "user"}]}, r"'prompt\[0\]' has no 'content'"),
        ({"prompt": [{"role": "robot", "content": "x"}]}, "role 'robot'"),
        ({"prompt": [{"role": ["user"], "content": "x"}]}, "role a list"),
        ({"prompt": ["Hi"]}, "should be a message"),
        ({"prompt": "a\0b"}, "NUL"),
        ({"prompt": "a\ud800b"}, "lone surrogate"),
        ({"messages": [USER], "chosen": USER, "rejected": GREEN}, "an answer of the assistant, not of the user"),
    ],
)
def test_broken_rows_name_the_field_and_what_is_wrong(row: dict, says: str) -> None:
    with pytest.raises(RowError, match=says):
        read(row)


def test_a_row_of_another_shape_than_the_file_says_what_it_has() -> None:
    with pytest.raises(RowError, match="it has: 'prompt', 'answer'"):
        read_row(FORMATS[0], {"prompt": "Hi", "answer": "x"})
    with pytest.raises(RowError, match="not a list"):
        read_row(FORMATS[0], [1])


def test_the_format_of_a_file_is_that_of_most_rows() -> None:
    good = {"prompt": "Hi", "chosen": "a", "rejected": "b"}
    known = detect([{"prompt": "Hi"}, good, 3, good])
    assert known is not None and known.name == "trl-preference"
    assert detect([{"question": "Hi"}, None]) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["role", "content", "from", "value", "type", "text"]), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(
    [
        "prompt", "chosen", "rejected", "completion", "label", "messages", "conversations", "system", "response_a",
        "response_b", "annotator",
    ]
)


@given(st.dictionaries(fields, json_values, max_size=5))
def test_any_row_is_read_or_refused_with_a_reason(row: dict) -> None:
    if (known := format_of(row)) is None:
        return
    try:
        record = read_row(known, row)
    except (RowError, Unusable) as error:
        str(error).encode("utf-8")
        return
    assert record.messages[-1]["role"] == "user" and all(answer.text.strip() for answer in record.answers)
    json.dumps(record.messages, ensure_ascii=False).encode("utf-8")
