"""Writes that were done twice, in the record of one replica."""

from __future__ import annotations

from dyno.causality.context import Context
from dyno.causality.dots import Dot, actor, dot_of_request
from dyno.causality.record import Record
from dyno.placement.hashing import SLOT_BYTES
from dyno.protocol.doubles import with_doubles, without_replaced
from dyno.protocol.requests_seen import RequestsSeen
from dyno.storage.memory import MemoryEngine

SLOT = b"s" * SLOT_BYTES
REQUEST = b"request.request."
FIRST, AGAIN = Dot(actor(b"start 01", 0), 1), dot_of_request(REQUEST)
READ_FIRST = Context.EMPTY.add(FIRST)
ONCE_MORE = Record.EMPTY.write(Context.EMPTY, AGAIN, REQUEST, b"value")


def knowing(*dots: Dot, slot: bytes = SLOT) -> RequestsSeen:
    """What a node knows that has stored the write under these dots."""
    seen = RequestsSeen(MemoryEngine(), window_s=10.0, count_max=10)
    for dot in dots:
        seen.note([], slot, REQUEST, dot)
    return seen


def test_who_read_a_write_as_it_was_done_first_means_it_as_it_was_done_again() -> None:
    assert with_doubles(knowing(FIRST), SLOT, ONCE_MORE, READ_FIRST) == READ_FIRST.add(AGAIN)


def test_nothing_is_added_to_what_was_read_where_nothing_ties_the_two() -> None:
    assert with_doubles(knowing(), SLOT, ONCE_MORE, READ_FIRST) is READ_FIRST
    assert with_doubles(knowing(FIRST), SLOT, ONCE_MORE, Context.EMPTY) is Context.EMPTY
    assert with_doubles(knowing(FIRST, slot=b"t" * SLOT_BYTES), SLOT, ONCE_MORE, READ_FIRST) is READ_FIRST
    once = Record.EMPTY.write(Context.EMPTY, FIRST, REQUEST, b"value")
    assert with_doubles(knowing(FIRST), SLOT, once, READ_FIRST) is READ_FIRST


def test_what_was_replaced_as_it_was_done_first_goes_as_it_was_done_again() -> None:
    merged = ONCE_MORE.merge(Record.EMPTY.delete(READ_FIRST))
    assert merged.siblings
    assert not without_replaced(knowing(FIRST), SLOT, merged).siblings
    first = Record.EMPTY.write(Context.EMPTY, FIRST, REQUEST, b"value")
    assert not without_replaced(knowing(), SLOT, merged, ONCE_MORE, first).siblings
    assert without_replaced(knowing(), SLOT, merged) is merged


def test_what_is_live_under_both_dots_stays() -> None:
    first = Record.EMPTY.write(Context.EMPTY, FIRST, REQUEST, b"value")
    merged = first.merge(ONCE_MORE)
    assert without_replaced(knowing(FIRST), SLOT, merged, first, ONCE_MORE) is merged
    assert without_replaced(knowing(FIRST), SLOT, first) is first
