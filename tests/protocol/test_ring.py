"""Which nodes own a key."""

from __future__ import annotations

import pytest

from dyno.errors import InvalidRequest
from dyno.placement.hashing import PREFIX_BYTES, SLOT_BYTES, slot_copies, slot_partition
from dyno.protocol.ring import Ring
from dyno.wire.members import ALIVE, NORMAL, Member


def a_member(name: str, *, seat: bytes | None = None) -> Member:
    identity = name.encode().ljust(16, b".")
    return Member(name, identity, seat or identity, identity[:8], 1, 0, NORMAL, ALIVE, f"{name}:1", "", 1.0)


def a_ring(*names: str) -> Ring:
    members = [a_member(name) for name in names]
    return Ring(members, cluster=b"c" * 16, partitions=16, fingerprint=7)


def test_a_key_has_n_owners_in_a_fixed_order() -> None:
    plan = a_ring("a", "b", "c", "d", "e").plan("bucket", b"key")
    assert len(set(plan.owners)) == 3
    assert plan == a_ring("e", "c", "a", "b", "d").plan("bucket", b"key")
    assert len(plan.slot) == SLOT_BYTES
    assert slot_copies(plan.slot) == 3


def test_all_keys_together_are_owned_by_everybody() -> None:
    ring = a_ring("a", "b", "c", "d", "e")
    owners = {name for number in range(200) for name in ring.plan("bucket", b"%d" % number).owners}
    assert owners == {"a", "b", "c", "d", "e"}


@pytest.mark.parametrize("copies", [1, 3, 4])
def test_a_slot_belongs_to_one_key_of_any_bucket_and_to_its_owners(copies: int) -> None:
    ring = a_ring("a", "b", "c", "d", "e")
    for bucket in ("one", "other"):
        slot, owners = ring.plan(bucket, b"key", copies)
        assert [name for name in "abcde" if ring.places(slot, b"key", name)] == sorted(owners)
        assert not ring.places(slot, b"another key", owners[0])
        for byte in (0, 1, 10, 26):  # partition, bucket and key
            wrong = bytearray(slot)
            wrong[byte] ^= 0xFF
            assert not any(ring.places(bytes(wrong), b"key", name) for name in "abcde")


def test_a_small_cluster_owns_everything() -> None:
    assert set(a_ring("a", "b").plan("bucket", b"key").owners) == {"a", "b"}
    assert a_ring("a").plan("bucket", b"key").owners == ("a",)


def test_a_bucket_of_its_own_n_has_the_first_n_of_the_list_or_all_members() -> None:
    ring = a_ring("a", "b", "c", "d", "e")
    five = ring.plan("bucket", b"key", 5)
    assert slot_copies(five.slot) == 5
    assert sorted(five.owners) == ["a", "b", "c", "d", "e"]
    for copies in (1, 2, 3, 4):
        assert ring.plan("bucket", b"key", copies).owners == five.owners[:copies]
    assert ring.plan("bucket", b"key", 9).owners == five.owners


def test_buckets_are_planned_apart() -> None:
    ring = a_ring("a")
    assert ring.plan("one", b"key").slot != ring.plan("other", b"key").slot
    assert ring.plan("one", b"key") == ring.plan("one", b"key")


def test_the_memory_of_bucket_names_is_bounded() -> None:
    ring = a_ring("a")
    first = ring.plan("bucket 0", b"key")
    for number in range(2000):
        ring.plan(f"bucket {number}", b"key")
    assert len(ring._bucket_ids) <= 1024
    assert ring.plan("bucket 0", b"key") == first


@pytest.mark.parametrize("bucket", ["", "x" * 65, "é" * 33])
def test_a_bucket_name_out_of_bounds_is_refused(bucket: str) -> None:
    with pytest.raises(InvalidRequest, match="a bucket's name is 1 to 64 bytes long"):
        a_ring("a").plan(bucket, b"key")


@pytest.mark.parametrize("key", [b"", b"x" * 1025])
def test_a_key_out_of_bounds_is_refused(key: bytes) -> None:
    with pytest.raises(InvalidRequest, match="a key is 1 to 1024 bytes long"):
        a_ring("a").plan("bucket", key)


