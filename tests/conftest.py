"""Fixtures every test may use: a store in a temporary folder, a browser, the store's Label page opened in it."""

from __future__ import annotations

import os

# Before torch is loaded, and for the processes that tests start: threads that wait by spinning take the cores from the tests
# beside them. Three files of training, two at a time on two cores: 49 s, and 202 s without it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from storage import Project, Store

# How long an example takes says more of what else the machine does.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


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


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """A headless Chromium, one a module: two at a time cannot be driven by one thread."""
    from tests.browser import open_browser

    with open_browser() as started:
        yield started


@pytest.fixture
def opened(store: Store, browser) -> Callable[..., AbstractContextManager]:
    """A function that serves the store's Label page and opens it, ready to take keys; options as in `open_page`."""
    from tests.browser import open_page, serve
    from tests.labeling_page import make_app

    @contextmanager
    def opened(**options) -> Iterator:
        with serve(make_app(store)) as address, open_page(address, browser, **options) as page:
            yield page

    return opened
