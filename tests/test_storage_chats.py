"""Chats as they are kept: names, search, votes."""

from __future__ import annotations

import sqlite3

import pytest

from errors import LabelError, NotFoundError
from storage import Project, Store


def said(store: Store, project: Project, *texts: str) -> int:
    """Store a chat in which these texts were said, question and answer in turn; return its number."""
    chat = store.chats.create(["base:demo", "run-1"], {}, project.id)
    for number, text in enumerate(texts):
        store.chats.add_message(chat.id, "assistant" if number % 2 else "user", text, side=0 if number % 2 else None)
    return chat.id


def test_a_search_finds_names_questions_and_answers_in_any_case(store: Store, project: Project) -> None:
    tea = said(store, project, "How do I make\ntea?", "Boil WATER.")
    rivers = said(store, project, "What is a river?", "100% water_y.")
    said(store, project)
    assert [(entry.chat.id, entry.title) for entry in store.chats.search(project.id)] == [
        (rivers, "What is a river?"), (tea, "How do I make tea?"),
    ]
    assert [entry.chat.id for entry in store.chats.search(project.id, "boil water")] == [tea]
    assert [entry.chat.id for entry in store.chats.search(project.id, "0%")] == [rivers]
    assert [entry.chat.id for entry in store.chats.search(project.id, "r_y")] == [rivers]
    assert [entry.chat.id for entry in store.chats.search(project.id, "water TEA")] == [tea]
    assert store.chats.search(project.id, "water lilies") == []
    russian = said(store, project, "ПРИВЕТ Über?")
    assert [entry.chat.id for entry in store.chats.search(project.id, "привет üb")] == [russian]
    store.chats.rename(tea, " Kitchen ")
    assert [(entry.title, entry.questions) for entry in store.chats.search(project.id, "kitch")] == [("Kitchen", 1)]
    assert store.chats.search(store.projects.ensure("other").id) == []
    with pytest.raises(NotFoundError):
        store.chats.rename(99, "x")


def test_a_list_counts_the_questions_a_reader_sees_and_the_votes_that_count(store: Store, project: Project) -> None:
    chat = said(store, project, "Frist?", "One.", "Second?", "Two.")
    first, _, second, _ = (message.id for message in store.chats.messages(chat))
    store.chats.add_vote(second, "ann", "tie")
    for side in (0, 1):
        store.chats.add_vote(second, "bob", "chosen", side)
    (entry,) = store.chats.search(project.id)
    assert (entry.title, entry.questions, entry.votes) == ("Frist?", 2, 2)
    retried = store.chats.add_message(chat, "user", "Second?", settings={"replaces": second})
    assert [each.questions for each in store.chats.search(project.id)] == [2]
    store.chats.add_message(chat, "user", "First? " * 99, settings={"replaces": first})
    store.chats.add_message(chat, "user", "Third?", settings={"replaces": retried})  # gone already: it comes after
    (entry,) = store.chats.search(project.id, "frist")
    assert (entry.title, entry.questions) == (("First? " * 99)[:200].strip(), 2)


def test_votes_cannot_be_rewritten(store: Store, project: Project) -> None:
    chat = said(store, project, "Hi")
    vote = store.chats.add_vote(store.chats.messages(chat)[0].id, "ann", "chosen", 1)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        store.db.execute("UPDATE chat_votes SET side = 0")
    assert store.chats.votes(chat) == [vote]


@pytest.mark.parametrize(("verdict", "side"), [("chosen", None), ("chosen", 2), ("tie", 0)])
def test_a_vote_names_a_side_that_there_is(store: Store, project: Project, verdict: str, side: int | None) -> None:
    chat = said(store, project, "Hi")
    with pytest.raises(LabelError):
        store.chats.add_vote(store.chats.messages(chat)[0].id, "ann", verdict, side)
