"""The OpenAI chat-completions protocol as our worker speaks it. Does not know HTTP frameworks or models.

Owns which requests are understood, and the shape of every answer and error.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from errors import AppError
from models.wire import Message, Sampling

ROLES = ("system", "user", "assistant")
MAX_CHOICES = 64
_UNSUPPORTED = ("tools", "functions", "logprobs", "response_format", "stop", "logit_bias")
_DEFAULT_MAX_TOKENS = 512


class ProtocolError(AppError):
    """A request that is refused. status: the HTTP status; kind: OpenAI's word for the kind of error."""

    def __init__(self, message: str, status: int = 400, kind: str = "invalid_request_error") -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind

    def body(self) -> dict[str, Any]:
        """Return OpenAI's error object."""
        return {"error": {"message": str(self), "type": self.kind, "param": None, "code": None}}


@dataclass(frozen=True)
class ChatRequest:
    """A request that was understood. n: the number of answers; include_usage: asked for at the end of a stream."""

    model: str
    messages: list[Message]
    sampling: Sampling
    n: int
    stream: bool
    include_usage: bool

    def sampling_of(self, choice: int) -> Sampling:
        """Return the settings of one of the `n` answers: seeds count up from the one that was given."""
        if self.sampling.seed is None:
            return self.sampling
        return replace(self.sampling, seed=self.sampling.seed + choice)


def parse(content: bytes) -> ChatRequest:
    """Read a request's body. Raises ProtocolError naming the field that is wrong."""
    body = _object(content)
    for name in _UNSUPPORTED:
        if body.get(name):
            raise ProtocolError(f"`{name}` is not supported here. Leave it out.")
    model = _model(body)
    limit = "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
    sampling = Sampling(
        temperature=_number(body, "temperature", 1.0, 0.0, 100.0),
        top_p=_number(body, "top_p", 1.0, 0.0, 1.0),
        top_k=max(0, _integer(body, "top_k", 0, -1, 1 << 31)),
        max_tokens=_integer(body, limit, _DEFAULT_MAX_TOKENS, 1, 1 << 31),
        seed=_integer(body, "seed", None, -(1 << 63), (1 << 64) - 1),
        min_p=_number(body, "min_p", 0.0, 0.0, 1.0),
        repetition_penalty=_number(body, "repetition_penalty", 1.0, 0.1, 10.0),
    )
    options = body.get("stream_options")
    return ChatRequest(
        model=model,
        messages=_messages(body.get("messages")),
        sampling=sampling,
        n=_integer(body, "n", 1, 1, MAX_CHOICES),
        stream=body.get("stream") is True,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
    )


def parse_token_logps(content: bytes) -> tuple[ChatRequest, str]:
    """Read a request for the log-probabilities of a text: the conversation, and the answer to be scored.

    Raises ProtocolError naming the field that is wrong.
    """
    body = _object(content)
    response = body.get("response")
    if not isinstance(response, str):
        raise ProtocolError("`response` must be text: the answer whose tokens are scored.")
    _refuse_half_characters(response, "response")
    asked = ChatRequest(_model(body), _messages(body.get("messages")), Sampling(), 1, False, False)
    return asked, response


def _object(content: bytes) -> dict[str, Any]:
    try:
        body = json.loads(content)
    except ValueError as error:
        raise ProtocolError(f"The body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise ProtocolError("The body is not a JSON object.")
    return body


def _model(body: dict[str, Any]) -> str:
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise ProtocolError("`model` is missing: a name from /v1/models.")
    return model


def _messages(value: Any) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise ProtocolError("`messages` must be a list with at least one message.")
    messages = []
    for number, message in enumerate(value):
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise ProtocolError(f"`messages[{number}]` needs a role: {', '.join(ROLES)}.")
        content = message.get("content")
        if isinstance(content, list):  # OpenAI's parts; those of text are put together
            content = "".join(part["text"] for part in content if isinstance(part, dict) and _is_text(part))
        if not isinstance(content, str):
            raise ProtocolError(f"`messages[{number}].content` must be text.")
        _refuse_half_characters(content, f"messages[{number}].content")
        messages.append({"role": message["role"], "content": content})
    if messages[-1]["role"] != "user":
        raise ProtocolError("The last of `messages` must be the user's.")
    return messages


def _refuse_half_characters(text: str, name: str) -> None:
    """Refuse half of a surrogate pair: JSON can hold one, no tokenizer can read it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ProtocolError(f"`{name}` holds half a character (at {error.start}). Send whole ones.") from error


def _is_text(part: dict[str, Any]) -> bool:
    if part.get("type") != "text" or not isinstance(part.get("text"), str):
        raise ProtocolError("Only text is understood in `messages`.")
    return True


def _number(body: dict[str, Any], name: str, default: float, low: float, high: float) -> float:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ProtocolError(f"`{name}` must be a number from {low:g} to {high:g}, not {value!r}.")
    return float(value)


def _integer(body: dict[str, Any], name: str, default: Any, low: int, high: int) -> Any:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ProtocolError(f"`{name}` must be a whole number from {low} to {high}, not {value!r}.")
    return value


@dataclass(frozen=True)
class Answers:
    """Makes the parts of the answer to one request.

    created: seconds since 1970. fingerprint: of the weights; the same one with the same request and seed gives the
    same answer.
    """

    request_id: str
    model: str
    created: int
    fingerprint: str = ""

    def whole(self, texts: list[str], reasons: list[str], tokens: list[int], prompt_tokens: int) -> dict[str, Any]:
        """Return a whole answer; each choice also has its own number of tokens, which OpenAI's do not."""
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": text},
                "finish_reason": reason,
                "completion_tokens": count,
                "logprobs": None,
            }
            for index, (text, reason, count) in enumerate(zip(texts, reasons, tokens))
        ]
        return {**self._head("chat.completion"), "choices": choices, "usage": usage(prompt_tokens, sum(tokens))}

    def chunk(self, index: int, delta: dict[str, str], reason: str | None = None) -> bytes:
        """Return one event of a stream: a piece of one choice."""
        choice = {"index": index, "delta": delta, "finish_reason": reason, "logprobs": None}
        return event({**self._head("chat.completion.chunk"), "choices": [choice]})

    def usage_chunk(self, prompt_tokens: int, completion_tokens: int) -> bytes:
        """Return the event that tells a stream's usage."""
        numbers = usage(prompt_tokens, completion_tokens)
        return event({**self._head("chat.completion.chunk"), "choices": [], "usage": numbers})

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.request_id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint or None,
        }


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """Return OpenAI's usage object."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def event(data: dict[str, Any]) -> bytes:
    """Return a server-sent event."""
    return b"data: " + json.dumps(data).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
