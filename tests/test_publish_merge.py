"""Merged weights load in plain transformers and answer token for token as the adapter does; a folder is whole or not there."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import peft
import pytest
import safetensors.torch
import torch
import transformers
from tests.publish_world import GREEDY, QUESTIONS, elsewhere, finished_run
from tests.tiny_models import save_tiny_adapter, save_tiny_model, tiny_tokenizer

from errors import ModelError
from models import catalog
from models.loading import load_base
from publish import adapter, merge, merging, weights
from training.background import Progress
from publish.source import PublishError
from storage import Run, Store

ROOT = Path(__file__).resolve().parents[1]
IDS = torch.tensor([[5, 9, 33, 70, 8, 120], [61, 6, 7, 8, 9, 10]])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with three finished runs of the demo: LoRA, DoRA and rank-stabilised LoRA."""
    store = Store(tmp_path_factory.mktemp("world") / "data")
    finished_run(store)
    finished_run(store, lora_dora=True)
    finished_run(store, lora_rslora=True)
    yield store
    store.close()


@pytest.mark.parametrize("run_id", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)], ids=["LoRA", "DoRA", "rsLoRA"])
def test_merged_weights_answer_token_for_token_as_the_adapter_does(world: Store, run_id: int, tmp_path: Path) -> None:
    report = merge.execute(world, run_id, tmp_path / "merged", "float32")
    adapter.copy(world, run_id, tmp_path / "adapter", include_base=True)
    asked = json.dumps(QUESTIONS)
    merged = json.loads(elsewhere(GREEDY, ".", "", asked, folder=tmp_path / "merged"))
    tuned = json.loads(elsewhere(GREEDY, "./base", ".", asked, folder=tmp_path / "adapter"))
    base = json.loads(elsewhere(GREEDY, "./base", "", asked, folder=tmp_path / "adapter"))
    assert merged["answers"] == tuned["answers"] != base["answers"] and not merged["peft"]
    assert (report.dtype, report.layers) == ("float32", 28) and report.noise < 1e-4 and report.notes == ""


def test_a_merged_folder_is_the_bases_with_other_weights(world: Store, tmp_path: Path) -> None:
    report = merge.execute(world, 1, tmp_path / "merged")
    folder, base = tmp_path / "merged", catalog.DEMO_FOLDER
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        assert (folder / name).read_bytes() == (base / name).read_bytes(), name
    assert json.loads((folder / "config.json").read_text()) == json.loads((base / "config.json").read_text())
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    assert tensors.keys() == safetensors.torch.load_file(base / "model.safetensors").keys()
    assert {each.dtype for each in tensors.values()} == {torch.bfloat16} and report.dtype == "bfloat16"
    assert report.noise > 0.01 and "float32 adds none" in report.notes
    card = (folder / "README.md").read_text()
    (program,) = re.findall(r"```python\n(.+?)```", card, re.DOTALL)
    assert elsewhere(program, folder=folder).strip() and report.notes in card
    kept = json.loads((folder / "provenance.json").read_text())
    assert (kept["base_model"], kept["merged_run"], kept["labels"]) == ("preference-studio-demo", 1, 12)
    assert not any(str(ROOT) in path.read_text(errors="replace") for path in folder.glob("*") if path.suffix in (".json", ".md"))


PATTERNS = {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 5}}
DORA, RSLORA = {"use_dora": True}, {"use_rslora": True}


@pytest.mark.parametrize(("kind", "settings"), [
    ("llama", {}), ("llama", RSLORA), ("llama", PATTERNS), ("qwen2", DORA), ("gpt2", {}), ("gpt2", DORA), ("gemma2", DORA),
])
def test_a_merged_layer_computes_what_peft_does(kind: str, settings: dict, tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model", kind)
    own = {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True} if kind == "gpt2" else {}
    path = save_tiny_adapter(folder, tmp_path / "a", **{**own, **settings})
    base = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        expected = peft.PeftModel.from_pretrained(base, path).eval()(input_ids=IDS).logits
        loaded = weights.load(str(folder), "float32")
        weights.merge(loaded.model, "run-1", path)
        weights.write(loaded, tmp_path / "merged")
        found = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged")(input_ids=IDS).logits
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-3)


