"""The LoRA adapter: put on a base model, and written to a folder as PEFT writes it. Does not know how it is trained."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft
import safetensors.torch
import torch
import transformers

from errors import ConfigError, ModelError
from models.adapters import recorded_base
from models.lora_files import PROVENANCE, WEIGHTS
from training.config import TrainingConfig


def attach(model: torch.nn.Module, config: TrainingConfig, start: Path | None = None) -> peft.PeftModel:
    """Put an adapter on a base model, in place; a fresh one changes nothing until it is trained.

    start: the folder of an adapter of the same shape, whose weights it begins with; None begins afresh.
    Its weights are float32 whatever the base is in: a step of 1e-4 on a weight near 1 vanishes in bfloat16.
    Everything stays in eval mode but the adapter's own dropout, so the base's dropout adds no noise.
    Raises ConfigError when `lora_targets` names layers that the model does not have or that cannot be adapted,
    ModelError when the adapter to begin with cannot be read or has another shape.
    """
    torch.manual_seed(config.seed)
    lora = peft.LoraConfig(
        task_type=peft.TaskType.CAUSAL_LM,
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        use_rslora=config.lora_rslora,
        use_dora=config.lora_dora,
        target_modules=_targets(model, config),
        bias="none",
    )
    try:
        adapted = peft.get_peft_model(model, lora, autocast_adapter_dtype=True)
    except (ValueError, NotImplementedError) as error:
        raise ConfigError(f"lora_targets {config.lora_targets!r} does not fit {config.model}: {error}") from error
    if start is not None:
        _begin_with(adapted, start)
    adapted.eval()
    for module in _dropouts(adapted):
        module.train()
    return adapted


def _begin_with(model: peft.PeftModel, folder: Path) -> None:
    """Give an adapter the weights of another one."""
    try:
        weights = safetensors.torch.load_file(folder / WEIGHTS)
        loaded = peft.set_peft_model_state_dict(model, weights)
    except (OSError, RuntimeError, ValueError, safetensors.SafetensorError) as error:
        raise ModelError(f"The adapter in {folder} cannot be gone on from ({error}). Choose another run.") from error
    given = {name for name in peft.get_peft_model_state_dict(model)}
    if loaded.unexpected_keys or given != set(weights):
        raise ModelError(f"The adapter in {folder} has other layers than this run would have. Choose another run.")


def load(model: torch.nn.Module, folder: Path, base: str) -> peft.PeftModel:
    """Put a trained adapter on its base model, in place, as it was when it was trained.

    base: `models.catalog.identity` of the base. Raises ModelError when the adapter was trained on other weights or
    cannot be read.
    """
    recorded = recorded_base(folder)
    if recorded is not None and recorded != base:
        raise ModelError(f"The adapter in {folder} was trained on other weights of this base model. Train it again.")
    try:
        return peft.PeftModel.from_pretrained(model, str(folder), autocast_adapter_dtype=True).eval()
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"The adapter in {folder} cannot be read ({error}). Train it again.") from error


@contextmanager
def without_dropout(model: peft.PeftModel) -> Iterator[None]:
    """Let the adapter drop nothing while it is measured."""
    for module in _dropouts(model):
        module.eval()
    try:
        yield
    finally:
        for module in _dropouts(model):
            module.train()


def _dropouts(model: peft.PeftModel) -> list[torch.nn.Module]:
    return [module for name, module in model.named_modules() if "lora_dropout" in name]


def _targets(model: torch.nn.Module, config: TrainingConfig) -> str | list[str]:
    """Return what peft is to adapt. Raises ConfigError for a name that no linear layer but the last one has."""
    names = [name.strip() for name in config.lora_targets.split(",") if name.strip()]
    if names == ["all-linear"]:
        return names[0]
    output = model.get_output_embeddings()
    linear = [
        path for path, module in model.named_modules()
        if isinstance(module, (torch.nn.Linear, transformers.pytorch_utils.Conv1D)) and module is not output
    ]
    unknown = [name for name in names if not any(path == name or path.endswith(f".{name}") for path in linear)]
    if names and not unknown:
        return names
    there = ", ".join(dict.fromkeys(path.rpartition(".")[2] for path in linear)) or "none"
    raise ConfigError(
        f"lora_targets {config.lora_targets!r} does not fit {config.model}: no layer to adapt is called"
        f" {', '.join(unknown) or 'so'}. There are: {there}; all-linear adapts them all."
    )


def trainable(model: peft.PeftModel) -> list[torch.nn.Parameter]:
    """Return the adapter's weights."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


@dataclass(frozen=True)
class Origin:
    """What an adapter was made from. base: `models.catalog.identity` of the base model when it was trained on.

    labels_sha256: `training.dataset.snapshot_hash` of the labels; labels: how many.
    """

    base: str
    labels_sha256: str
    labels: int


def write(
    model: peft.PeftModel,
    folder: Path,
    config: TrainingConfig,
    summary: Mapping[str, Any],
    card: str,
    origin: Origin | None = None,
) -> None:
    """Write an adapter folder whole or not at all: what PEFT writes, and beside it all that says where it is from.

    `training_config.json`, `metrics.json` (with the libraries' versions), `provenance.json` (origin) and the card.
    Raises OSError when the disk is full; then nothing is left behind.
    """
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        # Embeddings are never adapted; "auto" would ask the model hub whether they were resized.
        model.save_pretrained(unfinished, save_embedding_layers=False)
        _write_json(unfinished / "training_config.json", config.to_dict())
        _write_json(unfinished / "metrics.json", {**summary, "versions": versions()})
        if origin is not None:
            _write_json(unfinished / PROVENANCE, _provenance(config, origin))
        (unfinished / "README.md").write_text(card, encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def versions() -> dict[str, str]:
    """Return the versions of the libraries that a result depends on."""
    libraries = {module.__name__: module.__version__ for module in (torch, transformers, peft)}
    return {"python": platform.python_version(), **libraries}


def model_card(
    config: TrainingConfig, summary: Mapping[str, Any], sentence: str, origin: Origin | None = None
) -> str:
    """Return a short model card. sentence: what it was trained on."""
    figures = "\n".join(
        f"| {name} | {value:.4g} |" for name, value in sorted(summary.items()) if isinstance(value, (int, float))
    )
    made = "" if origin is None else (
        f"Made from {origin.labels} labels (sha256 `{origin.labels_sha256}`) and the base `{origin.base}`, with"
        f" {', '.join(f'{name} {version}' for name, version in versions().items())}.\n\n"
    )
    return (
        f"---\nlibrary_name: peft\ntags: [preference-studio, {config.method}, lora]\n---\n\n"
        f"# Adapter for {Path(config.model).name}, trained with {config.loss.title}\n\n{sentence}\n\n"
        f"Method: {config.loss.title} ({config.loss.source}). Base model: `{config.model}`. The settings are in"
        f" `training_config.json`, the figures at the end of training below and in `metrics.json`.\n\n{made}"
        f"| figure | value |\n|---|---|\n{figures}\n"
    )


def _provenance(config: TrainingConfig, origin: Origin) -> dict[str, Any]:
    return {
        "base_model": config.model, "base_identity": origin.base, "labels_sha256": origin.labels_sha256,
        "labels": origin.labels, "versions": versions(),
    }


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False), encoding="utf-8")
