"""The folder of files that wait for their download. It does not know what they are.

One for each process, among the temporary files, because Gradio serves none from elsewhere; it goes when the process ends.
"""

from __future__ import annotations

import tempfile
import threading
from functools import cache
from pathlib import Path

_making = threading.Lock()  # of two that were made at once, one would go at once


def outbox() -> Path:
    """Return the folder; made when it is asked for the first time."""
    with _making:
        return Path(_folder().name)


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="preference-studio-")
