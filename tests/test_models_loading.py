"""Loading a base model, and the sentence for each thing that can be wrong with one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from tests.tiny_models import save_tiny_model, tiny_tokenizer

from errors import ConfigError, ModelError
from models.loading import context_limit, load_base, pick_device, pick_dtype


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model"))


def copy_of(folder: Path, target: Path) -> Path:
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def test_a_model_is_loaded_for_use_in_float32_on_the_cpu(folder: Path) -> None:
    loaded = load_base(str(folder), "cpu")
    assert loaded.dtype == loaded.model.dtype == torch.float32
    assert not loaded.model.training and not any(weight.requires_grad for weight in loaded.model.parameters())
    assert context_limit(loaded.model) == 512
    assert loaded.name == str(folder)


def test_weights_stored_in_half_precision_are_computed_in_float32_on_the_cpu(folder: Path, tmp_path: Path) -> None:
    half = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    half.save_pretrained(tmp_path / "half")
    tiny_tokenizer().save_pretrained(tmp_path / "half")
    assert load_base(str(tmp_path / "half"), "cpu").model.dtype == torch.float32


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_precision_that_was_asked_for_is_the_models(folder: Path, precision: str) -> None:
    loaded = load_base(str(folder), "cpu", precision=precision)
    assert loaded.dtype == loaded.model.dtype == getattr(torch, precision)


@pytest.mark.parametrize(
    ("capability", "for_answers", "for_training"),
    [((9, 0), "bfloat16", "bfloat16"), ((7, 5), "float32", "float16"), ((6, 1), "float32", "float32")],
)
def test_the_precision_follows_the_gpu(capability, for_answers, for_training, monkeypatch) -> None:
    """A T4 (7.5) is fast in float16 and has no bfloat16; a GTX 10 (6.1) is slow in both."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    device = torch.device("cuda")
    assert pick_dtype(device) == getattr(torch, for_answers)
    assert pick_dtype(device, "auto") == getattr(torch, for_training)
    assert pick_dtype(torch.device("cpu"), "auto") == torch.float32


def test_four_bits_without_a_gpu_are_an_error_that_says_what_to_choose(folder: Path) -> None:
    with pytest.raises(ConfigError, match="needs an NVIDIA GPU.*quantization to none"):
        load_base(str(folder), "cpu", quantization="4bit")


def test_a_tokenizer_without_a_pad_token_pads_with_its_end_token(folder: Path, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(copy_of(folder, tmp_path / "m"))
    loaded = load_base(str(tmp_path / "m"), "cpu")
    assert loaded.tokenizer.pad_token_id == loaded.tokenizer.eos_token_id == 2


def test_no_chat_template_is_an_error_that_says_what_to_choose(folder: Path, tmp_path: Path) -> None:
    target = copy_of(folder, tmp_path / "m")
    (target / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="no chat template.*instruct"):
        load_base(str(target), "cpu")


def test_broken_weights_are_an_error_that_names_the_folder(folder: Path, tmp_path: Path) -> None:
    target = copy_of(folder, tmp_path / "m")
    (target / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(ModelError, match=f"cannot be loaded from {target}"):
        load_base(str(target), "cpu")


@pytest.mark.parametrize(
    ("change", "words"),
    [({"model_type": "nonesuch"}, "does not know the architecture"), ({"is_encoder_decoder": True}, "not a causal")],
)
def test_other_kinds_of_model_are_refused(change: dict, words: str, folder: Path, tmp_path: Path) -> None:
    target = copy_of(folder, tmp_path / "m")
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(ModelError, match=words):
        load_base(str(target), "cpu")


def test_no_hub_in_reach_is_a_sentence_about_the_connection(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="hub cannot be reached.*demo"):
        load_base("nobody-at-all/no-such-model", "cpu")


def test_a_device_that_is_not_there_is_an_error() -> None:
    assert pick_device("cpu").type == "cpu"
    assert pick_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(ModelError, match="is no device"):
        pick_device("toaster")
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="no GPU"):
            pick_device("cuda")
