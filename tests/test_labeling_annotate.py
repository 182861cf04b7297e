"""Recording and undoing: words become verdicts on response ids, once, and every step stays in the history."""

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from errors import LabelError, NotFoundError
from labeling import annotate, answers, queue
from storage import Label, Store


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    yield store
    store.close()


def make_item(store: Store, kind: str = "pair", project: str = "P", wanted: int = 1) -> tuple[int, int, list[int]]:
    """Return project id, item id and response ids of a new item."""
    project_id = store.projects.ensure(project).id
    number = store.prompts.count(project_id)
    prompt_id, _ = store.prompts.add(project_id, [{"role": "user", "content": f"Question {number}"}])
    ids = [store.responses.add(prompt_id, side)[0] for side in ("xy" if kind == "pair" else "x")]
    return project_id, store.items.add(project_id, prompt_id, ids, wanted_labels=wanted)[0], ids


def say(store: Store, project_id: int, item_id: int, answer, shown: list[int], number: int = 0, **changes):
    fields = {"client_id": f"client-{number:04d}", "session": "session-1", "active_seconds": 2.5, "annotator": "Ann"}
    return annotate.record(store, project_id, item_id, answer=answer, shown_response_ids=shown, **{**fields, **changes})


@pytest.mark.parametrize(("word", "index"), [("a", 0), ("b", 1)])
def test_a_side_is_stored_as_the_response_that_was_shown_there(store, word, index):
    project_id, item_id, ids = make_item(store)
    shown = ids[::-1]
    label = say(store, project_id, item_id, word, shown)
    assert (label.verdict, label.chosen_response_id) == ("chosen", shown[index])
    assert label.shown_response_ids == shown and label.active_seconds == 2.5 and label.source == "person"


@pytest.mark.parametrize(
    ("kind", "word"),
    [(kind, word) for kind in ("pair", "single") for word in answers.WORDS[kind]
     if word not in (*answers.SIDES, "edited")],
)
def test_other_words_choose_no_response(store, kind, word):
    project_id, item_id, ids = make_item(store, kind)
    label = say(store, project_id, item_id, word, ids)
    assert (label.verdict, label.chosen_response_id) == (word, None)


RESPONSES = {"single": [7], "pair": [7, 8], "ranking": [7, 8, 9, 10]}
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12).map(str.strip)


@st.composite
def an_answer(draw, kind: str, shown: list[int]) -> answers.Answer:
    """Draw any answer that fits a card."""
    word = draw(st.sampled_from(answers.WORDS[kind]))
    strength = draw(st.sampled_from([None, "slightly", "clearly"])) if word in answers.STRONG_WORDS else None
    reasons = tuple(draw(st.lists(TEXTS, unique=True, max_size=3)))
    edit = answers.Edit(draw(st.sampled_from(shown)), draw(TEXTS.filter(bool))) if word == "edited" else None
    cut = draw(st.integers(1, len(shown) - 1)) if word == "ranked" else 0
    ranking = (*((response_id,) for response_id in shown[:cut]), tuple(shown[cut:])) if cut else None
    return answers.Answer(word, strength, reasons, draw(TEXTS), ranking, edit)


@settings(deadline=None)
@given(kind=st.sampled_from(["pair", "single", "ranking"]), data=st.data())
def test_the_answer_of_a_label_is_the_answer_that_was_given(kind, data):
    answer = data.draw(an_answer(kind, shown := data.draw(st.permutations(RESPONSES[kind]))))
    fields = answers.meaning(answers.checked(answer, kind, shown), shown)
    stored = {"id": 1, "client_id": "c", "item_id": 1, "annotator": "Ann", "role": "vote", "chosen_response_id": None}
    stored |= {"rejected_response_id": None, "ranking": None, "shown_response_ids": list(shown), "active_seconds": 1.0}
    stored |= {"picked": None, "margin": None, "replaces_id": None, "source": "person", "created_at": 0.0}
    assert answers.said(Label(**{**stored, **fields}), answer.edit and answer.edit.text) == answer


