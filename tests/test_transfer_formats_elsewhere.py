"""What other tools and data sets write is read as their documentation says, and no mutation of it is more than a broken row."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.formats.messages import RowError
from transfer.formats.record import Opinion, Reading, Record
from transfer.formats.registry import FORMATS, Shape, format_of, guess, named, read_row

SKY = "What colour is the sky?"

ALPACA = {"instruction": "Translate.", "input": "Guten Tag", "output": ["Good day", "Gut day"]}
ALPACA_HISTORY = {
    "instruction": "And now?", "input": "", "system": "You paint.", "history": [["Hi", "Hello."]], "chosen": "Blue.",
    "rejected": "Green.",
}
ALPACA_FARM = {"instruction": SKY, "input": "", "output_1": "Green.", "output_2": "Blue.", "preference": 2}
ULTRAFEEDBACK = {
    "source": "x", "instruction": SKY, "models": ["m1", "m2", "m3", "m4"],
    "completions": [
        {"model": "m1", "response": "Green.", "overall_score": 2.0},
        {"model": "m2", "response": "Blue.", "overall_score": 8.5},
        {"model": "m3", "response": "Red.", "overall_score": 2.0},
        {"model": "m4", "response": "Blueish.", "fine-grained_score": 5.0},
    ],
}
ULTRAFEEDBACK_MARKS = {
    "instruction": SKY,
    "completions": [
        {"model": "m1", "response": "Green.", "annotations": {"honesty": {"Rating": "2"}, "truth": {"Rating": "N/A"}}},
        {"model": "m2", "response": "Blue.", "annotations": {"honesty": {"Rating": "4"}, "truth": {"Rating": "5"}}},
    ],
}
ARGILLA_NESTED = {
    "id": "1", "fields": {"prompt": SKY, "response1": "Green.", "response2": "Blue."}, "metadata": {}, "suggestions": {},
    "responses": {
        "choice": [{"value": "response2", "user_id": "ann"}, {"value": "tie", "user_id": "bob"}],
        "comment": [{"value": "nice", "user_id": "ann"}],
    },
}
ARGILLA_FLAT = {
    "id": "1", "status": "completed", "prompt": SKY, "response1": "Green.", "response2": "Blue.",
    "choice.responses": ["response2", "response1"], "choice.responses.users": ["ann", "bob"],
    "choice.responses.status": ["submitted", "discarded"],
}
ARGILLA_OLD = {
    "prompt": SKY, "response-1": "Green.", "response-2": "Blue.", "response-3": "Red.",
    "ranking": [
        {
            "user_id": "ann", "status": "submitted",
            "value": [
                {"rank": 2, "value": "response-1"}, {"rank": 1, "value": "response-2"}, {"rank": 2, "value": "response-3"},
            ],
        }
    ],
}
ARGILLA_PERSONS = {
    "fields": {"prompt": SKY, "response-1": "Green.", "response-2": "Blue."},
    "responses": [{"user_id": "ann", "status": "submitted", "values": {"choice": {"value": 2}}}],
}
LABEL_STUDIO = {
    "id": 7, "data": {"prompt": SKY, "answer1": "Green.", "answer2": "Blue."},
    "annotations": [
        {
            "id": 1, "completed_by": {"id": 3, "email": "ann@example.org"}, "was_cancelled": False, "lead_time": 4.5,
            "created_at": "2024-05-01T10:00:00Z",
            "result": [
                {"from_name": "why", "type": "textarea", "value": {"text": ["since"]}},
                {"from_name": "comparison", "type": "pairwise", "value": {"selected": "right"}},
            ],
        },
        {"id": 2, "completed_by": 4, "was_cancelled": True, "result": []},
    ],
}
LABEL_STUDIO_CHOICES = {
    "data": {"prompt": SKY, "answer1": "Green.", "answer2": "Blue."},
    "annotations": [{"completed_by": 3, "result": [{"type": "choices", "value": {"choices": ["answer2"]}}]}],
}
LABEL_STUDIO_FLAT = {
    "id": 7, "prompt": SKY, "answer1": "Green.", "answer2": "Blue.", "comparison": "right", "annotator": 3,
    "annotation_id": 1, "created_at": "2024-05-01T10:00:00Z", "updated_at": "2024-05-01T10:00:00Z", "lead_time": "4.5",
}
TREE = {
    "message_tree_id": "t", "tree_state": "ready_for_export",
    "prompt": {
        "message_id": "a", "text": SKY, "role": "prompter",
        "replies": [
            {
                "text": "Green.", "role": "assistant", "rank": 1, "replies": [],
            },
            {
                "text": "Blue.", "role": "assistant", "rank": 0,
                "replies": [
                    {
                        "text": "Why?", "role": "prompter",
                        "replies": [
                            {"text": f"Because {place}.", "role": "assistant", "rank": place, "replies": []}
                            for place in (2, 0, 1)
                        ],
                    }
                ],
            },
        ],
    },
}
HH = {
    "chosen": f"\n\nHuman: {SKY}\n\nAssistant: Blue.\n\nHuman: Thanks\n\nAssistant: Bye.",
    "rejected": f"\n\nHuman: {SKY}\n\nAssistant: Green.\n\nHuman: What?\n\nAssistant: Sorry.",
}
STUDIO = {
    "project": "p", "label": 3, "item": 2, "replaces": None, "current": True, "prompt": [{"role": "user", "content": SKY}],
    "responses": [
        {"text": "Green.", "model": "demo", "settings": {"seed": 1}, "author": None},
        {"text": "Blue.", "model": None, "settings": None, "author": "ann"},
    ],
    "verdict": "chosen", "chosen": 1, "tiers": None, "rejected": None, "better": None, "role": "final",
    "annotator": "ann", "strength": 2, "reasons": ["correct"], "comment": "yes", "shown": [1, 0], "active_seconds": 2.5,
    "picked": "shuffled", "margin": -0.5, "source": "person", "created_at": 1714557600.5, "is_check": True,
}
ROWS: dict[str, list[dict[str, Any]]] = {
    "alpaca": [ALPACA, ALPACA_HISTORY, ALPACA_FARM],
    "ultrafeedback": [ULTRAFEEDBACK, ULTRAFEEDBACK_MARKS],
    "argilla": [ARGILLA_NESTED, ARGILLA_FLAT, ARGILLA_OLD, ARGILLA_PERSONS],
    "label-studio": [LABEL_STUDIO, LABEL_STUDIO_CHOICES, LABEL_STUDIO_FLAT],
    "openassistant": [TREE],
    "hh-rlhf": [HH],
    "studio-labels": [STUDIO],
    "pairwise-votes": [{"prompt": SKY, "response_a": "Green.", "response_b": "Blue.", "label": "b", "annotator": "ann"}],
    "trl-preference": [{"prompt": SKY, "chosen": "Blue.", "rejected": "Green."}],
    "trl-unpaired": [{"prompt": SKY, "completion": "Blue.", "label": "1"}],
    "sharegpt-preference": [
        {
            "conversations": [{"from": "human", "value": SKY}], "chosen": {"from": "gpt", "value": "Blue."},
            "rejected": {"from": "gpt", "value": "Green."},
        }
    ],
}
EVERY = [(name, row) for name, rows in ROWS.items() for row in rows]


def one(row: dict[str, Any]) -> Record:
    [record] = read(row).records
    return record


def read(row: dict[str, Any]) -> Reading:
    shape = guess([row])
    assert shape is not None
    return read_row(shape, row)


def better(record: Record) -> str:
    """Return the text that the record's first opinion puts first."""
    opinion = record.opinions[0]
    index = opinion.chosen if opinion.verdict == "chosen" else opinion.tiers[0][0]
    assert index is not None
    return record.answers[index].text


