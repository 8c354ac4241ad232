"""How many further attempts may be made: so that trouble is never answered with a storm of retries.

First attempts earn a fraction of a token, time earns a few a second, hedges and retries spend one each (as
in Finagle's retry budgets). So what is sent stays near what was asked for, whatever fails; a quiet user can
always try again; and the tokens of a busy one suffice for all that is under way at a node that dies.

A retry that brought the answer gives its token back, so what the budget bounds is what was sent in vain.
While everything fails, tokens are burnt and the floor is what is left; as soon as retries succeed again, the
few that went pay for those that wait, however many: these need not come at the rate of the floor.

In: `firsts`, counted by the owner; `take`; `give_back`. Out: whether there is a token, or when there will be.
"""

from __future__ import annotations

import math

EARNED_PER_FIRST = 0.1
FLOOR_PER_S = 10.0
TOKENS_MAX = 1000.0
TOKENS_AT_START = 100.0  # ten seconds of the floor
_ENOUGH = 1 - 1e-6  # time is a float: what is that near to a token is one


class Budget:
    """firsts: first attempts ever made; a plain count, for it goes up with every call."""

    __slots__ = ("_at", "_seen", "_tokens", "firsts")

    def __init__(self) -> None:
        self.firsts = 0
        self._seen = 0  # of these, earned for
        self._at = math.inf
        self._tokens = TOKENS_AT_START

    def take(self, now: float, *, leave: float = 0.0) -> bool:
        """Spend a token, if `leave` are left then; False when there are too few."""
        earned = (self.firsts - self._seen) * EARNED_PER_FIRST
        if now > self._at:
            earned += (now - self._at) * FLOOR_PER_S
        self._tokens = min(self._tokens + earned, TOKENS_MAX)
        self._seen, self._at = self.firsts, now
        if self._tokens < leave + _ENOUGH:
            return False
        self._tokens = max(self._tokens - 1, 0.0)
        return True

    def give_back(self) -> None:
        """A retry was answered, or not even sent."""
        self._tokens = min(self._tokens + 1, TOKENS_MAX)

    @property
    def token_at(self) -> float:
        """When time alone will have earned a token, as of the last `take`, which got none."""
        return self._at + (1 - self._tokens) / FLOOR_PER_S
