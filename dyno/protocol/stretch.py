"""What this node's disk has in a stretch of one (partition, n): digests by slot.

In: the first three bytes of the slots, and the bounds of the stretch. Out: as much of it as a bound of keys
and bytes allows, and where that ends. Only what is committed is in it; what is on its way to the disk will
be found by the next comparison. Corrupt records are in it as DAMAGED, and are reported to the replica.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from dyno.placement.hashing import slot_range
from dyno.storage.cell import record_of
from dyno.wire.entries import DAMAGED, digest_of

if TYPE_CHECKING:
    from dyno.protocol.replica import Replica

KEYS_MAX: Final = 1000  # of one stretch
_PAGE_KEYS = 128  # read at once, so that no more than this goes beyond the bound of bytes


class Stretch(NamedTuple):
    """entries: digests by slot, in their order. end: the last slot that it speaks of, b"": to the end of the
    (partition, n). damaged: whether any record is corrupt."""

    entries: dict[bytes, bytes]
    end: bytes
    damaged: bool


def read_stretch(
    replica: Replica, head: bytes, *, after: bytes, end: bytes, keys_max: int, bytes_max: int
) -> Stretch:
    """The slots behind `after` up to and with `end`; b"" for the bounds of the (partition, n) itself."""
    start: bytes | None
    start, stop = bounds(head, after=after, end=end)
    entries: dict[bytes, bytes] = {}
    size = 0
    damaged = False
    while start is not None and len(entries) < keys_max and size < bytes_max:
        cells, start = replica.rows(start, stop, limit=min(_PAGE_KEYS, keys_max - len(entries)))
        for slot, cell in cells:
            if cell is None:
                damaged = True
                entries[slot] = DAMAGED
                replica.note_damage(slot)
            else:
                record = record_of(cell)
                entries[slot] = digest_of(record)
                size += len(record)
    return Stretch(entries, end if start is None else next(reversed(entries)), damaged)


def bounds(head: bytes, *, after: bytes, end: bytes) -> tuple[bytes, bytes]:
    """The first engine key of a stretch, and one above the last."""
    first, above = slot_range(head)
    return after + b"\0" if after else first, end + b"\0" if end else above
