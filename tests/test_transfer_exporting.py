"""What goes out is what TRL loads, says what it left out, and comes in again as it was."""

from __future__ import annotations

import gzip
import json
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from errors import ConfigError, NotFoundError, StorageError
from storage import Project, Store
from transfer.exporting.export import export
from transfer.exporting.filters import Filters
from transfer.importing import import_file

client_ids = count()


def label(store: Store, item_id: int, verdict: str, annotator: str = "ann", chosen: int | None = None) -> None:
    shown = [response.id for response in store.items.card(item_id).responses]
    store.labels.add(
        item_id, annotator, verdict, client_id=f"test-{next(client_ids)}", shown_response_ids=shown,
        chosen_response_id=None if chosen is None else shown[chosen],
    )


def add_item(store: Store, project: Project, *texts: str, prompt: str = "Why?") -> int:
    prompt_id, _ = store.prompts.add(project.id, [{"role": "user", "content": prompt}])
    ids = [store.responses.add(prompt_id, text)[0] for text in texts]
    return store.items.add(project.id, prompt_id, ids)[0]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


@pytest.fixture
def labelled(store: Store, project: Project) -> Project:
    """A project with every verdict: two pairs decided, a tie, a both bad, a skip, one good and one bad response."""
    verdicts = [("chosen", 0), ("chosen", 1), ("tie", None), ("both_bad", None), ("skip", None)]
    for number, (verdict, chosen) in enumerate(verdicts):
        item_id = add_item(store, project, f"First {number}", f"Second {number}", prompt=f"Q{number}")
        label(store, item_id, verdict, chosen=chosen)
    for text, verdict in (("Fine", "good"), ("Awful", "bad")):
        label(store, add_item(store, project, text), verdict)
    return project


def test_pairs_are_written_as_trl_preference_with_conversations(
    store: Store, labelled: Project, tmp_path: Path
) -> None:
    report = export(store, labelled, "trl-preference", tmp_path / "out.jsonl")
    assert lines(tmp_path / "out.jsonl") == [
        {
            "prompt": [{"role": "user", "content": f"Q{number}"}],
            "chosen": [{"role": "assistant", "content": f"{better} {number}"}],
            "rejected": [{"role": "assistant", "content": f"{worse} {number}"}],
        }
        for number, (better, worse) in enumerate([("First", "Second"), ("Second", "First")])
    ]
    assert report.rows == 2
    assert report.left_out == {"skips": 1, "ties": 1, "pairs that are both bad": 1, "single responses": 2}
    assert report.as_dict()["path"] == str(tmp_path / "out.jsonl")


def test_labels_are_written_as_trl_unpaired_and_pairs_give_one_good_one_bad(
    store: Store, labelled: Project, tmp_path: Path
) -> None:
    report = export(store, labelled, "trl-unpaired", tmp_path / "out.jsonl")
    written = {row["completion"][0]["content"]: row["label"] for row in lines(tmp_path / "out.jsonl")}
    assert written == {
        "First 0": True, "Second 0": False, "First 1": False, "Second 1": True,
        "First 3": False, "Second 3": False, "Fine": True, "Awful": False,
    }
    assert (report.rows, report.left_out) == (8, {"skips": 1, "ties": 1})


def test_several_annotators_of_a_pair_give_one_row_of_what_most_say(
    store: Store, project: Project, tmp_path: Path
) -> None:
    agreed, split = add_item(store, project, "A", "B", prompt="1"), add_item(store, project, "A", "B", prompt="2")
    for annotator, chosen in (("x", 0), ("y", 0), ("z", 1)):
        label(store, agreed, "chosen", annotator, chosen)
    label(store, split, "chosen", "x", 0)
    label(store, split, "chosen", "y", 1)
    report = export(store, project, "trl-preference", tmp_path / "out.jsonl")
    [row] = lines(tmp_path / "out.jsonl")
    assert row["chosen"][0]["content"] == "A" and report.left_out == {"pairs without a majority": 1}
    report = export(store, project, "trl-unpaired", tmp_path / "out.jsonl")
    assert report.left_out == {"responses without a majority": 2}


def test_an_undone_label_is_not_exported(store: Store, labelled: Project, tmp_path: Path) -> None:
    item_id = next(store.labels.judged(labelled.id))["item_id"]
    label(store, item_id, "undo")
    assert export(store, labelled, "trl-preference", tmp_path / "out.jsonl").rows == 1


def test_nothing_to_export_writes_no_file(store: Store, project: Project, tmp_path: Path) -> None:
    label(store, add_item(store, project, "A", "B"), "tie")
    with pytest.raises(NotFoundError, match="nothing to export as trl-preference yet. Left out: 1 ties"):
        export(store, project, "trl-preference", tmp_path / "out.jsonl")
    assert list(tmp_path.glob("out*")) == []


