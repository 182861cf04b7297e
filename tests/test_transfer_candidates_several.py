"""Several models answer the same prompts, and one that fails does not stop the others."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from models.client import Sampling
from storage import Project, Store
from tests.completion_server import CompletionServer
from transfer.candidates import drawing
from transfer.candidates.responders import Responder
from transfer.candidates.several import generate_from
from transfer.desk import Desk
from transfer.jobs import Jobs


def test_two_models_are_paired_one_fails_and_no_key_is_stored(
    store: Store, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "RETRY_SECONDS", (0.01,))
    store.prompts.add(project.id, [{"role": "user", "content": "Q"}])
    server, workers = CompletionServer(), None
    try:
        base, key = server.endpoint.base_url, server.endpoint.api_key
        asked = [
            Responder(name, base_url=url, sampling=Sampling(seed=seed), per_prompt=1, api_key=key)
            for name, url, seed in (("a", base, 1), ("b", base, 2), ("c", "http://127.0.0.1:9/v1", 3))
        ]
        found: Any = generate_from(store, project, workers, asked, source="other")
    finally:
        server.close()
    assert found.items == {"pair": 1} and len(found.models) == 2
    assert list(found.failed) == ["c@http://127.0.0.1:9/v1"]
    stored = [r for p in store.prompts.list(project.id) for r in store.responses.of_prompt(p.id)]
    assert {r.model for r in stored} == {f"a@{base}", f"b@{base}"}
    assert not key or all(key not in repr(r) for r in stored)
    assert "failed" in found.sentence() and found.as_dict()["items"] == {"pair": 1}


def responders(server: CompletionServer, *names: str, n: int = 3) -> list[Responder]:
    address = server.endpoint.base_url
    return [Responder(name, base_url=address, sampling=Sampling(seed=1, temperature=0.5), per_prompt=n) for name in names]


@pytest.fixture()
def server() -> Iterator[CompletionServer]:
    """A server whose models say their names."""
    started = CompletionServer()
    started.answer = lambda body: f"{body['model']} says {body['seed']}"
    yield started
    started.close()


def asked(store: Store, project: Project, number: int = 4) -> None:
    for each in range(number):
        store.prompts.add(project.id, [{"role": "user", "content": f"Q{each}"}])


@pytest.mark.parametrize("rule", ["all", "random", "different"])
@pytest.mark.parametrize("source", ["same", "other"])
def test_pairs_follow_the_rule_and_the_source(
    store: Store, project: Project, server: CompletionServer, rule: str, source: str
) -> None:
    asked(store, project)
    most = None if rule == "all" else 2
    found = generate_from(store, project, None, responders(server, "a", "b"), rule=rule, most=most, source=source)
    assert found.items == {"pair": 4 * (most or {"same": 6, "other": 9}[source])}
    for item in range(1, 1 + found.items["pair"]):
        origins = {store.responses.get(response_id).model for response_id in store.items.response_ids(item)}
        assert len(origins) == {"same": 1, "other": 2}[source]


def test_rankings_and_single_answers_come_of_several_models(
    store: Store, project: Project, server: CompletionServer
) -> None:
    asked(store, project)
    found = generate_from(store, project, None, responders(server, "a", "b"), kinds=("single", "ranking"))
    assert found.items == {"single": 24, "ranking": 4}


def test_a_cancelled_generation_goes_on_with_the_next_model(
    store: Store, project: Project, server: CompletionServer
) -> None:
    asked(store, project)
    stop = threading.Event()
    two = responders(server, "a", "b", n=1)
    cancelled = generate_from(store, project, None, two, stop=stop, progress=lambda done, total: done >= 4 and stop.set())
    assert cancelled.cancelled and cancelled.items == {} and len(server.requests) == 4
    found = generate_from(store, project, None, two, source="other")
    assert found.items == {"pair": 4} and len(server.requests) == 8  # nothing was drawn twice


def test_what_answered_and_how_is_stored_with_every_response(
    store: Store, project: Project, server: CompletionServer
) -> None:
    asked(store, project, 1)
    generate_from(store, project, None, responders(server, "a", n=2), kinds=("single",))
    [prompt] = store.prompts.list(project.id)
    seeds = {body["seed"] for body in server.requests}
    for response in store.responses.of_prompt(prompt.id):
        assert response.model == f"a@{server.endpoint.base_url}"
        assert response.settings["temperature"] == 0.5 and response.settings["server"] == server.endpoint.base_url
        assert response.settings["seed"] in seeds


@pytest.mark.parametrize("trusted", [False, True])
def test_the_key_of_who_runs_the_program_goes_only_where_they_said(
    store: Store, project: Project, server: CompletionServer, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    asked(store, project, 1)
    address, key = server.endpoint.base_url, "sk-never-to-be-seen"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    monkeypatch.setenv("OPENAI_BASE_URL", f"{address}/" if trusted else "https://elsewhere.example/v1")
    desk = Desk(store, None, Jobs())  # type: ignore[arg-type]
    desk.generate(project.id, [f"a@{address}"], 2, 0.5, 16, "pair")
    while desk.jobs.state is not None and desk.jobs.state.running:
        time.sleep(0.01)
    assert desk.jobs.state is not None and "2 new responses" in desk.jobs.state.message
    assert server.keys == {f"Bearer {key}" if trusted else ""}
