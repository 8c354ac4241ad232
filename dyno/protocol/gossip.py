"""News of members, carried a bounded number of times in whatever room datagrams have.

Every change of the member table is queued here and rides on pings, acks and gossip until it was sent
mult * ceil(log10(n + 1)) times, which reaches everybody with high probability (SWIM, Das, Gupta, Motivala
2002, §4.1; memberlist's TransmitLimitedQueue). What was sent least goes first, and of that the newest; a
newer record of a member replaces the older one and starts from nothing.

In go member records; out come packed records (wire.members) that fit beside the other fields of a datagram
of DATAGRAM_BYTES_MAX bytes. The queue holds at most one record for each slot of the member table.
"""

from __future__ import annotations

from math import ceil, log10
from typing import TYPE_CHECKING

from dyno.config import DATAGRAM_BYTES_MAX
from dyno.wire.members import JOINING, LEFT, Member, pack_members, packed_size

if TYPE_CHECKING:
    from random import Random

_OVERHEAD_BYTES = 64  # of a datagram: header, cluster id, every number, start id and length; measured 55
_RECORD_BYTES_MIN = 85  # less room than this holds no record


class GossipQueue:
    """The queue. retransmit_mult: as in config."""

    __slots__ = ("_retransmit_mult", "_tier_of", "_tiers")

    def __init__(self, *, retransmit_mult: int) -> None:
        self._retransmit_mult = retransmit_mult
        # tier t: what was sent t times, oldest first, each with its size.
        self._tiers: list[dict[tuple[str, bool], tuple[Member, int]]] = [{}]
        self._tier_of: dict[tuple[str, bool], int] = {}

    def __len__(self) -> int:
        return len(self._tier_of)

    def add(self, record: Member) -> None:
        """Spread this record, and no older one of its slot any more."""
        key = (record.name, record.state in (JOINING, LEFT))
        tier = self._tier_of.get(key)
        if tier is not None:
            del self._tiers[tier][key]
        self._tier_of[key] = 0
        self._tiers[0][key] = (record, packed_size(record))

    def clear(self) -> None:
        """There is nobody to tell."""
        self._tiers = [{}]
        self._tier_of.clear()

    def fill(self, *beside: str, members: int) -> bytes:
        """Packed records to go with one datagram, b"" when there is nothing to tell. beside: the texts that
        the datagram carries already. members: how many there are in the cluster."""
        if not self._tier_of:
            return b""
        room = DATAGRAM_BYTES_MAX - _OVERHEAD_BYTES - sum(len(text) for text in beside)
        taken = self._take(room)
        if not taken:
            return b""
        limit = self._retransmit_mult * ceil(log10(members + 1))
        for key, entry in taken:
            self._sent(key, entry, limit)
        return pack_members([record for _, (record, _) in taken])

    def _take(self, room: int) -> list[tuple[tuple[str, bool], tuple[Member, int]]]:
        taken: list[tuple[tuple[str, bool], tuple[Member, int]]] = []
        for tier in self._tiers:
            for key in reversed(tier):
                if room < _RECORD_BYTES_MIN:
                    return taken
                entry = tier[key]
                if entry[1] <= room:
                    room -= entry[1]
                    taken.append((key, entry))
        return taken

    def _sent(self, key: tuple[str, bool], entry: tuple[Member, int], limit: int) -> None:
        tier = self._tier_of[key]
        del self._tiers[tier][key]
        if tier + 1 >= limit:
            del self._tier_of[key]
            return
        if tier + 1 == len(self._tiers):
            self._tiers.append({})
        self._tier_of[key] = tier + 1
        self._tiers[tier + 1][key] = entry


def choose(random: Random, members: list[Member], count: int) -> list[Member]:
    """At most so many of them, each as likely."""
    return members if len(members) <= count else random.sample(members, count)
