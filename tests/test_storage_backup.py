"""A backup is a consistent data folder whoever writes meanwhile; what is no whole backup changes nothing."""

from __future__ import annotations

import json
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from errors import StorageError
from storage import Project, Store
from storage.backup import MANIFEST, backup, restore


def pairs(store: Store, project: Project, number: int) -> list[tuple[int, list[int]]]:
    made = []
    for place in range(number):
        prompt_id, _ = store.prompts.add(project.id, [{"role": "user", "content": f"Q{place}"}])
        ids = [store.responses.add(prompt_id, text)[0] for text in ("A", "B")]
        made.append((store.items.add(project.id, prompt_id, ids)[0], ids))
    return made


def label(store: Store, item: tuple[int, list[int]], client_id: str, annotator: str = "ann") -> None:
    store.labels.add(
        item[0], annotator, "chosen", client_id=client_id, shown_response_ids=item[1], chosen_response_id=item[1][0]
    )


def test_a_backup_while_four_threads_label_holds_all_that_was_there_before(
    store: Store, project: Project, tmp_path: Path
) -> None:
    items, stop = pairs(store, project, 5), threading.Event()
    done: list[str] = []

    def work(name: str) -> None:
        number = 0
        while not stop.is_set():
            label(store, items[number % len(items)], f"{name}-{number}", name)
            done.append(f"{name}-{number}")
            number += 1
        store.close()

    threads = [threading.Thread(target=work, args=[f"w{number}"]) for number in range(4)]
    for thread in threads:
        thread.start()

    def waited_for(number: int) -> bool:
        until = time.monotonic() + 60
        while len(done) < number and time.monotonic() < until:
            time.sleep(0.01)
        return len(done) >= number

    try:
        assert waited_for(100)
        before, during = list(done), []
        # Labels go on while the copy is packed, not only before it.
        backup(store, tmp_path / "b.zip", lambda name: during.append(waited_for(len(done) + 1)))
        assert during and all(during)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    report = restore(tmp_path / "b.zip", tmp_path / "back")
    back = Store(tmp_path / "back")
    kept = {row["client_id"] for row in back.rows("SELECT client_id FROM labels")}
    assert set(before) <= kept
    assert report.counts["labels"] == len(kept)


def test_a_finished_runs_files_come_back_and_an_active_run_is_cancelled(
    store: Store, project: Project, tmp_path: Path
) -> None:
    first = store.runs.create(project.id, "dpo", "m", {}, [])
    adapter = store.runs.adapter_folder(first.id)
    adapter.mkdir(parents=True)
    (adapter / "adapter_config.json").write_text("{}")
    store.runs.end(first.id, "finished", adapter=f"runs/run-{first.id}/adapter")
    second = store.runs.create(project.id, "dpo", "m", {}, [])
    backup(store, tmp_path / "b.zip")
    restore(tmp_path / "b.zip", tmp_path / "back")
    back = Store(tmp_path / "back")
    assert (back.runs.adapter_folder(first.id) / "adapter_config.json").read_text() == "{}"
    assert back.runs.get(second.id).state == "cancelled"
    assert "backup" in back.runs.get(second.id).message
    assert store.runs.get(second.id).state == "queued"


def test_a_folder_in_use_is_refused_and_with_replace_moved_aside(store: Store, project: Project, tmp_path: Path) -> None:
    backup(store, tmp_path / "b.zip")
    target = tmp_path / "target"
    target.mkdir()
    (target / "note").write_text("mine")
    with pytest.raises(StorageError, match="not empty"):
        restore(tmp_path / "b.zip", target)
    report = restore(tmp_path / "b.zip", target, replace=True)
    assert (Path(report.moved_aside or "") / "note").read_text() == "mine"
    assert Store(target).projects.list()[0].name == project.name


def rewritten(path: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def with_manifest(files: dict[str, bytes], change: Callable[[dict], object]) -> None:
    manifest = json.loads(files[MANIFEST])
    change(manifest)
    files[MANIFEST] = json.dumps(manifest).encode()


def escape(files: dict[str, bytes]) -> None:
    files["../evil"] = b""
    with_manifest(files, lambda m: m["files"].update({"../evil": {"size": 0, "sha256": ""}}))


HARM: dict[str, Callable[[dict[str, bytes]], object]] = {
    "edited": lambda files: files.update({"studio.db": files["studio.db"][:-1] + b"!"}),
    "shorter": lambda files: files.update({"studio.db": files["studio.db"][:-9]}),
    "extra": lambda files: files.update({"runs/run-1/extra": b"x"}),
    "missing": lambda files: files.pop("studio.db"),
    "no manifest": lambda files: files.pop(MANIFEST),
    "a list": lambda files: files.update({MANIFEST: b"[]"}),
    "newer": lambda files: with_manifest(files, lambda m: m["migrations"].append("m999_future")),
    "escaping": escape,
}


@pytest.mark.parametrize("harm", HARM)
def test_a_backup_that_was_harmed_is_refused_and_changes_nothing(
    store: Store, project: Project, tmp_path: Path, harm: str
) -> None:
    path, target = tmp_path / "b.zip", tmp_path / "target"
    backup(store, path)
    rewritten(path, HARM[harm])
    target.mkdir()
    (target / "note").write_text("mine")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(StorageError, match="Nothing was restored"):
        restore(path, target, replace=True)
    assert sorted(tmp_path.iterdir()) == before
    assert [file.name for file in target.iterdir()] == ["note"]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_backup_is_refused(store: Store, project: Project, tmp_path: Path, share: float) -> None:
    path = tmp_path / "b.zip"
    backup(store, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(StorageError, match="Nothing was restored"):
        restore(path, tmp_path / "target")
    assert not (tmp_path / "target").exists()
