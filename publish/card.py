"""The model cards: what an adapter or a merged model is, where it is from, and a program that uses it.

Does not know files or hubs, and names no path of this machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from publish.source import Base
from storage import Run
from training.methods import METHODS

_PROGRAM = """\
{imports}

tokenizer = AutoTokenizer.from_pretrained({tokenizer})
model = {model}
messages = [{{"role": "user", "content": {question}}}]
prompt = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, enable_thinking=False, return_tensors="pt", return_dict=True
)
answer = model.generate(**prompt, max_new_tokens=200, do_sample=False)
print(tokenizer.decode(answer[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))
"""


def program(model: str, adapter: str | None, question: str = "What can you do?") -> str:
    """Return a Python program that asks a model one question with transformers, greedily, and prints its answer.

    model: a folder or hub name that holds whole weights and a tokenizer. adapter: a folder or hub name of an adapter
    for it, put on with peft; None for a merged model.
    """
    loaded = f'AutoModelForCausalLM.from_pretrained({model!r}, dtype="auto")'
    imports = "from transformers import AutoModelForCausalLM, AutoTokenizer"
    if adapter is not None:
        imports = f"from peft import PeftModel\n{imports}"
        loaded = f"PeftModel.from_pretrained({loaded}, {adapter!r})"
    return _PROGRAM.format(imports=imports, tokenizer=repr(model), model=loaded, question=repr(question))


def adapter_card(run: Run, base: Base, provenance: Mapping[str, Any], base_inside: bool) -> str:
    """Return the card of an adapter. base_inside: the base's files lie beside it, in the folder `base`."""
    beside = " Its files are in the folder `base` beside this one." if base_inside else ""
    place = "./base" if base_inside else base.name
    using = (
        "This is a LoRA adapter in peft's format: it needs its base model. From inside this folder, with"
        f" `pip install torch transformers peft`:\n\n```python\n{program(place, '.')}```\n"
    )
    return _card(run, base, provenance, "peft", "lora", "Adapter", f"{base.sentence()}{beside}", using)


def merged_card(run: Run, base: Base, provenance: Mapping[str, Any], dtype: str, notes: str) -> str:
    """Return the card of merged weights. dtype: what they are kept in; notes: what is to know of the merging, or ""."""
    using = (
        f"The adapter is merged into the weights, which are kept in {dtype}: nothing but transformers is needed."
        f"{f' {notes}' if notes else ''} From inside this folder, with `pip install torch transformers`:\n\n"
        f"```python\n{program('.', None)}```\n"
    )
    return _card(run, base, provenance, "transformers", "merged", "Merged model", base.sentence(), using)


def _card(
    run: Run, base: Base, provenance: Mapping[str, Any], library: str, tag: str, kind: str, sentence: str, using: str
) -> str:
    header = [f"library_name: {library}", "pipeline_tag: text-generation", f"tags: [preference-studio, {run.method}, {tag}]"]
    if base.kind == "hub":
        header.insert(0, f"base_model: {base.name}")
    # A method of a later version is named all the same.
    method = METHODS.get(run.method)
    named = f"{method.title} ({method.source})" if method is not None else run.method
    parts = [
        "---\n" + "\n".join(header) + "\n---",
        f"# {kind} of {base.name}, trained with {method.title if method is not None else run.method}",
        f"{sentence} Trained from people's preferences with {named}. {run.message}",
        f"## How to use it\n\n{using}".rstrip(),
        _origin(provenance),
        _figures(run.summary),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _origin(provenance: Mapping[str, Any]) -> str:
    labels, versions = provenance.get("labels"), provenance.get("versions")
    if not labels or not isinstance(versions, Mapping):
        return ""
    libraries = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"Made from {labels} labels (sha256 `{provenance.get('labels_sha256')}`) with {libraries}."


def _figures(summary: Mapping[str, Any]) -> str:
    rows = [f"| {name} | {value:.4g} |" for name, value in sorted(summary.items()) if isinstance(value, (int, float))]
    return "## Figures at the end of training\n\n| figure | value |\n|---|---|\n" + "\n".join(rows) if rows else ""
