"""The load and size benchmarks in a short form: they end, nothing is lost or doubled, no lock is given up on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def figures(module: str, *arguments: str) -> dict:
    """Run a benchmark and return what it prints as JSON; it ends with an error when a label is lost or doubled."""
    command = [sys.executable, "-m", f"benchmarks.{module}", "--json", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "locked" not in done.stderr and "Traceback" not in done.stderr, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_fifty_annotators_beside_a_run_lose_and_double_nothing():
    found = figures("labeling_load", "--labels", "1500")
    assert found["sent"] == found["stored"] == 1500 and found["metric_rows_beside"] >= 1


def test_a_larger_project_is_measured_against_a_small_one():
    found = figures("labeling_size", "--sizes", "500,5000", "--calls", "20")
    assert set(found) == {"500", "5000"} and set(found["500"]) == set(found["5000"]) and len(found["500"]) == 7


def test_open_sessions_are_measured():
    found = figures("labeling_sessions", "--sessions", "10", "--minutes", "2")
    assert found["requests"] > 150 and found["ratio"] < 1.2
