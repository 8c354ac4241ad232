"""When this node compared which (partition, n) with which other owner last.

All that is shared with a node is compared in one exchange, so there is one time for it, and others only for
what an exchange left unfinished, or what was compared alone. In: finished exchanges, by when they began, and
what is shared. Out: times by this node's clock, minus infinity where it was never done since the start.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from dyno.placement.hashing import COPIES_IN_SLOT

if TYPE_CHECKING:
    from dyno.protocol.recovery import Pair


class ComparedTimes:
    """since: the least recent of all; inf where nothing is shared."""

    def __init__(self) -> None:
        self._pairs: dict[Pair, None] = {}
        self._nodes: dict[str, None] = {}
        self._all: dict[str, float] = {}
        self._apart: dict[str, dict[bytes, float]] = {}

    @property
    def since(self) -> float:
        return min(map(self._least, self._nodes), default=math.inf)

    def of_node(self, node: str) -> float | None:
        """The least recent of what is shared with one; None before all of it was compared."""
        at = self._least(node)
        return None if at == -math.inf else at

    def of_copies(self, node: str, copies: int) -> float | None:
        """The least recent of what is shared with one of an n; None also where nothing is."""
        times = [
            self._with(name, head)
            for head, name in self._pairs
            if name == node and head[COPIES_IN_SLOT] == copies
        ]
        at = min(times, default=-math.inf)
        return None if at == -math.inf else at

    def of_head(self, head: bytes) -> float | None:
        """The most recent with anybody; None before the first."""
        at = max(
            (self._with(node, head) for node in self._nodes if (head, node) in self._pairs), default=-math.inf
        )
        return None if at == -math.inf else at

    def finished(self, node: str, began: float, *, but_for: Mapping[bytes, object]) -> None:
        """An exchange of all that is shared with a node, but for some heads."""
        before = {head: self._with(node, head) for head in but_for}
        self._all[node], self._apart[node] = began, before

    def finished_alone(self, pair: Pair, began: float) -> None:
        head, node = pair
        self._apart.setdefault(node, {})[head] = began

    def replan(self, pairs: Iterable[Pair]) -> list[str]:
        """What is shared now; gives the nodes. What is new among it was never compared."""
        before, self._pairs = self._pairs, dict.fromkeys(pairs)
        self._nodes = dict.fromkeys(node for _, node in self._pairs)
        self._apart = {
            node: {head: at for head, at in apart.items() if (head, node) in self._pairs}
            for node, apart in self._apart.items()
        }
        for head, node in self._pairs:
            if (head, node) not in before and node in self._all:
                self.finished_alone((head, node), -math.inf)
        return list(self._nodes)

    def _least(self, node: str) -> float:
        at, apart = self._all.get(node, -math.inf), self._apart.get(node)
        return min(at, *apart.values()) if apart else at

    def _with(self, node: str, head: bytes) -> float:
        at, apart = self._all.get(node, -math.inf), self._apart.get(node)
        return apart.get(head, at) if apart else at
