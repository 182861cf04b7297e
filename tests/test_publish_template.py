"""A chat template's parts put a conversation together as the template does, in Jinja, in Python and as Ollama reads it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tiny_models import CHATML, tiny_tokenizer

from models import catalog
from models.loading import load_tokenizer
from publish import template

GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role'])"
    " + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
THINKING = CHATML.replace(
    "{{ '<|im_start|>assistant\n' }}",
    "{{ '<|im_start|>assistant\n' }}{% if not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}",
)
ZEPHYR = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% elif m['role'] == 'system' %}{{ raise_exception('no system') }}{% else %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
)
EVERY_TURN = MISTRAL.replace("{{ bos_token }}", "").replace("{{ '[INST]", "{{ bos_token + '[INST]")
DEFAULT_SYSTEM = "{% if messages[0]['role'] != 'system' %}{{ '<s>You are helpful.</s>' }}{% endif %}" + CHATML
DATED = "{{ strftime_now('%H:%M:%S') }}" + CHATML
NESTED = "{% for m in messages %}{{ '{{' + m['role'] + '}}' + m['content'] }}{% endfor %}{{ '>' if add_generation_prompt else '' }}"


def folder_with(folder: Path, text: str | None, beside: bool = True) -> Path:
    folder.mkdir(exist_ok=True)
    if text is not None and beside:
        (folder / "chat_template.jinja").write_text(text)
    (folder / "tokenizer_config.json").write_text(json.dumps({} if text is None or beside else {"chat_template": text}))
    return folder


def as_ollama(go: str, messages: list[dict[str, str]]) -> str:
    """Do what Ollama does with a template of this shape, by way of Jinja."""
    text = go.replace("{{- range .Messages }}", "{%- for m in messages %}").replace("{{ .Content }}", "{{ m.content }}")
    text = re.sub(r'\{\{ (else )?if eq \.Role "(\w+)" \}\}', lambda found: f"{{% {'el' if found[1] else ''}if m.role == '{found[2]}' %}}", text)
    head, _, tail = text.rpartition("{{ end }}{{ end }}")
    assert "{{ end }}" not in head
    compiled = jinja2.Environment(keep_trailing_newline=True).from_string(f"{head}{{% endif %}}{{% endfor %}}{tail}")
    return compiled.render(messages=messages)


@pytest.fixture(scope="module")
def demo() -> tuple[template.Parts, object]:
    parts = template.find(catalog.DEMO_FOLDER)
    assert parts is not None
    return parts, load_tokenizer("demo")


WORDS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20)


@settings(max_examples=30, deadline=None)
@given(system=st.none() | WORDS, turns=st.lists(WORDS, min_size=1, max_size=5).filter(lambda turns: len(turns) % 2 == 1))
def test_the_demos_template_is_the_same_in_all_three(demo, system: str | None, turns: list[str]) -> None:
    parts, tokenizer = demo
    messages = [{"role": "system", "content": system}] if system is not None else []
    messages += [{"role": ("user", "assistant")[number % 2], "content": words} for number, words in enumerate(turns)]
    expected = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert parts.render(messages) == expected == as_ollama(parts.as_go(), messages)
    assert parts.stop == "<|end|>"


@pytest.mark.parametrize(("text", "beside"), [(CHATML, True), (CHATML, False), (GEMMA, True), (THINKING, True)])
def test_a_template_that_surrounds_each_message_is_found(tmp_path: Path, text: str, beside: bool) -> None:
    parts = template.find(folder_with(tmp_path, text, beside))
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "x"}]
    tokenizer = tiny_tokenizer(text)
    expected = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=False, bos_token="")
    assert parts.render(messages) == expected == as_ollama(parts.as_go(), messages)
    assert (parts.system is None) == (text == GEMMA)


@pytest.mark.parametrize("text", [
    None, "", DEFAULT_SYSTEM, DATED, "{% for", "{{ messages[0]['content'] }}", "{{ 1 // 0 }}", "{{ messages | nothing }}",
    "{{ ''.__class__.__mro__ }}", "fixed words",
])
def test_a_template_that_does_more_or_less_is_not_guessed(tmp_path: Path, text: str | None) -> None:
    assert template.find(folder_with(tmp_path, text)) is None


@pytest.mark.parametrize(("text", "start", "go"), [(ZEPHYR, "", ""), (MISTRAL, "<s>", "<s>"), (CHATML, "", "")])
def test_the_special_tokens_that_a_template_names_are_its_tokenizers(tmp_path: Path, text: str, start: str, go: str) -> None:
    tokenizer = tiny_tokenizer(text)
    tokenizer.add_special_tokens({"bos_token": "<|im_start|>" if text == CHATML else "<s>"})
    tokenizer.save_pretrained(tmp_path)
    parts = template.find(tmp_path)
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "x"}]
    expected = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert parts.render(messages) == expected == as_ollama(parts.as_go(start=True), messages)
    assert parts.start == start and go + as_ollama(parts.as_go(), messages) == expected
    assert parts.stop == "<|im_end|>"


@pytest.mark.parametrize("named", ["<s>", {"content": "<s>", "lstrip": False}])
def test_a_template_that_begins_a_sequence_with_every_turn_is_not_guessed(tmp_path: Path, named: object) -> None:
    found = []
    for text in (MISTRAL, EVERY_TURN):
        folder = folder_with(tmp_path, text)
        (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": named, "eos_token": "</s>"}))
        found.append(template.find(folder))
    assert found[0].start == "<s>" and found[1] is None


def processor(*pieces: str) -> dict:
    single = [{"Sequence": {"id": "A"}} if piece == "A" else {"SpecialToken": {"id": piece}} for piece in pieces]
    return {"type": "Sequence", "processors": [{"type": "ByteLevel"}, {"type": "TemplateProcessing", "single": single}]}


@pytest.mark.parametrize(("tokenizer", "config", "sentencepiece", "expected"), [
    ({"post_processor": processor("<s>", "A")}, {"add_bos_token": False}, False, True),
    ({"post_processor": processor("A", "</s>")}, {}, False, False),
    ({"post_processor": None}, {"add_bos_token": True}, False, True),
    ({"post_processor": None}, {"add_bos_token": False}, True, False),
    ({}, {}, True, True),
    ({"model": {"byte_fallback": True}}, {}, False, True),
    ({"model": {"byte_fallback": False}}, {}, False, False),
])
def test_whether_a_server_begins_a_prompt_is_read_as_llama_cpp_reads_it(
    tmp_path: Path, tokenizer: dict, config: dict, sentencepiece: bool, expected: bool
) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    if sentencepiece:
        (tmp_path / "tokenizer.model").write_bytes(b"")
    assert template.adds_start(tmp_path) is expected


def test_a_sign_that_ollama_drops_is_not_written(tmp_path: Path) -> None:
    found = [template.find(folder_with(tmp_path, CHATML.replace("<|im_end|>", end))) for end in ("<end>", "<\u3000end>")]
    assert found[0].as_go() is not None and found[1] is not None and found[1].as_go() is None


def test_signs_that_ollamas_templates_cannot_say_are_not_written(tmp_path: Path) -> None:
    parts = template.find(folder_with(tmp_path, NESTED))
    assert parts is not None and parts.as_go() is None
