"""What the program is told at start-up, read once. It does not know any package of ours."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Settings of one process; the command line fills them, the environment gives the defaults.

    data: folder of the database, adapters and logs; made when it is missing.
    host, port: where the page is served; port 0 takes a free one.
    device: "auto" (a GPU where there is one), "cpu", "cuda" or "mps".
    """

    data: Path = field(default_factory=lambda: Path(os.environ.get("PREFERENCE_STUDIO_DATA", "data")))
    host: str = "127.0.0.1"
    port: int = 7860
    device: str = field(default_factory=lambda: os.environ.get("PREFERENCE_STUDIO_DEVICE", "auto"))
