"""Doubts packed and unpacked, and what nobody could have said."""

from __future__ import annotations

import pytest
from cbor2 import dumps
from hypothesis import given
from hypothesis import strategies as st

from dyno.wire.doubts import ACCUSERS_MAX, DOUBTS_MAX, Doubt, doubt_size, pack_doubts, unpack_doubts
from dyno.wire.flat import ProtocolError

DOUBT = Doubt("n2", b"s" * 8, 3, "n5,n6")
NAMES = st.text("abc.-_XYZ019", min_size=1, max_size=64)
DOUBTS = st.builds(
    Doubt,
    NAMES,
    st.binary(min_size=8, max_size=8),
    st.integers(0, (1 << 63) - 1),
    st.lists(NAMES, max_size=ACCUSERS_MAX, unique=True).map(",".join),
)


@given(st.lists(DOUBTS, max_size=20))
def test_what_is_packed_is_unpacked_in_order(doubts):
    assert unpack_doubts(pack_doubts(doubts)) == doubts


@given(st.lists(DOUBTS, min_size=1, max_size=20))
def test_no_doubt_takes_more_than_its_size(doubts):
    header = 3
    assert len(pack_doubts(doubts)) <= header + sum(map(doubt_size, doubts))


def test_no_doubts_are_no_bytes():
    assert pack_doubts([]) == b""
    assert unpack_doubts(b"") == []


def test_a_doubt_may_name_several_accusers_or_none():
    assert DOUBT.by() == ["n5", "n6"]
    assert DOUBT._replace(accusers="").by() == []


@pytest.mark.parametrize(
    ("doubt", "complaint"),
    [
        (DOUBT._replace(name="a b"), "with the name 'a b'"),
        (DOUBT._replace(start=b"short"), "a start or an incarnation"),
        (DOUBT._replace(incarnation=1 << 63), "a start or an incarnation"),
        (DOUBT._replace(incarnation=-1), "a start or an incarnation"),
        (DOUBT._replace(incarnation=True), "other types"),
        (DOUBT._replace(accusers=b"n5"), "other types"),
        (DOUBT._replace(accusers="n5,"), "by 'n5,'"),
        (DOUBT._replace(accusers="n5,n5"), "by one twice"),
        (DOUBT._replace(accusers=",".join(map(str, range(ACCUSERS_MAX + 1)))), "by '0,1,2"),
    ],
)
def test_what_nobody_could_have_said_is_refused(doubt, complaint):
    with pytest.raises(ProtocolError, match=complaint):
        unpack_doubts(pack_doubts([DOUBT, doubt]))


@pytest.mark.parametrize("data", [b"\xff", dumps([]), dumps(list(DOUBT)[:-1]), dumps(list(DOUBT)) + b"\0"])
def test_what_is_no_row_of_doubts_is_refused(data):
    with pytest.raises(ProtocolError):
        unpack_doubts(data)


def test_their_number_is_bounded():
    assert len(unpack_doubts(pack_doubts([DOUBT] * DOUBTS_MAX))) == DOUBTS_MAX
    with pytest.raises(ProtocolError, match="fields are more than"):
        unpack_doubts(pack_doubts([DOUBT] * (DOUBTS_MAX + 1)))
