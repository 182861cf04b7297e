"""Chat with a real worker: the base side is the base, whatever stands beside it; a killed worker comes back."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import peft
import pytest
import torch
import transformers

from chat.session import Question, ask, compare_once
from chat.speakers import Speaker, find
from models.client import Sampling, Workers
from storage import Store
from tests.tiny_models import save_tiny_adapter, save_tiny_model

GREEDY = Sampling(temperature=0.0, max_tokens=24, seed=0)
PROMPTS = ("What is a river?", "Name a colour.", "Why?")


@dataclass
class Lab:
    """A store with one finished run of a tiny model, whose adapter has large weights; and a worker for it."""

    store: Store
    workers: Workers
    model: Path
    run_id: int
    pair: tuple[Speaker, ...]

    def ask(self, text: str, chat_id: int | None = None):
        """Return the last state of both answers to a message."""
        question = Question(text, self.pair, GREEDY, chat_id=chat_id)
        return list(ask(self.store, self.workers, question, threading.Event()))[-1]

    def fresh(self, text: str, adapter: bool) -> str:
        """Return what transformers itself answers after loading the model anew."""
        tokenizer = transformers.AutoTokenizer.from_pretrained(self.model)
        model = transformers.AutoModelForCausalLM.from_pretrained(self.model, dtype=torch.float32)
        if adapter:
            model = peft.PeftModel.from_pretrained(model, self.store.runs.adapter_folder(self.run_id))
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        with torch.no_grad():
            written = model.eval().generate(**ids, do_sample=False, max_new_tokens=GREEDY.max_tokens)
        return tokenizer.decode(written[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    model = save_tiny_model(folder / "tiny")
    store = Store(folder / "data")
    project = store.projects.ensure("Test")
    run = store.runs.create(project.id, "dpo", str(model), {}, [])
    save_tiny_adapter(model, store.runs.adapter_folder(run.id))
    store.runs.end(run.id, "finished", adapter=f"runs/run-{run.id}/adapter")
    workers = Workers(store.folder / "runs", "cpu")
    pair = find(store, project.id, f"base:{model}", f"run-{run.id}")
    yield Lab(store, workers, model, run.id, pair)
    workers.stop()


def test_each_side_says_what_a_fresh_load_of_its_model_says(lab: Lab) -> None:
    for text in PROMPTS:
        base, tuned = lab.ask(text).answers
        assert (base.error, tuned.error) == ("", "")
        assert base.text == lab.fresh(text, adapter=False)
        assert tuned.text == lab.fresh(text, adapter=True)
        assert base.text != tuned.text


def test_the_command_lines_answers_are_the_pages(lab: Lab) -> None:
    shown = lab.ask(PROMPTS[0]).answers
    answers = compare_once(lab.store, lab.workers, None, lab.run_id, PROMPTS[0], GREEDY)
    assert answers == {"base": shown[0].text, "tuned": shown[1].text}


def test_a_chat_longer_than_the_models_context_goes_on_without_its_oldest_messages(lab: Lab) -> None:
    chat_id, left_out = None, []
    for _ in range(3):
        last = lab.ask("x" * 200, chat_id)
        chat_id = last.chat_id
        left_out.append([answer.left_out for answer in last.answers])
        assert all(answer.state == "done" and answer.text for answer in last.answers)
    assert left_out[0] == [0, 0] and min(left_out[-1]) >= 2


def test_a_killed_worker_is_told_and_is_back_at_the_next_message(lab: Lab) -> None:
    slow = Sampling(temperature=0.0, max_tokens=400)  # the random model never ends a greedy answer by itself
    killed = False
    for snapshot in ask(lab.store, lab.workers, Question("Go on", lab.pair, slow), threading.Event()):
        if not killed and any(answer.text for answer in snapshot.answers):
            (slot,) = lab.workers._slots.values()
            os.kill(slot.process.pid, signal.SIGKILL)
            killed = True
    assert killed and all("process ended" in answer.error for answer in snapshot.answers)
    assert lab.workers.state(str(lab.model)) == "died"
    assert all(answer.state == "done" for answer in lab.ask(PROMPTS[0]).answers)


def test_an_adapter_that_is_gone_fails_on_its_own_side_only(lab: Lab) -> None:
    run = lab.store.runs.create(lab.store.projects.list()[0].id, "dpo", str(lab.model), {}, [])
    lab.store.runs.end(run.id, "finished")
    pair = (lab.pair[0], *find(lab.store, None, f"run-{run.id}"))
    base, tuned = list(ask(lab.store, lab.workers, Question("Hi", pair, GREEDY), threading.Event()))[-1].answers
    assert base.state == "done" and base.text
    assert tuned.state == "failed" and f"run-{run.id}" in tuned.error
