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


def test_who_cannot_be_found_has_no_provenance(store: Store) -> None:
    assert set(provenance(store, base_speaker("/no/such/folder")).values()) == {None}
    assert provenance(store, base_speaker("org/name")) == {
        "base_identity": "org/name", "template_hash": None, "adapter_hash": None,
    }
