"""A real worker process: started, asked, killed, started again, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch
import transformers
from tests.tiny_models import save_tiny_adapter, save_tiny_model

from errors import ModelError, WorkerError
from models import client
from models.catalog import adapter_hash, identity
from models.client import Endpoint, Sampling, Usage, Workers
from models.process import WorkerProcess

MESSAGES = [{"role": "user", "content": "Hello, 你好"}]
GREEDY = Sampling(temperature=0, max_tokens=30)
LONG = Sampling(temperature=1.0, max_tokens=400, seed=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, its adapter `run-3` and a data folder."""
    root = tmp_path_factory.mktemp("worker")
    save_tiny_adapter(save_tiny_model(root / "model"), root / "data" / "runs" / "run-3" / "adapter")
    return root


@pytest.fixture(scope="module")
def workers(folder: Path) -> Iterator[Workers]:
    running = Workers(folder / "data" / "runs", device="cpu")
    yield running
    running.stop()


@pytest.fixture
def endpoint(folder: Path, workers: Workers) -> Endpoint:
    return workers.endpoint(str(folder / "model"))


def gone(pid: int, seconds: float = 30) -> bool:
    """Wait until a process has ended; one that only waits to be reaped has."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


def ended(process: WorkerProcess, seconds: float = 30) -> bool:
    """Wait until a process of our own has ended with all its threads."""
    deadline = time.monotonic() + seconds
    while process.alive and time.monotonic() < deadline:
        time.sleep(0.05)
    return not process.alive


def test_base_and_adapter_answer_each_as_itself(folder: Path, endpoint: Endpoint) -> None:
    assert endpoint.models() == ["base", "run-3"]
    (base,) = endpoint.complete("base", MESSAGES, GREEDY)
    (tuned,) = endpoint.complete("run-3", MESSAGES, GREEDY)
    (again,) = endpoint.complete("base", MESSAGES, GREEDY)
    fresh = transformers.AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "model")
    inputs = tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    out = fresh.generate(**inputs, do_sample=False, max_new_tokens=30)[0, inputs["input_ids"].shape[1] :]
    assert base.text == again.text == tokenizer.decode(out, skip_special_tokens=True)
    assert tuned.text != base.text


def test_a_stream_put_together_is_the_whole_answer(endpoint: Endpoint) -> None:
    for name in ("base", "run-3"):
        (whole,) = endpoint.complete(name, MESSAGES, GREEDY)
        pieces = list(endpoint.stream(name, MESSAGES, GREEDY))
        assert "".join(piece.text for piece in pieces) == whole.text
        assert [piece.finish_reason for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
        assert pieces[-1].finish_reason == whole.finish_reason
        assert len(pieces) > 5


def test_several_answers_have_several_seeds_and_the_same_each_time(endpoint: Endpoint) -> None:
    sampling = Sampling(temperature=1.0, max_tokens=12, seed=7)
    found = endpoint.complete("base", MESSAGES, sampling, n=4)
    assert len({completion.text for completion in found}) == 4
    assert found == endpoint.complete("base", MESSAGES, sampling, n=4)
    assert endpoint.complete("base", MESSAGES, Sampling(1.0, max_tokens=12, seed=8))[0] == found[1]
    assert all(completion.completion_tokens <= 12 for completion in found)


def test_usage_and_the_end_marker_are_openais(endpoint: Endpoint) -> None:
    body = {"model": "base", "messages": MESSAGES, "max_tokens": 5, "temperature": 0, "stream": True}
    body["stream_options"] = {"include_usage": True}
    with endpoint.client() as client:
        text = client.post(endpoint.url("/chat/completions"), json=body).text
    events = [line[6:] for line in text.split("\n") if line]
    assert events[-1] == "[DONE]"
    assert '"completion_tokens": 5' in events[-2] and '"usage"' in events[-2]


def test_the_last_piece_of_a_stream_tells_its_tokens_and_the_models_how_many_they_read(
    folder: Path, endpoint: Endpoint
) -> None:
    *before, last = endpoint.stream("run-3", MESSAGES, Sampling(temperature=0, max_tokens=5), with_usage=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "model")
    prompt = tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert last.usage == Usage(len(prompt), 5) and not any(piece.usage for piece in before)
    assert endpoint.context_length() == endpoint.context_length("run-3") == 512


def test_a_text_is_scored_token_by_token_or_refused(endpoint: Endpoint) -> None:
    text = "A river 河流 👩‍👩‍👧"
    found = endpoint.token_logps("run-3", MESSAGES, text)
    assert "".join(found.tokens) == text and found.tokens[-1] == ""
    assert len(found.tokens) == len(found.logps) == len(found.base_logps) > 10
    assert max(found.logps + found.base_logps) <= 0 and found.logps != found.base_logps
    base = endpoint.token_logps(model="base", messages=MESSAGES, response=text)
    assert base.logps == base.base_logps == pytest.approx(found.base_logps, abs=1e-4)
    with pytest.raises(WorkerError, match="only base, run-3"):
        endpoint.token_logps("run-9", MESSAGES, text)
    with pytest.raises(WorkerError, match="reads at most 512"):
        endpoint.token_logps("run-3", MESSAGES, "x" * 600)
    with pytest.raises(WorkerError, match="`messages`"):
        endpoint.token_logps("run-3", [], text)


def test_only_health_answers_without_the_token(endpoint: Endpoint) -> None:
    with pytest.raises(WorkerError, match="refused the key"):
        Endpoint(endpoint.base_url, "guess").models()
    with pytest.raises(WorkerError, match="refused the key"):
        Endpoint(endpoint.base_url, "").complete("base", MESSAGES, GREEDY)
    health = httpx.get(endpoint.base_url.replace("/v1", "/health"), trust_env=False)
    assert health.json() == {"status": "ready"}


@pytest.mark.parametrize("name", ["run-9", "run-3/../run-3", "..", "other"])
def test_an_unknown_name_is_refused_with_those_that_are_served(name: str, endpoint: Endpoint) -> None:
    with pytest.raises(WorkerError, match="only base, run-3"):
        list(endpoint.stream(name, MESSAGES, GREEDY))


def test_a_conversation_that_is_too_long_is_refused(endpoint: Endpoint) -> None:
    with pytest.raises(WorkerError, match="^The conversation has .* reads at most 512") as caught:
        endpoint.complete("base", [{"role": "user", "content": "x" * 600}], GREEDY)
    assert "127.0.0.1" not in str(caught.value)  # it says nothing to whoever asked


def test_an_adapter_trained_later_is_served_at_once(folder: Path, endpoint: Endpoint) -> None:
    save_tiny_adapter(folder / "model", folder / "data" / "runs" / "run-12" / "adapter", seed=9, rank=2)
    assert endpoint.models() == ["base", "run-3", "run-12"]
    texts = {endpoint.complete(name, MESSAGES, GREEDY)[0].text for name in endpoint.models()}
    assert len(texts) == 3


@pytest.mark.parametrize("name", ["base", "run-3"])
def test_the_same_request_gives_the_same_answer_again_also_beside_others_and_from_a_new_worker(
    name: str, folder: Path, workers: Workers, endpoint: Endpoint
) -> None:
    messages = [{"role": "system", "content": "Be brief."}, *MESSAGES]
    settings = [
        Sampling(0.9, 0.95, 40, 50, 11, 0.01, 1.1),
        Sampling(temperature=1.3, max_tokens=50, seed=12),
        Sampling(temperature=0, max_tokens=50, seed=13),
    ]
    path = folder / "data" / "runs" / "run-3" / "adapter"
    before = adapter_hash(path)
    alone = [endpoint.complete(name, messages, sampling)[0].text for sampling in settings]
    neighbours = [endpoint.stream(other, MESSAGES, LONG) for other in ("base", "run-3", "base")]
    for stream in neighbours:
        next(stream)
    beside = [endpoint.complete(name, messages, sampling)[0].text for sampling in settings]
    for stream in neighbours:
        stream.close()
    workers.stop(str(folder / "model"))
    again = workers.endpoint(str(folder / "model"))
    anew = ["".join(piece.text for piece in again.stream(name, messages, sampling)) for sampling in settings]
    assert alone == beside == anew
    assert len(set(alone)) == 3 and adapter_hash(path) == before


def test_an_answer_tells_the_weights_it_came_from(folder: Path, endpoint: Endpoint) -> None:
    found = {}
    for name in ("base", "run-3"):
        body = {"model": name, "messages": MESSAGES, "max_tokens": 2}
        with endpoint.client() as client:
            found[name] = client.post(endpoint.url("/chat/completions"), json=body).json()["system_fingerprint"]
    base, adapter = identity(str(folder / "model")), adapter_hash(folder / "data" / "runs" / "run-3" / "adapter")
    assert found == {"base": base, "run-3": f"{base} {adapter}"}


def test_a_killed_worker_is_told_and_started_again(folder: Path, workers: Workers, endpoint: Endpoint) -> None:
    model = str(folder / "model")
    (before,) = endpoint.complete("base", MESSAGES, GREEDY)
    stream = endpoint.stream("base", MESSAGES, LONG)
    next(stream)
    process = workers._slot(model).process
    assert process is not None and workers.state(model) == "ready"
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(WorkerError, match="broke off"):
        list(stream)
    assert ended(process)
    assert workers.state(model) == "died" and "code -9" in workers.last_error(model)
    found: list[Endpoint] = []
    threads = [threading.Thread(target=lambda: found.append(workers.endpoint(model))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(found) == 4 and len(set(found)) == 1  # one new process for all who asked
    assert found[0].complete("base", MESSAGES, GREEDY) == [before]
    pid = workers._slot(model).process.pid  # type: ignore[union-attr]
    workers.stop(model)
    assert workers.state(model) == "off" and gone(pid)


def test_a_model_that_cannot_be_loaded_is_a_model_error_with_the_reason(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"broken")
    running = Workers(tmp_path / "runs", device="cpu")
    with pytest.raises(ModelError, match="cannot be loaded from"):
        running.endpoint(str(folder))
    assert running.state(str(folder)) == "died"
    assert "cannot be loaded from" in running.last_error(str(folder))


def test_a_worker_does_not_outlive_a_parent_that_is_killed(tmp_path: Path, folder: Path) -> None:
    code = (
        "import pathlib, sys, time; from models.process import WorkerProcess\n"
        "worker = WorkerProcess('x', ['--model', sys.argv[1], '--adapters', '.'], pathlib.Path(sys.argv[2]) / 'log')\n"
        "print(worker.pid, flush=True); time.sleep(600)"
    )
    root = Path(sys.modules[WorkerProcess.__module__].__file__ or "").parents[1]
    command = [sys.executable, "-c", code, str(folder / "model"), str(tmp_path)]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.kill()
    assert gone(worker)


def test_stop_while_loading_wakes_those_who_wait(tmp_path: Path, folder: Path) -> None:
    running = Workers(tmp_path / "runs", device="cpu")
    model, caught = str(folder / "model"), []

    def ask() -> None:
        try:
            running.endpoint(model)
        except WorkerError as error:
            caught.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    while running.state(model) != "loading":
        time.sleep(0.01)
    running.stop()
    thread.join(30)
    assert caught and "was stopped" in caught[0] and running.state(model) == "off"


def test_the_graphics_memory_is_freed_only_where_there_is_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[str] = []
    for device, has_gpu in (("auto", False), ("cpu", True), ("auto", True), ("cuda:1", True)):
        workers = Workers(tmp_path / "runs", device)
        monkeypatch.setattr(client, "has_nvidia_gpu", lambda: has_gpu)
        monkeypatch.setattr(workers, "stop", lambda: stopped.append(device))
        workers.free_gpu()
    assert stopped == ["auto", "cuda:1"]
