"""How long an answer usually takes: a running 95th percentile in one number.

A sample above the estimate raises it by a factor, any other lowers it by the 19th root of that factor, so it
stands still where one sample in twenty lies above: stochastic approximation (Robbins, Monro 1951) of the
logarithm of the quantile, close kin of Frugal-1U (Ma, Muthukrishnan, Sandler 2013) but free of scale. Only
the comparison counts, so an answer that is still not there is a sample already: it took longer.

In: seconds. Out: `seconds`, between `least` and `most`. A sample costs one comparison and one product. From
one end of three decades to the other it takes 40 slow samples up, and 700 quick ones down.
"""

from __future__ import annotations

import math

DOWN = 0.99
UP = DOWN**-19
LATER = math.inf  # a sample: how long it takes nobody knows yet, but longer than usual


class Usual:
    """Starts at `most`: who is not known yet is given time."""

    __slots__ = ("_least", "_most", "seconds")

    def __init__(self, *, least: float, most: float) -> None:
        self._least = min(least, most)
        self._most = most
        self.seconds = most

    def took(self, seconds: float) -> None:
        usual = self.seconds
        if seconds > usual:
            usual *= UP
            self.seconds = usual if usual < self._most else self._most
        else:
            usual *= DOWN
            self.seconds = usual if usual > self._least else self._least
