"""Virtual time: what is to happen, in order, and the dice that decide.

Everything in a simulation is an action at a time. `run_until` takes the earliest one, sets the clock to its
time and lets it run; actions of one instant run in the order in which they were planned. Nothing ever waits,
so an hour of a quiet cluster passes in seconds.

In: a seed. Out: `now`, and one stream of random numbers per purpose. Guarantees: the same seed and the same
actions give the same run, on every platform and under every PYTHONHASHSEED; streams are independent of each
other, so that one machine more does not change the dice of the others.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any, Final, TypeAlias

Action: TypeAlias = Callable[..., None]

_INSTANT_ACTIONS_MAX: Final = 1_000_000  # more at one instant is a loop that would never end


class Kernel:
    """now: seconds, 0.0 at the beginning."""

    __slots__ = ("_heap", "_instant_actions", "_planned", "_seed", "now")

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self._seed = seed
        self._planned = 0
        self._instant_actions = 0
        self._heap: list[tuple[float, int, Action, tuple[Any, ...]]] = []

    def random(self, purpose: str) -> Random:
        """A stream of its own for every purpose."""
        return Random(f"{self._seed}/{purpose}")

    def at(self, when: float, action: Action, *args: Any) -> None:
        """Plan an action; a time that is over means now, after all that is planned for now already."""
        self._planned += 1
        heappush(self._heap, (when if when > self.now else self.now, self._planned, action, args))

    def after(self, seconds: float, action: Action, *args: Any) -> None:
        self._planned += 1
        heappush(self._heap, (self.now + seconds, self._planned, action, args))

    def run_for(self, seconds: float) -> None:
        """Let this much time pass."""
        self._run(self.now + seconds, None)

    def run_until(self, condition: Callable[[], bool], *, limit_s: float) -> bool:
        """Stop as soon as the condition holds, looked at after every action; False when the time is up."""
        return condition() or self._run(self.now + limit_s, condition)

    def _run(self, end: float, condition: Callable[[], bool] | None) -> bool:
        heap = self._heap
        while heap and heap[0][0] <= end:
            when, _, action, args = heappop(heap)
            if when > self.now:
                self.now = when
                self._instant_actions = 0
            else:
                self._instant_actions += 1
                assert self._instant_actions < _INSTANT_ACTIONS_MAX, f"time stands still at {when}: {action}"
            action(*args)
            if condition is not None and condition():
                return True
        self.now = end
        return False
