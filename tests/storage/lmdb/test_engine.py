"""What only LMDB can do to a node: real full disks, damaged files, a second thread, time."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from random import Random

import lmdb
import pytest

from dyno.storage.engine import KEY_END, CorruptRecord, StorageBroken, StorageFull
from dyno.storage.lmdb.engine import DATA_FILE, SCAN_HOLD_S, LmdbEngine, free_bytes_of

PLENTY = 1 << 40


def an_engine(path: Path, *, size_max: int = 1 << 32, reserve_bytes: int = 0, **more: object) -> LmdbEngine:
    return LmdbEngine(str(path), size_max=size_max, reserve_bytes=reserve_bytes, **more)  # type: ignore[arg-type]


def flip(file: Path, at: int) -> None:
    with file.open("r+b") as data:
        data.seek(at)
        byte = data.read(1)[0]
        data.seek(at)
        data.write(bytes([byte ^ 0x10]))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LmdbEngine]:
    engine = an_engine(tmp_path / "data")
    yield engine
    engine.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    path = tmp_path / "small"
    path.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    mounted = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=4m", "tmpfs", path], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)  # a failed test may hold its engine


def fill(disk: Path, *, but_bytes: int = 0) -> Path:
    """Takes all that is free on the disk, but for some bytes; deleting the file gives it back."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    os.truncate(filler, filler.stat().st_size - but_bytes)
    return filler


# ── full disks ──


def test_a_full_disk_is_noticed_before_a_batch_and_writing_goes_on_when_there_is_room(
    small_disk: Path,
) -> None:
    engine = an_engine(small_disk / "data", reserve_bytes=256 << 10)
    engine.write_batch({b"a": b"1"}, {})
    filler = fill(small_disk)
    for _ in range(3):
        with pytest.raises(
            StorageFull, match=r"no room in .*: \d+ bytes of the disk are free, the batch may"
        ):
            engine.write_batch({b"a": b"2", b"b": b"v" * 5000}, {})
    assert engine.get(b"a") == b"1"
    assert engine.scan(b"", KEY_END, limit=10) == ([(b"a", b"1")], None)
    filler.unlink()
    assert engine.write_batch({b"a": b"2"}, {}) == 2
    assert engine.get(b"a") == b"2"
    engine.close()


@pytest.mark.parametrize("but_bytes", [0, 4 * 4096])  # nothing is written, or a part
def test_a_disk_that_fills_up_between_the_question_and_the_commit_is_full_not_broken(
    small_disk: Path, but_bytes: int
) -> None:
    answers: list[int] = []
    free = free_bytes_of(small_disk)
    engine = an_engine(small_disk / "data", free_bytes=lambda: answers.pop() if answers else free())
    engine.write_batch({b"a": b"1"}, {})
    filler = fill(small_disk, but_bytes=but_bytes)
    answers = [PLENTY]
    with pytest.raises(StorageFull, match="no room"):
        engine.write_batch({b"b": b"v" * 50_000}, {})
    assert engine.get(b"a") == b"1"
    assert engine.get(b"b") is None
    filler.unlink()
    assert engine.write_batch({b"b": b"v" * 50_000}, {}) == 2
    engine.close()
    reopened = an_engine(small_disk / "data")
    assert (reopened.commit_number, reopened.get(b"b")) == (2, b"v" * 50_000)
    reopened.close()


def test_a_commit_that_fails_with_room_left_is_the_last(small_disk: Path) -> None:
    engine = an_engine(small_disk / "data", free_bytes=lambda: PLENTY)
    engine.write_batch({b"a": b"1"}, {"name": b"old"})
    filler = fill(small_disk, but_bytes=4 * 4096)  # then a write is cut short, which shows as EIO
    with pytest.raises(StorageBroken, match=r"failed with room left: .*Input/output error"):
        engine.write_batch({b"a": b"v" * 50_000}, {"name": b"new"})
    filler.unlink()
    with pytest.raises(StorageBroken, match="failed with room left"):
        engine.write_batch({b"a": b"2"}, {})
    assert engine.get(b"a") == b"1"
    engine.close()
    reopened = an_engine(small_disk / "data")
    assert (reopened.commit_number, reopened.get_meta("name")) == (1, b"old")
    assert reopened.write_batch({b"a": b"2"}, {}) == 2
    reopened.close()