def test_an_export_without_rows_says_what_to_do(store: Store, project: Project, tmp_path: Path) -> None:
    def refusal(kind: str) -> str:
        with pytest.raises(NotFoundError) as refused:
            export(store, project, kind, tmp_path / "out.jsonl")
        return str(refused.value)

    assert refusal("labels").endswith("yet. Label something first, or import labels.")
    pair = add_item(store, project, "A", "B")
    label(store, pair, "tie")
    assert refusal("trl-unpaired").endswith("Left out: 1 ties. Export as labels to have everything that was said.")
    label(store, add_item(store, project, "C"), "good")
    assert refusal("sharegpt").endswith("1 single responses. Export single responses as trl-unpaired.")
    assert export(store, project, "trl-unpaired", tmp_path / "out.jsonl").rows == 1


def refusal(store: Store, project: Project, kind: str, filters: Filters, folder: Path) -> str:
    """Return what is said of an export without rows."""
    with pytest.raises(NotFoundError) as refused:
        export(store, project, kind, folder / ("out" if kind == "dataset" else "out.jsonl"), filters=filters)
    return str(refused.value)


PREFERENCES = ["trl-preference", "trl-unpaired", "sharegpt", "dataset"]
ANN, BOB, SINGLE = Filters(annotators=("ann",)), Filters(annotators=("bob",)), Filters(kinds=("single",))


@pytest.mark.parametrize(
    ("kind", "filters"),
    [(kind, filters) for kind in PREFERENCES for filters in (BOB, SINGLE, Filters(which="adjudicated"))]
    + [("labels", BOB), ("labels", SINGLE)],
)
def test_an_export_that_only_its_filters_leave_empty_asks_for_fewer(
    store: Store, project: Project, tmp_path: Path, kind: str, filters: Filters
) -> None:
    label(store, add_item(store, project, "A", "B"), "chosen", chosen=0)
    label(store, add_item(store, project, "C", "D"), "skip")
    assert refusal(store, project, kind, filters, tmp_path).endswith(" Choose fewer filters.")


def test_an_export_without_rows_recommends_none_that_has_none_either(store: Store, project: Project, tmp_path: Path) -> None:
    def advice(kind: str, filters: Filters = Filters()) -> str:
        said = refusal(store, project, kind, filters, tmp_path)
        return next(words for words in ("Label something first", "Choose fewer filters", "Export as labels") if words in said)

    for kind in (*PREFERENCES, "labels"):
        assert advice(kind) == advice(kind, BOB) == "Label something first"
    pair = add_item(store, project, "A", "B")
    label(store, pair, "tie")
    for kind in PREFERENCES:
        assert advice(kind) == advice(kind, ANN) == "Export as labels" and advice(kind, BOB) == "Choose fewer filters"
    label(store, pair, "undo")
    for kind in (*PREFERENCES, "labels"):
        assert advice(kind) == "Label something first"


def test_a_folder_that_is_not_there_is_refused_with_a_sentence(store: Store, labelled: Project, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="the folder .*missing does not exist"):
        export(store, labelled, "trl-preference", tmp_path / "missing" / "out.jsonl")
    with pytest.raises(StorageError, match="is a folder"):
        export(store, labelled, "trl-preference", tmp_path)
    with pytest.raises(ConfigError, match="it can be trl-preference or trl-unpaired"):
        export(store, labelled, "csv", tmp_path / "out.csv")


def test_a_failure_leaves_the_old_file_and_no_part_of_the_new(
    store: Store, labelled: Project, tmp_path: Path, monkeypatch: Any
) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("old")

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(StorageError, match="No space left"):
        export(store, labelled, "trl-preference", path)
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == ["out.jsonl"] and path.read_text() == "old"


def test_a_path_that_ends_in_gz_is_gzipped(store: Store, labelled: Project, tmp_path: Path) -> None:
    export(store, labelled, "trl-preference", tmp_path / "out.jsonl.gz")
    assert len(gzip.decompress((tmp_path / "out.jsonl.gz").read_bytes()).splitlines()) == 2
    assert import_file(store, "Again", tmp_path / "out.jsonl.gz").pairs == 2


clean = st.characters(exclude_categories=("Cs",), exclude_characters="\0")
texts = st.text(clean, min_size=1, max_size=12).filter(str.strip)
turns = st.lists(st.tuples(texts, texts), max_size=2)


@st.composite
def prompts(draw: st.DrawFn) -> list[dict[str, str]]:
    """A conversation that may begin with a system message and ends with the user."""
    messages = [{"role": "system", "content": draw(texts)}] if draw(st.booleans()) else []
    for question, answer in draw(turns):
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return [*messages, {"role": "user", "content": draw(texts)}]


