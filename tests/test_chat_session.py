"""Asking both sides: together, streamed, stored; what happens when one fails, stops, dies or does not fit."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from chat.answering import says_too_long
from chat.session import Question, SideBySide, ask, compare_once, read_seed
from chat.speakers import Speaker, base_speaker
from chat.streams import Streams
from chat.transcript import history, turns, without_oldest_exchange
from errors import ConfigError, ModelError, NotFoundError, WorkerError
from models.client import Sampling
from tests.openai_server import FakeWorkers, Manner, SpeakingServer, speaking_server
from storage import Project, Store

BASE, RUN = base_speaker("demo"), Speaker("demo", 3, "Run 3 · DPO")
SLOW = [f"{number} " for number in range(400)]  # with pauses far longer than a test waits


@pytest.fixture
def served() -> Iterator[ExitStack]:
    """Servers entered here are closed after the test."""
    with ExitStack() as stack:
        yield stack


def ask_all(store: Store, server: SpeakingServer | FakeWorkers, question: Question) -> list[SideBySide]:
    workers = server if isinstance(server, FakeWorkers) else FakeWorkers({"demo": server})
    return list(ask(store, workers, question, threading.Event()))


def settle(store: Store, chat_id: int, count: int) -> list:
    """Return the chat's messages once there are `count` of them."""
    for _ in range(1500):
        if len(messages := store.chats.messages(chat_id)) >= count:
            break
        time.sleep(0.02)
    assert len(messages) == count
    return messages


def finished_run(store: Store, project: Project, model: str = "demo") -> int:
    run = store.runs.create(project.id, "dpo", model, {}, [])
    store.runs.end(run.id, "finished", adapter="runs/adapter")
    return run.id


def test_both_sides_stream_and_are_stored_with_model_settings_and_seed(served, store, project) -> None:
    server = served.enter_context(speaking_server(base=Manner(["Rome", "."]), run_3=Manner(["Oh, ", "Rome!"])))
    question = Question("Capital?", (BASE, RUN), Sampling(temperature=0.3, seed=7), "Be brief.", None, project.id)
    last = ask_all(store, server, question)[-1]
    assert [answer.text for answer in last.answers] == ["Rome.", "Oh, Rome!"]
    assert last.is_done and {answer.finish_reason for answer in last.answers} == {"stop"}
    chat = store.chats.list(project.id)[0]
    assert chat.models == ["base:demo", "run-3"]
    (turn,) = turns(store, chat.id)
    assert turn.question.content == "Capital?" and [answer.content for answer in turn.answers] == ["Rome.", "Oh, Rome!"]
    assert [answer.model for answer in turn.answers] == ["base:demo", "run-3"]
    for answer, run in zip(turn.answers, (None, 3), strict=True):
        kept = answer.settings
        assert (kept["seed"], kept["temperature"], kept["run"], kept["system"]) == (7, 0.3, run, "Be brief.")
    assert {request["seed"] for request in server.requests} == {7}
    assert all(request["messages"][0] == {"role": "system", "content": "Be brief."} for request in server.requests)


def test_both_requests_are_open_at_once(served, store) -> None:
    together = Manner(waits_for=2)
    server = served.enter_context(speaking_server(base=together, run_3=together))
    last = ask_all(store, server, Question("Hi", (BASE, RUN)))[-1]
    assert [answer.error for answer in last.answers] == ["", ""]
    assert {request["model"] for request in server.requests} == {"base", "run-3"}


def test_different_bases_are_asked_of_their_own_workers(served, store) -> None:
    small = served.enter_context(speaking_server(base=Manner(["small"])))
    large = served.enter_context(speaking_server(base=Manner(["large"])))
    workers = FakeWorkers({"demo": small, "org/large": large})
    last = ask_all(store, workers, Question("Hi", (BASE, base_speaker("org/large"))))[-1]
    assert [answer.text for answer in last.answers] == ["small", "large"]


