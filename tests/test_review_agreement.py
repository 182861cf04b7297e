"""Agreement: against scikit-learn, statsmodels and krippendorff, by hand, and where it is undefined."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import fleiss_kappa

from review.agreement import CATEGORIES, Agreement, agreement, measured, said
from review.measures import SAME, Measure, Table
from storage import Project, Store
from storage.votes import Vote

PAIR = CATEGORIES["pair"]
NAMES = ("ann", "bob", "cat")
Answers = Sequence[Sequence[str | None]]


def vote(item: int, annotator: str, word: str, **changes: Any) -> Vote:
    """A vote on a pair: "first", "second" or a verdict."""
    chosen = {"first": 0, "second": 1}.get(word)
    fields = {
        "item_id": item, "kind": "pair", "is_check": False, "annotator": annotator, "role": "vote",
        "verdict": word if chosen is None else "chosen", "chosen": chosen, "ranking": None, "reasons": (),
        "active_seconds": None, "picked": None, "margin": None, "shown": (0, 1), "source": "person",
    }
    return Vote(**{**fields, **changes})


def of(answers: Answers) -> Agreement:
    """Measure the answers of items by ann, bob and cat, None where there is none."""
    votes = [
        vote(number, name, word)
        for number, row in enumerate(answers)
        for name, word in zip(NAMES, row)
        if word is not None
    ]
    return measured(votes, "pair")


answers = st.lists(st.tuples(*[st.sampled_from([*PAIR, "first", "first", None, None])] * 3), max_size=25)


def close(measure: Measure, value: float) -> bool:
    return measure.value is not None and measure.value == pytest.approx(value, abs=1e-9)


@settings(deadline=None, max_examples=200)
@given(answers)
def test_every_measure_is_what_its_library_gives_and_undefined_where_that_is(rows: Answers) -> None:
    found = of(rows)
    codes = np.array([[np.nan if word is None else PAIR.index(word) for word in row] for row in rows]).reshape(-1, 3)
    for x, y in itertools.combinations(found.annotators, 2):
        both = codes[:, [NAMES.index(x), NAMES.index(y)]]
        both = both[~np.isnan(both).any(axis=1)]
        measure = found.cohen[x, y]
        if len(both) == 0:
            assert measure.value is None and measure.why == f"{x} and {y} have no item in common"
        elif len(np.unique(both)) == 1:
            assert measure.value is None and measure.why == SAME
        else:
            assert close(measure, cohen_kappa_score(both[:, 0], both[:, 1])) and measure.items == len(both)
    counts = np.stack([(codes == number).sum(axis=1) for number in range(len(PAIR))], axis=1).reshape(-1, len(PAIR))
    several = counts[counts.sum(axis=1) > 1]
    if len(several) and (several.sum(axis=0) > 0).sum() > 1:
        assert close(found.krippendorff, krippendorff.alpha(value_counts=several, level_of_measurement="nominal"))
        numbers = several.sum(axis=1).tolist()
        most = max(set(numbers), key=lambda number: (numbers.count(number), number))
        used = several[several.sum(axis=1) == most]
        assert found.fleiss.items == len(used)
        if (used.sum(axis=0) > 0).sum() > 1:
            assert close(found.fleiss, fleiss_kappa(used))
    else:
        assert found.krippendorff.value is None and found.krippendorff.why


@settings(deadline=None, max_examples=60)
@given(answers)
def test_an_interval_holds_its_value_and_is_the_same_every_time(rows: Answers) -> None:
    found = of(rows)
    for measure in (*found.cohen.values(), found.fleiss, found.krippendorff):
        assert (measure.value is None) == (measure.low is None) == (measure.high is None) == bool(measure.why)
        assert measure.value is None or measure.low <= measure.value <= measure.high <= 1 + 1e-9
    assert of(rows) == found


def test_cohen_by_hand() -> None:
    """po = 3/4; both say first 3/4 and 1/2, second 1/4 and 1/2: pe = 3/8 + 1/8; (3/4 - 1/2) / (1/2)."""
    found = of([("first", "first", None), ("first", "first", None), ("first", "second", None), ("second", "second", None)])
    assert close(found.cohen["ann", "bob"], 0.5)


def test_alpha_by_hand() -> None:
    """o: 4 first-first, 1 each first-second; n = (5, 3), D_o = 2/8, D_e = 2·5·3/(8·7); 1 - (1/4)/(30/56)."""
    found = of([("first", "first", None), ("first", "first", None), ("first", "second", None), ("second", "second", None)])
    assert close(found.krippendorff, 1 - (2 / 8) / (30 / 56))


def test_fleiss_takes_the_most_common_number_of_labels_and_of_two_the_larger() -> None:
    twos, threes = [("first", "second", None)] * 2, [("first", "first", "tie")] * 2
    assert of([*twos, *threes]).fleiss == of(threes).fleiss
    assert of([*twos, *threes, twos[0]]).fleiss.items == 3


def counted(codes: np.ndarray) -> np.ndarray:
    return np.stack([(codes == number).sum(axis=1) for number in range(3)], axis=1)


@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("cohen", lambda codes: cohen_kappa_score(codes[:, 0], codes[:, 1])),
        ("fleiss", lambda codes: fleiss_kappa(counted(codes))),
        ("krippendorff", lambda codes: krippendorff.alpha(value_counts=counted(codes), level_of_measurement="nominal")),
    ],
)
def test_intervals_are_those_of_a_bootstrap_over_items(name: str, oracle: Callable) -> None:
    rng = np.random.default_rng(5)
    codes = rng.choice(3, size=(150, 3), p=[0.6, 0.3, 0.1])
    codes[:, 1:] = np.where(rng.random((150, 2)) < 0.6, codes[:, :1], codes[:, 1:])
    found = of([tuple(PAIR[code] for code in row) for row in codes])
    measure = found.cohen["ann", "bob"] if name == "cohen" else getattr(found, name)
    drawn = [oracle(codes[rng.integers(0, len(codes), len(codes))]) for _ in range(400)]
    assert [measure.low, measure.high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.04)


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([], "nobody has labelled a pair yet"),
        ([("first", None, None), ("second", None, None)], "only one annotator"),
        ([("first", None, None), (None, "first", None)], "no item has labels from two people"),
        ([("tie", "tie", "tie")] * 4, SAME),
    ],
)
def test_what_is_undefined_says_why(rows: Answers, why: str) -> None:
    found = of(rows)
    assert found.krippendorff.why == found.fleiss.why == why
    assert found.krippendorff.value is None and found.fleiss.value is None
    told = found.as_dict()
    assert told["krippendorff"] is None and told["undefined"]["krippendorff"] == why
    assert ("cohen" in told["undefined"]) == (len(found.annotators) < 2)


def test_perfect_and_opposite_agreement_are_1_and_minus_1() -> None:
    assert close(of([("first", "first", None), ("second", "second", None)] * 5).cohen["ann", "bob"], 1.0)
    assert close(of([("first", "second", None), ("second", "first", None)] * 5).cohen["ann", "bob"], -1.0)


def test_a_ranking_is_its_pairs_of_responses() -> None:
    ranked = vote(1, "ann", "ranked", kind="ranking", ranking=((2,), (0, 1)), shown=(1, 2, 0))
    assert [CATEGORIES["ranking"][code] for code in said(ranked, "ranking")] == ["tie", "second", "second"]
    edited = vote(1, "bob", "edited", kind="ranking", shown=(0, 1, 2))
    assert [CATEGORIES["ranking"][code] for code in said(edited, "ranking")] == ["edited"] * 3


def test_the_pairs_of_one_ranking_are_drawn_together() -> None:
    """Ten items whose three units are alike vary as ten units do, not as thirty."""
    one = [(item, name, [code]) for item in range(10) for name, code in (("x", item % 2), ("y", (item % 3) % 2))]
    three = [(item, name, codes * 3) for item, name, codes in one]
    alone, together = (Table.of(rows, ("x", "y"), 2).cohen(0, 1) for rows in (one, three))
    assert (alone.items, together.items) == (10, 10)
    assert (alone.value, alone.low, alone.high) == pytest.approx((together.value, together.low, together.high))


def test_fleiss_counts_items_not_the_pairs_of_a_ranking() -> None:
    """Two items of fifteen units with two labels each, three of three units with three: three items are more."""
    rows = [(item, name, [item % 2] * 15) for item in range(2) for name in "xy"]
    rows += [(item, name, [item % 2, 0, 1]) for item in range(2, 5) for name in "xyz"]
    assert Table.of(rows, ("x", "y", "z"), 2).fleiss().items == 3


def test_a_reason_has_its_own_agreement() -> None:
    votes = [
        vote(1, "ann", "first", reasons=("clear",)), vote(1, "bob", "first", reasons=("clear",)),
        vote(2, "ann", "second"), vote(2, "bob", "first"),
        vote(3, "ann", "second", reasons=("clear",)), vote(3, "bob", "second", reasons=("clear", "polite")),
    ]
    tags = measured(votes, "pair").tags
    assert list(tags) == ["clear", "polite"] and tags["clear"].votes == 4
    assert close(tags["clear"].given, 1.0) and close(tags["clear"].answers, 1.0) and tags["clear"].answers.items == 2
    assert tags["polite"].answers.why == SAME


def add(store: Store, project: Project, number: int, count: int = 2) -> tuple[int, list[int]]:
    prompt_id, _ = store.prompts.add(project.id, [{"role": "user", "content": f"Question {number}?"}])
    ids = [store.responses.add(prompt_id, f"Answer {place}")[0] for place in range(count)]
    return store.items.add(project.id, prompt_id, ids, wanted_labels=9)[0], ids


def test_only_current_votes_count_by_stored_position_and_not_those_on_checks(store: Store, project: Project) -> None:
    def say(item_id: int, ids: list[int], who: str, verdict: str, key: str, **fields: Any) -> None:
        store.labels.add(item_id, who, verdict, client_id=f"{item_id}-{who}-{key}", shown_response_ids=ids, **fields)

    for number in range(6):
        item_id, ids = add(store, project, number)
        say(item_id, ids, "ann", "tie", "old")
        say(item_id, ids, "ann", "chosen", "new", chosen_response_id=ids[number % 2])
        say(item_id, ids[::-1], "bob", "chosen", "a", chosen_response_id=ids[number % 2])  # shown the other way round
        say(item_id, ids, "bob", "both_bad", "again", role="repeat")
        say(item_id, ids, "cat", "skip" if number % 2 else "flag", "a")
        say(item_id, ids, "owner", "tie", "final", role="final")
        if number == 5:
            store.items.set_check(item_id, True)
    found = agreement(store, project.id)
    assert (found.kind, found.items, found.annotators) == ("pair", 5, ("ann", "bob"))
    assert close(found.cohen["ann", "bob"], 1.0)


def test_kinds_are_never_mixed_and_the_one_with_most_votes_is_taken(store: Store, project: Project) -> None:
    for number, count in enumerate([1, 1, 2]):
        item_id, ids = add(store, project, number, count)
        for who in ("ann", "bob"):
            store.labels.add(
                item_id, who, "good" if count == 1 else "tie", client_id=f"{item_id}-{who}", shown_response_ids=ids
            )
    assert agreement(store, project.id).kind == "single" and agreement(store, project.id).items == 2
    assert agreement(store, project.id, "pair").items == 1
    assert agreement(store, project.id, "ranking").krippendorff.why == "nobody has labelled a ranking yet"
