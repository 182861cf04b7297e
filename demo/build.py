"""Rebuild the embedded demo model from nothing: corpus, tokenizer, pretraining, saved folder.

    python -m demo.build                       # writes demo/model: 15 minutes on one core
    python -m demo.build --output /tmp/model --conversations 20000 --seed 1

Owns the recipe and its sizes. The same seed, thread count and library
versions give the same model. It does not know what the answers say
(`demo.corpus`) nor whether they are right (`demo.evaluate`).
"""

import argparse
import math
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from demo.corpus import conversations
from demo.evaluate import evaluate, report
from demo.tokenizer import encode_conversations, train_tokenizer

VALIDATION_CONVERSATIONS = 1_000
IGNORED = -100


@dataclass(frozen=True)
class BuildConfig:
    """Sizes and rates of one build."""

    output: Path = Path(__file__).parent / "model"
    seed: int = 0
    threads: int = 1  # two are faster on an idle machine, and round differently
    conversations: int = 36_000  # training conversations generated
    epochs: int = 1
    batch: int = 24  # conversations per step
    learning_rate: float = 3e-3  # peak
    warmup: float = 0.04  # share of the steps
    vocabulary: int = 2_048
    width: int = 256
    layers: int = 4
    heads: int = 8
    feed_forward: int = 640


def new_model(config: BuildConfig, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Return an untrained model with the tokenizer's special tokens."""
    torch.manual_seed(config.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.width,
            intermediate_size=config.feed_forward,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.heads,
            max_position_embeddings=1_024,
            tie_word_embeddings=True,
            initializer_range=0.04,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def batches(rows: list[tuple[list[int], list[int]]], size: int, rng: random.Random) -> list[list[tuple[list[int], list[int]]]]:
    """Return the rows in shuffled batches whose rows are of about the same length."""
    rows = rng.sample(rows, len(rows))
    pools = (rows[start:start + 40 * size] for start in range(0, len(rows), 40 * size))
    ordered = [row for pool in pools for row in sorted(pool, key=lambda row: len(row[0]))]
    result = [ordered[start:start + size] for start in range(0, len(ordered), size)]
    return rng.sample(result, len(result))


def answer_loss(model: LlamaForCausalLM, rows: list[tuple[list[int], list[int]]]) -> torch.Tensor:
    """Return the mean negative log-likelihood, in nats a token, of the answer tokens of `rows`."""
    length = max(len(ids) for ids, _ in rows)
    input_ids = torch.full((len(rows), length), model.config.pad_token_id)
    labels = torch.full((len(rows), length), IGNORED)
    for index, (ids, mask) in enumerate(rows):
        row = torch.tensor(ids)
        input_ids[index, : len(ids)] = row
        labels[index, : len(ids)] = torch.where(torch.tensor(mask, dtype=torch.bool), row, IGNORED)
    # Padding stands on the right, where causal attention never looks back from.
    hidden = model.model(input_ids=input_ids[:, :-1], use_cache=False).last_hidden_state
    targets = labels[:, 1:]
    scored = targets != IGNORED
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[scored]).float(), targets[scored])


def schedule(step: int, steps: int, warmup: float) -> float:
    """Return the share of the peak rate at `step` of `steps`: a linear warm-up, then a cosine down to 2%."""
    warmup_steps = max(1, round(warmup * steps))
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))


def pretrain(model: LlamaForCausalLM, rows: list[tuple[list[int], list[int]]], config: BuildConfig) -> None:
    """Train `model` in place on the answers in `rows`, printing the loss now and then."""
    rng = random.Random(config.seed)
    plan = [batch for _ in range(config.epochs) for batch in batches(rows, config.batch, rng)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    started = time.monotonic()
    running = 0.0
    for step, batch in enumerate(plan):
        loss = answer_loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * schedule(step, len(plan), config.warmup)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        running += loss.item()
        if (step + 1) % 50 == 0:
            seconds = time.monotonic() - started
            print(f"step {step + 1}/{len(plan)}  loss {running / 50:.3f}  {seconds:.0f} s", flush=True)
            running = 0.0


@torch.no_grad()
def validation_loss(model: LlamaForCausalLM, rows: list[tuple[list[int], list[int]]], batch: int) -> float:
    """Return the mean over batches of the answer loss on `rows`."""
    ordered = sorted(rows, key=lambda row: len(row[0]))
    parts = (ordered[start:start + batch] for start in range(0, len(ordered), batch))
    losses = [answer_loss(model, part).item() for part in parts]
    return sum(losses) / len(losses)


def build(config: BuildConfig) -> None:
    """Write the whole model folder and print its validation loss and its figures."""
    torch.set_num_threads(config.threads)
    started = time.monotonic()
    corpus = list(conversations(config.conversations, config.seed))
    # Another seed: the validation set shares wordings with the corpus, as it should.
    unseen = list(conversations(VALIDATION_CONVERSATIONS, config.seed + 1_000_000))
    tokenizer = train_tokenizer(corpus, config.vocabulary)
    rows = encode_conversations(tokenizer, corpus)
    tokens = sum(len(ids) for ids, _ in rows)
    model = new_model(config, tokenizer)
    print(f"{asdict(config)}\n{tokens:,} tokens, {model.num_parameters():,} parameters", flush=True)
    pretrain(model, rows, config)
    loss = validation_loss(model, encode_conversations(tokenizer, unseen), config.batch)
    print(f"validation loss {loss:.4f} after {time.monotonic() - started:.0f} s")
    save(model, tokenizer, config.output)
    print(report(evaluate(config.output, seed=config.seed)))


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, output: Path) -> None:
    """Write model and tokenizer to `output` in bfloat16."""
    output.mkdir(parents=True, exist_ok=True)
    model.generation_config.do_sample = True
    model.generation_config.temperature = 0.8
    model.generation_config.max_new_tokens = 160
    model.to(torch.bfloat16).save_pretrained(output)
    tokenizer.save_pretrained(output)
    size = sum(path.stat().st_size for path in output.iterdir())
    print(f"wrote {output}: {size / 2**20:.2f} MiB")


def main() -> None:
    """Read the command line and build."""
    defaults = BuildConfig()
    parser = argparse.ArgumentParser(description="Rebuild the embedded demo model.")
    for name, value in asdict(defaults).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value) if name != "output" else Path, default=value)
    build(BuildConfig(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
