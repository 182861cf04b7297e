"""Whole runs against TRL 1.16: the same model, adapter, order and optimiser give the same figures step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import peft
import pytest
import torch
import transformers
import trl
from tests.tiny_models import CHATML, save_tiny_model, tiny_tokenizer
from tests.trl_world import quiet_and_tidy

from models.loading import load_base
from models.prompting import render
from training.batching import BatchOrder
from training.config import build
from training.dataset import PairedExample, UnpairedExample
from training.trainer import train

__all__ = ["quiet_and_tidy"]

STEPS, SEED, RATE, BETA = 4, 7, 5e-3, 0.3
# TRL scores what the template writes after the end of the turn, too; here nothing.
TEMPLATE = CHATML.replace("<|im_end|>\n'", "<|im_end|>'")


def ask(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"Question {number}?"}]


def answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


PAIRS = [
    PairedExample(number, number, ask(number), f"Yes, please. {'So ' * (number % 5)}", f"No {number}.")
    for number in range(12)
]
SINGLES = [
    UnpairedExample(number, number, ask(number), f"answer {'x' * (number % 7)}", number % 2 == 0)
    for number in range(16)
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, quiet_and_tidy: None) -> str:
    folder = save_tiny_model(tmp_path_factory.mktemp("tiny") / "model")
    tiny_tokenizer(TEMPLATE).save_pretrained(folder)
    return str(folder)


def ours(model: str, method: str, **changes: Any) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    """Train with this project; return the metrics of every step and the adapter's weights."""
    paired = method != "kto"
    settings = {
        "beta": BETA, "learning_rate": RATE, "steps": STEPS, "batch_size": 3 if paired else 4, "seed": SEED,
        "lora_rank": 4, "lora_alpha": 8, "warmup_ratio": 0, "held_out_share": 0, "device": "cpu", **changes,
    }
    config = build(method, model, settings, None, {"hidden_size": 32})
    found: list[dict[str, float]] = []
    result = train(
        PAIRS if paired else SINGLES, load_base(model, "cpu"), config, lambda step, metrics: found.append(dict(metrics))
    )
    return found, adapter_weights(result.model)


def adapter_weights(model: peft.PeftModel) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad}


def theirs(
    model: str, folder: Path, kind: type, config: type, rows: list[dict[str, Any]], **changes: Any
) -> tuple[list[dict[str, float]], dict[str, torch.Tensor]]:
    """Train with TRL; return what it logs of every step, with the loss as it was before rounding, and the adapter."""
    losses: list[float] = []

    class Noting(kind):
        def compute_loss(self, *arguments: Any, **named: Any) -> Any:
            loss = super().compute_loss(*arguments, **named)
            losses.append(loss.item())
            return loss

    settings = config(
        output_dir=str(folder), bf16=False, use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True,
        beta=BETA, learning_rate=RATE, max_steps=STEPS, seed=SEED, logging_steps=1,
        train_sampling_strategy="sequential", **changes,
    )
    trainer = Noting(
        transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32), args=settings,
        train_dataset=datasets.Dataset.from_list(rows), processing_class=tiny_tokenizer(TEMPLATE),
        peft_config=peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    trained = adapter_weights(trainer.accelerator.unwrap_model(trainer.model))
    return [{**entry, "loss": loss} for entry, loss in zip(logged, losses, strict=True)], trained


def assert_same_run(mine: tuple[list, dict], their: tuple[list, dict]) -> None:
    """Compare the figures of all steps and the adapters at the end."""
    keys = ("loss", "grad_norm", "learning_rate", "logps/chosen", "logps/rejected", "rewards/chosen")
    assert len(mine[0]) == len(their[0]) == STEPS
    for step, (one, other) in enumerate(zip(mine[0], their[0])):
        for key in keys:
            assert one[key] == pytest.approx(float(other[key]), rel=2e-4, abs=1e-4), (step, key)
    assert mine[1].keys() == their[1].keys()
    for name, weight in mine[1].items():
        torch.testing.assert_close(weight, their[1][name], rtol=1e-3, atol=5e-5)


@pytest.mark.parametrize(("method", "loss_type"), [("dpo", "sigmoid"), ("hinge", "hinge"), ("apo_zero", "apo_zero")])
def test_a_paired_run_is_trls_step_by_step(model, tmp_path, method, loss_type) -> None:
    """TRL as it ships otherwise: gradient checkpointing on, the reference scored in each step."""
    order = BatchOrder([True] * len(PAIRS), 3, SEED).epoch(0)
    rows = [
        {"prompt": pair.messages, "chosen": answer(pair.chosen), "rejected": answer(pair.rejected)}
        for pair in (PAIRS[index] for index in order)
    ]
    their = theirs(
        model, tmp_path, trl.DPOTrainer, trl.DPOConfig, rows, per_device_train_batch_size=3, loss_type=[loss_type]
    )
    mine = ours(model, method)
    assert mine[0][-1]["loss"] < mine[0][0]["loss"]
    assert_same_run(mine, their)


def test_a_kto_run_with_reference_point_zero_is_trls_step_by_step(model, tmp_path) -> None:
    """The form without z0, because the two draw other mismatched responses."""
    order = BatchOrder([single.desirable for single in SINGLES], 4, SEED).epoch(0)
    rows = [
        {"prompt": single.messages, "completion": answer(single.response), "label": single.desirable}
        for single in (SINGLES[index] for index in order)
    ]
    their = theirs(
        model, tmp_path, trl.KTOTrainer, trl.KTOConfig, rows, per_device_train_batch_size=4,
        loss_type="apo_zero_unpaired",
    )
    assert_same_run(ours(model, "kto", reference_point="zero"), their)


def test_trl_scores_what_the_template_writes_after_the_end_of_the_turn(model, tmp_path) -> None:
    """Known difference: with ChatML's newline after `<|im_end|>`, TRL's responses are one token longer than ours."""
    pair = PAIRS[0]
    rendered = render(tiny_tokenizer(CHATML), pair.messages, pair.chosen)
    settings = trl.DPOConfig(output_dir=str(tmp_path), bf16=False, use_cpu=True, report_to=[])
    trainer = trl.DPOTrainer(
        transformers.AutoModelForCausalLM.from_pretrained(model), args=settings,
        train_dataset=datasets.Dataset.from_list([
            {"prompt": pair.messages, "chosen": answer(pair.chosen), "rejected": answer(pair.rejected)}
        ]),
        processing_class=tiny_tokenizer(CHATML),
    )
    row = trainer.train_dataset[0]
    assert row["prompt_ids"] == rendered.ids[: rendered.prompt_length]
    assert row["chosen_ids"] == rendered.response_ids + tiny_tokenizer()("\n")["input_ids"]
