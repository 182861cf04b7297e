"""Labels: the append-only history, what is current, and what is refused."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from errors import LabelError, NotFoundError
from storage import Project, Store


def add_pair(store: Store, project: Project, text: str = "Why?") -> tuple[int, list[int]]:
    prompt_id, _ = store.prompts.add(project.id, [{"role": "user", "content": text}])
    responses = [store.responses.add(prompt_id, answer)[0] for answer in ("Because.", "No idea.")]
    return store.items.add(project.id, prompt_id, responses)[0], responses


def choose(store: Store, item_id: int, responses: list[int], client_id: str, annotator: str = "ann", **more):
    return store.labels.add(
        item_id, annotator, "chosen", client_id=client_id, shown_response_ids=responses,
        chosen_response_id=responses[0], **more,
    )


def test_the_same_client_id_stores_one_row(store: Store, project: Project) -> None:
    item_id, responses = add_pair(store, project)
    first = choose(store, item_id, responses, "one", active_seconds=2.5)
    again = choose(store, item_id, responses, "one", active_seconds=9.0)
    assert again == first and again.active_seconds == 2.5
    assert len(store.labels.history(item_id)) == 1


def test_undo_is_a_new_row_and_nothing_stays_current(store: Store, project: Project) -> None:
    item_id, responses = add_pair(store, project)
    label = choose(store, item_id, responses, "one")
    undo = store.labels.add(item_id, "ann", "undo", client_id="two", shown_response_ids=responses)
    assert undo.replaces_id == label.id
    assert [row.verdict for row in store.labels.history(item_id)] == ["chosen", "undo"]
    assert store.labels.current_of(item_id, "ann") is None
    assert store.items.get(item_id).label_count == 0


def test_a_change_replaces_the_current_label_and_keeps_the_old_row(store: Store, project: Project) -> None:
    item_id, responses = add_pair(store, project)
    first = choose(store, item_id, responses, "one")
    second = store.labels.add(item_id, "ann", "tie", client_id="two", shown_response_ids=responses)
    assert second.replaces_id == first.id
    assert store.labels.current_of(item_id, "ann") == second
    assert store.labels.counts(project.id) == {"tie": 1}


def test_labels_cannot_be_rewritten(store: Store, project: Project) -> None:
    item_id, responses = add_pair(store, project)
    choose(store, item_id, responses, "one")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        store.db.execute("UPDATE labels SET verdict = 'tie'")


@pytest.mark.parametrize(
    ("verdict", "shown", "chosen"),
    [
        ("good", [0, 1], None),  # a verdict for single responses
        ("chosen", [0, 1], None),  # names nothing
        ("tie", [0, 1], 0),  # names something
        ("chosen", [0, 1], 7),  # names a stranger
        ("tie", [0], None),  # shows too little
        ("tie", [0, 0], None),  # shows one twice
        ("undo", [0, 1], None),  # nothing to undo
    ],
)
def test_a_label_that_does_not_fit_its_item_is_refused(
    store: Store, project: Project, verdict: str, shown: list[int], chosen: int | None
) -> None:
    item_id, responses = add_pair(store, project)
    with pytest.raises(LabelError):
        store.labels.add(
            item_id, "ann", verdict, client_id="one", shown_response_ids=[responses[place] for place in shown],
            chosen_response_id=None if chosen is None else (responses[0] if chosen == 0 else 999),
        )
    assert store.labels.history(item_id) == []


def test_a_label_for_an_unknown_item_is_refused(store: Store) -> None:
    with pytest.raises(NotFoundError, match="item number 5"):
        store.labels.add(5, "ann", "tie", client_id="one", shown_response_ids=[1, 2])


def test_judged_gives_the_texts_and_marks_the_chosen_one(store: Store, project: Project) -> None:
    item_id, responses = add_pair(store, project)
    store.labels.add(
        item_id, "ann", "chosen", client_id="one", shown_response_ids=responses[::-1], chosen_response_id=responses[1]
    )
    (row,) = store.labels.judged(project.id)
    assert row["messages"] == [{"role": "user", "content": "Why?"}]
    assert [(each["text"], each["chosen"]) for each in row["responses"]] == [("Because.", False), ("No idea.", True)]


def test_judged_of_a_run_shows_the_snapshot_not_later_changes(store: Store, project: Project) -> None:
    item_id, responses = add_pair(store, project)
    label = choose(store, item_id, responses, "one")
    run = store.runs.create(project.id, "dpo", "demo", {}, [label.id])
    store.labels.add(item_id, "ann", "tie", client_id="two", shown_response_ids=responses)
    assert [row["verdict"] for row in store.labels.judged(project.id, run.id)] == ["chosen"]
    assert [row["verdict"] for row in store.labels.judged(project.id)] == ["tie"]


ACTIONS = st.lists(st.tuples(st.sampled_from(["ann", "bob"]), st.sampled_from(["chosen", "tie", "skip", "undo"])), max_size=12)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=ACTIONS)
def test_current_labels_and_counts_follow_any_history(store: Store, actions: list[tuple[str, str]]) -> None:
    project = store.projects.ensure(f"p{len(store.projects.list())}")
    item_id, responses = add_pair(store, project)
    expected: dict[str, str] = {}
    for number, (annotator, verdict) in enumerate(actions):
        call = lambda: store.labels.add(  # noqa: E731
            item_id, annotator, verdict, client_id=f"{project.id}-{number}", shown_response_ids=responses,
            chosen_response_id=responses[0] if verdict == "chosen" else None,
        )
        if verdict == "undo" and annotator not in expected:
            with pytest.raises(LabelError):
                call()
            continue
        call()
        expected.pop(annotator, None)
        if verdict != "undo":
            expected[annotator] = verdict
    for annotator in ("ann", "bob"):
        current = store.labels.current_of(item_id, annotator)
        assert (current.verdict if current else None) == expected.get(annotator)
    assert store.items.get(item_id).label_count == sum(verdict != "skip" for verdict in expected.values())
