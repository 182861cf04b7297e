"""The command line of publishing, as scripts use it: every verb in its own process, one JSON object, one-line errors."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.command_line import command, refusal, result
from tests.publish_world import GREEDY, elsewhere, finished_run
from tests.tiny_models import save_tiny_model

from storage import Store


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The options of a data folder with one finished run of a tiny model."""
    folder = tmp_path_factory.mktemp("commands")
    store = Store(folder / "data")
    finished_run(store, str(save_tiny_model(folder / "model")), steps=2)
    store.close()
    yield "--data", str(folder / "data")


def test_an_adapter_is_packed_with_its_base_when_asked(data: tuple[str, str], tmp_path: Path) -> None:
    packed = result("adapter", "1", "--out", str(tmp_path), "--base", *data)
    assert packed["file"] == str(tmp_path / "run-1-adapter.zip") and packed["size_bytes"] > 1000
    with zipfile.ZipFile(packed["file"]) as zipped:
        zipped.extractall(tmp_path)
    assert json.loads(elsewhere(GREEDY, "./base", ".", '["Hi"]', folder=tmp_path / "run-1-adapter"))["answers"]
    assert "is packed" in command("adapter", "1", "--out", str(tmp_path / "new"), *data).stdout


@pytest.mark.slow
def test_a_run_is_merged_and_then_its_commands_name_the_merged_folder(data: tuple[str, str], tmp_path: Path) -> None:
    before = result("serve-commands", "1", *data)["commands"]
    assert any("--enable-lora" in line for each in before for line in each["lines"])
    report = result("merge", "1", *data)
    assert report["folder"] == str(Path(data[1]) / "merged" / "run-1") and report["layers"] == 14
    assert json.loads(elsewhere(GREEDY, ".", "", '["Hi"]', folder=Path(report["folder"])))["answers"]
    said = command("serve-commands", "1", *data).stdout
    assert f"# vLLM\nvllm serve {report['folder']} --served-model-name run-1" in said and "# Ollama" in said
    other = result("merge", "1", "--out", str(tmp_path / "other"), "--dtype", "bfloat16", *data)
    assert other["dtype"] == "bfloat16" and other["noise"] > 0
    named = result("serve-commands", "1", "--merged", str(tmp_path / "other"), *data)["commands"]
    assert any(str(tmp_path / "other") in line for each in named for line in each["lines"])


def test_what_goes_wrong_is_one_line(data: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    assert "nothing is overwritten" in refusal("merge", "1", "--out", str(tmp_path), *data)
    for verb in ("adapter", "merge", "serve-commands"):
        assert "9" in refusal(verb, "9", *data)
    assert "no-such" in refusal("serve-commands", "1", "--merged", str(tmp_path / "no-such"), *data)
    assert "int8" in refusal("merge", "1", "--dtype", "int8", *data)
