"""Where a record belongs in a tree, and what it counts for."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno.causality.context import Context
from dyno.causality.dots import Dot, actor
from dyno.causality.record import Record
from dyno.merkle.places import PLACE_BITS, element_of, element_of_damage, place_of, span_of
from dyno.placement.hashing import PREFIX_BYTES, SLOT_BYTES, bucket_id, slot_prefix

SLOTS = st.binary(min_size=SLOT_BYTES, max_size=SLOT_BYTES)


def record(value: bytes, counter: int = 1, request: bytes = b"r" * 16) -> bytes:
    return Record.EMPTY.write(Context.EMPTY, Dot(actor(b"start 77", 0), counter), request, value).pack()


@given(SLOTS, st.integers(0, 20), st.data())
def test_a_slot_lies_in_the_span_of_exactly_the_node_that_its_place_says(
    slot: bytes, depth: int, data: st.DataObject
) -> None:
    own = place_of(slot) >> PLACE_BITS - depth
    number = data.draw(st.integers(0, (1 << depth) - 1))
    start, end = span_of(slot[:PREFIX_BYTES], depth, number)
    assert (start <= slot < end) == (number == own)


def test_the_spans_of_a_level_are_all_of_a_bucket() -> None:
    prefix = slot_prefix(bucket_id("fruit"), 7, 3)
    spans = sorted(span_of(prefix, 3, number) for number in range(8))
    assert spans[0][0] == prefix + bytes(4)
    assert all(end == start for (_, end), (start, _) in pairwise(spans))
    assert spans[-1][1] > prefix + b"\xff" * 16


def test_one_key_in_many_buckets_is_in_many_places() -> None:
    key = bytes(16)
    places = {place_of(slot_prefix(bucket_id(f"bucket {n}"), 7, 3) + key) for n in range(100)}
    assert len(places) == 100


@pytest.mark.parametrize(
    "other",
    [record(b"other"), record(b"value", counter=2), record(b"value", request=b"s" * 16), b"", b"short"],
)
def test_what_differs_counts_differently(other: bytes) -> None:
    slot = bytes(SLOT_BYTES)
    assert element_of(slot, record(b"value")) != element_of(slot, other)


def test_the_same_record_counts_differently_under_another_key_but_not_in_another_tree() -> None:
    packed, slot = record(b"value"), bytes(SLOT_BYTES)
    assert element_of(slot, packed) != element_of(slot[:-1] + b"\1", packed)
    assert element_of(slot, packed) == element_of(b"\0\7\3" + slot[3:], packed)


def test_elements_are_the_same_everywhere() -> None:
    """They cross the wire: another hash would make all nodes of two versions differ."""
    assert element_of(bytes(SLOT_BYTES), record(b"value")) == ELEMENT


def test_damage_is_not_the_same_on_two_nodes() -> None:
    slot = bytes(SLOT_BYTES)
    assert element_of_damage(slot, "n1") == element_of_damage(slot, "n1")
    assert element_of_damage(slot, "n1") != element_of_damage(slot, "n2")


ELEMENT = 44950149048866505283561438012750041724
