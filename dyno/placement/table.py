"""The placement table: for every partition, all seats in the order in which they hold its copies.

In: the *set* of seats (ids, zones, weights) and the number of partitions. Out: each partition's preference
list; its first n seats own the copies of a bucket with n copies, and the others are the fallbacks. It is a
pure function, so nodes and clients that know the same members agree without asking each other.

Guaranteed for every n up to COPIES_MAX: n distinct seats where there are as many; copies go round the zones,
so n distinct zones where there are as many; within that, no seat holds more than `shares.caps` allows (1.05×
its fair share from 100 copies per seat on); and one seat more or less moves little more than its own copies.
Why it is built as it is, and what lost against it: docs/design/placement.md.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import pairwise
from math import inf
from typing import Final, NamedTuple

from dyno.config import COPIES_MAX
from dyno.placement.matching import Matching
from dyno.placement.scores import scores
from dyno.placement.shares import caps, complete_rounds, fair_shares

# The owners of so many copies are chosen at once, then ordered among themselves, then continued. Balance and
# movement matter most at the default n, and one choice disturbs less than a sequence of them.
_CENTRE: Final = 3


class Seat(NamedTuple):
    """A place in the ring. id: 16 random bytes. zone: what fails together. weight: > 0, relative capacity."""

    id: bytes
    zone: str
    weight: float


class Table:
    """Who holds what; made by `build`. Seats go by their index in `seats`, which is sorted by id."""

    __slots__ = ("_heads", "_tails", "partitions", "seats")

    def __init__(self, seats: tuple[Seat, ...], heads: list[tuple[int, ...]], tails: array[int]) -> None:
        self.seats: Final = seats
        self.partitions: Final = len(heads)
        self._heads = heads  # per partition its first COPIES_MAX seats; equal tuples are one object
        self._tails = tails  # all further seats, partition after partition

    def order(self, partition: int) -> tuple[int, ...]:
        """The whole preference list: every seat once, owners first, then fallbacks."""
        head = self._heads[partition]
        length = len(self.seats) - len(head)
        return head + tuple(self._tails[partition * length : (partition + 1) * length])

    def owners(self, partition: int, n: int) -> tuple[int, ...]:
        """The primaries of n copies (n up to COPIES_MAX): the first n seats, or all where there are fewer."""
        return self._heads[partition][:n]

    def share(self, n: int) -> tuple[float, ...]:
        """Each seat's fraction of all copies of buckets that keep n."""
        held = [0] * len(self.seats)
        for head in self._heads:
            for seat in head[:n]:
                held[seat] += 1
        total = sum(held)
        return tuple(count / total for count in held)


def build(seats: Sequence[Seat], partitions: int, *, seed: int = 0) -> Table:
    """The table of these seats, in whatever order they are given.

    partitions: 1..PARTITIONS_MAX. seed: 32 bits, another one gives an unrelated table.
    """
    ordered = tuple(sorted(seats))
    assert all(one.id != other.id for one, other in pairwise(ordered)), "two seats of one id"
    assert all(0 < seat.weight < inf for seat in ordered), "weights are positive and finite"
    if not ordered:
        return Table(ordered, [()] * partitions, array("H"))
    return _Construction(ordered, partitions, seed).table()


class _Construction:
    """The steps of `build`: score, choose the centre, order it, continue it."""

    def __init__(self, seats: tuple[Seat, ...], partitions: int, seed: int) -> None:
        self._seats = seats
        self._partitions = partitions
        names: dict[str, int] = {}
        self._zones = [names.setdefault(seat.zone, len(names)) for seat in seats]
        self._sizes = [self._zones.count(zone) for zone in range(len(names))]
        self._centre = min(_CENTRE, len(seats))
        weights = [seat.weight for seat in seats]
        reach = min(COPIES_MAX, len(seats))
        shares = [fair_shares(weights, self._zones, n) for n in range(1, reach + 1)]
        self._caps = [caps(share, n, partitions) for n, share in enumerate(shares, 1)]
        drawn = scores([seat.id for seat in seats], weights, partitions, seed=seed)
        self._columns = list(zip(*drawn, strict=True))
        self._rest = [sorted(range(len(seats)), key=column.__getitem__) for column in self._columns]
        self._rows: list[list[int]] = [[] for _ in range(partitions)]
        self._load = [0] * len(seats)

    def table(self) -> Table:
        centre = self._choose_centre()
        for n in range(1, self._centre + 1):
            self._extend(n, centre)
        for n in range(self._centre + 1, len(self._caps) + 1):
            self._extend(n, self._rest)
        known: dict[tuple[int, ...], tuple[int, ...]] = {}
        heads = [known.setdefault(row, row) for row in map(tuple, self._rows)]
        tails = array("H")
        for rest in self._rest:
            tails.extend(rest)
        return Table(self._seats, heads, tails)

    def _choose_centre(self) -> list[list[int]]:
        """Per partition the owners of `_CENTRE` copies, best first, taken out of what is left."""
        need = self._centre
        if need == len(self._seats):
            chosen, self._rest = self._rest, [[] for _ in self._rest]
            return chosen
        matching = Matching(
            self._rest,
            self._columns,
            caps=self._caps[need - 1],
            load=self._load,
            need=need,
            zones=self._zones,
            zone_most=max(1, need - len(self._sizes) + 1),
        )
        chosen = matching.solve()
        for seats, column, rest in zip(chosen, self._columns, self._rest, strict=True):
            seats.sort(key=column.__getitem__)
            for seat in seats:
                rest.remove(seat)
        return chosen

    def _extend(self, n: int, source: list[list[int]]) -> None:
        """Give every partition its n-th seat out of `source`, within the caps of n copies."""
        done = complete_rounds(self._sizes, n - 1)
        settled = sum(min(size, done) for size in self._sizes)
        candidates = source
        if settled < n - 1:  # some zones had their copy of this round: the others are next
            candidates = [
                self._outside(rest, row[settled:]) for rest, row in zip(source, self._rows, strict=True)
            ]
        matching = Matching(
            candidates,
            self._columns,
            caps=self._caps[n - 1],
            load=self._load,
            need=1,
            zones=self._zones,
            zone_most=1,
        )
        for (seat,), row, rest in zip(matching.solve(), self._rows, source, strict=True):
            row.append(seat)
            rest.remove(seat)
            self._load[seat] += 1

    def _outside(self, seats: Sequence[int], others: Sequence[int]) -> list[int]:
        zones = self._zones
        taken = [zones[seat] for seat in others]
        return [seat for seat in seats if zones[seat] not in taken]
