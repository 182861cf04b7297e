"""A run names the labels it used; two runs say how theirs differ."""

from __future__ import annotations

from storage import Project, Store


def label(store: Store, item_id: int, ids: list[int], chosen: int, client_id: str) -> int:
    return store.labels.add(
        item_id, "ann", "chosen", client_id=client_id, shown_response_ids=ids, chosen_response_id=ids[chosen]
    ).id


def run(store: Store, project: Project, labels: list[int]) -> int:
    made = store.runs.create(project.id, "dpo", "m", {}, labels)
    store.runs.end(made.id, "failed")
    return made.id


def test_runs_of_equal_labels_share_a_name_and_others_say_what_differs(store: Store, project: Project) -> None:
    labels, items = [], []
    for place in range(3):
        prompt_id, _ = store.prompts.add(project.id, [{"role": "user", "content": f"Q{place}"}])
        ids = [store.responses.add(prompt_id, text)[0] for text in ("A", "B")]
        items.append((store.items.add(project.id, prompt_id, ids)[0], ids))
        labels.append(label(store, *items[-1], 0, f"first-{place}"))
    changed = label(store, *items[0], 1, "second")
    first, again = run(store, project, labels[:2]), run(store, project, labels[:2][::-1])
    other = run(store, project, [changed, labels[2]])
    names = [store.runs.get(number).snapshot for number in (first, again, other)]
    assert names[0] == names[1] != names[2]
    assert all(len(name) == 16 for name in names)
    diff = store.runs.diff(first, other)
    assert [[said.item_id for said in group] for group in (diff.changed, diff.only_a, diff.only_b)] == [
        [items[0][0]], [items[1][0]], [items[2][0]],
    ]
    assert (diff.changed[0].before, diff.changed[0].after) == (("ann: chosen 'A'",), ("ann: chosen 'B'",))
    assert store.runs.diff(first, again).lines() == [store.runs.diff(first, again).sentence()]
    assert len(diff.lines()) == 4
    assert diff.as_dict()["run_a"] == first
