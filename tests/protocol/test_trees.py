"""Trees that follow what the disk has, whatever is written and whenever they are counted."""

from __future__ import annotations

from random import Random

import pytest

from dyno.causality.context import Context
from dyno.merkle.tree import CROWDED
from dyno.placement.hashing import slot_prefix
from dyno.protocol import recount
from dyno.protocol.trees import RECENT_S
from dyno.storage.cell import pack_cell
from tests.protocol.trees_harness import Disk, Life, slot_of


def test_a_new_disk_has_right_trees_from_the_first_write_on() -> None:
    disk = Disk()
    assert disk.trees.ready
    disk.put(b"a")
    assert not disk.trees.by_head, "only what is committed is in them"
    disk.commit()
    disk.check()
    disk.put(b"a")
    disk.put(b"b")
    disk.put(b"b")
    disk.commit()
    disk.check()
    assert [tree.count for tree in disk.trees.by_head.values()] == [2]


def test_what_is_written_while_the_disk_is_at_work_replaces_what_that_is_writing() -> None:
    disk = Disk()
    disk.put(b"a")
    disk.commit()
    disk.put(b"a")
    batch = disk.replica.take_batch(0.0)
    assert batch is not None
    disk.put(b"a")
    disk.finish(batch)
    disk.check()
    disk.commit()
    disk.check()


def test_a_commit_that_fails_changes_nothing() -> None:
    disk = Disk()
    disk.put(b"a")
    disk.commit()
    disk.put(b"a")
    disk.replica.take_batch(0.0)
    disk.put(b"a")
    disk.replica.commit_failed(b"another.", 0.0, disk.out)
    disk.check()


def test_a_record_that_is_gone_leaves_nothing() -> None:
    disk = Disk()
    slot = disk.put(b"a")
    disk.commit()
    context = disk.replica.delete(slot, b"a", context=Context.EMPTY.union(disk.context(slot))).before
    disk.commit()
    disk.check()
    assert disk.replica.forget(slot, context.union(disk.context(slot))) is not None
    disk.commit()
    disk.check()
    assert [tree.count for tree in disk.trees.by_head.values()] == [0]


def test_what_was_written_unread_makes_its_head_unsure_until_it_is_counted() -> None:
    disk = Disk()
    slot = disk.put(b"a")
    disk.put(b"b")
    disk.commit()
    sound = disk.replica.read(slot)[0]
    disk.engine.corrupt(slot)
    disk.replica.heal(slot, b"a", sound)
    disk.put(b"a")  # over what is healed, which is not what the disk has
    disk.commit()
    assert not disk.trees.ready
    disk.count()
    assert disk.trees.ready
    disk.check()


def test_what_is_set_aside_is_unread() -> None:
    disk = Disk()
    slot = disk.put(b"a")
    disk.commit()
    disk.replica.write_rows({slot: None})
    disk.commit()
    assert not disk.trees.ready
    disk.count()
    disk.check()


def test_a_crowded_tree_gets_deeper_and_says_the_same() -> None:
    disk = Disk()
    for number in range(CROWDED + 1):
        disk.put(b"key %d" % number)
    disk.commit()
    assert disk.trees.crowded
    assert disk.trees.ready
    disk.check()
    disk.count()
    assert [tree.depth for tree in disk.trees.by_head.values()] == [2]
    disk.check()


def test_what_was_committed_just_now_is_recent() -> None:
    disk = Disk()
    slot = disk.put(b"a")
    assert not disk.trees.is_recent(slot)
    disk.commit(5.0)
    assert disk.trees.is_recent(slot)
    other = disk.put(b"b")
    disk.commit(5.0 + RECENT_S)
    assert not disk.trees.is_recent(slot)
    disk.trees.forget_recent(5.0 + 1.5 * RECENT_S)
    assert disk.trees.is_recent(other)
    disk.trees.forget_recent(5.0 + 2 * RECENT_S)
    assert not disk.trees.is_recent(other)


@pytest.mark.parametrize("seed", range(100))
def test_whatever_is_written_while_it_is_counted(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts and removals, commits that are there before they are known, pages of a count between."""
    monkeypatch.setattr(recount, "PAGE_RECORDS", 6)
    random = Random(seed)
    disk = Disk(random=random)
    for number in range(random.choice((0, 3, 40))):
        disk.put(b"key %d" % number)
    disk.commit()
    if random.random() < 0.7:
        disk.restart()
    flying = None
    for _ in range(60):
        what = random.random()
        key = b"key %d" % random.randrange(50)
        slot = slot_of(key)
        if what < 0.4:
            disk.put(key)
        elif what < 0.45:
            disk.replica.write_rows({slot: None})
        elif what < 0.65:
            disk.step()
        elif flying is None:
            flying = disk.replica.take_batch(0.0)
            if flying is not None and random.random() < 0.5:
                disk.engine.write_batch(flying.writes, flying.meta)  # on the disk, and nobody knows
                disk.written = True
        else:
            disk.finish(flying, written=disk.written)
            flying, disk.written = None, False
    if flying is not None:
        disk.finish(flying, written=disk.written)
    disk.commit()
    disk.count()
    disk.check()


@pytest.mark.parametrize("seed", range(200))
def test_whatever_happens_to_a_disk(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes of every kind, rot, commits that fail or are there before they are known, crashes, pages of a
    count between: the trees say what the disk has, and no count finds that they had not."""
    random = Random(seed)
    monkeypatch.setattr(recount, "PAGE_RECORDS", random.choice((1, 2, 3, 6, 50)))
    life = Life(random)
    for _ in range(120):
        life.step()
    life.end()
    life.disk.check()
    assert life.disk.recount.wrong == 0


def test_a_corrupt_record_counts_as_something_that_nobody_else_has() -> None:
    disk = Disk()
    slot = disk.put(b"a")
    disk.commit()
    (sound,) = disk.on_disk().values()
    disk.engine.corrupt(slot)
    disk.restart()
    disk.count()
    disk.check()
    (tree,) = disk.trees.by_head.values()
    assert tree.count == sound.count
    assert tree.total != sound.total


def test_other_heads_are_apart() -> None:
    disk = Disk()
    other = slot_prefix(b"bucket..", 9, 5) + bytes(16)
    disk.put(b"a")
    disk.engine.write_batch({other: pack_cell(b"k", b"", b"record")}, {})
    disk.restart()
    disk.count()
    disk.check()
    assert len(disk.trees.by_head) == 1, "the put was not on the disk"
