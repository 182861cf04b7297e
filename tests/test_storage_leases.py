"""Leases: the walk through a lane costs what it finds, whatever the project's size."""

from __future__ import annotations

from contextlib import closing
from itertools import islice

import pytest

from storage import Store, leases
from storage.leases import LANES, Held

WHO = ("pair", "ann", "session-1")


def add_pairs(store: Store, project_id: int, count: int, wanted: int = 1) -> list[int]:
    ids = []
    with store.transaction():
        for number in range(count):
            prompt_id, _ = store.prompts.add(project_id, [{"role": "user", "content": f"Question {number}"}])
            responses = [store.responses.add(prompt_id, text)[0] for text in "ab"]
            ids.append(store.items.add(project_id, prompt_id, responses, wanted_labels=wanted)[0])
    return ids


def free(store: Store, project_id: int, lane: str = "shuffled", tier: int | None = None, count: int | None = None):
    """Return what a lane has for Ann, as one call would find it."""
    with store.transaction(), closing(store.leases.free(project_id, *WHO, lane, tier)) as found:
        return list(islice(found, count))


def vote(store: Store, item_id: int, annotator: str = "ann") -> None:
    shown = store.items.response_ids(item_id)
    store.labels.add(item_id, annotator, "tie", client_id=f"{annotator}-{item_id}", shown_response_ids=shown)


@pytest.mark.parametrize("lane", LANES)
def test_a_lane_is_walked_by_its_index_without_a_sort_or_a_scan(store, project, lane, monkeypatch):
    asked = []
    store.db.conn.set_trace_callback(asked.append)
    free(store, project.id, lane, 0 if lane == "fewest" else None)
    store.db.conn.set_trace_callback(None)
    (walk,) = [sql for sql in asked if "INDEXED BY" in sql]
    plan = [row[3] for row in store.db.conn.execute(f"EXPLAIN QUERY PLAN {walk}")]
    assert any(f"SEARCH items USING INDEX items_{lane}" in step for step in plan)
    assert [step for step in plan if step.startswith("SCAN") or "TEMP B-TREE" in step] == []


def test_a_call_looks_at_a_bounded_number_of_rows_and_the_next_goes_on_there(store, project, monkeypatch):
    ids = add_pairs(store, project.id, 60, wanted=2)
    for item_id in ids[:50]:
        vote(store, item_id)
    store.db.execute("UPDATE items SET position = id / 100.0")
    monkeypatch.setattr(leases, "MOST_ROWS", 20)
    found = [free(store, project.id, count=3) for _ in range(4)]
    assert found[:2] == [[], []] and found[2] == ids[50:53] and found[3] == ids[53:56]


def test_items_of_one_key_are_all_found(store, project):
    ids = add_pairs(store, project.id, 50, wanted=2)
    store.items.set_margins(project.id, [(item_id, 0.25, None) for item_id in ids])
    found = []
    for _ in range(10):
        part = free(store, project.id, "uncertain", count=5)
        for item_id in part:
            vote(store, item_id)
        found += part
    assert sorted(found) == ids and free(store, project.id, "uncertain") == []


def test_uncertain_and_contradicted_items_come_in_the_order_of_their_scores(store, project):
    ids = add_pairs(store, project.id, 4)
    scores = [(ids[0], 0.5, 0.2), (ids[1], -0.1, None), (ids[2], -3.0, 0.9)]
    assert store.items.set_margins(project.id, scores) == 3
    assert free(store, project.id, "uncertain") == [ids[1], ids[0], ids[2]]
    assert free(store, project.id, "contradicted") == [ids[2], ids[0]]


def test_new_scores_replace_the_old_and_begin_anew(store, project):
    ids = add_pairs(store, project.id, 3)
    store.items.set_margins(project.id, [(item_id, float(item_id), None) for item_id in ids])
    assert free(store, project.id, "uncertain", count=2) == ids[:2]
    store.items.set_margins(project.id, [(ids[0], 1.0, None)])
    assert free(store, project.id, "uncertain") == [ids[0]]
    assert store.items.get(ids[1]).margin is None


def test_what_another_holds_or_has_answered_is_not_free(store, project):
    ids = add_pairs(store, project.id, 3)
    store.leases.take("session-2", "bob", [Held(ids[0], "shuffled")], 60)
    vote(store, ids[1], "bob")
    assert free(store, project.id) == [ids[2]]
