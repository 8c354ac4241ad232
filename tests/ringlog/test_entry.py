"""Ring entries as values and as bytes."""

from __future__ import annotations

from typing import Any

import pytest
from cbor2 import dumps, loads
from hypothesis import given
from hypothesis import strategies as st

from dyno.buckets.properties import DEFAULTS, Properties
from dyno.ringlog.entry import COPYING, SEALED, Entry, Move, digest, first, majority, pack, unpack
from dyno.ringlog.numbers import has_next
from dyno.wire.flat import ProtocolError
from dyno.wire.members import ALIVE, JOINING, LEAVING, LEFT, NORMAL, Member
from tests.ringlog.ring_makers import a_row, an_entry, an_id

A, B, C = (an_id(name) for name in "abc")
CLUSTER = b"a cluster of us."
FULL = Entry(
    9,
    bytes(16),
    False,
    (a_row("a"), a_row("b", LEFT, since=4), a_row("c", JOINING, since=9, replaces="a")),
    (Move(0, 3, B, A, SEALED, 3), Move(7, 3, A, C, COPYING, 9), Move(7, 4, A, C, COPYING, 9)),
    (("b", DEFAULTS), ("wide", Properties(5, 1, 1, 0))),
)


def test_an_entry_travels_whole() -> None:
    assert unpack(pack(FULL)) == FULL
    assert digest(pack(FULL)) == digest(pack(unpack(pack(FULL))))
    assert len(digest(pack(FULL))) == 16


@given(
    names=st.dictionaries(
        st.text("abcd-_9", min_size=1, max_size=9), st.sampled_from([NORMAL, LEAVING]), min_size=1
    ),
    number=st.integers(1, (1 << 64) - 2).filter(has_next),
    forced=st.booleans(),
)
def test_entries_of_all_sizes_travel(names: dict[str, int], number: int, forced: bool) -> None:
    entry = Entry(number, b"", forced, tuple(a_row(*item) for item in sorted(names.items())))
    assert unpack(pack(entry)) == entry


def test_who_is_normal_or_leaving_votes() -> None:
    states = enumerate((JOINING, NORMAL, LEAVING, LEFT))
    entry = an_entry(*(a_row(f"n{number}", state) for number, state in states))
    assert entry.voters() == {"n1": an_id("n1"), "n2": an_id("n2")}


def test_rows_by_name() -> None:
    assert FULL.row("b") == a_row("b", LEFT, since=4)
    assert FULL.row("x") is None


@pytest.mark.parametrize(("count", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)])
def test_majorities_of_one_entry_meet(count: int, needed: int) -> None:
    assert majority(count) == needed


def test_the_first_entry_is_the_same_for_all_who_know_the_same() -> None:
    members = [
        Member(
            name,
            an_id(name),
            an_id("seat " + name),
            bytes(8),
            stamp,
            stamp,
            state,
            ALIVE,
            f"{name}:1",
            "z",
            1.0,
        )
        for stamp, (name, state) in enumerate([("b", NORMAL), ("a", NORMAL), ("c", LEFT)])
    ]
    one = first(members, {"x": DEFAULTS, "w": DEFAULTS}, CLUSTER)
    other = first(reversed(members), {"w": DEFAULTS, "x": DEFAULTS}, CLUSTER)
    assert pack(one) == pack(other)
    assert one == Entry(
        1, b"", False, (a_row("a"), a_row("b")), (), (("w", DEFAULTS), ("x", DEFAULTS)), CLUSTER
    )


def with_field(place: int, value: object) -> bytes:
    """The full entry with another field in that place."""
    fields: list[Any] = loads(pack(FULL))
    fields[place] = value
    return dumps(fields)


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        dumps([1, 2, 3]),
        pack(FULL)[:-1],
        pack(an_entry(a_row("a", LEFT), a_row("b", JOINING))),
        pack(FULL._replace(rows=FULL.rows[::-1])),
        pack(FULL._replace(buckets=FULL.buckets[::-1])),
        dumps(loads(pack(FULL))[:-1]),
        with_field(0, 2),  # a later format
        with_field(1, b"short"),
        with_field(1, 0),
        with_field(2, 0),
        with_field(2, -1),
        with_field(2, 1 << 64),
        with_field(2, (1 << 64) - 1),
        with_field(3, b"short"),
        with_field(4, 0),
        with_field(5, b"x"),
        with_field(6, 0),
        with_field(6, -1),
        with_field(6, 4),
        with_field(6, 1 << 40),
        with_field(7, "no name"),
        with_field(7, 1),
        with_field(7, "z"),  # not sorted any more
        with_field(8, b"short"),
        with_field(8, B),  # two of one directory
        with_field(9, b"short"),
        with_field(10, "\n"),
        with_field(11, 0.0),
        with_field(11, 1),
        with_field(12, 4),
        with_field(12, LEFT),  # nobody votes
        with_field(13, 0),
        with_field(14, "no name"),
        with_field(31, 1),
        with_field(31, ""),
        with_field(31, "x"),
        with_field(32, 0),
        with_field(34, -1),
    ],
)
def test_what_is_no_entry_is_refused(packed: bytes) -> None:
    with pytest.raises(ProtocolError):
        unpack(packed)


@pytest.mark.parametrize(
    "move",
    [
        Move(0, 3, A, A, COPYING, 9),
        Move(0, 3, A, B, COPYING, 9),  # who left gets nothing
        Move(0, 3, A, C, 2, 9),
        Move(0, 0, A, C, COPYING, 9),
        Move(0, 10, A, C, COPYING, 9),
        Move(0, 3, A, C, COPYING, 0),
    ],
)
def test_seats_that_cannot_move_so(move: Move) -> None:
    with pytest.raises(ProtocolError):
        unpack(pack(FULL._replace(moves=(move,))))


def test_moves_of_strangers_and_doubled_ones() -> None:
    packed = bytes.fromhex("00000300000009000000000000000009")
    with pytest.raises(ProtocolError, match="nobody"):
        unpack(with_field(5, packed))
    move = Move(0, 3, A, C, COPYING, 9)
    with pytest.raises(ProtocolError, match="moving seats"):
        unpack(pack(FULL._replace(moves=(move, move))))
