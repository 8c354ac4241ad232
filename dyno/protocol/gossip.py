"""News of members, carried a bounded number of times in whatever room datagrams have.

Every change of the member table is queued here and rides on pings, acks and gossip until it was sent
mult * ceil(log10(n + 1)) times, which reaches everybody with high probability (SWIM, Das, Gupta, Motivala
2002, §4.1; memberlist's TransmitLimitedQueue). What was sent least goes first, and of that the newest; a
newer record of a member replaces the older one and starts from nothing. Suspicions are news of their own
(doubts): who is suspected, and by whom; a change of the member table that says no more is not told twice.

In go member records and doubts; out they come packed (wire.members, wire.doubts), as many as fit beside the
other fields of a datagram of DATAGRAM_BYTES_MAX bytes. The queues hold at most one record for each slot of
the member table, and one doubt for each name.
"""

from __future__ import annotations

from collections.abc import Hashable
from math import ceil, log10
from typing import TYPE_CHECKING, Generic, TypeVar

from dyno.config import DATAGRAM_BYTES_MAX
from dyno.wire.doubts import Doubt, doubt_size, pack_doubts
from dyno.wire.members import JOINING, LEFT, Member, pack_members, packed_size

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

_OVERHEAD_BYTES = 64  # of a datagram: header, cluster id, every number, start id and length; measured 55
_RECORD_BYTES_MIN = 85  # less room than this holds no record
_DOUBT_BYTES_MIN = 20  # nor a doubt
_DOUBTS_SHARE = 0.5  # of a datagram's room, where there are records to tell, too
_TRIES_PER_CHOICE = 8

_K = TypeVar("_K", bound=Hashable)
_I = TypeVar("_I")


class GossipQueue:
    """retransmit_mult: as in config."""

    __slots__ = ("_doubts", "_limit", "_members", "_records", "_retransmit_mult")

    def __init__(self, *, retransmit_mult: int) -> None:
        self._retransmit_mult = retransmit_mult
        self._records: _Queue[tuple[str, bool], Member] = _Queue()
        self._doubts: _Queue[str, Doubt] = _Queue()
        self._members = -1
        self._limit = 0

    def __len__(self) -> int:
        return len(self._records) + len(self._doubts)

    def add(self, record: Member) -> None:
        """Spread this record, and no older one of its slot any more."""
        self._records.add((record.name, record.state in (JOINING, LEFT)), record, packed_size(record))

    def add_doubt(self, doubt: Doubt) -> None:
        """Spread this doubt, and no older one of its member any more."""
        self._doubts.add(doubt.name, doubt, doubt_size(doubt))

    def drop_doubt(self, name: str) -> None:
        """There is later news of that member."""
        self._doubts.drop(name)

    def clear(self) -> None:
        """There is nobody to tell."""
        self._records = _Queue()
        self._doubts = _Queue()

    def fill(self, *beside: str, members: int, first: Member | None = None) -> bytes:
        """Packed records to go with one datagram, b"" when there is nothing to tell. beside: the texts that
        the datagram carries already. members: how many there are in the cluster. first: a record that is to
        be among them in any case."""
        if not len(self._records):
            return b"" if first is None else pack_members((first,))
        room = _room(beside)
        if first is None:
            return pack_members(self._told(self._records, room, _RECORD_BYTES_MIN, members))
        told = self._told(self._records, room - packed_size(first), _RECORD_BYTES_MIN, members)
        return pack_members([first, *told])

    def fill_both(self, *beside: str, members: int) -> tuple[bytes, bytes]:
        """Packed doubts, and packed records in the room that they leave."""
        if not len(self._doubts):
            return b"", self.fill(*beside, members=members)
        room = _room(beside)
        most = int(room * _DOUBTS_SHARE) if len(self._records) else room
        doubts = pack_doubts(self._told(self._doubts, most, _DOUBT_BYTES_MIN, members))
        records = self._told(self._records, room - len(doubts), _RECORD_BYTES_MIN, members)
        return doubts, pack_members(records)

    def _told(self, queue: _Queue[_K, _I], room: int, least: int, members: int) -> list[_I]:
        if members != self._members:
            self._members = members
            self._limit = self._retransmit_mult * ceil(log10(members + 1))
        return queue.take(room, least=least, limit=self._limit)


class _Queue(Generic[_K, _I]):
    """Items by key, in the order of how often they were sent."""

    __slots__ = ("_tier_of", "_tiers")

    def __init__(self) -> None:
        # tier t: what was sent t times, oldest first, each with its size.
        self._tiers: list[dict[_K, tuple[_I, int]]] = [{}]
        self._tier_of: dict[_K, int] = {}

    def __len__(self) -> int:
        return len(self._tier_of)

    def add(self, key: _K, item: _I, size: int) -> None:
        self.drop(key)
        self._tier_of[key] = 0
        self._tiers[0][key] = (item, size)

    def drop(self, key: _K) -> None:
        tier = self._tier_of.pop(key, None)
        if tier is not None:
            del self._tiers[tier][key]

    def take(self, room: int, *, least: int, limit: int) -> list[_I]:
        """What goes with one datagram; it counts as sent. least: no item takes less."""
        taken = self._fitting(room, least) if self._tier_of else []
        for key, entry in taken:
            self._sent(key, entry, limit)
        return [item for _, (item, _) in taken]

    def _fitting(self, room: int, least: int) -> list[tuple[_K, tuple[_I, int]]]:
        taken: list[tuple[_K, tuple[_I, int]]] = []
        for tier in self._tiers:
            for key in reversed(tier):
                if room < least:
                    return taken
                entry = tier[key]
                if entry[1] <= room:
                    room -= entry[1]
                    taken.append((key, entry))
        return taken

    def _sent(self, key: _K, entry: tuple[_I, int], limit: int) -> None:
        tier = self._tier_of[key]
        del self._tiers[tier][key]
        if tier + 1 >= limit:
            del self._tier_of[key]
            return
        if tier + 1 == len(self._tiers):
            self._tiers.append({})
        self._tier_of[key] = tier + 1
        self._tiers[tier + 1][key] = entry


def choose(
    random: Random, members: list[Member], count: int, fits: Callable[[Member], bool] | None = None
) -> list[Member]:
    """At most so many of those that fit, each as likely."""
    if fits is not None:
        if len(members) > _TRIES_PER_CHOICE * count:
            chosen = _try_some(random, members, count, fits)
            if chosen:
                return chosen
        members = [member for member in members if fits(member)]
    return members if len(members) <= count else random.sample(members, count)


def _try_some(
    random: Random, members: list[Member], count: int, fits: Callable[[Member], bool]
) -> list[Member]:
    """The first that fit of many in random order, none if too few of those looked at do: in a large cluster
    looking at everybody is what costs."""
    chosen: list[Member] = []
    for member in random.sample(members, _TRIES_PER_CHOICE * count):
        if fits(member):
            chosen.append(member)
            if len(chosen) == count:
                return chosen
    return []


def _room(beside: tuple[str, ...]) -> int:
    return DATAGRAM_BYTES_MAX - _OVERHEAD_BYTES - sum(map(len, beside))
