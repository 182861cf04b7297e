"""Items and leases: who is given what, and that nobody gets what another holds."""

from __future__ import annotations

import threading
from contextlib import closing
from itertools import islice

import pytest

from errors import NotFoundError
from storage import Project, Store
from storage.leases import Held


def add_items(store: Store, project: Project, count: int, wanted: int = 1) -> list[int]:
    ids = []
    for number in range(count):
        prompt_id, _ = store.prompts.add(project.id, [{"role": "user", "content": f"Question {number}"}])
        responses = [store.responses.add(prompt_id, answer)[0] for answer in ("yes", "no")]
        ids.append(store.items.add(project.id, prompt_id, responses, wanted_labels=wanted)[0])
    return ids


def lease(store: Store, project: Project, session: str, count: int = 4, annotator: str = "ann", seconds: float = 60):
    """Reserve pairs for a tab, as `labeling.queue` does, and return their ids in order."""
    with store.transaction():
        held = store.leases.held(project.id, "pair", annotator, session)
        with closing(store.leases.free(project.id, "pair", annotator, session, "shuffled")) as free:
            held += [Held(item_id, "shuffled") for item_id in islice(free, count - len(held))]
        store.leases.take(session, annotator, held, seconds)
    return [one.item_id for one in held]


def label(store: Store, item_id: int, annotator: str = "ann", verdict: str = "tie") -> None:
    shown = [response.id for response in store.items.card(item_id).responses]
    store.labels.add(item_id, annotator, verdict, client_id=f"{item_id}-{annotator}-{verdict}", shown_response_ids=shown)


def test_two_tabs_are_never_given_the_same_item(store: Store, project: Project) -> None:
    add_items(store, project, 6)
    first, second = lease(store, project, "tab 1"), lease(store, project, "tab 2")
    assert len(first) == 4 and len(second) == 2 and not set(first) & set(second)


def test_a_tab_keeps_its_items_in_their_order(store: Store, project: Project) -> None:
    add_items(store, project, 6)
    assert lease(store, project, "tab") == lease(store, project, "tab")


def test_an_expired_lease_is_free_again(store: Store, project: Project) -> None:
    add_items(store, project, 1)
    assert lease(store, project, "tab 1", seconds=-1) == lease(store, project, "tab 2") != []


def test_released_items_are_free_again(store: Store, project: Project) -> None:
    add_items(store, project, 3)
    held = lease(store, project, "tab 1")
    store.leases.release("tab 1", held[:1])
    assert lease(store, project, "tab 2") == held[:1]
    store.leases.release("tab 1")
    assert len(lease(store, project, "tab 2")) == 3


def test_an_item_that_wants_two_labels_goes_to_two_people_once_each(store: Store, project: Project) -> None:
    (item,) = add_items(store, project, 1, wanted=2)
    assert lease(store, project, "tab 1", annotator="ann") == [item]
    assert lease(store, project, "tab 2", annotator="ann") == []
    assert lease(store, project, "tab 3", annotator="bob") == [item]
    assert lease(store, project, "tab 4", annotator="cat") == []


def test_labelled_and_skipped_items_do_not_come_back_to_the_same_person(store: Store, project: Project) -> None:
    done, skipped, rest = add_items(store, project, 3)
    label(store, done)
    label(store, skipped, verdict="skip")
    assert lease(store, project, "tab") == [rest]
    assert set(lease(store, project, "tab 2", annotator="bob")) == {skipped}
    assert store.items.counts(project.id)["pair"] == {"total": 3, "done": 1}


def test_many_threads_share_the_last_items_without_overlap(store: Store, project: Project) -> None:
    ids = add_items(store, project, 40)
    given: list[int] = []

    def work(number: int) -> None:
        given.extend(lease(store, project, f"tab {number}", 3, f"person {number}"))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(given) == sorted(ids)


def test_an_item_is_stored_once_whatever_the_order_of_its_responses(store: Store, project: Project) -> None:
    prompt_id, _ = store.prompts.add(project.id, [{"role": "user", "content": "?"}])
    a, b = (store.responses.add(prompt_id, text)[0] for text in "ab")
    assert store.items.add(project.id, prompt_id, [a, b])[1] is True
    assert store.items.add(project.id, prompt_id, [b, a])[1] is False
    assert store.items.get(store.items.add(project.id, prompt_id, [a])[0]).kind == "single"


@pytest.mark.parametrize("responses", [[], [1, 1], [1, 2, 99], [99], [1, 2, 3, 4, 5, 6, 7]])
def test_an_item_of_wrong_responses_is_refused_and_leaves_nothing(store: Store, project: Project, responses) -> None:
    prompt_id, _ = store.prompts.add(project.id, [{"role": "user", "content": "?"}])
    for text in "abcdefg":
        store.responses.add(prompt_id, text)
    with pytest.raises(NotFoundError):
        store.items.add(project.id, prompt_id, responses)
    assert store.items.counts(project.id)["pair"]["total"] == store.items.counts(project.id)["single"]["total"] == 0


def test_pairs_are_read_in_batches_with_what_most_votes_prefer(store: Store, project: Project) -> None:
    first, second, third = add_items(store, project, 3, wanted=3)
    ids = store.items.response_ids(first)
    for annotator, place in (("ann", 1), ("bob", 1), ("cid", 0)):
        store.labels.add(
            first, annotator, "chosen", client_id=f"{annotator} 1", shown_response_ids=ids, chosen_response_id=ids[place]
        )
    label(store, second, verdict="tie")
    single = store.items.add(project.id, store.items.get(first).prompt_id, ids[:1])[0]
    batch = store.items.pairs(project.id, limit=2)
    assert [(row["id"], row["majority"]) for row in batch] == [(first, 1), (second, None)]
    card = store.items.card(first)
    assert batch[0]["messages"] == card.prompt.messages
    assert list(batch[0]["responses"]) == [response.text for response in card.responses]
    rest = store.items.pairs(project.id, after_id=second)
    assert [row["id"] for row in rest] == [third] and single not in [row["id"] for row in rest]
    assert store.items.pairs(project.id, after_id=third) == []


def test_new_margins_take_the_place_of_all_earlier_ones(store: Store, project: Project) -> None:
    first, second = add_items(store, project, 2)
    assert store.items.set_margins(project.id, [(first, 1.5, None)]) == 1
    assert store.items.set_margins(project.id, [(second, -0.5, 0.7)]) == 1
    assert store.items.get(first).margin is None and store.items.get(second).contradiction == 0.7
