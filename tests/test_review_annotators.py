"""Figures of annotators: sides, checks, repeats, speed, and whether the order of a run found more than chance."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from review.annotators import AnnotatorFigures, figures, share
from storage import Project, Store


class Desk:
    """Pairs of one project and what people say of them."""

    def __init__(self, store: Store, project: Project) -> None:
        self.store, self.project, self.keys = store, project, iter(range(10**6))

    def item(self) -> tuple[int, list[int]]:
        number = next(self.keys)
        prompt_id, _ = self.store.prompts.add(self.project.id, [{"role": "user", "content": f"Question {number}?"}])
        ids = [self.store.responses.add(prompt_id, text)[0] for text in ("yes", "no")]
        return self.store.items.add(self.project.id, prompt_id, ids, wanted_labels=9)[0], ids

    def say(self, item: tuple[int, list[int]], who: str, word: str, *, mirrored: bool = False, **fields: Any) -> None:
        """Say "first" or "second" in stored order, or a verdict."""
        item_id, ids = item
        if word in ("first", "second"):
            fields["chosen_response_id"], word = ids[word == "second"], "chosen"
        self.store.labels.add(
            item_id, who, word, client_id=f"key-{next(self.keys)}",
            shown_response_ids=ids[::-1] if mirrored else ids, **fields,
        )

    def check(self, word: str) -> tuple[int, list[int]]:
        item = self.item()
        self.say(item, "owner", word, role="final")
        self.store.items.set_check(item[0], True)
        return item

    def of(self, name: str) -> AnnotatorFigures:
        return next(each for each in figures(self.store, self.project.id).annotators if each.name == name)


@pytest.fixture
def desk(store: Store, project: Project) -> Desk:
    return Desk(store, project)


@given(st.integers(0, 500), st.integers(0, 500))
def test_a_share_has_wilsons_interval_and_nothing_of_nothing(hits: int, others: int) -> None:
    found = share(hits, hits + others)
    if hits + others == 0:
        assert (found.value, found.low, found.high) == (None, None, None)
        return
    assert (found.low, found.high) == pytest.approx(proportion_confint(hits, hits + others, method="wilson"))
    assert found.low - 1e-12 <= found.value <= found.high + 1e-12


def test_left_is_what_was_shown_left_not_what_is_stored_first(desk: Desk) -> None:
    for mirrored, word in ((False, "first"), (True, "second"), (True, "second"), (True, "first"), (False, "tie")):
        desk.say(desk.item(), "ann", word, mirrored=mirrored)
    desk.say(desk.item(), "ann", "first", source="import")  # nobody knows how a file's rows were shown
    assert desk.of("ann").labels == 6 and (desk.of("ann").left.hits, desk.of("ann").left.of) == (3, 4)


def test_answers_to_checks_are_held_against_the_final_label_and_count_nowhere_else(desk: Desk) -> None:
    for known, said in (("first", "first"), ("first", "second"), ("tie", "tie"), ("both_bad", "tie")):
        desk.say(desk.check(known), "ann", said)
    assert (desk.of("ann").checks.hits, desk.of("ann").checks.of, desk.of("ann").labels) == (2, 4, 0)


def test_a_repeat_is_the_same_when_its_choice_is(desk: Desk) -> None:
    for first, second in (("first", "first"), ("first", "second"), ("tie", "tie")):
        item = desk.item()
        desk.say(item, "ann", first)
        desk.say(item, "ann", second, role="repeat", mirrored=True)
        desk.say(item, "bob", "both_bad")
    assert (desk.of("ann").repeats.hits, desk.of("ann").repeats.of, desk.of("bob").repeats.of) == (2, 3, 0)


def test_fast_labels_are_counted_for_people_by_the_projects_setting(desk: Desk) -> None:
    desk.store.projects.set_labeling(desk.project.id, {"fast_seconds": 2.0})
    for seconds in (0.5, 1.9, 2.0, 7.0, None):
        desk.say(desk.item(), "ann", "tie", active_seconds=seconds)
    desk.say(desk.item(), "ann", "tie", active_seconds=0.0, source="chat")
    assert (desk.of("ann").fast, desk.of("ann").median_seconds, desk.of("ann").labels) == (2, 1.95, 6)


def test_skips_and_flags_are_no_labels(desk: Desk) -> None:
    desk.say(desk.item(), "ann", "skip")
    desk.say(desk.item(), "ann", "flag")
    assert figures(desk.store, desk.project.id).annotators == ()


def test_an_order_is_held_against_shuffled_items_that_the_run_scored(desk: Desk) -> None:
    cases = [
        ("contradicted", 1.0, "second"), ("contradicted", -1.0, "first"), ("contradicted", 1.0, "first"),
        ("shuffled", 1.0, "first"), ("shuffled", -2.0, "first"), ("shuffled", 1.0, "tie"), ("shuffled", 0.0, "first"),
    ]
    for picked, margin, word in cases:
        item = desk.item()
        desk.store.db.execute("UPDATE items SET margin = ? WHERE id = ?", [margin, item[0]])
        desk.say(item, "ann", word, picked=picked)
    desk.say(desk.item(), "ann", "first", picked="shuffled")  # never scored
    found = {each.picked: (each.contradicted.hits, each.contradicted.of) for each in figures(desk.store, desk.project.id).orders}
    assert found == {"contradicted": (2, 3), "shuffled": (1, 2)}


def test_without_an_order_by_a_run_there_is_nothing_to_hold_against(desk: Desk) -> None:
    desk.say(desk.item(), "ann", "first", picked="shuffled")
    assert figures(desk.store, desk.project.id).orders == ()
