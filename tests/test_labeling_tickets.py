"""Tickets: a label can be sent only for a card that was given, to whom it was given, as it was shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from errors import LabelError
from labeling.queue import tickets_of
from labeling.tickets import Tickets

GIVEN = (12, "Ann", "shuffled", [3, 4])


def test_a_ticket_says_why_its_card_was_given():
    tickets = Tickets(b"x" * 32)
    assert tickets.check(tickets.issue(*GIVEN), 12, "Ann", [3, 4]) == "shuffled"


@pytest.mark.parametrize("changed", [(13, "Ann", [3, 4]), (12, "Bob", [3, 4]), (12, "Ann", [4, 3]), (12, "Ann", [3])])
def test_a_ticket_of_another_card_annotator_or_order_is_refused(changed):
    tickets = Tickets(b"x" * 32)
    with pytest.raises(LabelError, match="not given"):
        tickets.check(tickets.issue(*GIVEN), *changed)


@given(st.one_of(st.none(), st.integers(), st.text(), st.binary()))
def test_nothing_that_was_made_up_is_a_ticket(ticket):
    with pytest.raises(LabelError):
        Tickets(b"x" * 32).check(ticket, 12, "Ann", [3, 4])


def test_the_reason_of_a_card_cannot_be_changed():
    """A repeat that calls itself a vote would count twice."""
    tickets = Tickets(b"x" * 32)
    signature = tickets.issue(12, "Ann", "repeat", [3, 4]).partition(".")[2]
    with pytest.raises(LabelError):
        tickets.check(f"shuffled.{signature}", 12, "Ann", [3, 4])


def test_tickets_outlive_a_restart_but_not_another_data_folder(store, tmp_path):
    from storage import Store

    ticket = tickets_of(store).issue(*GIVEN)
    again, other = Store(store.folder), Store(tmp_path / "other")
    assert tickets_of(again).check(ticket, 12, "Ann", [3, 4]) == "shuffled"
    with pytest.raises(LabelError):
        tickets_of(other).check(ticket, 12, "Ann", [3, 4])
    again.close()
    other.close()
