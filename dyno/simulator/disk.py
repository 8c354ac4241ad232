"""A machine's disk: it outlives processes, and does to them what real disks do.

It is the engine in memory, which can be full, fail for good, and have flipped bits. Beyond that it can be
read-only, fail a commit that it wrote all the same, and *lie*: say that a commit is durable while it is in a
cache, from where the disk writes it later, in order. When the power goes, what is in the cache is gone.

In: a node's batches, and what is to befall them. Out: what `Engine` promises, as long as nothing does.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from dyno.storage.engine import KEY_END, StorageBroken, StorageFull
from dyno.storage.memory import MemoryEngine

if TYPE_CHECKING:
    from collections.abc import Mapping
    from random import Random

CACHED_BATCHES_MAX: Final = 50  # older ones have reached the disk

_SCANNED_AT_ONCE: Final = 10_000


class Disk(MemoryEngine):
    """read_only: while True, batches are refused with StorageFull. keeps_failed: whether a batch that fails
    because of `failing` is on the disk all the same, which nobody can know."""

    __slots__ = ("_below", "_cached", "keeps_failed", "read_only")

    def __init__(self) -> None:
        super().__init__()
        self.read_only = False
        self.keeps_failed = False
        self._below: MemoryEngine | None = None  # below the cache: what the power cannot take
        self._cached: deque[tuple[Mapping[bytes, bytes | None], Mapping[str, bytes]]] = deque()

    def write_batch(self, writes: Mapping[bytes, bytes | None], meta: Mapping[str, bytes]) -> int:
        if self.read_only:
            raise StorageFull("the disk is on a read-only file system")
        if self.failing and self.keeps_failed:
            self.failing = False
            self._write(writes, meta)
            self.failing = True
            self.keeps_failed = False  # that was the one; nobody tries another before the disk is mended
            raise StorageBroken("the commit failed: input/output error")
        return self._write(writes, meta)

    # ── lies ──

    @property
    def lies(self) -> bool:
        return self._below is not None

    def lie(self) -> None:
        """From now on commits wait in a cache; `lose_cached` and `sync` end that."""
        if self._below is None:
            self._below = self.copy()

    def sync(self) -> None:
        """All that is in the cache is written, and there will be no more lies."""
        self._below = None
        self._cached.clear()

    def lose_cached(self, kept: int) -> int:
        """The power went: of what is in the cache only the first so many batches were written. How many were
        not."""
        below = self._below
        if below is None:
            return 0
        lost = max(0, len(self._cached) - kept)
        for writes, meta in list(self._cached)[:kept]:
            below.write_batch(writes, meta)
        self._set_back_to(below)
        self.sync()
        return lost

    @property
    def cached(self) -> int:
        """How many batches the next power cut could take."""
        return len(self._cached)

    # ── bit rot ──

    def rot(self, random: Random, *, records: int) -> list[bytes]:
        """Flip a bit in so many records, or in all if there are fewer, wherever it may be. Their keys."""
        keys = list(self._ordered())
        rotten = sorted(random.sample(keys, min(records, len(keys))))
        for key in rotten:
            self.corrupt(key, byte=random.randrange(1 << 16))
        return rotten

    def rotten(self) -> list[bytes]:
        """The keys of all records that cannot be read."""
        rotten: list[bytes] = []
        start: bytes | None = b""
        while start is not None:
            items, start = self.scan(start, KEY_END, limit=_SCANNED_AT_ONCE)
            rotten += [key for key, value in items if value is None]
        return rotten

    # ── inside ──

    def _write(self, writes: Mapping[bytes, bytes | None], meta: Mapping[str, bytes]) -> int:
        number = super().write_batch(writes, meta)
        if self._below is not None:
            self._cached.append((dict(writes), dict(meta)))
            if len(self._cached) > CACHED_BATCHES_MAX:
                self._below.write_batch(*self._cached.popleft())
        return number

    def _set_back_to(self, other: MemoryEngine) -> None:
        state = other.copy()
        self.commit_number = state.commit_number
        self._records = state._records
        self._meta = state._meta
        self._keys = state._keys
        self._new = state._new
