"""Candidates for a reaping, as they travel."""

from __future__ import annotations

import pytest

from dyno.causality.context import Context
from dyno.causality.dots import Dot, actor
from dyno.placement.hashing import SLOT_BYTES
from dyno.protocol.candidates import NUMBER_MAX, SLOTS_MAX, pack_candidates, unpack_candidates

HEAD = b"\0\7\3"
ENTRIES = Context.EMPTY.add(Dot(actor(b"start 01", 0), 1))


def slot(number: int) -> bytes:
    return HEAD + number.to_bytes(SLOT_BYTES - len(HEAD), "big")


@pytest.mark.parametrize("count", [0, 1, SLOTS_MAX])
def test_what_was_packed_comes_out(count: int) -> None:
    entries = {slot(number): ENTRIES for number in range(count)}
    assert unpack_candidates(pack_candidates(5, entries), head=HEAD) == (5, entries)


GOOD = pack_candidates(5, {slot(1): ENTRIES})
BAD = {
    "no number": GOOD[:7],
    "cut short in the slot": GOOD[:20],
    "cut short in the context": GOOD[:-1],
    "too many bytes": GOOD + b"\0",
    "another partition": pack_candidates(5, {b"\0\6\3" + bytes(24): ENTRIES}),
    "not sorted": pack_candidates(5, {slot(2): ENTRIES, slot(1): ENTRIES}),
    "twice": GOOD + GOOD[8:],
    "no context": GOOD[:39] + b"\xff" * (len(GOOD) - 39),
    "too many": pack_candidates(5, {slot(number): ENTRIES for number in range(SLOTS_MAX + 1)}),
    "no such round": pack_candidates(NUMBER_MAX + 1, {}),
}


@pytest.mark.parametrize("what", BAD)
def test_what_nobody_packs_is_refused(what: str) -> None:
    with pytest.raises(ValueError):
        unpack_candidates(BAD[what], head=HEAD)