@settings(deadline=None)
@given(st.one_of(st.none(), st.floats(), st.integers(), st.text(max_size=5), st.lists(st.integers())))
def test_active_seconds_are_finite_and_within_a_day(seconds):
    clamped = annotate.clamped_seconds(seconds)
    assert math.isfinite(clamped) and 0.0 <= clamped <= annotate.MAX_ACTIVE_SECONDS
    if isinstance(seconds, float) and 0.0 <= seconds <= annotate.MAX_ACTIVE_SECONDS:
        assert clamped == seconds


@pytest.mark.parametrize(
    "changes",
    [
        {"annotator": " "}, {"annotator": "x" * 101}, {"annotator": "a\x00b"}, {"annotator": "\ud800"},
        {"client_id": ""}, {"client_id": "x" * 65}, {"client_id": "no spaces"}, {"session": "ü" * 9},
        {"answer": "good"}, {"answer": "c"}, {"answer": ""}, {"answer": "ranked"}, {"answer": "edited"}, {"shown_response_ids": []},
        {"shown_response_ids": [1, 1]}, {"shown_response_ids": [1]}, {"shown_response_ids": [1, 99]},
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_and_nothing_is_stored(store, changes):
    project_id, item_id, ids = make_item(store)
    fields = {"answer": "a", "shown_response_ids": ids, "annotator": "Ann"}
    fields |= {"client_id": "client-1", "session": "session-1"}
    with pytest.raises(LabelError):
        annotate.record(store, project_id, item_id, **{**fields, **changes})
    assert store.labels.history(item_id) == []


def test_an_item_of_another_project_or_of_none_is_refused(store):
    project_id, _, ids = make_item(store)
    _, foreign, foreign_ids = make_item(store, project="Q")
    with pytest.raises(LabelError, match="not of this project"):
        say(store, project_id, foreign, "a", foreign_ids)
    with pytest.raises(NotFoundError):
        say(store, project_id, 10**6, "a", ids)


def test_the_same_label_sent_again_changes_nothing(store):
    project_id, item_id, ids = make_item(store)
    first = say(store, project_id, item_id, "a", ids)
    assert say(store, project_id, item_id, "a", ids) == first
    assert store.labels.history(item_id) == [first]


def test_a_unique_id_cannot_be_used_for_another_label(store):
    project_id, item_id, ids = make_item(store)
    _, other, other_ids = make_item(store)
    say(store, project_id, item_id, "a", ids)
    with pytest.raises(LabelError, match="unique id"):
        say(store, project_id, other, "a", other_ids)
    with pytest.raises(LabelError, match="unique id"):
        annotate.undo(store, project_id, "Ann", client_id="client-0000", item_id=item_id)
    assert store.labels.history(other) == []


def test_a_late_label_on_an_item_that_has_enough_is_refused_but_a_change_of_ones_own_is_not(store):
    project_id, item_id, ids = make_item(store)
    say(store, project_id, item_id, "a", ids, 1)
    with pytest.raises(LabelError, match="not needed"):
        say(store, project_id, item_id, "b", ids, 2, annotator="Bob")
    assert say(store, project_id, item_id, "tie", ids, 3).verdict == "tie"
    assert store.items.get(item_id).label_count == 1


def test_a_repeat_is_accepted_even_when_others_have_filled_the_item_since(store):
    project_id, item_id, ids = make_item(store)
    first = say(store, project_id, item_id, "a", ids, 1)
    annotate.undo(store, project_id, "Ann", client_id="undo-0001", item_id=item_id)
    say(store, project_id, item_id, "b", ids, 2, annotator="Bob")
    assert say(store, project_id, item_id, "a", ids, 1) == first


def test_undo_brings_back_the_card_with_its_sides_and_its_word(store):
    project_id, item_id, ids = make_item(store)
    (card,) = queue.next_cards(store, project_id, "pair", "Ann", "session-1", 1)
    label = say(store, project_id, item_id, "b", [response.id for response in card.responses])
    undone = annotate.undo(store, project_id, "Ann", client_id="undo-0001")
    assert (undone.card.responses, undone.said) == (card.responses, answers.Answer("b"))
    assert (undone.card.key, undone.card.messages) == (card.key, card.messages)
    assert store.labels.current_of(item_id, "Ann") is None
    assert [row.verdict for row in store.labels.history(item_id)] == ["chosen", "undo"]
    assert store.labels.history(item_id)[1].replaces_id == label.id


def test_an_undone_item_is_kept_for_the_tab_that_undid_it(store):
    project_id, item_id, ids = make_item(store)
    queue.next_cards(store, project_id, "pair", "Ann", "session-1", 1)
    say(store, project_id, item_id, "a", ids)
    annotate.undo(store, project_id, "Ann", client_id="undo-0001", item_id=item_id)
    assert queue.next_cards(store, project_id, "pair", "Bob", "session-2", 5) == []
    assert [card.item_id for card in queue.next_cards(store, project_id, "pair", "Ann", "session-1", 5)] == [item_id]


def test_undo_sent_again_takes_back_nothing_more(store):
    project_id, one, one_ids = make_item(store)
    _, two, two_ids = make_item(store)
    say(store, project_id, one, "a", one_ids, 1)
    say(store, project_id, two, "b", two_ids, 2)
    first = annotate.undo(store, project_id, "Ann", client_id="undo-0001")
    again = annotate.undo(store, project_id, "Ann", client_id="undo-0001")
    assert first == again and first.card.item_id == two
    assert store.labels.current_of(one, "Ann") is not None


def test_undo_without_a_label_says_so(store):
    project_id, item_id, _ = make_item(store)
    with pytest.raises(LabelError, match="nothing to undo"):
        annotate.undo(store, project_id, "Ann", client_id="undo-0001")
    with pytest.raises(LabelError, match="to undo"):
        annotate.undo(store, project_id, "Ann", client_id="undo-0001", item_id=item_id)


def test_undo_takes_back_ones_own_label_only(store):
    project_id, item_id, ids = make_item(store, wanted=2)
    say(store, project_id, item_id, "a", ids, 1)
    say(store, project_id, item_id, "b", ids, 2, annotator="Bob")
    annotate.undo(store, project_id, "Ann", client_id="undo-0001")
    assert store.labels.current_of(item_id, "Bob").verdict == "chosen"
    assert store.items.get(item_id).label_count == 1


def test_skipped_items_come_back_when_asked_for(store):
    project_id, item_id, ids = make_item(store)
    say(store, project_id, item_id, "skip", ids)
    assert queue.next_cards(store, project_id, "pair", "Ann", "session-1", 5) == []
    assert [card.item_id for card in queue.next_cards(store, project_id, "pair", "Bob", "session-2", 5)] == [item_id]
    store.leases.release("session-2")
    assert annotate.restore_skipped(store, project_id, "pair", "Ann", client_id="restore-1") == 1
    assert len(queue.next_cards(store, project_id, "pair", "Ann", "session-1", 5)) == 1


def test_progress_counts_items_labels_and_skips(store):
    project_id, one, one_ids = make_item(store)
    _, two, two_ids = make_item(store)
    _, single, single_ids = make_item(store, "single")
    say(store, project_id, one, "a", one_ids, 1)
    say(store, project_id, two, "tie", two_ids, 2, annotator="Bob")
    say(store, project_id, single, "skip", single_ids, 3)
    assert annotate.progress(store, project_id, "Ann") == annotate.Progress(
        pair=annotate.KindProgress(total=2, done=2, mine=1),
        single=annotate.KindProgress(total=1, done=0, mine=0),
        ranking=annotate.KindProgress(total=0, done=0, mine=0),
        skipped=1,
    )


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.sampled_from(["a", "b", "tie", "both_bad", "skip", "undo"]), max_size=8))
def test_history_only_grows_and_the_current_label_is_what_was_said_last(tmp_path_factory, steps):
    store = Store(tmp_path_factory.mktemp("store"))
    project_id, item_id, ids = make_item(store)
    rows, current = 0, None
    for number, step in enumerate(steps):
        if step != "undo":
            say(store, project_id, item_id, step, ids, number)
            rows, current = rows + 1, step
        elif current is not None:
            annotate.undo(store, project_id, "Ann", client_id=f"undo-{number:04d}")
            rows, current = rows + 1, None
        label = store.labels.current_of(item_id, "Ann")
        assert (answers.said(label).word if label else None) == current
        assert len(store.labels.history(item_id)) == rows
        assert store.items.get(item_id).label_count == (current not in (None, "skip"))
    store.close()


