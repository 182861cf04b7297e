"""What browser tests share: a served app and a page of a real Chromium that fails a test on any script error.

    with serve(app) as address, open_page(address) as page:
        expect(page.get_by_text("Hello")).to_be_visible()
"""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from playwright.sync_api import Browser, Page, expect, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
]
START_SECONDS = 60.0
# A busy machine takes long to open a page; what holds is seen at once, however long this is.
EXPECT_MS = 20_000


def chromium() -> str | None:
    """Return the path of a Chromium or Chrome on this machine, or None (playwright's own is used then)."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


@contextmanager
def serve(app: Any) -> Iterator[str]:
    """Serve an ASGI app in a thread on a free port; yield its address, as "http://127.0.0.1:PORT/"."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    ready = threading.Event()
    for _ in range(int(START_SECONDS * 20)):
        if server.started or not thread.is_alive() or ready.wait(0.05):
            break
    if not server.started:
        raise RuntimeError("The server of the browser test did not start.")
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start a headless Chromium; close it at the end."""
    expect.set_options(timeout=EXPECT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def open_page(
    address: str, browser: Browser | None = None, *, width: int = 1440, height: int = 900, **context: Any
) -> Iterator[Page]:
    """Open an address in a new context of a browser (one is started when none is given); yield the page.

    context: further options of `browser.new_context`. At the end, fails with what any page of it has thrown.
    """
    if browser is None:
        with open_browser() as own, open_page(address, own, width=width, height=height, **context) as page:
            yield page
        return
    session = browser.new_context(viewport={"width": width, "height": height}, **context)
    thrown: list[str] = []
    session.on("weberror", lambda error: thrown.append(str(error.error)))
    try:
        page = session.new_page()
        page.goto(address)
        yield page
    finally:
        session.close()
    assert not thrown, f"The page threw: {thrown}"
