"""How many answers are enough, and whether they have come.

Wire quorums (a count, or DEFAULT / QUORUM / ALL) become counts for a key that has `copies` owners here. A
`Tally` counts distinct nodes, never replies, and knows three verdicts: met, pending, lost.
"""

from __future__ import annotations

from enum import Enum

from dyno.errors import InvalidRequest
from dyno.wire.messages import ALL, DEFAULT, QUORUM


class Verdict(Enum):
    MET = "met"
    PENDING = "pending"
    LOST = "lost"


def count(quorum: int, *, what: str, copies: int, owners: int, default: int, least: int) -> int:
    """The number of answers that a wire quorum asks for.

    copies: the bucket's n. owners: how many nodes hold a copy here, fewer than n in a small cluster; the
    words count those. default: what DEFAULT stands for. Raises InvalidRequest for a count that no cluster
    could ever meet (above n) or below `least`.
    """
    if quorum == DEFAULT:
        quorum = default
    if quorum == QUORUM:
        return owners // 2 + 1
    if quorum == ALL:
        return owners
    if quorum > copies:
        raise InvalidRequest(f"{what}={quorum} is more than the bucket's n={copies}")
    if quorum < least:
        raise InvalidRequest(f"{what}={quorum} is less than {least}")
    return quorum


class Tally:
    """Counts the nodes that did and the nodes that cannot: of `candidates` primaries that might, and of those
    that stand in for some. primaries: how many of the `needed` ones must be primaries.

    yes, no: primaries. stand_ins: fallbacks that did. may_stand_in: how many more fallbacks might, as far as
    whoever counts knows."""

    __slots__ = ("_candidates", "_needed", "_primaries", "may_stand_in", "no", "stand_ins", "yes")

    def __init__(self, *, needed: int, candidates: int, primaries: int = 0) -> None:
        self._needed = needed
        self._primaries = primaries
        self._candidates = candidates
        self.yes: list[str] = []
        self.no: list[str] = []
        self.stand_ins: list[str] = []
        self.may_stand_in = 0

    def did(self, node: str) -> None:
        """A node that refused first and did later (asked again) has done it."""
        if node in self.no:
            self.no.remove(node)
        if node not in self.yes:
            self.yes.append(node)

    def cannot(self, node: str) -> None:
        if node not in self.yes and node not in self.no:
            self.no.append(node)

    def stood_in(self, node: str) -> None:
        """A fallback did."""
        if node not in self.stand_ins:
            self.stand_ins.append(node)

    @property
    def who(self) -> list[str]:
        """All that did."""
        return [*self.yes, *self.stand_ins] if self.stand_ins else self.yes

    @property
    def verdict(self) -> Verdict:
        did = len(self.yes)
        if did + len(self.stand_ins) >= self._needed and did >= self._primaries:
            return Verdict.MET
        primaries = self._candidates - len(self.no)
        if primaries < self._primaries:
            return Verdict.LOST
        if primaries + len(self.stand_ins) + self.may_stand_in < self._needed:
            return Verdict.LOST
        return Verdict.PENDING
