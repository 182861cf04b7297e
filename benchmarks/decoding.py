"""Answers side by side: our one loop with each adapter on its row, against `generate` calls in turn.

Run: `python -m benchmarks.decoding [--model demo] [--threads 1]`. Prints one JSON object. It makes its own adapters
with random weights, small enough to leave the text readable. Rounds alternate between all ways, so that other work on
the machine slows each of them; processor time is given beside the clock's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import peft
import torch
import transformers

from models.adapters import Adapter, AdapterSet
from models.catalog import resolve
from models.client import Workers
from models.decoding import Decoder, Row
from models.loading import LoadedModel, load_base
from models.prompting import render_prompt
from models.wire import Sampling

QUESTION = "How do I make a cup of tea?"
ADAPTERS = 3


def make_adapter(model: str, folder: Path, rank: int, seed: int = 0) -> None:
    """Save a LoRA adapter on every linear layer with small random weights."""
    torch.manual_seed(seed)
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


@dataclass
class Bench:
    """The same models twice: in our loop, and as transformers and PEFT load them, each model by itself.

    speakers: the base (None) and the adapters; plain: a model of its own for each of them.
    """

    loaded: LoadedModel
    adapters: AdapterSet
    speakers: list[Adapter | None]
    plain: list[torch.nn.Module]
    ids: list[int]

    @classmethod
    def build(cls, model: str, rank: int, device: str, words: int = 0) -> Bench:
        """Make the adapters, load everything. words: how many stand before the question, to make it longer."""
        loaded = load_base(model, device)
        adapters = AdapterSet(loaded.model, model)
        speakers: list[Adapter | None] = [None]
        plain: list[torch.nn.Module] = [load_base(model, device).model]
        for seed in range(ADAPTERS):
            with tempfile.TemporaryDirectory() as folder:
                make_adapter(model, Path(folder), rank, seed)
                speakers.append(adapters.load(f"run-{seed + 1}", Path(folder)))
                plain.append(peft.PeftModel.from_pretrained(load_base(model, device).model, folder).eval())
        ids = render_prompt(loaded.tokenizer, [{"role": "user", "content": question(words)}])
        return cls(loaded, adapters, speakers, plain, ids)

    def together(self, count: int, tokens: int) -> list[list[int]]:
        """Write an answer of each of the first `count` speakers in one loop."""
        decoder = Decoder(self.loaded, self.adapters)
        decoder._stop_ids = frozenset()  # all ways write the same number of tokens
        rows = [Row(self.ids, Sampling(0, max_tokens=tokens), adapter) for adapter in self.speakers[:count]]
        decoder.admit(rows)
        while decoder.rows:
            decoder.step()
        return [row.new_ids for row in rows]

    def in_turn(self, models: list[torch.nn.Module], tokens: int) -> list[list[int]]:
        """Write an answer of each model with `generate`, one after another."""
        inputs = torch.tensor([self.ids], device=self.loaded.device)
        settings = {"do_sample": False, "pad_token_id": self.loaded.tokenizer.pad_token_id, "eos_token_id": None}
        mask = torch.ones_like(inputs)
        outputs = [one.generate(inputs, attention_mask=mask, max_new_tokens=tokens, **settings) for one in models]
        return [output[0, len(self.ids) :].tolist() for output in outputs]


def products(bench: Bench, rows: int) -> float:
    """Return the milliseconds that the products with the base's weights alone take for one token of each row."""
    weights = [module.weight for module in bench.loaded.model.modules() if isinstance(module, torch.nn.Linear)]
    states = {weight.shape[1]: torch.randn(rows, weight.shape[1]).to(weight) for weight in weights}

    def work() -> None:
        for weight in weights:
            torch.nn.functional.linear(states[weight.shape[1]], weight)

    with torch.inference_mode():
        return 1000 * statistics.median(timed(work)[0] for _ in range(60))


