"""Which labels count by each policy, and what rankings and edits say of two responses."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from errors import ConfigError
from storage import Project, Store
from storage.judged import WHICH, judgements, majority
from training.dataset import paired_examples, summarise, summary_of, unpaired_examples

numbers = count()
PEOPLE = ("ann", "bob", "cid")
NO_PREFERENCE = ("skip", "flag")


def add_item(store: Store, project: Project, texts: str) -> int:
    """Store a prompt of its own with one response for each letter."""
    prompt_id, _ = store.prompts.add(project.id, [{"role": "user", "content": f"Question {next(numbers)}?"}])
    return store.items.add(project.id, prompt_id, [store.responses.add(prompt_id, text)[0] for text in texts])[0]


def say(store: Store, item_id: int, said: Any, annotator: str = "ann", role: str = "vote") -> int:
    """Label an item; return the label's id. said: a verdict, the preferred place, tiers of places, or a better text."""
    ids = store.items.response_ids(item_id)
    fields: dict[str, Any] = {"verdict": said}
    if isinstance(said, int):
        fields = {"verdict": "chosen", "chosen_response_id": ids[said]}
    elif isinstance(said, tuple):
        fields = {"verdict": "ranked", "ranking": [[ids[place] for place in tier] for tier in said]}
    elif said.startswith("better"):
        better, _ = store.responses.add(store.items.get(item_id).prompt_id, said, author=annotator)
        fields = {"verdict": "edited", "chosen_response_id": better, "rejected_response_id": ids[0]}
    return store.labels.add(
        item_id, annotator, client_id=f"judged-{next(numbers)}", shown_response_ids=ids, role=role, **fields
    ).id


def compared(store: Store, project: Project, which: str = "all") -> list[tuple[str, str]]:
    """Return the texts of each preference, better first."""
    return [(pair.chosen, pair.rejected) for pair in paired_examples(store.labels.judged(project.id, which=which))]


def test_a_ranking_is_a_pair_for_each_two_responses_of_different_tiers(store: Store, project: Project) -> None:
    say(store, add_item(store, project, "abcd"), ((1,), (0, 2), (3,)))
    assert compared(store, project) == [("b", "a"), ("b", "c"), ("b", "d"), ("a", "d"), ("c", "d")]
    single = [(each.response, each.desirable) for each in unpaired_examples(store.labels.judged(project.id))]
    assert single == [("b", True), ("d", False)]


def test_responses_in_a_shared_last_tier_are_bad_once_each(store: Store, project: Project) -> None:
    say(store, add_item(store, project, "abcd"), ((0, 1), (2, 3)))
    single = [(each.response, each.desirable) for each in unpaired_examples(store.labels.judged(project.id))]
    assert sorted(single) == [("a", True), ("b", True), ("c", False), ("d", False)]


def test_an_edit_is_preferred_to_what_it_was_made_from(store: Store, project: Project) -> None:
    for texts in ("a", "ab", "abc"):
        say(store, add_item(store, project, texts), "better answer")
    assert compared(store, project) == [("better answer", "a")] * 3
    rows = list(store.labels.judged(project.id))
    assert {(row["verdict"], row["said"]) for row in rows} == {("chosen", "edited")}


def test_an_unknown_policy_is_refused(store: Store, project: Project) -> None:
    for call in (store.labels.judged, store.labels.tally):
        with pytest.raises(ConfigError, match="'best' is none of all, majority"):
            list(call(project.id, which="best"))


def test_people_who_rank_alike_agree_however_they_name_equals(store: Store, project: Project) -> None:
    item_id = add_item(store, project, "abc")
    say(store, item_id, ((0,), (1, 2)), "ann")
    say(store, item_id, ((0,), (2, 1)), "bob")
    assert compared(store, project, "unanimous") == compared(store, project, "majority") == [("a", "b"), ("a", "c")]


@given(st.lists(st.sampled_from("abcd")))
def test_a_majority_is_what_more_votes_say_than_anything_else(votes: list[str]) -> None:
    counts = Counter(votes)
    leaders = [choice for choice in counts if counts[choice] == max(counts.values())]
    assert majority(counts) == (leaders[0] if len(leaders) == 1 else None)


