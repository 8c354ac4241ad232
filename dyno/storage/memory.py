"""A storage engine in memory: the contract of `Engine` without a disk, for the simulator and for tests.

Records are kept sealed, exactly as a disk would hold them, so that a flipped bit is found in the same way.
What a real disk does to a node can be ordered from it: `full` refuses batches, `failing` breaks the next
commit, `corrupt` flips a bit of a record. `copy` is the disk as another process would find it: after a crash,
or as a backup that is put back later.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping
from typing import Self

from dyno.storage.checksum import CHECKSUM_BYTES, seal, unseal
from dyno.storage.engine import (
    SCAN_BYTES_MAX,
    CorruptRecord,
    Engine,
    Scanned,
    StorageBroken,
    StorageFull,
    check_key,
)

_FEW = 16  # new keys find their places one by one; more than that are sorted with all others, in one pass


class MemoryEngine(Engine):
    """full: while True, batches are refused with StorageFull. failing: when True, the next commit raises
    StorageBroken, and so does every later one."""

    __slots__ = ("_keys", "_meta", "_new", "_records", "commit_number", "failing", "full")

    def __init__(self) -> None:
        self.commit_number = 0
        self.full = False
        self.failing = False
        self._records: dict[bytes, bytes] = {}
        self._meta: dict[str, bytes] = {}
        self._keys: list[bytes] = []  # of _records, in order, but for
        self._new: list[bytes] = []  # those that no scan has asked for yet

    def get(self, key: bytes) -> bytes | None:
        sealed = self._records.get(key)
        if sealed is None:
            return None
        value = unseal(key, sealed)
        if value is None:
            raise CorruptRecord(key)
        return value

    def write_batch(self, writes: Mapping[bytes, bytes | None], meta: Mapping[str, bytes]) -> int:
        for key in writes:
            check_key(key)
        if self.failing:
            raise StorageBroken("the commit failed: input/output error")
        if self.full:
            raise StorageFull("no room: the disk is full")
        for key, value in writes.items():
            if value is None:
                self._delete(key)
            else:
                self._put(key, seal(key, value))
        self._meta.update(meta)
        self.commit_number += 1
        return self.commit_number

    def get_meta(self, name: str) -> bytes | None:
        return self._meta.get(name)

    def scan(self, start: bytes, end: bytes, *, limit: int) -> Scanned:
        assert limit > 0
        keys = self._ordered()
        items: list[tuple[bytes, bytes | None]] = []
        size = 0
        for index in range(bisect_left(keys, start), bisect_left(keys, end)):
            key = keys[index]
            if len(items) >= limit or size >= SCAN_BYTES_MAX:
                return items, key
            sealed = self._records[key]
            items.append((key, unseal(key, sealed)))
            size += len(sealed)
        return items, None

    def empty(self) -> bool:
        return not self._records

    def close(self) -> None:
        """Nothing to end."""

    def corrupt(self, key: bytes, *, byte: int = CHECKSUM_BYTES) -> None:
        """Flips a bit of the stored record, whose first 8 bytes are the checksum. KeyError without one."""
        damaged = bytearray(self._records[key])
        damaged[byte % len(damaged)] ^= 1
        self._records[key] = bytes(damaged)

    def copy(self) -> Self:
        """All that is committed, damage included, as an engine of its own, neither full nor failing."""
        other = type(self)()
        other.commit_number = self.commit_number
        other._records = dict(self._records)
        other._meta = dict(self._meta)
        other._keys = list(self._ordered())
        return other

    def _put(self, key: bytes, sealed: bytes) -> None:
        if key not in self._records:
            self._new.append(key)
        self._records[key] = sealed

    def _delete(self, key: bytes) -> None:
        if key in self._records:
            keys = self._ordered()
            del keys[bisect_left(keys, key)]
            del self._records[key]

    def _ordered(self) -> list[bytes]:
        new, keys = self._new, self._keys
        if new:
            if len(new) <= _FEW:
                for key in new:
                    insort(keys, key)
            else:
                keys += new
                keys.sort()
            self._new = []
        return keys
