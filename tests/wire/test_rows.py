"""Rows of byte strings: what is packed comes back, and nothing else passes."""

from __future__ import annotations

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno.wire.flat import ProtocolError
from dyno.wire.rows import pack_row, unpack_keys, unpack_row

REFUSED = {
    "nothing": b"",
    "an empty row": b"\x80",
    "an int": cbor2.dumps([1]),
    "a float": cbor2.dumps([b"", 1.0]),
    "a str": cbor2.dumps(["text"]),
    "a bool": cbor2.dumps([False]),
    "undefined": b"\x81\xf7",
    "a row in it": cbor2.dumps([[b""]]),
    "an empty row in it": cbor2.dumps([[]]),
    "an empty map in it": cbor2.dumps([{}]),
    "a tag": b"\x81\xc2\x41\x01",
    "an indefinite row": b"\x9f\x40\xff",
    "indefinite bytes": b"\x81\x5f\x41a\xff",
    "deep nesting": b"\x81" * 100_000,
    "half of it": pack_row([b"abc", b"def"])[:-1],
    "more behind it": pack_row([b"abc"]) + b"\xf6",
    "bytes alone": cbor2.dumps(b"abc"),
    "more than there is": b"\x9a\xff\xff\xff\xff",
    "a byte string longer than the row": b"\x81\x5b\x7f\xff\xff\xff\xff\xff\xff\xff",
}


@given(st.lists(st.binary(max_size=300) | st.none(), min_size=1, max_size=300))
def test_a_row_comes_back(items: list[bytes | None]) -> None:
    packed = pack_row(items)
    assert unpack_row(packed, items_max=len(items)) == items
    if len(items) > 1:
        with pytest.raises(ProtocolError):
            unpack_row(packed, items_max=len(items) - 1)
    if None in items:
        with pytest.raises(ProtocolError):
            unpack_keys(packed, items_max=len(items))
    else:
        assert unpack_keys(packed, items_max=len(items)) == items


@pytest.mark.parametrize("packed", REFUSED.values(), ids=REFUSED)
def test_all_else_is_refused(packed: bytes) -> None:
    for unpack in (unpack_row, unpack_keys):
        with pytest.raises(ProtocolError):
            unpack(packed, items_max=4096)


@given(st.binary(max_size=60))
def test_random_bytes_are_a_row_or_refused(packed: bytes) -> None:
    try:
        items = unpack_row(packed, items_max=10)
    except ProtocolError:
        return
    assert 1 <= len(items) <= 10
    assert all(item is None or type(item) is bytes for item in items)


def test_a_row_of_more_than_65535_items_is_one_as_well_where_so_many_are_admitted() -> None:
    items: list[bytes | None] = [None] * 70_000
    packed = pack_row(items)
    assert unpack_row(packed, items_max=70_000) == items
    with pytest.raises(ProtocolError):
        unpack_row(packed, items_max=69_999)


def test_nobody_packs_an_empty_row() -> None:
    with pytest.raises(AssertionError):
        pack_row([])
