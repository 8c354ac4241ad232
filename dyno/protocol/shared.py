"""Sums over all that this node shares with each other node, so that a pair in agreement needs one question.

The (partition, n) that two nodes own both are cut into groups, by their partitions: about as many groups as
there are partitions in each. A group's sum is that of the totals of its trees, and the sum over all groups is
the *root* of the pair. In: the trees, the ring. Out: sums by node. Only what changed since it was last asked
is added up again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dyno.merkle.places import ELEMENT_MASK
from dyno.placement.hashing import slot_partition

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dyno.protocol.planner import Planner
    from dyno.protocol.trees import Trees


class Shared:
    """me: this node's name."""

    def __init__(self, *, me: str, planner: Planner, trees: Trees) -> None:
        self._me = me
        self._planner = planner
        self._trees = trees
        self._groups: dict[str, list[int]] = {}
        self._known: dict[bytes, int] = {}  # totals that are in the sums

    def replan(self) -> None:
        """The ring is another one."""
        self._groups.clear()
        self._known.clear()
        self._trees.touched.update(dict.fromkeys(self._trees.by_head))

    @property
    def group_count(self) -> int:
        ring = self._planner.ring
        assert ring is not None
        return 1 << ring.partitions.bit_length() // 2

    def group_of(self, head: bytes) -> int:
        ring = self._planner.ring
        assert ring is not None
        return slot_partition(head) * self.group_count // ring.partitions

    def root(self, node: str) -> int:
        return sum(self.groups(node)) & ELEMENT_MASK

    def groups(self, node: str) -> list[int]:
        self._bring_up_to_date()
        return self._groups.get(node) or [0] * self.group_count

    def totals(self, node: str, groups: Mapping[int, object]) -> dict[bytes, int]:
        """Of all trees in these groups, by head, in their order."""
        by_head = self._trees.by_head
        heads = sorted(
            head for head in by_head if self.group_of(head) in groups and node in self.others(head)
        )
        return {head: by_head[head].total for head in heads}

    def others(self, head: bytes) -> tuple[str, ...]:
        """The other owners of a (partition, n); none where this node is no owner."""
        ring = self._planner.ring
        if ring is None or slot_partition(head) >= ring.partitions:
            return ()
        owners = ring.owners(head)
        return tuple(name for name in owners if name != self._me) if self._me in owners else ()

    def count(self, node: str) -> int:
        """Records of all that is shared with a node."""
        return sum(tree.count for head, tree in self._trees.by_head.items() if node in self.others(head))

    def _bring_up_to_date(self) -> None:
        touched = self._trees.touched
        for head in touched:
            tree = self._trees.by_head.get(head)
            total = 0 if tree is None else tree.total
            difference = total - self._known.get(head, 0)
            self._known[head] = total
            group = self.group_of(head) if difference else 0
            for name in self.others(head) if difference else ():
                sums = self._groups.setdefault(name, [0] * self.group_count)
                sums[group] = (sums[group] + difference) & ELEMENT_MASK
        touched.clear()