def test_of_two_names_on_one_seat_one_sits() -> None:
    members = [a_member("a"), a_member("b"), a_member("forger", seat=a_member("b").seat)]
    ring = Ring(members, cluster=b"c" * 16, partitions=16, fingerprint=7)
    assert set(ring.plan("bucket", b"key").owners) == {"a", "b"}


def test_a_ring_names_its_owners() -> None:
    assert sorted(a_ring("a", "b", "c").names) == ["a", "b", "c"]


def test_all_keys_of_a_bucket_in_a_partition_are_where_its_listing_looks() -> None:
    ring = a_ring("a", "b", "c", "d", "e")
    for number in range(100):
        slot, owners = ring.plan("bucket", b"%d" % number)
        listing = ring.plan_listing("bucket", slot_partition(slot))
        assert slot.startswith(listing.slot)
        assert len(listing.slot) == PREFIX_BYTES
        assert listing.owners == owners


def test_a_listing_of_what_cannot_be_is_refused() -> None:
    ring = a_ring("a")
    with pytest.raises(InvalidRequest, match="there is no partition 16, only 0 to 15"):
        ring.plan_listing("bucket", 16)
    with pytest.raises(InvalidRequest, match="bucket's name"):
        ring.plan_listing("", 0)


def test_what_was_found_out_before_is_found_again_and_bounded() -> None:
    ring, fresh = a_ring("a", "b", "c", "d", "e"), a_ring("a", "b", "c", "d", "e")
    keys = [b"%d" % number for number in range(17_000)]
    plans = [ring.plan("bucket", key) for key in keys]
    for key in (keys[0], keys[-1], b"k" * 1024):
        for _ in range(2):
            plan = ring.plan("bucket", key)
            assert plan == fresh.plan("bucket", key)
            assert ring.places(plan.slot, key, plan.owners[0])
            assert not ring.places(plan.slot, key + b"x", plan.owners[0])
            assert ring.places(plan.slot, key, plan.owners[0])
    assert ring.plan("other", keys[0]).slot != plans[0].slot
    assert ring.plan("bucket", keys[0], 2).slot != plans[0].slot
    for key, plan in zip(keys, plans, strict=True):
        assert ring.places(plan.slot, key, plan.owners[0])
    assert len(ring._recent) <= 16_384
    assert len(ring._sound) <= 16_384


# ── beyond the owners ──


@pytest.mark.parametrize("copies", [1, 3, 5])
def test_the_list_goes_on_behind_the_owners_with_all_others_once(copies: int) -> None:
    ring, same = a_ring(*"abcdefghijkl"), a_ring(*"lkjihgfedcba")
    for number in range(50):
        plan = ring.plan("bucket", b"%d" % number, copies)
        fallbacks = ring.fallbacks(plan.slot)
        assert sorted((*plan.owners, *fallbacks)) == list("abcdefghijkl")
        assert ring.owners(plan.slot) == plan.owners
        assert ring.fallbacks(plan.slot[:3]) is fallbacks
        assert same.fallbacks(plan.slot) == fallbacks


def test_owners_of_fewer_copies_are_followed_by_those_of_more() -> None:
    ring = a_ring(*"abcde")
    slot = ring.plan("bucket", b"key").slot
    assert (*ring.owners(slot), *ring.fallbacks(slot))[:5] == ring.owners(slot[:2] + b"\5")


def test_a_small_cluster_has_no_fallbacks() -> None:
    ring = a_ring("a", "b", "c")
    assert ring.fallbacks(ring.plan("bucket", b"key").slot) == ()


@pytest.mark.parametrize(
    "slot", [bytes((0, 16, 3)), bytes((0xFF, 0, 3)), bytes((0, 1, 0)), bytes((0, 1, 10))]
)
def test_a_slot_of_no_partition_or_of_no_n_is_nobodys(slot: bytes) -> None:
    with pytest.raises(ValueError, match="a slot of partition"):
        a_ring("a", "b", "c", "d").owners(slot + bytes(24))
