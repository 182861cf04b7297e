"""The training benchmark counts what it says it counts, and gives every contender the same tokens."""

from __future__ import annotations

import statistics

import pytest
import torch
from tests.tiny_models import tiny_model
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import training_world as world
from benchmarks.training import FIRST_LOSS, notes, table
from benchmarks.training_flops import Group, forward_flops, run_flops
from models.prompting import render


def test_the_arithmetic_of_a_row_is_what_torch_counts() -> None:
    """Torch counts attention over the whole square; a causal row needs T·(T + 1)/2 of its T² places."""
    model = tiny_model(attn_implementation="eager")
    prompt, response = 7, 4
    tokens = prompt + response
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.ones(1, tokens, dtype=torch.long), use_cache=False, logits_to_keep=response)
    unseen = tokens**2 - tokens * (tokens + 1) // 2
    config = model.config
    attention = config.num_hidden_layers * 4 * config.hidden_size * unseen
    assert counter.get_total_flops() - attention == forward_flops(config, [Group(prompt, (response,))])


def test_a_shared_prompt_is_counted_once() -> None:
    config = tiny_model().config
    both, one, other, prompt = (
        forward_flops(config, [Group(9, responses)]) for responses in ((4, 6), (4,), (6,), ())
    )
    assert both == one + other - prompt
    assert run_flops(config, "dpo", [Group(9, (4, 6))]) == {"reference": both, "training": 2 * both}


@pytest.mark.parametrize("shape", world.SHAPES)
def test_the_words_have_the_lengths_of_the_shape(shape) -> None:
    tokenizer = world.tokenizer()
    pairs = world.lengths(shape)
    for pair, text in zip(pairs, world.texts(shape), strict=True):
        messages = [{"role": "user", "content": text.prompt}]
        for response, length in ((text.chosen, pair.chosen), (text.rejected, pair.rejected)):
            rendered = render(tokenizer, messages, response, world.LONGEST)
            assert (rendered.prompt_length, len(rendered.response_ids)) == (pair.prompt, length)
            assert tokenizer.unk_token_id not in rendered.ids


def test_short_rows_have_the_medians_they_claim() -> None:
    pairs = world.lengths("short")
    assert len(pairs) == 64
    assert statistics.median(pair.prompt for pair in pairs) == pytest.approx(100, rel=0.15)
    assert statistics.median(n for pair in pairs for n in (pair.chosen, pair.rejected)) == pytest.approx(67, rel=0.15)


def report(contender: str, losses: list[float], tokens: str = "9 abc") -> dict:
    task = {"contender": contender, "pairs": 8, "size": "26m", "device": "cpu", "settings": {}}
    return {
        "task": task, "reference_seconds": 1.0, "training_seconds": 3.0, "losses": losses, "tokens": tokens,
        "processor_seconds": 7.5,
        "peak_bytes": 2_000_000_000, "base_bytes": 500_000_000, "threads": 2, "versions": {},
        "flops": {"reference": 10**9, "training": 3 * 10**9}, "rates": {"rows": 2e9, "square": 4e9},
    }


def test_the_table_gives_ratios_and_utilisation() -> None:
    ours, peer = report("ours", [FIRST_LOSS["dpo"], 0.5]), report("trl-best", [FIRST_LOSS["dpo"], 0.501])
    peer |= {"training_seconds": 39.0, "peak_bytes": 8_000_000_000}
    text = table("short", "dpo", [ours, peer])
    assert "| ours | 1.0 s | 3.0 s | 2.000 | 1.00 | 2.00 GB | 1.50 GB | 1.00 |" in text
    assert "| trl-best | 1.0 s | 39.0 s | 0.200 | 10.00 | 8.00 GB | 7.50 GB | 0.25 |" in text
    assert "50.0% of a rows product (2 GFLOP/s), 25.0% of a square product" in text


@pytest.mark.parametrize(
    ("peer", "problem"),
    [
        (report("trl-best", [0.7, 0.5]), "starts at 0.7"),
        (report("trl-best", [FIRST_LOSS["dpo"], 0.6]), "part by 0.1"),
        (report("trl-best", [FIRST_LOSS["dpo"], 0.5], "8 abc"), "different tokens"),
    ],
)
def test_a_comparison_that_is_not_fair_stops(peer, problem) -> None:
    with pytest.raises(SystemExit, match=problem):
        notes("dpo", [report("ours", [FIRST_LOSS["dpo"], 0.5]), peer])