def make_ranking(store: Store, count: int = 4) -> tuple[int, int, list[int]]:
    project_id = store.projects.ensure("P").id
    prompt_id, _ = store.prompts.add(project_id, [{"role": "user", "content": f"Rank {count}"}])
    ids = [store.responses.add(prompt_id, f"Answer {number}")[0] for number in range(count)]
    return project_id, store.items.add(project_id, prompt_id, ids)[0], ids


def test_what_goes_with_an_answer_is_stored_with_it(store):
    project_id, item_id, ids = make_item(store)
    label = say(store, project_id, item_id, answers.Answer("b", "slightly", ("kind", "short"), "Nicer."), ids)
    assert (label.chosen_response_id, label.strength, label.reasons, label.comment) == (ids[1], 1, ["kind", "short"], "Nicer.")
    assert store.labels.get(label.id) == label


def test_a_change_clears_what_depended_on_the_old_label_and_keeps_it_in_the_history(store):
    project_id, item_id, ids = make_item(store)
    say(store, project_id, item_id, answers.Answer("b", "clearly", ("kind",), "Nicer."), ids, 1)
    final = {"client_id": "final-0001", "shown_response_ids": ids, "role": "final"}
    store.labels.add(item_id, "Judge", "tie", **final)
    changed = say(store, project_id, item_id, "a", ids, 2)
    assert (changed.strength, changed.reasons, changed.comment) == (None, [], "")
    assert store.labels.current(item_id, "final") == []
    assert [row.comment for row in store.labels.history(item_id)] == ["Nicer.", "", ""]


