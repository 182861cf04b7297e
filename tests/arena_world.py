"""What the tests of matches and rounds share: models at one server of the test, runs that train nothing, votes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chat.speakers import base_speaker
from models.client import Endpoint
from storage import Project, Run, Store
from tests.completion_server import CompletionServer
from tests.training_world import label_pairs
from training import job
from training.config import TrainingConfig

BASE = base_speaker("demo")


class Workers:
    """Stands for `models.client.Workers`: every base model is at one server of the test."""

    device = "cpu"

    def __init__(self, server: CompletionServer) -> None:
        self.server = server

    def endpoint(self, model: str) -> Endpoint:
        """The server's."""
        return self.server.endpoint

    def free_gpu(self) -> None:
        """There is none."""


@pytest.fixture
def server() -> Iterator[CompletionServer]:
    """A server whose models say who they are, what they were asked, and a number of their seed."""
    started = CompletionServer()
    started.answer = lambda body: f"{body['model']} on {body['messages'][-1]['content']} {body['seed'] % 1000}"
    yield started
    started.close()


def asked(store: Store, project: Project, count: int) -> list[int]:
    """Store so many prompts, "Q0", "Q1", …; return their ids."""
    return [store.prompts.add(project.id, [{"role": "user", "content": f"Q{n}"}])[0] for n in range(count)]


def finished(store: Store, project: Project, label_ids: tuple[int, ...] = (), **config: object) -> Run:
    """Store a run that has finished with these labels and settings; there is no adapter in its folder."""
    run = store.runs.create(project.id, "dpo", "demo", config, label_ids)
    store.runs.end(run.id, "finished", adapter=f"runs/run-{run.id}/adapter")
    return store.runs.get(run.id)


def labelled(store: Store, project: Project, prompt_id: int) -> int:
    """Store a pair of answers to a prompt and a label of it; return the label's id."""
    ids = [store.responses.add(prompt_id, text)[0] for text in ("x", "y")]
    item_id, _ = store.items.add(project.id, prompt_id, ids)
    label = store.labels.add(
        item_id, "ann", "chosen", client_id=f"c{item_id}", shown_response_ids=ids, chosen_response_id=ids[0]
    )
    return label.id


def compared(store: Store, better: str, worse: str, votes: int) -> None:
    """Store so many blind votes for one model in a chat."""
    for _ in range(votes):
        chat = store.chats.create([better, worse], {}, is_blind=True)
        question = store.chats.add_message(chat.id, "user", "Hi")
        for side, model in enumerate(chat.models):
            store.chats.add_message(
                chat.id, "assistant", f"Answer {side}", side=side, model=model, settings={"question_id": question},
                finish_reason="stop",
            )
        store.chats.add_vote(question, "ann", "chosen", 0)


@pytest.fixture
def trained_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are created as the job creates them, and have finished at once: no process trains."""

    def start(store: Store, project: Project, config: TrainingConfig, device: str, free) -> Run:  # noqa: ANN001
        run = job.create(store, project, config)
        store.runs.hold_out(run.id, store.runs.label_ids(run.id)[:2])
        store.runs.end(run.id, "finished", adapter=f"runs/run-{run.id}/adapter")
        return store.runs.get(run.id)

    monkeypatch.setattr(job, "start", start)


def world(store: Store, project: Project) -> Run:
    """Six labelled pairs, a run that learned from them, and six prompts that nobody has labelled."""
    label_pairs(store, project, 6)
    config = TrainingConfig(learning_rate=0.004, lora_rank=6).to_dict()
    first = finished(store, project, tuple(row["label_id"] for row in store.labels.judged(project.id)), **config)
    asked(store, project, 6)
    return first


def label_all(store: Store, project: Project, most: int | None = None) -> None:
    """Prefer the first response of a project's pairs without a label."""
    waiting = [row for row in store.items.pairs(project.id, 0, 1000) if not store.items.get(row["id"]).label_count]
    for row in waiting[:most]:
        ids = store.items.response_ids(row["id"])
        store.labels.add(
            row["id"], "ann", "chosen", client_id=f"all{row['id']}", shown_response_ids=ids, chosen_response_id=ids[0]
        )
