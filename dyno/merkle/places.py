"""Where a record belongs in the tree of its (partition, n), and what it counts for there.

In: slots and packed records. Out: a *place*, 32 bits, whose first bits are the way from the root to a leaf;
and an *element*, a number of 128 bits, of which a sum over records is made.

The place is the beginning of the key's hash, XORed with that of the bucket's id. So the leaves of one bucket
are stretches of its slots, which an engine reads in one go, and one key name in many buckets does not crowd
one leaf.

The element is BLAKE2b over the slot, all of the record but its values, and a MurmurHash3 of all of it. What a
record is, its dots and its context say; two values under one dot are a fault that no user can order. So the
strong hash is for what tells states apart, and the fast one, a fifth of the price, for what should follow.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from mmh3 import mmh3_x64_128_digest

from dyno.causality.context import Malformed
from dyno.causality.record import head_of
from dyno.placement.hashing import PREFIX_BYTES, SLOT_BYTES

PLACE_BITS: Final = 32
ELEMENT_BYTES: Final = 16
ELEMENT_MASK: Final = (1 << 8 * ELEMENT_BYTES) - 1
HEAD_BYTES: Final = 3  # of a slot: partition and n, which are the tree's

_PLACE_BYTES: Final = PLACE_BITS // 8
_ABOVE: Final = b"\xff" * (SLOT_BYTES - PREFIX_BYTES + 1)


def place_of(slot: bytes) -> int:
    return int.from_bytes(slot[3:7], "big") ^ int.from_bytes(slot[11:15], "big")


def element_of(slot: bytes, record: bytes) -> int:
    """record: packed."""
    try:
        head = head_of(record)
    except Malformed:  # it is somebody's all the same
        head = record
    told = slot[HEAD_BYTES:] + head + mmh3_x64_128_digest(record)
    return int.from_bytes(blake2b(told, digest_size=ELEMENT_BYTES).digest(), "little")


def element_of_damage(slot: bytes, node: str) -> int:
    """Of a corrupt record: never the same on two nodes, so that it is never taken for equal."""
    told = slot + b"corrupt on " + node.encode()
    return int.from_bytes(blake2b(told, digest_size=ELEMENT_BYTES).digest(), "little")


def span_of(prefix: bytes, depth: int, index: int) -> tuple[bytes, bytes]:
    """The slots of one bucket below a node of the tree: from the first of these up to, not including, the
    second. prefix: partition, n and bucket. index: of the node among the 2**depth of its level."""
    width = PLACE_BITS - depth
    bucket = int.from_bytes(prefix[HEAD_BYTES : HEAD_BYTES + _PLACE_BYTES], "big")
    first = (index ^ bucket >> width) << width
    above = first + (1 << width)
    start = prefix + first.to_bytes(_PLACE_BYTES, "big")
    end = prefix + (_ABOVE if above >> PLACE_BITS else above.to_bytes(_PLACE_BYTES, "big"))
    return start, end
