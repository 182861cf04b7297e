"""Who can be chosen in a chat, who is at first, and which chat a page finds again."""

from __future__ import annotations

import pytest

from chat.speakers import base_speaker, default_pair, find, name_of, run_speaker, speakers
from chat.transcript import begin, reopen, turns
from errors import NotFoundError


def train(store, project_id: int, model: str = "demo", state: str = "finished", method: str = "dpo"):
    run = store.runs.create(project_id, method, model, {}, [])
    store.runs.end(run.id, state)
    return store.runs.get(run.id)


def test_the_demo_and_finished_runs_are_listed_the_projects_own_first(store, project) -> None:
    other = store.projects.ensure("Other")
    train(store, project.id)
    train(store, project.id, state="failed")
    train(store, other.id, model="org/Large", method="kto")
    train(store, project.id, method="ipo")
    labels = [speaker.label for speaker in speakers(store, project.id)]
    assert labels == ["Base (demo)", "Base (Large)", "Run 4 · IPO", "Run 1 · DPO", "Run 3 · KTO · Large · Other"]
    assert [speaker.served_name for speaker in speakers(store, project.id)][1:3] == ["base", "run-4"]


def test_the_base_stands_beside_the_newest_run_trained_from_it(store, project) -> None:
    assert default_pair(store, project.id) == (base_speaker("demo"), base_speaker("demo"))
    assert default_pair(store, None) == (base_speaker("demo"), base_speaker("demo"))
    run = train(store, project.id, model="org/Large")
    assert default_pair(store, project.id) == (base_speaker("org/Large"), run_speaker(run))
    assert default_pair(store, store.projects.ensure("Other").id)[1] == base_speaker("demo")


def test_in_a_match_those_of_its_project_speak(store, project) -> None:
    run = store.runs.create(project.id, "dpo", "demo", {}, [])
    store.runs.end(run.id, "finished", adapter="a")
    match = store.projects.ensure("match", is_match=True, home_id=project.id)
    assert speakers(store, match.id) == speakers(store, project.id)
    assert default_pair(store, match.id) == default_pair(store, project.id)
    assert default_pair(store, match.id)[1].run_id == run.id


def test_a_speaker_that_is_gone_is_named(store, project) -> None:
    with pytest.raises(NotFoundError, match="run-9"):
        find(store, project.id, "base:demo", "run-9")
    with pytest.raises(NotFoundError, match="Choose a model"):
        find(store, project.id, None, "base:demo")


def test_a_key_is_read_as_a_name_also_when_its_model_is_gone(store, project) -> None:
    run = train(store, project.id, model="org/Large", method="kto")
    keys = (f"run-{run.id}", "base:org/Large", "base:/gone/Small", "run-9")
    known = speakers(store, project.id)
    assert [name_of(key, known) for key in keys] == ["Run 1 · KTO · Large", "Base (Large)", "Base (Small)", "Run 9"]


def test_a_page_finds_the_newest_chat_of_its_project_again(store, project) -> None:
    pair = default_pair(store, project.id)
    chat = begin(store, project.id, pair).chat
    question_id = store.chats.add_message(chat.id, "user", "Hi")
    store.chats.add_message(
        chat.id, "assistant", "Hello", side=1, settings={"question_id": question_id, "temperature": 0.1}
    )
    opened = reopen(store, project.id)
    assert opened.chat == chat and opened.sides == pair and opened.settings["temperature"] == 0.1
    assert opened.turns == turns(store, chat.id) and opened.turns[0].answers[0] is None
    assert reopen(store, store.projects.ensure("Other").id).chat is None
    assert reopen(store, None).chat is None


def test_a_new_chat_stays_empty_after_a_reload(store, project) -> None:
    pair = default_pair(store, project.id)
    first = begin(store, project.id, pair).chat
    store.chats.add_message(first.id, "user", "Hi")
    second = begin(store, project.id, pair).chat
    assert reopen(store, project.id).chat == second and reopen(store, project.id).turns == []


def test_a_run_that_finishes_after_the_chat_began_is_chosen_at_once(store, project) -> None:
    begin(store, project.id, default_pair(store, project.id))
    run = train(store, project.id)
    opened = reopen(store, project.id)
    assert opened.chat is None and opened.sides[1] == run_speaker(run) and opened.newest_run_id == run.id
    chat = begin(store, project.id, opened.sides).chat
    assert reopen(store, project.id).chat == chat


def test_a_chat_whose_models_are_gone_is_not_reopened(store, project) -> None:
    store.chats.create(["base:demo", "run-7"], {}, project.id)
    assert reopen(store, project.id).chat is None
