"""The page about publishing shows commands that exist, with options that they take, and every one of them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from commands import cli

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "publish.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```\n(.*?)```", TEXT, re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines() if line.startswith("python app.py ")]


@pytest.mark.parametrize("line", LINES)
def test_a_command_takes_what_is_shown(line: str) -> None:
    name, *arguments = shlex.split(line)[2:]
    with cli.commands[name].make_context(name, arguments) as context:
        assert isinstance(context, click.Context)


def test_every_command_of_publishing_is_shown() -> None:
    own = {name for name, each in cli.commands.items() if each.callback.__module__ == "commands.publish"}
    assert own == {line.split()[2] for line in LINES} == {"adapter", "merge", "push", "serve-commands", "api"}
