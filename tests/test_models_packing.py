"""A packed line gives what padded rows give: the same log-probs, the same gradients, for less work."""

from __future__ import annotations

import random

import peft
import pytest
import torch
from tests.tiny_models import tiny_model

from models.fused import _gated_forward, fuse
from models.logps import collate, packed_logps, response_logps
from models.packed_attention import NotPackable, block_mask
from models.packing import by_prompt, pack, packed_tokens
from models.prompting import Rendered
from models.recompute import recompute_layers


def tokens(count: int, seed: int) -> list[int]:
    source = random.Random(seed)
    return [source.randrange(5, 200) for _ in range(count)]


def some_rows() -> list[Rendered]:
    """Two responses to a short prompt, three to a long one, one to a prompt of one token."""
    short, long, single = tokens(7, 1), tokens(30, 2), tokens(1, 3)
    lengths = [(short, 5), (long, 12), (short, 1), (long, 3), (single, 8), (long, 1)]
    return [Rendered(prompt + tokens(count, 10 + place), len(prompt)) for place, (prompt, count) in enumerate(lengths)]


def adapted(kind: str, **overrides: object) -> peft.PeftModel:
    model = tiny_model(kind, **overrides).requires_grad_(False)
    torch.manual_seed(1)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")).eval()
    for name, weight in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return wrapped


def gradients(model: torch.nn.Module, logps: torch.Tensor) -> torch.Tensor:
    """Return the gradient of a weighted sum of rows, so that no row can take another's place."""
    model.zero_grad(set_to_none=True)
    (logps * torch.arange(1.0, len(logps) + 1)).sum().backward()
    return torch.cat([weight.grad.reshape(-1) for weight in model.parameters() if weight.requires_grad])


def test_a_line_holds_every_prompt_once() -> None:
    """[1 2 | 3 4] and [1 2 | 5] and [6 | 7]: the prompt 1 2 stands once, positions restart after each prompt."""
    packed = pack([Rendered([1, 2, 3, 4], 2), Rendered([6, 7], 1), Rendered([1, 2, 5], 2)])
    assert packed.ids.tolist() == [[1, 2, 3, 4, 5, 6, 7]]
    assert packed.positions.tolist() == [[0, 1, 2, 3, 2, 0, 1]]
    assert packed.predicting.tolist() == [1, 2, 1, 5]
    assert packed.targets.tolist() == [3, 4, 5, 7]
    assert packed.rows.tolist() == [0, 0, 2, 1]
    groups, parts = packed.spans
    assert groups.tolist() == [0, 0, 0, 0, 0, 1, 1] and parts.tolist() == [0, 0, 1, 1, 2, 0, 1]


def test_prompts_are_shared_only_when_equal_token_for_token() -> None:
    rows = [Rendered([1, 2, 3], 2), Rendered([1, 2, 3], 1), Rendered([1, 2, 4], 2)]
    assert by_prompt(rows) == [[0, 2], [1]]
    assert packed_tokens(rows) == 2 + 1 + 1 + 1 + 2 == pack(rows).ids.shape[1]


PACKABLE = {
    "llama": {}, "qwen2": {}, "qwen3": {}, "qwen3_moe": {}, "gemma3_text": {}, "mistral": {"sliding_window": 8},
    "phi3": {}, "olmo2": {}, "gpt2": {}, "gpt_neox": {}, "starcoder2": {}, "cohere": {}, "granite": {}, "mixtral": {},
}


@pytest.mark.parametrize("kind", PACKABLE)
def test_packed_rows_score_and_learn_as_padded_ones(kind: str) -> None:
    model, rows = adapted(kind, **PACKABLE[kind]), some_rows()
    padded, lengths = response_logps(model, collate(rows, 0))
    expected = gradients(model, padded)
    packed, packed_lengths = packed_logps(model, pack(rows))
    assert torch.allclose(packed, padded, atol=2e-4) and torch.equal(lengths, packed_lengths)
    found = gradients(model, packed)
    assert (found - expected).norm() <= 1e-4 * expected.norm()
    with torch.no_grad():
        assert torch.allclose(packed_logps(model, pack(rows))[0], padded, atol=2e-4)


