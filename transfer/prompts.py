"""Prompts that a person writes, a line each, into a project. Does not know models."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from errors import ConfigError, ImportFormatError
from storage import Project, Store
from transfer.formats.messages import RowError, as_text
from transfer.wording import counted

SOURCE = "written"


@dataclass(frozen=True)
class WriteReport:
    """How many prompts were new, and how many the project had already."""

    project: str
    prompts: int
    duplicates: int

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return asdict(self)

    def sentence(self) -> str:
        """Return the report in words."""
        said = f"{counted(self.prompts, 'new prompt')} in {self.project!r}."
        again = f" {counted(self.duplicates, 'line was', 'lines were')} there already."
        return said + again if self.duplicates else said


def write_prompts(store: Store, project: Project, text: str) -> WriteReport:
    """Store each line that is not empty as a prompt of the user.

    Raises ConfigError when there is no line, ImportFormatError when one holds characters that cannot be stored.
    """
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not lines:
        raise ConfigError("There is nothing to add: write one prompt a line")
    new = 0
    with store.transaction():
        for number, line in lines:
            try:
                messages = [{"role": "user", "content": as_text(line, "prompt")}]
            except RowError as error:
                raise ImportFormatError(f"Line {number}: {error}. Nothing was stored.") from error
            new += store.prompts.add(project.id, messages, SOURCE)[1]
    return WriteReport(project.name, new, len(lines) - new)
