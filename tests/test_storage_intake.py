"""What is gathered and stored at once is what storing it row by row would have given; cancelled, it never was."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from errors import StorageError
from storage import Project, Store
from storage.intake import Intake
from transfer.formats.record import Answer, Opinion

TABLES = {
    "prompts": "project_id, messages, content_hash, source",
    "responses": "prompt_id, text, content_hash, model, settings, author",
    "items": "project_id, prompt_id, kind, response_key, wanted_labels, label_count, is_check",
    "item_responses": "item_id, position, response_id",
    "labels": "id, client_id, item_id, annotator, role, verdict, chosen_response_id, ranking, strength, reasons, comment,"
              " shown_response_ids, replaces_id, source",
    "current_labels": "item_id, role, annotator, label_id",
    "label_counts": "annotator, role, kind, verdict, count",
    "item_counts": "kind, total, done",
}
numbers = count()


def contents(store: Store, project: Project) -> dict[str, list[tuple]]:
    """Every row of a project, less what is drawn or timed."""
    found = {}
    for table, columns in TABLES.items():
        found[table] = sorted(map(tuple, store.db.execute(f"SELECT {columns} FROM {table}")), key=repr)
    return found


def ask(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"Question {number}?"}]


def row_by_row(store: Store, project: Project, rows: list[tuple[int, list[str], list[Opinion]]]) -> None:
    """Store rows the way a person's labels are stored, one call each."""
    for number, texts, opinions in rows:
        prompt_id, _ = store.prompts.add(project.id, ask(number), "file")
        if not texts:
            continue
        ids = [store.responses.add(prompt_id, text, author="import")[0] for text in texts]
        item_id, _ = store.items.add(project.id, prompt_id, ids)
        for opinion in opinions:
            chosen = None if opinion.chosen is None else ids[opinion.chosen]
            ranking = [[ids[index] for index in tier] for tier in opinion.tiers] or None
            plain = str([sorted(tier) for tier in ranking]) if ranking else chosen or ""
            by = "" if not opinion.annotator else f":{opinion.annotator}"
            store.labels.add(
                item_id, opinion.annotator or "import", opinion.verdict, chosen_response_id=chosen, ranking=ranking,
                shown_response_ids=ids, source="import", client_id=f"import:{item_id}:{opinion.verdict}:{plain}{by}",
            )


def gathered(store: Store, project: Project, rows: list[tuple[int, list[str], list[Opinion]]]) -> Any:
    with Intake(store) as intake:
        for place, (number, texts, opinions) in enumerate(rows, start=1):
            intake.add(place, ask(number), "file", [Answer(text) for text in texts], opinions)
        return intake.save(project.name)


texts = st.lists(st.sampled_from(["A", "B", "好的", "d "]), min_size=0, max_size=4, unique=True)
people = st.sampled_from([None, "ann", "bob"])


@st.composite
def one_row(draw: st.DrawFn) -> tuple[int, list[str], list[Opinion]]:
    answers, opinions = draw(texts), []
    for _ in range(draw(st.integers(0, 2)) if answers else 0):
        who = draw(people)
        if len(answers) == 1:
            opinions.append(Opinion(draw(st.sampled_from(["good", "bad"])), who))
        elif len(answers) == 2:
            chosen = draw(st.sampled_from([0, 1, None]))
            opinions.append(Opinion("tie" if chosen is None else "chosen", who, chosen))
        else:
            order = draw(st.permutations(range(len(answers))))
            opinions.append(Opinion("ranked", who, tiers=((order[0],), tuple(order[1:]))))
    return draw(st.integers(1, 3)), answers, opinions


@given(rows=st.lists(one_row(), min_size=1, max_size=12), earlier=st.lists(one_row(), max_size=6))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_stored_at_once_is_what_row_by_row_gives(tmp_path, rows: list, earlier: list) -> None:
    stores = [Store(tmp_path / str(next(numbers))) for _ in range(2)]
    projects = [store.projects.ensure("P") for store in stores]
    row_by_row(stores[0], projects[0], earlier + rows)
    row_by_row(stores[1], projects[1], earlier)
    first = gathered(stores[1], projects[1], rows)
    assert contents(stores[0], projects[0]) == contents(stores[1], projects[1])
    again = gathered(stores[1], projects[1], rows)
    assert (again.prompts, again.labels, again.rows, sum(again.kinds.values())) == (0, 0, 0, 0)
    assert contents(stores[0], projects[0]) == contents(stores[1], projects[1])
    assert first.rows <= len(rows)
    for store in stores:
        store.close()


def test_what_is_gathered_and_left_changes_nothing(store: Store, project: Project) -> None:
    before = contents(store, project)
    with Intake(store) as intake:
        intake.add(1, ask(1), "file", [Answer("A"), Answer("B")], [Opinion("chosen", chosen=0)])
    assert contents(store, project) == before
    assert [path.name for path in store.folder.iterdir() if "intake" in path.name] == []


def test_what_fails_while_it_is_stored_changes_nothing(store: Store, project: Project) -> None:
    def fail(share: float) -> None:
        if share > 0.9:
            raise StorageError("full")

    before = contents(store, project)
    with pytest.raises(StorageError), Intake(store) as intake:
        intake.add(1, ask(1), "file", [Answer("A"), Answer("B")], [Opinion("chosen", chosen=0)])
        intake.save(project.name, fail)
    assert contents(store, project) == before
    assert gathered(store, project, [(1, ["A", "B"], [Opinion("chosen", chosen=0)])]).labels == 1


def test_an_edit_prefers_the_new_text_and_keeps_who_wrote_what(store: Store, project: Project) -> None:
    with Intake(store) as intake:
        better = Answer("Better.", author="ann")
        intake.add(
            1, ask(1), "file", [Answer("A", model="m", settings={"seed": 1}), Answer("B")],
            [Opinion("edited", "ann", rejected=0, better=better, shown=(1, 0), created_at=12.25, strength=2,
                     reasons=("polite",), comment="好")],
        )
        intake.save(project.name)
    [row] = store.labels.judged(project.id)
    assert [(each["text"], each["chosen"]) for each in row["responses"]] == [("Better.", True), ("A", False)]
    label = store.labels.get(row["label_id"])
    own = store.items.response_ids(label.item_id)
    assert label.shown_response_ids == own[::-1] and label.created_at == 12.25
    assert (label.strength, label.reasons, label.comment) == (2, ["polite"], "好")
    first, second = store.items.card(label.item_id).responses
    assert (first.model, first.settings, first.author, second.author) == ("m", {"seed": 1}, None, "import")


def test_versions_with_times_replace_each_other_and_undo_takes_back(store: Store, project: Project) -> None:
    said = [
        Opinion("chosen", "ann", 0, created_at=1.5), Opinion("chosen", "ann", 1, created_at=2.5),
        Opinion("undo", "ann", created_at=3.5), Opinion("tie", "ann", created_at=4.5),
        Opinion("undo", "bob", created_at=5.5),
    ]
    assert gathered(store, project, [(1, ["A", "B"], said)]).labels == 4  # bob had nothing to take back
    labels = store.labels.history(1)
    assert [label.verdict for label in labels] == ["chosen", "chosen", "undo", "tie"]
    ids = [label.id for label in labels]
    assert [label.replaces_id for label in labels] == [None, ids[0], ids[1], None]
    assert store.labels.counts(project.id) == {"tie": 1}
    assert gathered(store, project, [(1, ["A", "B"], said)]).labels == 0
