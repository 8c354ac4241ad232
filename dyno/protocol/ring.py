"""Which nodes own a key, as this node sees the ring now.

Joins placement (a pure table over seats) to member names, and is rebuilt only when the ring changes. Until
the ring is a log of its own, it is every member known, dead ones too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from dyno.config import BUCKET_NAME_BYTES_MAX, COPIES, COPIES_MAX, KEY_BYTES_MAX
from dyno.errors import InvalidRequest
from dyno.placement.hashing import (
    Keyspace,
    bucket_id,
    slot_bucket,
    slot_copies,
    slot_partition,
    slot_prefix,
)
from dyno.placement.table import Seat, build
from dyno.wire.members import Member

_BUCKETS_CACHED_MAX = 1024
_RECENT_MAX = 16_384  # of either kind, some 5 MB
_RECENT_KEY_BYTES_MAX = 128  # longer keys are not kept


_Case = TypeVar("_Case")
_Found = TypeVar("_Found")


class Plan(NamedTuple):
    """slot: the engine key. owners: names of the primaries, in preference order."""

    slot: bytes
    owners: tuple[str, ...]


class Ring:
    """members: in an order that is the same on all nodes. cluster: the cluster's id. fingerprint: goes with
    every replica request."""

    def __init__(
        self, members: Sequence[Member], *, cluster: bytes, partitions: int, fingerprint: int
    ) -> None:
        # One seat under two names is somebody's forgery or mistake; everybody lets the same one sit.
        by_seat: dict[bytes, Member] = {}
        for member in members:
            by_seat.setdefault(member.seat, member)
        self.cluster = cluster
        self.fingerprint = fingerprint
        self._keyspace = Keyspace(cluster, partitions)
        self._table = build([Seat(m.seat, m.zone, m.weight) for m in by_seat.values()], partitions)
        self._names = [by_seat[seat.id].name for seat in self._table.seats]
        self._owners: dict[bytes, tuple[str, ...]] = {}  # by partition and n, as slots begin
        self._fallbacks: dict[bytes, tuple[str, ...]] = {}  # likewise, of those that were ever asked for
        self._bucket_ids: dict[str, bytes] = {}
        # The hashes are most of a plan's price: what was planned lately, and slots that were found right.
        self._recent: dict[tuple[str, bytes, int], Plan] = {}
        self._sound: dict[bytes, bytes] = {}

    @property
    def names(self) -> list[str]:
        """Of all that own anything."""
        return self._names

    def plan(self, bucket: str, key: bytes, copies: int = COPIES) -> Plan:
        """copies: the bucket's n; where there are fewer members, they all are owners. Raises InvalidRequest
        for a bucket name or a key that no client of ours would send."""
        case = (bucket, key, copies)
        plan = self._recent.get(case)
        if plan is not None:
            return plan
        known = self._bucket_ids.get(bucket)
        if known is None:
            known = self._check_bucket(bucket)
        if not 1 <= len(key) <= KEY_BYTES_MAX:
            raise InvalidRequest(f"a key is 1 to {KEY_BYTES_MAX} bytes long, not {len(key)}")
        slot = self._keyspace.slot(known, key, copies)
        plan = Plan(slot, self._owners_of(slot))
        _keep(self._recent, case, plan, key)
        return plan

    def plan_listing(self, bucket: str, partition: int, copies: int = COPIES) -> Plan:
        """Where the keys of a bucket in one partition are; the plan's slot is what their slots begin with.
        Raises InvalidRequest as `plan` does."""
        known = self._bucket_ids.get(bucket)
        if known is None:
            known = self._check_bucket(bucket)
        if partition >= self._keyspace.partitions:
            raise InvalidRequest(
                f"there is no partition {partition}, only 0 to {self._keyspace.partitions - 1}"
            )
        prefix = slot_prefix(known, partition, copies)
        return Plan(prefix, self._owners_of(prefix))

    def places(self, slot: bytes, key: bytes, name: str) -> bool:
        """Whether this is where a key goes, in whatever bucket of so many copies, and that node one of its
        owners. slot: 27 bytes of a peer's; a record that is kept under another key's slot would be in that
        key's way."""
        if self._sound.get(slot) != key:
            if slot != self._keyspace.slot(slot_bucket(slot), key, slot_copies(slot)):
                return False
            _keep(self._sound, slot, key, key)
        return name in self._owners_of(slot)

    def owners(self, slot: bytes) -> tuple[str, ...]:
        """Of a slot, or of all that begin so, in preference order. Raises ValueError for a slot that can be
        nobody's."""
        if slot_partition(slot) >= self._keyspace.partitions or not 1 <= slot_copies(slot) <= COPIES_MAX:
            raise ValueError(f"a slot of partition {slot_partition(slot)} and n={slot_copies(slot)}")
        return self._owners_of(slot)

    def fallbacks(self, slot: bytes) -> tuple[str, ...]:
        """Where the preference list goes on behind the owners: who stands in for them, in order."""
        fallbacks = self._fallbacks.get(slot[:3])
        if fallbacks is None:
            order = self._table.order(slot_partition(slot))
            fallbacks = tuple(self._names[seat] for seat in order[slot_copies(slot) :])
            self._fallbacks[slot[:3]] = fallbacks
        return fallbacks

    def _owners_of(self, slot: bytes) -> tuple[str, ...]:
        owners = self._owners.get(slot[:3])
        if owners is None:
            names = self._names
            seats = self._table.owners(slot_partition(slot), slot_copies(slot))
            owners = tuple(names[seat] for seat in seats)
            self._owners[slot[:3]] = owners
        return owners

    def _check_bucket(self, bucket: str) -> bytes:
        size = len(bucket.encode())
        if not 1 <= size <= BUCKET_NAME_BYTES_MAX:
            raise InvalidRequest(f"a bucket's name is 1 to {BUCKET_NAME_BYTES_MAX} bytes long, not {size}")
        if len(self._bucket_ids) >= _BUCKETS_CACHED_MAX:
            self._bucket_ids.clear()
        identity = self._bucket_ids[bucket] = bucket_id(bucket)
        return identity


def _keep(recent: dict[_Case, _Found], case: _Case, found: _Found, key: bytes) -> None:
    """For the next one who asks. Starting anew when it is full costs less than knowing what is used least."""
    if len(key) <= _RECENT_KEY_BYTES_MAX:
        if len(recent) >= _RECENT_MAX:
            recent.clear()
        recent[case] = found