def test_a_full_disk_is_opened_for_reading_without_a_write(small_disk: Path) -> None:
    engine = an_engine(small_disk / "data")
    engine.write_batch({b"a": b"1"}, {})
    engine.close()
    fill(small_disk)
    engine = an_engine(small_disk / "data")
    assert engine.get(b"a") == b"1"
    with pytest.raises(StorageFull):
        engine.write_batch({b"a": b"2"}, {})
    engine.close()


def test_a_file_of_its_largest_size_is_full_and_may_get_a_larger_one_later(tmp_path: Path) -> None:
    engine = an_engine(tmp_path, size_max=1 << 20)
    with pytest.raises(StorageFull, match="largest size"):
        for number in count():
            engine.write_batch({number.to_bytes(4, "big"): b"v" * 50_000}, {})
    held = engine.commit_number
    assert engine.get((held - 1).to_bytes(4, "big")) == b"v" * 50_000
    assert engine.get(held.to_bytes(4, "big")) is None
    engine.close()
    engine = an_engine(tmp_path, size_max=2 << 20)
    assert engine.write_batch({b"one more": b"v" * 50_000}, {}) == held + 1
    engine.close()


def test_a_file_that_may_not_grow_is_full(engine: LmdbEngine, tmp_path: Path) -> None:
    engine.write_batch({b"a": b"1"}, {})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (tmp_path / "data" / DATA_FILE).stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        with pytest.raises(StorageFull, match="File too large"):
            engine.write_batch({b"a": b"v" * 50_000}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert engine.get(b"a") == b"1"
    assert engine.write_batch({b"a": b"v" * 50_000}, {}) == 2


def test_a_read_only_file_system_refuses_batches(small_disk: Path) -> None:
    assert 0 < free_bytes_of(small_disk)() <= 4 << 20
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(StorageFull, match=f"^{small_disk} is on a read-only file system$"):
        free_bytes_of(small_disk)()


def test_a_directory_that_was_taken_away_breaks_the_engine(engine: LmdbEngine, tmp_path: Path) -> None:
    engine.write_batch({b"a": b"1"}, {})
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    with pytest.raises(StorageBroken, match="cannot be asked for its free space: No such file"):
        engine.write_batch({b"a": b"2"}, {})
    (tmp_path / "elsewhere").rename(tmp_path / "data")
    with pytest.raises(StorageBroken, match="cannot be asked"):
        engine.write_batch({b"a": b"2"}, {})


# ── damage ──


def test_flipped_bits_never_give_another_value(engine: LmdbEngine, tmp_path: Path) -> None:
    random = Random(5)
    values = {b"key %d" % n: random.randbytes(random.choice([40, 900, 9000])) for n in range(50)}
    engine.write_batch(dict(values), {})
    file = tmp_path / "data" / DATA_FILE
    data = file.read_bytes()
    damaged = set(random.sample(sorted(values), 20))
    for key in damaged:
        value = values[key]
        offset = random.randrange(-8, len(value))  # before the value lies its checksum
        at = data.find(value)
        while at >= 0:  # pages that were split hold it twice
            flip(file, at + offset)
            at = data.find(value, at + 1)
    for key, value in values.items():
        if key in damaged:
            with pytest.raises(CorruptRecord):
                engine.get(key)
        else:
            assert engine.get(key) == value
    items, _ = engine.scan(b"", KEY_END, limit=1000)
    assert {key for key, value in items if value is None} == damaged


def test_a_damaged_fact_is_reported(engine: LmdbEngine, tmp_path: Path) -> None:
    engine.write_batch({}, {"seat": b"sixteen bytes..."})
    file = tmp_path / "data" / DATA_FILE
    flip(file, file.read_bytes().rindex(b"sixteen bytes..."))
    with pytest.raises(CorruptRecord) as raised:
        engine.get_meta("seat")
    assert raised.value.key == b"seat"


def test_a_damaged_commit_number_is_found_at_opening(tmp_path: Path) -> None:
    engine = an_engine(tmp_path)
    engine.write_batch({}, {})
    engine.close()
    file = tmp_path / DATA_FILE
    data = file.read_bytes()
    at = data.find(b"commit number")
    while at >= 0:
        flip(file, at + len(b"commit number"))
        at = data.find(b"commit number", at + 1)
    with pytest.raises(CorruptRecord):
        an_engine(tmp_path)
    # The failed opening let go of the files.
    lmdb.open(str(tmp_path), max_dbs=2).close()


def test_a_page_that_is_none_is_a_corrupt_record_and_breaks_what_needs_it_whole(
    engine: LmdbEngine, tmp_path: Path
) -> None:
    engine.write_batch({b"only": b"a value to be found"}, {"fact": b"a fact to be found"})
    assert engine.get(b"only") == b"a value to be found"
    file = tmp_path / "data" / DATA_FILE
    for found in (b"a value to be found", b"a fact to be found"):
        page = file.read_bytes().rindex(found) // 4096
        with file.open("r+b") as data:
            data.seek(page * 4096)
            data.write(bytes(4096))
    with pytest.raises(CorruptRecord):
        engine.get(b"only")
    with pytest.raises(CorruptRecord) as caught:
        engine.get_many([b"only"], bytes_max=1000)
    assert caught.value.key == b"only"
    with pytest.raises(CorruptRecord):
        engine.get_meta("fact")
    with pytest.raises(StorageBroken, match="cannot be read in order"):
        engine.scan(b"", KEY_END, limit=10)
    with pytest.raises(StorageBroken, match="failed"):
        engine.write_batch({b"only": b"another"}, {})


def test_a_closed_engine_is_no_corrupt_record(engine: LmdbEngine) -> None:
    engine.close()
    with pytest.raises(StorageBroken, match="reading failed"):
        engine.get(b"a")
    with pytest.raises(StorageBroken, match="reading failed"):
        engine.get_many([b"a"], bytes_max=1000)
    with pytest.raises(StorageBroken, match="reading failed"):
        engine.get_meta("name")
    with pytest.raises(StorageBroken, match="nothing can be read any more"):
        engine.write_batch({b"a": b"1"}, {})


# ── time and threads ──


def test_a_scan_lets_go_of_its_transaction_in_time(tmp_path: Path) -> None:
    now = count(0, SCAN_HOLD_S / 4)
    engine = an_engine(tmp_path, clock=lambda: next(now))
    engine.write_batch({bytes([n]): b"v" for n in range(20)}, {})
    keys: list[bytes] = []
    start: bytes | None = b""
    pages = 0
    while start is not None:
        items, start = engine.scan(start, KEY_END, limit=1000)
        keys += [key for key, _ in items]
        pages += 1
    assert keys == [bytes([n]) for n in range(20)]
    assert 3 < pages < 8
    engine.close()


def test_a_scan_makes_headway_however_slow_the_disk(tmp_path: Path) -> None:
    now = count(0, 10 * SCAN_HOLD_S)
    engine = an_engine(tmp_path, clock=lambda: next(now))
    engine.write_batch({b"a": b"1", b"b": b"2"}, {})
    assert engine.scan(b"", KEY_END, limit=1000) == ([(b"a", b"1")], b"b")
    assert engine.scan(b"b", KEY_END, limit=1000) == ([(b"b", b"2")], None)
    engine.close()


def test_a_reader_beside_the_writing_thread_sees_whole_batches_only(engine: LmdbEngine) -> None:
    failures: list[BaseException] = []

    def write() -> None:
        try:
            for number in range(100):
                value = number.to_bytes(4, "big")
                engine.write_batch({b"left": value, b"right" * 50: value}, {"fact": value})
        except BaseException as error:  # noqa: BLE001 - shown by the reading thread
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    seen = b""
    while writer.is_alive():
        items, _ = engine.scan(b"", KEY_END, limit=10)
        values = {value for _, value in items}
        assert len(values) <= 1
        for value in values:
            assert value is not None
            assert value >= seen
            seen = value
        assert (engine.get(b"left") or b"") >= seen
    writer.join()
    assert not failures
    assert engine.commit_number == 100


def test_old_pages_are_used_again(engine: LmdbEngine, tmp_path: Path) -> None:
    for number in range(300):
        engine.write_batch({b"key": bytes([number % 256]) * 10_000}, {})
        engine.get(b"key")
        engine.scan(b"", KEY_END, limit=1)
    assert (tmp_path / "data" / DATA_FILE).stat().st_size < 40 * 4096


def test_the_default_clock_and_free_space_are_the_machines(tmp_path: Path) -> None:
    engine = LmdbEngine(str(tmp_path), size_max=1 << 32, reserve_bytes=0)
    assert engine.write_batch({b"a": b"1"}, {}) == 1
    assert engine.scan(b"", KEY_END, limit=1) == ([(b"a", b"1")], None)
    engine.close()
