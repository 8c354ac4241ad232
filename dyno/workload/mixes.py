"""YCSB's core workloads a, b, c, d and f: which operation comes next, and on which key.

In: a mix, how many records there are, a Random, and which inserts were acknowledged. Out: operations as
plain values. Guarantees: the same seed and acknowledgements give the same operations; a read is of a record
that was loaded or whose insert was acknowledged; no two inserts have the same key.

YCSB's workload e (scans) has no place in a store without ordered keys.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from dyno.workload.popularity import Scrambled, Zipfian, latest

if TYPE_CHECKING:
    from random import Random

READ: Final = "read"
UPDATE: Final = "update"
INSERT: Final = "insert"
RMW: Final = "rmw"  # read, modify, write: one operation


class Mix(NamedTuple):
    """what: for people. shares: (kind, its share of all operations), which sum up to 1. latest: whether the
    records inserted last are the popular ones; else popular ones lie anywhere."""

    name: str
    what: str
    shares: tuple[tuple[str, float], ...]
    latest: bool = False

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(kind for kind, _ in self.shares)


MIXES: Final = {
    mix.name: mix
    for mix in (
        Mix("a", "half reads, half updates", ((READ, 0.5), (UPDATE, 0.5))),
        Mix("b", "95% reads, 5% updates", ((READ, 0.95), (UPDATE, 0.05))),
        Mix("c", "reads only", ((READ, 1.0),)),
        Mix("d", "95% reads of the latest records, 5% inserts", ((READ, 0.95), (INSERT, 0.05)), latest=True),
        Mix("f", "half reads, half read-modify-writes", ((READ, 0.5), (RMW, 0.5))),
    )
}


class Operation(NamedTuple):
    """kind: one of READ, UPDATE, INSERT and RMW. number: of the record, from 0."""

    kind: str
    key: str
    number: int


class Workload:
    """records: how many there are to begin with, at least one. run: a word of this run alone, so that what it
    inserts meets nothing that an earlier run left in the same bucket."""

    def __init__(self, mix: Mix, *, records: int, random: Random, run: str) -> None:
        assert records > 0, "there is nothing to read"
        self.mix = mix
        self.records = records
        self._random = random.random
        self._zipfian = Zipfian(random)
        self._scrambled = Scrambled(random, records)
        self._run = run
        self._next_number = records
        self._acknowledged = array("Q")  # numbers of inserted records, in the order of their acknowledgement
        self._rest = mix.shares[-1][0]
        self._below: list[tuple[float, str]] = []
        total = 0.0
        for kind, share in mix.shares[:-1]:
            total += share
            self._below.append((total, kind))

    def keys_to_load(self) -> Iterator[str]:
        """Of the records that are there before the first operation."""
        return map(self._key, range(self.records))

    def next(self) -> Operation:
        kind = self._kind()
        if kind == INSERT:
            number = self._next_number
            self._next_number += 1
        elif self.mix.latest:
            number = self._latest()
        else:
            number = self._scrambled.item()
        return Operation(kind, self._key(number), number)

    def acknowledge(self, insert: Operation) -> None:
        """This insert was done, so from now on it may be read. One that failed is never read: unlike YCSB's
        AcknowledgedCounterGenerator, whose window it would hold up, the order is that of the
        acknowledgements."""
        assert insert.kind == INSERT, "only inserts are acknowledged"
        self._acknowledged.append(insert.number)

    def _kind(self) -> str:
        if not self._below:
            return self._rest
        draw = self._random()
        for below, kind in self._below:
            if draw < below:
                return kind
        return self._rest

    def _latest(self) -> int:
        inserted = self._acknowledged
        place = latest(self._zipfian, self.records + len(inserted))
        return place if place < self.records else inserted[place - self.records]

    def _key(self, number: int) -> str:
        return f"user{number}" if number < self.records else f"user{number}-{self._run}"
