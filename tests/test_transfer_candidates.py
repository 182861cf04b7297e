"""Candidates are drawn together, stored as they come, never twice, and survive servers that misbehave."""

from __future__ import annotations

import json
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.completion_server import CompletionServer as Server
from tests.completion_server import Local
from errors import ConfigError, ModelError, NotFoundError, WorkerError
from models.client import Endpoint, Sampling, Workers
from storage import Project, Store
from transfer import example
from transfer.candidates import batch, drawing
from transfer.candidates.batch import pairs_to_show, rankings_to_show
from transfer.candidates.generate import GenerateReport, generate, generate_at

@pytest.fixture
def server() -> Iterator[Server]:
    """A server that answers at once."""
    started = Server()
    yield started
    started.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait milliseconds between retries."""
    monkeypatch.setattr(drawing, "RETRY_SECONDS", (0.01, 0.02, 0.02))


@pytest.fixture
def asked(store: Store, project: Project) -> Project:
    """A project with six prompts, the last one with a system message."""
    for number in range(5):
        store.prompts.add(project.id, [{"role": "user", "content": f"Q{number}"}])
    store.prompts.add(project.id, [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Q5"}])
    return project


def draw(store: Store, project: Project, server: Server, **options: Any) -> GenerateReport:
    options = {"model": "demo", "model_name": "base", "sampling": Sampling(seed=1)} | options
    return generate_at(store, project, options.pop("endpoint", server.endpoint), **options)


def responses(store: Store, project: Project) -> dict[str, list[str]]:
    return {
        prompt.messages[-1]["content"]: [response.text for response in store.responses.of_prompt(prompt.id)]
        for prompt in store.prompts.list(project.id)
    }


def test_each_prompt_gets_its_responses_and_a_pair(store: Store, asked: Project, server: Server) -> None:
    seen: list[tuple[int, int]] = []
    report = draw(store, asked, server, progress=lambda done, total: seen.append((done, total)))
    assert (report.prompts, report.responses, report.pairs, report.singles) == (6, 12, 6, 0)
    assert report.tokens == 36 and not report.cancelled
    assert all(len(set(texts)) == 2 for texts in responses(store, asked).values())
    assert store.items.counts(asked.id)["pair"] == {"total": 6, "done": 0}
    assert seen[-1] == (12, 12)
    assert any(request["messages"][0]["role"] == "system" for request in server.requests)


def test_where_a_response_came_from_is_stored(store: Store, asked: Project, server: Server) -> None:
    draw(store, asked, server, sampling=Sampling(temperature=0.7, max_tokens=9, seed=1))
    first = store.responses.of_prompt(store.prompts.list(asked.id)[0].id)[0]
    assert (first.model, first.run_id, first.author) == ("demo", None, None)
    assert first.settings is not None and first.settings["temperature"] == 0.7
    assert first.text == f"Q0 {first.settings['seed']}" and first.settings["finish_reason"] == "stop"


def test_the_same_seed_draws_the_same_responses_and_another_seed_others(
    store: Store, asked: Project, server: Server
) -> None:
    draw(store, asked, server)
    again = store.projects.ensure("Again")
    for prompt in store.prompts.list(asked.id):
        store.prompts.add(again.id, prompt.messages)
    draw(store, again, server)
    assert responses(store, again) == responses(store, asked)
    draw(store, again, server, model="other", sampling=Sampling(seed=2))
    assert all(len(set(texts)) == 4 for texts in responses(store, again).values())


def test_it_tops_up_what_is_missing_and_then_asks_nothing(store: Store, asked: Project, server: Server) -> None:
    draw(store, asked, server, per_prompt=1)
    assert draw(store, asked, server, per_prompt=3).responses == 12
    asked_until_now = len(server.requests)
    report = draw(store, asked, server, per_prompt=3)
    assert (report.prompts, report.responses, report.pairs) == (0, 0, 0)
    assert len(server.requests) == asked_until_now
    assert report.sentence().startswith("Nothing to do")


def test_single_items_are_made_when_asked_for(store: Store, asked: Project, server: Server) -> None:
    report = draw(store, asked, server, kinds=("single",))
    assert (report.pairs, report.singles) == (0, 12)
    assert draw(store, asked, server, kinds=("pair", "single")).pairs == 6


def test_rankings_are_made_of_three_to_six_responses(store: Store, asked: Project, server: Server) -> None:
    report = draw(store, asked, server, kinds=("ranking",), per_prompt=4)
    assert (report.pairs, report.singles, report.rankings) == (0, 0, 6)
    assert store.items.counts(asked.id)["ranking"] == {"total": 6, "done": 0}
    with pytest.raises(ConfigError, match="at least 3"):
        draw(store, asked, server, kinds=("ranking",), per_prompt=2)


@given(st.integers(0, 40))
def test_rankings_use_every_response_once_where_there_are_three(count: int) -> None:
    groups = rankings_to_show(range(count))
    assert all(3 <= len(group) <= 6 for group in groups)
    assert [each for group in groups for each in group] == list(range(count if count >= 3 else 0))


def test_identical_responses_are_redrawn_then_left_out(store: Store, asked: Project, server: Server) -> None:
    def answer(body: dict[str, Any]) -> str:
        return "Always the same." if body["messages"][-1]["content"] == "Q0" else str(body["seed"] % 3)

    server.answer = answer
    report = draw(store, asked, server)
    texts = responses(store, asked)
    assert texts["Q0"] == ["Always the same."]
    assert all(len(set(each)) == len(each) for each in texts.values())
    assert Counter(request["messages"][-1]["content"] for request in server.requests)["Q0"] == 2 + batch.REDRAWS
    assert report.identical >= 1 and report.responses + report.identical == 12
    assert "kept saying the same" in report.sentence()


def test_empty_responses_are_never_stored(store: Store, asked: Project, server: Server) -> None:
    server.answer = lambda body: "  \n"
    assert draw(store, asked, server, per_prompt=1).responses == 0
    assert not any(responses(store, asked).values())


def test_requests_are_under_way_together(store: Store, asked: Project, server: Server) -> None:
    together = threading.Barrier(24)

    def answer(body: dict[str, Any]) -> str:
        together.wait(60)  # broken, and so an error, unless all of them come at the same time
        return str(body["seed"])

    server.answer = answer
    assert draw(store, asked, server, per_prompt=4).responses == 24
    assert server.most_open == 24 <= drawing.IN_FLIGHT


def test_a_server_that_fails_now_and_then_is_asked_again(store: Store, asked: Project, server: Server) -> None:
    failures: Counter[int] = Counter()

    def flaky(body: dict[str, Any]) -> str | int | bytes:
        failures[body["seed"]] += 1
        return {1: 500, 2: b"<html>garbage", 3: 429}.get(failures[body["seed"]], str(body["seed"]))

    server.answer = flaky
    assert draw(store, asked, server).responses == 12


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_or_address_ends_the_generation_at_once(
    store: Store, asked: Project, server: Server, status: int
) -> None:
    server.answer = lambda body: status
    with pytest.raises(WorkerError, match=str(status)):
        draw(store, asked, server)
    assert len(server.requests) <= 12  # no request was made twice


def test_a_request_that_the_server_calls_wrong_is_not_repeated_and_the_others_go_on(
    store: Store, asked: Project, server: Server
) -> None:
    server.answer = lambda body: 400 if body["messages"][-1]["content"] == "Q2" else str(body["seed"])
    with pytest.raises(WorkerError, match="1 prompt got no answer"):
        draw(store, asked, server)
    assert Counter(request["messages"][-1]["content"] for request in server.requests)["Q2"] == 2


def test_nobody_asks_before_a_server_that_was_asked_too_often_allows_it(
    store: Store, asked: Project, server: Server
) -> None:
    opens: list[float] = []

    def limited(body: dict[str, Any]) -> str | int:
        with server.lock:
            opens.append(time.monotonic())
            if len(opens) == 1:
                return 429
        # Those under way are answered when the 429 has been read for sure.
        time.sleep(max(0.0, opens[0] + 0.6 - time.monotonic()))
        return str(body["seed"])

    for number in range(60):
        store.prompts.add(asked.id, [{"role": "user", "content": f"More {number}"}])
    server.answer, server.headers = limited, {"Retry-After": "1"}
    report = draw(store, asked, server)
    assert report.responses == 132
    early = [moment for moment in opens if moment < opens[0] + 0.9]
    assert len(early) <= drawing.IN_FLIGHT  # only what was under way was still asked
    assert 0.9 < opens[len(early)] - opens[0] < 5


def test_fewer_ask_at_the_same_time_after_a_server_was_asked_too_often(
    store: Store, asked: Project, server: Server
) -> None:
    for number in range(60):
        store.prompts.add(asked.id, [{"role": "user", "content": f"More {number}"}])
    times: Counter[int] = Counter()

    def limited(body: dict[str, Any]) -> str | int:
        with server.lock:
            times["all"] += 1
            if times["all"] <= drawing.IN_FLIGHT:
                return 429
            times["most"] = max(times["most"], server.open)
        time.sleep(0.01)
        return str(body["seed"])

    server.answer, server.headers = limited, {"Retry-After": "0.3"}
    assert draw(store, asked, server).responses == 132
    assert times["most"] <= drawing.IN_FLIGHT // 2


def test_a_server_that_is_always_asked_too_often_ends_the_generation(
    store: Store, asked: Project, server: Server
) -> None:
    server.answer, server.headers = (lambda body: 429), {"Retry-After": "0.01"}
    with pytest.raises(WorkerError, match="too much to do .429"):
        draw(store, asked, server)


def test_no_key_follows_a_server_that_sends_elsewhere(store: Store, asked: Project, server: Server) -> None:
    elsewhere = Server()
    server.answer, server.headers = (lambda body: 307), {"Location": f"{elsewhere.endpoint.base_url}/chat/completions"}
    with pytest.raises(WorkerError, match="another address .307"):
        draw(store, asked, server)
    elsewhere.close()
    assert elsewhere.requests == [] and len(server.requests) <= 12


KEY = "sk-never/to-be-seen-é"
SPELLINGS = {
    "plain": json.dumps(KEY, ensure_ascii=False), "escaped": json.dumps(KEY).replace("/", "\\/"),
    "by numbers": '"' + "".join(f"\\u{ord(character):04x}" for character in KEY) + '"',
    "at the cut": json.dumps("x" * 290 + KEY, ensure_ascii=False),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_server_that_repeats_the_key_does_not_get_it_shown_stored_or_logged(
    store: Store, asked: Project, server: Server, caplog: pytest.LogCaptureFixture, spelling: str
) -> None:
    key = KEY.removesuffix("é")  # a key has no such characters; the rest shows that its surroundings stay
    said = SPELLINGS[spelling]
    error = f'{{"error": {{"message": {said}}}}}'.encode()
    answer = f'{{"choices": [{{"message": {{"content": {said}}}, "finish_reason": "stop"}}]}}'.encode()

    def reply(body: dict[str, Any]) -> bytes:
        return error if body["messages"][-1]["content"] == "Q2" else answer

    server.answer, server.status = reply, lambda content: 500 if content == error else 200
    with caplog.at_level("DEBUG"), pytest.raises(WorkerError) as caught:
        draw(store, asked, server, endpoint=Endpoint(server.endpoint.base_url, key), per_prompt=1)
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text
    kept = b"".join(path.read_bytes() for path in store.folder.rglob("*") if path.is_file())
    assert "sk-never" not in shown and b"sk-never" not in kept and len(kept) > 1000
    assert all("[key]é" in text for each, texts in responses(store, asked).items() for text in texts)


def test_an_answer_nested_too_deeply_is_a_sentence(store: Store, asked: Project, server: Server) -> None:
    server.answer = lambda body: b"[" * 200_000
    with pytest.raises(WorkerError, match="did not answer in the OpenAI chat protocol"):
        draw(store, asked, server)


def test_a_prompt_that_never_gets_an_answer_is_an_error_and_the_rest_is_kept(
    store: Store, asked: Project, server: Server
) -> None:
    server.answer = lambda body: 500 if body["messages"][-1]["content"] == "Q2" else str(body["seed"])
    with pytest.raises(WorkerError, match="1 prompt got no answer.*10 responses drawn before that are kept"):
        draw(store, asked, server)
    assert store.items.counts(asked.id)["pair"]["total"] == 5
    server.answer = lambda body: str(body["seed"])
    assert draw(store, asked, server).responses == 2


def test_a_server_that_is_gone_ends_the_generation_soon(store: Store, asked: Project, server: Server) -> None:
    for number in range(300):
        store.prompts.add(asked.id, [{"role": "user", "content": f"More {number}"}])
    dead = Endpoint("http://127.0.0.1:9/v1", "secret")
    asked_for: list[int] = []
    with pytest.raises(WorkerError, match="Nothing answers at"):
        draw(store, asked, server, endpoint=lambda: asked_for.append(1) or dead)
    assert len(asked_for) < 4 * (drawing.IN_FLIGHT + batch.FAILURES_IN_A_ROW) + 40


def test_a_worker_that_comes_back_elsewhere_is_found(store: Store, asked: Project, server: Server) -> None:
    tries = iter(range(1000))
    dead = Endpoint("http://127.0.0.1:9/v1", "secret")
    report = draw(store, asked, server, endpoint=lambda: dead if next(tries) < 5 else server.endpoint)
    assert report.responses == 12


def test_a_model_that_cannot_be_loaded_is_not_tried_again(store: Store, asked: Project, server: Server) -> None:
    def missing() -> Endpoint:
        raise ModelError("There is no model 'x'.")

    with pytest.raises(ModelError, match="no model"):
        draw(store, asked, server, endpoint=missing)


def test_cancelling_ends_at_once_and_keeps_what_is_there(store: Store, asked: Project, server: Server) -> None:
    stop, release = threading.Event(), threading.Event()

    def stuck(body: dict[str, Any]) -> str:
        if body["messages"][-1]["content"] == "Q0":
            return str(body["seed"])
        release.wait(120)
        return "late"

    server.answer = stuck
    started = time.monotonic()
    report = draw(store, asked, server, stop=stop, progress=lambda done, total: done and stop.set())
    assert time.monotonic() - started < 60  # without waiting for those that are stuck
    release.set()
    assert report.cancelled and report.responses == 2
    assert report.sentence() == "Cancelled; kept: 2 new responses and 1 new pair."
    assert len(responses(store, asked)["Q0"]) == 2


def test_settings_out_of_range_are_listed_together(store: Store, asked: Project, server: Server) -> None:
    with pytest.raises(ConfigError) as caught:
        draw(store, asked, server, per_prompt=0, kinds=("triple",), sampling=Sampling(temperature=-1))
    assert len(caught.value.problems) == 3
    with pytest.raises(ConfigError, match="at temperature 0"):
        draw(store, asked, server, sampling=Sampling(temperature=0))
    with pytest.raises(NotFoundError, match="no prompts"):
        draw(store, store.projects.ensure("Empty"), server)


def test_a_run_without_adapter_is_refused(store: Store, asked: Project) -> None:
    run = store.runs.create(asked.id, "dpo", "demo", {}, [])
    with pytest.raises(ModelError, match="Run 1 is queued and has no adapter"):
        generate(store, asked, None, run_id=run.id)  # type: ignore[arg-type]


@given(own=st.integers(0, 9), others=st.integers(0, 3))
def test_every_response_is_in_a_pair_wherever_there_is_another(own: int, others: int) -> None:
    mine, theirs = list(range(own)), list(range(100, 100 + others))
    pairs = pairs_to_show(mine, theirs)
    assert all(first != second for first, second in pairs) and len(set(pairs)) == len(pairs)
    assert {key for pair in pairs for key in pair if key < 100} == (set(mine) if own != 1 or others else set())
    assert len(pairs) == (own + 1) // 2 - (own == 1 and not others)


def test_the_example_project_is_there_at_once_and_filled_once(store: Store, server: Server) -> None:
    project = example.ensure_project(store)
    assert project is not None and project.is_example and store.prompts.count(project.id) >= 90
    workers = Local(server)
    report = example.fill(store, workers)  # type: ignore[arg-type]
    counts = store.items.counts(project.id)
    assert counts["pair"]["total"] == report.pairs >= 75 and counts["single"]["total"] == report.singles >= 50
    asked_until_now = workers.asked
    assert example.fill(store, workers).pairs == 0 and workers.asked == asked_until_now  # type: ignore[arg-type]
    assert example.ensure_project(store) == project


def test_filling_goes_on_after_it_was_cut_short(store: Store, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("demo.prompts.STARTERS", [[{"role": "user", "content": f"Q{number}"}] for number in range(24)])
    project, stop = example.ensure_project(store), threading.Event()
    assert project is not None
    example.fill(store, Local(server), lambda done, total: done >= 12 and stop.set(), stop)  # type: ignore[arg-type]
    assert 6 <= store.items.counts(project.id)["pair"]["total"] < 18 and not example.is_filled(store, project)
    example.fill(store, Local(server))  # type: ignore[arg-type]
    assert example.is_filled(store, project)


def test_no_example_is_made_where_there_are_projects(store: Store, project: Project, server: Server) -> None:
    workers = Local(server)
    assert example.ensure_project(store) is None
    assert example.fill(store, workers).pairs == 0 and workers.asked == 0  # type: ignore[arg-type]


def test_a_real_worker_answers_many_prompts(store: Store, asked: Project, tmp_path: Path) -> None:
    from tests import tiny_models
    folder = tiny_models.save_tiny_model(tmp_path / "tiny")
    workers = Workers(store.folder / "runs", device="cpu")
    try:
        report = generate(
            store, asked, workers, model=str(folder), sampling=Sampling(temperature=1.0, max_tokens=8, seed=0)
        )
    finally:
        workers.stop()
    assert report.responses + report.identical == 12 and report.responses >= 10