def test_a_random_seed_is_drawn_once_and_stored(served, store) -> None:
    server = served.enter_context(speaking_server(base=Manner(), run_3=Manner()))
    last = ask_all(store, server, Question("Hi", (BASE, RUN)))[-1]
    seeds = {request["seed"] for request in server.requests}
    assert len(seeds) == 1 and seeds == {answer.seed for answer in last.answers}


def test_the_same_speaker_on_both_sides_gets_two_seeds(served, store) -> None:
    server = served.enter_context(speaking_server(base=Manner()))
    ask_all(store, server, Question("Hi", (BASE, BASE), Sampling(seed=5)))
    assert sorted(request["seed"] for request in server.requests) == [5, 6]


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [(Manner(SLOW, dies_after=2), "broke off"), (Manner(refuses=(500, "no memory left")), "no memory left")],
)
def test_a_side_that_fails_says_so_while_the_other_goes_on(served, store, broken, sentence) -> None:
    server = served.enter_context(speaking_server(base=Manner(["All ", "fine"]), run_3=broken))
    last = ask_all(store, server, Question("Hi", (BASE, RUN)))[-1]
    good, bad = last.answers
    assert (good.text, good.state) == ("All fine", "done")
    assert (bad.state, bad.finish_reason) == ("failed", "error") and sentence in bad.error
    stored = turns(store, last.chat_id)[0].answers[1]
    assert stored.finish_reason == "error" and sentence in stored.settings["error"]


def test_a_worker_that_died_is_named_and_the_next_message_asks_again(served, store) -> None:
    manner = Manner(SLOW, dies_after=1)
    server = served.enter_context(speaking_server(base=Manner(), run_3=manner))
    workers = FakeWorkers({"demo": server})
    workers.states["demo"] = "died"
    last = ask_all(store, workers, Question("Hi", (BASE, RUN)))[-1]
    assert "process ended" in last.answers[1].error
    manner.dies_after = None
    again = ask_all(store, workers, Question("Hi", (BASE, RUN), chat_id=last.chat_id))[-1]
    assert again.answers[1].state == "done"


def test_a_model_that_cannot_be_loaded_is_a_sentence_on_its_side(served, store) -> None:
    server = served.enter_context(speaking_server(base=Manner()))
    workers = FakeWorkers({"demo": server, "org/none": ModelError("There is no model org/none.")})
    last = ask_all(store, workers, Question("Hi", (BASE, base_speaker("org/none"))))[-1]
    assert [answer.error for answer in last.answers] == ["", "There is no model org/none."]


def test_snapshots_come_at_most_20_times_a_second_and_before_the_end(served, store) -> None:
    manner = Manner([f"{number} " for number in range(300)], pause_seconds=0.002)
    server = served.enter_context(speaking_server(base=manner, run_3=manner))
    began = time.monotonic()
    snapshots = ask_all(store, server, Question("Count", (BASE, RUN)))
    seconds = time.monotonic() - began
    assert len(snapshots) <= 20 * seconds + 2
    assert len({snapshot.answers[0].text for snapshot in snapshots}) >= 4
    assert snapshots[-1].answers[0].tokens == 300


def test_something_is_yielded_while_the_model_loads(served, store) -> None:
    server = served.enter_context(speaking_server(base=Manner()))
    workers, loading = FakeWorkers({"demo": server}), []
    workers.loaded.clear()
    for snapshot in ask(store, workers, Question("Hi", (BASE, BASE)), threading.Event()):
        loading += [snapshot.answers[0].seconds] if snapshot.answers[0].state == "loading" else []
        if len(loading) == 4:
            workers.loaded.set()
    assert loading[0] < loading[1] < loading[2] < loading[3] and snapshot.answers[0].state == "done"


def test_stop_ends_both_answers_at_the_server_and_keeps_what_was_said(served, store) -> None:
    manner = Manner(SLOW, pause_seconds=0.05)
    server = served.enter_context(speaking_server(base=manner, run_3=manner))
    stop, last = threading.Event(), None
    for last in ask(store, FakeWorkers({"demo": server}), Question("Count", (BASE, RUN)), stop):
        if all(len(answer.text) > 4 for answer in last.answers):
            stop.set()
    assert [answer.state for answer in last.answers] == ["stopped", "stopped"]
    assert server.wait(lambda: server.open == 0 and server.cut == 2)
    for answer, shown in zip(turns(store, last.chat_id)[0].answers, last.answers, strict=True):
        assert answer.finish_reason == "stopped" and answer.content == shown.text and "399" not in answer.content


