"""One contender of the training benchmark in a process of its own: trains one epoch and reports what it took.

Run by `benchmarks.training`: `python -m benchmarks.training_contenders '{"contender": "ours", …}'`; the last line of
the output is the report as JSON. Does not know the other contenders' figures.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import peft
import torch
import transformers

from benchmarks import training_world as world
from benchmarks.training_flops import Group, product_rates, run_flops
from benchmarks.training_task import Memory, Task, counted_synchronisations, fingerprint
from models.loading import LoadedModel
from models.prompting import render
from training.batching import BatchOrder
from training.config import build
from training.dataset import PairedExample, UnpairedExample
from training.trainer import train

LORA = {"r": 16, "lora_alpha": 16, "lora_dropout": 0.0, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
LEARNING_RATE, BETA, SEED = 5e-4, 0.1, 0


def run_ours(task: Task) -> dict[str, Any]:
    """Train with this project, then once more with the references of the first run kept."""
    kept = Kept()
    model = world.random_model(task.size, task.device, task.dtype)
    memory = Memory(task.device)
    report = _ours_once(task, model, kept)
    report["peak_bytes"], report["base_bytes"] = memory.peak(), memory.base
    if not task.settings.get("once"):
        model = world.random_model(task.size, task.device, task.dtype)
        with counted_synchronisations(task.device) as found:
            again = _ours_once(task, model, kept)
        report["again"] = {name: again[name] for name in ("reference_seconds", "training_seconds", "losses")}
        report["synchronisations"] = found
    return report


class Kept:
    """Reference log-probs kept from one run to the next, as the database keeps them."""

    def __init__(self) -> None:
        self._values: dict[bytes, float] = {}

    def get(self, keys: list[bytes]) -> dict[bytes, float]:
        """Return what is known of some keys."""
        return {key: self._values[key] for key in keys if key in self._values}

    def put(self, values: dict[bytes, float]) -> None:
        """Keep values."""
        self._values.update(values)


def _ours_once(task: Task, model: torch.nn.Module, kept: Kept) -> dict[str, Any]:
    device = torch.device(task.device)
    loaded = LoadedModel(model, world.tokenizer(), device, task.dtype, f"random {task.size}")
    examples = task.examples
    changes = {name: value for name, value in task.settings.items() if name != "once"}
    settings = {
        "beta": BETA, "learning_rate": LEARNING_RATE, "steps": len(examples) // task.batch_size, "seed": SEED,
        "batch_size": task.batch_size, "lora_rank": LORA["r"], "lora_alpha": LORA["lora_alpha"], "warmup_ratio": 0,
        "max_length_tokens": world.LONGEST, "held_out_share": 0, "device": task.device, **changes,
    }
    config = build(task.method, loaded.name, settings, None, model.config.to_dict())
    losses: list[float] = []
    lines: list[str] = []
    started, worked = time.perf_counter(), time.process_time()
    result = train(
        examples, loaded, config, lambda step, metrics: losses.append(metrics["loss"]), say=lines.append,
        references=kept,
    )
    seconds = time.perf_counter() - started
    reference = result.summary.get("reference_seconds", 0.0)
    return {
        "reference_seconds": reference, "training_seconds": seconds - reference, "losses": losses, "said": lines,
        "tokens": fingerprint(ours_rows(examples, loaded.tokenizer)),
        "processor_seconds": time.process_time() - worked,
    }


def ours_rows(examples: Iterable[PairedExample | UnpairedExample], tokenizer: Any) -> Iterator[list[int]]:
    """Return the ids of every row that this project scores with a gradient."""
    for example in examples:
        both = isinstance(example, PairedExample)
        for text in (example.chosen, example.rejected) if both else (example.response,):
            yield render(tokenizer, example.messages, text).ids


def run_trl(task: Task) -> dict[str, Any]:
    """Train with TRL on the same examples in the same order. settings: of its config."""
    import datasets
    import trl

    logging.disable(logging.WARNING)
    datasets.disable_progress_bars()
    examples = task.examples
    order = BatchOrder([getattr(example, "desirable", True) for example in examples], task.batch_size, SEED).epoch(0)
    rows = datasets.Dataset.from_list([_trl_row(examples[index]) for index in order])
    kind = trl.KTOTrainer if task.method == "kto" else trl.DPOTrainer
    config = trl.KTOConfig if task.method == "kto" else trl.DPOConfig
    times = {"reference": 0.0}
    losses: list[torch.Tensor] = []

    class Timed(kind):
        """TRL's trainer; notes when it scores the reference beforehand, and every loss before it is rounded."""

        def _precompute_ref_logps(self, *arguments: Any, **named: Any) -> Any:
            started = time.perf_counter()
            try:
                return super()._precompute_ref_logps(*arguments, **named)
            finally:
                times["reference"] += time.perf_counter() - started

        def compute_loss(self, *arguments: Any, **named: Any) -> Any:
            loss = super().compute_loss(*arguments, **named)
            losses.append(loss.detach())
            return loss

    model = world.random_model(task.size, task.device, task.dtype)
    memory = Memory(task.device)
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "output_dir": folder, "beta": BETA, "learning_rate": LEARNING_RATE, "num_train_epochs": 1, "seed": SEED,
            "per_device_train_batch_size": task.batch_size, "train_sampling_strategy": "sequential",
            "logging_steps": 1, "report_to": [], "save_strategy": "no", "disable_tqdm": True,
            "use_cpu": task.device == "cpu", "bf16": task.device != "cpu", **task.settings,
        }
        arguments, worked = config(**settings), time.process_time()
        trainer = Timed(
            model, args=arguments, train_dataset=rows, processing_class=world.tokenizer(),
            peft_config=peft.LoraConfig(**LORA),
        )
        prepared = time.perf_counter()
        with counted_synchronisations(task.device) as found:
            trainer.train()
        seconds, worked = time.perf_counter() - prepared, time.process_time() - worked
    parts = arguments.gradient_accumulation_steps
    means = torch.stack(losses).float().reshape(-1, parts).mean(1).tolist()
    return {
        "reference_seconds": times["reference"], "training_seconds": seconds, "losses": means,
        "peak_bytes": memory.peak(), "base_bytes": memory.base, "synchronisations": found,
        "processor_seconds": worked,
        "tokens": fingerprint(
            row["prompt_ids"] + row[name] for row in trainer.train_dataset
            for name in ("chosen_ids", "rejected_ids", "completion_ids") if name in row
        ),
    }