@pytest.mark.parametrize(("name", "row"), EVERY)
def test_each_is_found_by_itself(name: str, row: dict[str, Any]) -> None:
    assert format_of(row) is named(name)
    assert format_of(json.loads(json.dumps(row))) is named(name)


@pytest.mark.parametrize(
    "row",
    [row for name, row in EVERY if row not in (ALPACA, ALPACA_HISTORY, TREE) and name != "trl-unpaired"],
)
def test_each_says_that_blue_is_the_best_answer(row: dict[str, Any]) -> None:
    record = one(row)
    assert record.messages == [{"role": "user", "content": SKY}]
    assert better(record) == "Blue."


def test_an_input_follows_its_instruction_and_history_goes_before() -> None:
    assert one(ALPACA).messages == [{"role": "user", "content": "Translate.\n\nGuten Tag"}]
    assert better(one(ALPACA)) == "Good day"
    assert [message["role"] for message in one(ALPACA_HISTORY).messages] == ["system", "user", "assistant", "user"]
    assert one({"instruction": "Hi", "output": "Hello."}).opinions == ()
    assert one({"instruction": "Hi", "input": ""}).answers == ()


def test_scores_become_a_ranking_with_ties_and_models() -> None:
    record = one(ULTRAFEEDBACK)
    [opinion] = record.opinions
    tiers = [{record.answers[index].text for index in tier} for tier in opinion.tiers]
    assert tiers == [{"Blue."}, {"Blueish."}, {"Green.", "Red."}]
    assert {answer.model for answer in record.answers} == {"m1", "m2", "m3", "m4"}


def test_more_than_six_answers_keep_the_best_and_the_worst() -> None:
    completions = [{"response": f"Answer {place}.", "score": place} for place in range(9)]
    reading = read({"instruction": SKY, "completions": completions})
    assert [answer.text[-2] for answer in reading.records[0].answers] == list("876210")
    assert "more than six" in reading.left_out[0]


