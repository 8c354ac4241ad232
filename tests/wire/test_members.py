"""Member records travel as they are, and no impossible one is let in."""

import math
from contextlib import suppress

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyno.wire.flat import ProtocolError
from dyno.wire.members import (
    ALIVE,
    DEAD,
    LEFT,
    NORMAL,
    SUSPECT,
    Member,
    pack_member,
    pack_members,
    packed_size,
    unpack_member,
    unpack_members,
    valid_name,
    valid_zone,
)

MEMBER = Member(
    name="n1",
    directory=b"d" * 16,
    seat=b"s" * 16,
    start=b"start id",
    stamp=3,
    incarnation=0,
    state=NORMAL,
    liveness=ALIVE,
    address="127.0.0.1:7101",
    zone="",
    weight=1.0,
)

MEMBERS = st.builds(
    Member,
    name=st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True),
    directory=st.binary(min_size=16, max_size=16),
    seat=st.binary(min_size=16, max_size=16),
    start=st.binary(min_size=8, max_size=8),
    stamp=st.integers(0, 2**63 - 1),
    incarnation=st.integers(0, 2**63 - 1),
    state=st.integers(0, LEFT),
    liveness=st.integers(0, DEAD),
    address=st.sampled_from(["127.0.0.1:1", "[::1]:65535", "a" * 249 + ":65535", "n1:7101"]),
    zone=st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=64),
    weight=st.floats(0.001, 1000),
)


def test_what_comes_later_in_a_life_orders_higher():
    life = [
        MEMBER,
        MEMBER._replace(liveness=SUSPECT),
        MEMBER._replace(liveness=DEAD),
        MEMBER._replace(incarnation=1),
        MEMBER._replace(start=b"starting"),
        MEMBER._replace(start=b"a start!", stamp=4),
    ]
    orders = [member.order() for member in life]
    assert orders == sorted(orders)


@given(st.lists(MEMBERS, max_size=20))
@settings(deadline=None, max_examples=50)
def test_records_come_back_in_their_order(members):
    packed = pack_members(iter(members))
    assert unpack_members(packed, members_max=len(members)) == members
    assert all(type(member) is Member for member in unpack_members(packed, members_max=20))


@given(MEMBERS)
@settings(deadline=None, max_examples=50)
def test_one_record_comes_back(member):
    assert unpack_member(pack_member(member)) == member
    assert pack_member(member) == pack_members([member])


@given(st.lists(MEMBERS, min_size=1, max_size=20))
@settings(deadline=None, max_examples=50)
def test_how_many_records_fit_can_be_told_before(members):
    """A datagram's room is filled by it: never too much, and little room is lost."""
    size = len(pack_members(members))
    estimate = sum(map(packed_size, members))
    assert size <= 3 + estimate <= size + 3 + 40 * len(members)


def test_no_records_are_no_bytes():
    assert pack_members([]) == b""
    assert unpack_members(b"", members_max=1) == []


def test_a_large_cluster_fits():
    members = [MEMBER._replace(name=f"n{number}") for number in range(10_000)]
    packed = pack_members(members)
    assert unpack_members(packed, members_max=10_000) == members
    with pytest.raises(ProtocolError, match="110000 fields are more than 109989"):
        unpack_members(packed, members_max=9_999)


@pytest.mark.parametrize("packed", [b"", pack_members([MEMBER, MEMBER])])
def test_one_record_is_exactly_one(packed):
    with pytest.raises(ProtocolError):
        unpack_member(packed)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "n" * 65),
        ("name", "n,1"),
        ("name", "n 1"),
        ("name", "n1\n"),
        ("name", "né"),
        ("name", b"n1"),
        ("directory", b"d" * 15),
        ("directory", b""),
        ("seat", b"s" * 17),
        ("seat", "s" * 16),
        ("start", b"s" * 7),
        ("stamp", -1),
        ("stamp", 2**63),
        ("stamp", 2**64),
        ("stamp", 1.0),
        ("incarnation", -1),
        ("incarnation", 2**63),
        ("incarnation", True),
        ("state", 4),
        ("state", -1),
        ("liveness", 3),
        ("liveness", -1),
        ("address", ""),
        ("address", "n1"),
        ("address", "n1:0"),
        ("address", "n1:65536"),
        ("address", "::1:7101"),
        ("address", "n1\x1b[2J:7101"),
        ("address", "n" * 251 + ":7101"),
        ("zone", "z" * 65),
        ("zone", "z\x1b[2J"),
        ("zone", None),
        ("weight", 0.0),
        ("weight", 0.0009),
        ("weight", -1.0),
        ("weight", 1000.1),
        ("weight", math.inf),
        ("weight", math.nan),
        ("weight", 1),
    ],
)
def test_a_record_that_no_node_could_have_is_refused(field, value):
    with pytest.raises(ProtocolError):
        unpack_members(cbor2.dumps([*MEMBER, *MEMBER._replace(**{field: value})]), members_max=10)


@pytest.mark.parametrize(
    "packed",
    [
        b"\x80",
        b"garbage",
        pack_member(MEMBER)[:-1],
        pack_member(MEMBER) + b"\0",
        cbor2.dumps([*MEMBER][:-1]),
        cbor2.dumps([*MEMBER, "n2"]),
        cbor2.dumps([[*MEMBER]]),
        b"\x9a\xff\xff\xff\xff" + pack_member(MEMBER)[1:],
    ],
)
def test_what_is_no_row_of_records_is_refused(packed):
    with pytest.raises(ProtocolError):
        unpack_members(packed, members_max=10)


@given(st.binary(max_size=100))
@settings(deadline=None, max_examples=100)
def test_random_bytes_are_refused(data):
    with suppress(ProtocolError):
        assert unpack_members(data, members_max=10) == []


@given(MEMBERS, st.data())
@settings(deadline=None, max_examples=150)
def test_mutations_are_possible_records_or_refused(member, data):
    packed = bytearray(pack_member(member))
    for _ in range(data.draw(st.integers(1, 3))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    try:
        again = unpack_members(bytes(packed), members_max=10)
    except ProtocolError:
        return
    assert all(valid_name(each.name) and 0.001 <= each.weight <= 1000 for each in again)


def test_names_and_zones():
    assert all(map(valid_name, ["a", "n1", "node-1.rack_2", "A" * 64]))
    assert not any(map(valid_name, ["", "a,b", "a b", "a" * 65, "a\n", "ä"]))
    assert all(map(valid_zone, ["", "eu-west 1", "Zürich", "z" * 64]))
    assert not any(map(valid_zone, ["z" * 65, "z\n", "\x7f"]))
