"""When to look at a call again: a coarse timer wheel (Varghese, Lauck, SOSP 1987, scheme 6).

Nearly every call is answered long before its time, so adding and removing must cost next to nothing. Times
are rounded up to `RESOLUTION_S`; calls of one step share a dict, and only steps are kept in order.

In: calls with a time. Out: the calls whose time has come, in the order of steps and, within one, in the
order of adding. A call carries the dict that it is in (`slot`), so that removing it needs no search.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dyno.session.calls import Call

RESOLUTION_S = 1 / 256  # exact in binary, so that a step's time divides back to the step
_STEPS_PER_S = 256


class Timers:
    __slots__ = ("_order", "_slots")

    def __init__(self) -> None:
        self._slots: dict[int, dict[int, Call]] = {}
        self._order: list[int] = []

    def add(self, call: Call, at: float) -> None:
        """The call must not be in here already."""
        step = int(at * _STEPS_PER_S) + 1
        slot = self._slots.get(step)
        if slot is None:
            slot = self._slots[step] = {}
            heapq.heappush(self._order, step)
        slot[call.id] = call
        call.slot = slot

    def remove(self, call: Call) -> None:
        del call.slot[call.id]

    def next(self) -> float:
        """When the first step that holds a call is due; infinity if there is none."""
        while self._order:
            step = self._order[0]
            if self._slots[step]:
                return step * RESOLUTION_S
            del self._slots[heapq.heappop(self._order)]
        return math.inf

    def due(self, now: float) -> list[Call]:
        """Take out the calls whose time has come."""
        calls: list[Call] = []
        while self._order and self._order[0] * RESOLUTION_S <= now:
            calls += self._slots.pop(heapq.heappop(self._order)).values()
        return calls
