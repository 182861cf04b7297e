"""Saving how a project is labelled: all of it or nothing, and items want what the project says."""

from __future__ import annotations

import pytest

from errors import ConfigError, NotFoundError
from labeling.settings import LabelingSettings
from review.project import save, settings_of, tags
from storage import Project, Store

DEFAULTS = LabelingSettings().as_dict()


def add_item(store: Store, project: Project, number: int) -> int:
    prompt_id, _ = store.prompts.add(project.id, [{"role": "user", "content": f"Question {number}?"}])
    return store.items.add(project.id, prompt_id, [store.responses.add(prompt_id, "yes")[0]])[0]


def test_what_is_saved_is_what_is_read(store: Store, project: Project) -> None:
    values = {**DEFAULTS, "order": "fewest", "check_rate": 0.1, "reasons": "clear, polite,\nclear\n\n correct "}
    saved = save(store, project.id, " Be kind. ", values)
    assert saved == settings_of(store, project.id) == LabelingSettings.of({**values, "reasons": ["clear", "polite", "correct"]})
    assert store.projects.by_id(project.id).guidelines == "Be kind."


def test_items_that_are_there_want_what_the_project_says_when_it_changes(store: Store, project: Project) -> None:
    first = add_item(store, project, 1)
    save(store, project.id, "", {**DEFAULTS, "labels_per_item": 3.0})  # a number field gives floats
    assert [store.items.get(item).wanted_labels for item in (first, add_item(store, project, 2))] == [3, 3]
    store.db.execute("UPDATE items SET wanted_labels = 7")
    save(store, project.id, "Other guidelines", {**DEFAULTS, "labels_per_item": 3})
    assert store.items.get(first).wanted_labels == 7


def test_every_problem_is_listed_and_nothing_is_saved(store: Store, project: Project) -> None:
    with pytest.raises(ConfigError) as caught:
        save(store, project.id, "New", {**DEFAULTS, "labels_per_item": 2.5, "check_rate": None, "reasons": "x" * 41})
    assert len(caught.value.problems) == 3
    assert store.projects.by_id(project.id).guidelines == "" and settings_of(store, project.id) == LabelingSettings()
    with pytest.raises(ConfigError, match="guidelines"):
        save(store, project.id, "half a \ud800 character", DEFAULTS)
    with pytest.raises(NotFoundError):
        save(store, 99, "", DEFAULTS)


def test_tags_are_apart_by_commas_or_lines() -> None:
    assert tags("a, b\nc,,\n a") == ["a", "b", "c"] and tags("") == []
