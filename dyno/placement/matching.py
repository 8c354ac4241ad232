"""The capped choice: every partition takes its most preferred seats, none of them beyond its room.

In: per partition the seats it may take, best first; the scores; each seat's room; how many each partition
needs and how many of them one zone may give. Out: the seats that each partition took.

Partitions propose and seats keep the lowest scores (deferred acceptance; Gale and Shapley 1962). Both sides
rank a pair by the same score, so there is exactly one stable outcome, whatever the order of proposals: that
of taking all pairs in order of score as long as both sides have room. One seat more or less therefore
changes only what some chain of better offers reaches. A partition that all its seats turn away (few nodes,
tight caps) is placed by a short chain of moves that ends at a seat with room; if there is none, beyond the
cap. It never goes short.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from typing import Final


class Matching:
    """One round of choices.

    candidates: per partition, the seats that it may take, by ascending score, at least `need` of them within
    the zone rule. columns: columns[partition][seat] is the score. caps: how many copies each seat may hold.
    load: how many it holds already. zones: each seat's zone. zone_most: how many seats of one
    zone a partition may take.
    """

    def __init__(
        self,
        candidates: Sequence[Sequence[int]],
        columns: Sequence[Sequence[int]],
        *,
        caps: Sequence[int],
        load: Sequence[int],
        need: int,
        zones: Sequence[int],
        zone_most: int,
    ) -> None:
        self._candidates: Final = candidates
        self._columns: Final = columns
        self._caps: Final = caps
        self._load: Final = load
        self._room: Final = [cap - held for cap, held in zip(caps, load, strict=True)]
        self._need: Final = need
        self._zones: Final = zones
        self._zone_most: Final = zone_most
        self._taken: list[list[int]] = []
        self._held: list[list[tuple[int, int]]] = [[] for _ in caps]  # per seat, ascending (score, partition)
        self._saturated: set[int] = set()  # seats from which no chain of moves ends at room

    def solve(self) -> list[list[int]]:
        """Per partition, the `need` seats that it takes, in no particular order."""
        self._take_first_choices()
        for partition in self._propose(self._turn_away()):
            self._place_by_moves(partition)
        return self._taken

    def _take_first_choices(self) -> None:
        need, held = self._need, self._held
        zone_binds = self._zone_most < need
        for partition, (candidates, column) in enumerate(zip(self._candidates, self._columns, strict=True)):
            taken: list[int] = []
            if zone_binds:
                for seat in candidates:
                    if self._zone_allows(taken, seat):
                        taken.append(seat)
                        if len(taken) == need:
                            break
            else:
                taken = list(candidates[:need])
            self._taken.append(taken)
            for seat in taken:
                held[seat].append((column[seat], partition))

    def _turn_away(self) -> list[int]:
        """Let every seat keep the best that it has room for; returns who lost a seat, once per loss."""
        turned_away = []
        for seat, (held, room) in enumerate(zip(self._held, self._room, strict=True)):
            held.sort()
            kept = max(0, room)
            for _, partition in held[kept:]:
                self._taken[partition].remove(seat)
                turned_away.append(partition)
            del held[kept:]
        return turned_away

    def _propose(self, waiting: list[int]) -> list[int]:
        """Propose down the lists until nobody waits; returns whom all seats turned away, sorted."""
        stuck = []
        while waiting:
            partition = waiting.pop()
            taken, column = self._taken[partition], self._columns[partition]
            for seat in self._candidates[partition]:
                held, room = self._held[seat], self._room[seat]
                full = len(held) >= room
                if full and (room <= 0 or (column[seat], partition) >= held[-1]):
                    continue
                if seat in taken or not self._zone_allows(taken, seat):
                    continue
                if full:
                    _, loser = held.pop()
                    self._taken[loser].remove(seat)
                    waiting.append(loser)
                insort(held, (column[seat], partition))
                taken.append(seat)
                break
            else:
                stuck.append(partition)
        return sorted(stuck)

    def _place_by_moves(self, partition: int) -> None:
        """Give `partition` a seat: full ones pass on what they hold, in a short chain (breadth first)."""
        taken = self._taken[partition]
        reach = [s for s in self._candidates[partition] if s not in taken and self._zone_allows(taken, s)]
        # How each seat was reached: who would move there, and from which seat (None: the stuck partition).
        way: dict[int, tuple[int, int | None]] = dict.fromkeys(reach, (partition, None))
        if not self._saturated.issuperset(reach):
            for seat in reach:  # grows while it is walked
                end = self._look_beyond(seat, way, reach)
                if end is not None:
                    self._move(way, end)
                    return
            self._saturated.update(reach)
        self._move(way, min(way, key=lambda s: (self._fullness(s), s)))

    def _look_beyond(self, seat: int, way: dict[int, tuple[int, int | None]], reach: list[int]) -> int | None:
        """Add to `way` and `reach` the seats that holders of `seat` can move to; returns one with room."""
        on_the_way = _movers(way, seat)
        for _, holder in reversed(self._held[seat]):
            if holder in on_the_way:
                continue
            others = [s for s in self._taken[holder] if s != seat]
            for target in self._candidates[holder]:
                if target not in way and target not in others and self._zone_allows(others, target):
                    way[target] = (holder, seat)
                    if len(self._held[target]) < self._room[target]:
                        return target
                    reach.append(target)
        return None

    def _fullness(self, seat: int) -> float:
        return (self._load[seat] + len(self._held[seat]) + 1) / self._caps[seat]

    def _move(self, way: dict[int, tuple[int, int | None]], target: int) -> None:
        seat: int | None = target
        while seat is not None:
            mover, origin = way[seat]
            if origin is not None:
                self._held[origin].remove((self._columns[mover][origin], mover))
                self._taken[mover].remove(origin)
            insort(self._held[seat], (self._columns[mover][seat], mover))
            self._taken[mover].append(seat)
            seat = origin

    def _zone_allows(self, taken: Sequence[int], seat: int) -> bool:
        if self._zone_most >= self._need:
            return True
        zones = self._zones
        zone, count = zones[seat], 0
        for other in taken:
            if zones[other] == zone:
                count += 1
        return count < self._zone_most


def _movers(way: dict[int, tuple[int, int | None]], seat: int) -> list[int]:
    """Everyone who moves when the chain ends at `seat`: each may do so once only."""
    movers = []
    at: int | None = seat
    while at is not None:
        mover, at = way[at]
        movers.append(mover)
    return movers
