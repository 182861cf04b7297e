"""The exact commands that serve a run elsewhere: vLLM, transformers, llama.cpp, Ollama. Runs none of them.

What each server can do is from its own documentation and source: vLLM refuses DoRA and takes only certain ranks;
llama.cpp's converter of adapters knows neither DoRA nor rank-stabilised scales; Ollama reads GGUF everywhere and
safetensors only on some machines. What each does to a prompt was seen by running it, vLLM and Ollama excepted
(`docs/publish.md`).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from publish import template
from publish.card import program
from publish.source import CONFIG, Base, PublishError, read_json
from storage import Run

# vLLM's `--max-lora-rank` takes one of these.
VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
QUESTION = "What can you do?"
# llama-server puts the token that begins a sequence before every prompt where the tokenizer says so; here the chat
# template alone decides, as in training. --jinja: older builds guess the template without it.
AS_TRAINED = ("--jinja", "--override-kv", "tokenizer.ggml.add_bos_token=bool:false")
DEMO_NOTE = "The demo's tokenizer needs transformers 5 or newer there."
GGUF_DEMO_NOTE = (
    "The converter knows the tokenizers of well-known models; the demo's is not one of them, so it will refuse it."
)
GGUF_NEW_NOTE = (
    "This model's tokenizer was saved by transformers 5, and those bring an older one that cannot read it: afterwards"
    " also `pip install 'transformers>=5'`."
)
GGUF_NO_MODEL_NOTE = (
    "This model's tokenizer.model is not there. Without it the converter fails, or writes a tokenizer that cuts words"
    " into other pieces than the model knows: put the base's into {folder} first."
)
OLLAMA_START_NOTE = (
    " Ollama puts the token that begins a sequence before every prompt, which this model's chat template does not do,"
    " so look at its answers."
)


@dataclass(frozen=True)
class ServeCommand:
    """One way to serve a run. lines: to copy as they are, none where something has to be done first, which `note`
    says. language: "shell", "python" or "text" (a file)."""

    title: str
    lines: tuple[str, ...]
    note: str = ""
    language: str = "shell"

    @property
    def text(self) -> str:
        """All lines, as they are copied."""
        return "\n".join(self.lines)

    def as_dict(self) -> dict[str, Any]:
        """Return the command as JSON values."""
        return {"title": self.title, "language": self.language, "lines": list(self.lines), "note": self.note}


def commands(run: Run, base: Base, adapter_folder: Path, merged_folder: Path | None) -> list[ServeCommand]:
    """Return the ways to serve a run, whose files are in folders of this machine; paths in them are shell-quoted.

    merged_folder: of the merged weights; None where there are none. Raises PublishError when the adapter's config is
    not there.
    """
    config = read_json(adapter_folder / CONFIG)
    rank, dora, rslora = _rank(config, adapter_folder), bool(config.get("use_dora")), bool(config.get("use_rslora"))
    name = f"run-{run.id}"
    found = [_program(base, adapter_folder, merged_folder)]
    if merged_folder is None:
        found.append(_vllm_adapter(name, base, adapter_folder, rank, dora))
        found.append(_gguf_adapter(name, base, adapter_folder, dora or rslora))
        found.append(ServeCommand("transformers serve", (), "Merge the run first: it serves whole models."))
    else:
        found += [*_merged(name, base, merged_folder), _gguf_merged(name, base, merged_folder)]
    return [*found, *_ollama(name, base, merged_folder), *_ask(name, merged_folder)]


def told(found: Sequence[ServeCommand]) -> str:
    """Return the ways to serve a run for a terminal: each under its title, its note after it."""
    return "\n\n".join("\n".join(part for part in (f"# {each.title}", each.text, each.note) if part) for each in found)


def _rank(config: dict, folder: Path) -> int:
    ranks = [config.get("r"), *(config.get("rank_pattern") or {}).values()]
    known = [each for each in ranks if isinstance(each, int)]
    if not known:
        raise PublishError(f"{folder / CONFIG} names no rank, or is not there. Put it back, or train the run again.")
    return max(known)


def _words(*words: object) -> str:
    return shlex.join(str(word) for word in words)


def _program(base: Base, adapter: Path, merged: Path | None) -> ServeCommand:
    code = program(base.place, str(adapter), QUESTION) if merged is None else program(str(merged), None, QUESTION)
    needs = "pip install torch transformers peft" if merged is None else "pip install torch transformers"
    return ServeCommand("Python", tuple(code.rstrip().split("\n")), f"Needs `{needs}`.", "python")


def _vllm_adapter(name: str, base: Base, adapter: Path, rank: int, dora: bool) -> ServeCommand:
    room = next((each for each in VLLM_RANKS if each >= rank), None)
    if dora or room is None:
        reason = "it does not serve DoRA adapters" if dora else f"it serves adapters up to rank {VLLM_RANKS[-1]}"
        return ServeCommand("vLLM", (), f"Merge the run first: {reason}.")
    line = _words(
        "vllm", "serve", base.place, "--enable-lora", "--lora-modules", f"{name}={adapter}", "--max-lora-rank", room
    )
    return ServeCommand("vLLM", (line,), _notes(base, f"Ask it for `{name}`, or for the base by its own name."))


def _merged(name: str, base: Base, merged: Path) -> list[ServeCommand]:
    vllm = _words("vllm", "serve", merged, "--served-model-name", name)
    serve = _words("transformers", "serve", merged, "--host", "127.0.0.1", "--port", 8000)
    return [
        ServeCommand("vLLM", (vllm,), _notes(base, f"Ask it for `{name}`.")),
        ServeCommand("transformers serve", (serve,), "Needs `pip install torch 'transformers[serving]'`."),
    ]


def _gguf_merged(name: str, base: Base, merged: Path) -> ServeCommand:
    lines = (
        _words("python", "convert_hf_to_gguf.py", merged, "--outfile", f"{name}.gguf"),
        _words("llama-server", "-m", f"{name}.gguf", "--alias", name, *AS_TRAINED, "--port", 8000),
    )
    return ServeCommand("llama.cpp", lines, _gguf_note(base, merged))


def _gguf_adapter(name: str, base: Base, adapter: Path, scaled: bool) -> ServeCommand:
    if scaled:
        reason = "Merge the run first: the converter of adapters knows neither DoRA nor rank-stabilised LoRA."
        return ServeCommand("llama.cpp", (), reason)
    fetched = (_words("hf", "download", base.name, "--local-dir", "base"),) if base.folder is None else ()
    place = base.folder if base.folder is not None else "base"
    lora = f"{name}-lora.gguf"
    lines = (
        *fetched,
        _words("python", "convert_hf_to_gguf.py", place, "--outfile", "base.gguf"),
        _words("python", "convert_lora_to_gguf.py", adapter, "--base", place, "--outfile", lora),
        _words("llama-server", "-m", "base.gguf", "--lora", lora, "--alias", name, *AS_TRAINED, "--port", 8000),
    )
    return ServeCommand("llama.cpp", lines, _gguf_note(base, base.folder))


def _gguf_note(base: Base, folder: Path | None) -> str:
    notes = ["Run it in a checkout of llama.cpp, whose Python scripts need `pip install -r requirements.txt`."]
    if base.kind == "demo":
        notes.append(GGUF_DEMO_NOTE)
    elif folder is not None:
        if read_json(folder / template.TOKENIZER_CONFIG).get("tokenizer_class") == "TokenizersBackend":
            notes.append(GGUF_NEW_NOTE)
        if template.is_sentencepiece(folder) and not (folder / template.SENTENCEPIECE).is_file():
            notes.append(GGUF_NO_MODEL_NOTE.format(folder=folder))
    return " ".join(notes)


def _ollama(name: str, base: Base, merged: Path | None) -> list[ServeCommand]:
    if merged is None:
        return [ServeCommand("Ollama", (), "Merge the run and make a GGUF file of it first, as above.")]
    written = [f"FROM ./{name}.gguf"]
    parts = template.find(merged)
    starts = template.adds_start(merged)
    told = parts.as_go(start=not starts) if parts is not None else None
    note = "Beside the GGUF file that llama.cpp's converter wrote."
    if parts is None or told is None:
        note += " The model's chat template is more than Ollama's can say: Ollama guesses one, so look at its answers."
    else:
        written.append(f'TEMPLATE """{told}"""')
        if parts.stop:
            quote = '"""' if '"' in parts.stop else '"'  # Ollama knows no escapes
            written.append(f"PARAMETER stop {quote}{parts.stop}{quote}")
        if starts and not parts.start:
            note += OLLAMA_START_NOTE
    shell = (_words("ollama", "create", name, "-f", "Modelfile"), _words("ollama", "run", name, QUESTION))
    return [
        ServeCommand("Ollama: the file Modelfile", tuple("\n".join(written).split("\n")), note, "text"),
        ServeCommand("Ollama", shell, GGUF_DEMO_NOTE if base.kind == "demo" else ""),
    ]


def _ask(name: str, merged: Path | None) -> list[ServeCommand]:
    if merged is None:
        note = "vLLM and llama-server both listen at port 8000 here."
        return [ServeCommand("Ask a running server", (_curl(name),), note)]
    note = "All three listen at port 8000 here. transformers serve knows the model by its folder only."
    return [
        ServeCommand("Ask vLLM or llama-server", (_curl(name),), note),
        ServeCommand("Ask transformers serve", (_curl(str(merged)),)),
    ]


def _curl(model: str) -> str:
    # Thinking models are asked not to think, as in training.
    messages = [{"role": "user", "content": QUESTION}]
    body = {"model": model, "messages": messages, "chat_template_kwargs": {"enable_thinking": False}}
    address, kind = "http://127.0.0.1:8000/v1/chat/completions", "Content-Type: application/json"
    return _words("curl", address, "-H", kind, "-d", json.dumps(body, ensure_ascii=False))


def _notes(base: Base, note: str) -> str:
    return f"{note} {DEMO_NOTE}" if base.kind == "demo" else note
