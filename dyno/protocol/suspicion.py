"""Members that did not answer, and how long each still has to say that it lives.

A suspected member is not dead yet: it may be slow, or the packets were lost. It has a time that grows with
the logarithm of the cluster's size, so that word of the suspicion and its refutation can travel both ways
(SWIM, Das, Gupta, Motivala 2002, §4.2; memberlist's formula). Whoever has not refuted by then is dead.

In go suspected records and the time; out come (name, start, incarnation) of those whose time is over. A
timer belongs to one incarnation of one process start; a refutation raises the incarnation and clears it.
"""

from __future__ import annotations

from math import log10
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dyno.wire.members import Member


def suspicion_timeout_s(*, members: int, mult: float, probe_interval_s: float) -> float:
    """How long a suspect may stay silent in a cluster of so many members."""
    return mult * max(1.0, log10(max(1, members))) * probe_interval_s


class Suspicions:
    """At most one timer for each process start that the member table knows."""

    __slots__ = ("_deadline", "_timers")

    def __init__(self) -> None:
        self._timers: dict[tuple[str, bytes], tuple[int, float]] = {}
        self._deadline: float | None = None

    def raised(self, suspect: Member, *, now: float, timeout_s: float) -> None:
        """Hearing of the same suspicion again does not start its time anew."""
        key = (suspect.name, suspect.start)
        running = self._timers.get(key)
        if running is None or running[0] < suspect.incarnation:
            self._timers[key] = (suspect.incarnation, now + timeout_s)
            self._settle()

    def cleared(self, record: Member) -> None:
        """The member refuted, or is dead already."""
        if self._timers.pop((record.name, record.start), None) is not None:
            self._settle()

    def expired(self, now: float) -> list[tuple[str, bytes, int]]:
        """Whose time is over; their timers are gone."""
        if self._deadline is None or now < self._deadline:
            return []
        over = [(key, timer[0]) for key, timer in self._timers.items() if timer[1] <= now]
        for key, _ in over:
            del self._timers[key]
        self._settle()
        return [(name, start, incarnation) for (name, start), incarnation in over]

    def postpone(self, by_s: float) -> None:
        """This process itself was not running for so long: nobody could have been heard."""
        self._timers = {key: (inc, deadline + by_s) for key, (inc, deadline) in self._timers.items()}
        self._settle()

    def deadline(self) -> float | None:
        return self._deadline

    def _settle(self) -> None:
        self._deadline = min((deadline for _, deadline in self._timers.values()), default=None)
