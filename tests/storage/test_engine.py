"""What every storage engine holds. One suite, run over each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dyno.storage.checksum import CHECKSUM_BYTES
from dyno.storage.engine import KEY_BYTES_MAX, KEY_END, SCAN_BYTES_MAX, CorruptRecord, Engine, StorageFull
from dyno.storage.lmdb.engine import DATA_FILE, LmdbEngine
from dyno.storage.memory import MemoryEngine


class MemoryDisk:
    """A disk in memory, and an engine on it."""

    def __init__(self) -> None:
        self.engine = MemoryEngine()

    def reopen(self) -> Engine:
        self.engine = self.engine.copy()
        return self.engine

    def corrupt(self, key: bytes, value: bytes) -> None:
        self.engine.corrupt(key)

    def fill(self, full: bool) -> None:
        self.engine.full = full


class LmdbDisk:
    """A directory, and an engine on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.free = 1 << 40
        self.engine = self._open()

    def reopen(self) -> Engine:
        self.engine.close()
        self.engine = self._open()
        return self.engine

    def corrupt(self, key: bytes, value: bytes) -> None:
        """Flips a bit of the value where it lies in the file."""
        data = bytearray((self.path / DATA_FILE).read_bytes())
        at = data.find(value)
        while at >= 0:  # older pages may still hold it, too
            data[at] ^= 1
            with (self.path / DATA_FILE).open("r+b") as file:
                file.seek(at)
                file.write(data[at : at + 1])
            at = data.find(value, at)

    def fill(self, full: bool) -> None:
        self.free = 0 if full else 1 << 40

    def _open(self) -> LmdbEngine:
        return LmdbEngine(
            str(self.path), size_max=1 << 30, reserve_bytes=1 << 20, free_bytes=lambda: self.free
        )


Disk = MemoryDisk | LmdbDisk


@pytest.fixture(params=["memory", "lmdb"])
def new_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Disk]]:
    made: list[Disk] = []

    def make() -> Disk:
        made.append(MemoryDisk() if request.param == "memory" else LmdbDisk(tmp_path / str(len(made))))
        return made[-1]

    yield make
    for disk in made:
        disk.engine.close()


@pytest.fixture
def disk(new_disk: Callable[[], Disk]) -> Disk:
    return new_disk()


@pytest.fixture
def engine(disk: Disk) -> Engine:
    return disk.engine


def everything(engine: Engine, *, limit: int = 1000) -> dict[bytes, bytes | None]:
    """All records by scanning page after page; asserts that they come in order and once."""
    found: list[tuple[bytes, bytes | None]] = []
    start: bytes | None = b""
    while start is not None:
        items, start = engine.scan(start, KEY_END, limit=limit)
        assert len(items) <= limit
        assert items or start is None
        found += items
    keys = [key for key, _ in found]
    assert keys == sorted(set(keys))
    return dict(found)


# ── reading and writing ──


def test_a_new_engine_is_empty(engine: Engine) -> None:
    assert engine.empty()
    assert engine.commit_number == 0
    assert engine.get(b"key") is None
    assert engine.get_meta("name") is None
    assert engine.scan(b"", KEY_END, limit=10) == ([], None)


def test_what_was_written_is_read(engine: Engine) -> None:
    engine.write_batch({b"b": b"2", b"a": b"1", b"empty": b""}, {})
    assert (engine.get(b"a"), engine.get(b"b"), engine.get(b"empty")) == (b"1", b"2", b"")
    assert engine.get(b"c") is None
    assert not engine.empty()


def test_a_later_batch_overwrites(engine: Engine) -> None:
    engine.write_batch({b"a": b"1" * 10_000}, {})
    engine.write_batch({b"a": b"2"}, {})
    assert engine.get(b"a") == b"2"


def test_none_deletes(engine: Engine) -> None:
    engine.write_batch({b"a": b"1", b"b": b"2", b"c": b"3"}, {})
    engine.write_batch({b"a": None, b"never there": None, b"c": b"4"}, {})
    assert engine.get(b"a") is None
    assert everything(engine) == {b"b": b"2", b"c": b"4"}
    engine.write_batch({b"b": None, b"c": None}, {})
    assert engine.empty()


def test_many_are_read_in_the_order_asked(engine: Engine) -> None:
    engine.write_batch({b"a": b"1", b"b": b"2", b"empty": b""}, {})
    keys = [b"b", b"missing", b"a", b"empty", b"b"]
    assert engine.get_many(keys, bytes_max=1000) == [b"2", None, b"1", b"", b"2"]
    assert engine.get_many([], bytes_max=1000) == []
    assert engine.get_many([b"missing"], bytes_max=1) == [None]


