"""The queue: what a tab gets, on which side, and that nobody gets too much."""

from __future__ import annotations

import random
import threading
from dataclasses import asdict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from errors import LabelError
from labeling import annotate, queue
from labeling.settings import LabelingSettings
from storage import Store, leases

RACERS = 50


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


def configure(store: Store, project_id: int, **values) -> None:
    store.projects.set_labeling(project_id, LabelingSettings(**values).as_dict())
    store.items.want(project_id, values.get("labels_per_item", 1))


def label(store: Store, project_id: int, card: queue.ShownCard, name: str, picked: str | None = None) -> None:
    annotate.record(
        store, project_id, card.item_id, name, "a" if card.kind == "pair" else "good",
        [response.id for response in card.responses], client_id=f"client-{name}-{card.key}", session=f"session-{name}",
        picked=picked,
    )


def work(store: Store, project_id: int, name: str, count: int, draws: random.Random | None = None) -> list[str]:
    """Label up to `count` cards one at a time; return their keys."""
    keys = []
    while len(keys) < count:
        lease = queue.lease_cards(store, project_id, "pair", name, f"session-{name}", 4, draws=draws)
        if not lease.cards:
            break
        picked = lease.cards[0].ticket.partition(".")[0]
        label(store, project_id, lease.cards[0], name, picked)
        keys.append(lease.cards[0].key)
    return keys


def test_items_with_the_fewest_labels_come_first(store):
    project_id = make_items(store, 12, wanted=3)
    configure(store, project_id, labels_per_item=3, order="fewest")
    assert len(work(store, project_id, "Ann", 5)) == 5
    assert len(work(store, project_id, "Bob", 7)) == 7
    assert [store.items.get(item).label_count for item in range(1, 13)] == [1] * 12
    assert len(set(work(store, project_id, "Bob", 99))) == 5  # Ann's, and none of his own again
    assert sorted(store.items.get(item).label_count for item in range(1, 13)) == [1] * 7 + [2] * 5


def test_an_annotator_gets_every_item_once_wherever_they_begin(store):
    project_id = make_items(store, 60, wanted=2)
    for name in ("Ann", "Bob"):
        assert sorted(map(int, work(store, project_id, name, 99))) == list(range(1, 61))
    assert work(store, project_id, "Cat", 1) == []


def test_what_was_skipped_past_comes_back_when_it_is_free_again(store):
    project_id = make_items(store, 8)
    held = queue.lease_cards(store, project_id, "pair", "Bob", "session-Bob", 3).keys
    assert len(work(store, project_id, "Ann", 99)) == 5
    store.leases.release("session-Bob")
    assert set(work(store, project_id, "Ann", 99)) == set(held)


def test_new_items_are_found_behind_where_somebody_is(store):
    project_id = make_items(store, 5)
    assert len(work(store, project_id, "Ann", 99)) == 5
    make_items(store, 30)
    assert len(work(store, project_id, "Ann", 99)) == 25


def test_items_with_known_answers_are_mixed_in_at_the_chosen_rate_and_never_alone(store):
    project_id = make_items(store, 400)
    for item_id in range(1, 101):
        ids = store.items.response_ids(item_id)
        store.labels.add(item_id, "Judge", "tie", client_id=f"final-{item_id:04d}", shown_response_ids=ids, role="final")
        store.items.set_check(item_id, True)
    configure(store, project_id, check_rate=0.2)
    assert store.items.counts(project_id)["pair"] == {"total": 300, "done": 0}
    cards = queue.lease_cards(store, project_id, "pair", "Ann", "session-Ann", 50, draws=random.Random(1)).cards
    checks = sum(card.item_id <= 100 for card in cards)
    assert len(cards) == 50 and 3 <= checks <= 18
    keys = work(store, project_id, "Bob", 999, random.Random(2))
    assert sum(int(key) <= 100 for key in keys) >= 20
    assert len(set(keys)) == len(keys) and work(store, project_id, "Cat", 1) == []


def test_ones_own_items_are_asked_again_once_with_sides_of_their_own(store):
    project_id = make_items(store, 80)
    configure(store, project_id, repeat_rate=0.3)
    cards, draws = [], random.Random(3)
    while lease := queue.lease_cards(store, project_id, "pair", "Ann", "session-Ann", 4, draws=draws).cards:
        for card in lease:
            label(store, project_id, card, "Ann", "repeat" if card.key.endswith("r") else "shuffled")
            cards.append(card)
    first = {card.item_id: card for card in cards if not card.key.endswith("r")}
    again = {card.item_id: card for card in cards if card.key.endswith("r")}
    assert len(first) == 80 and 5 <= len(again) < 60 and len(cards) == len(first) + len(again)
    assert store.labels.counts(project_id) == {"chosen": 80}
    turned = [again[item].responses != first[item].responses for item in again]
    assert any(turned) and not all(turned)


def test_a_search_that_was_cut_short_says_so_and_goes_on(store, monkeypatch):
    monkeypatch.setattr(leases, "MOST_ROWS", 20)
    project_id = make_items(store, 50, wanted=2)
    store.db.execute("UPDATE items SET position = id / 100.0")
    for item_id in range(1, 50):
        annotate.record(
            store, project_id, item_id, "Ann", "tie", store.items.response_ids(item_id), client_id=f"client-{item_id:04d}",
            session="session-Ann",
        )
    configure(store, project_id, labels_per_item=2)
    answers = []
    while not answers or (answers[-1].more and not answers[-1].cards):
        answers.append(queue.lease_cards(store, project_id, "pair", "Ann", "session-Ann", 1))
    assert len(answers) > 1 and [card.item_id for card in answers[-1].cards] == [50]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), wanted=st.integers(1, 3), order=st.sampled_from(["shuffled", "fewest"]))
def test_however_people_come_and_go_no_item_gets_more_than_it_wants(tmp_path_factory, data, wanted, order):
    store = Store(tmp_path_factory.mktemp("store"))
    project_id = make_items(store, 5, wanted=wanted)
    configure(store, project_id, labels_per_item=wanted, order=order)
    held: dict[str, list] = {}
    for _ in range(data.draw(st.integers(5, 30))):
        name = data.draw(st.sampled_from("ABCD"))
        what = data.draw(st.sampled_from(["lease", "label", "label", "release"]))
        if what == "lease":
            held[name] = list(queue.lease_cards(store, project_id, "pair", name, f"session-{name}", 3).cards)
        elif what == "release":
            store.leases.release(f"session-{name}")
            held.pop(name, None)
        elif held.get(name):
            label(store, project_id, held[name].pop(), name)
        for item_id in range(1, 6):
            holders = {person for person, cards in held.items() if any(card.item_id == item_id for card in cards)}
            votes = {vote.annotator for vote in store.labels.current(item_id)}
            assert len(votes) <= wanted and len(votes | holders) <= wanted
    store.close()


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
