"""Turns tokens into text as they come. Does not know where they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_INCOMPLETE = "\ufffd"  # what a decoder puts for bytes that are no character, or not yet one


class TextStream:
    """The text of one answer, given out a token at a time and never in the middle of a character.

    The pieces put together are the text of all tokens decoded at once. Decoding starts anew from a few tokens back,
    because what a token adds may depend on the one before it.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Start an empty text."""
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._given = 0  # tokens whose text is out
        self._context = 0  # where decoding starts: the tokens from here to `_given` are known text

    def add(self, token: int) -> str:
        """Return the text that the token makes certain, often "" within a character of several tokens."""
        self._ids.append(token)
        return self._take(final=False)

    def finish(self) -> str:
        """Return what is left, broken characters included."""
        return self._take(final=True)

    def _take(self, *, final: bool) -> str:
        known = self._decode(self._ids[self._context : self._given])
        text = self._decode(self._ids[self._context :])
        if len(text) <= len(known) or (text.endswith(_INCOMPLETE) and not final):
            return ""
        self._context, self._given = self._given, len(self._ids)
        return text[len(known) :]

    def _decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
