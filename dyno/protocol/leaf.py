"""What this node's disk has below one node of a tree: elements by slot.

A leaf holds records of all buckets, whose slots lie apart; each bucket has one stretch of them there. Only
what is committed is in it, as in a stretch. Corrupt records are reported to the replica, and have no element.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from dyno.merkle.places import element_of, span_of
from dyno.placement.hashing import PREFIX_BYTES, slot_range
from dyno.storage.cell import record_of
from dyno.wire.trees import SUM_BYTES, TOTAL_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dyno.protocol.replica import Replica
    from dyno.storage.engine import Scanned
    from dyno.wire.trees import Node

KEYS_MAX: Final = 512  # more are compared as stretches
BUCKETS_MAX: Final = 128  # likewise, for each is a place of its own on the disk
BYTES_MAX: Final = 32 << 20  # likewise, of records, for one question or answer


class Leaf(NamedTuple):
    """elements: the first 8 bytes of each, by slot, in the order of the slots. damaged: slots of corrupt
    records."""

    elements: dict[bytes, bytes]
    damaged: list[bytes]


class Room:
    """left: how many bytes of records may still be read for one question or answer, roughly."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = BYTES_MAX


def read_leaf(replica: Replica, node: Node, room: Room) -> Leaf | None:
    """None: too much for one answer."""
    if room.left <= 0:
        return None
    leaf = Leaf({}, [])
    for span in spans_below(node, replica.rows):
        if span is None or _told(leaf, replica, *span, room) is None:
            return None
    return leaf


def spans_below(node: Node, rows: Callable[..., Scanned]) -> Iterator[tuple[bytes, bytes] | None]:
    """Where the slots below a node are, bucket by bucket; None for where there are too many buckets. rows: as
    `Engine.scan`."""
    start, end = slot_range(node.head)
    if node.depth == 0:
        yield start, end
        return
    for _ in range(BUCKETS_MAX):
        first, _ = rows(start, end, limit=1)
        if not first:
            return
        prefix = first[0][0][:PREFIX_BYTES]
        yield span_of(prefix, node.depth, node.number)
        start = slot_range(prefix)[1]
    yield None


def _told(leaf: Leaf, replica: Replica, start: bytes, end: bytes, room: Room) -> Leaf | None:
    """With what lies between two slots."""
    at: bytes | None = start
    while at is not None:
        cells, at = replica.rows(at, end, limit=KEYS_MAX)
        for slot, cell in cells:
            if cell is None:
                leaf.damaged.append(slot)
                replica.note_damage(slot)
            else:
                record = record_of(cell)
                room.left -= len(record)
                element = element_of(slot, record)
                leaf.elements[slot] = element.to_bytes(TOTAL_BYTES, "little")[:SUM_BYTES]
        if len(leaf.elements) > KEYS_MAX or room.left < 0:
            return None
    return leaf
