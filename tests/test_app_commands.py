"""The command line as scripts use it: every verb in its own process, one JSON object, exit codes, one-line errors."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from tests.command_line import ROOT, refusal, result

REAL_FILES = ROOT.parent / "shared" / "data"


def preference_file(path: Path, rows: int = 24) -> Path:
    """Write conversational TRL preference rows that prefer the polite answer."""
    animals = ["owl", "cow", "dog", "cat", "horse", "duck", "fox", "goat"]
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            animal = animals[number % len(animals)]
            row = {
                "prompt": [{"role": "user", "content": f"What does the {animal} number {number} eat?"}],
                "chosen": [{"role": "assistant", "content": f"Happy to help! The {animal} eats grass."}],
                "rejected": [{"role": "assistant", "content": f"Ugh, fine. The {animal} eats grass."}],
            }
            file.write(json.dumps(row) + "\n")
    return path


def test_import_train_chat_export_and_list_on_the_command_line(tmp_path: Path) -> None:
    data = ("--data", str(tmp_path / "data"))
    file = preference_file(tmp_path / "pairs.jsonl")
    imported = result("import", str(file), "--project", "farm", *data)
    assert (imported["pairs"], imported["labels"], imported["duplicates"]) == (24, 24, 0)
    assert result("import", str(file), "--project", "farm", *data)["duplicates"] == 24

    ended = result("train", "--project", "farm", "--method", "dpo", "--set", "steps=12", *data)
    assert ended["state"] == "finished" and (Path(ended["adapter"]) / "adapter_model.safetensors").exists()
    metrics = ended["metrics"]
    assert metrics["first_loss"] == pytest.approx(0.6931, abs=1e-3) and metrics["loss"] < 0.69
    assert metrics["rewards/margins"] > 0 and 0 <= metrics["rewards/accuracies"] <= 1 and metrics["seconds"] > 0

    scored = result("score", "--run", str(ended["run"]), *data)
    assert (scored["pairs"], scored["scored"], scored["voted"], scored["left_out"]) == (24, 24, 24, {})

    prompt = ("--prompt", "What do owls eat?", *data)
    answers = result("chat", "--model", "demo", "--run", str(ended["run"]), *prompt)
    assert answers["base"] and answers["tuned"]
    assert result("chat", "--model", "demo", *prompt) == {"base": answers["base"], "tuned": None}

    exported = tmp_path / "out.jsonl"
    result("export", "--project", "farm", "--as", "trl-preference", "--output", str(exported), *data)
    original, written = ({line for line in path.read_text().splitlines()} for path in (file, exported))
    assert {json.dumps(json.loads(line), sort_keys=True) for line in original} == {
        json.dumps(json.loads(line), sort_keys=True) for line in written
    }
    assert [run["state"] for run in result("runs", *data)["runs"]] == ["finished"]


def test_generate_gives_every_prompt_its_responses(tmp_path: Path) -> None:
    data = ("--data", str(tmp_path / "data"))
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"What is the capital of {place}?"}) + "\n" for place in ("France", "Norway")))
    assert result("import", str(file), "--project", "p", *data)["prompts"] == 2
    report = result("generate", "--project", "p", "--model", "demo", "--per-prompt", "2", *data)
    assert report["responses"] == 4 and report["pairs"] == 2


@pytest.mark.skipif(not REAL_FILES.exists(), reason="the real preference files are not beside this checkout")
@pytest.mark.parametrize(
    ("name", "method", "rows"),
    [
        pytest.param("dpo_en_demo", "dpo", 299, marks=pytest.mark.slow),  # test_app_real_files walks this way in CI
        pytest.param("dpo_zh_demo", "dpo", 300, marks=pytest.mark.slow),
        pytest.param("kto_en_demo", "kto", 300, marks=pytest.mark.slow),
    ],
)
def test_real_preference_files_import_train_and_chat(tmp_path: Path, name: str, method: str, rows: int) -> None:
    data = ("--data", str(tmp_path / "data"))
    imported = result("import", str(REAL_FILES / f"{name}.json"), "--project", name, *data)
    assert imported["labels"] + imported["duplicates"] == imported["rows"] == rows and imported["duplicates"] < 20
    ended = result("train", "--project", name, "--method", method, "--set", "steps=3", *data)
    assert ended["state"] == "finished"
    assert ended["metrics"]["first_loss"] == pytest.approx(0.6931 if method == "dpo" else 0.5, abs=0.05)
    assert result("chat", "--run", str(ended["run"]), "--prompt", "你好", *data)["tuned"] is not None


def test_what_goes_wrong_is_one_line(tmp_path: Path) -> None:
    data = ("--data", str(tmp_path / "data"))
    pairs = preference_file(tmp_path / "pairs.jsonl")
    result("import", str(pairs), "--project", "farm", *data)
    (tmp_path / "broken.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n{"prompt": "a", "cho\n')

    assert "line 2" in refusal("import", str(tmp_path / "broken.jsonl"), "--project", "new", *data)
    assert "farm" in refusal("train", "--project", "new", *data)  # nothing was stored, so there is no such project
    assert "no such" in refusal("import", str(tmp_path / "nothing.jsonl"), "--project", "farm", *data).lower()
    assert "dpo" in refusal("train", "--project", "farm", "--method", "ppo", *data)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--set", "beta=-1"), "beta"),
        (("--set", "betta=0.1"), "beta"),
        (("--set", "beta"), "KEY=VALUE"),
        (("--model", "no/such/folder"), "no/such/folder"),
    ],
)
def test_settings_that_cannot_be_used_are_named(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    data = ("--data", str(tmp_path / "data"))
    result("import", str(preference_file(tmp_path / "pairs.jsonl")), "--project", "farm", *data)
    assert said in refusal("train", "--project", "farm", "--method", "dpo", *words, *data)


def test_a_port_in_use_is_one_line_with_a_way_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = refusal("serve", "--port", str(taken.getsockname()[1]), "--data", str(tmp_path))
    assert "--port" in said
