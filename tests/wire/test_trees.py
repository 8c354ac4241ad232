"""What nodes tell each other of their trees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno.wire.flat import ProtocolError
from dyno.wire.trees import (
    Difference,
    Node,
    pack_difference,
    pack_generations,
    pack_heads,
    pack_node,
    pack_sums,
    pack_totals,
    unpack_difference,
    unpack_generations,
    unpack_heads,
    unpack_node,
    unpack_sums,
    unpack_totals,
)

HEAD = b"\0\7\3"
SLOTS = st.sets(st.binary(min_size=24, max_size=24), max_size=5).map(lambda s: [HEAD + x for x in sorted(s)])
BY_HEAD = st.dictionaries(st.binary(min_size=3, max_size=3), st.integers(0, (1 << 64) - 1), max_size=5).map(
    lambda numbers: dict(sorted(numbers.items()))
)


@given(st.integers(0, 31), st.data())
def test_nodes(depth: int, data: st.DataObject) -> None:
    node = Node(HEAD, depth, data.draw(st.integers(0, (1 << depth) - 1)))
    assert unpack_node(pack_node(node)) == node


@given(st.lists(st.integers(0, (1 << 128) - 1), max_size=5))
def test_totals(totals: list[int]) -> None:
    assert unpack_totals(pack_totals(totals), count=len(totals)) == totals


@given(BY_HEAD)
def test_what_there_is_of_each_head(numbers: dict[bytes, int]) -> None:
    assert unpack_heads(pack_heads(numbers)) == numbers
    assert unpack_generations(pack_generations(numbers)) == numbers


@pytest.mark.parametrize("count", [0, 2, 4, 8, 16])
def test_sums(count: int) -> None:
    sums = tuple(range(count))
    assert unpack_sums(pack_sums(sums)) == sums


@given(SLOTS, st.sets(st.integers(0, 99), max_size=5).map(sorted), st.booleans())
def test_differences(theirs: list[bytes], lacks: list[int], damaged: bool) -> None:
    packed = pack_difference(Difference(theirs, lacks, damaged))
    assert unpack_difference(packed, head=HEAD, elements=100) == (theirs, tuple(lacks), damaged)


def difference(packed: bytes) -> Difference:
    return unpack_difference(packed, head=HEAD, elements=3)


def totals(packed: bytes) -> list[int]:
    return unpack_totals(packed, count=2)


@pytest.mark.parametrize(
    ("unpack", "packed"),
    [
        (unpack_node, b"short"),
        (unpack_node, HEAD + b"\2" + b"\0\0\0\4"),
        (unpack_node, HEAD + b"\x20" + bytes(4)),
        (totals, bytes(31)),
        (unpack_heads, bytes(18)),
        (unpack_heads, (HEAD + bytes(16)) * 2),
        (unpack_heads, b"\1" + bytes(18) + bytes(19)),
        (unpack_sums, bytes(9)),
        (unpack_sums, bytes(8)),
        (unpack_sums, bytes(8 * 3)),
        (unpack_sums, bytes(8 * 32)),
        (difference, b"\0"),
        (difference, b"\2\0\0"),
        (difference, b"\0\0\1"),
        (difference, b"\0\0\0\1"),
        (difference, b"\0\0\0\0\3"),
        (difference, b"\0\0\0\0\1\0\1"),
        (difference, b"\0\0\2" + bytes(48)),
    ],
)
def test_what_nobody_would_say_is_refused(unpack: Callable[[bytes], Any], packed: bytes) -> None:
    with pytest.raises(ProtocolError):
        unpack(packed)
