"""Between nodes: what a coordinator asks of replicas."""

from __future__ import annotations

from typing import NamedTuple

READ_MANY_SLOTS_MAX = 4096  # of one ReadMany
READ_MANY_BYTES_MAX = 1 << 20  # of records in one answer; what would be beyond is asked for alone


class Read(NamedTuple):
    """Ask a replica for its record. ring: the fingerprint that the coordinator planned with. slot: the
    engine key (partition ‖ n ‖ bucket id ‖ key hash)."""

    id: int
    ring: int
    slot: bytes


class ReadAnswer(NamedTuple):
    """status: one of the STATUS_ constants. record: canonical bytes, b"" when there is none."""

    id: int
    status: int
    record: bytes


class ReadMany(NamedTuple):
    """Ask a replica for many records at once. slots: engine keys, one after another."""

    id: int
    ring: int
    slots: bytes


class ReadManyAnswer(NamedTuple):
    """status: STATUS_OK, or why nothing was read. records: a row with an item for each slot, in their order:
    canonical bytes, b"" when there is none, null for one that has to be asked for alone (it is on its way to
    the disk, or corrupt, or would make the answer too large)."""

    id: int
    status: int
    records: bytes


class Store(NamedTuple):
    """Merge a record into a replica's own and store it. id 0: no answer is wanted (read repair)."""

    id: int
    ring: int
    slot: bytes
    key: bytes
    record: bytes


class Stored(NamedTuple):
    """Sent once the replica's disk has it (fsync), or with the reason why it does not. commit: the number of
    a commit that has it, 0 without."""

    id: int
    status: int
    commit: int = 0


class Scan(NamedTuple):
    """Ask a replica what it has of one bucket in one partition. prefix: what the slots of that stretch begin
    with (partition ‖ n ‖ bucket id). after: the key hash to begin behind, b"" for the start. limit: records
    at most; a replica may give fewer."""

    id: int
    ring: int
    prefix: bytes
    after: bytes
    limit: int


class ScanAnswer(NamedTuple):
    """entries: packed (wire.pages), everything that is on the replica's disk behind `after` up to and with
    the hash `end`, tombstones too; end b"": to the end of the stretch."""

    id: int
    status: int
    entries: bytes
    end: bytes


class StoreHint(NamedTuple):
    """Keep a record for the owner `target`, who cannot take it now; answered with Stored. generation: how
    often the (partition, n) was reaped, as far as the sender knows. needed: the write counts on it."""

    id: int
    ring: int
    slot: bytes
    key: bytes
    record: bytes
    target: str
    generation: int
    needed: bool


class HandOver(NamedTuple):
    """A hint for the one it was kept for: like Store, but refused when it is older than the last reaping of
    its (partition, n). Answered with Stored."""

    id: int
    ring: int
    slot: bytes
    key: bytes
    record: bytes
    generation: int


class Recall(NamedTuple):
    """Do you know this write?"""

    id: int
    ring: int
    slot: bytes
    request: bytes


class Recalled(NamedTuple):
    """actor, counter: the dot of the write, b"" and 0 if it is not known. record: the replica's, if it is,
    on its disk."""

    id: int
    status: int
    actor: bytes
    counter: int
    record: bytes


STATUS_OK = 0
STATUS_RING = 1  # another ring, or a member is joining; nothing was done
STATUS_OVERLOADED = 2  # a bound was reached; nothing was done
STATUS_STORAGE = 3  # the disk said no, or the record is corrupt
STATUS_REFUSED = 4  # the record contradicts ours (one dot, two values) or is malformed
STATUS_WEAK = 5  # the record of a copy that is not complete again yet
STATUS_REAPED = 6  # older than what was reaped since; it must not come back
