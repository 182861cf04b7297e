"""Files in and out on the command line: kinds and filters, copies, runs that differ, several models, a hub out of reach."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from storage import Store
from tests.completion_server import CompletionServer
from tests.test_app_commands import preference_file, refusal, result


@pytest.fixture()
def data(tmp_path: Path) -> tuple[str, ...]:
    """Return the options of a data folder with a project of 24 labelled pairs."""
    options = ("--data", str(tmp_path / "data"))
    result("import", str(preference_file(tmp_path / "pairs.jsonl")), "--project", "farm", *options)
    return options


def test_every_kind_goes_out_and_what_went_out_comes_in_again(tmp_path: Path, data: tuple[str, ...]) -> None:
    out = ("export", "--project", "farm", *data)
    assert result(*out, "--as", "sharegpt", "--output", str(tmp_path / "share.json"))["rows"] == 24
    assert result(*out, "--as", "trl-unpaired", "--output", str(tmp_path / "u.csv.gz"))["rows"] == 48
    assert result(*out, "--as", "labels", "--output", str(tmp_path / "labels.parquet"))["rows"] == 24
    result(*out, "--as", "dataset", "--output", str(tmp_path / "set"))
    assert (tmp_path / "set" / "README.md").exists()
    for name in ("share.json", "labels.parquet"):
        again = result("import", str(tmp_path / name), "--project", name, *data)
        assert (again["pairs"], again["labels"], again["left_out"]) == (24, 24, {})
    assert result("import", str(tmp_path / "u.csv.gz"), "--project", "u", *data)["labels"] == 48


def test_filters_choose_what_goes_out_and_wrong_ones_are_named(tmp_path: Path, data: tuple[str, ...]) -> None:
    out = ("export", "--project", "farm", "--as", "trl-preference", "--output", str(tmp_path / "out.jsonl"), *data)
    assert result(*out, "--annotator", "import", "--since", "2020-01-01")["rows"] == 24
    assert "labels of other days" in refusal(*out, "--until", "2020-01-01")
    assert "labels of other annotators" in refusal(*out, "--annotator", "nobody")
    assert "min_agreement" in refusal(*out, "--min-agreement", "3")
    assert "majority" in refusal(*out, "--which", "some")


def test_a_copy_is_made_and_brought_back(tmp_path: Path, data: tuple[str, ...]) -> None:
    copy = str(tmp_path / "copy.zip")
    assert result("backup", "--output", copy, *data)["counts"]["labels"] == 24
    assert "not empty" in refusal("restore", copy, *data)
    result("restore", copy, "--data", str(tmp_path / "other"))
    assert sum(Store(tmp_path / "other").labels.counts(1).values()) == 24


def test_runs_say_how_their_labels_differ(tmp_path: Path, data: tuple[str, ...]) -> None:
    store = Store(Path(data[1]))
    rows = list(store.labels.judged(1))
    for used in (rows[:20], rows[1:24]):
        run = store.runs.create(1, "dpo", "demo", {}, [row["label_id"] for row in used])
        store.runs.end(run.id, "failed", "not trained here")
    said = result("runs", "diff", "1", "2", *data)
    assert (len(said["only_a"]), len(said["only_b"]), len(said["changed"])) == (1, 4, 0)
    assert len(result("runs", *data)["runs"]) == 2
    assert "7" in refusal("runs", "diff", "1", "7", *data)


def test_a_mapping_and_an_encoding_say_how_a_file_is_read(tmp_path: Path, data: tuple[str, ...]) -> None:
    path = tmp_path / "latin.csv"
    path.write_bytes("frage,ja,nein\nÄpfel?,Größe,Grüße\n".encode("latin-1"))
    words = ("import", str(path), "--project", "latin", "--encoding", "latin-1", *data)
    columns = ("--map", "prompt=frage", "--map", "chosen=ja", "--map", "rejected=nein")
    assert result(*words, "--format", "trl-preference", *columns)["labels"] == 1
    [prompt] = Store(Path(data[1])).prompts.list(2)
    assert prompt.messages == [{"role": "user", "content": "Äpfel?"}]
    assert "no format" in refusal(*words)
    assert "klingon" in refusal("import", str(path), "--project", "x", "--encoding", "klingon", *data)


def test_a_hub_that_cannot_be_reached_is_said(
    tmp_path: Path, data: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    said = refusal("import", "hub:some/set:train", "--project", "x", *data)
    assert "hub:some/set:train: nothing was stored" in said and "cannot be reached" in said


def test_several_models_at_a_server_answer_and_its_key_is_nowhere(
    tmp_path: Path, data: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = CompletionServer()
    server.answer = lambda body: f"{body['model']} says {body['seed']}"
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"Question {number}?"}) + "\n" for number in range(3)))
    result("import", str(prompts), "--project", "ask", *data)
    address, key = server.endpoint.base_url, "sk-never-to-be-seen"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    asked = ("generate", "--project", "ask", "--per-prompt", "2", "--rule", "different", "--source", "other", "--most", "1")
    report = result(*asked, "--model", f"one@{address}", "--model", f"two@{address};n=3;temperature=0.5", *data)
    server.close()
    assert report["items"] == {"pair": 3} and report["failed"] == {}
    assert sorted(each["responses"] for each in report["models"].values()) == [6, 9]
    store = Store(Path(data[1]))
    for prompt in store.prompts.list(store.projects.get("ask").id):
        answers = store.responses.of_prompt(prompt.id)
        assert {answer.text.split()[0] for answer in answers} == {"one", "two"}
    kept = b"".join(path.read_bytes() for path in Path(data[1]).rglob("*") if path.is_file())
    assert b"two says" in kept and key.encode() not in kept
    assert "servers" in refusal(*asked, "--model", f"one@{address}", "--model", "x@http://127.0.0.1:9/v1", *data)
    assert key not in refusal(*asked, "--model", "x@http://127.0.0.1:9/v1", *data)
