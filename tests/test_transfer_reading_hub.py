"""A data set on a hub is read as rows over the network, and whatever is wrong on the way is said in words and in time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHA = "a" * 40
FILES = {
    "train.jsonl": b"".join(json.dumps({"prompt": f"Q{number}?", "chosen": "y"}).encode() + b"\n" for number in range(5)),
    "test.jsonl": b'{"prompt": "T?", "chosen": "y"}\n',
}


class FakeHub(BaseHTTPRequestHandler):
    """A hub with one open set (me/open), one that is closed (me/gated) and one that only code can read (me/code)."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        name = "/".join(path.removeprefix("/api").removeprefix("/datasets/").split("/")[:2])
        files = {"me/open": FILES, "me/code": {"code.py": b"raise SystemExit('ran')"}, "me/gated": {}}.get(name)
        if files is None:
            self.answer(404, b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"})
        elif name == "me/gated":
            self.answer(403, b'{"error": "Ask first"}', {"X-Error-Code": "GatedRepo"})
        elif path.startswith("/api/datasets/") and "/tree/" in path:
            self.answer(200, json.dumps([
                {"type": "file", "path": each, "size": len(content), "oid": "b" * 40} for each, content in files.items()
            ]).encode())
        elif path.startswith("/api/datasets/") and "/paths-info/" in path:
            self.answer(200, json.dumps([
                {"type": "file", "path": each, "size": len(content), "oid": "b" * 40} for each, content in files.items()
            ]).encode())
        elif path.startswith("/api/datasets/"):
            self.answer(200, json.dumps({
                "id": name, "sha": SHA, "private": False, "gated": False, "disabled": False, "downloads": 0, "likes": 0,
                "tags": [], "siblings": [{"rfilename": each} for each in files],
            }).encode())
        elif (content := files.get(path.rsplit("/", 1)[-1])) is not None:
            self.answer(200, content, {"ETag": '"' + "b" * 40 + '"', "X-Repo-Commit": SHA, "Accept-Ranges": "bytes"})
        else:
            self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        span = self.headers.get("Range", "")
        if status == 200 and span.startswith("bytes="):
            first, last = span.removeprefix("bytes=").split("-")
            total, start = len(content), int(first)
            content, status = content[start : int(last or total) + 1], 206
            headers = {**(headers or {}), "Content-Range": f"bytes {start}-{start + len(content) - 1}/{total}"}
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), "Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def read(address: str, endpoint: str, home: Path) -> dict[str, Any]:
    """Read a set in a process of its own: the client takes its endpoint from the environment when it is imported."""
    code = (
        "import json, sys\nfrom errors import ImportFormatError\nfrom transfer.reading.source import open_source\n"
        "source = open_source(sys.argv[1])\n"
        "try: said = {'rows': list(source.rows()), 'described': source.described}\n"
        "except ImportFormatError as error: said = {'refused': str(error)}\n"
        "print(json.dumps({**said, 'torch': 'torch' in sys.modules}))"
    )
    names = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "NO_PROXY": "*", "HF_HUB_OFFLINE": "0", "HF_DATASETS_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code, address], cwd=ROOT, env={**os.environ, **names}, capture_output=True, text=True,
        timeout=120, check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_set_on_a_hub_is_read_split_by_split(hub: str, tmp_path: Path) -> None:
    said = read("hub:me/open", hub, tmp_path)
    assert said.get("rows") == [[f"row {n + 1}", {"prompt": f"Q{n}?", "chosen": "y"}] for n in range(5)], said
    assert said["described"] == "data set on a hub, split train" and not said["torch"]
    assert read("hub:me/open@default:test", hub, tmp_path)["rows"] == [["row 1", {"prompt": "T?", "chosen": "y"}]]


@pytest.mark.parametrize(("address", "says"), [
    ("hub:me/none", "no data set called 'me/none'"), ("hub:me/gated", "open only to people who asked"),
    ("hub:me/open:nosplit", "no split called 'nosplit'"), ("hub:me/open@noconfig", "noconfig"),
    ("hub:me/code", "cannot be opened"), ("hub:a b", "written hub:OWNER/NAME"), ("hub:../../etc", "written hub|no name"),
])
def test_what_a_hub_does_not_give_is_said_in_words(hub: str, tmp_path: Path, address: str, says: str) -> None:
    import re

    said = read(address, hub, tmp_path)
    assert re.search(says, said.get("refused", "")) and "nothing was stored" in said["refused"], said


def test_a_hub_that_is_not_there_is_given_up_in_time(tmp_path: Path) -> None:
    started = time.monotonic()
    assert "cannot be reached" in read("hub:me/open", "http://127.0.0.1:9", tmp_path)["refused"]
    assert time.monotonic() - started < 20


def test_a_client_that_loads_slowly_is_not_taken_for_a_hub_that_is_out_of_reach() -> None:
    """What the clock would run on is asked whether the client was loaded before."""
    code = (
        "import sys\nfrom transfer.reading import hub\n"
        "assert 'huggingface_hub' not in sys.modules\n"
        "def clock(*_): sys.exit('huggingface_hub.hf_api' not in sys.modules)\n"
        "hub._in_time = clock\nlist(hub.HubSource('me/open').rows())\nsys.exit('nobody looked at the clock')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
