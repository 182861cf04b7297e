"""Items that people do not agree on: which they are, and what deciding, adopting, undoing and checks do."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from errors import LabelError, NotFoundError
from labeling.answers import Answer
from review import disagreements
from review.desk import view
from review.disagreements import adopt, decide, look, page, undo, use_as_check
from storage import Project, Store


class Desk:
    """Items of one project and what people say of them."""

    def __init__(self, store: Store, project: Project) -> None:
        self.store, self.project, self.keys = store, project, iter(range(10**6))

    def item(self, *words: str, count: int = 2) -> tuple[int, list[int]]:
        """Make an item on which ann, bob and cat say the words: "first", "second" or a verdict."""
        number = next(self.keys)
        prompt_id, _ = self.store.prompts.add(self.project.id, [{"role": "user", "content": f"Question {number}?"}])
        ids = [self.store.responses.add(prompt_id, f"Answer {place}")[0] for place in range(count)]
        item_id, _ = self.store.items.add(self.project.id, prompt_id, ids, wanted_labels=9)
        for who, word in zip(("ann", "bob", "cat"), words):
            self.say(item_id, ids, who, word)
        return item_id, ids

    def say(self, item_id: int, ids: list[int], who: str, word: str, **fields: object) -> None:
        if word in ("first", "second"):
            fields["chosen_response_id"], word = ids[word == "second"], "chosen"
        key = f"key-{next(self.keys)}"
        self.store.labels.add(item_id, who, word, client_id=key, shown_response_ids=ids[::-1], **fields)

    def rank(self, item_id: int, ids: list[int], who: str, *tiers: Sequence[int]) -> None:
        self.say(item_id, ids, who, "ranked", ranking=[[ids[place] for place in tier] for tier in tiers])

    def list(self, name: str, kind: str = "pair") -> list[int]:
        return [row.item_id for row in page(self.store, self.project.id, kind, name)]

    def decide(self, item_id: int, word: str = "a", key: str = "decision-1", **options: object) -> None:
        decide(self.store, self.project.id, item_id, "owner", Answer(word), key, **options)


@pytest.fixture
def desk(store: Store, project: Project) -> Desk:
    return Desk(store, project)


def test_items_whose_votes_differ_are_listed_until_they_are_decided(desk: Desk) -> None:
    same, _ = desk.item("first", "first")
    differs, _ = desk.item("first", "second")
    tied, _ = desk.item("tie", "both_bad", "tie")
    alone, _ = desk.item("first")
    desk.item("skip", "flag")
    assert desk.list("differ") == [differs, tied] and desk.list("agree") == [same, alone]
    desk.decide(tied, "tie")
    assert desk.list("differ") == [differs] and desk.list("decided") == [tied]
    assert desk.store.votes.counts(desk.project.id, "pair") == {"differ": 1, "agree": 2, "flagged": 1, "decided": 1}


def test_any_two_edits_say_the_same_and_rankings_differ_by_their_order(desk: Desk) -> None:
    item_id, ids = desk.item()
    prompt_id = desk.store.items.get(item_id).prompt_id
    for who in ("ann", "bob"):
        better, _ = desk.store.responses.add(prompt_id, f"Better, says {who}")
        desk.say(item_id, ids, who, "edited", chosen_response_id=better, rejected_response_id=ids[0])
    assert desk.list("differ") == [] and desk.list("agree") == [item_id]
    ranked, ids = desk.item(count=3)
    desk.rank(ranked, ids, "ann", [0], [1, 2])
    desk.rank(ranked, ids, "bob", [0], [2, 1])
    assert desk.list("differ", "ranking") == [] and desk.list("agree", "ranking") == [ranked]
    desk.rank(ranked, ids, "bob", [1, 2], [0])
    assert desk.list("differ", "ranking") == [ranked]
    desk.rank(ranked, ids, "bob", [0], [1], [2])
    assert desk.list("differ", "ranking") == [ranked]


def test_a_list_comes_a_page_at_a_time(desk: Desk) -> None:
    ids = [desk.item("first", "second")[0] for _ in range(5)]
    pages, after = [], 0
    while rows := page(desk.store, desk.project.id, "pair", "differ", after, 2):
        pages.append([row.item_id for row in rows])
        after = rows[-1].item_id
    assert pages == [ids[:2], ids[2:4], ids[4:]]
    with pytest.raises(LabelError, match="no list"):
        page(desk.store, desk.project.id, "pair", "all; DROP TABLE labels")


def test_the_next_item_follows_the_one_that_was_decided(desk: Desk) -> None:
    ids = [desk.item("first", "second")[0] for _ in range(3)]
    shown = view.desk(desk.store, desk.project.id, "pair", "differ")
    assert shown.dispute.card.item.id == ids[0] and shown.sentence == ""
    desk.decide(ids[1])
    shown = view.desk(desk.store, desk.project.id, "pair", "differ", beyond=ids[1])
    assert shown.dispute.card.item.id == ids[2] and [row[0] for row in shown.rows] == [str(ids[0]), str(ids[2])]
    desk.decide(ids[2], key="decision-2")
    assert view.desk(desk.store, desk.project.id, "pair", "differ", beyond=ids[2]).dispute.card.item.id == ids[0]
    desk.decide(ids[0], key="decision-3")
    empty = view.desk(desk.store, desk.project.id, "pair", "differ", beyond=ids[0])
    assert empty.dispute is None and empty.sentence == view.EMPTY_LISTS["differ"]


def test_a_page_that_was_decided_away_starts_over(desk: Desk) -> None:
    first, _ = desk.item("first", "second")
    shown = view.desk(desk.store, desk.project.id, "pair", "differ", after=first)
    assert shown.after == 0 and [row[0] for row in shown.rows] == [str(first)]


def test_flags_are_listed_with_their_comments(desk: Desk) -> None:
    item_id, ids = desk.item("first")
    desk.say(item_id, ids, "dan", "flag", comment="Both are cut off.")
    assert desk.list("flagged") == [item_id]
    opinions = look(desk.store, desk.project.id, item_id).opinions
    assert [(each.annotator, each.words, each.comment) for each in opinions] == [
        ("ann", "A is better", ""), ("dan", "Flagged", "Both are cut off."),
    ]


def test_a_decision_names_the_response_in_stored_order_and_counts_instead_of_the_votes(desk: Desk) -> None:
    item_id, ids = desk.item("first", "second")
    answer = Answer("b", "clearly", ("clear",), " Plainer. ")
    label = decide(desk.store, desk.project.id, item_id, "owner", answer, "decision-1")
    assert (label.role, label.chosen_response_id, label.shown_response_ids) == ("final", ids[1], ids)
    assert (label.strength, label.reasons, label.comment) == (2, ["clear"], "Plainer.")
    assert desk.store.items.get(item_id).label_count == 2
    [row] = desk.store.labels.judged(desk.project.id, which="majority")
    assert row["role"] == "final" and [each["chosen"] for each in row["responses"]] == [False, True]


def test_deciding_twice_with_one_id_stores_one_row_and_another_item_is_refused(desk: Desk) -> None:
    item_id, _ = desk.item("first", "second")
    other, _ = desk.item("first", "second")
    for _ in range(2):
        desk.decide(item_id)
    assert len(desk.store.labels.history(item_id)) == 3
    with pytest.raises(LabelError, match="unique id"):
        desk.decide(other)


def test_somebody_elses_decision_takes_the_place_of_the_first(desk: Desk) -> None:
    item_id, _ = desk.item("first", "second")
    desk.decide(item_id, "a")
    decide(desk.store, desk.project.id, item_id, "other owner", Answer("tie"), "decision-2")
    final = look(desk.store, desk.project.id, item_id).final
    assert (final.annotator, final.words) == ("other owner", "Tie")


def test_a_vote_that_changes_takes_the_decision_back(desk: Desk) -> None:
    item_id, ids = desk.item("first", "second")
    desk.decide(item_id)
    desk.say(item_id, ids, "ann", "tie")
    assert look(desk.store, desk.project.id, item_id).final is None and desk.list("differ") == [item_id]


@pytest.mark.parametrize("word", ["skip", "flag", "good", "ranked", "edited", "c"])
def test_what_is_no_decision_for_a_pair_is_refused_and_nothing_is_stored(desk: Desk, word: str) -> None:
    item_id, _ = desk.item("first", "second")
    with pytest.raises(LabelError):
        desk.decide(item_id, word)
    assert look(desk.store, desk.project.id, item_id).final is None


def test_an_item_of_another_project_is_refused(desk: Desk, store: Store) -> None:
    item_id, _ = desk.item("first", "second")
    other = store.projects.ensure("Other").id
    for act in (
        lambda: decide(store, other, item_id, "owner", Answer("a"), "decision-1"),
        lambda: undo(store, other, item_id, "owner", "decision-1"),
        lambda: use_as_check(store, other, item_id, True),
        lambda: look(store, other, item_id),
    ):
        with pytest.raises(LabelError, match="not of this project"):
            act()


def test_a_ranking_and_an_edit_are_adopted_as_they_are(desk: Desk) -> None:
    item_id, ids = desk.item(count=3)
    desk.rank(item_id, ids, "ann", [2], [0, 1])
    better, _ = desk.store.responses.add(desk.store.items.get(item_id).prompt_id, "Better", author="bob")
    desk.say(item_id, ids, "bob", "edited", chosen_response_id=better, rejected_response_id=ids[1])
    desk.say(item_id, ids, "cat", "skip")
    assert view.adoptable(look(desk.store, desk.project.id, item_id)) == [
        ("ann: C > A = B", "ann"), ("bob: Wrote a better B", "bob"),
    ]
    adopt(desk.store, desk.project.id, item_id, "owner", "ann", "decision-1")
    assert look(desk.store, desk.project.id, item_id).final.words == "C > A = B"
    label = adopt(desk.store, desk.project.id, item_id, "owner", "bob", "decision-2")
    assert (label.verdict, label.chosen_response_id, label.rejected_response_id) == ("edited", better, ids[1])
    for nobody in ("cat", "dan", ""):
        with pytest.raises(LabelError, match="to adopt"):
            adopt(desk.store, desk.project.id, item_id, "owner", nobody, "decision-3")


def test_a_decision_is_taken_back_once(desk: Desk) -> None:
    item_id, _ = desk.item("first", "second")
    desk.decide(item_id)
    for _ in range(2):
        undo(desk.store, desk.project.id, item_id, "other owner", "undo-0001")
    assert look(desk.store, desk.project.id, item_id).final is None
    with pytest.raises(LabelError, match="nothing|no label"):
        undo(desk.store, desk.project.id, item_id, "owner", "undo-0002")


def test_an_item_becomes_a_check_with_its_decision_and_its_answer_stays_known(desk: Desk) -> None:
    item_id, ids = desk.item("first", "second")
    with pytest.raises(NotFoundError, match="decide it first"):
        use_as_check(desk.store, desk.project.id, item_id, True)
    desk.decide(item_id, as_check=True)
    assert desk.store.items.get(item_id).is_check and desk.store.items.counts(desk.project.id)["pair"]["total"] == 0
    with pytest.raises(LabelError, match="is a check"):
        undo(desk.store, desk.project.id, item_id, "owner", "undo-0001")
    desk.say(item_id, ids, "ann", "tie")
    assert look(desk.store, desk.project.id, item_id).final is not None
    use_as_check(desk.store, desk.project.id, item_id, False)
    assert look(desk.store, desk.project.id, item_id).final is None  # a vote behind it has changed meanwhile
    assert desk.list("differ") == [item_id]


def test_a_decision_outlasts_being_a_check_where_no_vote_has_changed(desk: Desk) -> None:
    item_id, _ = desk.item("first", "second")
    desk.decide(item_id, as_check=True)
    use_as_check(desk.store, desk.project.id, item_id, False)
    assert look(desk.store, desk.project.id, item_id).final is not None
    undo(desk.store, desk.project.id, item_id, "owner", "undo-0001")
    assert desk.list("differ") == [item_id]


def test_every_list_has_words_for_when_it_is_empty() -> None:
    assert list(view.EMPTY_LISTS) == list(disagreements.LISTS)
