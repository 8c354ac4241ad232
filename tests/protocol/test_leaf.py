"""What the disk has below a node of a tree."""

from __future__ import annotations

import pytest

from dyno.merkle.places import PLACE_BITS, place_of
from dyno.placement.hashing import Keyspace, bucket_id
from dyno.protocol import leaf
from dyno.protocol.leaf import Room, read_leaf
from dyno.storage.cell import pack_cell
from dyno.wire.trees import Node
from tests.protocol.trees_harness import Disk

HEAD = b"\0\0\3"
DEPTH = 3


def filled(buckets: int, keys: int) -> tuple[Disk, list[bytes]]:
    disk, space = Disk(), Keyspace(b"cluster.", 1)
    slots = [space.slot(bucket_id(f"b{b}"), b"key %d" % k, 3) for b in range(buckets) for k in range(keys)]
    disk.engine.write_batch({slot: pack_cell(b"key", b"", b"a record, perhaps") for slot in slots}, {})
    disk.engine.write_batch({b"\0\0\4" + bytes(24): pack_cell(b"key", b"", b"elsewhere")}, {})
    return disk, sorted(slots)


@pytest.mark.parametrize("buckets", [1, 2, 30])
def test_all_leaves_together_are_everything_and_each_has_its_own(buckets: int) -> None:
    disk, slots = filled(buckets, 40)
    found: list[bytes] = []
    for number in range(1 << DEPTH):
        here = read_leaf(disk.replica, Node(HEAD, DEPTH, number), Room())
        assert here is not None
        assert list(here.elements) == sorted(here.elements)
        assert all(place_of(slot) >> PLACE_BITS - DEPTH == number for slot in here.elements)
        found += here.elements
    assert sorted(found) == slots


def test_a_corrupt_record_is_reported_and_has_no_element() -> None:
    disk, slots = filled(1, 5)
    disk.engine.corrupt(slots[2])
    here = read_leaf(disk.replica, Node(HEAD, 0, 0), Room())
    assert here is not None
    assert here.damaged
    assert list(here.elements) == slots[:2] + slots[3:]
    assert list(disk.replica.damaged) == [slots[2]]


def test_too_much_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    disk, _ = filled(3, 5)
    assert read_leaf(disk.replica, Node(HEAD, 0, 0), Room()) is not None
    monkeypatch.setattr(leaf, "KEYS_MAX", 14)
    assert read_leaf(disk.replica, Node(HEAD, 0, 0), Room()) is None
    monkeypatch.setattr(leaf, "KEYS_MAX", 100)
    monkeypatch.setattr(leaf, "BUCKETS_MAX", 2)
    assert read_leaf(disk.replica, Node(HEAD, 1, 0), Room()) is None
    monkeypatch.setattr(leaf, "BUCKETS_MAX", 100)
    assert all(read_leaf(disk.replica, Node(HEAD, 1, number), Room()) is not None for number in (0, 1))
    monkeypatch.setattr(leaf, "KEYS_MAX", 7)
    assert any(read_leaf(disk.replica, Node(HEAD, 1, number), Room()) is None for number in (0, 1))


def test_so_many_bytes_are_read_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    disk, slots = filled(1, 5)
    monkeypatch.setattr(leaf, "BYTES_MAX", 6 * len(b"a record, perhaps"))
    room = Room()
    here = read_leaf(disk.replica, Node(HEAD, 0, 0), room)
    assert here is not None
    assert list(here.elements) == slots
    assert read_leaf(disk.replica, Node(HEAD, 0, 0), room) is None
    assert room.left < 0
    disk.engine.corrupt(slots[0])
    assert read_leaf(disk.replica, Node(HEAD, 0, 0), room) is None
    assert not disk.replica.damaged, "nothing is read any more"