def _trl_row(example: PairedExample | UnpairedExample) -> dict[str, Any]:
    def answer(text: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": text}]

    if isinstance(example, PairedExample):
        return {
            "prompt": example.messages, "chosen": answer(example.chosen), "rejected": answer(example.rejected),
        }
    return {"prompt": example.messages, "completion": answer(example.response), "label": example.desirable}


def main() -> None:
    """Read the task, train, print the report."""
    task = Task(**json.loads(sys.argv[1]))
    transformers.logging.set_verbosity_error()
    config = transformers.AutoConfig.for_model(**world.SIZES[task.size])
    before = product_rates(task.device, config.hidden_size, task.dtype)
    report = run_ours(task) if task.contender == "ours" else run_trl(task)
    report |= {"task": asdict(task), "threads": torch.get_num_threads(), "versions": _versions()}
    pairs = [Group(each.prompt, (each.chosen, each.rejected)) for each in world.lengths(task.shape, task.pairs)]
    report["flops"] = run_flops(config, task.method, pairs)
    # The faster of before and after: other work on the machine must not make the utilisation look better.
    after = product_rates(task.device, config.hidden_size, task.dtype)
    report["rates"] = {name: max(before[name], after[name]) for name in before}
    print(json.dumps(report))


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("torch", "transformers", "peft", "trl")}


if __name__ == "__main__":
    main()
