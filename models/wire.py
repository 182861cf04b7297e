"""The OpenAI chat-completions protocol as a client sees it: request bodies, answers, streams and refusals.

Owns the meaning of the bytes. Does not know how they travel.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from errors import WorkerError

Message = dict[str, str]

_FINISH_REASONS = {"stop": "stop", "length": "length", "max_tokens": "length"}
_QUOTED_CHARACTERS = 300
_SECRET_LENGTH = 8


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    temperature: 0 is greedy; higher is more varied. top_p: share of probability kept, in (0, 1]. top_k: number of
    tokens kept, 0 for all. max_tokens: the longest answer. seed: the same seed gives the same answer; None draws
    a new one each time. min_p: tokens less likely than this share of the likeliest one are dropped, in [0, 1].
    repetition_penalty: above 1 makes tokens that the conversation or the answer already has less likely; 1 is none.
    """

    temperature: float = 0.8
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 256
    seed: int | None = None
    min_p: float = 0.0
    repetition_penalty: float = 1.0


@dataclass(frozen=True)
class Usage:
    """How many tokens the conversation had as the model read it, and how many the answer has."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Delta:
    """A piece of an answer; the last one carries why it ended: "stop" or "length".

    usage: on the last one, when it was asked for and the server tells it.
    """

    text: str
    finish_reason: str | None = None
    usage: Usage | None = None


@dataclass(frozen=True)
class Completion:
    """A whole answer, why it ended ("stop" or "length") and how many tokens it has."""

    text: str
    finish_reason: str
    completion_tokens: int


@dataclass(frozen=True)
class TokenLogps:
    """How likely each token of a text is, as the answer to a conversation.

    tokens: pieces that put together are the text; some are "", as the end-of-turn token at the end. logps, base_logps:
    of each, natural logarithms, under the model that was named and under the base.
    """

    tokens: list[str]
    logps: list[float]
    base_logps: list[float]


def request_body(
    model: str, messages: list[Message], sampling: Sampling, *, stream: bool, with_usage: bool = False
) -> dict[str, Any]:
    """Return the JSON body that asks for one answer. with_usage: and for its usage at the end of the stream."""
    body: dict[str, Any] = {
        "model": model,
        "messages": messages,
        "stream": stream,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
    }
    # Not part of OpenAI's own protocol, so sent only when asked for.
    if sampling.top_k > 0:
        body["top_k"] = sampling.top_k
    if sampling.min_p > 0:
        body["min_p"] = sampling.min_p
    if sampling.repetition_penalty != 1:
        body["repetition_penalty"] = sampling.repetition_penalty
    if sampling.seed is not None:
        body["seed"] = sampling.seed
    if with_usage:
        body["stream_options"] = {"include_usage": True}
    return body


def strange(where: str) -> WorkerError:
    """Return the error for a server that answers in another protocol."""
    return WorkerError(
        f"{where} did not answer in the OpenAI chat protocol. Does the address end in the right path (often /v1)?"
    )


def without(secret: str, text: str) -> str:
    """Return a server's words without the key it was sent; short keys, as local servers take, are ordinary words."""
    return text.replace(secret, "[key]") if len(secret) >= _SECRET_LENGTH else text


