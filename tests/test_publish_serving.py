"""The commands that serve a run: the Python program runs as it stands, the others parse and name files that exist."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.publish_world import elsewhere, finished_run

from publish import merge, serving, source
from publish.source import Base, PublishError
from storage import Run, Store


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Run, Path]]:
    """A store in a folder that a shell would misread, a finished run of the demo, and its merged weights."""
    store = Store(tmp_path_factory.mktemp("world") / "my data; $(touch pwned) 'x'")
    run = finished_run(store)
    merge.execute(store, run.id, store.folder / "merged" / "run-1")
    yield store, run, store.folder / "merged" / "run-1"
    store.close()


def made(world: tuple[Store, Run, Path], merged: bool) -> dict[str, serving.ServeCommand]:
    store, run, folder = world
    found = serving.commands(run, source.base_of(store, run), store.runs.adapter_folder(run.id), folder if merged else None)
    titles = [each.title for each in found]
    assert len(set(titles)) == len(titles) and all(each.lines or each.note for each in found)
    return {each.title: each for each in found}


@pytest.mark.parametrize("merged", [False, True], ids=["adapter", "merged"])
def test_the_python_program_answers_as_it_stands(world, merged: bool, tmp_path: Path) -> None:
    shown = made(world, merged)["Python"]
    assert shown.language == "python" and "peft" in shown.text or merged
    assert elsewhere(shown.text, folder=tmp_path).strip()


@pytest.mark.parametrize("merged", [False, True], ids=["adapter", "merged"])
def test_every_line_parses_and_names_files_that_exist(world, merged: bool) -> None:
    """Files that a line before it makes are plain names; all else that looks like a path is there."""
    store = world[0]
    seen = 0
    for each in made(world, merged).values():
        for line in each.lines if each.language == "shell" else ():
            words = shlex.split(line)
            assert words[0] in ("vllm", "transformers", "python", "llama-server", "ollama", "curl", "hf")
            for word in words[1:]:
                path = word.partition("=")[2] if word.startswith("run-1=") else word
                if path.startswith("/"):
                    assert Path(path).is_dir(), path
                    seen += 1
            assert str(store.folder) not in line or "'" in line
    assert seen >= 2


def test_vllm_serves_the_adapter_beside_its_base(world) -> None:
    words = shlex.split(made(world, False)["vLLM"].text)
    folder = world[0].runs.adapter_folder(1)
    assert words[:2] == ["vllm", "serve"] and words[3:6] == ["--enable-lora", "--lora-modules", f"run-1={folder}"]
    assert words[6:] == ["--max-lora-rank", "8"]  # the run's is 4
    assert (Path(words[2]) / "config.json").is_file()
    merged = shlex.split(made(world, True)["vLLM"].text)
    assert merged == ["vllm", "serve", str(world[2]), "--served-model-name", "run-1"]


def asked(shown: serving.ServeCommand) -> dict:
    return json.loads(shlex.split(shown.text)[-1])


def test_a_server_is_asked_for_the_model_by_the_name_that_it_knows(world) -> None:
    """transformers serve knows no other name than the one on its command line."""
    merged, adapter = made(world, True), made(world, False)
    assert asked(merged["Ask transformers serve"])["model"] == shlex.split(merged["transformers serve"].text)[2]
    for named in (merged["Ask vLLM or llama-server"], adapter["Ask a running server"]):
        assert asked(named)["model"] == "run-1" and asked(named)["chat_template_kwargs"] == {"enable_thinking": False}
    for shown in (merged, adapter):
        assert shown["llama.cpp"].lines[-1].partition(" --alias ")[2].split()[0] == "run-1"


def test_llama_server_leaves_the_prompt_to_the_chat_template(world) -> None:
    for merged in (True, False):
        words = shlex.split(made(world, merged)["llama.cpp"].lines[-1])
        assert "--jinja" in words and words[words.index("--override-kv") + 1] == "tokenizer.ggml.add_bos_token=bool:false"


def test_the_modelfile_is_whole(world) -> None:
    text = made(world, True)["Ollama: the file Modelfile"].text
    assert text.startswith("FROM ./run-1.gguf\nTEMPLATE \"\"\"{{- range .Messages }}") and text.count('"""') == 2
    assert text.endswith('PARAMETER stop "<|end|>"')
    assert "--outfile run-1.gguf" in made(world, True)["llama.cpp"].text
    assert made(world, False)["Ollama"].lines == () and "first" in made(world, False)["Ollama"].note


def ways(tmp_path: Path, base: Base, merged: Path | None = None, **config: object) -> dict[str, serving.ServeCommand]:
    (tmp_path / source.CONFIG).write_text(json.dumps(config))
    run = Run(1, 1, "dpo", base.name, {}, "finished", "", None, 1, 1, False, "a", {}, 0.0, None, None, None)
    return {each.title: each for each in serving.commands(run, base, tmp_path, merged)}


