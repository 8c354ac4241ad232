"""Pages of keys come through as they were, and nothing else does."""

from __future__ import annotations

from contextlib import suppress

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyno.wire.flat import ProtocolError
from dyno.wire.pages import (
    DEAD,
    LIVE,
    PAGE_KEYS_MAX,
    UNREADABLE,
    Entry,
    entry,
    is_page,
    pack_entries,
    pack_keys,
    unpack_entries,
    unpack_keys,
    unreadable,
)

HASHES = [bytes([number]) * 16 for number in range(1, 9)]
ENTRIES = [
    entry(HASHES[0], b"alive", b"record", live=True),
    entry(HASHES[2], b"deleted", b"another record", live=False),
    unreadable(HASHES[5]),
]


def field(hash: bytes = HASHES[1], kind: int = LIVE, digest: bytes = bytes(8)) -> bytes:
    return hash + bytes([kind]) + digest


def test_entries_come_through_as_they_were() -> None:
    packed = pack_entries(ENTRIES)
    for end in (b"", HASHES[5], HASHES[6]):
        assert unpack_entries(packed, after=b"", end=end) == ENTRIES
    assert [each.state[0] for each in ENTRIES] == [LIVE, DEAD, UNREADABLE]
    assert unpack_entries(pack_entries([]), after=HASHES[0], end=b"") == []


def test_no_entries_and_no_keys_are_no_bytes_at_all() -> None:
    assert pack_entries([]) == pack_keys([]) == b""
    assert unpack_entries(b"", after=b"", end=b"") == unpack_keys(b"") == []


def test_states_tell_records_apart() -> None:
    def state(record: bytes, live: bool) -> bytes:
        return entry(HASHES[0], b"key", record, live=live).state

    assert state(b"record", True) == state(b"record", True)
    assert len({state(b"record", True), state(b"record", False), state(b"another", True)}) == 3


@pytest.mark.parametrize(
    "fields",
    [
        [field()],
        [],
        [field(), "key"],
        [field(), 7],
        [field(), None],
        [field(digest=bytes(7)), b"key"],
        [field(digest=bytes(9)), b"key"],
        [b"", b"key"],
        [field(kind=3), b"key"],
        [field(), b""],
        [field(kind=DEAD), b""],
        [field(), b"k" * 1025],
        [field(), b"key", field(), b"key"],
        [field(HASHES[3]), b"key", field(HASHES[2]), b"key"],
        [field(HASHES[0]), b"key"],
        [field() if index % 2 == 0 else b"k" for index in range(2 * PAGE_KEYS_MAX + 2)],
    ],
    ids=range(16),
)
def test_what_is_no_page_of_entries_is_refused(fields: list[object]) -> None:
    with pytest.raises(ProtocolError):
        unpack_entries(cbor2.dumps(fields), after=HASHES[0], end=b"")


@pytest.mark.parametrize("end", [b"short", HASHES[1], HASHES[0]])
def test_a_page_ends_behind_what_it_holds_and_behind_its_beginning(end: bytes) -> None:
    packed = pack_entries([entry(HASHES[2], b"key", b"record", live=True)])
    with pytest.raises(ProtocolError, match="does not end where it says"):
        unpack_entries(packed, after=HASHES[0], end=end)
    with pytest.raises(ProtocolError, match="does not end where it says"):
        unpack_entries(b"", after=HASHES[1], end=end)


@given(st.lists(st.binary(min_size=1, max_size=1024), max_size=PAGE_KEYS_MAX))
@settings(deadline=None, max_examples=30)
def test_keys_come_through_as_they_were(keys: list[bytes]) -> None:
    assert unpack_keys(pack_keys(keys)) == keys


@pytest.mark.parametrize(
    "fields",
    [[b""], ["key"], [b"k" * 1025], [b"key", 1], [b"k"] * (PAGE_KEYS_MAX + 1), [], [b"key", None]],
    ids=range(7),
)
def test_what_is_no_page_of_keys_is_refused(fields: list[object]) -> None:
    with pytest.raises(ProtocolError):
        unpack_keys(cbor2.dumps(fields))


@given(st.binary(max_size=200))
@settings(deadline=None, max_examples=300)
def test_random_bytes_end_in_no_other_error(data: bytes) -> None:
    with suppress(ProtocolError):
        unpack_keys(data)
    with suppress(ProtocolError):
        assert all(isinstance(each, Entry) for each in unpack_entries(data, after=b"", end=b""))


def test_a_page_begins_at_the_start_or_behind_a_hash_and_holds_something() -> None:
    assert is_page(b"", 1)
    assert is_page(HASHES[0], 2**64 - 1)
    assert not is_page(b"", 0)
    assert not is_page(HASHES[0][1:], 1)
