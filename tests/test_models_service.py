"""Scoring a text token by token: the numbers of the base and of the adapter, while answers are being written."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from pathlib import Path

import peft
import pytest
import safetensors.torch
import torch
import transformers
from tests.tiny_models import save_tiny_adapter, save_tiny_model, tiny_tokenizer

from errors import ModelError
from models.engine import Piece
from models.logps import collate, response_logps
from models.prompting import render
from models.protocol import ChatRequest, ProtocolError
from models.service import Service
from models.wire import Message, Sampling, TokenLogps

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is a river?"}]
TEXTS = ["A river is water.", "河流 👩‍👩‍👧 the end", "", " a\n\nb "]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model and two runs, the second with weights that are no numbers."""
    folder = tmp_path_factory.mktemp("service")
    model = save_tiny_model(folder / "model")
    save_tiny_adapter(model, folder / "run-1" / "adapter")
    broken = save_tiny_adapter(model, folder / "run-2" / "adapter") / "adapter_model.safetensors"
    weights = {key: torch.full_like(value, torch.nan) for key, value in safetensors.torch.load_file(broken).items()}
    safetensors.torch.save_file(weights, broken)
    return folder


@pytest.fixture(scope="module")
def service(root: Path) -> Iterator[Service]:
    running = Service(str(root / "model"), root, "cpu")
    running.load()
    yield running
    assert running.engine is not None
    running.engine.close()


def asked(model: str, messages: list[Message] = MESSAGES, sampling: Sampling = Sampling()) -> ChatRequest:
    return ChatRequest(model, messages, sampling, 1, False, False)


def write(service: Service, sampling: Sampling, model: str = "run-1") -> tuple[str, list[Piece]]:
    """Write a whole answer."""
    pieces: queue.SimpleQueue[Piece] = queue.SimpleQueue()
    service.submit(service.prepare(asked(model)), sampling, pieces.put)
    found = []
    while not found or not found[-1].is_last:
        found.append(pieces.get(timeout=60))
    return "".join(piece.text for piece in found), found


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", ["base", "run-1"])
@torch.no_grad()
def test_the_sums_are_those_of_the_models_by_themselves(name: str, text: str, root: Path, service: Service) -> None:
    found = service.token_logps(asked(name), text)
    assert "".join(found.tokens) == text and found.tokens[-1] == ""
    batch = collate([render(tiny_tokenizer(), MESSAGES, text)], 0)
    base = transformers.AutoModelForCausalLM.from_pretrained(root / "model", dtype=torch.float32).eval()
    expected = response_logps(base, batch)
    assert sum(found.base_logps) == pytest.approx(float(expected[0]), abs=1e-3)
    assert len(found.tokens) == int(expected[1])
    if name == "base":
        assert found.logps == found.base_logps
        return
    own = peft.PeftModel.from_pretrained(base, root / "run-1" / "adapter").eval()
    assert sum(found.logps) == pytest.approx(float(response_logps(own, batch)[0]), abs=1e-3)
    assert abs(sum(found.logps) - sum(found.base_logps)) > 0.1


@torch.no_grad()
def test_each_token_has_its_own_number(root: Path, service: Service) -> None:
    found = service.token_logps(asked("base"), TEXTS[1])
    rendered = render(tiny_tokenizer(), MESSAGES, TEXTS[1])
    base = transformers.AutoModelForCausalLM.from_pretrained(root / "model", dtype=torch.float32).eval()
    logps = base(torch.tensor([rendered.ids])).logits[0].log_softmax(-1)
    start = rendered.prompt_length
    expected = [float(logps[start + index - 1, token]) for index, token in enumerate(rendered.response_ids)]
    assert found.base_logps == pytest.approx(expected, abs=1e-3)


def test_answers_that_are_being_written_are_not_disturbed_and_scores_are_the_same_beside_them(
    service: Service
) -> None:
    settings = [Sampling(temperature=1.0, max_tokens=150, seed=seed) for seed in range(3)]
    alone = [write(service, sampling)[0] for sampling in settings]
    expected = {text: service.token_logps(asked("run-1"), text) for text in TEXTS}
    answers: dict[int, str] = {}
    scores: list[tuple[str, TokenLogps]] = []
    writers = [
        threading.Thread(target=lambda n=number: answers.update({n: write(service, settings[n])[0]}))
        for number in range(3)
    ]
    scorers = [
        threading.Thread(target=lambda t=text: scores.extend((t, service.token_logps(asked("run-1"), t)) for _ in range(8)))
        for text in TEXTS
    ]
    for thread in [*writers, *scorers]:
        thread.start()
    for thread in [*writers, *scorers]:
        thread.join(120)
    assert [answers[number] for number in range(3)] == alone
    assert len(scores) == 8 * len(TEXTS) and all(found == expected[text] for text, found in scores)


def test_what_cannot_be_scored_is_refused_with_the_reason(service: Service) -> None:
    with pytest.raises(ProtocolError, match='no model "run-9" here, only base, run-1'):
        service.token_logps(asked("run-9"), "x")
    with pytest.raises(ModelError, match=r"6\d\d tokens and the model reads at most 512"):
        service.token_logps(asked("base"), "x" * 600)
    with pytest.raises(ModelError, match="its weights are broken"):
        service.token_logps(asked("run-2"), "x")
    assert service.token_logps(asked("base"), "x").tokens == ["x", ""]


def test_work_of_a_closed_engine_is_an_error_and_not_a_wait_for_ever(root: Path) -> None:
    closing = Service(str(root / "model"), root, "cpu")
    closing.load()
    assert closing.engine is not None
    closing.engine.close()
    with pytest.raises(ModelError, match="being closed"):
        closing.token_logps(asked("base"), "x")
