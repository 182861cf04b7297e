"""Response log-probs against the plain way: whole logits, log-softmax, gather, sum."""

from __future__ import annotations

import peft
import pytest
import torch
from tests.tiny_models import tiny_model

from models import lm_head, logps
from models.logps import Batch, collate, response_logps
from models.prompting import Rendered

KINDS = ["llama", "qwen2", "gemma2", "gpt2", "cohere", "granite"]


def a_batch(seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for prompt_length, response_length in ((5, 7), (9, 1), (2, 12)):
        ids = torch.randint(5, 250, (prompt_length + response_length,), generator=generator).tolist()
        rows.append(Rendered(ids, prompt_length))
    return collate(rows, pad_id=0)


def plain_logps(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    logits = model(input_ids=batch.ids, attention_mask=batch.attention_mask).logits.float()
    scores = torch.log_softmax(logits[:, :-1], dim=-1).gather(2, batch.ids[:, 1:, None])[..., 0]
    return (scores * batch.response_mask[:, 1:]).sum(dim=1)


def a_model(kind: str, with_adapter: bool = False) -> torch.nn.Module:
    overrides = {
        "cohere": {"logit_scale": 0.3},
        "granite": {"logits_scaling": 3.0},
        "gemma2": {"final_logit_softcapping": 2.0},
    }
    model = tiny_model(kind, **overrides.get(kind, {}))
    if not with_adapter:
        return model
    model.requires_grad_(False)
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    torch.manual_seed(1)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return adapted


@pytest.mark.parametrize("with_adapter", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_logps_equal_those_of_the_whole_logits(
    kind: str, with_adapter: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logps, "_from_full_logits", lambda *_: pytest.fail("the slow way was taken"))
    model, batch = a_model(kind, with_adapter), a_batch()
    with torch.no_grad():
        found, lengths = response_logps(model, batch)
        torch.testing.assert_close(found, plain_logps(model, batch), atol=2e-3, rtol=1e-5)
    assert found.dtype == torch.float32
    assert lengths.tolist() == [7, 1, 12]


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gpt2", "cohere"])
def test_gradients_through_a_frozen_head_equal_the_plain_ones(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lm_head, "_BLOCK_NUMBERS", 263 * 3)  # several blocks
    model, batch = a_model(kind, with_adapter=True), a_batch()
    if kind != "gpt2":  # whose Conv1D layers peft adapts too, head aside
        assert lm_head._is_frozen_linear(lm_head.find_head(model).module)
    assert_equal_gradients(model, batch)


def test_gradients_through_a_trained_tied_head_equal_the_plain_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lm_head, "_BLOCK_NUMBERS", 263 * 3)
    assert_equal_gradients(tiny_model("llama", tie_word_embeddings=True), a_batch())


def test_gradients_reach_an_adapter_on_the_head_itself() -> None:
    model = tiny_model("llama").requires_grad_(False)
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=["lm_head", "q_proj"]))
    torch.nn.init.normal_(adapted.base_model.model.lm_head.lora_B["default"].weight, std=0.1)
    assert_equal_gradients(adapted, a_batch())


@pytest.mark.parametrize("kind", ["llama", "cohere"])
def test_a_vocabulary_of_many_tiles_scores_as_the_whole_logits(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lm_head, "_TILE_TOKENS", 3)
    monkeypatch.setattr(lm_head, "_TILE_WORDS", 50)  # 263 words: five tiles and a rest
    model, batch = a_model(kind), a_batch()
    with torch.no_grad():
        assert lm_head._is_tileable(lm_head.find_head(model), torch.zeros(1))
        assert torch.allclose(response_logps(model, batch)[0], plain_logps(model, batch), atol=1e-4)


def assert_equal_gradients(model: torch.nn.Module, batch: Batch) -> None:
    weights = torch.tensor([0.7, -1.3, 0.4])
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    expected = torch.autograd.grad((plain_logps(model, batch) * weights).sum(), trained)
    found = torch.autograd.grad((response_logps(model, batch)[0] * weights).sum(), trained)
    assert sum(gradient.abs().sum() for gradient in expected) > 1
    for ours, theirs in zip(found, expected):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


def test_an_unknown_logit_transform_falls_back_to_whole_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = a_model("granite"), a_batch()
    wrong = lm_head.find_head(model)
    wrong = lm_head.Head(wrong.transformer, wrong.module, scale=1.0, cap=None)
    monkeypatch.setattr(logps, "find_head", lambda _: wrong)
    used = []
    monkeypatch.setattr(logps, "target_logps", lambda *_: used.append(True))
    torch.testing.assert_close(response_logps(model, batch)[0], plain_logps(model, batch))
    assert not used


def test_only_response_positions_reach_the_head() -> None:
    model, batch = tiny_model("llama"), a_batch()
    seen = []
    model.lm_head.register_forward_hook(lambda module, arguments, output: seen.append(output.shape[:-1].numel()))
    with torch.no_grad():
        response_logps(model, batch)
    assert sum(seen) == batch.response_mask.sum() + 2 * len(batch.ids)  # and the last position of each row, twice


def test_padding_and_company_change_nothing() -> None:
    model = tiny_model("qwen2")
    rows = [Rendered([7, 8, 9, 10], 2), Rendered(list(range(20, 50)), 10)]
    with torch.no_grad():
        together = response_logps(model, collate(rows, 0))[0]
        alone = torch.cat([response_logps(model, collate([row], 0))[0] for row in rows])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-5)


def test_a_disabled_adapter_scores_as_the_base() -> None:
    adapted, batch = a_model("llama", with_adapter=True), a_batch()
    with torch.no_grad():
        with adapted.disable_adapter():
            reference = response_logps(adapted, batch)[0]
        policy = response_logps(adapted, batch)[0]
        expected = response_logps(a_model("llama"), batch)[0]
    assert torch.equal(reference, expected)
    assert not torch.allclose(policy, expected, atol=0.1)


def test_no_hook_stays_on_the_model_even_after_an_error() -> None:
    model, batch = tiny_model("llama"), a_batch()
    broken = Batch(batch.ids + 100_000, batch.attention_mask, batch.response_mask)
    with pytest.raises(IndexError):
        response_logps(model, broken)
    assert not model.model._forward_hooks


def test_bfloat16_models_are_scored_in_float32() -> None:
    model, batch = tiny_model("llama").bfloat16(), a_batch()
    with torch.no_grad():
        found = response_logps(model, batch)[0]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, plain_logps(model, batch), atol=0.5, rtol=0.02)


def test_a_batch_without_responses_scores_zero_and_has_a_gradient() -> None:
    model = tiny_model("llama")
    batch = collate([Rendered([4, 5, 6], 3)], 0)
    found, lengths = response_logps(model, batch)
    found.sum().backward()
    assert found.tolist() == [0.0] and lengths.tolist() == [0]
