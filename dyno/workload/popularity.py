"""Which of many items is asked for next, where a few are popular and most are not.

`Zipfian` draws ranks: the item of rank k is asked for k**-0.99 times as often as the most popular one. The
workloads use it in two ways: `Scrambled` scatters the popular ranks over all items, `latest` makes the
youngest item the most popular one.

In: how many items there are, and a Random. Out: ranks from 1, or numbers of items from 0. The ranks follow
the distribution exactly, without tables, at any count, and the count may change from draw to draw.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

CONSTANT = 0.99  # the exponent; YCSB's
SCRAMBLED_RANKS = 10_000_000_000  # YCSB's; see Scrambled

_BASIS = 0xCBF29CE484222325
_PRIME = 0x100000001B3
_MASK = 0xFFFFFFFFFFFFFFFF

_RISE = 1 - CONSTANT


class Zipfian:
    """Rejection-inversion (Hörmann and Derflinger, ACM TOMACS 6(3), 1996): a uniform number is sent back
    through the integral of the density; the few points where that exceeds the steps are drawn again."""

    __slots__ = ("_count", "_random", "_span", "_top")

    def __init__(self, random: Random) -> None:
        self._random = random.random
        self._count = 0
        self._top = 0.0
        self._span = 0.0

    def rank(self, count: int) -> int:
        """One of 1..count; rank k with probability k**-CONSTANT / zeta(count)."""
        if count != self._count:
            self._count = count
            self._top = _integral(count + 0.5)
            self._span = self._top - _LOWEST
        while True:
            at = self._top - self._random() * self._span
            x = (1.0 + _RISE * at) ** _BACK
            rank = int(x + 0.5)
            # Rounding may lead just out of the range at its ends.
            rank = 1 if rank < 1 else min(rank, count)
            if rank - x <= _SURE or at >= _integral(rank + 0.5) - rank**-CONSTANT:
                return rank


class Scrambled:
    """Numbers of items in 0..count-1, popular ones scattered.

    As in YCSB, ranks are drawn from a range far larger than the items, and hashed on them. Every item then
    has some share of the unpopular ranks, and how hot the hottest is (1 in 26) does not depend on the count;
    ranks of 1..count would leave a third of the items to nobody, because their hashes collide.
    """

    __slots__ = ("_count", "_zipfian")

    def __init__(self, random: Random, count: int) -> None:
        self._zipfian = Zipfian(random)
        self._count = count

    def item(self) -> int:
        return fnv64(self._zipfian.rank(SCRAMBLED_RANKS) - 1) % self._count


def latest(zipfian: Zipfian, count: int) -> int:
    """An item of 0..count-1, where the last is the most popular and the first the least."""
    return count - zipfian.rank(count)


def fnv64(number: int) -> int:
    """FNV-1a, 64 bits, of the eight bytes of a number below 2**64, the lowest first."""
    value = _BASIS
    for _ in range(8):
        value = ((value ^ (number & 0xFF)) * _PRIME) & _MASK
        number >>= 8
    return value


def _integral(x: float) -> float:
    """Of t**-CONSTANT from 1 to x."""
    return float((x**_RISE - 1.0) / _RISE)


# Constants of the method: where the numbers to send back begin, the inverse's exponent, and how far a point
# may lie below its rank to be taken without a closer look.
_LOWEST = _integral(1.5) - 1.0
_BACK = 1 / _RISE
_SURE = 2.0 - float((1.0 + _RISE * (_integral(2.5) - 2.0**-CONSTANT)) ** _BACK)