def test_a_tree_gives_a_record_for_each_question_with_ranked_answers() -> None:
    first, second = read(TREE).records
    assert (better(first), better(second)) == ("Blue.", "Because 0.")
    assert [message["content"] for message in second.messages] == [SKY, "Blue.", "Why?"]
    assert second.opinions[0].verdict == "ranked"


def test_conversations_that_part_early_are_cut_at_the_first_answer_that_differs() -> None:
    reading = read(HH)
    assert [answer.text for answer in reading.records[0].answers] == ["Blue.", "Green."]
    assert "first answer that differs" in reading.left_out[0]


def test_people_and_their_times_are_kept() -> None:
    assert [opinion.annotator for opinion in one(ARGILLA_NESTED).opinions] == ["ann", "bob"]
    assert [opinion.annotator for opinion in one(ARGILLA_FLAT).opinions] == ["ann"]
    [opinion] = one(LABEL_STUDIO).opinions
    assert (opinion.annotator, opinion.active_seconds, opinion.created_at) == ("ann@example.org", 4.5, 1714557600.0)


def test_a_label_of_ours_is_read_whole_from_json_and_from_texts() -> None:
    record = one(STUDIO)
    assert record.is_check and record.answers[0].settings == {"seed": 1} and record.answers[1].author == "ann"
    assert record.opinions == (
        Opinion(
            "chosen", "ann", 1, role="final", strength=2, reasons=("correct",), comment="yes", shown=(1, 0),
            active_seconds=2.5, picked="shuffled", margin=-0.5, source="person", created_at=1714557600.5,
        ),
    )
    texts = {
        name: value if isinstance(value, (str, list)) else "" if value is None else json.dumps(value)
        for name, value in STUDIO.items()
    }
    assert one(texts) == record


@pytest.mark.parametrize(
    "row",
    [
        {"Question": SKY, "Preferred": "Blue.", "Dispreferred": "Green."},
        {"question": SKY, "winner": "Blue.", "loser": "Green.", "id": 3},
        {"query": SKY, "chosen_response": "Blue.", "rejected_response": "Green."},
        {"prompt": SKY, "accepted": "Blue.", "rejected": "Green."},
        {"question": SKY, "answer_a": "Green.", "answer_b": "Blue.", "vote": "b", "judge": "ann"},
    ],
)
def test_other_usual_names_of_columns_are_understood(row: dict[str, Any]) -> None:
    assert better(one(row)) == "Blue."


def test_a_mapping_reaches_into_objects() -> None:
    row = {"data": {"q": SKY}, "out": {"good": "Blue.", "bad": "Green."}}
    shape = Shape(named("trl-preference"), {"prompt": "data.q", "chosen": "out.good", "rejected": "out.bad"})
    assert better(read_row(shape, row).records[0]) == "Blue."
    with pytest.raises(RowError, match="does not have the fields"):
        read_row(shape, {"data": {}, "out": []})


def test_every_format_has_a_row_here_or_beside() -> None:
    beside = {"trl-preference-implicit", "messages-label", "prompt-completion", "prompt-only", "messages"}
    assert {known.name for known in FORMATS} == ROWS.keys() | beside


def test_the_names_of_people_are_a_list_or_the_row_is_broken() -> None:
    with pytest.raises(RowError, match="'choice.responses.users' should be a list, not an object"):
        read({**ARGILLA_FLAT, "choice.responses.users": {"value": "1"}})


SCRAP = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just([]), st.just({}),
    st.lists(st.integers(), max_size=2), st.just({"value": "1"}), st.just("\0"), st.just("\ud800"), st.just([[None]]),
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [deeper for key, each in inside for deeper in paths(each, (*path, key))]


@settings(max_examples=400, deadline=None)
@given(data=st.data(), which=st.sampled_from(EVERY))
def test_a_row_with_anything_anywhere_is_read_or_broken_never_a_crash(data: st.DataObject, which: tuple[str, Any]) -> None:
    name, row = which[0], copy.deepcopy(which[1])
    for _ in range(data.draw(st.integers(1, 3))):
        found = paths(row)
        path = data.draw(st.sampled_from(found)) if found else ()
        place: Any = row
        for key in path[:-1]:
            place = place[key]
        if path:
            place[path[-1]] = copy.deepcopy(data.draw(SCRAP))
    for shape in filter(None, (Shape(named(name)), guess([row]))):
        try:
            reading = read_row(shape, row)
        except RowError as error:
            assert str(error)
            continue
        for record in reading.records:
            assert record.messages[-1]["role"] == "user"
            texts = [answer.text for answer in record.answers] + [message["content"] for message in record.messages]
            "".join(texts).encode("utf-8")
