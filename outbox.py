"""The folder of files that wait for their download. It does not know what they are.

One for each process, among the temporary files, because Gradio serves none from elsewhere; it goes when the process ends.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path


def outbox() -> Path:
    """Return the folder; made when it is asked for the first time."""
    return Path(_folder().name)


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="preference-studio-")
