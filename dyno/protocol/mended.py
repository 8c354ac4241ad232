"""What this node mended since it started, and why: `dyno status` shows it, `dyno repair` what is new.

In: a word from whoever mends: reads (`get`), handoff, exchanges, healing, and the merging of what was set
aside. Out: numbers that only grow. They are lost with the process, as are the times of comparisons.
"""

from __future__ import annotations

from dyno.wire.repairs import Mends


class Mended:
    """Fields as of `wire.repairs.Mends`."""

    __slots__ = ("compared", "handed_over", "healed", "merged", "read_repairs", "received", "sent")

    def __init__(self) -> None:
        self.read_repairs = 0
        self.handed_over = 0
        self.received = 0
        self.sent = 0
        self.healed = 0
        self.compared = 0
        self.merged = 0

    def since(self, before: Mends, *, aside: int) -> Mends:
        """aside: records that are set aside now."""
        return Mends(
            self.read_repairs - before.read_repairs,
            self.handed_over - before.handed_over,
            self.received - before.received,
            self.sent - before.sent,
            self.healed - before.healed,
            self.compared - before.compared,
            self.merged - before.merged,
            aside,
        )
