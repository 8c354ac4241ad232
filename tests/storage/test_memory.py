"""What only the engine in memory can do: break on command, and be copied as a disk."""

from __future__ import annotations

import pytest

from dyno.storage.checksum import CHECKSUM_BYTES
from dyno.storage.engine import KEY_END, CorruptRecord, StorageBroken, StorageFull
from dyno.storage.memory import MemoryEngine


def test_a_failing_commit_leaves_nothing_and_breaks_every_later_one() -> None:
    engine = MemoryEngine()
    engine.write_batch({b"a": b"1"}, {"name": b"old"})
    engine.failing = True
    for _ in range(2):
        with pytest.raises(StorageBroken, match="input/output error"):
            engine.write_batch({b"a": b"2"}, {"name": b"new"})
    assert engine.get(b"a") == b"1"
    assert engine.get_meta("name") == b"old"
    assert engine.commit_number == 1


def test_after_a_crash_the_disk_is_neither_failing_nor_full() -> None:
    engine = MemoryEngine()
    engine.write_batch({b"b": b"2", b"a": b"1"}, {"seat": b"s"})
    engine.failing = engine.full = True
    restarted = engine.copy()
    assert restarted.write_batch({b"c": b"3"}, {}) == 2
    assert restarted.scan(b"", KEY_END, limit=9) == ([(b"a", b"1"), (b"b", b"2"), (b"c", b"3")], None)
    assert restarted.get_meta("seat") == b"s"


def test_a_copy_is_an_old_disk_that_knows_an_older_commit() -> None:
    engine = MemoryEngine()
    engine.write_batch({b"a": b"1"}, {})
    backup = engine.copy()
    engine.write_batch({b"a": b"2", b"b": b"2"}, {"seat": b"s"})
    assert (backup.commit_number, backup.get(b"a"), backup.get(b"b")) == (1, b"1", None)
    assert backup.get_meta("seat") is None
    assert backup.scan(b"", KEY_END, limit=9) == ([(b"a", b"1")], None)


@pytest.mark.parametrize("byte", [0, CHECKSUM_BYTES - 1, CHECKSUM_BYTES, -1])
def test_a_bit_may_flip_in_the_checksum_or_in_the_value(byte: int) -> None:
    engine = MemoryEngine()
    engine.write_batch({b"a": b"value"}, {})
    engine.corrupt(b"a", byte=byte)
    with pytest.raises(CorruptRecord):
        engine.get(b"a")
    with pytest.raises(CorruptRecord):
        engine.copy().get(b"a")


def test_an_empty_value_may_be_corrupted_too() -> None:
    engine = MemoryEngine()
    engine.write_batch({b"a": b""}, {})
    engine.corrupt(b"a")
    with pytest.raises(CorruptRecord):
        engine.get(b"a")


def test_what_is_not_there_cannot_be_corrupted() -> None:
    with pytest.raises(KeyError):
        MemoryEngine().corrupt(b"a")


def test_a_full_engine_says_so_before_it_changes_anything() -> None:
    engine = MemoryEngine()
    engine.full = True
    with pytest.raises(StorageFull):
        engine.write_batch({b"a": b"1"}, {})
    assert engine.empty()
