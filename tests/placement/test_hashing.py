"""Keys find their partition and slot, the same one everywhere."""

from hashlib import blake2b

from hypothesis import given
from hypothesis import strategies as st

from dyno.placement.hashing import (
    PREFIX_BYTES,
    SLOT_BYTES,
    Keyspace,
    bucket_id,
    slot_bucket,
    slot_copies,
    slot_partition,
    slot_prefix,
    slot_range,
)

CLUSTER = bytes(range(16))
USERS = bucket_id("users")


def test_hashes_are_a_contract_that_no_release_may_change():
    keys = Keyspace(CLUSTER, 1024)
    assert USERS.hex() == "889b3fb8e93e603e"
    assert bucket_id("señal").hex() == "8dd59f7ab31c860d"
    assert [keys.partition(USERS, key) for key in (b"a", b"b", b"user:1", bytes(1024))] == [
        239,
        666,
        871,
        734,
    ]
    assert keys.slot(USERS, b"user:1", 3).hex() == "036703889b3fb8e93e603ea2da11bffde3dc0b3f41a2fbc72e2eec"


def test_a_slot_names_partition_copies_bucket_and_key_in_this_order():
    keys = Keyspace(CLUSTER, 1024)
    slot = keys.slot(USERS, b"k", 5)
    assert len(slot) == SLOT_BYTES
    assert slot[:2] == keys.partition(USERS, b"k").to_bytes(2, "big")
    assert slot[2] == 5
    assert slot[3:11] == USERS
    assert slot[11:] == blake2b(b"k", digest_size=16).digest()


@given(st.binary(min_size=1, max_size=40), st.integers(1, 1 << 16), st.integers(1, 9))
def test_what_goes_into_a_slot_can_be_read_from_it(key, partitions, n):
    keys = Keyspace(CLUSTER, partitions)
    slot = keys.slot(USERS, key, n)
    assert slot_partition(slot) == keys.partition(USERS, key) < partitions
    assert slot_copies(slot) == n
    assert slot_bucket(slot) == USERS


@given(st.binary(min_size=1, max_size=40), st.integers(1, 1 << 16), st.integers(1, 9))
def test_a_slot_begins_with_what_all_of_its_bucket_and_partition_begin_with(key, partitions, n):
    keys = Keyspace(CLUSTER, partitions)
    prefix = slot_prefix(USERS, keys.partition(USERS, key), n)
    assert len(prefix) == PREFIX_BYTES
    assert keys.slot(USERS, key, n).startswith(prefix)


def test_another_bucket_or_cluster_spreads_the_same_keys_differently():
    names = [b"%d" % i for i in range(1000)]

    def spread(cluster, bucket):
        keys = Keyspace(cluster, 1024)
        return [keys.partition(bucket_id(bucket), name) for name in names]

    base = spread(CLUSTER, "users")
    for other in (spread(CLUSTER, "carts"), spread(b"another cluster.", "users")):
        assert sum(a == b for a, b in zip(base, other, strict=True)) < 10


def test_keys_fill_all_partitions_evenly():
    keys = Keyspace(CLUSTER, 64)
    counts = [0] * 64
    for i in range(64_000):
        counts[keys.partition(USERS, b"user:%d" % i)] += 1
    assert 850 < min(counts) <= max(counts) < 1150


@given(st.binary(min_size=1, max_size=40), st.integers(1, 1 << 16), st.integers(1, 9))
def test_all_slots_of_a_bucket_in_a_partition_lie_in_its_range(key, partitions, n):
    keys = Keyspace(CLUSTER, partitions)
    slot = keys.slot(USERS, key, n)
    start, end = slot_range(slot_prefix(USERS, keys.partition(USERS, key), n))
    assert start <= slot < end
    assert start <= slot[:11] + b"\xff" * 16 < end
    for other in (keys.slot(bucket_id("carts"), key, n), keys.slot(USERS, key, n % 9 + 1)):
        assert not start <= other < end
