"""The decoding loop: a row's tokens depend on the row alone."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from tests.tiny_models import save_tiny_adapter, save_tiny_model

from models.adapters import AdapterSet
from models.decoding import Decoder, Row, decode
from models.loading import LoadedModel, load_base
from models.prompting import render_prompt
from models.wire import Sampling

GREEDY = Sampling(temperature=0, max_tokens=24)
QUESTIONS = ["Hello", "What is a river? Tell me all of it.", "你好吗", "x", "Why?"]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_base(str(save_tiny_model(tmp_path_factory.mktemp("model"))), "cpu")


@pytest.fixture(scope="module")
def adapters(loaded: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> AdapterSet:
    found = AdapterSet(loaded.model, loaded.name)
    for number, rank in ((1, 4), (2, 8)):
        folder = save_tiny_adapter(Path(loaded.name), tmp_path_factory.mktemp("a"), seed=number, rank=rank)
        found.load(f"run-{number}", folder)
    return found


def prompt(loaded: LoadedModel, question: str) -> list[int]:
    return render_prompt(loaded.tokenizer, [{"role": "user", "content": question}])


def plain_generate(loaded: LoadedModel, ids: list[int], tokens: int) -> list[int]:
    """transformers' own greedy answer to one prompt alone, without the token that ends it."""
    inputs = torch.tensor([ids])
    out = loaded.model.generate(
        inputs, attention_mask=torch.ones_like(inputs), max_new_tokens=tokens, do_sample=False, pad_token_id=0
    )
    answer = out[0, len(ids) :].tolist()
    return answer[:-1] if answer[-1] == loaded.tokenizer.eos_token_id else answer


@pytest.mark.parametrize("penalty", [1.3, 0.8])
def test_greedy_with_a_penalty_is_generates_token_for_token_beside_other_rows(penalty: float) -> None:
    demo = load_base("demo", "cpu")
    decoder = Decoder(demo, AdapterSet(demo.model, demo.name))
    decoder._stop_ids = frozenset()  # the penalty falls on the end-of-turn token too, which the prompt has
    questions = ["How do I make a cup of tea?", "Name three rivers.", "Say hello."]
    penalised = [
        Row(prompt(demo, question), Sampling(0, max_tokens=40, repetition_penalty=penalty)) for question in questions
    ]
    plain = [Row(prompt(demo, question), Sampling(0, max_tokens=40)) for question in questions]
    decoder.admit([penalised[0], *plain, *penalised[1:]])
    while decoder.rows:
        decoder.step()
    for row in [*penalised, *plain]:
        inputs = torch.tensor([row.prompt_ids])
        out = demo.model.generate(
            inputs, attention_mask=torch.ones_like(inputs), max_new_tokens=40, do_sample=False, eos_token_id=None,
            pad_token_id=0, repetition_penalty=row.sampling.repetition_penalty,
        )  # fmt: skip
        assert row.new_ids == out[0, len(row.prompt_ids) :].tolist()
    assert [row.new_ids for row in penalised] != [row.new_ids for row in plain]


def greedy_rows(loaded: LoadedModel) -> list[Row]:
    return [Row(prompt(loaded, question), GREEDY) for question in QUESTIONS]


def test_greedy_rows_of_a_batch_equal_generate_of_each_alone(loaded: LoadedModel, adapters: AdapterSet) -> None:
    rows = greedy_rows(loaded)
    decode(loaded, adapters, rows)
    assert [row.new_ids for row in rows] == [plain_generate(loaded, row.prompt_ids, 24) for row in rows]
    assert len({tuple(row.new_ids) for row in rows}) == len(rows)


@pytest.mark.parametrize(
    ("kind", "overrides"),
    [
        ("gpt2", {}),
        ("qwen2", {}),
        ("mistral", {"sliding_window": 16}),
        ("gemma2", {"sliding_window": 16, "num_hidden_layers": 2}),
    ],
)
def test_other_architectures_decode_as_generate_does(kind: str, overrides: dict, tmp_path: Path) -> None:
    other = load_base(str(save_tiny_model(tmp_path, kind, **overrides)), "cpu")
    rows = greedy_rows(other)
    decode(other, AdapterSet(other.model, other.name), rows)
    assert [row.new_ids for row in rows] == [plain_generate(other, row.prompt_ids, 24) for row in rows]


def test_rows_that_join_a_running_batch_write_what_they_write_alone(
    loaded: LoadedModel, adapters: AdapterSet
) -> None:
    decoder = Decoder(loaded, adapters)
    rows = greedy_rows(loaded)
    for row in [rows[1], rows[0], *rows[2:]]:  # a long prompt first, then shorter ones
        assert decoder.can_join
        decoder.admit([row])
        for _ in range(5):
            decoder.step()
    while decoder.rows:
        decoder.step()
    assert [row.new_ids for row in rows] == [plain_generate(loaded, row.prompt_ids, 24) for row in rows]


