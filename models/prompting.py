"""The only place where a conversation becomes tokens, for training and for generating alike.

The prompt ends where the model starts to write; the response is everything it would write, its end-of-turn token
included. Does not know what is done with the tokens.

Thinking models are asked not to think: the prompt ends with their thinking already closed, because preferences
are about answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from jinja2.exceptions import TemplateError

from errors import ModelError
from models.detokenize import TextStream
from models.wire import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_OPEN_THINKING, _REST_OF_THINKING = "<think>", "\n\n</think>\n\n"
_PROBE = "Reply0"


class DoesNotFit(ModelError):
    """A response is longer than the limit allows; it is left out, never cut."""


@dataclass(frozen=True)
class Rendered:
    """A prompt and its response as token ids; ids[prompt_length:] are the response, which alone is scored.

    lost: how many tokens the prompt lost from its left to fit.
    """

    ids: list[int]
    prompt_length: int
    lost: int = 0

    @property
    def response_ids(self) -> list[int]:
        """The tokens of the response, its end-of-turn token included."""
        return self.ids[self.prompt_length :]


def render_prompt(tokenizer: PreTrainedTokenizerBase, messages: list[Message]) -> list[int]:
    """Return the ids of a conversation up to where the assistant's answer begins.

    messages: system, user and assistant messages, the last one the user's. A system message is put before the
    first user message when the template has no place for it.
    Raises ModelError when the tokenizer's chat template refuses the conversation.
    """
    return _encode(tokenizer, _frame(tokenizer, messages).prompt)


def render(
    tokenizer: PreTrainedTokenizerBase,
    messages: list[Message],
    response: str,
    max_length_tokens: int | None = None,
) -> Rendered:
    """Return the ids of a conversation and a response to it.

    The prompt's ids are exactly those of `render_prompt`, and the response is taken word for word, whatever the
    template does to a finished turn.
    max_length_tokens: longer prompts lose tokens from their left (never the leading begin-of-sequence token).
    Raises DoesNotFit when the response and one token of prompt are longer than that; ModelError when the template
    refuses the conversation.
    """
    frame = _frame(tokenizer, messages)
    prompt_ids = _encode(tokenizer, frame.prompt)
    response_text = frame.lead + response + frame.end
    ids = _encode(tokenizer, frame.prompt + response_text)
    if ids[: len(prompt_ids)] == prompt_ids:
        response_ids = ids[len(prompt_ids) :]
    else:  # a token reaches over the boundary, which cannot happen when the model writes: it starts after the prompt
        response_ids = _encode(tokenizer, response_text)
    whole = len(prompt_ids)
    if max_length_tokens is not None:
        prompt_ids = _shortened(tokenizer, prompt_ids, len(response_ids), max_length_tokens)
    return Rendered(prompt_ids + response_ids, len(prompt_ids), whole - len(prompt_ids))


def response_pieces(
    tokenizer: PreTrainedTokenizerBase, messages: list[Message], response: str
) -> tuple[Rendered, list[str]]:
    """Return a conversation and a response as `render` does, and what each of the response's tokens writes.

    The pieces put together are exactly the response. A character of several tokens belongs to one of them; the others,
    and the end-of-turn token, have "". Raises ModelError as `render` does.
    """
    rendered, frame = render(tokenizer, messages, response), _frame(tokenizer, messages)
    pieces, given = [], 0
    for end in _ends(tokenizer, rendered, frame, response):
        end = min(max(end - len(frame.lead), given), len(response))
        pieces.append(response[given:end])
        given = end
    pieces[max((index for index, piece in enumerate(pieces) if piece), default=0)] += response[given:]
    return rendered, pieces


def _ends(tokenizer: PreTrainedTokenizerBase, rendered: Rendered, frame: _Frame, response: str) -> list[int]:
    """Return where each token of the response ends, in characters of its text with what surrounds it."""
    text, ids = frame.lead + response + frame.end, rendered.response_ids
    if not tokenizer.is_fast:  # it does not tell; what its tokens write has the same length, or nearly
        stream = TextStream(tokenizer)
        return list(accumulate(len(stream.add(token)) for token in ids))
    for before, expected in ((frame.prompt, rendered.ids), ("", ids)):
        found = tokenizer(before + text, add_special_tokens=False, return_offsets_mapping=True)
        if found["input_ids"] == expected:
            return [end - len(before) for _, end in found["offset_mapping"][-len(ids) :]]
    raise AssertionError("render makes its ids in one of these two ways")


def closing_length(tokenizer: PreTrainedTokenizerBase, messages: list[Message]) -> int:
    """Return how many tokens of a prompt stand after the words of its last message: a prompt cut to them asks nothing.

    Raises ModelError as `render_prompt` does.
    """
    return len(_encode(tokenizer, _frame(tokenizer, messages).prompt.rpartition(messages[-1]["content"].strip())[2]))


def end_of_turn_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the token with which the model ends an answer. Raises ModelError as `render_prompt` does."""
    return _encode(tokenizer, _frame(tokenizer, [{"role": "user", "content": "Hello"}]).end)[-1]


