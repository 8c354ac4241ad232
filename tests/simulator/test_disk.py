"""What disks do to those who trust them."""

from __future__ import annotations

from random import Random

import pytest

from dyno.simulator.disk import CACHED_BATCHES_MAX, Disk
from dyno.storage.engine import KEY_END, CorruptRecord, StorageBroken, StorageFull


def a_disk(records: int = 0) -> Disk:
    disk = Disk()
    for number in range(records):
        disk.write_batch({b"key %d" % number: b"value"}, {})
    return disk


def test_a_disk_keeps_what_was_committed() -> None:
    disk = a_disk()
    assert disk.write_batch({b"key": b"value"}, {"name": b"fact"}) == 1
    assert (disk.get(b"key"), disk.get_meta("name")) == (b"value", b"fact")


def test_a_read_only_disk_takes_nothing_until_it_does_again() -> None:
    disk = a_disk(1)
    disk.read_only = True
    with pytest.raises(StorageFull, match="read-only"):
        disk.write_batch({b"key 0": b"other"}, {})
    assert disk.get(b"key 0") == b"value"
    assert disk.commit_number == 1
    disk.read_only = False
    assert disk.write_batch({b"key 0": b"other"}, {}) == 2


@pytest.mark.parametrize("keeps", [True, False])
def test_a_commit_that_fails_is_on_the_disk_or_it_is_not(keeps: bool) -> None:
    disk = a_disk()
    disk.failing, disk.keeps_failed = True, keeps
    with pytest.raises(StorageBroken):
        disk.write_batch({b"key": b"value"}, {})
    with pytest.raises(StorageBroken):
        disk.write_batch({b"other": b"value"}, {})
    disk.failing = False
    assert disk.get(b"key") == (b"value" if keeps else None)
    assert disk.get(b"other") is None
    assert disk.commit_number == int(keeps)


def test_a_copy_is_a_sound_disk_of_its_own() -> None:
    disk = a_disk(1)
    disk.lie()
    disk.read_only = True
    copy = disk.copy()
    copy.write_batch({b"key 0": b"other"}, {})
    assert (disk.get(b"key 0"), copy.get(b"key 0")) == (b"value", b"other")
    assert not copy.lies


# ── lies ──


def test_a_disk_that_does_not_lie_loses_nothing() -> None:
    disk = a_disk(3)
    assert disk.lose_cached(0) == 0
    assert disk.commit_number == 3


@pytest.mark.parametrize("kept", [0, 2, 5, 9])
def test_a_disk_that_lies_loses_the_last_commits_with_the_power(kept: int) -> None:
    disk = a_disk(3)
    disk.lie()
    disk.lie()
    for number in range(5):
        disk.write_batch({b"key 0": b"%d" % number, b"late %d" % number: b"value"}, {"fact": b"%d" % number})
    disk.write_batch({b"key 1": None}, {})
    assert (disk.lies, disk.cached, disk.commit_number) == (True, 6, 9)
    assert disk.lose_cached(kept) == max(0, 6 - kept)
    assert disk.commit_number == 3 + min(kept, 6)
    assert disk.get(b"key 0") == (b"%d" % (min(kept, 5) - 1) if kept else b"value")
    assert disk.get_meta("fact") == (b"%d" % (min(kept, 5) - 1) if kept else None)
    items, _ = disk.scan(b"late", KEY_END, limit=100)
    assert len(items) == min(kept, 5)
    assert (disk.get(b"key 1") is None) == (kept > 5)
    assert (disk.lies, disk.cached) == (False, 0)


def test_what_was_in_the_cache_for_long_has_reached_the_disk() -> None:
    disk = a_disk()
    disk.lie()
    for number in range(CACHED_BATCHES_MAX + 7):
        disk.write_batch({b"key": b"%d" % number}, {})
    assert disk.lose_cached(0) == CACHED_BATCHES_MAX
    assert disk.get(b"key") == b"6"


def test_a_disk_that_synced_loses_nothing() -> None:
    disk = a_disk()
    disk.lie()
    disk.write_batch({b"key": b"value"}, {})
    disk.sync()
    assert disk.lose_cached(0) == 0
    assert disk.get(b"key") == b"value"


# ── bit rot ──


def test_rot_is_found_wherever_it_is() -> None:
    disk = a_disk(20)
    rotten = disk.rot(Random(1), records=5)
    assert len(set(rotten)) == 5
    assert disk.rotten() == rotten
    for key in rotten:
        with pytest.raises(CorruptRecord):
            disk.get(key)
    disk.write_batch({rotten[0]: b"healed"}, {})
    assert disk.rotten() == rotten[1:]


def test_no_more_can_rot_than_there_is() -> None:
    assert a_disk().rot(Random(1), records=5) == []
    assert len(a_disk(3).rot(Random(1), records=5)) == 3
