"""Which page is being answered at the moment, and what it shows afterwards. Does not know what an answer is.

One question a page: whoever wants to show something else meanwhile hands it to the running answer, which ends and
shows it as its own last word. So no late piece of an answer can paint over what came after it (cancelling the
event from the browser does not prevent that: it was seen).
"""

from __future__ import annotations

import threading
from typing import Any

from errors import ConfigError


class Stream:
    """The running answer of one page. stop: set to end it; successor: what to show instead, once there is something."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.successor: Any = None


class Streams:
    """The running answers of all pages. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._streams: dict[str, Stream] = {}

    def begin(self, page: str) -> Stream:
        """Return a new stream for a page. Raises ConfigError while an answer to it is being written."""
        with self._lock:
            if page in self._streams:
                raise ConfigError("The models are still answering. Wait for them, or press stop first.")
            return self._streams.setdefault(page, Stream())

    def end(self, page: str) -> Any:
        """Stop and forget a page's stream; return what is to be shown instead, None for nothing."""
        with self._lock:
            stream = self._streams.pop(page)
        stream.stop.set()
        return stream.successor

    def stop(self, page: str) -> None:
        """Stop the answers of a page, if any are being written."""
        with self._lock:
            if page in self._streams:
                self._streams[page].stop.set()

    def replace(self, page: str, successor: Any) -> bool:
        """Stop the answers of a page and leave it to them to show `successor`; return False when there are none."""
        with self._lock:
            if (stream := self._streams.get(page)) is None:
                return False
            stream.successor = successor
            stream.stop.set()
            return True

    def is_busy(self, page: str) -> bool:
        """Return whether answers for a page are being written."""
        with self._lock:
            return page in self._streams
