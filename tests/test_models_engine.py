"""The engine: what arrives together is decoded together, later requests join, and cancelled ones leave."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator

import pytest
from tests.tiny_models import save_tiny_model

from errors import ModelError
from models.adapters import AdapterSet
from models.decoding import Decoder, Row, decode
from models.engine import Engine, Piece
from models.loading import LoadedModel, load_base
from models.prompting import render_prompt
from models.wire import Sampling


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_base(str(save_tiny_model(tmp_path_factory.mktemp("model"))), "cpu")


@pytest.fixture
def engine(loaded: LoadedModel) -> Iterator[Engine]:
    running = Engine(loaded, AdapterSet(loaded.model, loaded.name), max_rows=4, window_seconds=0.2)
    yield running
    running.close()


@pytest.fixture
def patient(loaded: LoadedModel) -> Iterator[Callable[[int], Engine]]:
    """Makes engines that wait for as many requests as they decode at once, however long those take to arrive."""
    made: list[Engine] = []

    def make(rows: int) -> Engine:
        made.append(Engine(loaded, AdapterSet(loaded.model, loaded.name), max_rows=rows, window_seconds=60))
        return made[-1]

    yield make
    for each in made:
        each.close()


class Answer:
    """Collects the pieces of one answer."""

    def __init__(self, engine: Engine, ids: list[int], sampling: Sampling, adapter: object = None) -> None:
        self.pieces: queue.SimpleQueue[Piece] = queue.SimpleQueue()
        self.ticket = engine.submit(ids, sampling, adapter, self.pieces.put)  # type: ignore[arg-type]

    def until_last(self) -> tuple[str, Piece]:
        text = ""
        while True:
            piece = self.pieces.get(timeout=60)
            text += piece.text
            if piece.is_last:
                return text, piece


def prompt(loaded: LoadedModel, question: str = "Hello") -> list[int]:
    return render_prompt(loaded.tokenizer, [{"role": "user", "content": question}])


def alone(loaded: LoadedModel, ids: list[int], sampling: Sampling) -> str:
    row = Row(ids, sampling)
    decode(loaded, AdapterSet(loaded.model, loaded.name), [row])
    return loaded.tokenizer.decode(row.new_ids, skip_special_tokens=True)


def test_answers_are_those_of_the_decoding_loop(loaded: LoadedModel, engine: Engine) -> None:
    samplings = [Sampling(0, max_tokens=15), Sampling(1.0, max_tokens=15, seed=1), Sampling(1.0, max_tokens=5, seed=2)]
    answers = [Answer(engine, prompt(loaded), sampling) for sampling in samplings]
    for answer, sampling in zip(answers, samplings):
        text, last = answer.until_last()
        assert text == alone(loaded, prompt(loaded), sampling)
        assert last.finish_reason == "length" and last.tokens == sampling.max_tokens


def test_requests_that_arrive_together_are_read_together(
    loaded: LoadedModel, patient: Callable[[int], Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    admitted = []
    admit = Decoder.admit
    monkeypatch.setattr(Decoder, "admit", lambda self, rows: (admitted.append(len(rows)), admit(self, rows))[1])
    engine = patient(3)
    answers = [Answer(engine, prompt(loaded, str(number)), Sampling(0, max_tokens=3)) for number in range(3)]
    for answer in answers:
        answer.until_last()
    assert admitted == [3]


def test_no_more_than_the_cap_run_at_once_and_the_rest_follow(
    loaded: LoadedModel, patient: Callable[[int], Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    step = Decoder.step
    monkeypatch.setattr(Decoder, "step", lambda self: (sizes.append(len(self.rows)), step(self))[1])
    ids, engine = prompt(loaded), patient(4)
    answers = [Answer(engine, ids, Sampling(0, max_tokens=4 + number)) for number in range(9)]
    for answer in answers:
        assert answer.until_last()[1].finish_reason == "length"
    assert max(sizes) == 4


def test_a_cancelled_answer_leaves_and_the_other_is_unharmed(loaded: LoadedModel, engine: Engine) -> None:
    kept = Answer(engine, prompt(loaded), Sampling(0, max_tokens=200))
    gone = Answer(engine, prompt(loaded, "x"), Sampling(0, max_tokens=400))
    gone.pieces.get(timeout=60)
    gone.ticket.cancel()
    assert kept.until_last()[0] == alone(loaded, prompt(loaded), Sampling(0, max_tokens=200))
    assert engine.busy_rows == 0
    assert len(gone.ticket.row.new_ids) < 400


def test_an_answer_without_a_seed_differs_each_time(loaded: LoadedModel, engine: Engine) -> None:
    texts = {Answer(engine, prompt(loaded), Sampling(1.0, max_tokens=20)).until_last()[0] for _ in range(3)}
    assert len(texts) == 3


def test_a_prompt_as_long_as_the_context_is_refused_with_both_numbers(engine: Engine) -> None:
    with pytest.raises(ModelError, match="512 tokens and the model reads at most 512"):
        Answer(engine, [7] * 512, Sampling())


def test_a_failed_step_fails_its_answers_and_the_engine_goes_on(
    loaded: LoadedModel, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Decoder) -> None:
        raise RuntimeError("a layer broke")

    with monkeypatch.context() as patch:
        patch.setattr(Decoder, "step", fail)
        _, last = Answer(engine, prompt(loaded), Sampling(0, max_tokens=5)).until_last()
        assert last.error is not None and "a layer broke" in last.error
    text, last = Answer(engine, prompt(loaded), Sampling(0, max_tokens=5)).until_last()
    assert text == alone(loaded, prompt(loaded), Sampling(0, max_tokens=5)) and last.error is None


def test_many_threads_may_ask_at_once(loaded: LoadedModel, engine: Engine) -> None:
    expected = alone(loaded, prompt(loaded), Sampling(0, max_tokens=6))
    found: list[str] = []
    ask = lambda: found.append(Answer(engine, prompt(loaded), Sampling(0, max_tokens=6)).until_last()[0])  # noqa: E731
    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [expected] * 12