def test_nobody_joins_a_sliding_window(tmp_path: Path) -> None:
    other = load_base(str(save_tiny_model(tmp_path, "mistral", sliding_window=16)), "cpu")
    decoder = Decoder(other, AdapterSet(other.model, other.name))
    assert decoder.can_join
    decoder.admit([Row(prompt(other, "Hello"), GREEDY)])
    assert not decoder.can_join


@pytest.mark.parametrize("sampling", [Sampling(temperature=1.0, max_tokens=20, seed=3), Sampling(0.7, 0.9, 0, 20, 4),
                                      Sampling(1.3, 0.95, 12, 20, 5),
                                      Sampling(1.0, 0.9, 0, 20, 6, 0.02, 1.2)])  # fmt: skip
def test_a_seed_gives_the_same_answer_alone_and_in_company(
    sampling: Sampling, loaded: LoadedModel, adapters: AdapterSet
) -> None:
    alone = Row(prompt(loaded, "Hello"), sampling)
    decode(loaded, adapters, [alone])
    company = [Row(prompt(loaded, question), Sampling(max_tokens=30)) for question in QUESTIONS]
    again = Row(prompt(loaded, "Hello"), sampling)
    decode(loaded, adapters, [*company[:2], again, *company[2:]])
    assert again.new_ids == alone.new_ids
    other = Row(prompt(loaded, "Hello"), Sampling(sampling.temperature, sampling.top_p, sampling.top_k, 20, 99))
    decode(loaded, adapters, [other])
    assert other.new_ids != alone.new_ids


def test_the_same_prompt_is_read_once_for_all_its_answers(loaded: LoadedModel, adapters: AdapterSet) -> None:
    seen = []
    handle = loaded.model.model.register_forward_pre_hook(
        lambda module, arguments, kwargs: seen.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    rows = [Row(prompt(loaded, "Hello"), Sampling(max_tokens=4, seed=seed)) for seed in range(6)]
    try:
        decode(loaded, adapters, rows)
    finally:
        handle.remove()
    assert seen[0] == (1, len(rows[0].prompt_ids)) and seen[1] == (6, 1)
    assert len({tuple(row.new_ids) for row in rows}) > 1


def test_rows_end_by_stop_by_length_and_at_the_edge_of_the_context(loaded: LoadedModel, adapters: AdapterSet) -> None:
    row = Row(prompt(loaded, "Hello"), Sampling(temperature=0, max_tokens=3))
    decoder = Decoder(loaded, adapters)
    decoder._stop_ids = frozenset(plain_generate(loaded, row.prompt_ids, 3)[1:2])
    decoder.admit([row])
    decoder.step()
    assert (row.finish_reason, len(row.new_ids), decoder.rows) == ("stop", 1, [])
    row = Row(prompt(loaded, "Hello"), Sampling(temperature=0, max_tokens=3))
    decode(loaded, adapters, [row])
    assert (row.finish_reason, len(row.new_ids)) == ("length", 3)
    row = Row([7] * 510, Sampling(temperature=0, max_tokens=30))
    decode(loaded, adapters, [row])
    assert (row.finish_reason, len(row.new_ids)) == ("length", 2)


def test_a_dropped_row_leaves_the_others_as_they_were(loaded: LoadedModel, adapters: AdapterSet) -> None:
    rows = greedy_rows(loaded)
    decoder = Decoder(loaded, adapters)
    decoder.admit(rows)
    for _ in range(4):
        decoder.step()
    decoder.drop([rows[1]])  # the longest prompt: the columns it alone used are forgotten
    assert rows[1] not in decoder.rows and min(decoder._starts) == 0
    while decoder.rows:
        decoder.step()
    for index in (0, 2, 3, 4):
        assert rows[index].new_ids == plain_generate(loaded, rows[index].prompt_ids, 24)
    assert len(rows[1].new_ids) == 5 and rows[1].finish_reason is None


def test_a_random_timetable_of_arrivals_and_departures_changes_no_answer(
    loaded: LoadedModel, adapters: AdapterSet
) -> None:
    rng = random.Random(0)
    known = {name: adapter for name, (_, adapter) in adapters._loaded.items()}
    rows = [
        Row(
            prompt(loaded, rng.choice(QUESTIONS)),
            Sampling(rng.choice([0, 1.0]), max_tokens=rng.randint(1, 20), seed=number),
            known.get(rng.choice(["base", "run-1", "run-2"])),
        )
        for number in range(14)
    ]
    decoder, waiting = Decoder(loaded, adapters), list(rows)
    while waiting or decoder.rows:
        arriving = [waiting.pop() for _ in range(min(len(waiting), rng.randint(0, 3)))]
        decoder.admit(arriving)
        for _ in range(rng.randint(0, 4)):
            if decoder.rows:
                decoder.step()
    for row in rows:
        alone = Row(row.prompt_ids, row.sampling, row.adapter)
        decode(loaded, adapters, [alone])
        assert (alone.new_ids, alone.finish_reason) == (row.new_ids, row.finish_reason)
