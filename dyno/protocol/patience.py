"""How long an answer of another node may take before it is late: learned from those that came.

A read that waits for a late node is better begun anew elsewhere, but only where elsewhere is quicker. Where
all nodes take longer than the configured time, because they are far away or have much to do, giving up at
that time would do all work twice and gain nothing. So a node that is late, or whose answers take long lately,
is *slow*: others are asked rather than it, and if it has to be asked, twice its usual time is waited for.

In: when answers came, late ones too. Out: who is slow, and when the others are late. A node that was not
heard of for a while is given another chance.
"""

from __future__ import annotations

from collections.abc import Sequence

_RISING_WEIGHT = 0.25  # of one answer in the running mean: what gets slow is noticed soon
_FALLING_WEIGHT = 0.05
_FACTOR = 2.0  # times the mean: then an answer is late
_FORGET_S = 10.0  # a node that is not asked for being slow
_OVERDUE_MAX = 1000  # late answers that are still of interest


class Patience:
    """least_s: no answer is late before. most_s: every answer is late then. slow: by name, when
    that was noticed last."""

    __slots__ = ("_least_s", "_most_s", "_overdue", "_takes_s", "slow")

    def __init__(self, *, least_s: float, most_s: float) -> None:
        self.slow: dict[str, float] = {}
        self._least_s = least_s
        self._most_s = max(least_s, most_s)
        self._takes_s: dict[str, float] = {}
        self._overdue: dict[int, tuple[Sequence[str], float]] = {}

    def wait_s(self, nodes: Sequence[str]) -> float:
        """How long answers of these are waited for."""
        if not self.slow:
            return self._least_s
        longest = max(self._takes_s.get(node, 0.0) for node in nodes) * _FACTOR
        return min(max(longest, self._least_s), self._most_s)

    def took(self, node: str, seconds: float, now: float) -> None:
        """An answer came, so long after the question."""
        mean = self._takes_s.get(node, seconds)
        mean += (seconds - mean) * (_RISING_WEIGHT if seconds > mean else _FALLING_WEIGHT)
        self._takes_s[node] = mean
        if mean * _FACTOR > self._least_s:
            self.slow[node] = now
        else:
            self.slow.pop(node, None)

    def overdue(self, id: int, nodes: Sequence[str], asked_at: float, now: float) -> None:
        """These did not answer a question in time, and count as slow until they answer."""
        self.slow.update(dict.fromkeys(nodes, now))
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
        self._takes_s.pop(node, None)
        self.slow.pop(node, None)

    def forget_old(self, now: float) -> None:
        for node in [node for node, at in self.slow.items() if at + _FORGET_S <= now]:
            self.lost(node)
