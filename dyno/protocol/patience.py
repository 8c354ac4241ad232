"""How long answers to questions about many records may take before they are late: learned from those before.

A read that waits for a late node is better begun anew elsewhere, but only where elsewhere is quicker, and not
too often. An answer is late when it takes longer than 95 in 100 of that node's do (`hedging.usual`): at first
`hedge_after_s`, then anything from LEAST_S to `most_s`. Beginning anew spends a budget (`hedging.budget`). A
node that is late, or that takes longer than `hedge_after_s` all the time, or that refuses for its load, is
*slow*: others are asked rather than it, until it answers quicker again or was not asked for FORGET_S.

In: when answers came, late ones too. Out: who is slow, and when the others are late.
"""

from __future__ import annotations

from collections.abc import Sequence

from dyno.hedging.budget import Budget
from dyno.hedging.usual import LATER, Usual

LEAST_S = 0.005
FORGET_S = 10.0
_OVERDUE_MAX = 1000  # late answers that are still of interest


class Patience:
    """slow: by name, when that was noticed last."""

    __slots__ = ("_budget", "_hedge_after_s", "_most_s", "_overdue", "_usual", "slow")

    def __init__(self, *, hedge_after_s: float, most_s: float) -> None:
        self.slow: dict[str, float] = {}
        self._hedge_after_s = hedge_after_s
        self._most_s = max(hedge_after_s, most_s)
        self._budget = Budget()
        self._usual: dict[str, Usual] = {}  # one per member that was asked
        self._overdue: dict[int, tuple[Sequence[str], float]] = {}

    def wait_s(self, nodes: Sequence[str]) -> float:
        """How long answers of these are waited for, who are about to be asked."""
        self._budget.firsts += 1
        return max([self._usual_of(node).seconds for node in nodes])

    def took(self, node: str, seconds: float, now: float) -> None:
        """An answer came, so long after the question."""
        usual = self._usual_of(node)
        usual.took(seconds)
        if usual.seconds > self._hedge_after_s:
            self.slow[node] = now
        elif self.slow:
            self.slow.pop(node, None)

    def refused(self, node: str, now: float) -> None:
        """It is overloaded, which it said at once: that is no measure of its answers."""
        self.slow[node] = now

    def is_over(self, now: float) -> bool:
        """Whether what is late may be begun anew."""
        return self._budget.take(now)

    def overdue(self, id: int, nodes: Sequence[str], asked_at: float, now: float) -> None:
        """These did not answer a question in time, and count as slow until they answer."""
        for node in nodes:
            if node not in self.slow:
                self._usual_of(node).took(LATER)  # one sample: what is late together has one cause
            self.slow[node] = now
        if len(self._overdue) >= _OVERDUE_MAX:
            del self._overdue[next(iter(self._overdue))]
        self._overdue[id] = (nodes, asked_at)

    def came_late(self, id: int, node: str, now: float) -> None:
        """An answer to a question that nobody waits for any more."""
        nodes, asked_at = self._overdue.get(id, ((), 0.0))
        if node in nodes:
            self._overdue[id] = ([name for name in nodes if name != node], asked_at)
            self.took(node, now - asked_at, now)

    def lost(self, node: str) -> None:
        """What comes back after its link broke is another node, perhaps."""
        self._usual.pop(node, None)
        self.slow.pop(node, None)

    def forget_old(self, now: float) -> None:
        for node in [node for node, at in self.slow.items() if at + FORGET_S <= now]:
            self.lost(node)

    def _usual_of(self, node: str) -> Usual:
        usual = self._usual.get(node)
        if usual is None:
            usual = self._usual[node] = Usual(least=LEAST_S, most=self._most_s)
            usual.seconds = self._hedge_after_s  # who is not known yet
        return usual
