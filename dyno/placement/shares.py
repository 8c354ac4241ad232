"""How many copies each seat should hold, and how many it may: the numbers that a table is built to.

In: the seats' weights and zones, and n, the copies of each partition. Out: fair shares and caps, one number
per seat in the order given. The fair share is proportional to weight as far as the rules allow: no seat holds
a partition twice, and copies go round the zones, so that no zone gets its second copy of a partition before
every zone has its first (nor its third before every zone that can has its second). What a bound takes from
one seat or zone is spread over the others by weight (water-filling).

Only operations that IEEE 754 defines to the last bit are used, so every node computes the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, fsum, sqrt
from typing import Final

# A seat may hold 5% above its fair share. Where seats hold fewer than 100 copies on average it is more, up to
# six copies: to chase single copies there would move many others at every change (docs/design/placement.md).
_EXCESS: Final = 0.05
_EXCESS_COPIES: Final = 7.0
_EXCESS_SLOPE: Final = 0.02

_ROUNDING: Final = 1e-6  # of a copy: what floating point may have lost


def complete_rounds(sizes: Sequence[int], n: int) -> int:
    """How many copies of a partition every zone has (or all its seats), when n went round."""
    rounds = 0
    while sum(min(size, rounds + 1) for size in sizes) <= n and rounds < max(sizes):
        rounds += 1
    return rounds


def fair_shares(weights: Sequence[float], zones: Sequence[int], n: int) -> list[float]:
    """Each seat's fair share of n copies of one partition, 0..1; together they are min(n, seats).

    weights: any positive numbers. zones: each seat's zone, numbered 0.. without gaps.
    """
    n = min(n, len(weights))
    members: list[list[int]] = [[] for _ in range(max(zones) + 1)]
    for seat, zone in enumerate(zones):
        members[zone].append(seat)
    shares = [0.0] * len(weights)
    by_zone = [[weights[seat] for seat in seats] for seats in members]
    for seats, inside, total in zip(members, by_zone, _zone_shares(by_zone, n), strict=True):
        for seat, share in zip(seats, _fill(inside, total), strict=True):
            shares[seat] = share
    return shares


def caps(shares: Sequence[float], n: int, partitions: int) -> list[int]:
    """The most that each seat may hold, given n copies of each partition; never below its fair share or 1."""
    mean = partitions * min(n, len(shares)) / len(shares)
    excess = max(_EXCESS * mean, min(sqrt(mean), _EXCESS_COPIES - _EXCESS_SLOPE * mean))
    allowed = 1 + excess / mean
    most = []
    for share in shares:
        fair = share * partitions
        rounded_up = ceil(fair - _ROUNDING)
        most.append(min(partitions, max(1, rounded_up, floor(fair * allowed + _ROUNDING))))
    return most


def _zone_shares(by_zone: Sequence[Sequence[float]], n: int) -> list[float]:
    """Each zone's share of n copies: by weight, but at least its complete rounds and at most one more."""
    if len(by_zone) == 1:
        return [float(n)]
    sizes = [len(inside) for inside in by_zone]
    rounds = complete_rounds(sizes, n)
    bounds = [(float(min(size, rounds)), float(min(size, rounds + 1))) for size in sizes]

    def at(level: float) -> list[float]:
        return [
            min(high, max(low, fsum(min(1.0, weight * level) for weight in inside)))
            for inside, (low, high) in zip(by_zone, bounds, strict=True)
        ]

    low, high = 0.0, 1 / min(min(inside) for inside in by_zone)
    for _ in range(64):  # bisects to the last bit that matters
        middle = (low + high) / 2
        if fsum(at(middle)) < n:
            low = middle
        else:
            high = middle
    return at(high)


def _fill(weights: Sequence[float], total: float) -> list[float]:
    """`total` divided by weight, none above 1."""
    full = [False] * len(weights)
    while True:
        open_weight = fsum(weight for weight, is_full in zip(weights, full, strict=True) if not is_full)
        level = (total - sum(full)) / open_weight if open_weight else 0.0
        over = [not is_full and weight * level > 1 for weight, is_full in zip(weights, full, strict=True)]
        if not any(over):
            return [1.0 if is_full else weight * level for weight, is_full in zip(weights, full, strict=True)]
        full = [was or now for was, now in zip(full, over, strict=True)]
