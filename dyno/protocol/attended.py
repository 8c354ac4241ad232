"""Attended time: how long this node has run and looked at its clock, in all its processes together.

What has to be a certain time ago before it may be forgotten is measured in it. A process that is stopped
(SIGSTOP, a machine that sleeps) does not look, one that is down does not run, and what others sent in the
meantime may still wait to be read: none of that makes anything older. No wall clock is believed, and a
restart loses what was not on the disk yet; nothing is ever gained.

In: the time, several times per `look_s`. Out: milliseconds that only grow, kept as one row, and whether this
process has been looking for a while without a gap: whatever it had begun before that has run into its
timeout since.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from dyno.protocol.group_commit import Refusal
from dyno.protocol.rows import DEAD

if TYPE_CHECKING:
    from dyno.protocol.replica import Replica

GAP: Final = 5  # times look_s without a look: this process did not run

_BYTES: Final = 8


class Attended:
    """look_s: how often `look` is called, about. keep_s: from one row to the next where nothing else is
    committed, so what a restart loses at most. The row is the first one of its kind: no slot is empty."""

    def __init__(self, replica: Replica, *, look_s: float, keep_s: float) -> None:
        self._replica = replica
        self._look_s = look_s
        self._keep_ms = int(keep_s * 1000)
        kept = _kept(replica)
        self._total_s = int.from_bytes(kept, "big") / 1000
        self._kept_ms = self.ms
        self._looked_at: float | None = None
        self._steady_since = -math.inf  # a new process has begun nothing before its start

    @property
    def ms(self) -> int:
        return int(self._total_s * 1000)

    def look(self, now: float) -> None:
        last, self._looked_at = self._looked_at, now
        if last is None:
            return
        elapsed_s, most_s = max(0.0, now - last), self._look_s * GAP
        if elapsed_s > most_s:
            self._steady_since = now
        self._total_s += min(elapsed_s, most_s)

    def is_steady(self, now: float, seconds: float) -> bool:
        """Whether it looked without a gap for so long, or ever since it started."""
        return now - self._steady_since >= seconds

    def keep(self) -> None:
        """Write the row with the batch that gathers, or once in a while; not on an empty node, which may have
        to stay empty to be let into a cluster."""
        if not self._replica.holds_data or self.ms == self._kept_ms:
            return
        if self._replica.gathers_records or self.ms - self._kept_ms >= self._keep_ms:
            self.write()

    def write(self) -> None:
        """A disk that takes no rows now will take a later one."""
        try:
            self._replica.write_row(DEAD, self.ms.to_bytes(_BYTES, "big"))
        except Refusal:
            return
        self._kept_ms = self.ms


def _kept(replica: Replica) -> bytes:
    try:
        return replica.row(DEAD) or b""
    except Refusal:
        return b""  # damaged: all that is kept is as young as can be
