"""Print the figures of the demo model, with or without an adapter, on the held-out questions.

    python -m demo.evaluate
    python -m demo.evaluate --adapter runs/1/adapter --seed 3

Owns sampling the answers and averaging the meter. It does not know how the
model or the adapter was trained.
"""

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from demo.meter import Measure, measure
from demo.prompts import HELD_OUT, Prompt

MODEL_FOLDER = Path(__file__).parent / "model"
MAX_NEW_TOKENS = 160


@dataclass(frozen=True)
class Figures:
    """Shares over the sampled answers, all between 0 and 1, except the NLL in nats a token."""

    answers: int
    well_formed: float
    right: float
    polite: float
    plain: float
    rude: float
    concise: float
    polite_and_concise: float
    distinct: float
    nll: float  # of the answers under the base model


@torch.no_grad()
def sample(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[Prompt],
    temperature: float, seed: int, batch: int = 64,
) -> list[str]:
    """Return one sampled answer to each prompt; the caller's random state is left alone."""
    answers: list[str] = []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for start in range(0, len(prompts), batch):
            inputs = tokenizer.apply_chat_template(
                prompts[start:start + batch], add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
            )
            written = model.generate(
                **inputs, do_sample=True, temperature=temperature, top_k=0, top_p=1.0, max_new_tokens=MAX_NEW_TOKENS
            )
            answers += tokenizer.batch_decode(written[:, inputs["input_ids"].shape[1]:], skip_special_tokens=True)
    return answers


@torch.no_grad()
def mean_nll(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[Prompt], answers: list[str]) -> float:
    """Return the NLL per token, in nats, of the answers (their end marker included) under `model`."""
    total = tokens = 0.0
    for prompt, answer in zip(prompts, answers):
        start = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=True)["input_ids"]
        response = tokenizer(answer, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
        ids = torch.tensor([start + response])
        logps = model(ids).logits[0, len(start) - 1:-1].float().log_softmax(-1)
        total -= logps.gather(1, torch.tensor(response)[:, None]).sum().item()
        tokens += len(response)
    return total / tokens


def summarise(measures: list[Measure], answers: list[str], nll: float) -> Figures:
    """Return the shares over all measured answers."""
    def share(flags: list[bool]) -> float:
        return sum(flags) / len(flags)

    return Figures(
        answers=len(answers),
        well_formed=share([m.well_formed for m in measures]),
        right=share([m.right for m in measures]),
        polite=share([m.manner == "polite" for m in measures]),
        plain=share([m.manner == "plain" for m in measures]),
        rude=share([m.manner == "rude" for m in measures]),
        concise=share([m.concise for m in measures]),
        polite_and_concise=share([m.manner == "polite" and m.concise for m in measures]),
        distinct=len(set(answers)) / len(answers),
        nll=nll,
    )


def evaluate(model_folder: Path = MODEL_FOLDER, adapter: Path | None = None, temperature: float = 0.8, seed: int = 0) -> Figures:
    """Return the figures of one sampled answer to every held-out prompt."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    base = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()
    prompts = list(HELD_OUT)
    if adapter is None:
        answers = sample(base, tokenizer, prompts, temperature, seed)
    else:
        # Imported here: measuring the base needs no PEFT.
        from peft import PeftModel

        tuned = PeftModel.from_pretrained(base, adapter).eval()
        answers = sample(tuned, tokenizer, prompts, temperature, seed)
        base = tuned.unload()
    measures = [measure(prompt, answer) for prompt, answer in zip(prompts, answers)]
    return summarise(measures, answers, mean_nll(base, tokenizer, prompts, answers))


def report(figures: Figures) -> str:
    """Return the figures as lines of text."""
    return "\n".join(
        f"{name:>20} {value:.3f}" if isinstance(value, float) else f"{name:>20} {value}"
        for name, value in asdict(figures).items()
    )


def main() -> None:
    """Read the command line, evaluate and print."""
    parser = argparse.ArgumentParser(description="Measure the demo model on the held-out questions.")
    parser.add_argument("--model", type=Path, default=MODEL_FOLDER)
    parser.add_argument("--adapter", type=Path, default=None)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(report(evaluate(arguments.model, arguments.adapter, arguments.temperature, arguments.seed)))


if __name__ == "__main__":
    main()
