"""`python app.py agreement`: one JSON object for scripts, sentences for people, one line when something is wrong."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

import pytest
from sklearn.metrics import cohen_kappa_score

from tests.command_line import command, refusal, result

NAMES = ("cat", "ann", "bob")  # not in order: the answer's names are
LABELS = ("a", "b", "tie", "both_bad")


def votes_file(path: Path, names: tuple[str, ...] = NAMES, items: int = 30) -> list[dict[str, str]]:
    """Write votes of several people, who mostly agree; return what each said of each item."""
    draws = random.Random(3)
    said = []
    with path.open("w", encoding="utf-8") as file:
        for number in range(items):
            truth = draws.choice(LABELS)
            said.append({name: truth if draws.random() < 0.7 else draws.choice(LABELS) for name in names})
            for name, label in said[-1].items():
                row = {"prompt": f"Question {number}?", "response_a": "Yes.", "response_b": "No.", "annotator": name, "label": label}
                file.write(json.dumps(row) + "\n")
    return said


def test_votes_are_imported_and_their_agreement_is_one_json_object(tmp_path: Path) -> None:
    data = ("--data", str(tmp_path / "data"))
    said = votes_file(tmp_path / "votes.jsonl")
    imported = result("import", str(tmp_path / "votes.jsonl"), "--project", "P", *data)
    assert (imported["format"], imported["pairs"], imported["labels"]) == ("pairwise-votes", 30, 90)
    found = result("agreement", "--project", "P", *data)
    assert (found["kind"], found["items"], found["annotators"], found["undefined"]) == ("pair", 30, 3, {})
    assert list(found["cohen"]) == ["ann|bob", "ann|cat", "bob|cat"]
    for x, y in itertools.combinations(sorted(NAMES), 2):
        expected = cohen_kappa_score([row[x] for row in said], [row[y] for row in said])
        assert found["cohen"][f"{x}|{y}"] == pytest.approx(expected)
    assert list(found["intervals"]) == [*found["cohen"], "fleiss", "krippendorff"]
    for name, (low, high) in found["intervals"].items():
        assert low <= found.get(name, found["cohen"].get(name)) <= high
    assert result("agreement", "--project", "P", *data) == found
    assert "Cohen's kappa, ann and bob: 0." in command("agreement", "--project", "P", *data).stdout


def test_what_is_undefined_is_null_and_says_why(tmp_path: Path) -> None:
    data = ("--data", str(tmp_path / "data"))
    votes_file(tmp_path / "votes.jsonl", names=("ann",))
    result("import", str(tmp_path / "votes.jsonl"), "--project", "P", *data)
    found = result("agreement", "--project", "P", *data)
    assert (found["cohen"], found["fleiss"], found["krippendorff"]) == ({}, None, None)
    assert found["undefined"] == dict.fromkeys(("cohen", "fleiss", "krippendorff"), "only one annotator")
    single = result("agreement", "--project", "P", "--kind", "single", *data)
    assert single["items"] == 0 and single["undefined"]["fleiss"] == "nobody has labelled a single answer yet"
    assert "no project 'Q'" in refusal("agreement", "--project", "Q", *data)
    assert "pairs" in refusal("agreement", "--project", "P", "--kind", "pairs", *data)
