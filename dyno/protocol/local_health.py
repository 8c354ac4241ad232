"""How far this node should distrust itself.

A node that is slow itself (starved of processor time, a full queue, a pause of its machine) finds everybody
else silent. Lifeguard's remedy (Dadgar, Phillips, Currey 2018, §IV-A): signs of one's own trouble raise a
score, signs of health lower it, and whatever a node is waiting for from others it waits for
(score + 1) times as long.

    a probe was answered                           -1
    a probe failed, nobody else could be asked     +1
    a probe failed, per asked member that sent
      neither an ack nor a nack                    +1
    this node had to refute that it is suspect     +1

In: these changes. Out: the factor. The score stays within 0..factor_max - 1; with factor_max 1 there is no
such distrust.
"""

from __future__ import annotations


class LocalHealth:
    __slots__ = ("_factor_max", "factor")

    def __init__(self, *, factor_max: int) -> None:
        self.factor = 1
        self._factor_max = factor_max

    def change(self, by: int) -> None:
        """The score, by so much; more is worse."""
        self.factor = min(max(1, self.factor + by), self._factor_max)
