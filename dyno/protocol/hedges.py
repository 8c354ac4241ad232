"""Which reads are late, and may be asked of one more owner (Dean, Barroso, The Tail at Scale, 2013).

A read is late when a replica that it asked takes longer than 95 in 100 of that replica's answers do, within
`HEDGE_MIN_S` and the configured `hedge_after_s`; then another owner is asked too. After `hedge_after_s` more
it is looked at again, and so on. Such hedges spend a budget, so that overload is not answered with more load,
and there are none while this node's own disk has a long line of reads: then they are late for the load.
A replica that owed answers for that long and gave none at all is *silent*, stopped or cut off: then asking
another one costs nothing, and whoever is asked to read there is overtaken at once, until it answers again.

No timer per read: what was asked of one replica stands in its queue by the time of asking, and how late it
may be is judged at the head, by the estimate of that moment; so the order of the queue never changes. What
is looked at again waits a constant time, in one queue more. A turn looks at the heads, one per replica.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

from dyno.hedging.budget import Budget
from dyno.hedging.usual import LATER, Usual

if TYPE_CHECKING:
    from dyno.protocol.get import GetCoordinator
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.overload import ReadLine

HEDGE_MIN_S = 0.005


class _Replica:
    """One that is asked. heard_at: when it last answered a read. doubted_at: when it was last found late.
    asked: reads by their beginning."""

    __slots__ = ("asked", "doubted_at", "heard_at", "silent", "usual")

    def __init__(self, after_s: float) -> None:
        self.usual = Usual(least=HEDGE_MIN_S, most=after_s)
        self.heard_at = -math.inf
        self.doubted_at = -math.inf
        self.silent = False
        self.asked: deque[GetCoordinator] = deque()

    def doubted(self, now: float, after_s: float) -> bool:
        """It owes an answer that is late. True when it is silent."""
        if self.heard_at >= self.doubted_at:
            # One sample until it is heard again, likewise: a stop makes all late that is under way.
            self.doubted_at = now
            self.usual.took(LATER)
        elif self.doubted_at + after_s <= now:
            self.silent = True
        return self.silent


class Hedges:
    """after_s: `hedge_after_s` of the configuration. line: of reads before this node's own disk."""

    def __init__(self, after_s: float, line: ReadLine) -> None:
        self._after_s = after_s
        self._line = line
        self._budget = Budget()
        self._replicas: dict[str, _Replica] = {}  # one per member that ever was asked
        self._again: deque[tuple[float, GetCoordinator]] = deque()

    def began(self, get: GetCoordinator, now: float) -> None:
        """A read whose first questions were asked, and that is not answered yet."""
        get.began = now
        self._budget.firsts += 1
        asked = get.waiting_for()
        for node in asked:
            self._replica(node).asked.append(get)
        if not asked:  # nobody could be asked, or only this node's own disk is awaited
            self._look_again(get, now)

    def began_long(self, get: GetCoordinator, now: float) -> None:
        """Likewise one whose answers say nothing of how long a record's take, nor the other way round: it is
        late after `after_s`."""
        get.began = now
        self._look_again(get, now)

    def answered(self, get: GetCoordinator, node: str, now: float) -> None:
        """A replica gave an answer, whatever it says. Call it before the read judges the answer."""
        replica = self._replicas.get(node)
        if replica is not None and now > replica.heard_at:
            # What comes in one turn shares one fate, and is one sample: its first, which waited longest.
            replica.heard_at = now
            replica.silent = False
            if not get.overdue:
                replica.usual.took(now - get.began)

    def heard(self, node: str, now: float) -> None:
        """A replica answered something that takes its own time: it is not silent, whatever it took."""
        replica = self._replicas.get(node)
        if replica is not None:
            replica.heard_at = now
            replica.silent = False

    def tick(self, now: float, out: Outbox) -> None:
        for node, replica in self._replicas.items():
            asked = replica.asked
            while asked and (asked[0].answered or asked[0].began + _patience(replica) <= now):
                get = asked.popleft()
                if not get.answered:
                    self._overdue(get, node, replica, now, out)
        again = self._again
        while again and again[0][0] <= now:
            get = again.popleft()[1]
            if not get.answered:
                self._still_overdue(get, now, out)

    def deadline(self) -> float:
        """When `tick` has something to do; infinity when nothing is under way."""
        earliest = math.inf
        for replica in self._replicas.values():
            asked = replica.asked
            while asked and asked[0].answered:
                asked.popleft()
            if asked:
                earliest = min(earliest, asked[0].began + _patience(replica))
        again = self._again
        while again and again[0][1].answered:
            again.popleft()
        return min(earliest, again[0][0]) if again else earliest

    def _overdue(self, get: GetCoordinator, node: str, replica: _Replica, now: float, out: Outbox) -> None:
        if node in get.waiting_for():
            silent = replica.doubted(now, self._after_s)
            if silent or self._affords_one(now):
                get.hedge(out, now)
        if not get.overdue:
            self._look_again(get, now)

    def _look_again(self, get: GetCoordinator, now: float) -> None:
        get.overdue = True
        self._again.append((now + self._after_s, get))

    def _still_overdue(self, get: GetCoordinator, now: float, out: Outbox) -> None:
        silent = [self._replica(node).doubted(now, self._after_s) for node in get.waiting_for()]
        if not (any(silent) or self._affords_one(now)) or get.hedge(out, now):
            self._again.append((now + self._after_s, get))

    def _affords_one(self, now: float) -> bool:
        return not self._line.hurries_nobody and self._budget.take(now)

    def _replica(self, node: str) -> _Replica:
        replica = self._replicas.get(node)
        if replica is None:
            replica = self._replicas[node] = _Replica(self._after_s)
        return replica


def _patience(replica: _Replica) -> float:
    return 0.0 if replica.silent else replica.usual.seconds
