"""Every answer says what it was made with, and can be had again: tested with the real demo model and a real worker."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from chat.provenance import provenance
from chat.replay import replay
from chat.session import Question, ask
from chat.speakers import base_speaker, run_speaker
from errors import ConfigError
from models.catalog import resolve
from models.client import Sampling, Workers
from storage import Project, Store
from tests.openai_server import FakeWorkers, Manner, speaking_server
from tests.tiny_models import save_tiny_adapter


@pytest.fixture
def workers(store: Store) -> Iterator[Workers]:
    started = Workers(store.folder / "runs", "cpu")
    yield started
    started.stop()


def test_answers_are_replayed_to_the_letter_and_a_changed_adapter_is_named(
    store: Store, project: Project, workers: Workers
) -> None:
    run = store.runs.create(project.id, "dpo", "demo", {}, [])
    folder = store.runs.adapter_folder(run.id)
    save_tiny_adapter(Path(resolve("demo")), folder)
    store.runs.end(run.id, "finished", adapter=f"runs/run-{run.id}/adapter")
    speakers = (base_speaker("demo"), run_speaker(store.runs.get(run.id)))
    sampling = Sampling(temperature=0.9, top_p=0.95, top_k=40, min_p=0.01, repetition_penalty=1.1, max_tokens=40)
    chat_id = None
    for text in ("How do I make a cup of tea?", "And coffee?", "What do owls eat?"):
        question = Question(text, speakers, sampling, "Be brief.", chat_id, project.id)
        chat_id = list(ask(store, workers, question, threading.Event()))[-1].chat_id
    answers = [each for each in store.chats.messages(chat_id) if each.role == "assistant"]
    answers.sort(key=lambda answer: answer.side)  # whoever ends first is stored first
    assert len(answers) == 6
    for answer in answers:
        assert answer.settings["base_identity"].startswith("sha256:") and answer.settings["template_hash"]
        assert (answer.settings["adapter_hash"] is None) == (answer.side == 0)
        again = replay(store, workers, answer.id)
        assert (again.text, again.is_same, again.changed) == (answer.content, True, ())
    question = store.chats.message(answers[0].settings["question_id"])
    store.chats.add_message(chat_id, "user", "Asked anew", settings={"replaces": question.id})
    late = store.chats.add_message(
        chat_id, "assistant", answers[0].content, side=0, model="base:demo", settings=answers[0].settings, finish_reason="stop"
    )
    assert replay(store, workers, late).is_same  # its question is gone from the chat, its conversation is not
    shutil.rmtree(folder)
    save_tiny_adapter(Path(resolve("demo")), folder, seed=1)
    last = replay(store, workers, answers[-1].id)
    assert last.changed == ("the adapter",) and not last.is_same and "Another answer" in last.sentence()
    with pytest.raises(ConfigError, match="no whole answer"):
        replay(store, workers, store.chats.messages(chat_id)[0].id)


@pytest.mark.parametrize(("stored", "ended", "now", "is_same"), [
    ("Hello the", "stopped", "Hello there.", True), ("Hello you", "stopped", "Hello there.", False),
    ("Hello there.", "stop", "Hello", False), ("", "stop", "Hello", False),
])
def test_an_answer_that_was_stopped_is_compared_as_far_as_it_went(
    store: Store, project: Project, stored: str, ended: str, now: str, is_same: bool
) -> None:
    message_id = stored_answer(store, project, stored, ended)
    with speaking_server(base=Manner([now])) as server:
        again = replay(store, FakeWorkers({"demo": server}), message_id)
    assert (again.text, again.is_same, again.is_stopped) == (now, is_same, False)


@pytest.mark.parametrize(("stored", "ended", "is_same"), [
    ("Hello" + " there" * 50, "stop", True), ("Hello", "stopped", True), ("Hello you", "stop", False),
])
def test_a_replay_that_is_stopped_is_compared_as_far_as_it_came(
    store: Store, project: Project, stored: str, ended: str, is_same: bool
) -> None:
    message_id, stop = stored_answer(store, project, stored, ended), threading.Event()
    with speaking_server(base=Manner(["Hello", " there"] + [" there"] * 99, pause_seconds=0.2)) as server:
        halting = threading.Thread(target=lambda: (server.wait(lambda: server.said >= 5), stop.set()))
        halting.start()
        again = replay(store, FakeWorkers({"demo": server}), message_id, stop)
        halting.join()
    assert again.is_stopped and again.is_same == is_same and "it was stopped" in again.sentence()


def test_a_replay_that_is_stopped_at_once_says_so(store: Store, project: Project) -> None:
    message_id, stop = stored_answer(store, project, "Hello", "stop"), threading.Event()
    stop.set()
    with speaking_server(base=Manner(["Hello"] * 99, pause_seconds=0.2)) as server:
        again = replay(store, FakeWorkers({"demo": server}), message_id, stop)
    assert again.is_stopped and again.sentence() == "Stopped before its first word."


def stored_answer(store: Store, project: Project, text: str, finish_reason: str) -> int:
    """Store a chat of one question that the demo model answered; return the answer's number."""
    chat = store.chats.create(["base:demo"], {}, project.id)
    settings = {"question_id": store.chats.add_message(chat.id, "user", "Hi")}
    return store.chats.add_message(
        chat.id, "assistant", text, side=0, model="base:demo", settings=settings, finish_reason=finish_reason
    )


def test_who_cannot_be_found_has_no_provenance(store: Store) -> None:
    assert set(provenance(store, base_speaker("/no/such/folder")).values()) == {None}
    assert provenance(store, base_speaker("org/name")) == {
        "base_identity": "org/name", "template_hash": None, "adapter_hash": None,
    }
