"""What nodes tell each other of their Merkle trees, packed into the fields of messages.

A *head* is how the slots of a (partition, n) begin, 3 bytes. A *node* of its tree is the head, the depth (1
byte) and its number among the 2**depth of that level (4 bytes). In: such things, and sums. Out: bytes, and
back; whatever no replica would send ends in ProtocolError.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from dyno.wire.flat import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HEAD_BYTES: Final = 3
GROUP_BYTES: Final = 2
TOTAL_BYTES: Final = 16
SUM_BYTES: Final = 8
NODE_BYTES: Final = 8
LEVELS_MAX: Final = 4  # that one answer goes down
DEPTH_MAX: Final = 31

_REST_BYTES: Final = 24  # of a slot, without its head
_NUMBER_BYTES: Final = 8
_DAMAGED: Final = 1
_DIFFERENCE: Final = struct.Struct(">BH")


class Node(NamedTuple):
    """A node of the tree of one (partition, n)."""

    head: bytes
    depth: int
    number: int


class Difference(NamedTuple):
    """Of one leaf. theirs: slots of which the answering node has something that the asker has not. lacks:
    which of the asker's elements it has not, by their place in the question. damaged: whether a record of it
    is corrupt there."""

    theirs: Sequence[bytes]
    lacks: Sequence[int]
    damaged: bool


def pack_node(node: Node) -> bytes:
    return node.head + bytes((node.depth,)) + node.number.to_bytes(4, "big")


def unpack_node(packed: bytes) -> Node:
    if len(packed) != NODE_BYTES:
        raise ProtocolError(f"a node of a tree has {NODE_BYTES} bytes, not {len(packed)}")
    node = Node(packed[:HEAD_BYTES], packed[HEAD_BYTES], int.from_bytes(packed[HEAD_BYTES + 1 :], "big"))
    if node.depth > DEPTH_MAX or node.number >> node.depth:
        raise ProtocolError("a node that no tree has")
    return node


def pack_totals(totals: Iterable[int]) -> bytes:
    return b"".join([total.to_bytes(TOTAL_BYTES, "little") for total in totals])


def unpack_totals(packed: bytes, *, count: int) -> list[int]:
    if len(packed) != count * TOTAL_BYTES:
        raise ProtocolError(f"{count} totals in {len(packed)} bytes")
    return [
        int.from_bytes(packed[at : at + TOTAL_BYTES], "little") for at in range(0, len(packed), TOTAL_BYTES)
    ]


def pack_heads(totals: Mapping[bytes, int]) -> bytes:
    """By head, in their order."""
    return b"".join([head + total.to_bytes(TOTAL_BYTES, "little") for head, total in totals.items()])


def unpack_heads(packed: bytes) -> dict[bytes, int]:
    return _by_head(packed, TOTAL_BYTES, "little")


def pack_generations(generations: Mapping[bytes, int]) -> bytes:
    """Numbers by head, in their order."""
    return b"".join([head + number.to_bytes(_NUMBER_BYTES, "big") for head, number in generations.items()])


def unpack_generations(packed: bytes) -> dict[bytes, int]:
    return _by_head(packed, _NUMBER_BYTES, "big")


def pack_sums(sums: Sequence[int]) -> bytes:
    """Of the nodes below one: a power of two of them; none for a leaf."""
    return struct.pack(f"<{len(sums)}Q", *sums)


def unpack_sums(packed: bytes) -> tuple[int, ...]:
    count, rest = divmod(len(packed), SUM_BYTES)
    if rest or count & (count - 1) or count > 1 << LEVELS_MAX or count == 1:
        raise ProtocolError(f"{len(packed)} bytes of sums below a node")
    return struct.unpack(f"<{count}Q", packed)


def pack_difference(difference: Difference) -> bytes:
    """theirs: in the order of their slots, of one head. lacks: rising."""
    return b"".join(
        [
            _DIFFERENCE.pack(_DAMAGED if difference.damaged else 0, len(difference.theirs)),
            *[slot[HEAD_BYTES:] for slot in difference.theirs],
            struct.pack(f">{len(difference.lacks)}H", *difference.lacks),
        ]
    )


def unpack_difference(packed: bytes, *, head: bytes, elements: int) -> Difference:
    """elements: how many the asker sent."""
    if len(packed) < _DIFFERENCE.size:
        raise ProtocolError("a difference that is cut short")
    flags, count = _DIFFERENCE.unpack_from(packed)
    end = _DIFFERENCE.size + count * _REST_BYTES
    left, rest = divmod(len(packed) - end, 2)
    if flags > _DAMAGED or left < 0 or rest:
        raise ProtocolError("a difference that is none")
    slots = [head + packed[at : at + _REST_BYTES] for at in range(_DIFFERENCE.size, end, _REST_BYTES)]
    lacks = struct.unpack_from(f">{left}H", packed, end)
    _check_rising(slots)
    _check_rising(lacks)
    if lacks and lacks[-1] >= elements:
        raise ProtocolError("a difference about an element that was not sent")
    return Difference(slots, lacks, flags == _DAMAGED)


def _by_head(packed: bytes, size: int, order: str) -> dict[bytes, int]:
    width = HEAD_BYTES + size
    if len(packed) % width:
        raise ProtocolError("what is told of each (partition, n) is cut short")
    numbers = {}
    for at in range(0, len(packed), width):
        number = packed[at + HEAD_BYTES : at + width]
        numbers[packed[at : at + HEAD_BYTES]] = int.from_bytes(
            number, "little" if order == "little" else "big"
        )
    _check_rising(list(numbers))
    if len(numbers) * width != len(packed):
        raise ProtocolError("one (partition, n) is told of twice")
    return numbers


def _check_rising(items: Sequence[bytes] | Sequence[int]) -> None:
    if any(later <= item for item, later in pairwise(items)):  # type: ignore[operator]
        raise ProtocolError("what is told is out of order")
