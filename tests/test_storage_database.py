"""The store itself: opening, transactions, other processes, newer versions."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from errors import NotFoundError, StorageError
from storage import Store

ROOT = Path(__file__).resolve().parent.parent


def test_opening_again_keeps_what_was_stored(tmp_path: Path) -> None:
    Store(tmp_path).projects.ensure("one", guidelines="be kind")
    assert [project.guidelines for project in Store(tmp_path).projects.list()] == ["be kind"]


def test_an_unknown_project_is_named_with_those_there_are(store: Store) -> None:
    store.projects.ensure("cats")
    with pytest.raises(NotFoundError, match="no project 'dogs'.*'cats'"):
        store.projects.get("dogs")


def test_a_failed_transaction_stores_nothing_and_nested_ones_commit_together(store: Store) -> None:
    with pytest.raises(RuntimeError), store.transaction():
        store.projects.ensure("inner")
        raise RuntimeError
    assert store.projects.list() == []


def test_a_database_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.db["_sqlite_migrations"].insert(
        {"id": 99, "migration_set": "preference_studio", "name": "m099_future", "applied_at": "2030"}
    )
    with pytest.raises(StorageError, match="newer version"):
        Store(tmp_path)


def test_a_data_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="--data"):
        Store(tmp_path / "file" / "data")


def test_a_file_that_is_no_database_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "studio.db").write_text("this is not a database, but it is long enough to look like one" * 40)
    with pytest.raises(StorageError, match="cannot be used"):
        Store(tmp_path)


def test_a_full_disk_is_one_sentence_and_keeps_what_was_there(store: Store) -> None:
    project = store.projects.ensure("kept")
    pages = store.db.execute("PRAGMA page_count").fetchone()[0]
    store.db.execute(f"PRAGMA max_page_count = {pages + 2}").fetchone()
    with pytest.raises(StorageError, match="disk .* is full"):
        for number in range(100):
            store.prompts.add(project.id, [{"role": "user", "content": f"{number}" * 2000}])
    assert store.projects.list() == [project]


def test_several_processes_open_and_write_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from storage import Store; store = Store(sys.argv[1])\n"
        "for number in range(50): store.projects.ensure(f'{sys.argv[2]}-{number}')"
    )
    workers = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(number)], cwd=ROOT) for number in range(4)
    ]
    assert [worker.wait(60) for worker in workers] == [0] * 4
    assert len(Store(tmp_path).projects.list()) == 200


def _open_new_folders(barrier: Barrier, folder: Path, count: int) -> None:
    for number in range(count):
        barrier.wait(60)
        Store(folder / str(number)).close()


def test_several_processes_open_new_folders_at_the_same_moment(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(4)
    workers = [context.Process(target=_open_new_folders, args=(barrier, tmp_path, 40)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * 4


def test_prompts_and_responses_are_stored_once(store: Store) -> None:
    project = store.projects.ensure("p")
    messages = [{"role": "user", "content": "Hello 你好"}]
    first, new = store.prompts.add(project.id, messages)
    assert new and store.prompts.add(project.id, messages) == (first, False)
    assert store.prompts.get(first).messages == messages
    response, new = store.responses.add(first, "Hi", model="demo", settings={"temperature": 1.0})
    assert new and store.responses.add(first, " Hi\n") == (response, False)
    assert store.responses.get(response).settings == {"temperature": 1.0}


def test_a_chat_gives_its_messages_back_in_order(store: Store) -> None:
    chat = store.chats.create(["base", "run-1"], {"temperature": 0.0})
    store.chats.add_message(chat.id, "user", "Hi")
    store.chats.add_message(chat.id, "assistant", "Hello", side=1, model="run-1", finish_reason="stop")
    assert [(each.role, each.side, each.model) for each in store.chats.messages(chat.id)] == [
        ("user", None, None), ("assistant", 1, "run-1"),
    ]
