"""Answers per second of a generation, against one `generate` call after another with plain transformers.

    python -m benchmarks.candidates [PROMPTS [PER_PROMPT]]

Both ways answer the same prompts with the embedded model, temperature 1 and at most 64 tokens, on the CPU. Ours is the
whole way: worker process, requests, storing, items. The worker is started before the clock. Rounds alternate.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
import transformers

from demo.prompts import STARTERS
from models.catalog import resolve
from models.client import Sampling, Workers
from models.prompting import render_prompt
from storage import Store
from transfer.candidates.generate import generate

MAX_TOKENS = 64
ROUNDS = 3


def one_by_one(model: transformers.PreTrainedModel, tokenizer: object, prompts: list, per_prompt: int, seed: int) -> tuple:
    """Draw every answer with a call of its own; return the answers and tokens per second."""
    torch.manual_seed(seed)
    answers = tokens = 0
    began = time.perf_counter()
    for prompt in prompts:
        ids = torch.tensor([render_prompt(tokenizer, prompt)])
        for _ in range(per_prompt):
            with torch.no_grad():
                output = model.generate(
                    ids, attention_mask=torch.ones_like(ids), max_new_tokens=MAX_TOKENS, do_sample=True, top_k=0, top_p=1.0,
                    pad_token_id=tokenizer.pad_token_id,
                )
            tokenizer.decode(output[0, ids.shape[1]:], skip_special_tokens=True)
            answers, tokens = answers + 1, tokens + output.shape[1] - ids.shape[1]
    seconds = time.perf_counter() - began
    return answers / seconds, tokens / seconds


def ours(workers: Workers, folder: Path, prompts: list, per_prompt: int, seed: int) -> tuple:
    """Generate into a new project; return the answers drawn (identical ones too) and tokens per second."""
    store = Store(folder)
    project = store.projects.ensure("bench")
    for prompt in prompts:
        store.prompts.add(project.id, prompt)
    began = time.perf_counter()
    report = generate(
        store, project, workers, per_prompt=per_prompt, sampling=Sampling(temperature=1.0, max_tokens=MAX_TOKENS, seed=seed)
    )
    seconds = time.perf_counter() - began
    return report.responses / seconds, report.tokens / seconds


def main() -> None:
    """Print a line for each round, and the ratios."""
    prompts = [list(prompt) for prompt in STARTERS][: int(sys.argv[1]) if len(sys.argv) > 1 else 48]
    per_prompt = int(sys.argv[2]) if len(sys.argv) > 2 else 4
    path = resolve("demo")
    model = transformers.AutoModelForCausalLM.from_pretrained(path).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    ratios: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as name:
        workers = Workers(Path(name) / "runs", device="cpu")
        try:
            workers.endpoint("demo")
            for number in range(ROUNDS):
                theirs = one_by_one(model, tokenizer, prompts, per_prompt, number)
                mine = ours(workers, Path(name) / f"data-{number}", prompts, per_prompt, number)
                ratios.append((mine[0] / theirs[0], mine[1] / theirs[1]))
                print(
                    f"one by one {theirs[0]:.1f} answers/s, {theirs[1]:.0f} tokens/s; generation {mine[0]:.1f} answers/s,"
                    f" {mine[1]:.0f} tokens/s", flush=True,
                )
        finally:
            workers.stop()
    answers, tokens = (statistics.median(each) for each in zip(*ratios))
    print(f"{len(prompts)} prompts, {per_prompt} answers each: {answers:.1f} times the answers/s, {tokens:.1f} times the tokens/s")


if __name__ == "__main__":
    main()
