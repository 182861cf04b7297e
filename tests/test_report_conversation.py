"""A conversation written into a text box: read as its writer means it, and refused with words where it is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from errors import TrainingError
from report.conversation import read, with_answer


def said(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


@given(st.text().filter(lambda text: ":" not in text))
def test_a_text_without_speakers_is_one_question_letter_for_letter(text: str) -> None:
    assert read(text) == said(("user", text))


@pytest.mark.parametrize("text", ["What does “User: x” mean?\nUser: x", "user: a", "Users: a", " see\nAssistant: b"])
def test_a_speaker_counts_only_at_the_start_of_the_text(text: str) -> None:
    assert read(text) == said(("user", text))


def test_turns_are_read_with_their_lines_and_without_the_blanks_around_them() -> None:
    text = "\nSystem: Be kind.\nUser:  Hi\n\n  there: you \n\nAssistant:\nHello!\nHuman: Bye"
    assert read(text) == said(
        ("system", "Be kind."), ("user", "Hi\n\n  there: you"), ("assistant", "Hello!"), ("user", "Bye")
    )


@given(st.text(" \t\n", min_size=1))
def test_blanks_before_the_first_speaker_change_nothing(blanks: str) -> None:
    text = "User: hi\nAssistant: yo"
    assert read(f"{blanks}{text}") == read(text) == said(("user", "hi"), ("assistant", "yo"))
    assert read(f"{blanks}User: hi") == said(("user", "hi"))


def test_the_last_turn_is_the_answer_where_none_is_given() -> None:
    text = "User: Hi\nAssistant: Hello!\nUser: Bye\nAssistant: See you."
    before = said(("user", "Hi"), ("assistant", "Hello!"), ("user", "Bye"))
    assert with_answer(text, "") == (before, "See you.")
    assert with_answer("User: Hi", " Hello!\n") == (said(("user", "Hi")), " Hello!\n")
    assert with_answer("Hi", " ") == (said(("user", "Hi")), " ")


@pytest.mark.parametrize(
    ("text", "response"),
    [("", "x"), (" ", "x"), ("x", ""), ("", ""), ("User: x", ""), ("Assistant: x", ""), ("User:\nAssistant: x", "y"), ("User: x\nAssistant:", "")],
)
def test_a_missing_question_or_answer_is_asked_for(text: str, response: str) -> None:
    with pytest.raises(TrainingError, match="Write a question and an answer first"):
        with_answer(text, response)


@pytest.mark.parametrize("text", ["User: x\nAssistant: y", "System: be kind"])
def test_the_turn_before_the_answer_must_be_the_users(text: str) -> None:
    with pytest.raises(TrainingError, match="must be the user's: begin it with “User:”"):
        with_answer(text, "z")
