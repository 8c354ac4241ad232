"""What this node's disk has below one node of a tree: elements by slot.

A leaf holds records of all buckets, whose slots lie apart; each bucket has one stretch of them there. Only
what is committed is in it, as in a stretch. Corrupt records are reported to the replica, and have no element.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from dyno.merkle.places import element_of, span_of
from dyno.placement.hashing import PREFIX_BYTES, slot_range
from dyno.storage.cell import record_of
from dyno.wire.trees import SUM_BYTES

if TYPE_CHECKING:
    from dyno.protocol.replica import Replica
    from dyno.wire.trees import Node

KEYS_MAX: Final = 512  # more are compared as stretches
BUCKETS_MAX: Final = 128  # likewise, for each is a place of its own on the disk


class Leaf(NamedTuple):
    """elements: the first 8 bytes of each, by slot, in the order of the slots. damaged: whether any record is
    corrupt."""

    elements: dict[bytes, bytes]
    damaged: bool


def read_leaf(replica: Replica, node: Node) -> Leaf | None:
    """None: too much for one answer."""
    elements: dict[bytes, bytes] = {}
    damaged = False
    start, end = slot_range(node.head)
    for _ in range(BUCKETS_MAX):
        first, _ = replica.rows(start, end, limit=1)
        if not first:
            return Leaf(elements, damaged)
        prefix = first[0][0][:PREFIX_BYTES]
        at: bytes | None
        at, stop = span_of(prefix, node.depth, node.number)
        while at is not None:
            cells, at = replica.rows(at, stop, limit=KEYS_MAX)
            for slot, cell in cells:
                if cell is None:
                    damaged = True
                    replica.note_damage(slot)
                else:
                    elements[slot] = element_of(slot, record_of(cell)).to_bytes(16, "little")[:SUM_BYTES]
            if len(elements) > KEYS_MAX:
                return None
        start = slot_range(prefix)[1]
    return None
