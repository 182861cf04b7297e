"""A run is pushed to a hub in one commit, and whatever a hub or a token refuses is said in words without the token."""

from __future__ import annotations

import base64
import hashlib
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
from tests.publish_world import finished_run
from tests.tiny_models import save_tiny_model

from publish import adapter, hub, merge, merging
from publish.source import PublishError
from storage import Run, Store

ROOT = Path(__file__).resolve().parents[1]
TOKEN = "hf_the-token-of-this-test"
TOKENS = {TOKEN: "write", "hf_reader": "read"}


class Hub(ThreadingHTTPServer):
    """A small hub of the account `me`: its repositories, what was committed to them, and what it was told to refuse."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.repositories: dict[str, dict[str, Any]] = {}
        self.blobs: dict[str, bytes] = {}
        self.commits: list[str] = []
        self.refuses: dict[str, int] = {}  # a part of a path, and the status it answers with

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class HubHandler(BaseHTTPRequestHandler):
    """Speaks the few endpoints that a push needs."""

    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *arguments: Any) -> None: ...

    def do_GET(self) -> None:
        self.route(b"")

    def do_POST(self) -> None:
        self.route(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.blobs[self.path.rsplit("/", 1)[-1]] = content
        self.answer(200, {})

    def route(self, body: bytes) -> None:
        path, hub_ = self.path.split("?")[0], self.server
        role = TOKENS.get(self.headers.get("Authorization", "").removeprefix("Bearer "))
        refused = next((status for part, status in hub_.refuses.items() if part in path), None)
        if refused is not None:
            self.answer(refused, {"error": f"no, {self.headers.get('Authorization', '')}"})
        elif role is None:
            self.answer(401, {"error": "Invalid credentials"})
        elif path == "/api/whoami-v2":
            self.answer(200, {"name": "me", "orgs": [], "auth": {"accessToken": {"role": role}}})
        elif path == "/api/repos/create":
            self.create(json.loads(body))
        elif path == "/api/validate-yaml":
            self.answer(200, {"errors": [], "warnings": []})
        elif path.endswith(".git/info/lfs/objects/batch"):
            objects = [{**each, "actions": {"upload": {"href": f"{hub_.address}/lfs/{each['oid']}"}}} for each in json.loads(body)["objects"]]
            self.answer(200, {"transfer": "basic", "objects": objects})
        else:
            self.repository(path.removeprefix("/api/models/"), body)

    def create(self, asked: dict[str, Any]) -> None:
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        if not name.startswith("me/"):
            self.answer(403, {"error": "You don't have the rights to create a model under the namespace"})
        elif name in self.server.repositories:
            self.answer(409, {"error": "You already created this model repo", "url": f"{self.server.address}/{name}"})
        else:
            self.server.repositories[name] = {"private": asked.get("visibility") == "private", "files": {}}
            self.answer(200, {"url": f"{self.server.address}/{name}"})

    def repository(self, path: str, body: bytes) -> None:
        name, verb = "/".join(path.split("/")[:2]), (path.split("/") + [""] * 3)[2]
        kept = self.server.repositories.get(name)
        if kept is None:
            self.answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        elif verb == "preupload":
            modes = {True: "lfs", False: "regular"}
            files = [each["path"] for each in json.loads(body)["files"]]
            told = [{"path": each, "uploadMode": modes[each.endswith(".safetensors")], "shouldIgnore": False} for each in files]
            self.answer(200, {"files": told})
        elif verb == "commit":
            self.commit(name, kept["files"], body)
        else:
            self.answer(200, {"id": name, "private": kept["private"], "sha": "a" * 40, "siblings": [], "tags": []})

    def commit(self, name: str, files: dict[str, bytes], body: bytes) -> None:
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "header":
                self.server.commits.append(line["value"]["summary"])
            elif line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            else:
                files[line["value"]["path"]] = self.server.blobs[line["value"]["oid"]]
        self.answer(200, {"commitUrl": f"{self.server.address}/{name}/commit/{'a' * 40}", "commitOid": "a" * 40})

    def answer(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        for key, value in {"Content-Type": "application/json", "Content-Length": str(len(text)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(text)


@pytest.fixture
def served() -> Iterator[Hub]:
    running = Hub()
    threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Run]]:
    folder = tmp_path_factory.mktemp("hub")
    store = Store(folder / "data")
    yield store, finished_run(store, str(save_tiny_model(folder / "model")), steps=2)
    store.close()


def push(world: tuple[Store, Run], address: str, *words: str, token: str | None = TOKEN) -> subprocess.CompletedProcess:
    """Push on the command line, in an environment that knows no other hub and no other token."""
    home = world[0].folder / "home"
    names = {"HF_ENDPOINT": address, "HF_HOME": str(home), "NO_PROXY": "*", "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    if token is not None:
        names["HF_TOKEN"] = token
    done = subprocess.run(
        [sys.executable, "app.py", "push", "1", *words, "--data", str(world[0].folder)], cwd=ROOT,
        env={**environment, **names}, capture_output=True, text=True, timeout=120, check=False,
    )
    log = world[0].runs.folder(1) / hub.PUSH.log_name()
    said = done.stdout + done.stderr + (log.read_text() if log.exists() else "")
    assert "Traceback" not in said and not (token and token in said), said
    assert not (world[0].runs.folder(1) / "push.unfinished").exists()
    return done


def refusal(*arguments: Any, **options: Any) -> str:
    done = push(*arguments, **options)
    assert done.returncode == 2, done.stdout + done.stderr
    return done.stderr.strip().splitlines()[-1]


def test_an_adapter_goes_up_in_one_commit_as_it_is_packed(world: tuple[Store, Run], served: Hub) -> None:
    done = push(world, served.address, "me/polite", "--json")
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["url"] == f"{served.address}/me/polite" and report["private"] and not report["merged"]
    kept = served.repositories["me/polite"]
    files = adapter.published(world[0], world[1].id)
    expected = {name: each if isinstance(each, bytes) else each.read_bytes() for name, each in files.items()}
    assert kept["private"] and kept["files"] == expected and served.commits == ["Upload the adapter of run 1"]
    weights = expected["adapter_model.safetensors"]
    assert served.blobs == {hashlib.sha256(weights).hexdigest(): weights}
    assert push(world, served.address, "me/polite").returncode == 0 and len(served.commits) == 2


def test_a_name_without_an_owner_is_ones_own_and_public_only_when_asked(world: tuple[Store, Run], served: Hub) -> None:
    done = push(world, served.address, "open", "--public")
    assert done.returncode == 0 and "to be seen by everybody" in done.stdout, done.stderr
    assert not served.repositories["me/open"]["private"]
    assert "everybody can see it" in refusal(world, served.address, "me/open")
    assert len(served.commits) == 1


def test_merged_weights_go_up_once_they_are_there(world: tuple[Store, Run], served: Hub) -> None:
    store, run = world
    assert "Merge it first" in refusal(world, served.address, "me/whole", "--merged")
    folder = merging.usual_folder(store, run.id)
    merge.execute(store, run.id, folder)
    assert push(world, served.address, "me/whole", "--merged").returncode == 0
    files = served.repositories["me/whole"]["files"]
    assert files == {path.name: path.read_bytes() for path in folder.iterdir()} and "model.safetensors" in files


@pytest.mark.parametrize("name", ["a b", "", "me/x/y", "../x", "me/..", "/x", "x/", "me/a--b", "x.git", "me/" + "x" * 96, "me/ü"])
def test_a_name_that_no_hub_takes_is_refused_before_anything_is_asked(name: str, store: Store) -> None:
    with pytest.raises(PublishError, match="no name for a repository"):
        hub.start(store, 1, name)


def test_a_missing_refused_or_reading_token_is_said(world: tuple[Store, Run], served: Hub) -> None:
    assert "hf auth login" in refusal(world, served.address, "me/x", token=None)
    assert "refused the token" in refusal(world, served.address, "me/x", token="hf_wrong")
    assert "may only read" in refusal(world, served.address, "me/x", token="hf_reader")
    assert served.repositories == {}


def test_a_hub_that_is_not_there_is_given_up_in_time(world: tuple[Store, Run]) -> None:
    started = time.monotonic()
    assert "cannot be reached" in refusal(world, "http://127.0.0.1:9", "me/x")
    assert time.monotonic() - started < 40


@pytest.mark.parametrize(("part", "status", "words"), [
    ("/api/whoami", 200, "does not answer as a hub"), ("/api/repos/create", 400, "status 400"),
    ("/commit/", 413, "too large"), ("/preupload/", 403, "may not write"),
])
def test_what_the_hub_refuses_on_the_way_is_said_and_nothing_is_committed(world, served, part, status, words) -> None:
    served.refuses[part] = status
    assert words in refusal(world, served.address, "me/way")
    assert served.commits == []


def test_somebody_elses_account_is_refused(world: tuple[Store, Run], served: Hub) -> None:
    assert "may not write there" in refusal(world, served.address, "you/x")


def test_the_web_side_pushes_in_a_process_of_its_own(world: tuple[Store, Run], served: Hub, monkeypatch) -> None:
    store, run = world
    monkeypatch.setattr(hub, "token", lambda: TOKEN)
    for name, value in {
        "HF_ENDPOINT": served.address, "HF_TOKEN": TOKEN, "NO_PROXY": "*", "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(store.folder / "home"),
    }.items():
        monkeypatch.setenv(name, value)
    hub.start(store, run.id, "me/page", private=False)
    until = time.monotonic() + 60
    while hub.PUSH.status(store, run.id).active and time.monotonic() < until:
        time.sleep(0.05)
    assert hub.PUSH.status(store, run.id).line.startswith(f"The adapter of run 1 is at {served.address}/me/page")
    assert not served.repositories["me/page"]["private"]