HUB = Base("org/name", "hub", None, "org/name")


@pytest.mark.parametrize(("rank", "room"), [(1, "1"), (9, "16"), (64, "64"), (300, "320")])
def test_a_servers_room_is_one_that_it_knows_and_the_highest_rank_counts(tmp_path: Path, rank: int, room: str) -> None:
    found = ways(tmp_path, HUB, r=1, rank_pattern={"q_proj": rank})["vLLM"].text
    assert found == f"vllm serve org/name --enable-lora --lora-modules run-1={tmp_path} --max-lora-rank {room}"


def test_what_a_server_cannot_do_is_said_instead_of_a_command_that_fails(tmp_path: Path) -> None:
    dora, rslora = ways(tmp_path, HUB, r=8, use_dora=True), ways(tmp_path, HUB, r=8, use_rslora=True)
    assert dora["vLLM"].lines == () and "DoRA" in dora["vLLM"].note and dora["llama.cpp"].lines == ()
    assert rslora["vLLM"].lines and rslora["llama.cpp"].lines == ()
    assert ways(tmp_path, HUB, r=600)["vLLM"].lines == ()
    with pytest.raises(PublishError, match="names no rank"):
        ways(tmp_path, HUB)


def test_a_base_of_a_hub_is_fetched_before_it_is_converted(tmp_path: Path) -> None:
    lines = ways(tmp_path, HUB, r=8)["llama.cpp"].lines
    assert lines[0] == "hf download org/name --local-dir base" and "convert_hf_to_gguf.py base " in lines[1]
    assert "demo" not in ways(tmp_path, HUB, r=8)["llama.cpp"].note


def test_a_template_that_ollama_cannot_say_is_left_to_it_with_a_warning(world, tmp_path: Path) -> None:
    store, run, _ = world
    (tmp_path / "config.json").write_text("{}")
    found = serving.commands(run, source.base_of(store, run), store.runs.adapter_folder(run.id), tmp_path)
    file = next(each for each in found if each.language == "text")
    assert file.lines == ("FROM ./run-1.gguf",) and "Ollama guesses one" in file.note


def test_the_demo_says_what_only_it_needs(world) -> None:
    assert "transformers 5" in made(world, False)["vLLM"].note and "will refuse it" in made(world, True)["llama.cpp"].note


def folder_of(folder: Path, chat_template: str = "", **config: object) -> Path:
    """A model's folder with a sentencepiece tokenizer that transformers wrote, as far as the commands look at it."""
    folder.mkdir()
    (folder / "tokenizer.json").write_text('{"model": {"byte_fallback": true}}')
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "eos_token": "</s>", **config}))
    (folder / "chat_template.jinja").write_text(chat_template)
    return folder


def test_what_the_converter_needs_of_a_tokenizer_is_said_before_it_goes_wrong(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "base", tokenizer_class="TokenizersBackend")
    base = Base("base", "folder", folder, "")
    note = ways(tmp_path, base, r=8)["llama.cpp"].note
    assert "transformers>=5" in note and f"put the base's into {folder} first" in note
    (folder / "tokenizer.model").write_bytes(b"")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    note = ways(tmp_path, base, r=8)["llama.cpp"].note
    assert "transformers>=5" not in note and "tokenizer.model" not in note


TURNS = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + END }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"


@pytest.mark.parametrize(("chat_template", "adds", "told", "warned"), [
    (TURNS, True, "", True),
    (TURNS, False, "", False),
    ("{{ bos_token }}" + TURNS, True, "", False),
    ("{{ bos_token }}" + TURNS, False, "<s>", False),
])
def test_the_modelfile_begins_a_prompt_where_ollama_does_not(
    tmp_path: Path, chat_template: str, adds: bool, told: str, warned: bool
) -> None:
    merged = folder_of(tmp_path / "merged", chat_template.replace("END", "eos_token"), add_bos_token=adds)
    file = ways(tmp_path, HUB, merged, r=8)["Ollama: the file Modelfile"]
    assert file.lines[1].startswith(f'TEMPLATE """{told}{{{{- range') and file.lines[-1] == 'PARAMETER stop "</s>"'
    assert ("begins a sequence" in file.note) is warned


def test_a_stop_with_quotes_is_told_as_ollama_reads_it(tmp_path: Path) -> None:
    merged = folder_of(tmp_path / "merged", TURNS.replace("END", "'<\\\\\"end\">'"))
    assert ways(tmp_path, HUB, merged, r=8)["Ollama: the file Modelfile"].lines[-1] == 'PARAMETER stop """<\\"end">"""'