def test_sums_are_rounded_once_from_float32(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model")
    loaded = load_base(str(folder), "cpu", torch.bfloat16)
    loaded.model.save_pretrained(folder)
    path = save_tiny_adapter(folder, tmp_path / "a")
    exact, rounded = weights.load(str(folder), "float32").model, weights.load(str(folder)).model
    weights.merge(exact, "run-1", path)
    assert 0 < weights.merge(rounded, "run-1", path)[1] < 0.02
    assert rounded.dtype == torch.bfloat16
    for (name, ours), theirs in zip(exact.named_parameters(), rounded.parameters()):
        assert torch.equal(ours.bfloat16(), theirs), name


def test_a_tokenizer_whose_files_are_not_enough_is_written_anew(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model")
    loaded = load_base(str(folder), "cpu")
    (folder / "tokenizer.json").unlink()
    weights.write(loaded, tmp_path / "merged")
    written = transformers.AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert written.chat_template == tiny_tokenizer().chat_template and written("thé")["input_ids"] == tiny_tokenizer()("thé")["input_ids"]


def test_an_old_config_keeps_its_own_names(tmp_path: Path) -> None:
    folder = save_tiny_model(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    del config["dtype"]
    old = {**config, "torch_dtype": "float32", "rope_theta": 500.0}
    del old["rope_parameters"]
    (folder / "config.json").write_text(json.dumps(old))
    weights.write(weights.load(str(folder), "bfloat16"), tmp_path / "merged")
    assert json.loads((tmp_path / "merged" / "config.json").read_text()) == {**old, "torch_dtype": "bfloat16"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Run]]:
    """A store with one finished run of a tiny model."""
    folder = tmp_path_factory.mktemp("tiny")
    store = Store(folder / "data")
    yield store, finished_run(store, str(save_tiny_model(folder / "model")), steps=2)
    store.close()


def left(tmp_path: Path) -> list[str]:
    return [path.name for path in tmp_path.iterdir()]


def test_nothing_is_overwritten_and_a_full_disk_is_seen_before(tiny: tuple[Store, Run], tmp_path: Path, monkeypatch) -> None:
    store, run = tiny
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    for target in ("full", "full/mine.txt"):
        with pytest.raises(PublishError, match="nothing is overwritten"):
            merge.execute(store, run.id, tmp_path / target)
    monkeypatch.setattr(adapter.shutil, "disk_usage", lambda place: type("usage", (), {"free": 1000}))
    with pytest.raises(PublishError, match="0 MB left"):
        merge.execute(store, run.id, tmp_path / "out")
    assert left(tmp_path) == ["full"] and (tmp_path / "full" / "mine.txt").read_text() == "keep"
    assert "MB left" in merging.MERGE.status(store, run.id).line


def test_an_empty_folder_is_filled_and_a_merging_that_was_killed_is_cleared_away(tiny: tuple[Store, Run], tmp_path: Path) -> None:
    store, run = tiny
    (tmp_path / "out").mkdir()
    (tmp_path / f"out.run-{run.id}.unfinished").mkdir()
    (tmp_path / f"out.run-{run.id}.unfinished" / "half.safetensors").write_text("x")
    merge.execute(store, run.id, tmp_path / "out")
    assert left(tmp_path) == ["out"] and not (tmp_path / "out" / "half.safetensors").exists()


@pytest.mark.parametrize(("error", "words"), [
    (OSError(28, "No space left on device"), "the disk is full"), (MemoryError(), "memory ran out"),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "memory ran out"),
])
def test_a_disk_or_memory_that_ends_while_writing_leaves_nothing(tiny, tmp_path, monkeypatch, error, words) -> None:
    store, run = tiny

    def breaks(loaded: object, folder: Path) -> None:
        folder.mkdir()
        (folder / "half").write_text("half")
        raise error

    monkeypatch.setattr(weights, "write", breaks)
    with pytest.raises(PublishError, match=words):
        merge.execute(store, run.id, tmp_path / "out")
    assert left(tmp_path) == [] and words in merging.MERGE.status(store, run.id).line


def test_a_diverged_adapter_another_base_and_a_strange_dtype_are_refused(tiny: tuple[Store, Run], tmp_path: Path) -> None:
    store, run = tiny
    path = save_tiny_adapter(Path(run.model), tmp_path / "a")
    kept = safetensors.torch.load_file(path / "adapter_model.safetensors")
    for scale, dtype, words in ((float("nan"), "float32", "diverged"), (1e5, "float16", "too large for torch.float16")):
        safetensors.torch.save_file({key: value * scale for key, value in kept.items()}, path / "adapter_model.safetensors")
        with pytest.raises(PublishError, match=words):
            weights.merge(weights.load(run.model, dtype).model, "run-1", path)
    with pytest.raises(ModelError, match="does not fit its base"):
        weights.merge(weights.load(str(save_tiny_model(tmp_path / "wide", hidden_size=64))).model, "run-1", path)
    with pytest.raises(PublishError, match='no dtype "int8"'):
        merge.execute(store, run.id, tmp_path / "out", "int8")


def test_weights_that_changed_since_training_are_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "data")
    run = finished_run(store, str(save_tiny_model(tmp_path / "model")), steps=2)
    save_tiny_model(tmp_path / "model", seed=7)
    with pytest.raises(ModelError, match="trained on other weights"):
        merge.execute(store, run.id, tmp_path / "out")
    store.close()


