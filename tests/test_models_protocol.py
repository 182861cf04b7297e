"""What the worker understands, and how it refuses the rest."""

from __future__ import annotations

import json
from typing import Any

import pytest

from errors import WorkerError
from models.protocol import Answers, ProtocolError, parse, parse_token_logps
from models.wire import Delta, Sampling, completions, deltas, request_body

GOOD: dict[str, Any] = {"model": "base", "messages": [{"role": "user", "content": "Hi"}]}


def parsed(**changes: Any) -> Any:
    return parse(json.dumps({**GOOD, **changes}).encode())


def test_the_clients_request_is_understood_as_it_was_meant() -> None:
    sampling = Sampling(temperature=0.3, top_p=0.9, top_k=7, max_tokens=11, seed=5)
    asked = parse(json.dumps(request_body("run-3", GOOD["messages"], sampling, stream=True)).encode())
    assert (asked.model, asked.messages, asked.sampling) == ("run-3", GOOD["messages"], sampling)
    assert asked.stream and asked.n == 1


def test_settings_outside_openais_protocol_travel_only_when_they_are_set() -> None:
    sampling = Sampling(min_p=0.05, repetition_penalty=1.1)
    asked = parse(json.dumps(request_body("base", GOOD["messages"], sampling, stream=False)).encode())
    assert (asked.sampling.min_p, asked.sampling.repetition_penalty) == (0.05, 1.1)
    plain = request_body("base", GOOD["messages"], Sampling(), stream=False)
    assert not {"top_k", "min_p", "repetition_penalty"} & plain.keys()
    assert (parsed().sampling.min_p, parsed().sampling.repetition_penalty) == (0.0, 1.0)


def test_each_of_several_answers_has_a_seed_of_its_own() -> None:
    asked = parsed(n=3, seed=10)
    assert [asked.sampling_of(choice).seed for choice in range(3)] == [10, 11, 12]
    assert parsed(n=3).sampling_of(2).seed is None


def test_parts_of_text_are_put_together_and_the_newer_name_of_the_limit_wins() -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    asked = parsed(messages=[{"role": "user", "content": parts}], max_tokens=5, max_completion_tokens=6)
    assert asked.messages[0]["content"] == "Hello" and asked.sampling.max_tokens == 6


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": None}, "`model`"),
        ({"messages": []}, "`messages`"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "role"),
        ({"messages": [{"role": "user", "content": 5}]}, "must be text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "Only text"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "user's"),
        ({"temperature": -1}, "`temperature`"),
        ({"temperature": "hot"}, "`temperature`"),
        ({"top_p": 2}, "`top_p`"),
        ({"min_p": 1.5}, "`min_p`"),
        ({"min_p": float("nan")}, "`min_p`"),
        ({"repetition_penalty": 0}, "`repetition_penalty`"),
        ({"repetition_penalty": 11}, "`repetition_penalty`"),
        ({"max_tokens": 0}, "`max_tokens`"),
        ({"max_tokens": True}, "`max_tokens`"),
        ({"seed": 1.5}, "`seed`"),
        ({"n": 1000}, "`n`"),
        ({"tools": [{}]}, "`tools`"),
        ({"stop": ["x"]}, "`stop`"),
    ],
)
def test_a_wrong_field_is_refused_by_name(changes: dict, words: str) -> None:
    with pytest.raises(ProtocolError, match=words) as caught:
        parsed(**changes)
    assert caught.value.status == 400 and caught.value.body()["error"]["message"] == str(caught.value)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
def test_a_body_that_is_no_object_is_refused(content: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse(content)


def test_the_client_reads_back_what_the_worker_writes() -> None:
    answers = Answers("chatcmpl-1", "base", 1)
    whole = answers.whole(["a", "b"], ["stop", "length"], [1, 9], prompt_tokens=4)
    assert [(found.text, found.finish_reason, found.completion_tokens) for found in completions(whole, "here")] == [
        ("a", "stop", 1),
        ("b", "length", 9),
    ]
    assert whole["usage"] == {"prompt_tokens": 4, "completion_tokens": 10, "total_tokens": 14}
    stream = answers.chunk(0, {"role": "assistant", "content": ""}) + answers.chunk(0, {"content": "你\u2028"})
    stream += answers.chunk(0, {}, "length") + answers.usage_chunk(4, 2) + b"data: [DONE]\n\n"
    for size in (1, 7, len(stream)):
        cut = (stream[start : start + size] for start in range(0, len(stream), size))
        assert list(deltas(cut, "here")) == [Delta("你\u2028"), Delta("", "length")]


@pytest.mark.parametrize("said", ['"Bearer sk-1234/56"', '"Bearer sk-1234\\/56"'])
def test_an_error_inside_a_stream_does_not_show_the_key(said: str) -> None:
    event = f'data: {{"error": {{"message": {said}}}}}\n\n'.encode()
    with pytest.raises(WorkerError, match=r"failed while answering: Bearer \[key\]$"):
        list(deltas([event], "somewhere", "sk-1234/56"))


def test_half_a_character_is_refused_where_it_stands() -> None:
    body = {"model": "base", "messages": [{"role": "user", "content": "a\ud800b"}]}
    with pytest.raises(ProtocolError, match=r"messages\[0\].content.*half a character \(at 1\)"):
        parse(json.dumps(body).encode())
    body["messages"][0]["content"] = "whole 😀"
    assert parse(json.dumps(body).encode()).messages[0]["content"] == "whole 😀"
    with pytest.raises(ProtocolError, match="response.*half a character"):
        parse_token_logps(json.dumps({**body, "response": "\udc00"}).encode())
