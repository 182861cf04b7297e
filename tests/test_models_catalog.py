"""Names of models: what they mean, and when two mean the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from errors import ModelError
from models import catalog


def a_folder(path: Path, weights: bytes = b"weights", **config: object) -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    (path / "model.safetensors").write_bytes(weights)
    return path


def test_a_folder_becomes_absolute_and_a_hub_name_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = a_folder(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    assert catalog.resolve("mine") == catalog.resolve("./mine/") == str(folder.resolve())
    assert catalog.resolve(" Qwen/Qwen3-0.6B ") == "Qwen/Qwen3-0.6B"


def test_demo_is_the_model_in_this_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "DEMO_FOLDER", a_folder(tmp_path / "demo"))
    assert catalog.resolve("demo") == str(tmp_path / "demo")
    monkeypatch.setattr(catalog, "DEMO_FOLDER", tmp_path / "none")
    with pytest.raises(ModelError, match="Build it"):
        catalog.resolve("demo")


@pytest.mark.parametrize(
    "name", ["", "  ", "nothing", "/not/there", "a/b/c", "../x", "https://hub/x", "org/na me", "org/..", "a--b/c"]
)
def test_anything_else_is_an_error_that_says_what_would_do(name: str) -> None:
    with pytest.raises(ModelError, match="org/name"):
        catalog.resolve(name)


def test_a_folder_without_a_model_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no config.json"):
        catalog.resolve(str(tmp_path))
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="adapter, not a whole model"):
        catalog.resolve(str(tmp_path))


def test_architecture_reads_the_config_and_names_a_broken_one(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "m", hidden_size=7)
    assert catalog.architecture(str(folder))["hidden_size"] == 7
    assert catalog.architecture("org/name") == {}
    (folder / "config.json").write_text("[")
    with pytest.raises(ModelError, match=r"config\.json cannot be read"):
        catalog.architecture(str(folder))


def test_identity_survives_a_move_and_changes_with_the_weights(tmp_path: Path) -> None:
    first = catalog.identity(str(a_folder(tmp_path / "a", b"x" * 10)))
    assert first == catalog.identity(str(a_folder(tmp_path / "b", b"x" * 10, transformers_version="9")))
    assert first != catalog.identity(str(a_folder(tmp_path / "c", b"x" * 9 + b"y")))
    assert first != catalog.identity(str(a_folder(tmp_path / "d", b"x" * 10, hidden_size=1)))
    assert catalog.identity("org/name") == "org/name"


def an_adapter(folder: Path, weights: bytes = b"w" * (3 << 20), config: bytes = b"{}") -> Path:
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(weights)
    (folder / "adapter_config.json").write_bytes(config)
    return folder


def test_an_adapters_hash_is_that_of_all_its_bytes_wherever_it_lies(tmp_path: Path) -> None:
    first = catalog.adapter_hash(an_adapter(tmp_path / "a"))
    assert first == catalog.adapter_hash(an_adapter(tmp_path / "b")) and first.startswith("sha256:")
    (tmp_path / "b" / "README.md").write_text("notes")
    assert first == catalog.adapter_hash(tmp_path / "b")
    middle = b"w" * (3 << 19) + b"x" + b"w" * ((3 << 19) - 1)
    others = [
        an_adapter(tmp_path / "c", middle), an_adapter(tmp_path / "d", config=b"{ }"),
        an_adapter(tmp_path / "e", b"w" * (3 << 20) + b"{", b"}"),
    ]  # fmt: skip
    assert len({first, *map(catalog.adapter_hash, others)}) == 4
    (tmp_path / "a" / "adapter_config.json").unlink()
    with pytest.raises(ModelError, match=r"adapter_config\.json cannot be read.*Train it again"):
        catalog.adapter_hash(tmp_path / "a")


def test_what_the_page_needs_imports_neither_torch_nor_transformers() -> None:
    code = "import sys, models.client, models.catalog; print({'torch', 'transformers', 'peft'} & sys.modules.keys())"
    root = Path(catalog.__file__).parents[1]
    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