@dataclass(frozen=True)
class _Frame:
    """What stands around a response. lead: white space that belongs to the response (Llama 2 writes one)."""

    prompt: str
    lead: str
    end: str


def _frame(tokenizer: PreTrainedTokenizerBase, messages: list[Message]) -> _Frame:
    """Find what surrounds the response by rendering a finished turn with a known one."""
    if not messages:
        raise ModelError("A conversation without messages asks nothing. Leave it out.")
    probe = _PROBE
    while any(probe in message["content"] for message in messages):
        probe += "0"
    prompt = _template(tokenizer, messages, generate=True)
    finished = _template(tokenizer, [*messages, {"role": "assistant", "content": probe}], generate=False)
    before, found, after = finished.rpartition(probe)
    if not found:
        raise ModelError(f"The chat template of {_name(tokenizer)} leaves the answer out. Use another model.")
    lead = ""
    if before.startswith(prompt):
        # Blank space is for the model to write. Anything else (a header, an empty block of thoughts) is given to it.
        lead = before[len(prompt) :]
        if lead.strip():
            prompt, lead = before, ""
    elif not prompt.startswith(before.rstrip()):
        raise ModelError(
            f"The chat template of {_name(tokenizer)} renders an open conversation differently from a finished one, "
            "so answers cannot be scored as they are written. Use another model, or mend its chat template."
        )
    if prompt.rstrip().endswith(_OPEN_THINKING):
        prompt, lead = prompt.rstrip() + _REST_OF_THINKING, ""
    return _Frame(prompt, lead, _until_end_of_turn(tokenizer, after))


def _template(tokenizer: PreTrainedTokenizerBase, messages: list[Message], *, generate: bool) -> str:
    """Render a conversation as text; a system message that is refused or lost goes to the first user message."""
    try:
        text = _apply(tokenizer, messages, generate)
        if messages[0]["role"] != "system" or messages[0]["content"].strip() in text:
            return text
    except (TemplateError, ValueError, TypeError) as error:
        if not messages or messages[0]["role"] != "system":
            raise _refused(tokenizer, error) from error
    try:
        return _apply(tokenizer, _without_system(messages), generate)
    except (TemplateError, ValueError, TypeError) as error:
        raise _refused(tokenizer, error) from error


def _apply(tokenizer: PreTrainedTokenizerBase, messages: list[Message], generate: bool) -> str:
    return tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=generate, enable_thinking=False
    )


def _without_system(messages: list[Message]) -> list[Message]:
    system, *rest = messages
    for index, message in enumerate(rest):
        if message["role"] == "user":
            merged = {**message, "content": f"{system['content']}\n\n{message['content']}"}
            return [*rest[:index], merged, *rest[index + 1 :]]
    return rest


def _until_end_of_turn(tokenizer: PreTrainedTokenizerBase, after: str) -> str:
    """Cut what follows a response after its first special token; without one, end with end-of-sequence."""
    special = {str(token) for token in tokenizer.all_special_tokens}
    special |= {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    ends = [after.index(token) + len(token) for token in special if token and token in after]
    if ends:
        return after[: min(ends)]
    if tokenizer.eos_token is None:
        raise ModelError(f"{_name(tokenizer)} has no token that ends an answer. Name one as its eos_token.")
    return tokenizer.eos_token


def _shortened(
    tokenizer: PreTrainedTokenizerBase, prompt_ids: list[int], response_length: int, max_length_tokens: int
) -> list[int]:
    room = max_length_tokens - response_length
    if room < 1:
        raise DoesNotFit(
            f"A response of {response_length} tokens does not fit into {max_length_tokens} tokens with its prompt. "
            "Raise max_length_tokens, or leave it out."
        )
    if len(prompt_ids) <= room:
        return prompt_ids
    if room > 1 and prompt_ids[0] == tokenizer.bos_token_id:
        return [prompt_ids[0], *prompt_ids[len(prompt_ids) - room + 1 :]]
    return prompt_ids[len(prompt_ids) - room :]


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    # The template has written every special token that belongs there.
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def _refused(tokenizer: PreTrainedTokenizerBase, error: Exception) -> ModelError:
    return ModelError(
        f"The chat template of {_name(tokenizer)} refuses this conversation: {error}. "
        "Messages should alternate between user and assistant and end with the user's."
    )


def _name(tokenizer: PreTrainedTokenizerBase) -> str:
    return str(getattr(tokenizer, "name_or_path", "") or "this model")
