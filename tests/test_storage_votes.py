"""Current labels in bulk: responses as positions in stored order, every role, no texts."""

from __future__ import annotations

from storage import Project, Store


def add(store: Store, project: Project, number: int, count: int) -> tuple[int, list[int]]:
    prompt_id, _ = store.prompts.add(project.id, [{"role": "user", "content": f"Question {number}?"}])
    ids = [store.responses.add(prompt_id, f"Answer {place}")[0] for place in range(count)]
    return store.items.add(project.id, prompt_id, ids[::-1], wanted_labels=9)[0], ids[::-1]


def test_responses_are_positions_in_stored_order_whatever_was_shown(store: Store, project: Project) -> None:
    pair, two = add(store, project, 1, 2)
    ranking, three = add(store, project, 2, 3)
    store.labels.add(
        pair, "ann", "chosen", client_id="1", shown_response_ids=two[::-1], chosen_response_id=two[1],
        reasons=["clear"], active_seconds=2.5, picked="shuffled",
    )
    store.labels.add(
        ranking, "bob", "ranked", client_id="2", shown_response_ids=[three[2], three[0], three[1]],
        ranking=[[three[2]], [three[1], three[0]]],
    )
    first, second = store.votes.of_project(project.id)
    assert (first.chosen, first.choice, first.shown, first.ranking) == (1, 1, (1, 0), None)
    assert (first.reasons, first.active_seconds, first.picked, first.source) == (("clear",), 2.5, "shuffled", "person")
    assert (second.ranking, second.shown, second.chosen) == (((2,), (0, 1)), (2, 0, 1), None)
    assert second.choice == ((2,), (0, 1))  # however the equal ones were named
    assert [vote.item_id for vote in store.votes.of_project(project.id, "ranking")] == [ranking]


def test_only_what_is_current_and_a_preference_comes_each_with_its_role(store: Store, project: Project) -> None:
    item_id, ids = add(store, project, 1, 2)
    rows = [
        ("ann", "tie", "vote"), ("ann", "both_bad", "vote"), ("bob", "skip", "vote"), ("cat", "flag", "vote"),
        ("ann", "tie", "repeat"), ("dan", "tie", "vote"), ("dan", "undo", "vote"), ("owner", "tie", "final"),
    ]
    for number, (who, verdict, role) in enumerate(rows):
        store.labels.add(item_id, who, verdict, client_id=f"key-{number}", shown_response_ids=ids, role=role)
    found = [(vote.annotator, vote.verdict, vote.role) for vote in store.votes.of_project(project.id)]
    assert found == [("ann", "both_bad", "vote"), ("ann", "tie", "repeat"), ("owner", "tie", "final")]
    [listed] = store.votes.items(project.id, "pair", "decided")
    assert (listed.votes, listed.choices, listed.flags, listed.is_check) == (1, 1, 1, False)


def test_projects_are_apart(store: Store, project: Project) -> None:
    item_id, ids = add(store, project, 1, 2)
    store.labels.add(item_id, "ann", "tie", client_id="1", shown_response_ids=ids)
    other = store.projects.ensure("Other")
    assert list(store.votes.of_project(other.id)) == [] and store.votes.items(other.id, "pair", "agree") == []
    assert store.votes.counts(other.id, "pair") == {"differ": 0, "agree": 0, "flagged": 0, "decided": 0}
