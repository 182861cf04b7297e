"""Fixtures every test may use: a store in a temporary folder, with or without things to label."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import Project, Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store in a folder of its own."""
    opened = Store(tmp_path / "data")
    yield opened
    opened.close()


@pytest.fixture
def project(store: Store) -> Project:
    """A project without prompts."""
    return store.projects.ensure("Test project")
