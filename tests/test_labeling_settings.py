"""How a project is labelled: kept as JSON, checked as a whole."""

from __future__ import annotations

import pytest

from errors import ConfigError
from labeling.settings import ORDERS, LabelingSettings


@pytest.mark.parametrize("order", ORDERS)
def test_settings_survive_being_kept(store, project, order):
    settings = LabelingSettings(labels_per_item=3, order=order, check_rate=0.1, reasons=("true", "kind"))
    store.projects.set_labeling(project.id, settings.as_dict())
    assert LabelingSettings.of(store.projects.by_id(project.id).labeling) == settings


def test_a_project_without_settings_has_the_defaults(project):
    assert LabelingSettings.of(project.labeling) == LabelingSettings()


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"labels_per_item": 0}, "labels_per_item"), ({"labels_per_item": 2.5}, "labels_per_item"),
        ({"labels_per_item": True}, "labels_per_item"), ({"order": "best"}, "order"), ({"check_rate": 0.6}, "check_rate"),
        ({"random_share": -0.1}, "random_share"), ({"repeat_rate": "often"}, "repeat_rate"),
        ({"fast_seconds": float("nan")}, "fast_seconds"), ({"reasons": ["a", "a"]}, "reasons"),
        ({"reasons": [""]}, "reason"), ({"reasons": ["x" * 41]}, "reason"), ({"reasons": [5]}, "reason"), ({"reasons": None}, "reasons"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(values, problem):
    with pytest.raises(ConfigError, match=problem):
        LabelingSettings.of(values)


def test_every_problem_is_listed():
    with pytest.raises(ConfigError) as refused:
        LabelingSettings.of({"labels_per_item": 0, "order": "best", "check_rate": 2})
    assert len(refused.value.problems) == 3


def test_new_items_want_what_the_project_says_and_old_ones_can_be_changed(store, project):
    store.projects.set_labeling(project.id, LabelingSettings(labels_per_item=3).as_dict())
    prompt_id, _ = store.prompts.add(project.id, [{"role": "user", "content": "Why?"}])
    responses = [store.responses.add(prompt_id, text)[0] for text in "ab"]
    item_id, _ = store.items.add(project.id, prompt_id, responses)
    assert store.items.get(item_id).wanted_labels == 3
    store.items.want(project.id, 2)
    assert store.items.get(item_id).wanted_labels == 2
