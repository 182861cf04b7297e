"""A hostile or broken file gives rows, broken rows or a sentence: never another error, never a hang, never a crash."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from errors import ImportFormatError
from transfer.formats.messages import RowError
from transfer.reading.source import open_source

from test_transfer_reading import CONTAINERS, ROWS, arrow, jsonl, parquet, put, zipped  # noqa: F401 (put is a fixture)

MUTATIONS = int(os.environ.get("HOSTILE_MUTATIONS", "150"))
SECONDS_A_FILE = 20
Put = Callable[..., Path]
SEEDS = {
    **CONTAINERS,
    "JSON lines, gzip": gzip.compress(CONTAINERS["JSON lines"]), "Parquet, gzip": gzip.compress(CONTAINERS["Parquet"]),
    "CSV, UTF-16": CONTAINERS["CSV"].decode().encode("utf-16"), "JSON array, GB18030": CONTAINERS["JSON array"].decode().encode("gb18030"),
    "ZIP": zipped({"a.jsonl": CONTAINERS["JSON lines"], "b.parquet": CONTAINERS["Parquet"]}),
    "Parquet, plain": parquet(ROWS, use_dictionary=False, compression="none"),
    "Parquet, nested": parquet([{"m": [{"role": "user", "content": "x" * n}], "n": n, "d": 1.5} for n in range(30)]),
    "Arrow, nested": arrow([{"m": [{"role": "user", "content": "x" * n}], "n": n, "d": 1.5} for n in range(30)]),
}


def read(path: Path | str, **options: Any) -> list[Any]:
    return [row for _, row in open_source(path, **options).rows()]


def refusal(path: Path | str) -> str:
    with pytest.raises(ImportFormatError) as caught:
        read(path)
    text = str(caught.value)
    assert "nothing was stored" in text and text.isprintable() and len(text) < 800
    return text


def mutated(content: bytes, chance: random.Random) -> bytes:
    """Flip, delete, double, cut, splice or overwrite some bytes, one to four times."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        if not changed:
            break
        at, length = chance.randrange(len(changed)), chance.choice((1, 1, 2, 4, 8, 64))
        kind = chance.randrange(6)
        if kind == 0:
            changed[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del changed[at : at + length]
        elif kind == 2:
            changed[at:at] = changed[at : at + length]
        elif kind == 3 and chance.random() < 0.3:
            del changed[at:]
        elif kind == 4:
            other = chance.randrange(len(changed))
            changed[at : at + length] = changed[other : other + length]
        else:
            changed[at : at + length] = chance.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * length
    return bytes(changed)


def storm(kind: str, count: int, folder: Path) -> None:
    """Read so many mutations of a seed; whatever is neither rows nor a refusal leaves the file behind and raises."""
    path = folder / "mutation"
    for number in range(count):
        path.write_bytes(mutated(SEEDS[kind], random.Random(f"{kind}{number}")))
        started = time.monotonic()
        try:
            source = open_source(path)
            for place, row in source.rows():
                assert isinstance(place, str) and (isinstance(row, RowError) or json.dumps(row) is not None)
                assert 0 <= source.progress <= 1 and source.described
        except ImportFormatError as error:
            assert str(error).isprintable()
        assert time.monotonic() - started < SECONDS_A_FILE


@pytest.mark.parametrize("kind", SEEDS)
def test_mutated_files_give_rows_or_a_sentence(kind: str, tmp_path: Path) -> None:
    # In a process of its own: a reader that is led astray inside a library ends the process, not the test run.
    code = f"import sys, pathlib; from test_transfer_hostile import storm; storm({kind!r}, {MUTATIONS}, pathlib.Path(sys.argv[1]))"
    here = Path(__file__).resolve().parent
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=here, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])}, timeout=60 + MUTATIONS,
    )
    assert done.returncode == 0, f"exit {done.returncode}: {done.stderr[-2000:]}"


