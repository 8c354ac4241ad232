"""Measure placement: how much a join or leave moves, how even the loads are, how long a table takes.

    python tests/benchmarks/placement.py [--trials 9] [--sizes 4,5,7,10,20,30,50,100]

prints the tables of docs/design/placement.md: the rules that were tried, at n=3 and 1024 partitions; then the
chosen one for every n, for weights and zones, for other numbers of partitions, and its times.

Each trial draws a random membership of N seats and takes one away. *join*: copies that must be made when it
comes, over its fair share; *leave*: copies that must be made when it goes, over those it held; both 1 at
best, and a join may be below 1, because a seat may rest below its fair share. *most*: the fullest seat's
copies over its fair share.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log
from pathlib import Path
from statistics import median
from sys import path

import mmh3

path.insert(0, str(Path(__file__).parents[2]))

from dyno.placement.matching import Matching
from dyno.placement.scores import scores
from dyno.placement.shares import caps, fair_shares
from dyno.placement.table import Seat, build

PARTITIONS = 1024
COPIES = 3
CLUSTERS: Sequence[tuple[Sequence[float], int]] = (  # weights to draw from, number of zones
    ((0.5, 1.0, 2.0, 4.0), 1),
    ((1.0,), 2),
    ((1.0,), 3),
    ((1.0,), 4),
    ((0.5, 1.0, 2.0), 3),
    ((0.5, 1.0, 2.0), 4),
)

Owners = list[list[int]]
Columns = Sequence[Sequence[int]]
CapRule = Callable[[int, int], int]  # (seats, n) to the most copies of one seat
Place = Callable[[Sequence[Seat], int], Owners]


# ── the rules that were tried ──


def independent(seats: Sequence[Seat], partitions: int) -> Columns:
    """Plain rendezvous scores: an independent hash for every pair."""
    return [[mmh3.hash64(b"%d" % p + seat.id, signed=False)[0] for seat in seats] for p in range(partitions)]


def stratified(seats: Sequence[Seat], partitions: int) -> Columns:
    ids = [seat.id for seat in seats]
    return list(zip(*scores(ids, [1.0] * len(ids), partitions, seed=0), strict=True))


def affine(seats: Sequence[Seat], partitions: int) -> Columns:
    """Stratified by arithmetic: each seat's ranks are a multiple of the partition modulo a prime."""
    prime = next(
        q for q in range(partitions, 2 * partitions) if all(q % d for d in range(2, int(q**0.5) + 1))
    )
    rows = []
    for seat in seats:
        one, two = mmh3.hash64(seat.id, signed=False)
        factor, shift = 1 + one % (prime - 1), two % prime
        jitter = [mmh3.hash(seat.id, p, signed=False) & 0xFFFF for p in range(partitions)]
        rows.append([(factor * (p + 1) + shift) % prime << 16 | jitter[p] for p in range(partitions)])
    return list(zip(*rows, strict=True))


def uncapped(seats: int, n: int) -> int:
    return PARTITIONS


def tight(seats: int, n: int) -> int:
    """1.05 times the fair share, at every size."""
    fair = n * PARTITIONS / seats
    return min(PARTITIONS, max(floor(1.05 * fair), ceil(fair)))


def flat_cap(seats: int, n: int) -> int:
    """Five copies above the fair share where that is more."""
    fair = n * PARTITIONS / seats
    return min(PARTITIONS, floor(max(1.05 * fair, fair + 5)))


def chosen_cap(seats: int, n: int) -> int:
    return caps([n / seats] * seats, n, PARTITIONS)[0]


def at_once(draw: Callable[[Sequence[Seat], int], Columns], cap: CapRule) -> Place:
    """All n owners in one stable matching."""

    def place(seats: Sequence[Seat], n: int) -> Owners:
        columns = draw(seats, PARTITIONS)
        return _match(
            _by_score(columns), columns, [cap(len(seats), n)] * len(seats), [0] * len(seats), need=n
        )

    return place


