"""Adapters stacked beside the base: each row is its own model's, and the base stays exactly the base."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import peft
import pytest
import safetensors.torch
import torch
import transformers
from tests.tiny_models import save_tiny_adapter, save_tiny_model

from errors import ModelError
from models.adapters import AdapterSet
from models.catalog import adapter_hash
from models.decoding import Decoder, Row, decode
from models.loading import LoadedModel, load_base
from models.prompting import render_prompt
from models.wire import Sampling

IDS = torch.tensor([[5, 9, 33, 70, 8, 120], [61, 6, 7, 8, 9, 10], [44, 3, 90, 8, 8, 12]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def loaded(folder: Path) -> LoadedModel:
    return load_base(str(folder), "cpu")


def adapter_set(loaded: LoadedModel) -> AdapterSet:
    return AdapterSet(loaded.model, loaded.name)


@torch.no_grad()
def peft_logits(folder: Path, adapter: Path, ids: torch.Tensor) -> torch.Tensor:
    base = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return peft.PeftModel.from_pretrained(base, adapter).eval()(input_ids=ids).logits


KINDS = {
    "plain": {},
    "rank-stabilised": {"use_rslora": True},
    "patterns": {
        "rank_pattern": {"q_proj": 2, "layers.1.mlp.up_proj": 6},
        "alpha_pattern": {"q_proj": 17, "v_proj": 5},
    },
    "few layers": {"target_modules": ["q_proj", "down_proj"]},
    "DoRA": {"use_dora": True},
}


@pytest.mark.parametrize("settings", KINDS.values(), ids=KINDS)
def test_each_row_equals_peft_with_its_adapter_and_base_rows_equal_the_base(
    settings: dict, folder: Path, loaded: LoadedModel, tmp_path: Path
) -> None:
    first = save_tiny_adapter(folder, tmp_path / "first", seed=1, rank=4, **settings)
    second = save_tiny_adapter(folder, tmp_path / "second", seed=2, rank=7, target_modules="all-linear")
    adapters = adapter_set(loaded)
    with torch.no_grad():
        base = loaded.model(input_ids=IDS).logits
        with adapters.rows([adapters.load("run-1", first), None, adapters.load("run-2", second)]):
            mixed = loaded.model(input_ids=IDS).logits
        after = loaded.model(input_ids=IDS).logits
    torch.testing.assert_close(mixed[0], peft_logits(folder, first, IDS)[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(mixed[2], peft_logits(folder, second, IDS)[2], atol=1e-4, rtol=1e-4)
    assert torch.equal(mixed[1], base[1]) and torch.equal(after, base)
    assert not torch.allclose(mixed[0], base[0], atol=0.1)


@pytest.mark.parametrize("counts", [(1, 1, 1), (2, 2, 2), (1, 2, 1)])
def test_adapters_side_by_side_equal_peft_whether_or_not_they_share_a_product(
    counts: tuple[int, ...], folder: Path, loaded: LoadedModel, tmp_path: Path
) -> None:
    few = {"target_modules": ["q_proj", "down_proj"]}
    kinds = [{"target_modules": "all-linear"}, few, {**few, "use_dora": True}, {"target_modules": ["q_proj", "v_proj"]}]
    paths = [save_tiny_adapter(folder, tmp_path / str(seed), seed=seed, **kind) for seed, kind in enumerate(kinds)]
    adapters = adapter_set(loaded)
    stacked = [adapters.load(f"run-{seed}", path) for seed, path in enumerate(paths)]
    ids = torch.arange(5 * (1 + sum(counts))).view(-1, 5) + 20
    for first in (0, 1):  # without and with DoRA among them
        chosen = [index for index, count in enumerate(counts, first) for _ in range(count)]
        with torch.no_grad():
            base = loaded.model(input_ids=ids).logits
            with adapters.rows([None, *(stacked[index] for index in chosen)]):
                mixed = loaded.model(input_ids=ids).logits
        assert torch.equal(mixed[0], base[0])
        for row, index in enumerate(chosen, 1):
            expected = peft_logits(folder, paths[index], ids[row : row + 1])[0]
            torch.testing.assert_close(mixed[row], expected, atol=1e-4, rtol=1e-4)


def test_rows_of_other_adapters_follow_a_change_of_the_batch(
    folder: Path, loaded: LoadedModel, tmp_path: Path
) -> None:
    adapters = adapter_set(loaded)
    first, second = (
        adapters.load(f"run-{seed}", save_tiny_adapter(folder, tmp_path / str(seed), seed=seed)) for seed in (1, 2)
    )
    alone = {}
    for adapter in (None, first, second):
        with torch.no_grad(), adapters.rows([adapter]):
            alone[adapter] = loaded.model(input_ids=IDS[:1]).logits
    for chosen in ([first, second], [second, first], [None, second], [second, None], [first, first], [None, first]):
        with torch.no_grad(), adapters.rows(chosen):
            found = loaded.model(input_ids=IDS[:1].expand(2, -1)).logits
        for row, adapter in enumerate(chosen):
            torch.testing.assert_close(found[row], alone[adapter][0], atol=1e-4, rtol=1e-4)


def test_a_batch_of_another_size_than_its_adapters_is_refused(
    folder: Path, loaded: LoadedModel, tmp_path: Path
) -> None:
    adapters = adapter_set(loaded)
    with adapters.rows([adapters.load("run-1", save_tiny_adapter(folder, tmp_path / "a"))]):
        with pytest.raises(ModelError, match="rows of a batch are mixed"):
            loaded.model(input_ids=IDS)


def test_an_adapter_of_a_conv1d_model_equals_peft(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "gpt2", "gpt2")
    adapter = save_tiny_adapter(folder, tmp_path / "a", target_modules=["c_attn", "c_proj"], fan_in_fan_out=True)
    loaded = load_base(str(folder), "cpu")
    adapters = adapter_set(loaded)
    with torch.no_grad(), adapters.rows([adapters.load("run-1", adapter)] * 3):
        found = loaded.model(input_ids=IDS).logits
    torch.testing.assert_close(found, peft_logits(folder, adapter, IDS), atol=1e-4, rtol=1e-4)


def test_the_base_is_token_for_token_a_fresh_load_after_adapters_were_used(folder: Path, tmp_path: Path) -> None:
    loaded = load_base(str(folder), "cpu")
    adapters = adapter_set(loaded)
    adapter = adapters.load("run-1", save_tiny_adapter(folder, tmp_path / "a"))
    ids = render_prompt(loaded.tokenizer, [{"role": "user", "content": "Hello"}])
    greedy = Sampling(temperature=0, max_tokens=40)
    decode(loaded, adapters, [Row(ids, greedy, adapter), Row(ids, greedy)])
    beside = Row(ids, greedy)
    tuned = Row(ids, greedy, adapter)
    decode(loaded, adapters, [beside, tuned])
    alone = Row(ids, greedy)
    decode(loaded, adapters, [alone])
    fresh = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    inputs = torch.tensor([ids])
    expected = fresh.generate(inputs, attention_mask=torch.ones_like(inputs), max_new_tokens=40, do_sample=False)
    expected = [token for token in expected[0, len(ids) :].tolist() if token != loaded.tokenizer.eos_token_id]
    assert alone.new_ids == beside.new_ids == expected
    assert tuned.new_ids != expected


def test_base_rows_are_a_fresh_loads_through_arrivals_departures_and_replaced_adapters(
    folder: Path, tmp_path: Path
) -> None:
    rng = random.Random(1)
    loaded = load_base(str(folder), "cpu")
    adapters = adapter_set(loaded)
    paths = {f"run-{number}": tmp_path / f"run-{number}" for number in range(4)}
    seeds = iter(range(1000))

    def train(name: str) -> None:
        shutil.rmtree(paths[name], ignore_errors=True)
        seed = next(seeds)
        kind = [{}, {"use_dora": True}, {"target_modules": ["q_proj", "down_proj"]}][seed % 3]
        save_tiny_adapter(folder, paths[name], seed=seed, rank=2 + seed % 4, **kind)

    for name in paths:
        train(name)
    decoder, base_rows = Decoder(loaded, adapters), []
    for round_number in range(40):
        if round_number % 4 == 3:
            train(rng.choice(list(paths)))  # a row that is being written keeps the one it began with
        for _ in range(rng.randint(0, 3)):
            name = rng.choice([*[None] * 4, *paths])
            text = rng.choice(["Hello", "What is a river?", "Why? " * rng.randint(1, 6), "你好吗"])
            row = Row(
                render_prompt(loaded.tokenizer, [{"role": "user", "content": text}]),
                Sampling(temperature=0 if name is None else 1.0, max_tokens=rng.randint(3, 40), seed=round_number),
                None if name is None else adapters.load(name, paths[name]),
            )
            decoder.admit([row])
            base_rows += [row] if name is None else []
        if rng.random() < 0.2:
            decoder.drop([row for row in decoder.rows if row.adapter is not None][:1])
        for _ in range(rng.randint(0, 6)):
            if decoder.rows:
                decoder.step()
    while decoder.rows:
        decoder.step()
    fresh = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert len(base_rows) > 15
    for row in base_rows:
        inputs = torch.tensor([row.prompt_ids])
        out = fresh.generate(
            inputs, attention_mask=torch.ones_like(inputs), max_new_tokens=row.sampling.max_tokens, do_sample=False
        )
        expected = [token for token in out[0, len(row.prompt_ids) :].tolist() if token != loaded.tokenizer.eos_token_id]
        assert row.new_ids == expected


def test_an_adapter_says_which_files_it_was_read_from(folder: Path, loaded: LoadedModel, tmp_path: Path) -> None:
    path = save_tiny_adapter(folder, tmp_path / "a", seed=1)
    adapters = adapter_set(loaded)
    first = adapters.load("run-1", path)
    assert first.hash == adapter_hash(path)
    save_tiny_adapter(folder, path, seed=2)
    assert first.hash != adapter_hash(path) == adapters.load("run-1", path).hash


def test_a_diverged_adapter_does_not_touch_the_base_rows(folder: Path, loaded: LoadedModel, tmp_path: Path) -> None:
    path = save_tiny_adapter(folder, tmp_path / "a")
    weights = safetensors.torch.load_file(path / "adapter_model.safetensors")
    broken = {key: torch.full_like(value, torch.nan) for key, value in weights.items()}
    safetensors.torch.save_file(broken, path / "adapter_model.safetensors")
    adapters = adapter_set(loaded)
    with torch.no_grad():
        base = loaded.model(input_ids=IDS).logits
        with adapters.rows([None, adapters.load("run-1", path), None]):
            mixed = loaded.model(input_ids=IDS).logits
    assert torch.equal(mixed[[0, 2]], base[[0, 2]]) and mixed[1].isnan().all()


def test_an_adapter_is_read_again_when_its_files_change(folder: Path, loaded: LoadedModel, tmp_path: Path) -> None:
    path = save_tiny_adapter(folder, tmp_path / "a", seed=1)
    adapters = adapter_set(loaded)
    first = adapters.load("run-1", path)
    assert adapters.load("run-1", path) is first
    shutil.rmtree(path)
    with pytest.raises(ModelError, match="no adapter in"):
        adapters.load("run-1", path)
    save_tiny_adapter(folder, path, seed=2, rank=5)
    second = adapters.load("run-1", path)
    assert second is not first and next(iter(second.layers.values())).down.shape[1] == 5


REFUSED = {
    "biases": {"bias": "all"},
    "modules_to_save": {"modules_to_save": ["lm_head"]},
    "changes the base": {"init_lora_weights": "pissa"},
    "only LoRA": {"peft_type": "IA3"},
}


@pytest.mark.parametrize("words", REFUSED)
def test_an_adapter_that_is_more_than_plain_lora_is_refused(
    words: str, folder: Path, loaded: LoadedModel, tmp_path: Path
) -> None:
    path = save_tiny_adapter(folder, tmp_path / "a")
    config = json.loads((path / "adapter_config.json").read_text())
    (path / "adapter_config.json").write_text(json.dumps({**config, **REFUSED[words]}))
    with pytest.raises(ModelError, match=words):
        adapter_set(loaded).load("run-1", path)


@pytest.mark.parametrize("layer", ["embed_tokens", "lm_head"])
def test_an_adapted_embedding_or_head_is_refused(
    layer: str, folder: Path, loaded: LoadedModel, tmp_path: Path
) -> None:
    path = save_tiny_adapter(folder, tmp_path / "a", target_modules=[layer, "q_proj"])
    with pytest.raises(ModelError, match="besides plain LoRA"):
        adapter_set(loaded).load("run-1", path)


def test_dora_without_its_lengths_is_broken(folder: Path, loaded: LoadedModel, tmp_path: Path) -> None:
    path = save_tiny_adapter(folder, tmp_path / "a")
    config = json.loads((path / "adapter_config.json").read_text())
    (path / "adapter_config.json").write_text(json.dumps({**config, "use_dora": True}))
    with pytest.raises(ModelError, match="broken at layer"):
        adapter_set(loaded).load("run-1", path)


@pytest.mark.parametrize("kind", ["gpt2", "qwen2"])
def test_dora_on_layers_with_a_bias_equals_peft(kind: str, tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / kind, kind)
    with torch.no_grad():
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.copy_(torch.linspace(-1, 1, weight.numel()).view_as(weight))
        model.save_pretrained(folder)
    adapter = save_tiny_adapter(folder, tmp_path / "a", use_dora=True)
    loaded = load_base(str(folder), "cpu")
    adapters = adapter_set(loaded)
    with torch.no_grad(), adapters.rows([adapters.load("run-1", adapter)] * 3):
        found = loaded.model(input_ids=IDS).logits
    torch.testing.assert_close(found, peft_logits(folder, adapter, IDS), atol=1e-3, rtol=1e-3)


def test_an_adapter_of_another_base_is_refused(folder: Path, tmp_path: Path) -> None:
    wider = save_tiny_model(tmp_path / "wider", hidden_size=64)
    same_shape = save_tiny_model(tmp_path / "other", seed=5)
    path = save_tiny_adapter(folder, tmp_path / "a")
    for other in (wider, same_shape):
        loaded = load_base(str(other), "cpu")
        with pytest.raises(ModelError, match="was trained on"):
            adapter_set(loaded).load("run-1", path)


def test_shapes_tell_the_base_when_its_folder_has_moved(folder: Path, loaded: LoadedModel, tmp_path: Path) -> None:
    path = save_tiny_adapter(folder, tmp_path / "a")
    config = json.loads((path / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(tmp_path / "gone")
    (path / "adapter_config.json").write_text(json.dumps(config))
    assert adapter_set(loaded).load("run-1", path).name == "run-1"
    loaded = load_base(str(save_tiny_model(tmp_path / "wider", hidden_size=64)), "cpu")
    with pytest.raises(ModelError, match="another shape|trained on another"):
        adapter_set(loaded).load("run-1", path)


def test_a_broken_file_is_an_error_that_names_it(folder: Path, loaded: LoadedModel, tmp_path: Path) -> None:
    path = save_tiny_adapter(folder, tmp_path / "a")
    (path / "adapter_model.safetensors").write_bytes(b"half a file")
    with pytest.raises(ModelError, match="cannot be read from"):
        adapter_set(loaded).load("run-1", path)