def test_closing_the_iterator_ends_both_answers_without_waiting(served, store) -> None:
    manner = Manner(SLOW, pause_seconds=0.05)
    server = served.enter_context(speaking_server(base=manner, run_3=manner))
    stream = ask(store, FakeWorkers({"demo": server}), Question("Count", (BASE, RUN)), threading.Event())
    snapshot = next(snapshot for snapshot in stream if snapshot.answers[0].text)
    began = time.monotonic()
    stream.close()
    assert time.monotonic() - began < 0.5
    assert server.wait(lambda: server.open == 0 and server.cut == 2)
    stored = settle(store, snapshot.chat_id, 3)
    assert {message.finish_reason for message in stored[1:]} == {"stopped"}


def test_stop_does_not_wait_for_a_model_that_is_still_loading(served, store) -> None:
    server = served.enter_context(speaking_server(base=Manner()))
    stop, workers = threading.Event(), FakeWorkers({"demo": server})
    stop.set()
    workers.loaded.clear()
    last = list(ask(store, workers, Question("Hi", (BASE, BASE)), stop))[-1]
    assert last.answers[0].state == "stopped" and len(store.chats.messages(last.chat_id)) == 1
    workers.loaded.set()
    assert {message.finish_reason for message in settle(store, last.chat_id, 3)[1:]} == {"stopped"}


def test_the_next_message_carries_each_sides_own_history(served, store) -> None:
    server = served.enter_context(speaking_server(base=Manner(["plain"]), run_3=Manner(["polite"])))
    first = ask_all(store, server, Question("One", (BASE, RUN)))[-1]
    second = ask_all(store, server, Question("Two", (BASE, RUN), chat_id=first.chat_id))[-1]
    assert second.chat_id == first.chat_id and len(second.past) == 1
    asked = {request["model"]: request["messages"] for request in server.requests[2:]}
    said = {model: [message["content"] for message in messages] for model, messages in asked.items()}
    assert said == {"base": ["One", "plain", "Two"], "run-3": ["One", "polite", "Two"]}


def test_other_speakers_begin_a_new_chat(served, store) -> None:
    server = served.enter_context(speaking_server(base=Manner(), run_3=Manner()))
    first = ask_all(store, server, Question("One", (BASE, RUN)))[-1]
    second = ask_all(store, server, Question("Two", (RUN, BASE), chat_id=first.chat_id))[-1]
    assert second.chat_id != first.chat_id and second.past == []


def test_history_leaves_out_questions_a_side_did_not_answer(store, project) -> None:
    chat = store.chats.create(["base:demo", "run-3"], {}, project.id)
    said = {"One": [("yes", "stop"), ("half", "error")], "Two": [("no", "stopped"), ("never", "stop")]}
    for text, answers in said.items():
        question_id = store.chats.add_message(chat.id, "user", text)
        for side, (content, reason) in enumerate(answers):
            settings = {"question_id": question_id}
            store.chats.add_message(
                chat.id, "assistant", content, side=side, settings=settings, finish_reason=reason
            )
    past = turns(store, chat.id)
    assert [message["content"] for message in history(past, 0)] == ["One", "yes", "Two", "no"]
    assert [message["content"] for message in history(past, 1)] == ["Two", "never"]


def test_a_chat_that_no_longer_fits_loses_its_oldest_exchange_and_says_so(served, store) -> None:
    server = served.enter_context(speaking_server(base=Manner(fits=3), run_3=Manner()))
    chat_id = None
    for text in ("One", "Two", "Three"):
        last = ask_all(store, server, Question(text, (BASE, RUN), chat_id=chat_id))[-1]
        chat_id = last.chat_id
    assert [answer.left_out for answer in last.answers] == [2, 0] and last.answers[0].state == "done"
    asked = [request["messages"] for request in server.requests if request["model"] == "base"][-1]
    assert [message["content"] for message in asked] == ["Two", "Hello there.", "Three"]