def completions(answer: Any, where: str, secret: str = "") -> list[Completion]:
    """Read a whole answer, `secret` left out of its text.

    Raises WorkerError when it is something else, or holds no choice at all.
    """
    try:
        choices = answer["choices"]
        total = (answer.get("usage") or {}).get("completion_tokens", 0)
        found = [
            Completion(
                text=without(secret, choice["message"].get("content") or ""),
                finish_reason=_FINISH_REASONS.get(choice.get("finish_reason"), "stop"),
                # Our worker counts each choice; others give only the sum over all of them.
                completion_tokens=int(choice.get("completion_tokens", total // max(1, len(choices)))),
            )
            for choice in choices
        ]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise strange(where) from error
    if not found:
        raise WorkerError(f"{where} returned no answer at all. Try again, or look at the server's log.")
    return found


def deltas(chunks: Iterable[bytes], where: str, secret: str = "", with_usage: bool = False) -> Iterator[Delta]:
    """Read a streamed answer; `secret` is left out of its errors.

    with_usage: put it on the last piece, which then waits for it. Raises WorkerError when the answer breaks off,
    reports an error or is something else.
    """
    finished, last, used = False, None, None
    for data in events(chunks):
        if data == "[DONE]":
            finished = True
            break
        try:
            chunk = json.loads(data)
            if "error" in chunk:
                raise WorkerError(f"{where} failed while answering: {_message_of(chunk, secret) or without(secret, data)[:_QUOTED_CHARACTERS]}")
            for choice in chunk["choices"]:
                text = (choice.get("delta") or {}).get("content") or ""
                reason = choice.get("finish_reason")
                finished = finished or reason is not None
                delta = Delta(text, _FINISH_REASONS.get(reason, "stop") if reason else None)
                if reason and with_usage:
                    last = delta
                elif text or reason:
                    yield delta
            used = _usage(chunk.get("usage")) or used
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise strange(where) from error
    if not finished:
        raise WorkerError(f"{where} broke off in the middle of an answer. Try again; its log may say why.")
    if with_usage and (last or used):
        yield replace(last or Delta(""), usage=used)


def _usage(numbers: Any) -> Usage | None:
    """Read a usage object; servers send it at the end, with every chunk, as null, or never."""
    if not isinstance(numbers, dict):
        return None
    found = [numbers.get(name) for name in ("prompt_tokens", "completion_tokens")]
    return Usage(*found) if all(type(number) is int for number in found) else None


def token_logps(answer: Any, where: str) -> TokenLogps:
    """Read the log-probabilities of a text's tokens. Raises WorkerError when the answer is something else."""
    try:
        tokens = [str(token) for token in answer["tokens"]]
        logps, base_logps = ([float(number) for number in answer[name]] for name in ("logps", "base_logps"))
    except (KeyError, TypeError, ValueError) as error:
        raise strange(where) from error
    if not len(tokens) == len(logps) == len(base_logps):
        raise strange(where)
    return TokenLogps(tokens, logps, base_logps)


def events(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yield the data of each server-sent event.

    Lines are split at line feeds only: `str.splitlines` would also split at characters that JSON may hold.
    """
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip().decode("utf-8", "replace")
    if rest.startswith(b"data:"):
        yield rest[5:].strip().decode("utf-8", "replace")


def refusal(
    where: str, status: int, content: bytes, secret: str = "", *, speaks_for_itself: bool = False
) -> WorkerError:
    """Turn an HTTP status other than 200 and its body, without `secret`, into a sentence that says what to do.

    speaks_for_itself: the server's own sentence says it already, as our worker's do.
    """
    try:
        said = _message_of(json.loads(content), secret)
    except (ValueError, RecursionError):
        said = ""
    if said and speaks_for_itself:
        return WorkerError(said)
    reason = f": {said}" if said else "."
    if 300 <= status < 400:
        return WorkerError(f"{where} sends to another address ({status}){reason} Give that address instead.")
    if status in (401, 403):
        return WorkerError(f"{where} refused the key ({status}){reason} Check the API key.")
    if status == 404:
        return WorkerError(f"{where} has no such model or path (404){reason} Check the model's name and the address.")
    if status == 429:
        return WorkerError(f"{where} has too much to do (429){reason} Wait a little and try again.")
    if status >= 500:
        return WorkerError(f"{where} failed ({status}){reason} Try again; its log says more.")
    return WorkerError(f"{where} refused the request ({status}){reason}")


def _message_of(body: Any, secret: str) -> str:
    """Find the sentence in an error object; servers differ in how deep they put it."""
    for key in ("error", "detail", "message"):
        if isinstance(body, dict) and key in body:
            body = body[key]
    if isinstance(body, dict):
        return _message_of(body, secret) if {"error", "detail", "message"} & body.keys() else ""
    # Before it is cut: half a key is one too.
    return without(secret, body)[:_QUOTED_CHARACTERS] if isinstance(body, str) else ""
