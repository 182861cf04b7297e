"""The documentation names what the program has: every method, setting, format and command."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from commands import cli
from models.lora_files import PROVENANCE
from training.config import TrainingConfig
from training.methods import METHODS
from transfer.exporting.export import KINDS
from transfer.formats.registry import FORMATS

ROOT = Path(__file__).resolve().parent.parent


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_and_its_settings_are_explained(method: str) -> None:
    text = read("docs/methods.md")
    assert f"(`{method}`)" in text and METHODS[method].title in text
    assert [spec.name for spec in fields(METHODS[method]) if f"`{spec.name}`" not in text] == []


def test_every_setting_of_a_run_is_explained() -> None:
    text = read("docs/methods.md")
    names = [spec.name for spec in fields(TrainingConfig) if "help" in spec.metadata]
    assert [name for name in names if f"`{name}`" not in text] == []
    assert [file for file in ("training_config.json", "metrics.json", PROVENANCE) if f"`{file}`" not in text] == []


def test_every_format_that_is_read_or_written_is_listed() -> None:
    text = read("docs/data.md")
    assert [name for name in [*(each.name for each in FORMATS), *KINDS] if name not in text] == []


def test_the_readme_shows_every_command() -> None:
    shown = set(re.findall(r"python app\.py \[?([\w-]+)", read("README.md")))
    assert set(cli.commands) - {"serve"} == shown - {"serve"}


@pytest.mark.parametrize("name", ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_links_lead_somewhere(name: str) -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", read(name))
    assert [link for link in links if not ((ROOT / name).parent / link).exists()] == []