def test_many_end_early_once_they_are_so_many_bytes(engine: Engine) -> None:
    engine.write_batch({b"a": bytes(10), b"b": bytes(10), b"c": bytes(10)}, {})
    keys = [b"a", b"missing", b"b", b"c"]
    assert len(engine.get_many(keys, bytes_max=30)) == 4
    assert engine.get_many(keys, bytes_max=20) == [bytes(10), None, bytes(10)]
    assert engine.get_many(keys, bytes_max=11) == [bytes(10), None, bytes(10)]
    assert engine.get_many(keys, bytes_max=10) == [bytes(10)]
    assert engine.get_many(keys, bytes_max=1) == [bytes(10)], "one at least, however large"


def test_many_are_committed_states_alone(engine: Engine) -> None:
    engine.write_batch({b"a": b"1", b"b": b"1"}, {})
    engine.write_batch({b"a": None, b"b": b"2"}, {})
    assert engine.get_many([b"a", b"b"], bytes_max=1000) == [None, b"2"]


def test_a_corrupt_one_among_many_is_reported(disk: Disk) -> None:
    disk.engine.write_batch({b"a": b"a value", b"b": b"to be found", b"c": b"another"}, {})
    disk.corrupt(b"b", b"to be found")
    engine = disk.reopen()
    with pytest.raises(CorruptRecord) as caught:
        engine.get_many([b"a", b"b", b"c"], bytes_max=1000)
    assert caught.value.key == b"b"
    assert engine.get_many([b"a", b"c"], bytes_max=1000) == [b"a value", b"another"]
    assert engine.get_many([b"a", b"b"], bytes_max=1) == [b"a value"], "it was not looked at"