def test_a_run_trained_in_4_bits_says_that_it_is_merged_into_the_whole_base(tiny: tuple[Store, Run]) -> None:
    quantized = Run(**{**tiny[1].__dict__, "config": {"quantization": "4bit"}})
    assert "base in 4 bits" in merge._notes(quantized, "bfloat16", 0.0) and merge._notes(tiny[1], "bfloat16", 0.0) == ""


def wait_for(true: object, seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_the_web_side_starts_a_process_and_follows_it_to_its_end(tiny: tuple[Store, Run]) -> None:
    store, run = tiny
    assert merging.merged_folder(store, run.id) is None
    merging.start(store, run.id)
    assert merging.MERGE.status(store, run.id).active
    with pytest.raises(PublishError, match="at work already"):
        merging.start(store, run.id)
    wait_for(lambda: not merging.MERGE.status(store, run.id).active)
    said = merging.MERGE.status(store, run.id).line
    assert said.startswith("Run 1 is merged: 0 MB in float32 in "), said
    assert merging.merged_folder(store, run.id) == store.folder / "merged" / "run-1"
    with pytest.raises(PublishError, match="nothing is overwritten"):
        merging.start(store, run.id)


def test_a_merging_is_stopped_by_the_page_and_by_a_signal(tiny: tuple[Store, Run], tmp_path: Path) -> None:
    store, run = tiny
    log = store.runs.folder(run.id) / merging.MERGE.log_name()
    merging.MERGE.stop_file(store, run.id).touch()
    with pytest.raises(PublishError, match="was stopped; nothing was kept"):
        merge.execute(store, run.id, tmp_path / "out")
    words = ["--data", str(store.folder), "--run", str(run.id), "--out", str(tmp_path / "out")]
    told = log.stat().st_size
    process = subprocess.Popen([sys.executable, "-m", "publish.merge", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    lock = merging.MERGE.lock(store, run.id)
    wait_for(lock.is_held)
    wait_for(lambda: log.stat().st_size > told)  # its first line comes after it takes signals
    os.kill(process.pid, signal.SIGTERM)
    assert "was stopped" in process.communicate(timeout=120)[0] and process.returncode == 2
    assert left(tmp_path) == [] and not merging.MERGE.stop_file(store, run.id).exists()
    log.write_text("12:00:00 Loading …\n")
    assert merging.MERGE.status(store, run.id).active
    os.utime(log, (1, 1))
    assert merging.MERGE.status(store, run.id) == Progress(merging.MERGE.died)
