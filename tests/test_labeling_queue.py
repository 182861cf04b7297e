"""The queue: what a tab gets, on which side, and that nobody gets too much."""

from __future__ import annotations

import threading
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errors import LabelError
from labeling import annotate, queue
from storage import Store

RACERS = 12


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    yield store
    store.close()


def make_items(store: Store, count: int, *, wanted: int = 1, singles: int = 0) -> int:
    project = store.projects.ensure("P")
    for number in range(count + singles):
        prompt_id, _ = store.prompts.add(project.id, [{"role": "user", "content": f"Question {number}"}])
        ids = [store.responses.add(prompt_id, f"{number} {side}", model="secret-model")[0] for side in "xy"]
        store.items.add(project.id, prompt_id, ids if number < count else ids[:1], wanted_labels=wanted)
    return project.id


@settings(deadline=None)
@given(
    annotator=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
    item_id=st.integers(1, 10**9),
    response_ids=st.lists(st.integers(1, 10**9), unique=True, max_size=6),
)
def test_shown_order_is_a_permutation_that_does_not_depend_on_the_stored_order(annotator, item_id, response_ids):
    order = queue.shown_order(annotator, item_id, response_ids)
    assert sorted(order) == sorted(response_ids)
    assert order == queue.shown_order(annotator, item_id, response_ids[::-1])


def test_each_side_is_shown_first_about_as_often():
    first_is_lower = [queue.shown_order("Ann", item, [2 * item, 2 * item + 1])[0] == 2 * item for item in range(4000)]
    assert 0.46 < sum(first_is_lower) / len(first_is_lower) < 0.54


def test_two_annotators_do_not_see_the_same_sides():
    def sides(name: str) -> list[list[int]]:
        return [queue.shown_order(name, item, [1, 2]) for item in range(200)]

    assert sides("Ann") == sides("Ann")
    assert 60 < sum(ann == bob for ann, bob in zip(sides("Ann"), sides("Bob"))) < 140


def test_a_card_names_no_model(store):
    project_id = make_items(store, 1)
    (card,) = queue.next_cards(store, project_id, "pair", "Ann", "session-1", 5)
    assert "secret-model" not in repr(asdict(card))
    assert card.messages == [{"role": "user", "content": "Question 0"}]
    assert {response.text for response in card.responses} == {"0 x", "0 y"}


def test_a_tab_that_asks_again_gets_the_same_cards_in_the_same_order(store):
    project_id = make_items(store, 20)
    first = queue.next_cards(store, project_id, "pair", "Ann", "session-1", 5)
    assert queue.next_cards(store, project_id, "pair", "Ann", "session-1", 5) == first


def test_a_reloaded_page_takes_over_what_it_held_before(store):
    project_id = make_items(store, 6)
    before = queue.lease_cards(store, project_id, "pair", "Ann", "session-1", 6)
    assert queue.next_cards(store, project_id, "pair", "Ann", "session-2", 6) == []
    after = queue.lease_cards(store, project_id, "pair", "Ann", "session-2", 6, previous="session-1")
    assert after == before


def test_two_tabs_never_hold_the_same_item(store):
    project_id = make_items(store, 10)
    mine = queue.lease_cards(store, project_id, "pair", "Ann", "session-1", 6).keys
    other_tab = queue.lease_cards(store, project_id, "pair", "Ann", "session-2", 6).keys
    assert len(mine) == 6 and len(other_tab) == 4 and not set(mine) & set(other_tab)


def test_cards_that_the_tab_has_are_renewed_but_not_sent_again(store):
    project_id = make_items(store, 4)
    keys = queue.lease_cards(store, project_id, "pair", "Ann", "session-1", 4).keys
    again = queue.lease_cards(store, project_id, "pair", "Ann", "session-1", 4, known=keys[:3])
    assert again.keys == keys
    assert [card.key for card in again.cards] == [keys[3]]


def test_a_reservation_ends_by_itself(store, monkeypatch):
    project_id = make_items(store, 3)
    monkeypatch.setattr(queue, "LEASE_SECONDS", -1.0)
    queue.next_cards(store, project_id, "pair", "Ann", "session-1", 3)
    assert len(queue.next_cards(store, project_id, "pair", "Bob", "session-2", 3)) == 3


def test_an_unknown_kind_is_refused(store):
    with pytest.raises(LabelError, match="pair or single or ranking"):
        queue.next_cards(store, make_items(store, 1), "triple", "Ann", "session-1", 1)


@pytest.mark.parametrize("wanted", [1, 3])
def test_a_race_for_the_last_items_ends_with_exactly_the_wanted_labels(store, wanted):
    project_id = make_items(store, 6, wanted=wanted)
    start = threading.Barrier(RACERS)
    failures: list[BaseException] = []

    def annotator(number: int) -> None:
        name, session, said = f"annotator {number}", f"session-{number}", 0
        start.wait()
        try:
            idle = 0
            while idle < 40:
                cards = queue.next_cards(store, project_id, "pair", name, session, 2)
                idle = 0 if cards else idle + 1
                for card in cards:
                    said += 1
                    annotate.record(
                        store, project_id, card.item_id, name, "ab"[said % 2],
                        [response.id for response in card.responses],
                        client_id=f"label-{number}-{said}", session=session, active_seconds=1.0,
                    )
                if not cards and store.items.counts(project_id)["pair"]["done"] == 6:
                    break
        except BaseException as error:  # a thread's error would otherwise be lost
            failures.append(error)
        finally:
            store.close()

    threads = [threading.Thread(target=annotator, args=(number,)) for number in range(RACERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for item_id in range(1, 7):
        labels = store.labels.history(item_id)
        assert len(labels) == wanted == store.items.get(item_id).label_count
        assert len({label.annotator for label in labels}) == wanted
