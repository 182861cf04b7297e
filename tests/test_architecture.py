"""The table of who may import whom, and the other promises of the layout, held by reading the code."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    "storage", "labeling", "models", "training", "chat", "transfer", "review", "report", "arena", "publish", "demo", "commands",
)
OURS = {*PACKAGES, "app", "errors", "outbox", "settings"}
MAY_IMPORT = {
    "errors": set(),
    "settings": set(),
    "outbox": set(),
    "storage": {"errors"},
    "models": {"errors"},
    "demo": {"errors"},
    "labeling": {"storage", "errors"},
    "training": {"storage", "models", "errors"},
    "chat": {"storage", "models", "errors", "outbox", "demo"},
    "transfer": {"storage", "models", "errors", "outbox", "demo"},
    "review": {"storage", "labeling", "errors"},
    "report": {"storage", "models", "training", "errors", "outbox"},
    "publish": {"storage", "models", "training", "errors", "outbox"},
    "arena": {"storage", "models", "training", "transfer", "chat", "errors"},
    "commands": OURS - {"app"},
    "app": OURS,
}
TORCH_FAMILY = {"torch", "transformers", "peft", "accelerate", "safetensors"}
# What the web process loads: everything the page needs. None of it may bring torch in.
WEB_MODULES = (
    "app", "commands", "storage", "labeling.tab", "labeling.routes", "training.tab", "training.job",
    "training.config", "training.dataset", "chat.tab", "arena.tab", "report.tab", "publish.tab", "publish.api", "publish.hub", "transfer.tab", "review.tab", "models.client", "models.catalog",
    "demo.prompts",
)


def sources() -> list[Path]:
    """Return the program's Python files: the packages and the top-level modules, not the tests."""
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return files + [path for path in ROOT.glob("*.py")]


def owner(path: Path) -> str:
    """Return the package of a file, or the name of a top-level module."""
    relative = path.relative_to(ROOT)
    return relative.parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Return the full names of the modules a file imports, wherever in it the import stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def identify(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", sources(), ids=identify)
def test_a_file_imports_only_what_its_package_may(path: Path) -> None:
    package = owner(path)
    used = {name.split(".")[0] for name in imported(path)} & OURS
    assert used <= MAY_IMPORT[package] | {package}


@pytest.mark.parametrize("path", sources(), ids=identify)
def test_only_app_and_tabs_import_gradio(path: Path) -> None:
    uses = any(name.split(".")[0] == "gradio" for name in imported(path))
    assert not uses or path.name == "tab.py" or path == ROOT / "app.py"


@pytest.mark.parametrize("path", sources(), ids=identify)
def test_only_storage_holds_sql(path: Path) -> None:
    if owner(path) == "storage":
        return
    assert not {"sqlite3", "sqlite_utils"} & {name.split(".")[0] for name in imported(path)}
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\bSELECT\b.+\bFROM\b|\bINSERT INTO\b|\bUPDATE \w+ SET\b|\bDELETE FROM\b", text)


@pytest.mark.parametrize("path", sources(), ids=identify)
def test_every_module_and_public_function_has_a_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), f"{path} has no docstring"
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    public = [node for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
    assert [node.name for node in public if not ast.get_docstring(node)] == []


def run_python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_the_web_process_never_imports_torch() -> None:
    done = run_python(
        f"import importlib, sys\nfor name in {WEB_MODULES!r}: importlib.import_module(name)\n"
        f"print(sorted({TORCH_FAMILY!r} & set(sys.modules)))"
    )
    assert done.stdout.strip() == "[]", done.stderr or done.stdout


def test_training_imports_where_gradio_is_not_installed() -> None:
    done = run_python(
        "import sys\nfor name in ('gradio', 'fastapi', 'uvicorn', 'gradio_client'): sys.modules[name] = None\n"
        "import app, commands, training.run, training.trainer, training.job, models.loading, models.logps\nprint('ok')"
    )
    assert done.stdout.strip() == "ok", done.stderr


def test_torch_is_pinned_exactly() -> None:
    assert "torch==2.13.0" in (ROOT / "requirements.txt").read_text().splitlines()
