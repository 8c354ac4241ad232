"""Members that did not answer, and how long each still has to say that it lives.

A suspected member is not dead yet: it may be slow, or the packets were lost, or this node was slow to read
its answer. Its time begins at a maximum and shrinks with each further member that comes to suspect it by
itself, down to a minimum that grows with the logarithm of the cluster's size, so that word of the suspicion
and its refutation can travel both ways (SWIM, Das, Gupta, Motivala 2002, §4.2; Lifeguard's LHA-Suspicion,
Dadgar, Phillips, Currey 2018, §IV-B; memberlist's formulas). Whoever has not refuted by then is dead.

In go suspected records, accusers and the time; out come (name, start, incarnation) of those whose time is
over. A timer belongs to one incarnation of one process start; a refutation raises the incarnation and clears
it. Accusers are a set that only grows, so the order in which they are heard of cannot matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, log10
from typing import TYPE_CHECKING, Final, NamedTuple

from dyno.wire.doubts import ACCUSERS_MAX, Doubt

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dyno.wire.members import Member

_NOT_ASKED: Final = 2  # of the members: who suspects and who is suspected


class Patience(NamedTuple):
    """min_s: once so many further accusers as `confirmations` agree. max_s: while none does. answer_s: what
    is left at least when one more agrees: perhaps the suspect hears only now, with all of them."""

    min_s: float
    max_s: float
    confirmations: int
    answer_s: float = 0.0

    def timeout_s(self, confirmed: int) -> float:
        """Since the suspicion was raised."""
        if confirmed >= self.confirmations:
            return self.min_s
        share = log(confirmed + 1) / log(self.confirmations + 1)
        return self.max_s - share * (self.max_s - self.min_s)


def patience(
    *, members: int, mult: float, max_mult: float, probe_interval_s: float, careful: bool = True
) -> Patience:
    """How long a suspect may stay silent in a cluster of so many members. Two intervals of the minimum are
    the time to confirm; where there are too few to do so, nobody is waited for. careful: with an answer_s
    in which gossip goes there and back."""
    min_s = mult * max(1.0, log10(max(1, members))) * probe_interval_s
    confirmations = min(int(mult) - 2, ACCUSERS_MAX - 1)
    if confirmations < 1 or members - _NOT_ASKED < confirmations or max_mult <= 1:
        return Patience(min_s, min_s, 0)
    return Patience(min_s, max_mult * min_s, confirmations, probe_interval_s if careful else 0.0)


@dataclass(slots=True)
class _Timer:
    incarnation: int
    began: float
    patience: Patience
    accusers: list[str]
    deadline: float

    def shrink(self, now: float) -> None:
        over_at = self.began + self.patience.timeout_s(max(0, len(self.accusers) - 1))
        self.deadline = min(self.deadline, max(over_at, now + self.patience.answer_s))


class Suspicions:
    """At most one timer for each process start that the member table knows."""

    __slots__ = ("_deadline", "_timers")

    def __init__(self) -> None:
        self._timers: dict[tuple[str, bytes], _Timer] = {}
        self._deadline: float | None = None

    def __len__(self) -> int:
        return len(self._timers)

    def raised(self, suspect: Member, *, now: float, patience: Patience) -> None:
        """Hearing of the same suspicion again does not start its time anew."""
        key = (suspect.name, suspect.start)
        running = self._timers.get(key)
        if running is None or running.incarnation != suspect.incarnation:  # a later stamp begins at 0 again
            self._timers[key] = _Timer(suspect.incarnation, now, patience, [], now + patience.max_s)
            self._settle()

    def accused(self, suspect: Member, accusers: Iterable[str], *, now: float) -> bool:
        """Who came to that suspicion by itself. True when that is new and makes a difference."""
        timer = self._timers.get((suspect.name, suspect.start))
        if timer is None or timer.incarnation != suspect.incarnation:
            return False
        known = len(timer.accusers)
        for accuser in accusers:
            if len(timer.accusers) <= timer.patience.confirmations and accuser not in timer.accusers:
                timer.accusers.append(accuser)
        if len(timer.accusers) == known:
            return False
        timer.shrink(now)
        self._settle()
        return True

    def doubt(self, suspect: Member) -> Doubt:
        """What there is to tell of a suspicion."""
        timer = self._timers.get((suspect.name, suspect.start))
        accusers = [] if timer is None else timer.accusers
        return Doubt(suspect.name, suspect.start, suspect.incarnation, ",".join(accusers))

    def cleared(self, record: Member) -> None:
        """The member refuted, or is dead already."""
        if self._timers.pop((record.name, record.start), None) is not None:
            self._settle()

    def expired(self, now: float) -> list[tuple[str, bytes, int]]:
        """Whose time is over; their timers are gone."""
        if self._deadline is None or now < self._deadline:
            return []
        over = [(key, timer.incarnation) for key, timer in self._timers.items() if timer.deadline <= now]
        for key, _ in over:
            del self._timers[key]
        self._settle()
        return [(name, start, incarnation) for (name, start), incarnation in over]

    def postpone(self, by_s: float) -> None:
        """This process itself was not running for so long: nobody could have been heard."""
        for timer in self._timers.values():
            timer.began += by_s
            timer.deadline += by_s
        self._settle()

    def prolong(self, by_s: float) -> None:
        """Nobody at all was heard for so long. Of two or three members that is what a death looks like; of
        more, somebody else should have agreed."""
        for timer in self._timers.values():
            if timer.patience.confirmations:
                timer.began += by_s
                timer.deadline += by_s
        self._settle()

    def deadline(self) -> float | None:
        return self._deadline

    def _settle(self) -> None:
        self._deadline = min((timer.deadline for timer in self._timers.values()), default=None)
