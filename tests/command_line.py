"""What tests of the command line share: the program run as scripts run it, in a process of its own, and what it said."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def command(*words: str) -> subprocess.CompletedProcess:
    """Run a command to its end, whatever that is."""
    return subprocess.run(
        [sys.executable, "app.py", *words], cwd=ROOT, capture_output=True, text=True, timeout=540, check=False
    )


def result(*words: str) -> dict[str, Any]:
    """Run a command with --json; return the object that is its last line."""
    done = command(*words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def refusal(*words: str) -> str:
    """Run a command that must fail in the agreed way: exit code 2 and one line, which is returned."""
    done = command(*words)
    assert done.returncode == 2, (done.stdout, done.stderr)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and "Traceback" not in done.stderr, done.stderr
    return lines[0]
