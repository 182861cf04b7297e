"""A file goes in as a whole or not at all, and going in twice changes nothing."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from errors import ImportFormatError
from storage import Store
from transfer.importing import import_file

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
Write = Callable[..., Path]


def pair(number: int, **changes: Any) -> dict[str, Any]:
    return {"prompt": f"Question {number}?", "chosen": f"Yes {number}.", "rejected": f"No {number}.", **changes}


def sharegpt(number: int) -> dict[str, Any]:
    turns = [("system", "Be kind."), ("human", "Hello"), ("gpt", "Hi."), ("human", f"Ask {number}")]
    return {
        "conversations": [{"from": role, "value": text} for role, text in turns],
        "chosen": {"from": "gpt", "value": "好的。"}, "rejected": {"from": "gpt", "value": "不。"},
    }


def judged(number: int) -> dict[str, Any]:
    turns = [{"role": "user", "content": f"Ask {number}"}, {"role": "assistant", "content": "Done."}]
    return {"messages": turns, "label": number % 2 == 0}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write rows as JSON lines, or as one array when the name ends in .json."""

    def written(rows: list[Any], name: str = "data.jsonl") -> Path:
        path = tmp_path / name
        text = json.dumps(rows) if name.endswith(".json") else "".join(json.dumps(row) + "\n" for row in rows)
        path.write_text(text, encoding="utf-8")
        return path

    return written


def contents(store: Store) -> dict[str, Any]:
    """Everything that an import could have changed."""
    tables = ("projects", "prompts", "responses", "items", "labels", "current_labels")
    return {table: [tuple(row) for row in store.db.execute(f"SELECT * FROM {table}")] for table in tables}


def test_pairs_become_labels_that_are_done(store: Store, write: Write) -> None:
    report = import_file(store, "New", write([pair(number) for number in range(5)]))
    assert report.as_dict() | {"seconds": 0} == {
        "file": "data.jsonl", "project": "New", "project_id": report.project_id, "format": "trl-preference", "rows": 5,
        "pairs": 5, "singles": 0, "rankings": 0, "prompts": 5, "labels": 5, "duplicates": 0, "replaced": 0,
        "near_duplicates": 0, "left_out": {}, "bad_rows": 0, "bad_rows_file": None, "seconds": 0,
    }
    rows = list(store.labels.judged(report.project_id))
    assert {(row["annotator"], row["source"], row["verdict"]) for row in rows} == {("import", "import", "chosen")}
    assert [next(each["text"] for each in row["responses"] if each["chosen"]) for row in rows] == [
        f"Yes {number}." for number in range(5)
    ]
    assert store.items.counts(report.project_id)["pair"] == {"total": 5, "done": 5}


def test_good_and_bad_rows_become_single_items_with_their_verdict(store: Store, write: Write) -> None:
    report = import_file(store, "New", write([judged(number) for number in range(4)], "kto.json"))
    assert (report.singles, report.labels, report.pairs) == (4, 4, 0)
    assert store.labels.counts(report.project_id) == {"good": 2, "bad": 2}


def test_prompts_alone_become_prompts_without_items(store: Store, write: Write) -> None:
    report = import_file(store, "New", write([{"prompt": "One?"}, {"prompt": "Two?"}, {"prompt": "One? "}]))
    assert (report.prompts, report.duplicates, report.labels) == (2, 1, 0)
    assert store.prompts.count(report.project_id) == 2


def test_answers_that_nobody_judged_wait_to_be_labelled(store: Store, write: Write) -> None:
    report = import_file(store, "New", write([{"prompt": "One?", "completion": "Yes."}]))
    assert store.items.counts(report.project_id)["single"] == {"total": 1, "done": 0}


@pytest.mark.parametrize("make", [pair, sharegpt, judged])
def test_importing_twice_changes_nothing_and_counts_duplicates(store: Store, write: Write, make: Any) -> None:
    path = write([make(number) for number in range(6)], "data.json")
    first = import_file(store, "New", path)
    before = contents(store)
    again = import_file(store, "New", path)
    assert contents(store) == before
    assert (first.duplicates, again.duplicates) == (0, 6)
    assert again.pairs == again.singles == again.prompts == again.labels == 0


def test_the_same_file_goes_into_two_projects(store: Store, write: Write) -> None:
    path = write([pair(1)])
    assert import_file(store, "One", path).labels == import_file(store, "Two", path).labels == 1


