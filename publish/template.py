"""A chat template as its parts, found by rendering it, and written again for a server that does not read Jinja.

What such a server does to a prompt besides, it reads from the tokenizer's files: so does this module.

Does not know torch or tokenizers: it reads the base's files.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from publish.source import read_json

TOKENIZER_CONFIG, TOKENIZER, SENTENCEPIECE = "tokenizer_config.json", "tokenizer.json", "tokenizer.model"
_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")
_SYSTEM, _USER, _ANSWER, _AGAIN = "Rule0", "Ask0", "Reply0", "More0"
# Stands for the token that begins a sequence, which may be one that begins every turn as well.
_START = "Start0"
# What cannot stand inside a template between triple quotes.
_NOT_SAID = ("{{", "}}", '"""')


@dataclass(frozen=True)
class Parts:
    """What stands before and after the words of each role, and what asks for an answer. system: None without one.

    start: the token that begins a sequence, where the template writes it before everything; "" where it does not.
    """

    system: tuple[str, str] | None
    user: tuple[str, str]
    assistant: tuple[str, str]
    generation: str
    start: str = ""

    def render(self, messages: list[dict[str, str]]) -> str:
        """Return a conversation that asks for an answer."""
        said = []
        for message in messages:
            around = getattr(self, message["role"]) or ("", "")
            said.append(f"{around[0]}{message['content']}{around[1]}")
        return self.start + "".join(said) + self.generation

    def as_go(self, start: bool = False) -> str | None:
        """Return the template as Ollama reads it, or None where a part holds what cannot be written in one.

        start: begin with the token that begins a sequence, if there is one; most servers write it by themselves.
        """
        blocks = [(role, getattr(self, role)) for role in ("system", "user", "assistant")]
        written = [(role, around) for role, around in blocks if around is not None]
        first = self.start if start else ""
        everything = [first, self.generation, *(part for _, around in written for part in around)]
        if any(sign in part for sign in _NOT_SAID for part in everything) or not _printable("".join(everything)):
            return None
        tests = [f'if eq .Role "{role}" }}}}{before}{{{{ .Content }}}}{after}' for role, (before, after) in written]
        turns = "{{ else ".join(tests)
        return f"{first}{{{{- range .Messages }}}}{{{{ {turns}{{{{ end }}}}{{{{ end }}}}{self.generation}"

    @property
    def stop(self) -> str:
        """What ends an answer, without white space; "" where nothing does."""
        return self.assistant[1].strip()


def find(folder: Path) -> Parts | None:
    """Return the parts of the chat template in a model's folder.

    None where there is no template, or one that does more than to put something around each message: a default system
    prompt, a date, a tool. Nothing is guessed: a conversation is put together from the parts and compared.
    """
    text = _text(folder)
    if text is None:
        return None
    try:
        return _parts(text, _special_tokens(folder))
    except (TemplateError, TypeError, ValueError, KeyError, AttributeError, ArithmeticError):
        return None


def _text(folder: Path) -> str | None:
    beside = folder / "chat_template.jinja"
    try:
        found = beside.read_text(encoding="utf-8") if beside.is_file() else None
    except (OSError, UnicodeDecodeError):
        return None
    found = found or read_json(folder / TOKENIZER_CONFIG).get("chat_template")
    return found if isinstance(found, str) and found else None


def adds_start(folder: Path) -> bool:
    """Say whether a server that reads a GGUF file of a model begins every prompt with the token for that.

    As llama.cpp's converter finds it: what the tokenizer does to a text by itself, else what its config says, else
    whether it is of sentencepiece's kind.
    """
    processor = read_json(folder / TOKENIZER).get("post_processor") or {}
    for each in processor.get("processors") or [processor]:
        first = (each.get("single") or [{}])[0] if each.get("type") == "TemplateProcessing" else {}
        if "SpecialToken" in first:
            return True
    said = read_json(folder / TOKENIZER_CONFIG).get("add_bos_token")
    return said if isinstance(said, bool) else is_sentencepiece(folder)


def is_sentencepiece(folder: Path) -> bool:
    """Say whether a tokenizer is of sentencepiece's kind (Llama 2, Gemma), with sentencepiece's file or without."""
    if (folder / SENTENCEPIECE).is_file():
        return True
    try:
        text = (folder / TOKENIZER).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return re.search(r'"byte_fallback":\s*true', text) is not None  # parsed, ten megabytes take a moment


def _special_tokens(folder: Path) -> dict[str, str]:
    """Return the special tokens that a template may name."""
    named = {**read_json(folder / "special_tokens_map.json"), **read_json(folder / TOKENIZER_CONFIG)}
    found = {name: named.get(name) for name in _SPECIAL}
    words = {name: token.get("content") if isinstance(token, dict) else token for name, token in found.items()}
    return {name: word for name, word in words.items() if isinstance(word, str)}


def _printable(text: str) -> bool:
    """Say whether Ollama keeps all of a text that stands in a Modelfile."""
    return all(sign.isprintable() or sign in "\n\t" for sign in text)


def _parts(text: str, special: dict[str, str]) -> Parts | None:
    template, begun = _environment().from_string(text), set()
    named = {**special, "bos_token": _START if special.get("bos_token") else ""}

    def rendered(*said: tuple[str, str], generate: bool) -> str:
        messages = [{"role": role, "content": content} for role, content in said]
        whole = template.render(messages=messages, add_generation_prompt=generate, enable_thinking=False, **named)
        begun.add(whole.startswith(_START))
        return whole.removeprefix(_START)

    user, system = ("user", _USER), ("system", _SYSTEM)
    turn, asked = rendered(user, generate=False), rendered(user, generate=True)
    answered = rendered(user, ("assistant", _ANSWER), generate=False)
    if not asked.startswith(turn) or not answered.startswith(turn):
        return None
    around_user, around_answer = _around(turn, _USER), _around(answered[len(turn) :], _ANSWER)
    if around_user is None or around_answer is None:
        return None
    try:
        ruled = rendered(system, user, generate=True)
        around_system = _around(ruled.removesuffix(asked), _SYSTEM) if ruled.endswith(asked) else None
        if around_system is None:
            return None
        opening = [system]
    except TemplateError:  # a template that takes no system message says so
        around_system, opening = None, []
    conversation = [*opening, user, ("assistant", _ANSWER), ("user", _AGAIN)]
    whole = rendered(*conversation, generate=True)
    if len(begun) > 1 or _START in whole:  # it begins later turns too, which no server does
        return None
    start = special["bos_token"] if begun == {True} else ""
    parts = Parts(around_system, around_user, around_answer, asked[len(turn) :], start)
    messages = [{"role": role, "content": content} for role, content in conversation]
    return parts if parts.render(messages) == parts.start + whole else None


def _around(text: str, words: str) -> tuple[str, str] | None:
    before, found, after = text.partition(words)
    return (before, after) if found and words not in after else None


class _Generation(Extension):
    """Lets `{% generation %}`, which marks what a model writes, stand for what is inside it."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return the nodes inside the tag."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )

    def refuse(message: str) -> None:
        raise TemplateError(message)

    def as_json(value: Any, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=False, **{name: options[name] for name in ("indent",) if name in options})

    environment.globals.update(raise_exception=refuse, strftime_now=lambda pattern: time.strftime(pattern))
    environment.filters["tojson"] = as_json
    return environment
