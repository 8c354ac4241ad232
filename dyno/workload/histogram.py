"""How long operations took: counts in steps that grow with the duration, as HdrHistogram keeps them.

In: durations in whole nanoseconds. Out: percentiles that are off by at most 0.4% (a step is at most 1/128 of
the durations in it, and its middle stands for all of them), the exact mean, and the count. Memory is bounded:
some 4,400 counters up to 18 minutes; what took longer counts as that.
"""

from __future__ import annotations

from itertools import accumulate
from math import ceil

_STEP_BITS = 7
_EXACT_BITS = _STEP_BITS + 1  # durations of so many bits have steps of one nanosecond
_BITS_MAX = 40
_LONGEST_NS = (1 << _BITS_MAX) - 1
_STEPS = ((_BITS_MAX - _EXACT_BITS) << _STEP_BITS) + (1 << _EXACT_BITS)

RELATIVE_ERROR = 1 / (1 << _EXACT_BITS)


class Histogram:
    """count: the durations recorded. total_ns: their sum."""

    __slots__ = ("_counts", "count", "total_ns")

    def __init__(self) -> None:
        self.count = 0
        self.total_ns = 0
        self._counts = [0] * _STEPS

    def record(self, duration_ns: int) -> None:
        """duration_ns: not negative."""
        self.count += 1
        self.total_ns += duration_ns
        shift = duration_ns.bit_length() - _EXACT_BITS
        if shift <= 0:
            self._counts[duration_ns] += 1
        elif duration_ns <= _LONGEST_NS:
            self._counts[(shift << _STEP_BITS) + (duration_ns >> shift)] += 1
        else:
            self._counts[-1] += 1

    def mean_ns(self) -> float | None:
        """None where nothing was recorded."""
        return self.total_ns / self.count if self.count else None

    def percentile_ns(self, percent: float) -> float | None:
        """The duration that so many of 100 did not exceed; None where nothing was recorded."""
        if not self.count:
            return None
        wanted = min(max(1, ceil(percent * self.count / 100)), self.count)
        return _middle(next(step for step, seen in enumerate(accumulate(self._counts)) if seen >= wanted))


def _middle(step: int) -> float:
    shift = max(0, (step >> _STEP_BITS) - 1)
    lowest = (step - (shift << _STEP_BITS)) << shift
    return lowest + ((1 << shift) - 1) / 2