def rows_of(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    answer = texts.map(lambda text: [{"role": "assistant", "content": text}])
    if kind == "trl-unpaired":
        return st.fixed_dictionaries({"prompt": prompts(), "completion": answer, "label": st.booleans()})
    row = st.fixed_dictionaries({"prompt": prompts(), "chosen": answer, "rejected": answer})
    return row.filter(lambda row: row["chosen"][0]["content"].strip() != row["rejected"][0]["content"].strip())


def prompt_key(row: dict[str, Any]) -> str:
    """What tells two prompts apart: outer white space does not."""
    return json.dumps([[message["role"], message["content"].strip()] for message in row["prompt"]])


@pytest.mark.parametrize("kind", ["trl-preference", "trl-unpaired"])
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_exported_is_what_was_imported(store: Store, tmp_path: Path, kind: str, data: st.DataObject) -> None:
    rows = data.draw(st.lists(rows_of(kind), min_size=1, max_size=4, unique_by=prompt_key))
    source, first, second = (tmp_path / name for name in ("0.jsonl", "1.jsonl", "2.jsonl"))
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    names = [f"{kind} {next(client_ids)}" for _ in range(2)]
    import_file(store, names[0], source)
    export(store, store.projects.get(names[0]), kind, first)
    report = import_file(store, names[1], first)
    export(store, store.projects.get(names[1]), kind, second)
    assert lines(first) == lines(second) == rows
    assert report.duplicates == 0 and report.left_out == {}


def say(store: Store, item_id: int, verdict: str, annotator: str = "ann", **fields: Any) -> None:
    shown = store.items.response_ids(item_id)
    store.labels.add(
        item_id, annotator, verdict, client_id=f"test-{next(client_ids)}", shown_response_ids=shown, **fields
    )


def rewrite(store: Store, item_id: int, place: int, text: str, annotator: str = "ann") -> None:
    """Write a better answer than the one in a place."""
    card = store.items.card(item_id)
    better = store.responses.add(card.prompt.id, text, author=annotator)[0]
    say(store, item_id, "edited", annotator, chosen_response_id=better, rejected_response_id=card.responses[place].id)


def preferred(path: Path) -> list[tuple[str, str]]:
    return [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in lines(path)]


def test_rankings_are_pairs_of_their_tiers_and_edits_beat_what_they_were_made_from(
    store: Store, project: Project, tmp_path: Path
) -> None:
    ranked = add_item(store, project, "A", "B", "C", "D", prompt="1")
    a, b, c, d = store.items.response_ids(ranked)
    say(store, ranked, "ranked", ranking=[[b], [a, c], [d]])
    rewrite(store, add_item(store, project, "Draft", prompt="2"), 0, "Done")
    path = tmp_path / "out.jsonl"
    assert export(store, project, "trl-preference", path).left_out == {}
    assert preferred(path) == [("B", "A"), ("B", "C"), ("B", "D"), ("A", "D"), ("C", "D"), ("Done", "Draft")]
    report = export(store, project, "trl-unpaired", path)
    written = {row["completion"][0]["content"]: row["label"] for row in lines(path)}
    assert written == {"B": True, "D": False, "Done": True, "Draft": False}
    assert report.left_out == {"responses ranked in between": 2}


def test_votes_are_counted_for_the_two_responses_they_compare_whatever_the_item(
    store: Store, project: Project, tmp_path: Path
) -> None:
    pair, ranked = add_item(store, project, "A", "B"), add_item(store, project, "A", "B", "C")
    a, b, c = store.items.response_ids(ranked)
    label(store, pair, "chosen", chosen=1)
    for annotator in ("x", "y"):
        say(store, ranked, "ranked", annotator, ranking=[[a], [b, c]])
    report = export(store, project, "trl-preference", tmp_path / "out.jsonl")
    assert preferred(tmp_path / "out.jsonl") == [("A", "B"), ("A", "C")] and report.left_out == {}


def test_a_final_label_stands_for_the_votes_and_answers_to_checks_are_not_exported(
    store: Store, project: Project, tmp_path: Path
) -> None:
    item_id, check = add_item(store, project, "A", "B", prompt="1"), add_item(store, project, "C", "D", prompt="2")
    for each, wrong in ((item_id, 1), (check, 1)):
        first = store.items.response_ids(each)[0]
        for annotator in "xyz":
            label(store, each, "chosen", annotator, wrong)
        say(store, each, "chosen", "judge", chosen_response_id=first, role="final")
    store.items.set_check(check, True)
    label(store, add_item(store, project, "E", "F", prompt="3"), "flag")
    report = export(store, project, "trl-preference", tmp_path / "out.jsonl")
    assert preferred(tmp_path / "out.jsonl") == [("A", "B"), ("C", "D")] and report.left_out == {"flags": 1}
    export(store, project, "trl-unpaired", tmp_path / "out.jsonl")
    assert [row["label"] for row in lines(tmp_path / "out.jsonl")] == [True, False, True, False]
