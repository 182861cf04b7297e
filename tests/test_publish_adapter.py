"""The archive of an adapter loads elsewhere with plain peft, answers as our worker does, and tells no path of ours."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.publish_world import GREEDY, QUESTIONS, elsewhere, finished_run
from tests.tiny_models import save_tiny_model

from models import lora_files
from models.client import Sampling, Workers
from publish import adapter, source
from publish.source import PublishError
from storage import Run, Store


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Run]]:
    """A store with one finished run of the demo model."""
    store = Store(tmp_path_factory.mktemp("world") / "data")
    yield store, finished_run(store)
    store.close()


def unzipped(file: Path, folder: Path) -> Path:
    with zipfile.ZipFile(file) as zipped:
        zipped.extractall(folder)
    return folder / file.stem


def test_an_unzipped_adapter_answers_elsewhere_as_our_worker_does(world: tuple[Store, Run], tmp_path: Path) -> None:
    store, run = world
    folder = unzipped(adapter.archive(store, run.id, tmp_path / "out"), tmp_path / "elsewhere")
    said = json.loads(elsewhere(GREEDY, "./base", ".", json.dumps(QUESTIONS), folder=folder))
    workers = Workers(store.folder / "runs", "cpu")
    try:
        endpoint = workers.endpoint("demo")
        greedy = Sampling(temperature=0, max_tokens=40)
        asked = [[{"role": "user", "content": question}] for question in QUESTIONS]
        tuned = [endpoint.complete(f"run-{run.id}", messages, greedy)[0].text for messages in asked]
        base = [endpoint.complete("base", messages, greedy)[0].text for messages in asked]
    finally:
        workers.stop()
    assert [text.strip() for _, text in said["answers"]] == [text.strip() for text in tuned]
    assert tuned != base


def test_the_program_on_the_card_runs_as_it_stands(world: tuple[Store, Run], tmp_path: Path) -> None:
    store, run = world
    folder = unzipped(adapter.archive(store, run.id, tmp_path), tmp_path / "elsewhere")
    (program,) = re.findall(r"```python\n(.+?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert elsewhere(program, folder=folder).strip()


def test_an_archive_has_stable_names_and_bytes_and_no_path_of_this_machine(world: tuple[Store, Run], tmp_path: Path) -> None:
    store, run = world
    first, second = (adapter.archive(store, run.id, tmp_path / name) for name in ("a", "b"))
    assert first.name == "run-1-adapter.zip" and first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as zipped:
        names = zipped.namelist()
        texts = {name: zipped.read(name).decode() for name in names if name.endswith((".json", ".md"))}
    wanted = {"adapter_config.json", "adapter_model.safetensors", "README.md", "provenance.json", "base/config.json"}
    assert {f"run-1-adapter/{name}" for name in wanted} <= set(names)
    assert all(name.startswith("run-1-adapter/") and ".." not in name for name in names)
    root = str(Path(__file__).resolve().parents[1])
    assert [name for name, text in texts.items() if root in text or str(store.folder) in text] == []
    config = json.loads(texts["run-1-adapter/adapter_config.json"])
    assert config["base_model_name_or_path"] == "./base"
    kept = json.loads((store.runs.adapter_folder(run.id) / "adapter_config.json").read_text())
    assert {**config, "base_model_name_or_path": ""} == {**kept, "base_model_name_or_path": ""}


def test_a_base_in_a_folder_is_named_without_its_path_and_brought_only_when_asked(tmp_path: Path) -> None:
    store = Store(tmp_path / "data")
    model = save_tiny_model(tmp_path / "secret-place" / "my-model")
    run = finished_run(store, str(model), steps=2)
    files = adapter.published(store, run.id)
    config = json.loads(files["adapter_config.json"])
    assert config["base_model_name_or_path"] == "my-model" and not any(name.startswith("base/") for name in files)
    card = files["README.md"].decode()
    assert "folder called `my-model`" in card and source.provenance(store, run)["base_identity"] in card
    assert all(b"secret-place" not in each for each in files.values() if isinstance(each, bytes))
    assert {"base/config.json", "base/model.safetensors", "base/tokenizer.json"} <= set(adapter.published(store, run.id, True))
    adapter.copy(store, run.id, tmp_path / "copied", include_base=True)
    said = json.loads(elsewhere(GREEDY, "./base", ".", '["Hello"]', folder=tmp_path / "copied"))
    assert said["answers"][0][0]
    model.rename(tmp_path / "gone")
    assert json.loads(adapter.published(store, run.id)["adapter_config.json"])["base_model_name_or_path"] == "my-model"
    with pytest.raises(PublishError, match="not in a folder"):
        adapter.published(store, run.id, include_base=True)
    store.close()


def hub_run(store: Store) -> Run:
    """Store a run as if it had been trained on a model of a hub."""
    project = store.projects.ensure("hub")
    run = store.runs.create(project.id, "dpo", "org/name", {}, [])
    folder = store.runs.adapter_folder(run.id)
    folder.mkdir(parents=True)
    (folder / source.WEIGHTS).write_bytes(b"weights")
    (folder / source.CONFIG).write_text('{"r": 8, "base_model_name_or_path": "org/name"}')
    store.runs.end(run.id, "finished", "Finished.", adapter=f"runs/run-{run.id}/adapter")
    return store.runs.get(run.id)


def test_a_base_of_a_hub_keeps_its_name(store: Store) -> None:
    run = hub_run(store)
    files = adapter.published(store, run.id)
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "org/name"
    assert "base_model: org/name\n" in files["README.md"].decode().split("---")[1]


def test_what_cannot_be_published_is_said_and_nothing_is_left_behind(store: Store, tmp_path: Path, monkeypatch) -> None:
    run = hub_run(store)
    active = store.runs.create(run.project_id, "dpo", "demo", {}, [])
    with pytest.raises(PublishError, match="it is queued"):
        adapter.archive(store, active.id, tmp_path / "out")
    (tmp_path / "file").write_text("")
    with pytest.raises(PublishError, match="could not be written"):
        adapter.archive(store, run.id, tmp_path / "file")
    monkeypatch.setattr(adapter.shutil, "disk_usage", lambda place: type("usage", (), {"free": 3}))
    with pytest.raises(PublishError, match="0 MB left"):
        adapter.archive(store, run.id, tmp_path / "out")
    (store.runs.adapter_folder(run.id) / source.WEIGHTS).unlink()
    with pytest.raises(PublishError, match="has lost adapter_model.safetensors"):
        adapter.archive(store, run.id, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_archive_that_breaks_off_leaves_the_one_before(store: Store, tmp_path: Path, monkeypatch) -> None:
    run = hub_run(store)
    before = adapter.archive(store, run.id, tmp_path).read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(adapter, "_add", full)
    with pytest.raises(PublishError, match="No space left"):
        adapter.archive(store, run.id, tmp_path)
    assert [path.name for path in tmp_path.glob("*.zip*")] == ["run-1-adapter.zip"]
    assert (tmp_path / "run-1-adapter.zip").read_bytes() == before


def test_the_names_of_an_adapters_files_are_those_of_training() -> None:
    ours = (source.CONFIG, source.WEIGHTS, source.PROVENANCE)
    assert ours == (lora_files.CONFIG, lora_files.WEIGHTS, lora_files.PROVENANCE)
