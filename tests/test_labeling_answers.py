"""What an annotator may say of a card, and what is refused before anything is stored."""

from __future__ import annotations

import pytest

from errors import LabelError
from labeling.answers import Answer, Edit, checked, meaning

PAIR, RANKING = [7, 8], [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("pair", Answer("good")), ("single", Answer("a")), ("ranking", Answer("tie")), ("pair", Answer("undo")),
        ("pair", Answer("a", strength="very")), ("single", Answer("good", strength="clearly")),
        ("pair", Answer("skip", strength="slightly")),
        ("pair", Answer("a", reasons=("kind", "kind"))), ("pair", Answer("a", reasons=tuple(map(str, range(25))))),
        ("pair", Answer("a", comment="x" * 4001)), ("pair", Answer("a", comment="\0")),
        ("pair", Answer("a", comment="\ud800")), ("pair", Answer("a", reasons=("\udfff",))),
        ("pair", Answer("edited")), ("pair", Answer("a", edit=Edit(7, "Better."))),
        ("pair", Answer("edited", edit=Edit(9, "Better."))), ("pair", Answer("edited", edit=Edit(7, " \n"))),
        ("pair", Answer("edited", edit=Edit(7, "x" * 200_001))), ("pair", Answer("edited", edit=Edit(7, "\0"))),
        ("ranking", Answer("ranked")), ("ranking", Answer("ranked", ranking=((1,), (2,), (3,)))),
        ("ranking", Answer("ranked", ranking=((1, 2, 3, 4),))), ("ranking", Answer("ranked", ranking=((1, 1), (2, 3, 4)))),
        ("ranking", Answer("ranked", ranking=((1, 2, 3, 4), ()))), ("ranking", Answer("ranked", ranking=((1, 2, 3, 9), (4,)))),
        ("pair", Answer("a", ranking=((7,), (8,)))),
    ],
)  # fmt: skip
def test_an_answer_that_does_not_fit_is_refused(kind, answer):
    shown = {"pair": PAIR, "single": [7], "ranking": RANKING}[kind]
    with pytest.raises(LabelError):
        checked(answer, kind, shown)


def test_a_side_means_the_response_that_was_shown_there():
    assert meaning(Answer("b", "clearly", ("kind",), " ok "), PAIR) == {
        "verdict": "chosen", "chosen_response_id": 8, "strength": 2, "reasons": ("kind",), "comment": "ok",
    }  # fmt: skip


def test_a_better_answer_rejects_the_response_it_was_made_from():
    fields = meaning(Answer("edited", edit=Edit(8, "Better.")), PAIR)
    assert (fields["verdict"], fields["rejected_response_id"]) == ("edited", 8)
