"""Slots and digests of a stretch, as they are told to the other owner."""

from __future__ import annotations

import pytest

from dyno.wire.entries import (
    DAMAGED,
    DIGEST_BYTES,
    NOTHING,
    digest_of,
    digest_of_stretch,
    pack_slots,
    unpack_slots,
)
from dyno.wire.flat import ProtocolError

HEAD = b"\0\x07\x03"
SLOTS = [HEAD + bytes([number]) * 24 for number in range(5)]
ENTRIES = {slot: digest_of(slot) for slot in SLOTS}


def test_entries_come_back_as_they_were() -> None:
    packed = pack_slots(ENTRIES)
    assert unpack_slots(packed, head=HEAD, after=b"", end=b"") == ENTRIES
    assert list(unpack_slots(packed, head=HEAD, after=b"", end=SLOTS[-1])) == SLOTS
    assert unpack_slots(b"", head=HEAD, after=b"", end=b"") == {}


def test_the_digest_of_a_stretch_tells_slots_and_records_apart() -> None:
    digests = [
        digest_of_stretch({}),
        digest_of_stretch(ENTRIES),
        digest_of_stretch({**ENTRIES, SLOTS[2]: digest_of(b"another record")}),
        digest_of_stretch({slot: digest for slot, digest in ENTRIES.items() if slot != SLOTS[2]}),
    ]
    assert len(set(digests)) == 4
    assert digests[0] == NOTHING
    assert len(digest_of(b"")) == len(DAMAGED) == DIGEST_BYTES


@pytest.mark.parametrize(
    ("packed", "bounds"),
    [
        (pack_slots(ENTRIES)[:-1], {}),
        (pack_slots(dict(reversed(ENTRIES.items()))), {}),
        (pack_slots(ENTRIES) + pack_slots({SLOTS[-1]: DAMAGED}), {}),
        (pack_slots(ENTRIES), {"head": b"\0\x08\x03"}),
        (pack_slots(ENTRIES), {"after": SLOTS[0]}),
        (pack_slots(ENTRIES), {"end": SLOTS[3]}),
    ],
)
def test_what_no_replica_would_tell_is_refused(packed: bytes, bounds: dict[str, bytes]) -> None:
    with pytest.raises(ProtocolError):
        unpack_slots(packed, **{"head": HEAD, "after": b"", "end": b"", **bounds})
