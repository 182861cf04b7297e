"""How a project is to be labelled, as its owner changes it: guidelines and `labeling.settings`. Knows no page."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from errors import ConfigError
from labeling.settings import LabelingSettings
from storage import Store

MOST_GUIDELINES_CHARACTERS = 50_000


def settings_of(store: Store, project_id: int) -> LabelingSettings:
    """Return a project's settings. Raises NotFoundError."""
    return LabelingSettings.of(store.projects.by_id(project_id).labeling)


def save(store: Store, project_id: int, guidelines: str, values: Mapping[str, Any]) -> LabelingSettings:
    """Keep a project's guidelines and settings, and return these; all of it or nothing.

    values: by the names of LabelingSettings; reasons may be one text, tags apart by commas or lines. When the number
    of labels an item wants changes, it changes for the items that are there too.
    Raises ConfigError listing every problem, NotFoundError when there is no such project.
    """
    if len(guidelines) > MOST_GUIDELINES_CHARACTERS or not _storable(guidelines):
        raise ConfigError(f"the guidelines should be clean text of at most {MOST_GUIDELINES_CHARACTERS:,} characters")
    wanted = {**values, "reasons": tags(values.get("reasons", ""))}
    settings = LabelingSettings.of({name: _whole(value) for name, value in wanted.items()})
    with store.transaction():
        before = settings_of(store, project_id)
        store.projects.set_guidelines(project_id, guidelines.strip())
        store.projects.set_labeling(project_id, settings.as_dict())
        if settings.labels_per_item != before.labels_per_item:
            store.items.want(project_id, settings.labels_per_item)
    return settings


def tags(reasons: str | list[str] | tuple[str, ...]) -> list[str]:
    """Return the tags of a text, apart by commas or lines, each once."""
    parts = re.split(r"[,\n]", reasons) if isinstance(reasons, str) else reasons
    return list(dict.fromkeys(tag.strip() for tag in parts if tag.strip()))


def _whole(value: Any) -> Any:
    """A number field of a page gives 3.0 for 3."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