def test_a_file_that_changed_its_mind_replaces_the_label_and_says_so(store: Store, write: Write) -> None:
    import_file(store, "New", write([pair(1)]))
    report = import_file(store, "New", write([pair(1, chosen="No 1.", rejected="Yes 1.")]))
    assert (report.pairs, report.labels, report.replaced) == (0, 1, 1)
    [row] = store.labels.judged(report.project_id)
    assert next(each["text"] for each in row["responses"] if each["chosen"]) == "No 1."


def votes(*said: tuple[str | None, str], mirrored: bool = False, number: int = 1) -> list[dict[str, Any]]:
    """Rows of one item: who says what; mirrored: with the responses the other way round."""
    a, b = (f"No {number}.", f"Yes {number}.") if mirrored else (f"Yes {number}.", f"No {number}.")
    rows = [{"prompt": f"Question {number}?", "response_a": a, "response_b": b, "annotator": who, "label": label} for who, label in said]
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def said(store: Store, project_id: int) -> dict[str, str | int]:
    """What each annotator's current vote says: the position of the chosen response, or the verdict."""
    return {vote.annotator: vote.choice for vote in store.votes.of_project(project_id)}


def test_votes_of_several_people_on_one_pair_become_one_item_that_is_done(store: Store, write: Write) -> None:
    project = store.projects.ensure("New")
    store.projects.set_labeling(project.id, {"labels_per_item": 3})
    rows = [*votes(("ann", "a"), ("bob", "b")), *votes(("ann", "tie"), number=2), *votes(("cat", "both_bad"))]
    report = import_file(store, "New", write(rows))
    assert (report.format, report.rows, report.pairs, report.labels) == ("pairwise-votes", 4, 2, 4)
    assert (report.duplicates, report.replaced) == (0, 0)
    assert store.items.counts(project.id)["pair"] == {"total": 2, "done": 2}
    labels = [(vote.annotator, vote.choice, vote.source) for vote in store.votes.of_project(project.id)]
    assert labels == [
        ("ann", 0, "import"), ("bob", 1, "import"), ("cat", "both_bad", "import"), ("ann", "tie", "import"),
    ]


def test_a_row_with_its_sides_swapped_is_the_same_item_and_means_what_it_says(store: Store, write: Write) -> None:
    rows = [*votes(("ann", "a"), ("bob", "b")), *votes(("cat", "a"), ("dan", "b"), mirrored=True)]
    report = import_file(store, "New", write(rows))
    assert report.pairs == 1 and said(store, report.project_id) == {"ann": 0, "bob": 1, "cat": 1, "dan": 0}
    [item] = store.votes.items(report.project_id, "pair", "differ")
    assert [response.text for response in store.items.card(item.item_id).responses] == ["Yes 1.", "No 1."]


def test_votes_imported_twice_change_nothing_and_a_later_mind_replaces(store: Store, write: Write) -> None:
    path = write([*votes(("ann", "a"), ("bob", "b"), (None, "tie"))])
    report = import_file(store, "New", path)
    before = contents(store)
    again = import_file(store, "New", path)
    assert contents(store) == before and (again.labels, again.duplicates) == (0, 3)
    swapped = import_file(store, "New", write(votes(("ann", "b"), ("bob", "a"), mirrored=True)))
    assert (swapped.labels, swapped.duplicates) == (0, 2)  # the same said the other way round
    changed = import_file(store, "New", write(votes(("ann", "tie"), ("cat", "a"))))
    assert (changed.labels, changed.replaced, changed.duplicates) == (2, 1, 0)
    assert said(store, report.project_id) == {"ann": "tie", "bob": 1, "cat": 0, "import": "tie"}


def test_labels_of_files_that_name_nobody_keep_their_unique_ids(store: Store, write: Write) -> None:
    report = import_file(store, "New", write([pair(1), pair(2)]))
    rows = store.labels.judged(report.project_id)
    wanted = [
        f"import:{row['item_id']}:chosen:{next(each['id'] for each in row['responses'] if each['chosen'])}" for row in rows
    ]
    assert [row[0] for row in store.db.execute("SELECT client_id FROM labels ORDER BY id")] == wanted


def test_the_final_label_of_a_name_in_a_file_is_not_taken_for_its_vote(store: Store, write: Write) -> None:
    report = import_file(store, "New", write(votes(("ann", "a"))))
    [item] = store.votes.items(report.project_id, "pair", "agree")
    ids = store.items.response_ids(item.item_id)
    store.labels.add(item.item_id, "bob", "tie", client_id="final-1", shown_response_ids=ids, role="final")
    later = import_file(store, "New", write(votes(("bob", "b"))))
    assert (later.labels, later.replaced) == (1, 0)


