"""Lines that a person writes become prompts, once each."""

from __future__ import annotations

import pytest

from errors import ConfigError, ImportFormatError
from storage import Project, Store
from transfer.prompts import write_prompts


def test_each_line_becomes_a_prompt_once(store: Store, project: Project) -> None:
    report = write_prompts(store, project, "One?\r\n\n  Two?  \nOne?\n你好？")
    assert (report.prompts, report.duplicates) == (3, 1)
    assert [prompt.messages for prompt in store.prompts.list(project.id)] == [
        [{"role": "user", "content": text}] for text in ("One?", "Two?", "你好？")
    ]
    assert write_prompts(store, project, "Two?").prompts == 0


def test_no_line_and_broken_lines_are_refused_whole(store: Store, project: Project) -> None:
    with pytest.raises(ConfigError, match="one prompt a line"):
        write_prompts(store, project, " \n ")
    with pytest.raises(ImportFormatError, match="Line 2: .*NUL"):
        write_prompts(store, project, "Fine\nbad\0")
    assert store.prompts.count(project.id) == 0
