"""Two answers side by side: our one loop with the adapter on its row, against two `generate` calls in turn.

Run: `python -m benchmarks.decoding [--model demo] [--threads 1]`. Prints one JSON object. It makes its own adapter
with random weights, small enough to leave the text readable. Rounds alternate between the two ways, so that other
work on the machine slows both; processor time is given beside the clock's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import peft
import torch
import transformers

from models.adapters import AdapterSet
from models.catalog import resolve
from models.decoding import Decoder, Row
from models.loading import load_base
from models.prompting import render_prompt
from models.wire import Sampling

QUESTION = [{"role": "user", "content": "How do I make a cup of tea?"}]


def make_adapter(model: str, folder: Path, rank: int) -> None:
    """Save a LoRA adapter on every linear layer with small random weights."""
    torch.manual_seed(0)
    base = transformers.AutoModelForCausalLM.from_pretrained(resolve(model))
    config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(base, config)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.002)
    adapted.save_pretrained(folder)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds by the clock and of the processor that some work took."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def measure(model: str, tokens: int, rounds: int, rank: int, device: str) -> dict[str, object]:
    """Measure both ways and return the figures."""
    loaded = load_base(model, device)
    plain = load_base(model, device)
    with tempfile.TemporaryDirectory() as folder:
        make_adapter(model, Path(folder), rank)
        adapters = AdapterSet(loaded.model, model)
        adapter = adapters.load("run-1", Path(folder))
        tuned = peft.PeftModel.from_pretrained(load_base(model, device).model, folder).eval()
    ids = render_prompt(loaded.tokenizer, QUESTION)
    inputs = torch.tensor([ids], device=loaded.device)
    settings = {"do_sample": False, "pad_token_id": loaded.tokenizer.pad_token_id, "eos_token_id": None}
    answers: dict[str, list[list[int]]] = {}

    def together(count: int = tokens) -> None:
        decoder = Decoder(loaded, adapters)
        decoder._stop_ids = frozenset()  # both ways write the same number of tokens
        rows = [Row(ids, Sampling(0, max_tokens=count)), Row(ids, Sampling(0, max_tokens=count), adapter)]
        decoder.admit(rows)
        while decoder.rows:
            decoder.step()
        answers["together"] = [row.new_ids for row in rows]

    def in_turn(count: int = tokens) -> None:
        outputs = [
            one.generate(inputs, attention_mask=torch.ones_like(inputs), max_new_tokens=count, **settings)
            for one in (plain.model, tuned)
        ]
        answers["in turn"] = [output[0, len(ids) :].tolist() for output in outputs]

    def base_twice() -> None:
        for _ in range(2):
            plain.model.generate(inputs, attention_mask=torch.ones_like(inputs), max_new_tokens=tokens, **settings)

    ways = {"together": together, "in_turn": in_turn, "base_twice": base_twice}
    firsts = {"first_together": lambda: together(1), "first_in_turn": lambda: in_turn(1)}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in (*ways, *firsts)}
    for round_number in range(rounds + 1):
        for name, work in (*ways.items(), *firsts.items()):
            found = timed(work)
            if round_number:  # the first warms up
                times[name].append(found)
        if round_number == 0:
            together()
            in_turn()
            equal = answers["together"] == answers["in turn"]
    wall = {name: statistics.median(pair[0] for pair in found) for name, found in times.items()}
    processor = {name: statistics.median(pair[1] for pair in found) for name, found in times.items()}
    return {
        "model": model,
        "tokens_per_answer": tokens,
        "rounds": rounds,
        "threads": torch.get_num_threads(),
        "same_tokens": equal,
        "tokens_per_second": round(2 * tokens / wall["together"], 1),
        "tokens_per_second_in_turn": round(2 * tokens / wall["in_turn"], 1),
        "ratio": round(wall["in_turn"] / wall["together"], 2),
        "ratio_processor": round(processor["in_turn"] / processor["together"], 2),
        "ratio_against_base_twice": round(wall["base_twice"] / wall["together"], 2),
        "ratio_against_base_twice_processor": round(processor["base_twice"] / processor["together"], 2),
        "first_token_ms": round(1000 * wall["first_together"], 1),
        "first_token_ratio": round(wall["first_in_turn"] / wall["first_together"], 2),
        "first_token_ratio_processor": round(processor["first_in_turn"] / processor["first_together"], 2),
    }


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--tokens", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(json.dumps(measure(options.model, options.tokens, options.rounds, options.rank, options.device)))


if __name__ == "__main__":
    main()