# Threads of a reader that come late to letting go of the file, while the interpreter ends and holds its lock.
LATE_THREADS = """
import os, sys, time
from transfer.reading.source import open_source
path = sys.argv[1]
list(open_source(path).rows())
threads = [int(task) for task in os.listdir("/proc/self/task") if int(task) != os.getpid()]
one, other = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))
os.sched_setaffinity(0, {one})
for thread in threads:
    os.sched_setaffinity(thread, {one})
    os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))
sys.setswitchinterval(1000)
list(open_source(path).rows())
for thread in threads:
    os.sched_setaffinity(thread, {other})
end = time.perf_counter() + 0.05
while time.perf_counter() < end:
    pass
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux lets a thread be made late")
@pytest.mark.parametrize("kind", ["Parquet", "Arrow", "Arrow stream"])
def test_a_process_that_read_a_file_ends_whatever_its_threads_do(put: Put, kind: str) -> None:  # noqa: F811
    path = put(CONTAINERS[kind])
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-c", LATE_THREADS, str(path)], cwd=Path(__file__).resolve().parents[1],
            capture_output=True, text=True, timeout=60, check=False,
        )
        assert done.returncode == 0, f"exit {done.returncode}: {done.stderr[-2000:]}"


@pytest.mark.parametrize("kind", SEEDS)
def test_a_file_cut_anywhere_gives_rows_or_a_sentence(kind: str, put: Put) -> None:  # noqa: F811
    content = SEEDS[kind]
    for end in [0, 1, 2, 3, 5, 8, *range(12, len(content), max(1, len(content) // 12)), len(content) - 1]:
        try:
            read(put(content[:end]))
        except ImportFormatError as error:
            assert "nothing was stored" in str(error)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "folder" in refusal(tmp_path) and "pipe" in refusal(tmp_path / "pipe") and "device" in refusal("/dev/zero")
    assert "no such file" in refusal(tmp_path / "none")
    for name in (tmp_path / "loop", "nul\0name", "x" * 5000, "line\nbreak", "half\udc80", ""):
        refusal(name)


def test_an_empty_file_holds_no_rows(put: Put) -> None:  # noqa: F811
    for content in (b"", b"\n \n", b"[]", b"a,b\n", gzip.compress(b""), b"\xef\xbb\xbf", b"\xff\xfe"):
        assert read(put(content, "rows.csv" if b"," in content else "rows.json")) == []


@pytest.mark.parametrize(("content", "says"), [
    (gzip.compress(gzip.compress(b"{}")), "archive inside"), (gzip.compress(zipped({"a": b"{}"})), "archive inside"),
    (zipped({"a.zip": zipped({"b": b"{}"})}), "archive inside"), (zipped({}), "no files of rows"),
    (zipped({"[Content_Types].xml": b"<x/>", "xl/a.xml": b"<x/>"}), "spreadsheet"),
    (b"%PDF-1.7", "PDF"), (b"SQLite format 3\0" + b"\0" * 99, "SQLite"), (b"BZh91AY", "bzip2"),
    (bytes(range(256)) * 9, "neither text"), (b"\x89PNG\r\n", "picture"),
])
def test_other_kinds_of_files_are_named(put: Put, content: bytes, says: str) -> None:  # noqa: F811
    assert says in refusal(put(content))


@pytest.mark.parametrize("packing", ["gzip", "zip"])
def test_a_bomb_is_refused_before_it_fills_anything(put: Put, packing: str) -> None:  # noqa: F811
    def drops() -> Iterator[bytes]:
        line = b'{"prompt": "' + b"x" * 2**20 + b'"}\n'
        return (line for _ in range(400))

    buffer = io.BytesIO()
    if packing == "gzip":
        with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=1) as file:
            for drop in drops():
                file.write(drop)
    else:
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive, archive.open("a", "w") as file:
            for drop in drops():
                file.write(drop)
    started = time.monotonic()
    assert "unpacks to more than" in refusal(put(buffer.getvalue()))
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":', b'{"data": [{"a":', b'{"a": 1}\n{"a":' + b"["])
def test_depth_is_a_broken_row_or_a_refusal(put: Put, opening: bytes) -> None:  # noqa: F811
    for content in (opening * 100_000, opening + b"[" * 100_000 + b"]" * 100_000):
        try:
            assert any(isinstance(row, RowError) for row in read(put(content)))
        except ImportFormatError as error:
            assert "deep" in str(error) or "not valid JSON" in str(error)


def test_rows_of_ten_megabytes_are_read(put: Put) -> None:  # noqa: F811
    row = {"prompt": "问" * (10 * 2**20 // 3), "chosen": "y"}
    contents = (
        json.dumps(row, ensure_ascii=False), json.dumps([row, row], ensure_ascii=False),
        f'prompt,chosen\n{row["prompt"]},y\n',
    )
    for content in contents:
        assert all(each == row for each in read(put(content.encode())))
    assert read(put(parquet([row, row]))) == [row, row] == read(put(arrow([row, row])))


def test_rows_beyond_sixty_four_megabytes_are_refused(put: Put) -> None:  # noqa: F811
    text = b"x" * (65 * 2**20)
    for content in (b'{"a": "' + text + b'"}', b'[{"a": "' + text + b'"}]', b"a,b\n" + text + b",1\n", b'a,b\n"' + text):
        said = refusal(put(content, "rows.csv" if content[:1] == b"a" else "rows.json"))
        assert "longer than 64 MB" in said or "never closed" in said


def test_a_text_repeated_by_its_number_does_not_unfold_in_memory(put: Put) -> None:  # noqa: F811
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, buffer = "x" * (8 * 2**20), io.BytesIO()
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 3000, pa.int32()), pa.array([text]))
    table = pa.table({"prompt": column})
    pq.write_table(table, buffer, store_schema=False, dictionary_pagesize_limit=2**30)
    bomb = buffer.getvalue()
    packed = io.BytesIO()
    with pa.ipc.new_file(packed, table.schema) as writer:
        writer.write_table(table)
    for content in (bomb, packed.getvalue()):
        # 24 GB when unfolded at once.
        code = (
            "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30,) * 2)\n"
            "from itertools import islice\nfrom transfer.reading.source import open_source\n"
            "print([len(row['prompt']) for _, row in islice(open_source(sys.argv[1]).rows(), 100)] == [8 * 2**20] * 100)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(put(content))], cwd=Path(__file__).resolve().parents[1],
            capture_output=True, text=True, timeout=60, check=False,
        )
        assert done.stdout.strip() == "True", done.stderr[-600:]


def test_paths_out_of_an_archive_lead_nowhere(put: Put, tmp_path: Path) -> None:  # noqa: F811
    line = jsonl(ROWS[:1]).encode()

    def led_astray() -> list[str]:
        """Return what is called evil around the test's folder, where other tests' files come and go."""
        found = (os.path.join(at, name) for at, folders, files in os.walk(tmp_path.parent) for name in folders + files)
        return sorted(path for path in found if "evil" in os.path.basename(path))

    before = led_astray()
    path = put(zipped({"../../evil.jsonl": line, "/etc/evil.jsonl": line, "C:\\evil.jsonl": line, "a\n\x1b[31m.jsonl": line}))
    places = [place for place, _ in open_source(path).rows()]
    assert len(places) == 4 and all(place.isprintable() for place in places)
    assert list(tmp_path.rglob("*")) == [path] and led_astray() == before


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_that_hides_something_is_refused(put: Put) -> None:  # noqa: F811
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.jsonl", b"{}\n")
        archive.writestr("a.jsonl", b'{"b": 1}\n')
    assert "two files called a.jsonl" in refusal(put(buffer.getvalue()))
    locked = bytearray(zipped({"a.jsonl": b"{}\n"}))
    locked[6] |= 1
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    assert "encrypted" in refusal(put(bytes(locked)))


def test_a_symbolic_link_in_an_archive_is_not_followed(put: Put) -> None:  # noqa: F811
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        link = zipfile.ZipInfo("link.jsonl")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, b"/etc/passwd")
    assert "no files of rows" in refusal(put(buffer.getvalue()))


def test_control_characters_and_nul_stay_in_their_row(put: Put) -> None:  # noqa: F811
    rows = read(put(b'{"a": "x\\u0000y"}\n{"a": "x\0y"}\n{"a": "\x01"}\n{"a": "ok"}\n'))
    assert rows[0] == {"a": "x\0y"} and rows[3] == {"a": "ok"}
    assert isinstance(rows[1], RowError) and isinstance(rows[2], RowError)


@pytest.mark.parametrize("kind", ["JSON lines", "JSON array", "CSV", "Parquet", "Arrow", "JSON lines, gzip"])
def test_a_file_that_shrinks_while_it_is_read_gives_rows_or_a_sentence(put: Put, kind: str) -> None:  # noqa: F811
    big = [{**row, "rejected": os.urandom(2000).hex()} for row in ROWS * 10]
    content = {
        "JSON lines": jsonl(big).encode(), "JSON array": json.dumps(big).encode(), "Parquet": parquet(big, row_group_size=50),
        "Arrow": arrow(big), "CSV": b"a,b\n" + b"x,yyyyyyyyyyy\n" * 99_999, "JSON lines, gzip": gzip.compress(jsonl(big).encode()),
    }[kind]
    path = put(content)
    rows = open_source(path).rows()
    next(rows)
    os.truncate(path, len(content) // 3)
    try:
        assert len(list(rows)) < 99_999
    except ImportFormatError as error:
        assert "nothing was stored" in str(error)