def measure(bench: Bench, tokens: int, rounds: int) -> dict[str, object]:
    """Measure all ways in alternating rounds and return the figures."""
    both, everyone = 2, 1 + ADAPTERS
    base, pair = bench.plain[:1], bench.plain[:both]
    ways: dict[str, Callable[[], list[list[int]]]] = {
        "one": lambda: bench.together(1, tokens),
        "pair": lambda: bench.together(both, tokens),
        "pair_in_turn": lambda: bench.in_turn(pair, tokens),
        "base_twice": lambda: bench.in_turn(base * 2, tokens),
        "four": lambda: bench.together(everyone, tokens),
        "four_in_turn": lambda: bench.in_turn(bench.plain, tokens),
        "first_of_one": lambda: bench.together(1, 1),
        "first_of_pair": lambda: bench.together(both, 1),
        "first_of_four": lambda: bench.together(everyone, 1),
        "first_of_pair_in_turn": lambda: bench.in_turn(pair, 1),
    }
    equal = {name: ways[name]() == ways[f"{name}_in_turn"]() for name in ("pair", "four")}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            # A first token takes milliseconds: more of them, so that one slow moment does not decide.
            for _ in range(5 if name.startswith("first") else 1):
                times[name].append(timed(work))
    wall = {name: statistics.median(pair[0] for pair in found) for name, found in times.items()}
    processor = {name: statistics.median(pair[1] for pair in found) for name, found in times.items()}

    def ratio(over: str, under: str) -> tuple[float, float]:
        return round(wall[over] / wall[under], 2), round(processor[over] / processor[under], 2)

    return {
        "prompt_tokens": len(bench.ids),
        "tokens_per_answer": tokens,
        "rounds": rounds,
        "threads": torch.get_num_threads(),
        "same_tokens": equal,
        "tokens_per_second": {
            "one": round(tokens / wall["one"], 1),
            "pair": round(both * tokens / wall["pair"], 1),
            "pair_in_turn": round(both * tokens / wall["pair_in_turn"], 1),
            "four": round(everyone * tokens / wall["four"], 1),
            "four_in_turn": round(everyone * tokens / wall["four_in_turn"], 1),
        },
        "ratios_are": "by the clock, of the processor",
        "pair": ratio("pair_in_turn", "pair"),
        "pair_against_base_twice": ratio("base_twice", "pair"),
        "four": ratio("four_in_turn", "four"),
        "pair_over_one": ratio("pair", "one"),
        "four_over_one": ratio("four", "one"),
        "step_ms": {name: round(1000 * wall[name] / tokens, 2) for name in ("one", "pair", "four")},
        "products_ms": {rows: round(products(bench, rows), 2) for rows in (1, both, everyone)},
        "first_ms": {name: round(1000 * wall[name], 2) for name in wall if name.startswith("first")},
        "first_of_pair_over_one": ratio("first_of_pair", "first_of_one"),
        "first_of_four_over_one": ratio("first_of_four", "first_of_one"),
        "first_of_pair_in_turn_over_ours": ratio("first_of_pair_in_turn", "first_of_pair"),
    }


def first_tokens_from_worker(model: str, rank: int, words: int, rounds: int) -> dict[str, object]:
    """Measure the time from asking a real worker to the first text of one answer, and of both of a pair."""
    messages = [{"role": "user", "content": question(words)}]
    times: dict[str, list[float]] = {"one": [], "pair": []}
    with tempfile.TemporaryDirectory() as folder:
        make_adapter(model, Path(folder) / "runs" / "run-1" / "adapter", rank)
        workers = Workers(Path(folder) / "runs")
        try:
            endpoint = workers.endpoint(model)

            def first(name: str) -> float:
                stream = endpoint.stream(name, messages, Sampling(0, max_tokens=4))
                start = time.perf_counter()
                next(stream)
                seconds = time.perf_counter() - start
                list(stream)
                return seconds

            with ThreadPoolExecutor(2) as pool:
                for number in range(rounds * 5):
                    for name, served in (("one", ["base"]), ("pair", ["base", "run-1"])):
                        slowest = max(pool.map(first, served))
                        if number:  # the first loads the adapter
                            times[name].append(slowest)
        finally:
            workers.stop()
    found = {name: 1000 * statistics.median(values) for name, values in times.items()}
    return {**{f"{name}_ms": round(value, 1) for name, value in found.items()},
            "pair_over_one": round(found["pair"] / found["one"], 2)}  # fmt: skip


def question(words: int) -> str:
    """Return the question, with words before it that make it longer."""
    return "Tea is good. " * (words // 3) + QUESTION


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--tokens", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--words", type=int, default=0, help="words before the question")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    bench = Bench.build(options.model, options.rank, options.device, options.words)
    figures = {"model": options.model, **measure(bench, options.tokens, options.rounds)}
    figures["first_from_worker"] = first_tokens_from_worker(options.model, options.rank, options.words, options.rounds)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