def one_by_one(draw: Callable[[Sequence[Seat], int], Columns], cap: CapRule) -> Place:
    """The first owners within the caps of one copy, then the second within those of two, and so on."""

    def place(seats: Sequence[Seat], n: int) -> Owners:
        columns = draw(seats, PARTITIONS)
        rest = _by_score(columns)
        owners: Owners = [[] for _ in columns]
        load = [0] * len(seats)
        for copies in range(1, n + 1):
            found = _match(rest, columns, [cap(len(seats), copies)] * len(seats), load, need=1)
            for (seat,), row, others in zip(found, owners, rest, strict=True):
                row.append(seat)
                others.remove(seat)
                load[seat] += 1
        return owners

    return place


def in_turn(draw: Callable[[Sequence[Seat], int], Columns], cap: CapRule) -> Place:
    """The greedy sketch: one partition after the other (in hashed order) takes what still has room."""

    def place(seats: Sequence[Seat], n: int) -> Owners:
        columns = draw(seats, PARTITIONS)
        rest, most, load = _by_score(columns), cap(len(seats), n), [0] * len(seats)
        owners: Owners = [[] for _ in columns]
        for p in sorted(range(PARTITIONS), key=lambda p: mmh3.hash(b"%d" % p)):
            owners[p] = [s for s in rest[p] if load[s] < most][:n]
            missing = [s for s in rest[p] if s not in owners[p]]
            owners[p] += sorted(missing, key=load.__getitem__)[: n - len(owners[p])]  # the trap: too few left
            for seat in owners[p]:
                load[seat] += 1
        return owners

    return place


def corrected(seats: Sequence[Seat], n: int) -> Owners:
    """Rates that give every seat its share without a cap (order sampling, Rosén 1997), then the caps.

    The rate that includes an element with probability p is -ln(1-p). Where there are as many zones as copies,
    zones are what is sampled, and their seats divide the zone's rate.
    """
    names = sorted({seat.zone for seat in seats})
    zones = [names.index(seat.zone) for seat in seats]
    shares = fair_shares([seat.weight for seat in seats], zones, n)
    groups = zones if len(names) >= n else list(range(len(seats)))
    totals = [0.0] * len(seats)
    for group, share in zip(groups, shares, strict=True):
        totals[group] += share
    surest = 1 - 1 / (4 * PARTITIONS)
    rates = [
        share / totals[group] * -log(1 - min(totals[group], surest))
        for group, share in zip(groups, shares, strict=True)
    ]
    columns = list(zip(*scores([seat.id for seat in seats], rates, PARTITIONS, seed=0), strict=True))
    return Matching(
        _by_score(columns),
        columns,
        caps=caps(shares, n, PARTITIONS),
        load=[0] * len(seats),
        need=n,
        zones=zones,
        zone_most=max(1, n - len(names) + 1),
    ).solve()


def chosen(seats: Sequence[Seat], n: int) -> Owners:
    table = build(seats, PARTITIONS)
    return [list(table.owners(p, n)) for p in range(PARTITIONS)]


RULES: dict[str, Place] = {
    "plain rendezvous, no cap": at_once(independent, uncapped),
    "plain, capped, in turn": in_turn(independent, tight),
    "plain, capped, one by one": one_by_one(independent, tight),
    "plain, capped, at once": at_once(independent, tight),
    "stratified, no cap": at_once(stratified, uncapped),
    "stratified, capped, in turn": in_turn(stratified, tight),
    "stratified, capped, one by one": one_by_one(stratified, tight),
    "stratified, capped, at once": at_once(stratified, tight),
    "affine, capped, at once": at_once(affine, tight),
    "stratified, five copies, at once": at_once(stratified, flat_cap),
    "stratified, wider cap, one by one": one_by_one(stratified, chosen_cap),
    "stratified, wider cap, at once = dyno": chosen,
}


def _by_score(columns: Columns) -> Owners:
    return [sorted(range(len(column)), key=column.__getitem__) for column in columns]


def _match(
    candidates: Owners, columns: Columns, most: Sequence[int], load: Sequence[int], *, need: int
) -> Owners:
    zones = [0] * len(most)
    need = min(need, len(most))
    return Matching(candidates, columns, caps=most, load=load, need=need, zones=zones, zone_most=need).solve()


# ── measuring ──


