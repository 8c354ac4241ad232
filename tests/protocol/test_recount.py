"""What the disk has is counted while writes go on, and read again for rot."""

from __future__ import annotations

import math

import pytest

from dyno.config import Config
from dyno.protocol import recount
from dyno.protocol.recount import PAUSE_S, YIELD_S
from tests.protocol.trees_harness import Disk, slot_of


def used(records: int = 20, config: Config | None = None) -> Disk:
    """A disk with records, just started on."""
    disk = Disk(config=config)
    for number in range(records):
        disk.put(b"key %d" % number)
    disk.commit()
    disk.restart()
    return disk


def test_a_start_with_records_counts_them_before_anything_is_compared() -> None:
    disk = used()
    assert not disk.trees.ready
    disk.step()
    disk.check()
    disk.put(b"key 3")
    disk.put(b"new")
    disk.commit()
    disk.check()


def test_it_goes_on_page_by_page_and_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recount, "PAGE_RECORDS", 8)
    disk = used(100)
    steps = 0
    while not disk.trees.ready:
        before = disk.recount.deadline()
        disk.step()
        steps += 1
        assert disk.trees.ready or disk.recount.deadline() == max(before, 0.0) + PAUSE_S
        disk.put(b"key %d" % steps)
        disk.put(b"new %d" % steps)
        disk.commit()
    assert steps >= 100 // 8
    disk.check()


def test_it_waits_for_a_commit_that_does_not_say_what_it_replaces() -> None:
    disk = used()
    disk.replica.write_rows({slot_of(b"key 1"): None})
    batch = disk.replica.take_batch(0.0)
    assert batch is not None
    disk.step()
    disk.step()
    assert not disk.trees.ready
    disk.finish(batch)
    disk.count()
    disk.check()


@pytest.mark.parametrize("key", [b"key %d" % number for number in range(20)])
def test_wherever_that_is(key: bytes) -> None:
    disk = used()
    disk.replica.write_rows({slot_of(key): None})
    batch = disk.replica.take_batch(0.0)
    assert batch is not None
    disk.engine.write_batch(batch.writes, batch.meta)  # the disk shows it, and nobody was told
    disk.step()
    assert not disk.trees.ready
    disk.finish(batch, written=True)
    disk.count()
    disk.check()


def test_a_scrub_waits_as_well() -> None:
    disk = used(config=Config(scrub_s=60.0))
    disk.count()
    disk.step()
    disk.replica.write_rows({slot_of(b"key 1"): None})
    batch = disk.replica.take_batch(0.0)
    assert batch is not None
    disk.step()
    assert disk.recount.deadline() == disk.now + YIELD_S
    disk.finish(batch)
    disk.count()
    disk.check()


def test_what_is_crowded_or_unsure_is_counted_at_once() -> None:
    disk = Disk()
    for number in range(30):
        disk.put(b"key %d" % number)
    disk.commit()
    disk.step()
    assert not disk.trees.crowded
    disk.replica.write_rows({slot_of(b"key 1"): None})
    disk.commit()
    assert disk.recount.deadline() < disk.now + 1.0
    disk.step()
    disk.check()


def test_clients_go_first() -> None:
    disk = used(config=Config(batch_waiters_max=1))
    disk.put(b"a")
    disk.replica._gathering.waiters.append(lambda status, now, out: None)
    disk.recount.tick(1.0, disk.out)
    assert not disk.trees.ready
    assert disk.recount.deadline() == 1.0 + YIELD_S
    disk.commit()
    disk.recount.tick(1.0 + YIELD_S, disk.out)
    assert disk.trees.ready
    disk.put(b"a")
    disk.replica._gathering.waiters.append(lambda status, now, out: None)
    disk.recount.tick(2.0, disk.out)
    assert disk.recount.deadline() == 2.0 + YIELD_S, "a scrub as well"


@pytest.mark.parametrize("page", [8, 128])
def test_within_the_time_of_a_scrub_all_of_the_disk_is_read(
    page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recount, "PAGE_RECORDS", page)
    disk = used(100, config=Config(scrub_s=60.0))
    disk.count()
    while disk.recount.scrubbed_at is None:
        disk.step()
    disk.engine.corrupt(slot_of(b"key 7"))
    began = disk.now
    while not disk.replica.damaged:
        disk.step()
    assert disk.now - began < 2 * 60.0
    assert disk.recount.wrong == 0, "rot is not a tree that was wrong"
    assert disk.recount.scrubbed_at is not None


def test_a_disk_that_fills_up_in_the_middle_of_a_round_is_read_as_fast_as_it_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recount, "PAGE_RECORDS", 4)
    disk = used(3, config=Config(scrub_s=60.0))
    disk.replica.merge(b"\0\0\4" + bytes(24), b"beyond", disk.replica.read(slot_of(b"key 1"))[0])
    disk.commit()
    disk.count()
    while not disk.recount._after:
        disk.step()
    began = disk.now
    for number in range(2000):
        key = b"filled %d" % number
        disk.replica.merge(b"\0\0\4" + slot_of(key)[3:], key, disk.replica.read(slot_of(b"key 1"))[0])
    disk.commit()
    disk.recount.scrubbed_at = None
    while disk.recount.scrubbed_at is None:
        disk.step()
    assert disk.now - began < 2 * 60.0


def test_a_tree_that_says_something_else_than_the_disk_is_reported_and_replaced() -> None:
    disk = used()
    disk.count()
    disk.engine.write_batch({slot_of(b"key 7"): None}, {})  # a page of the index is damaged, say
    while not disk.recount.wrong:
        disk.step()
    disk.check()
    assert "something else than was written" in str(disk.out.events)


def test_the_same_damage_on_two_disks_is_not_the_same() -> None:
    disk = used()
    disk.engine.corrupt(slot_of(b"key 7"))
    disk.count()
    disk.check()
    assert slot_of(b"key 7") in disk.replica.damaged


def test_an_empty_disk_is_scrubbed_seldom() -> None:
    disk = Disk(config=Config(scrub_s=60.0))
    assert disk.recount.deadline() == -math.inf
    for due in (60.0, 120.0, 180.0):
        disk.step()
        assert disk.recount.deadline() == due


def test_it_is_about_this_disk_alone() -> None:
    disk = Disk()
    part = disk.recount
    assert part.doors() == {}
    for event in (part.link_up, part.link_down):
        event("n2", 0.0, disk.out)
    part.replan(0.0, disk.out)
    part.answer("n2", None, 0.0, disk.out)
    assert not disk.out.sends
