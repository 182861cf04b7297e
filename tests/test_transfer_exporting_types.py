"""Every type of file holds the same rows; filters leave out what they say; a folder is loaded as a dataset."""

from __future__ import annotations

import csv
import gzip
import json
from datetime import date
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from errors import ConfigError, NotFoundError, StorageError
from storage import Project, Store
from transfer.exporting.export import export
from transfer.exporting.filters import Filters

client_ids = count()
HOSTILE = ["=1+1", "'=1", "''@x", "-a\n\"b\",c", "日本語\ttab", "+", "\ttab", "plain 'x'"]


def pair(store: Store, project: Project, prompt: str, *texts: str) -> tuple[int, list[int]]:
    prompt_id, _ = store.prompts.add(project.id, [{"role": "user", "content": prompt}])
    ids = [store.responses.add(prompt_id, text)[0] for text in texts]
    return store.items.add(project.id, prompt_id, ids)[0], ids


def label(store: Store, item: tuple[int, list[int]], verdict: str, annotator: str = "ann", chosen: int | None = None) -> None:
    store.labels.add(
        item[0], annotator, verdict, client_id=f"types-{next(client_ids)}", shown_response_ids=item[1],
        chosen_response_id=None if chosen is None else item[1][chosen],
    )


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        return pq.read_table(path).to_pylist()
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
        if ".csv" not in path.name:
            return [json.loads(line) for line in file]
        return [{name: cell and json.loads(cell) for name, cell in row.items()} for row in csv.DictReader(file)]


@pytest.fixture
def hostile(store: Store, project: Project) -> Project:
    """A project whose texts a spreadsheet would run or break."""
    for number, text in enumerate(HOSTILE):
        label(store, pair(store, project, text, text + "a", text + "b"), "chosen", chosen=number % 2)
    return project


@pytest.mark.parametrize("kind", ["trl-preference", "trl-unpaired", "sharegpt"])
@pytest.mark.parametrize("suffix", ["jsonl.gz", "csv", "csv.gz", "parquet"])
def test_every_type_of_file_holds_the_rows_of_the_json_lines(
    store: Store, hostile: Project, tmp_path: Path, kind: str, suffix: str
) -> None:
    export(store, hostile, kind, tmp_path / "plain.jsonl")
    report = export(store, hostile, kind, tmp_path / f"out.{suffix}")
    rows = read(tmp_path / f"out.{suffix}")
    assert rows == read(tmp_path / "plain.jsonl")
    assert report.rows == len(rows) >= len(HOSTILE)


def test_labels_hold_every_version_with_state_all_and_the_current_ones_without(
    store: Store, project: Project, tmp_path: Path
) -> None:
    item = pair(store, project, "Why?", "=A", "B")
    label(store, item, "chosen", chosen=0)
    label(store, item, "tie")
    label(store, item, "skip", "bob")
    export(store, project, "labels", tmp_path / "all.jsonl", filters=Filters(state="all"))
    rows = read(tmp_path / "all.jsonl")
    assert [(row["verdict"], row["chosen"], row["current"]) for row in rows] == [
        ("chosen", 0, False), ("tie", None, True), ("skip", None, True),
    ]
    report = export(store, project, "labels", tmp_path / "now.parquet")
    assert [row["verdict"] for row in read(tmp_path / "now.parquet")] == ["tie", "skip"]
    assert report.left_out == {"labels that are no longer current": 1}


def test_no_cell_of_a_csv_begins_like_a_formula(store: Store, hostile: Project, tmp_path: Path) -> None:
    item = pair(store, hostile, "Comment", "A", "B")
    label(store, item, "tie", annotator="=cmd()")
    export(store, hostile, "labels", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(encoding="utf-8-sig", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert "'=cmd()" in cells
    assert not [cell for cell in cells if cell[:1] in set("=+-@\t\r") and cell]


def test_filters_leave_out_other_annotators_days_and_too_little_agreement(
    store: Store, project: Project, tmp_path: Path
) -> None:
    item = pair(store, project, "Why?", "A", "B")
    for annotator, chosen in (("ann", 0), ("bob", 0), ("cy", 1)):
        label(store, item, "chosen", annotator, chosen)
    path = tmp_path / "out.jsonl"
    assert export(store, project, "trl-preference", path, filters=Filters(min_agreement=0.6)).rows == 1
    with pytest.raises(NotFoundError, match="1 pairs without a majority"):
        export(store, project, "trl-preference", path, filters=Filters(min_agreement=0.7))
    report = export(store, project, "trl-preference", path, filters=Filters(annotators=("cy",)))
    assert report.left_out == {"labels of other annotators": 2}
    assert read(path)[0]["chosen"][0]["content"] == "B"
    with pytest.raises(NotFoundError, match="other days"):
        export(store, project, "labels", path, filters=Filters(until=date(2000, 1, 1)))


def test_filters_list_every_problem() -> None:
    with pytest.raises(ConfigError) as raised:
        Filters(state="old", which="some", min_agreement=2, kinds=("trio",))
    assert len(raised.value.problems) == 4


def test_a_dataset_folder_is_loaded_by_datasets_and_anothers_folder_is_kept(
    store: Store, hostile: Project, tmp_path: Path
) -> None:
    datasets = pytest.importorskip("datasets")
    for _ in range(2):  # one that an export made is replaced
        export(store, hostile, "dataset", tmp_path / "set")
    loaded = datasets.load_dataset(str(tmp_path / "set"), "preference", cache_dir=str(tmp_path / "cache"))["train"]
    assert loaded.num_rows == len(HOSTILE)
    assert loaded[0]["chosen"][0]["role"] == "assistant"
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine")
    with pytest.raises(StorageError, match="no export made it"):
        export(store, hostile, "dataset", mine)
    assert (mine / "thesis.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "cache") == ["data", "mine", "set"]
