"""The models as other programs find them: `python app.py api` in its own process, asked as OpenAI's clients ask."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from tests.publish_world import finished_run
from tests.tiny_models import save_tiny_adapter, save_tiny_model

from models import catalog
from models.client import Endpoint, Sampling, Workers
from publish import api
from publish.served import PublishedService
from publish.source import PublishError
from storage import Run, Store

ROOT = Path(__file__).resolve().parents[1]
KEY = "a-key-of-this-test-0123456789"
MESSAGES = [{"role": "user", "content": "Hello"}]
GREEDY = Sampling(temperature=0, max_tokens=20)


def start(*words: str, key: str | None = KEY, variable: str = api.KEY_VARIABLE) -> subprocess.Popen:
    environment = {name: value for name, value in os.environ.items() if name != api.KEY_VARIABLE}
    if key is not None:
        environment[variable] = key
    return subprocess.Popen(
        [sys.executable, "app.py", "api", "--port", "0", "--device", "cpu", *words], cwd=ROOT, text=True,
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )


def refusal(*words: str, **options: str | None) -> str:
    """Start a server that must refuse to start: exit code 2 and one line after what it says it does."""
    said = start(*words, **options)
    _, errors = said.communicate(timeout=120)
    assert said.returncode == 2 and "Traceback" not in errors, errors
    return errors.strip().splitlines()[-1]


@dataclass
class Served:
    """A running API. runs: of its base; other: a run of another base. said: all it printed, once it has ended."""

    endpoint: Endpoint
    store: Store
    run: Run
    other: Run
    model: Path
    process: subprocess.Popen
    said: list[str]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("api")
    store = Store(folder / "data")
    model = save_tiny_model(folder / "model")
    run = finished_run(store, str(model), steps=4, learning_rate=0.05)
    other = finished_run(store, str(save_tiny_model(folder / "other", seed=3)), steps=2)
    process = start("--model", str(model), "--data", str(store.folder))
    first, errors = process.stdout.readline(), []
    reader = threading.Thread(target=lambda: errors.extend(process.stderr), daemon=True)
    reader.start()
    assert first, errors
    said = [first]
    found = re.match(r"The models are at (http://127\.0\.0\.1:\d+/v1): base, run-1  ", first)
    assert found, first
    yield Served(Endpoint(found[1], KEY, 60), store, run, other, model, process, said)
    process.send_signal(signal.SIGTERM)
    process.wait(120)
    reader.join(10)
    # The last claim of this module, because only now all is said: the key is in nothing that was printed.
    everything = "".join([*said, process.stdout.read(), *errors])
    assert KEY not in everything and "POST" not in everything, everything
    store.close()


def test_the_base_and_its_runs_answer_as_our_worker_does(served: Served) -> None:
    assert served.endpoint.models() == ["base", "run-1"]
    workers = Workers(served.store.folder / "runs", "cpu")
    try:
        ours = workers.endpoint(str(served.model))
        expected = {name: ours.complete(name, MESSAGES, GREEDY)[0] for name in ("base", "run-1")}
    finally:
        workers.stop()
    assert {name: served.endpoint.complete(name, MESSAGES, GREEDY)[0] for name in expected} == expected
    assert expected["base"].text != expected["run-1"].text
    for name, whole in expected.items():
        assert "".join(each.text for each in served.endpoint.stream(name, MESSAGES, GREEDY)) == whole.text


def test_openais_own_client_is_understood(served: Served) -> None:
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=served.endpoint.base_url, api_key=KEY, max_retries=0)
    assert [model.id for model in client.models.list()] == ["base", "run-1"]
    asked = {"model": "run-1", "messages": MESSAGES, "temperature": 0, "max_tokens": 20}
    whole = client.chat.completions.create(**asked)
    pieces = [chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(**asked, stream=True)]
    assert "".join(pieces) == whole.choices[0].message.content and whole.usage.completion_tokens > 0
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(**{**asked, "model": "run-9"})
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=served.endpoint.base_url, api_key="x" * 20, max_retries=0).models.list()


def post(served: Served, body: dict, key: str | None = KEY) -> httpx.Response:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return httpx.post(served.endpoint.url("/chat/completions"), json=body, headers=headers, trust_env=False, timeout=60)


@pytest.mark.parametrize("key", ["x" * 20, KEY[:-1], KEY + "0", None])
def test_without_the_right_key_nothing_is_answered(served: Served, key: str | None) -> None:
    answer = post(served, {"model": "base", "messages": MESSAGES}, key)
    assert answer.status_code == 401 and answer.json()["error"]["type"] == "authentication_error"
    assert KEY not in answer.text and "server" not in answer.headers
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    assert httpx.get(served.endpoint.url("/models"), headers=headers, trust_env=False).status_code == 401


@pytest.mark.parametrize("name", ["run-9", "run-2", "gpt-4", "../run-1", "run-01", ""])
def test_a_model_that_is_not_of_this_base_is_not_found(served: Served, name: str) -> None:
    """run-2 is there, but was trained on another base."""
    answer = post(served, {"model": name, "messages": MESSAGES})
    assert answer.status_code == (404 if name else 400)
    assert not name or "only base, run-1" in answer.json()["error"]["message"]


def test_a_streams_events_are_openais(served: Served) -> None:
    body = {"model": "run-1", "messages": MESSAGES, "temperature": 0, "max_tokens": 5, "stream": True}
    lines = [line for line in post(served, body).text.split("\n") if line]
    assert lines[-1] == "data: [DONE]"
    events = [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
    assert {each["object"] for each in events} == {"chat.completion.chunk"} and {each["model"] for each in events} == {"run-1"}
    assert events[0]["choices"][0]["delta"]["role"] == "assistant" and events[-1]["choices"][0]["finish_reason"]


def test_a_run_that_finishes_later_is_served_at_once(served: Served) -> None:
    project = served.store.projects.ensure("later")
    later = served.store.runs.create(project.id, "dpo", str(served.model), {}, [])
    save_tiny_adapter(served.model, served.store.runs.adapter_folder(later.id), seed=9)
    assert served.endpoint.models() == ["base", "run-1"]  # it is still training
    served.store.runs.end(later.id, "finished", "Finished.", adapter=f"runs/run-{later.id}/adapter")
    assert served.endpoint.models() == ["base", "run-1", f"run-{later.id}"]
    assert served.endpoint.complete(f"run-{later.id}", MESSAGES, GREEDY)[0].text
    served.store.runs.adapter_folder(later.id).rename(served.store.folder / "gone")
    assert served.endpoint.models() == ["base", "run-1", f"run-{later.id}"]
    answer = post(served, {"model": f"run-{later.id}", "messages": MESSAGES})
    assert answer.status_code == 404 and served.endpoint.complete("base", MESSAGES, GREEDY)


def test_a_runs_base_is_hashed_once_however_often_it_is_asked_for(store, project, tmp_path, monkeypatch) -> None:
    """These runs kept no identity of their base, as runs of an early version."""
    model, hashed, identity = save_tiny_model(tmp_path / "model"), [], catalog.identity
    away = model.rename(tmp_path / "away")
    for folder in (away, away, model):
        created = store.runs.create(project.id, "dpo", str(folder), {}, [])
        store.runs.end(created.id, "finished", "Finished.", adapter=f"runs/run-{created.id}/adapter")

    def counted(name: str) -> str:
        hashed.append(name)
        return identity(name)

    monkeypatch.setattr(catalog, "identity", counted)
    service = PublishedService(store, str(away))
    for _ in range(3):
        assert service.names() == ["base", "run-1", "run-2"]
    assert hashed.count(str(away)) == 3  # the service's own, and each run's
    shutil.copytree(away, model)
    assert service.names() == ["base", "run-1", "run-2", "run-3"]  # its base is back


def test_it_does_not_start_without_a_good_key_and_says_how_to_make_one(tmp_path: Path) -> None:
    data = ("--data", str(tmp_path / "data"))
    for key in (None, "", "short", "fifteen-letters", "has blanks in it, so is none", "ключ-из-многих-букв"):
        said = refusal(*data, key=key)
        assert "secrets.token_urlsafe(32)" in said and api.KEY_VARIABLE in said and (not key or key not in said)
    assert "MY_KEY is not set" in refusal(*data, "--key-variable", "MY_KEY")
    assert not (tmp_path / "data").exists()


def test_an_unknown_model_and_a_taken_port_are_one_line(tmp_path: Path) -> None:
    data = ("--data", str(tmp_path / "data"))
    assert "no/such/folder" in refusal(*data, "--model", "no/such/folder")
    with api.bind("127.0.0.1", 0) as taken:
        assert "--port 0" in refusal(*data, "--port", str(taken.getsockname()[1]))


def test_the_key_is_taken_out_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    assert api.take_key("MY_KEY") == KEY and "MY_KEY" not in os.environ
    with pytest.raises(PublishError, match="MY_KEY is not set"):
        api.take_key("MY_KEY")


def test_who_can_reach_a_host_is_said_unless_it_is_this_machine_alone() -> None:
    assert [host for host in ("127.0.0.1", "localhost", "::1", "127.9.9.9") if api.warning(host)] == []
    assert "every network" in api.warning("0.0.0.0") and "every network" in api.warning("::")
    for host in ("192.168.1.5", "example.org", "2001:db8::1"):
        assert f"whoever can reach {host}" in api.warning(host) and "not encrypted" in api.warning(host)


def test_the_command_warns_before_it_opens_to_others(tmp_path: Path) -> None:
    process = start("--host", "0.0.0.0", "--data", str(tmp_path / "data"))
    try:
        assert "open to every network this machine is in" in process.stderr.readline()
        until = time.monotonic() + 120
        assert process.stdout.readline().startswith("The models are at http://0.0.0.0:") and time.monotonic() < until
    finally:
        process.kill()
        process.communicate()
