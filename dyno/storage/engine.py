"""What a node asks of a storage engine: ordered records, atomic durable batches, small facts beside them.

In: byte keys (1..511 bytes) with byte values, and *meta*, a few named facts of the node itself, committed in
the same transaction. Out: committed state only; nothing is readable before it is durable. Every commit
carries a number, one higher than the last, stored in the same transaction: a directory that knows a lower
number than its peers remember was set back to an old state.

Guarantees of every engine, held by one suite (tests/storage/test_engine.py): a batch is there whole or not at
all; when `write_batch` has returned, it survives the process and the power; a damaged value is reported,
never returned and never taken for absent. One thread writes, any may read at the same time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

KEY_BYTES_MAX = 511  # LMDB's limit
KEY_END = b"\xff" * (KEY_BYTES_MAX + 1)  # above every key: the `end` of a scan over everything
SCAN_BYTES_MAX = 4 << 20  # a scan that holds this much returns, whatever its limit

Scanned: TypeAlias = tuple[list[tuple[bytes, bytes | None]], bytes | None]


class Span(NamedTuple):
    """A page that is to be scanned: the arguments of `Engine.scan`."""

    start: bytes
    end: bytes
    limit: int


class CorruptRecord(Exception):
    """What is stored under `key` is not what was written there. It is neither a value nor an absence."""

    def __init__(self, key: bytes) -> None:
        super().__init__(f"the record under {key.hex()} does not match its checksum")
        self.key = key


class StorageFull(Exception):
    """Nothing of the batch was committed, for lack of room or on a read-only disk. Reads go on, and a later
    batch may succeed."""


class StorageBroken(Exception):
    """The disk failed with room left, so it is unknown what it holds: the process must stop. No further batch
    is tried, for an fsync that is tried again may succeed without having written (fsyncgate, 2018)."""


class Engine(ABC):
    """commit_number: that of the last commit, 0 for a new engine."""

    __slots__ = ()

    commit_number: int

    @abstractmethod
    def get(self, key: bytes) -> bytes | None:
        """The committed value. Raises CorruptRecord."""

    def get_many(self, keys: Sequence[bytes], *, bytes_max: int) -> list[bytes | None]:
        """The committed values of the first keys, in their order: of all keys, or of as many as it takes to
        read so many bytes. Raises CorruptRecord if any of them is."""
        values: list[bytes | None] = []
        for key in keys:
            values.append(value := self.get(key))
            bytes_max -= len(value or b"")
            if bytes_max <= 0:
                break
        return values

    @abstractmethod
    def write_batch(self, writes: Mapping[bytes, bytes | None], meta: Mapping[str, bytes]) -> int:
        """Commits records (None deletes) and facts as one, durably; returns the new commit number.

        Raises StorageFull, StorageBroken, and ValueError for a key of 0 or more than 511 bytes. After any of
        them nothing of the batch is readable. Blocks for as long as the disk takes."""

    @abstractmethod
    def get_meta(self, name: str) -> bytes | None:
        """The committed fact. Raises CorruptRecord with the name as its key."""

    @abstractmethod
    def scan(self, start: bytes, end: bytes, *, limit: int) -> Scanned:
        """Committed records from `start` up to, not including, `end`, in key order.

        Returns (items, next start). items: at most `limit` pairs of key and value, None for the value of a
        corrupt one. next start: where to go on, None when there is nothing more. A page ends early rather
        than hold much memory or a read transaction for long, but it has one item at least, if there is any.
        Pages are not one snapshot: what is written between them shows."""

    @abstractmethod
    def empty(self) -> bool:
        """True when there is no record, readable or corrupt. Meta does not count."""

    @abstractmethod
    def close(self) -> None:
        """Ends all use. Nothing needs flushing: what was committed is durable already."""


def check_key(key: bytes) -> None:
    """Raises ValueError for a key that no engine takes."""
    if not 0 < len(key) <= KEY_BYTES_MAX:
        raise ValueError(f"a key has 1 to {KEY_BYTES_MAX} bytes, not {len(key)}")
