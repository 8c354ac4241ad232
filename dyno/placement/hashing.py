"""Where a key goes: the hash from bucket and key to a partition, and the name of its slot.

In: bucket names, key bytes, the cluster's id and its fixed number of partitions. Out: partition numbers, and
*slots*, the 27-byte names under which engines, Merkle trees and transfers know a record:

    partition (2 bytes, big endian) ‖ n (1) ‖ bucket id (8) ‖ BLAKE2b-16 of the key (16)

so that all of one (partition, n) lies together, and all of one bucket within it. The partition comes from
MurmurHash3, seeded by the cluster, so that two clusters spread the same keys differently; the digests come
from BLAKE2b, so that nobody can make two keys meet in one slot. Both are the same on every node, platform
and Python hash seed.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

from mmh3 import mmh3_32_uintdigest

SLOT_BYTES: Final = 27
PREFIX_BYTES: Final = 11  # of a slot, without the hash of the key
# Where n stands in a slot, and where the bucket's id begins, which ends the prefix: to be used without a
# call, for every replica read.
COPIES_IN_SLOT: Final = 2
BUCKET_IN_SLOT: Final = 3


def bucket_id(name: str) -> bytes:
    """The 8-byte id of the bucket called `name`: BLAKE2b-8 of its UTF-8 bytes."""
    return blake2b(name.encode(), digest_size=8).digest()


class Keyspace:
    """The keys of one cluster, cut into `partitions` equal parts by hash.

    cluster: the cluster's id, at least 4 bytes. partitions: 1..config.PARTITIONS_MAX.
    """

    __slots__ = ("_seed", "partitions")

    def __init__(self, cluster: bytes, partitions: int) -> None:
        self.partitions: Final = partitions
        self._seed = int.from_bytes(cluster[:4], "big")

    def partition(self, bucket_id: bytes, key: bytes) -> int:
        """The partition of a key, 0..partitions-1: the top of its 32-bit token, scaled."""
        return mmh3_32_uintdigest(bucket_id + key, self._seed) * self.partitions >> 32

    def slot(self, bucket_id: bytes, key: bytes, n: int) -> bytes:
        """The slot of a key in a bucket that keeps `n` copies."""
        partition = mmh3_32_uintdigest(bucket_id + key, self._seed) * self.partitions >> 32
        return (partition << 8 | n).to_bytes(3, "big") + bucket_id + blake2b(key, digest_size=16).digest()


def slot_prefix(bucket_id: bytes, partition: int, n: int) -> bytes:
    """What the slots of all keys begin with that a bucket of `n` copies has in one partition."""
    return (partition << 8 | n).to_bytes(3, "big") + bucket_id


def slot_range(prefix: bytes) -> tuple[bytes, bytes]:
    """All slots that begin with a prefix lie from the first of these up to, not including, the second."""
    return prefix, prefix + b"\xff" * (SLOT_BYTES - len(prefix) + 1)


def slot_partition(slot: bytes) -> int:
    """The partition that a slot lies in."""
    return slot[0] << 8 | slot[1]


def slot_bucket(slot: bytes) -> bytes:
    """The id of the bucket that a slot belongs to."""
    return slot[BUCKET_IN_SLOT:PREFIX_BYTES]


def slot_copies(slot: bytes) -> int:
    """The n of the bucket that a slot belongs to."""
    return slot[COPIES_IN_SLOT]