PAIR_SAYS = st.sampled_from([0, 1, "tie", "both_bad", "skip", "flag", "better one", "better two"])
RANKING_SAYS = st.sampled_from([((0,), (1, 2)), ((0,), (2, 1)), ((2,), (1,), (0,)), "skip", "better one"])


@st.composite
def histories(draw: st.DrawFn) -> tuple[str, dict[str, Any], Any, bool]:
    """One item: its responses, what each person says, the final label if any, and whether it is a check then."""
    texts, says = draw(st.sampled_from([("ab", PAIR_SAYS), ("abc", RANKING_SAYS)]))
    votes = draw(st.dictionaries(st.sampled_from(PEOPLE), says))
    final = draw(st.none() | says.filter(lambda said: said not in NO_PREFERENCE))
    return texts, votes, final, final is not None and draw(st.booleans())


def spelled(said: Any) -> Any:
    return tuple(tuple(sorted(tier)) for tier in said) if isinstance(said, tuple) else said


def counting(votes: dict[str, Any], final: Any, is_check: bool, which: str) -> list[Any]:
    """What counts of one item, said once more and plainly."""
    given = [spelled(said) for said in votes.values() if said not in NO_PREFERENCE]
    decided = [] if final is None else [spelled(final)]
    if is_check or which == "adjudicated":
        return decided
    if which == "all":
        return given
    if which == "unanimous":
        return given[:1] if len(given) > 1 and len(set(given)) == 1 else []
    if decided:
        return decided
    leaders = [said for said in set(given) if all(given.count(said) > given.count(other) for other in set(given) - {said})]
    return leaders


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(histories(), max_size=5))
def test_every_policy_counts_the_labels_that_its_sentence_says(store: Store, items: list) -> None:
    project = store.projects.ensure(f"Project {next(numbers)}")
    told: dict[int, Any] = {}
    expected: dict[str, list[tuple[int, Any]]] = {which: [] for which in WHICH}
    for texts, votes, final, is_check in items:
        item_id = add_item(store, project, texts)
        for annotator, said in votes.items():
            told[say(store, item_id, said, annotator)] = (item_id, spelled(said))
        if final is not None:
            told[say(store, item_id, final, "judge", "final")] = (item_id, spelled(final))
            store.items.set_check(item_id, is_check)
        for which in WHICH:
            expected[which] += [(item_id, said) for said in counting(votes, final, is_check, which)]
    for which in WHICH:
        rows = list(store.labels.judged(project.id, which=which))
        found = [told[label_id] for label_id in dict.fromkeys(row["label_id"] for row in rows)]
        assert sorted(found, key=repr) == sorted(expected[which], key=repr)
        # What is counted without a text is what the rows have.
        summary = summarise(store, project.id, which)
        assert summary == summary_of(rows)
        assert summary.compared == len(paired_examples(rows)) and summary.ranked_good + summary.ranked_bad >= 0
        assert summary.desirable + summary.undesirable == len(unpaired_examples(rows))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 3), min_size=3, max_size=6).filter(lambda places: len(set(places)) > 1))
def test_a_ranking_says_exactly_what_its_tiers_say(store: Store, places: list[int]) -> None:
    """places: the tier of each response; tiers may be skipped."""
    project = store.projects.ensure(f"Project {next(numbers)}")
    texts = "abcdef"[: len(places)]
    tiers = tuple(tuple(each for each, place in enumerate(places) if place == tier) for tier in sorted(set(places)))
    say(store, add_item(store, project, texts), tiers)
    wanted = {
        (texts[min(pair, key=lambda each: places[each])], texts[max(pair, key=lambda each: places[each])])
        for pair in combinations(range(len(places)), 2) if places[pair[0]] != places[pair[1]]
    }
    pairs = compared(store, project)
    assert set(pairs) == wanted and len(pairs) == len(wanted)
    single = [(response["text"], good) for _, response, good in judgements(store.labels.judged(project.id))]
    assert sorted(single) == sorted(
        (texts[each], place == min(places)) for each, place in enumerate(places) if place in (min(places), max(places))
    )
