"""Whether the cluster is changing, so that what cannot be done now may be possible in a moment.

A node says that too few owners of a key are alive. Where one died a minute ago, that is how things are, and
the caller should hear of it. Where one just restarts, or all do, waiting a little avoids the error. What is
seen of the cluster tells the two apart: a link that broke, a node that could be reached again, members that
are suspected, or stand otherwise than a moment ago.

In: links lost and made again, members learned. Out: `may_help`. What a client finds when it opens is no
change: it never knew it otherwise.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dyno.session.routing import is_seated
from dyno.wire.members import SUSPECT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dyno.wire.members import Member

SETTLED_S = 5.0  # a change so long ago is over: about what a node takes to be restarted, or declared dead


class Changes:
    def __init__(self) -> None:
        self._changed_at = -math.inf
        self._standing: dict[str, tuple[int, int, int]] = {}
        self._seated = 0
        self._suspects = False

    def link_changed(self, now: float) -> None:
        """One that was up is lost, or one is up that could not be made before."""
        self._changed_at = now

    def learned(self, members: Sequence[Member], now: float) -> None:
        standing = {member.name: (member.state, member.liveness, member.stamp) for member in members}
        if self._standing and standing != self._standing:
            self._changed_at = now
        self._standing = standing
        self._seated = sum(map(is_seated, members))
        self._suspects = any(member.liveness == SUSPECT for member in members)

    def may_help(self, *, needed: int, since: float, now: float) -> bool:
        """Whether a call that was first sent at `since`, and needs so many nodes, should be sent again. Never
        where the cluster has fewer than that; and always where it changed while the call was under way."""
        if self._seated and needed > self._seated:
            return False
        return self._suspects or since <= self._changed_at or now < self._changed_at + SETTLED_S
