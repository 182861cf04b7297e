"""What a base model gave to rows is found again under the same weights and precision, and only there."""

from __future__ import annotations

from pathlib import Path

from storage import Store
from storage.references import KEYS_AT_ONCE


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_values_come_back_exactly_in_their_own_scope_only(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.references.of("base", "float32").put({key(1): -12.345678901234567, key(2): -0.0})
    again = Store(tmp_path).references
    assert again.of("base", "float32").get([key(1), key(2), key(3)]) == {key(1): -12.345678901234567, key(2): 0.0}
    assert again.of("base", "bfloat16").get([key(1)]) == {}
    assert again.of("other", "float32").get([key(1)]) == {}
    assert again.of("basefloat32").get([key(1)]) == {}


def test_what_was_kept_first_stays(tmp_path: Path) -> None:
    kept = Store(tmp_path).references.of("base")
    kept.put({key(1): -1.0})
    kept.put({key(1): -2.0, key(2): -3.0})
    assert kept.get([key(1), key(2)]) == {key(1): -1.0, key(2): -3.0}


def test_more_keys_than_a_query_may_hold(tmp_path: Path) -> None:
    kept = Store(tmp_path).references.of("base")
    many = {key(number): -float(number) for number in range(3 * KEYS_AT_ONCE + 1)}
    kept.put(many)
    assert kept.get(list(many)) == many