@pytest.mark.parametrize("count", [3, 6])
def test_a_ranking_is_stored_as_tiers_and_comes_back_with_undo(store, count):
    project_id, item_id, ids = make_ranking(store, count)
    tiers = ((ids[1],), tuple([ids[0], *ids[2:]]))
    label = say(store, project_id, item_id, answers.Answer("ranked", ranking=tiers), ids)
    assert label.ranking == [[ids[1]], [ids[0], *ids[2:]]] and store.items.get(item_id).kind == "ranking"
    assert annotate.undo(store, project_id, "Ann", client_id="undo-0001").said.ranking == tiers


def test_a_better_answer_is_chosen_and_the_original_rejected(store):
    project_id, item_id, ids = make_item(store)
    label = say(store, project_id, item_id, answers.Answer("edited", edit=answers.Edit(ids[0], "Much better.")), ids)
    assert label.verdict == "edited" and label.rejected_response_id == ids[0]
    written = store.responses.get(label.chosen_response_id)
    assert (written.text, written.author) == ("Much better.", "Ann")
    (row,) = store.labels.judged(project_id)
    assert [(one["text"], one["chosen"]) for one in row["responses"]] == [("Much better.", True), ("x", False)]
    assert annotate.undo(store, project_id, "Ann", client_id="undo-0001").said.edit == answers.Edit(ids[0], "Much better.")
    assert list(store.labels.judged(project_id)) == []


def test_a_better_answer_that_changes_nothing_is_refused(store):
    project_id, item_id, ids = make_item(store)
    with pytest.raises(LabelError, match="the same as one that was shown"):
        say(store, project_id, item_id, answers.Answer("edited", edit=answers.Edit(ids[0], " y ")), ids)
    assert store.labels.history(item_id) == []


def test_a_flag_is_no_label_and_keeps_its_comment(store):
    project_id, item_id, ids = make_item(store)
    label = say(store, project_id, item_id, answers.Answer("flag", comment="Cut off."), ids)
    assert (label.verdict, label.comment, store.items.get(item_id).label_count) == ("flag", "Cut off.", 0)
    assert annotate.progress(store, project_id, "Ann").skipped == 1
    assert queue.next_cards(store, project_id, "pair", "Ann", "session-1", 5) == []
    assert annotate.restore_skipped(store, project_id, "pair", "Ann", client_id="restore-1") == 1


def test_a_second_answer_is_kept_beside_the_first_and_does_not_count(store):
    project_id, item_id, ids = make_item(store)
    first = say(store, project_id, item_id, "a", ids, 1)
    second = say(store, project_id, item_id, "b", ids[::-1], 2, picked="repeat")
    assert second.role == "repeat" and store.labels.current_of(item_id, "Ann") == first
    assert store.items.get(item_id).label_count == 1 and len(list(store.labels.judged(project_id))) == 1
    undone = annotate.undo(store, project_id, "Ann", client_id="undo-0001")
    assert undone.said.word == "b" and undone.card.key == f"{item_id}r"
    assert store.labels.current_of(item_id, "Ann") == first


