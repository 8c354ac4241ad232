"""Rows beside the records: no slot, and found by their kind."""

from __future__ import annotations

from dyno.config import COPIES_MAX, PARTITIONS_MAX
from dyno.placement.hashing import SLOT_BYTES, slot_prefix
from dyno.protocol import rows


def test_no_slot_is_a_row_and_no_row_a_slot() -> None:
    highest = slot_prefix(b"\xff" * 8, PARTITIONS_MAX - 1, COPIES_MAX) + b"\xff" * 16
    assert len(highest) == SLOT_BYTES
    assert not rows.is_row(highest)
    for kind in (rows.HINTS, rows.SEEN, rows.DEAD, rows.GENERATIONS, rows.ASIDE):
        assert rows.is_row(kind + highest)
        assert kind > highest


def test_a_kind_is_a_range_of_its_own() -> None:
    start, end = rows.rows_of(rows.HINTS)
    assert start <= rows.HINTS + b"\xff" * 100 < end
    assert not start <= rows.SEEN < end