def test_a_name_that_cannot_be_shown_refuses_the_file_with_its_line(store: Store, write: Write) -> None:
    with pytest.raises(ImportFormatError, match="line 2: the field 'annotator'"):
        import_file(store, "New", write([*votes(("ann", "a"), ("x" * 101, "b"))]))
    assert store.projects.list() == []


def test_rows_with_nothing_to_label_are_left_out_and_counted(store: Store, write: Write) -> None:
    report = import_file(store, "New", write([pair(1), pair(2, chosen="No 2."), pair(3, rejected=" ")]))
    assert report.labels == 1 and report.rows == 3
    assert report.left_out == {"row whose two responses are the same": 1, "row with an empty response": 1}
    assert "Left out: 1 row whose two responses are the same; 1 row with an empty response." in report.sentence()


def test_a_file_where_every_row_is_left_out_is_refused(store: Store, write: Write) -> None:
    with pytest.raises(ImportFormatError, match="no row can be used. Left out: 2 rows with an empty response"):
        import_file(store, "New", write([pair(1, chosen=""), pair(2, chosen="")]))
    assert store.projects.list() == []


def test_a_broken_line_is_named_and_nothing_is_stored(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(f'{json.dumps(pair(1))}\n{json.dumps(pair(2))}\n{{"prompt": "Hi", "chosen": \n', encoding="utf-8")
    with pytest.raises(ImportFormatError) as caught:
        import_file(store, "New", path)
    text = str(caught.value)
    assert "data.jsonl" in text and "line 3" in text and "not valid JSON" in text and "nothing was stored" in text
    assert store.projects.list() == []


def test_the_first_problems_are_listed_each_with_its_line(store: Store, write: Write) -> None:
    rows = [pair(number) if number % 2 else pair(number, chosen=number) for number in range(1, 30)]
    with pytest.raises(ImportFormatError) as caught:
        import_file(store, "New", write(rows))
    text = str(caught.value)
    assert [f"line {number}:" in text for number in (2, 4, 6, 8, 10, 12)] == [True] * 5 + [False]
    assert text.endswith("and 9 more broken rows.")
    assert [place for place, _, _ in caught.value.problems] == [f"line {number}" for number in range(2, 30, 2)]


def test_rows_of_an_array_are_named_by_number(store: Store, write: Write) -> None:
    with pytest.raises(ImportFormatError, match="row 2: .*'rejected'|row 2: .*it has: 'prompt', 'chosen'"):
        import_file(store, "New", write([pair(1), {"prompt": "Hi", "chosen": "x"}, pair(3)], "data.json"))


def test_a_failure_while_storing_takes_everything_back(store: Store, write: Write) -> None:
    def fail(done: int, total: int) -> None:
        if done > 95:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        import_file(store, "New", write([pair(number) for number in range(5)]), progress=fail)
    assert store.projects.list() == [] and not any(contents(store).values())
    assert import_file(store, "New", write([pair(1)])).labels == 1


def test_good_rows_are_stored_and_broken_ones_written_beside_when_asked(
    store: Store, write: Write, tmp_path: Path
) -> None:
    path = write([pair(1), pair(2, chosen=7), pair(3), {"prompt": "x\0", "chosen": "a", "rejected": "b"}])
    with path.open("a") as file:
        file.write("{broken\n")
    report = import_file(store, "New", path, bad_rows=tmp_path / "bad.jsonl")
    assert (report.rows, report.labels, report.bad_rows, report.bad_rows_file) == (5, 2, 3, str(tmp_path / "bad.jsonl"))
    bad = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert [row["place"] for row in bad] == ["line 2", "line 4", "line 5"]
    assert bad[0]["row"] == pair(2, chosen=7) and all(row["problem"] for row in bad)
    assert "3 broken rows went to" in report.sentence()


def test_nothing_is_stored_when_every_row_is_broken(store: Store, write: Write, tmp_path: Path) -> None:
    with pytest.raises(ImportFormatError, match="no row can be used. 2 rows are broken"):
        import_file(store, "New", write([pair(1, chosen=1), pair(2, chosen=2)]), bad_rows=tmp_path / "bad.jsonl")
    assert store.projects.list() == []


def test_progress_rises_to_its_end(store: Store, write: Write) -> None:
    seen: list[tuple[int, int]] = []
    import_file(store, "New", write([pair(number) for number in range(2000)]), progress=lambda *step: seen.append(step))
    assert seen == sorted(seen) and seen[-1] == (100, 100) and len({done for done, _ in seen}) > 10


def test_reading_a_file_holds_no_lock(store: Store, write: Write) -> None:
    labelled: list[int] = []

    def label_meanwhile(done: int, total: int) -> None:
        if done < 80:
            other = Store(store.folder)
            labelled.append(other.prompts.add(project_id, [{"role": "user", "content": f"{len(labelled)}"}])[0])
            other.close()

    project_id = store.projects.ensure("Other").id
    import_file(store, "New", write([pair(number) for number in range(600)]), progress=label_meanwhile)
    assert len(labelled) >= 3


def test_cancelling_stores_nothing(store: Store, write: Write) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(ImportFormatError, match="cancelled"):
        import_file(store, "New", write([pair(1)]), stop=stop)
    assert store.projects.list() == []


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("array", [False, True])
def test_byte_order_marks_gzip_arrays_and_blank_lines_are_read(
    store: Store, tmp_path: Path, packed: bool, mark: bytes, array: bool
) -> None:
    rows = [pair(1), pair(2)]
    text = json.dumps(rows, indent=1) if array else f"\r\n{json.dumps(rows[0])}\r\n\n{json.dumps(rows[1])}"
    content = mark + text.encode("utf-8")
    path = tmp_path / "rows.dat"
    path.write_bytes(gzip.compress(content) if packed else content)
    assert import_file(store, "New", path).pairs == 2


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no rows"),
        (b"\n \n", "no rows"),
        (b"[]", "no rows"),
        (b"not json at all", "not valid JSON"),
        (b"[1, 2", "not valid JSON"),
        (b'[{"prompt": "a\n"}]', r"column 15 \(Invalid control character\)\."),
        (b'[{"prompt": "a', r"column 13 \(Unterminated string\)\."),
        (b'{"colour": "x"}', "'colour'.*no format known"),
        (b"[3]", "no format known"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"prompt": "caf\xe9"}', "not UTF-8 text at byte 16"),
        (b'{"prompt": "a\\u0000b"}', "line 1: .*NUL"),
        (b'{"prompt": "a\\ud800b"}', "line 1: .*lone surrogate"),
        (b'{"prompt": ' + b"9" * 5000 + b"}", "line 1|cannot be read"),
        (b"\x1f\x8bnot really gzip", "cannot be read"),
        (gzip.compress(b'{"prompt": "x"}\n' * 5000)[:-20], "cannot be read"),
        (b'{"prompt": "x"}\n' * 3 + b"\xff\xfe\n", "line 4: .*not UTF-8"),
    ],
)
def test_hostile_files_are_refused_with_a_sentence(store: Store, tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "evil.jsonl"
    path.write_bytes(content)
    with pytest.raises(ImportFormatError, match=f"(?s)evil.jsonl: nothing was stored.*({says})"):
        import_file(store, "New", path)
    assert store.projects.list() == []


def test_missing_files_and_folders_are_refused_with_a_sentence(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ImportFormatError, match="no such file"):
        import_file(store, "New", tmp_path / "none.jsonl")
    with pytest.raises(ImportFormatError, match="cannot be read"):
        import_file(store, "New", tmp_path)


VALID = "".join(json.dumps(row) + "\n" for row in (pair(1), pair(2), pair(3))).encode()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutated_file_is_imported_whole_or_refused_whole(store: Store, tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(VALID)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    path = tmp_path / "mutated.jsonl"
    path.write_bytes(bytes(content))
    before = contents(store)
    try:
        report = import_file(store, "Mutated", path)
    except ImportFormatError as error:
        assert "mutated.jsonl" in str(error) and contents(store) == before
    else:
        # With a name of a field broken in each row, they are prompts and no more.
        news = report.prompts if report.format == "prompt-only" else report.pairs
        assert report.rows == news + report.duplicates + report.replaced + sum(report.left_out.values())


@pytest.mark.parametrize(
    ("name", "kind", "rows"),
    [("dpo_en_demo.json", "pairs", 299), ("dpo_zh_demo.json", "pairs", 300), ("kto_en_demo.json", "singles", 300)],
)
def test_the_shared_real_files_import_whole(store: Store, name: str, kind: str, rows: int) -> None:
    if not (SHARED / name).exists():
        pytest.skip("the shared files are not here")
    report = import_file(store, name, SHARED / name).as_dict()
    assert report["rows"] == rows == report[kind] + report["duplicates"] and report["labels"] == report[kind]
    assert report["left_out"] == {}
