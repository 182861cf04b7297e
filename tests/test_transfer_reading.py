"""A file is read by what is in it: every container, packing and encoding gives the same rows, each with its place."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from errors import ImportFormatError
from transfer.formats.messages import RowError
from transfer.reading import encodings
from transfer.reading.source import open_source

ROWS = [
    {"prompt": f"这是第 {number} 个问题，你有什么看法？", "chosen": 'He said "yes",\nthen; left\t.', "rejected": "不是的。"}
    for number in range(40)
]
Put = Callable[..., Path]


def jsonl(rows: list[Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def table(rows: list[dict[str, Any]], delimiter: str = ",") -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def parquet(rows: list[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer, **options)
    return buffer.getvalue()


def arrow(rows: list[Any], stream: bool = False) -> bytes:
    buffer, whole = io.BytesIO(), pa.Table.from_pylist(rows)
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(buffer, whole.schema) as writer:
        writer.write_table(whole, max_chunksize=7)
    return buffer.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


TEXTS = {
    "JSON lines": jsonl(ROWS), "JSON array": json.dumps(ROWS, ensure_ascii=False),
    "JSON objects": "\n".join(json.dumps(row, ensure_ascii=False, indent=2) for row in ROWS),
    "JSON object with a list": json.dumps({"version": 1, "data": ROWS}, ensure_ascii=False),
    "CSV": table(ROWS), "TSV": table(ROWS, "\t"), "CSV with semicolons": table(ROWS, ";"),
}
BINARIES = {"Parquet": parquet(ROWS), "Arrow": arrow(ROWS), "Arrow stream": arrow(ROWS, stream=True)}
CONTAINERS = {**{kind: text.encode() for kind, text in TEXTS.items()}, **BINARIES}


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """Write bytes to a file whose name says nothing."""

    def written(content: bytes, name: str = "rows.dat") -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return written


def read(path: Path, **options: Any) -> list[Any]:
    return [row for _, row in open_source(path, **options).rows()]


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.parametrize("packing", ["", "gzip", "zip", "gzip in zip"])
def test_every_container_and_packing_gives_the_same_rows_twice(put: Put, kind: str, packing: str) -> None:
    content = CONTAINERS[kind]
    content = gzip.compress(content) if "gzip" in packing else content
    source = open_source(put(zipped({"a/rows": content}) if "zip" in packing.replace("gzip", "") else content))
    assert [row for _, row in source.rows()] == ROWS
    assert kind in source.described and ("ZIP of 1 file" in source.described) == ("zip" in packing.replace("gzip", ""))
    assert [row for _, row in source.rows()] == ROWS and source.progress == 1.0


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "gb18030"])
def test_every_encoding_is_found_and_said(put: Put, kind: str, encoding: str) -> None:
    source = open_source(put(TEXTS[kind].encode(encoding)))
    assert [row for _, row in source.rows()] == ROWS
    name = encoding.upper().removesuffix("-LE").removesuffix("-BE")
    assert source.described == (kind if encoding == "utf-8-sig" else f"{kind}, {name}")


@pytest.mark.parametrize("kind", CONTAINERS)
def test_progress_rises_from_near_none_to_all(put: Put, kind: str) -> None:
    rows = ROWS * 20
    content = {
        "JSON lines": jsonl(rows).encode(), "JSON array": json.dumps(rows).encode(), "CSV": table(rows).encode(),
        "Parquet": parquet(rows), "Arrow": arrow(rows),
    }.get(kind)
    if content is None:
        pytest.skip("read the same way as another kind, or its length is not known before its end")
    source, seen = open_source(put(content)), []
    for _ in source.rows():
        seen.append(source.progress)
    assert seen == sorted(seen) and 0 <= seen[0] <= seen[-1] <= 1 and source.progress == 1.0


def test_rows_are_named_by_line_or_number_and_by_the_file_in_an_archive(put: Put) -> None:
    def places(content: bytes, name: str = "rows.dat") -> list[str]:
        return [place for place, _ in open_source(put(content, name)).rows()]

    assert places(b'{"a": 1}\n\n{"a": 2}\n') == ["line 1", "line 3"]
    assert places(b'[{"a": 1},\n {"a": 2}]') == ["row 1", "row 2"]
    assert places(b'a,b\n1,"x\ny"\n2,z\n') == ["line 2", "line 4"]
    assert places(parquet([{"a": 1}, {"a": 2}])) == ["row 1", "row 2"]
    assert places(zipped({"x/a.jsonl": b'{"a": 1}', "b.csv": b"a,b\n1,2\n"})) == ["x/a.jsonl line 1", "b.csv line 2"]
    assert places(b'{"train": [{"a": 1}], "test": [{"a": 2}]}') == ["train row 1", "test row 1"]


@pytest.mark.parametrize("text", ["ein schöner Tag für Ärger", "привет как дела", "안녕하세요 반갑습니다", "こんにちは世界"])
@pytest.mark.parametrize("encoding", ["latin-1", "cp1251", "euc-kr", "shift-jis", "euc-jp", "big5"])
def test_no_other_encoding_is_taken_for_chinese(text: str, encoding: str) -> None:
    try:
        content = (text * 5).encode(encoding)
    except UnicodeEncodeError:
        pytest.skip("the encoding has not these characters")
    with pytest.raises(encodings.UnknownEncoding):
        encodings.detect(content)


def test_a_named_encoding_overrules_and_an_unknown_one_is_refused(put: Put) -> None:
    path = put('{"a": "Ärger"}\n'.encode("latin-1"))
    assert isinstance(read(path)[0], RowError)
    assert read(path, encoding="latin-1") == [{"a": "Ärger"}]
    for wrong in ("klingon", "zlib", "rot13", "\0"):
        with pytest.raises(ImportFormatError, match="no encoding called"):
            read(path, encoding=wrong)


def test_what_strict_json_refuses_is_kept_for_the_field_to_report(put: Put) -> None:
    [row] = read(put(b'{"a": NaN, "b": "x\\ud800"}'))
    assert row["a"] != row["a"] and row["b"] == "x\ud800"


def test_a_pretty_printed_object_and_objects_on_one_line_are_rows(put: Put) -> None:
    assert read(put(b'{\n "a": 1\n}')) == [{"a": 1}]
    assert read(put(b'{"a": 1}{"a": 2} {"a": 3}')) == [{"a": 1}, {"a": 2}, {"a": 3}]
    assert read(put(b'{"anything": [{"a": 1}, {"a": 2}]}')) == [{"a": 1}, {"a": 2}]


def test_one_conversation_is_a_row_and_no_list_of_rows(put: Put) -> None:
    row = {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}
    assert read(put(json.dumps(row).encode())) == [row] == read(put(json.dumps(row, indent=1).encode()))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.dictionaries(st.text(), st.recursive(st.none() | st.integers(-9, 9**20) | st.text(), st.lists))),
    indent=st.none() | st.integers(0, 3), small=st.booleans(),
)
def test_an_array_is_read_as_the_standard_library_reads_it(
    put: Put, monkeypatch: pytest.MonkeyPatch, rows: list[Any], indent: int | None, small: bool
) -> None:
    monkeypatch.setattr("transfer.reading.json_text.CHUNK_BYTES", 3 if small else 2**18)
    content = json.dumps(rows, indent=indent, ensure_ascii=small)
    assert read(put(content.encode("utf-8", "surrogatepass"))) == json.loads(content)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.fixed_dictionaries({
    "prompt": st.text(st.characters(exclude_categories=["Cs"])).map(lambda text: "x" + text), "chosen": st.just("y"),
}), min_size=1))
def test_a_table_is_read_as_it_was_written(put: Put, rows: list[dict[str, str]]) -> None:
    for delimiter, name in ((",", "a.csv"), ("\t", "a.tsv")):
        assert read(put(table(rows, delimiter).encode(), name)) == rows


def test_cells_that_are_lists_or_objects_are_parsed_and_empty_ones_are_empty_texts(put: Put) -> None:
    said = [{"role": "user", "content": "你好"}]
    rows = [{"prompt": json.dumps(said), "chosen": "[not json", "rejected": ""}, {"prompt": str(said), "chosen": "{", "rejected": "[1"}]
    assert read(put(table(rows).encode(), "a.csv")) == [
        {"prompt": said, "chosen": "[not json", "rejected": ""}, {"prompt": said, "chosen": "{", "rejected": "[1"},
    ]


@given(st.text(st.sampled_from("'=+-@\t\rab"), max_size=6))
def test_the_apostrophe_of_our_own_tables_is_taken_off_again(cell: str) -> None:
    import re

    from transfer.reading.delimited import _meant

    exported = "'" + cell if re.match(r"'*[=+\-@\t\r]", cell) else cell
    assert (_meant(exported) if exported[:1] in ("'", "[", "{") else exported) == cell


def test_tables_of_pandas_lose_their_row_numbers(put: Put, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(ROWS)
    frame.to_csv(tmp_path / "a.csv")
    assert read(tmp_path / "a.csv") == ROWS
    frame[frame.index % 2 == 0].to_parquet(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == ROWS[::2]


def test_broken_rows_of_a_table_are_named_and_the_others_read(put: Put) -> None:
    rows = dict(open_source(put(b'a,b\n1,2\n3\n4,5,6\n"x"y,1\n7,8\n')).rows())
    assert {place: isinstance(row, RowError) for place, row in rows.items()} == {
        "line 2": False, "line 3": True, "line 4": True, "line 5": True, "line 6": False,
    }


@pytest.mark.parametrize(("content", "says"), [
    (b'a,b\n1,"2\n3,4\n', "line 2 is never closed"), (b"a,a\n1,2\n", "two columns are called 'a'"),
    (b"a,,b\n1,2,3\n", "column 2 has no name"), (b"a,b\n1,\xff2\n", "line 2 is not UTF-8"),
])
def test_a_broken_table_is_refused_with_its_line(put: Put, content: bytes, says: str) -> None:
    with pytest.raises(ImportFormatError, match=says):
        read(put(content, "rows.csv"))


def test_nested_columns_times_and_decimals_become_json(put: Put) -> None:
    import datetime
    import decimal

    rows = [{
        "messages": [{"role": "user", "content": "x"}], "at": datetime.datetime(2024, 5, 6, 7, tzinfo=datetime.timezone.utc),
        "score": decimal.Decimal("4.50"), "text": b"bytes", "none": None,
    }]
    expected = [{**rows[0], "at": "2024-05-06T07:00:00+00:00", "score": 4.5, "text": "bytes"}]
    assert read(put(parquet(rows))) == read(put(arrow(rows))) == read(put(arrow(rows, stream=True))) == expected
    json.dumps(expected)
    [broken] = read(put(parquet([{"image": b"\xff\xd8"}])))
    assert isinstance(broken, RowError) and "'image'" in str(broken)


def test_an_archive_skips_what_is_beside_the_rows(put: Put) -> None:
    good = jsonl(ROWS[:2]).encode()
    source = open_source(put(zipped({
        "data/": b"", "data/a.jsonl": good, "__MACOSX/data/._a.jsonl": b"\0\1", ".DS_Store": b"\0", "README.md": b"# Hi",
    })))
    assert [row for _, row in source.rows()] == ROWS[:2] and source.described == "ZIP of 1 file: JSON lines"