@pytest.mark.parametrize(
    ("kind", "why"), [("gemma2", "softcap"), ("jamba", "not attention"), ("qwen3_next", "not attention")]
)
def test_models_that_bend_attention_are_refused(kind: str, why: str) -> None:
    model = tiny_model(kind)
    before = model.config._attn_implementation
    with torch.no_grad(), pytest.raises(NotPackable, match=why):
        packed_logps(model, pack(some_rows()))
    assert model.config._attn_implementation == before


def test_a_block_mask_shows_what_attention_by_prompt_shows() -> None:
    """For FlexAttention on a GPU: the dense form of its mask is compared with what each token may see."""
    packed = pack(some_rows())
    places = packed.ids.shape[1]
    groups, parts = (each.tolist() for each in packed.spans)
    positions = packed.positions[0].tolist()
    for window in (None, 6):
        sees = block_mask(packed, window).mask_mod
        line = torch.arange(places)
        dense = sees(torch.tensor(0), torch.tensor(0), line[:, None], line[None, :])
        for query in range(places):
            seen = [
                key for key in range(places)
                if groups[key] == groups[query] and parts[key] in (0, parts[query])
                and positions[key] <= positions[query] and (window is None or positions[query] - positions[key] < window)
            ]
            assert dense[query].nonzero().flatten().tolist() == seen


def test_attention_through_a_block_mask_equals_attention_by_prompt() -> None:
    from torch.nn.attention.flex_attention import flex_attention

    from models.packed_attention import _by_group, _Line

    packed = pack(some_rows())
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, 4, packed.ids.shape[1], 16)
    by_group = _by_group(_Line(packed), query, key[:, :2], value[:, :2], None, None)
    flexed = flex_attention(query, key[:, :2], value[:, :2], block_mask=block_mask(packed), enable_gqa=True)
    assert torch.allclose(by_group, flexed, atol=1e-5)


@pytest.mark.parametrize(("kind", "settings"), [("llama", {}), ("qwen2", {"use_rslora": True})])
def test_fused_layers_give_what_peft_gives(kind: str, settings: dict) -> None:
    rows = collate(some_rows(), 0)
    model = tiny_model(kind).requires_grad_(False)
    config = peft.LoraConfig(r=4, lora_alpha=3, target_modules="all-linear", task_type="CAUSAL_LM", **settings)
    wrapped = peft.get_peft_model(model, config).eval()
    for name, weight in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    expected = response_logps(wrapped, rows)[0]
    slopes = gradients(wrapped, expected)
    assert fuse(wrapped) == 14
    assert sum(getattr(module.forward, "__func__", None) is _gated_forward for module in wrapped.modules()) == 2
    found = response_logps(wrapped, rows)[0]
    assert torch.allclose(found, expected, atol=1e-4)
    assert (gradients(wrapped, found) - slopes).norm() <= 1e-5 * slopes.norm()
    with wrapped.disable_adapter(), torch.no_grad():
        assert torch.equal(response_logps(wrapped, rows)[0], response_logps(tiny_model(kind), rows)[0])


@pytest.mark.parametrize("settings", [{"use_dora": True}, {"lora_dropout": 0.5}, {"lora_bias": True}])
def test_what_is_not_plain_lora_keeps_pefts_forward(settings: dict) -> None:
    config = peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", **settings)
    assert fuse(peft.get_peft_model(tiny_model("llama"), config)) == 0


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2"])
def test_layers_that_are_computed_again_give_the_same_gradients(kind: str) -> None:
    model, rows = adapted(kind), some_rows()

    def score() -> torch.Tensor:
        if kind == "gemma2":
            return response_logps(model, collate(rows, 0))[0]
        return packed_logps(model, pack(rows))[0]

    expected = gradients(model, score())
    seen = []
    layer = next(module for name, module in model.named_modules() if name.endswith("layers.1") or name.endswith("h.1"))
    assert recompute_layers(model)
    layer.register_forward_pre_hook(lambda *_: seen.append("called"))
    inner = next(module for module in layer.modules() if isinstance(module, peft.tuners.lora.Linear))
    inner.register_forward_pre_hook(lambda *_: seen.append("computed"))
    assert torch.equal(gradients(model, score()), expected)
    assert seen.count("called") == 1 and seen.count("computed") == 2