def test_a_second_answer_without_a_first_is_refused(store):
    project_id, item_id, ids = make_item(store)
    with pytest.raises(LabelError, match="no first answer"):
        say(store, project_id, item_id, "a", ids, picked="repeat")


def test_everybody_may_answer_a_check_and_no_vote_on_it_is_trained_on(store):
    project_id, item_id, ids = make_item(store)
    store.labels.add(
        item_id, "Judge", "chosen", client_id="final-0001", shown_response_ids=ids, chosen_response_id=ids[0], role="final"
    )
    store.items.set_check(item_id, True)
    for number in range(5):
        say(store, project_id, item_id, "b", ids, number, annotator=f"Person {number}", picked="check")
    say(store, project_id, item_id, "a", ids, 9, annotator="Person 0", picked="check")  # a changed mind
    assert [row["annotator"] for row in store.labels.judged(project_id)] == ["Judge"]
    assert annotate.progress(store, project_id, "Person 1").pair == annotate.KindProgress(total=0, done=0, mine=0)


def test_the_last_labels_come_back_as_they_were_shown_newest_first(store):
    said = []
    for number in range(annotate.RECENT + 3):
        project_id, item_id, ids = make_item(store)
        word, shown = ("a", "tie", "skip")[number % 3], ids[:: 1 if number % 2 else -1]
        say(store, project_id, item_id, word, shown, number)
        said.append((item_id, word, shown))
    latest = annotate.recent(store, project_id, "Ann")
    found = [(one.card.item_id, one.said.word, [response.id for response in one.card.responses]) for one in latest]
    assert found == said[: -annotate.RECENT - 1 : -1]
    assert annotate.recent(store, project_id, "Bob") == []


def test_a_card_that_an_undo_brings_back_is_kept_for_its_tab(store):
    """Its reservation was given back with the label: nobody else may get it while it is on the table again."""
    project_id, item_id, ids = make_item(store, wanted=2)
    say(store, project_id, item_id, "a", ids, 1, annotator="Dan")
    (card,) = queue.next_cards(store, project_id, "pair", "Ann", "session-1", 1)
    say(store, project_id, item_id, "a", ids, 2)
    annotate.undo(store, project_id, "Ann", client_id="undo-0001", item_id=item_id, session="session-1")
    assert queue.next_cards(store, project_id, "pair", "Bob", "session-2", 1) == []
    assert queue.next_cards(store, project_id, "pair", "Ann", "session-3", 1) == []
    assert [one.key for one in queue.next_cards(store, project_id, "pair", "Ann", "session-1", 1)] == [card.key]


def test_a_skip_comes_back_however_long_ago_it_was(store, monkeypatch):
    monkeypatch.setattr(annotate, "MAX_SKIPS", 3)
    project_id, skipped, ids = make_item(store)
    say(store, project_id, skipped, "skip", ids, 0)
    for number in range(1, 6):
        _, item_id, ids = make_item(store)
        say(store, project_id, item_id, "a", ids, number)
    assert annotate.restore_skipped(store, project_id, "pair", "Ann", client_id="restore-1") == 1


def test_an_item_that_is_no_check_any_more_has_no_answers_to_the_check(store):
    project_id, item_id, ids = make_item(store)
    final = {"shown_response_ids": ids, "chosen_response_id": ids[0], "role": "final"}
    store.labels.add(item_id, "Judge", "chosen", client_id="final-0001", **final)
    store.items.set_check(item_id, True)
    for number in range(3):
        say(store, project_id, item_id, "b", ids, number, annotator=f"Person {number}")
    say(store, project_id, item_id, "skip", ids, 9, annotator="Person 9")
    assert annotate.progress(store, project_id, "Person 9").skipped == 1
    store.items.set_check(item_id, False)
    assert store.items.get(item_id).label_count == 0 and store.labels.counts(project_id) == {}
    assert [row["annotator"] for row in store.labels.judged(project_id, which="majority")] == ["Judge"]
    assert len(store.labels.history(item_id)) == 5