@pytest.mark.parametrize("size", [0, 1, 1024, 4096, 100_000, 8 << 20])
def test_values_of_every_size_come_back(engine: Engine, size: int) -> None:
    value = bytes(range(256)) * (size // 256 + 1)
    engine.write_batch({b"key": value[:size]}, {})
    assert engine.get(b"key") == value[:size]


def test_keys_of_1_and_511_bytes_pass_and_others_are_refused_before_anything_is_written(
    engine: Engine,
) -> None:
    longest = b"k" * KEY_BYTES_MAX
    engine.write_batch({b"\0": b"short", b"\xff" * KEY_BYTES_MAX: b"last", longest: b"long"}, {})
    assert (engine.get(b"\0"), engine.get(longest)) == (b"short", b"long")
    for bad in (b"", b"k" * (KEY_BYTES_MAX + 1)):
        with pytest.raises(ValueError, match=f"not {len(bad)}$"):
            engine.write_batch({b"good": b"1", bad: b"2"}, {"name": b"fact"})
    assert engine.get(b"good") is None
    assert engine.get_meta("name") is None
    assert engine.commit_number == 1
    assert list(everything(engine)) == [b"\0", longest, b"\xff" * KEY_BYTES_MAX]


# ── commits and facts ──


def test_every_commit_counts_one_even_an_empty_one(engine: Engine) -> None:
    assert engine.write_batch({b"a": b"1"}, {}) == 1
    assert engine.write_batch({}, {"name": b"fact"}) == 2
    assert engine.write_batch({}, {}) == 3
    assert engine.commit_number == 3


def test_facts_are_kept_beside_the_records(engine: Engine) -> None:
    engine.write_batch({}, {"seat": b"123", "directory": b""})
    engine.write_batch({}, {"seat": b"456"})
    assert engine.get_meta("seat") == b"456"
    assert engine.get_meta("directory") == b""
    assert engine.empty()
    assert engine.get(b"seat") is None
    assert everything(engine) == {}


def test_all_of_it_is_there_after_reopening(disk: Disk) -> None:
    disk.engine.write_batch({b"a": b"1", b"b": b"2"}, {"seat": b"123"})
    disk.engine.write_batch({b"b": None}, {})
    engine = disk.reopen()
    assert engine.commit_number == 2
    assert engine.get_meta("seat") == b"123"
    assert everything(engine) == {b"a": b"1"}
    assert engine.write_batch({b"c": b"3"}, {}) == 3


# ── scanning ──


def test_a_scan_starts_at_its_start_and_stops_before_its_end(engine: Engine) -> None:
    engine.write_batch({bytes([n]): bytes([n]) for n in range(10)}, {})
    items, further = engine.scan(b"\x03", b"\x06", limit=100)
    assert items == [(b"\x03", b"\x03"), (b"\x04", b"\x04"), (b"\x05", b"\x05")]
    assert further is None
    assert engine.scan(b"\x03", b"\x03", limit=100) == ([], None)
    assert engine.scan(b"\x06", b"\x03", limit=100) == ([], None)
    assert engine.scan(b"\x0a", KEY_END, limit=100) == ([], None)


def test_a_page_that_ends_where_the_records_end_is_the_last(engine: Engine) -> None:
    engine.write_batch({b"a": b"1", b"b": b"2", b"c": b"3"}, {})
    items, further = engine.scan(b"", KEY_END, limit=2)
    assert [key for key, _ in items] == [b"a", b"b"]
    assert further is not None
    assert engine.scan(further, KEY_END, limit=1) == ([(b"c", b"3")], None)
    assert engine.scan(b"b", KEY_END, limit=2) == ([(b"b", b"2"), (b"c", b"3")], None)


def test_a_scan_goes_on_where_it_was_although_the_records_change(engine: Engine) -> None:
    engine.write_batch({b"a": b"1", b"c": b"3", b"e": b"5"}, {})
    _, further = engine.scan(b"", KEY_END, limit=1)
    assert further is not None
    engine.write_batch({b"a": None, b"b": b"before", b"c": None, b"d": b"4"}, {})
    items, further = engine.scan(further, KEY_END, limit=10)
    assert items[-2:] == [(b"d", b"4"), (b"e", b"5")]
    assert further is None


def test_a_scan_does_not_hold_more_than_its_bytes(engine: Engine) -> None:
    value = b"v" * (SCAN_BYTES_MAX // 4)
    engine.write_batch({bytes([n]): value for n in range(10)}, {})
    items, further = engine.scan(b"", KEY_END, limit=100)
    assert len(items) == 4
    assert further == b"\x04"
    assert len(everything(engine)) == 10


def test_a_record_larger_than_a_page_of_a_scan_is_a_page(engine: Engine) -> None:
    engine.write_batch({b"a": b"v" * (SCAN_BYTES_MAX + 1), b"b": b"2"}, {})
    items, further = engine.scan(b"", KEY_END, limit=100)
    assert [key for key, _ in items] == [b"a"]
    assert further == b"b"


# ── damage and lack of room ──


def test_a_corrupt_record_is_neither_a_value_nor_absent(disk: Disk) -> None:
    value = b"a value that is found in the file"
    engine = disk.engine
    engine.write_batch({b"a": b"1", b"b": value, b"c": b"3"}, {})
    disk.corrupt(b"b", value)
    with pytest.raises(CorruptRecord, match=b"b".hex()) as raised:
        engine.get(b"b")
    assert raised.value.key == b"b"
    assert engine.get(b"a") == b"1"
    assert everything(engine) == {b"a": b"1", b"b": None, b"c": b"3"}
    assert not engine.empty()


def test_a_corrupt_record_stays_so_over_a_restart_and_is_healed_by_a_write(disk: Disk) -> None:
    value = b"a value that is found in the file"
    disk.engine.write_batch({b"b": value}, {})
    disk.corrupt(b"b", value)
    engine = disk.reopen()
    with pytest.raises(CorruptRecord):
        engine.get(b"b")
    engine.write_batch({b"b": value}, {})
    assert engine.get(b"b") == value


def test_a_full_disk_refuses_writes_serves_reads_and_recovers(disk: Disk) -> None:
    engine = disk.engine
    engine.write_batch({b"a": b"1"}, {"name": b"old"})
    disk.fill(True)
    for _ in range(2):
        with pytest.raises(StorageFull, match="room"):
            engine.write_batch({b"a": b"2", b"b": b"2"}, {"name": b"new"})
    assert engine.get(b"a") == b"1"
    assert engine.get(b"b") is None
    assert engine.get_meta("name") == b"old"
    assert everything(engine) == {b"a": b"1"}
    assert engine.commit_number == 1
    disk.fill(False)
    assert engine.write_batch({b"a": b"2"}, {}) == 2
    assert engine.get(b"a") == b"2"


# ── against a model ──

KEYS = st.binary(min_size=1, max_size=2)
BATCHES = st.lists(
    st.dictionaries(KEYS, st.none() | st.binary(max_size=CHECKSUM_BYTES + 2), max_size=8), max_size=8
)


@given(batches=BATCHES, start=KEYS, end=KEYS, limit=st.integers(1, 5))
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_behaves_as_a_sorted_dictionary(
    new_disk: Callable[[], Disk],
    batches: list[dict[bytes, bytes | None]],
    start: bytes,
    end: bytes,
    limit: int,
) -> None:
    disk = new_disk()
    model: dict[bytes, bytes] = {}
    for count, batch in enumerate(batches, start=1):
        assert disk.engine.write_batch(batch, {}) == count
        for key, value in batch.items():
            if value is None:
                model.pop(key, None)
            else:
                model[key] = value
        assert everything(disk.engine, limit=limit) == model
        assert disk.engine.empty() == (not model)
    found, _ = disk.engine.scan(start, end, limit=1000)
    assert found == [(key, model[key]) for key in sorted(model) if start <= key < end]
    assert everything(disk.reopen(), limit=limit) == model
    disk.engine.close()
