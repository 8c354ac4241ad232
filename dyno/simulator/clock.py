"""A machine's own clock: it begins anywhere, and runs a little too fast or too slow.

It is the monotonic clock that a node is given as `now`: it never goes backwards and never jumps while the
machine runs; after a restart of the machine it begins anew. True time is the kernel's, and only the
simulation sees it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from dyno.simulator.kernel import Kernel

RATE_MIN: Final = 0.99  # a bad quartz is off by a hundredth of that
RATE_MAX: Final = 1.01


class Clock:
    """rate: its seconds per true second."""

    __slots__ = ("_at", "_kernel", "_shown", "rate")

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.rate = 1.0
        self._at = 0.0  # it showed `_shown` at this true time, and ran at `rate` since
        self._shown = 0.0

    @property
    def now(self) -> float:
        return self._shown + (self._kernel.now - self._at) * self.rate

    def run_at(self, rate: float) -> None:
        """From now on."""
        assert RATE_MIN <= rate <= RATE_MAX, f"no clock runs at {rate}"
        self._at, self._shown, self.rate = self._kernel.now, self.now, rate

    def begin_at(self, shown: float) -> None:
        """The machine starts anew; nobody looks at its clock meanwhile."""
        assert shown >= 0.0, "no clock of a machine begins before its start"
        self._at, self._shown = self._kernel.now, shown

    def true_time(self, shown: float) -> float:
        """When it shows that, or showed it, since it began or its rate changed; infinite stays infinite."""
        return self._at + (shown - self._shown) / self.rate
