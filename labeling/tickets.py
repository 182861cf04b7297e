"""Tickets: what proves that a card was given to an annotator. Does not know how cards are chosen or answered.

A ticket is made with the card and comes back with the answer. It names why the card was given, and is signed with a
secret of the data folder over the item, the annotator and the order of the responses: a label for an item that one
was not given, or with sides that were not shown, cannot be sent. It does not end: a laptop may sleep over the weekend.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from errors import LabelError

OWN = "own"  # a card that comes back by an undo, or is opened again


class Tickets:
    """Makes and checks tickets. secret: at least 16 bytes."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def issue(self, item_id: int, annotator: str, picked: str, shown_response_ids: Sequence[int]) -> str:
        """Return the ticket of a card. picked: why it was given; see `storage.records.Label.picked`."""
        return f"{picked}.{self._signature(item_id, annotator, picked, shown_response_ids)}"

    def check(self, ticket: object, item_id: int, annotator: str, shown_response_ids: Sequence[int]) -> str:
        """Return why the card was given. Raises LabelError when the ticket is not of this card and annotator."""
        picked, _, signature = ticket.partition(".") if isinstance(ticket, str) else ("", "", "")
        own = self._signature(item_id, annotator, picked, shown_response_ids)
        if not hmac.compare_digest(signature.encode("utf-8", "replace"), own.encode()):
            raise LabelError(f"Item {item_id} was not given to {annotator} as it was sent back. Reload the page.")
        return picked

    def _signature(self, item_id: int, annotator: str, picked: str, shown: Sequence[int]) -> str:
        content = "\n".join([str(item_id), annotator, picked, ",".join(map(str, shown))])
        return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), key=self._secret, digest_size=12).hexdigest()