@dataclass
class Moves:
    join: list[float]
    leave: list[float]
    most: list[float]

    def line(self) -> str:
        parts = (f"{median(m):5.2f} {max(m):5.2f}" for m in (self.join, self.leave))
        return " | ".join(parts) + f" | {max(self.most):5.3f}"


def measure(
    place: Place,
    size: int,
    n: int,
    trials: int,
    *,
    weights: Sequence[float] = (1.0,),
    zones: int = 1,
    partitions: int = PARTITIONS,
) -> Moves:
    rng = random.Random(size)
    moves = Moves([], [], [])
    for _ in range(trials):
        members = [Seat(rng.randbytes(16), f"z{i % zones}", rng.choice(weights)) for i in range(size)]
        newcomer = members[rng.randrange(size)]
        larger = sorted(members)
        smaller = [seat for seat in larger if seat != newcomer]
        with_it = [{larger[i].id for i in row} for row in place(larger, n)]
        without = [{smaller[i].id for i in row} for row in place(smaller, n)]
        loads = {seat.id: 0 for seat in larger}
        for owners in with_it:
            for owner in owners:
                loads[owner] += 1
        names = sorted({seat.zone for seat in larger})
        fair = fair_shares([seat.weight for seat in larger], [names.index(seat.zone) for seat in larger], n)
        due = {seat.id: share * partitions for seat, share in zip(larger, fair, strict=True)}
        moves.join.append(_made(without, with_it) / due[newcomer.id])
        moves.leave.append(_made(with_it, without) / max(1, loads[newcomer.id]))
        moves.most.append(max(loads[seat.id] / due[seat.id] for seat in larger))
    return moves


def _made(before: list[set[bytes]], after: list[set[bytes]]) -> int:
    return sum(len(new - old) for old, new in zip(before, after, strict=True))


def of(partitions: int) -> Place:
    def place(seats: Sequence[Seat], n: int) -> Owners:
        table = build(seats, partitions)
        return [list(table.owners(p, n)) for p in range(partitions)]

    return place


def seconds(size: int, partitions: int, repeats: int) -> float:
    rng = random.Random(size)
    seats = [Seat(rng.randbytes(16), "", 1.0) for _ in range(size)]
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        build(seats, partitions)
        times.append(time.perf_counter() - start)
    return median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure placement; see docs/design/placement.md.")
    parser.add_argument("--trials", type=int, default=9)
    parser.add_argument("--sizes", default="4,5,7,10,20,30,50,100")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    trials = options.trials

    heading = "join: median, max | leave: median, max | most"
    for size in sizes:
        print(f"\n{size} seats, n={COPIES}, {COPIES * PARTITIONS / size:.0f} copies each      {heading}")
        for name, place in RULES.items():
            print(f"  {name:38} {measure(place, size, COPIES, trials).line()}", flush=True)
    print(f"\ndyno, every n      {heading}")
    for size in (5, 10, 30, 100):
        for n in (1, 2, 3, 5, 9):
            print(f"  {size:4} seats, n={n}   {measure(chosen, size, n, trials).line()}", flush=True)
    print(f"\nn={COPIES}, weights and zones      {heading}")
    for size in (6, 12, 24, 100):
        for weights, zones in CLUSTERS:
            for name, place in (("dyno", chosen), ("corrected rates", corrected)):
                moves = measure(place, size, COPIES, trials, weights=weights, zones=zones)
                print(f"  {size:4} seats, {zones} zones, {weights!s:22} {name:16} {moves.line()}", flush=True)
    print(f"\ndyno, n={COPIES}, other numbers of partitions      {heading}")
    for partitions in (64, 256, 4096):
        for size in (5, 20, 100):
            moves = measure(of(partitions), size, COPIES, min(trials, 5), partitions=partitions)
            print(f"  {partitions:5} partitions, {size:4} seats   {moves.line()}", flush=True)
    print("\nmilliseconds to build, median")
    for size, partitions in (
        (1, 1024),
        (3, 1024),
        (10, 1024),
        (30, 1024),
        (100, 1024),
        (3, 8192),
        (100, 8192),
    ):
        print(f"  {size:4} seats, {partitions:5} partitions   {seconds(size, partitions, 5) * 1e3:7.1f}")


if __name__ == "__main__":
    main()