def test_one_message_that_does_not_fit_is_an_error(served, store) -> None:
    server = served.enter_context(speaking_server(base=Manner(fits=0)))
    last = ask_all(store, server, Question("Very long", (BASE, BASE)))[-1]
    assert "reads at most" in last.answers[0].error


def test_the_system_prompt_stays_when_an_exchange_is_left_out() -> None:
    roles = ["system", "user", "assistant", "user"]
    messages = [{"role": role, "content": str(number)} for number, role in enumerate(roles)]
    assert [message["content"] for message in without_oldest_exchange(messages)] == ["0", "3"]
    assert without_oldest_exchange(messages[:2]) == messages[:2]
    assert not says_too_long(WorkerError("run-3 does not fit the base model: it was trained on another."))


def test_an_empty_message_is_refused_and_nothing_is_stored(store, project) -> None:
    with pytest.raises(ConfigError, match="Write a message"):
        ask_all(store, FakeWorkers({}), Question("  ", (BASE, RUN), project_id=project.id))
    assert store.chats.list() == []


def test_a_page_answers_one_question_at_a_time() -> None:
    streams = Streams()
    stream = streams.begin("page")
    with pytest.raises(ConfigError, match="still answering"):
        streams.begin("page")
    streams.begin("another page")
    streams.stop("page")
    assert stream.stop.is_set() and streams.end("page") is None
    assert not streams.is_busy("page") and streams.is_busy("another page")


def test_what_replaces_a_running_answer_is_handed_to_it() -> None:
    streams = Streams()
    assert not streams.replace("page", "a new chat")
    stream = streams.begin("page")
    assert streams.replace("page", "a new chat") and stream.stop.is_set()
    assert streams.end("page") == "a new chat"


@pytest.mark.parametrize("text", ["-1", "1.5", "one", "9999999999", "²"])
def test_a_seed_that_is_no_whole_number_is_refused(text) -> None:
    with pytest.raises(ConfigError, match="seed"):
        read_seed(text)
    assert (read_seed(""), read_seed(None), read_seed(" 12 ")) == (None, None, 12)


def test_compare_once_answers_together_and_stores_nothing(served, store, project) -> None:
    run_id = finished_run(store, project)
    together = {"waits_for": 2}
    server = served.enter_context(
        speaking_server(base=Manner(["plain"], **together), **{f"run_{run_id}": Manner(["polite"], **together)})
    )
    answers = compare_once(store, FakeWorkers({"demo": server}), "demo", run_id, "Hi", Sampling(seed=1))
    assert answers == {"base": "plain", "tuned": "polite"} and store.chats.list() == []
    server.manners["base"].waits_for = 1
    assert compare_once(store, FakeWorkers({"demo": server}), None, None, "Hi", Sampling()) == {
        "base": "plain", "tuned": None,
    }


def test_compare_once_names_what_cannot_be_compared(served, store, project) -> None:
    run_id = finished_run(store, project)
    server = served.enter_context(speaking_server(base=Manner(refuses=(500, "no memory left"))))
    workers = FakeWorkers({"demo": server})
    with pytest.raises(NotFoundError, match="run number 99"):
        compare_once(store, workers, "demo", 99, "Hi", Sampling())
    with pytest.raises(ConfigError, match="trained from 'demo'"):
        compare_once(store, workers, "org/other", run_id, "Hi", Sampling())
    with pytest.raises(ConfigError, match="empty"):
        compare_once(store, workers, "demo", None, " ", Sampling())
    with pytest.raises(WorkerError, match="no memory left"):
        compare_once(store, workers, "demo", None, "Hi", Sampling())
    queued = store.runs.create(project.id, "dpo", "demo", {}, [])
    with pytest.raises(ConfigError, match="queued"):
        compare_once(store, workers, "demo", queued.id, "Hi", Sampling())
