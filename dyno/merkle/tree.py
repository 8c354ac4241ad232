"""The tree of one (partition, n): sums of elements, by the places of their records.

Kept are the sums of the leaves, 64 bits each, and the total of all records, 128 bits. Every level between is
the sum of the one below, so it is added up when it is asked for. A tree of depth b has 2**b leaves; it is
built anew, twice as deep in bits of two, when more than `CROWDED` records share a leaf, and counts 2 to 8 of
them by then: 1 to 4 bytes for a record.

In: places and differences of elements. Out: sums. They depend on the records alone, not on the order in which
they came, nor on the depth: whoever has the shallower tree can be compared with at its depth.

`Counting` collects what a tree is made of while its depth is not known yet: 12 bytes for a record.
"""

from __future__ import annotations

from array import array
from typing import Final

from dyno.merkle.places import ELEMENT_MASK, PLACE_BITS

CROWDED: Final = 8  # records for a leaf, on average
DEPTH_MAX: Final = 20
FANOUT_BITS: Final = 4  # levels that an answer goes down at most
SUM_BYTES: Final = 8

_STEP_BITS: Final = 2
_SUM_MASK: Final = (1 << 8 * SUM_BYTES) - 1


class Tree:
    """count: records. total: the sum of all their elements."""

    __slots__ = ("_leaves", "count", "depth", "total")

    def __init__(self, depth: int = 0) -> None:
        self.depth = depth
        self.count = 0
        self.total = 0
        self._leaves = array("Q", bytes(SUM_BYTES << depth))

    def add(self, place: int, difference: int, records: int) -> None:
        """difference: the element of what is there now less that of what was. records: how many more."""
        self.count += records
        self.total = (self.total + difference) & ELEMENT_MASK
        leaf = place >> PLACE_BITS - self.depth
        leaves = self._leaves
        leaves[leaf] = (leaves[leaf] + difference) & _SUM_MASK

    @property
    def crowded(self) -> bool:
        """Whether it should be deeper."""
        return self.count > CROWDED << self.depth and self.depth < DEPTH_MAX

    def sums(self, depth: int, index: int, *, below: int) -> list[int]:
        """Of the nodes at depth `below` that hang under one node: 2**(below - depth) of them."""
        assert depth <= below <= self.depth
        width = 1 << self.depth - below
        first = index << self.depth - depth
        leaves = self._leaves
        if width == 1:
            return leaves[first : first + (1 << below - depth)].tolist()
        return [
            sum(leaves[at : at + width]) & _SUM_MASK
            for at in range(first, first + (width << below - depth), width)
        ]

    @property
    def size(self) -> int:
        """Bytes of the leaves."""
        return len(self._leaves) * SUM_BYTES


class Counting:
    """What was counted so far of a tree. count: records."""

    __slots__ = ("_places", "_sums", "count", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0
        self._places = array("I")
        self._sums = array("Q")

    def add(self, place: int, difference: int, records: int) -> None:
        """As of a tree."""
        self.count += records
        self.total = (self.total + difference) & ELEMENT_MASK
        self._places.append(place)
        self._sums.append(difference & _SUM_MASK)

    def tree(self) -> Tree:
        tree = Tree(self._depth())
        leaves, shift = tree._leaves, PLACE_BITS - tree.depth
        for place, difference in zip(self._places, self._sums, strict=True):
            leaf = place >> shift
            leaves[leaf] = (leaves[leaf] + difference) & _SUM_MASK
        tree.count, tree.total = self.count, self.total
        return tree

    def _depth(self) -> int:
        depth = 0
        while self.count > CROWDED << depth and depth < DEPTH_MAX:
            depth += _STEP_BITS
        return depth
