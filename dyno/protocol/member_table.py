"""Every member that a node knows of, merged so that the order in which news arrives cannot matter.

Each name has two slots. *Seated*: its record in state normal or leaving, a place in the ring. *Candidate*:
its record while it asks to be let in (joining), or after it gave up (left). Each slot keeps the greatest
record by `Member.order()`, and a candidate that is not above the seated record of its name is forgotten; so
tables form a lattice, and a join that came to nothing never took anybody's seat away.

In go records; out come the ring (all seated members, dead ones too), its fingerprint, and whether anybody
is about to join, or to *take over* a seat that is there already, which changes the ring in nothing but a
directory id. A joining record is taken in only where it was *admitted* (its process asked this very node);
others may then bring newer ones of the same process start. Names are bounded by `members_max`.
"""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct
from typing import TYPE_CHECKING

from dyno.wire.members import DEAD, JOINING, LEFT, Member

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIZES = Struct(">BBd")  # of a name and a zone in bytes, and the weight
_FINGERPRINT_BITS = 63


class MemberTable:
    """version: grows with every change. facts_version: with every change beyond liveness and incarnation,
    which is what a restart must remember. ring_version: when the ring's members, their seats, zones,
    weights, directories or addresses change. joining: how many candidates are; pending: how many of them
    would change the ring."""

    __slots__ = (
        "_candidates",
        "_fingerprint",
        "_members_max",
        "_names",
        "_ring",
        "_seated",
        "_view",
        "_view_version",
        "facts_version",
        "joining",
        "pending",
        "ring_version",
        "version",
    )

    def __init__(self, *, members_max: int) -> None:
        self._members_max = members_max
        self._seated: dict[str, Member] = {}
        self._candidates: dict[str, Member] = {}
        self._names = 0
        self._ring: list[Member] | None = []
        self._fingerprint: int | None = None
        self._view: list[Member] = []
        self._view_version = 0
        self.version = 0
        self.facts_version = 0
        self.ring_version = 0
        self.joining = 0
        self.pending = 0

    def merge(self, record: Member, *, admitted: bool = False) -> bool:
        """Take a record in; True when that changed anything. admitted: a joining one may be unknown yet."""
        if record.state in (JOINING, LEFT):
            return self._merge_candidate(record, admitted)
        return self._merge_seated(record)

    # ── reading ──

    def __len__(self) -> int:
        """How many members there are: seated or about to be."""
        return len(self.current())

    def seated(self, name: str) -> Member | None:
        return self._seated.get(name)

    def candidate(self, name: str) -> Member | None:
        """The record of a process that asks, or asked, to be let in under that name."""
        return self._candidates.get(name)

    def holder(self, name: str) -> Member | None:
        """The record that speaks for a name now: who is joining, else who is seated."""
        candidate = self._candidates.get(name)
        if candidate is not None and candidate.state == JOINING:
            return candidate
        return self._seated.get(name)

    def find(self, name: str, start: bytes) -> Member | None:
        """The record of one process start, in whichever slot."""
        for record in (self._candidates.get(name), self._seated.get(name)):
            if record is not None and record.start == start:
                return record
        return None

    def takes_over(self, newcomer: Member) -> bool:
        """Whether a joiner asks for exactly the place that its name has."""
        seated = self._seated.get(newcomer.name)
        return seated is not None and same_place(seated, newcomer)

    def highest_stamp(self, name: str) -> int:
        """The highest start stamp known for a name, 0 when it is unknown."""
        records = (self._candidates.get(name), self._seated.get(name))
        return max((record.stamp for record in records if record is not None), default=0)

    def is_live(self, name: str) -> bool:
        """Whether the seated member of that name is alive or merely suspect."""
        record = self._seated.get(name)
        return record is not None and record.liveness != DEAD

    def records(self) -> Iterator[Member]:
        """Everything, candidates that gave up too: what is remembered and what peers are told."""
        yield from self._seated.values()
        yield from self._candidates.values()

    def members(self) -> list[Member]:
        """Who is seated and who is joining, by name: what a user is shown."""
        shown = [record for record in self.records() if record.state != LEFT]
        return sorted(shown, key=lambda record: (record.name, record.state))

    def current(self) -> list[Member]:
        """The holder of every name. Shared: not to be changed."""
        if self._view_version != self.version:
            self._view_version = self.version
            held = dict(self._seated)
            held.update((name, c) for name, c in self._candidates.items() if c.state == JOINING)
            self._view = list(held.values())
        return self._view

    # ── the ring ──

    def ring(self) -> list[Member]:
        """All seated members by seat id. Shared: not to be changed."""
        if self._ring is None:
            self._ring = sorted(self._seated.values(), key=lambda record: (record.seat, record.name))
        return self._ring

    def fingerprint(self) -> int:
        """63 bits over the sorted (name, seat, zone, weight) of the ring: equal on all nodes that place
        alike."""
        if self._fingerprint is None:
            digest = blake2b(digest_size=8)
            for name in sorted(self._seated):
                record = self._seated[name]
                named, zoned = name.encode(), record.zone.encode()
                digest.update(_SIZES.pack(len(named), len(zoned), record.weight))
                digest.update(named + zoned + record.seat)
            self._fingerprint = int.from_bytes(digest.digest(), "big") >> (64 - _FINGERPRINT_BITS)
        return self._fingerprint

    # ── inside ──

    def _merge_seated(self, record: Member) -> bool:
        held = self._seated.get(record.name)
        if not _above(record, held) or not self._has_room(record.name):
            return False
        candidate = self._candidates.get(record.name)
        if candidate is not None and candidate.order() <= record.order():
            del self._candidates[record.name]
        self._seated[record.name] = record
        if candidate is not None:
            self._count_joiners()
        self._note(record, held)
        if held is None or _place(held) != _place(record):
            self.ring_version += 1
            self._fingerprint = None
        self._ring = None
        return True

    def _merge_candidate(self, record: Member, admitted: bool) -> bool:
        held, seated = self._candidates.get(record.name), self._seated.get(record.name)
        if seated is not None and record.order() <= seated.order():
            return False
        if record.state == JOINING and not admitted and (held is None or held.start != record.start):
            return False
        if not _above(record, held) or not self._has_room(record.name):
            return False
        self._candidates[record.name] = record
        self._count_joiners()
        self._note(record, held)
        return True

    def _count_joiners(self) -> None:
        joiners = [record for record in self._candidates.values() if record.state == JOINING]
        self.joining = len(joiners)
        self.pending = sum(not self.takes_over(joiner) for joiner in joiners)

    def _note(self, record: Member, held: Member | None) -> None:
        self.version += 1
        if held is None or _facts(held) != _facts(record):
            self.facts_version += 1

    def _has_room(self, name: str) -> bool:
        """Names are never forgotten, so their number only grows."""
        if name in self._seated or name in self._candidates:
            return True
        if self._names >= self._members_max:
            return False
        self._names += 1
        return True


def _above(record: Member, held: Member | None) -> bool:
    """Two different records of equal order are somebody's mistake; even then all tables choose alike."""
    if held is None:
        return True
    ours, theirs = held.order(), record.order()
    return theirs > ours or (theirs == ours and tuple(record) > tuple(held))


def _facts(record: Member) -> tuple[object, ...]:
    return record._replace(incarnation=0, liveness=0)


def same_place(one: Member, other: Member) -> bool:
    """Whether the ring places alike with either of them."""
    return (one.seat, one.zone, one.weight) == (other.seat, other.zone, other.weight)


def _place(record: Member) -> tuple[object, ...]:
    return (record.seat, record.zone, record.weight, record.directory, record.address)
