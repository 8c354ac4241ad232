"""A data directory is one node's, of a known format, and sound; or the start ends with a clear sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest
from lmdb.verify import verify

from dyno.errors import ConfigurationError
from dyno.storage.engine import StorageFull
from dyno.storage.lmdb.directory import FORMAT_VERSION, DataDirectory, open_directory
from dyno.storage.lmdb.engine import DATA_FILE, LMDB_LOCK_FILE

COMMIT_NUMBER = b"commit number"
ROOT = Path(__file__).parents[3]
WRITER = Path(__file__).with_name("writer.py")


def opened(path: Path, *, reserve_bytes: int = 0, free: int = 1 << 40) -> DataDirectory:
    return open_directory(str(path), size_max=1 << 32, reserve_bytes=reserve_bytes, free_bytes=lambda: free)


def a_used_one(path: Path) -> Path:
    """A closed data directory of one commit with 100 records."""
    directory = opened(path)
    directory.engine.write_batch({b"key %03d" % n: b"v" * 1000 for n in range(100)}, {})
    directory.close()
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ConfigurationError) as raised:
        opened(path)
    text = str(raised.value)
    assert text.startswith(f"data directory {path} ")
    assert "\n" not in text
    return text.removeprefix(f"data directory {path} ")


# ── birth ──


def test_a_directory_is_born_with_its_parents_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "not" / "there" / "yet"
    directory = opened(path)
    assert directory.path == str(path)
    assert directory.engine.commit_number == 0
    directory.engine.write_batch({b"a": b"1"}, {"seat": b"s"})
    directory.close()
    assert (path / "format").read_text() == f"dyno data directory, format {FORMAT_VERSION}\n"
    directory = opened(path)
    assert directory.engine.commit_number == 1
    assert directory.engine.get_meta("seat") == b"s"
    directory.close()


def test_a_relative_path_is_born_where_the_process_is(tmp_path: Path) -> None:
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        opened(Path("data")).close()
        assert (tmp_path / "data" / "format").exists()
    finally:
        os.chdir(before)


def test_the_root_of_a_new_file_system_counts_as_empty(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    opened(tmp_path).close()


def test_a_birth_that_did_not_get_to_its_format_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("123\n")
    (tmp_path / "format.new").write_text("dyno da")
    opened(tmp_path).close()
    assert not (tmp_path / "format.new").exists()


@pytest.mark.parametrize("data", [b"", b"half a page", os.urandom(20_000)])
def test_a_birth_that_did_not_end_begins_anew_whatever_it_left(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "format").write_text(f"dyno data directory, format {FORMAT_VERSION}, unfinished\n")
    (tmp_path / DATA_FILE).write_bytes(data)
    (tmp_path / LMDB_LOCK_FILE).write_bytes(data)
    directory = opened(tmp_path)
    assert directory.engine.write_batch({b"a": b"1"}, {}) == 1
    directory.close()
    directory = opened(tmp_path)
    assert directory.engine.get(b"a") == b"1"
    directory.close()


def test_there_is_no_birth_on_a_disk_without_room(tmp_path: Path) -> None:
    path = tmp_path / "data"
    with pytest.raises(ConfigurationError, match="10 bytes of the disk are free, 1000 are kept in reserve"):
        opened(path, reserve_bytes=1000, free=10)
    opened(path, reserve_bytes=1000, free=1000).close()


def test_a_born_directory_is_opened_on_a_disk_without_room(tmp_path: Path) -> None:
    a_used_one(tmp_path)
    directory = opened(tmp_path, reserve_bytes=1000, free=10)
    assert directory.engine.get(b"key 007") == b"v" * 1000
    with pytest.raises(StorageFull):
        directory.engine.write_batch({b"a": b"1"}, {})
    directory.close()


# ── one node only ──


def test_a_second_node_of_the_same_process_is_refused(tmp_path: Path) -> None:
    directory = opened(tmp_path)
    assert refusal(tmp_path) == f"is in use by another node (pid {os.getpid()})"
    directory.engine.write_batch({b"a": b"1"}, {})
    directory.close()
    directory.close()
    again = opened(tmp_path)
    assert again.engine.get(b"a") == b"1"
    again.close()


def test_a_node_of_another_process_is_refused_while_that_lives(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    with subprocess.Popen(
        [sys.executable, WRITER, tmp_path, "1000000"], stdout=subprocess.PIPE, env=environment, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert refusal(tmp_path) == f"is in use by another node (pid {process.pid})"
        process.kill()
    directory = opened(tmp_path)
    assert not directory.engine.empty() or directory.engine.commit_number == 0
    directory.close()


def test_a_refused_start_lets_go_of_the_lock(tmp_path: Path) -> None:
    a_used_one(tmp_path)
    sound = (tmp_path / DATA_FILE).read_bytes()
    (tmp_path / DATA_FILE).write_bytes(b"")
    refusal(tmp_path)
    (tmp_path / DATA_FILE).write_bytes(sound)
    opened(tmp_path).close()


# ── wrong paths ──


def test_somebody_elses_directory_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("all of it")
    assert refusal(tmp_path) == "is not a dyno data directory (it holds 'thesis.tex'); choose an empty one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_records_without_a_format_are_never_taken_for_an_unfinished_birth(tmp_path: Path) -> None:
    a_used_one(tmp_path)
    size = (tmp_path / DATA_FILE).stat().st_size
    (tmp_path / "format").unlink()
    assert refusal(tmp_path).startswith("is not a dyno data directory (it holds 'data.mdb')")
    assert (tmp_path / DATA_FILE).stat().st_size == size


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    assert refusal(tmp_path / "file") == "is not a directory"
    assert refusal(tmp_path / "file" / "below") == "cannot be used: Not a directory"


def test_a_place_where_nothing_may_be_made_is_refused() -> None:
    assert refusal(Path("/proc/dyno-data")).startswith("cannot be used: ")


def test_a_lock_file_that_cannot_be_locked_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    assert refusal(tmp_path) == "cannot be used: Is a directory"


def test_a_map_larger_than_the_address_space_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot be opened: .*Cannot allocate memory"):
        open_directory(str(tmp_path), size_max=1 << 60, reserve_bytes=0)
    opened(tmp_path).close()


# ── formats ──


def test_a_format_of_another_version_is_refused_with_both_versions(tmp_path: Path) -> None:
    a_used_one(tmp_path)
    (tmp_path / "format").write_text("dyno data directory, format 7\n")
    assert refusal(tmp_path) == f"has format 7, this dyno reads format {FORMAT_VERSION}"


@pytest.mark.parametrize(
    "content", [b"", b"\xff\x00\xfe", b"dyno data directory, format one\n", b"7" * 10_000]
)
def test_a_format_that_cannot_be_read_is_refused_with_what_it_says(tmp_path: Path, content: bytes) -> None:
    a_used_one(tmp_path)
    (tmp_path / "format").write_bytes(content)
    text = refusal(tmp_path)
    assert text.startswith("has no known format: it says '")
    assert text.endswith(f"this dyno reads format {FORMAT_VERSION}")
    assert len(text) < 500


# ── damaged files ──


def test_a_missing_data_file_is_no_new_directory(tmp_path: Path) -> None:
    a_used_one(tmp_path)
    (tmp_path / DATA_FILE).unlink()
    assert refusal(tmp_path) == "is damaged: data.mdb is missing"


@pytest.mark.parametrize("length", [0, 1, 100, 4096, 4100])
def test_a_data_file_cut_into_its_first_pages_is_refused(tmp_path: Path, length: int) -> None:
    os.truncate(a_used_one(tmp_path) / DATA_FILE, length)
    assert refusal(tmp_path) == "is damaged: data.mdb does not begin as an LMDB file does"


@pytest.mark.parametrize("at", [0, 4096])
def test_a_data_file_with_a_foreign_first_page_is_refused(tmp_path: Path, at: int) -> None:
    data = bytearray((a_used_one(tmp_path) / DATA_FILE).read_bytes())
    data[at : at + 4096] = os.urandom(4096)
    (tmp_path / DATA_FILE).write_bytes(data)
    assert refusal(tmp_path) == "is damaged: data.mdb does not begin as an LMDB file does"


def test_a_data_file_of_a_later_lmdb_is_refused(tmp_path: Path) -> None:
    (a_used_one(tmp_path) / DATA_FILE).unlink()
    lmdb.open(str(tmp_path), lib_version=1).close()
    assert refusal(tmp_path) == "is damaged: data.mdb does not begin as an LMDB file does"


@pytest.mark.parametrize("pages", [2, 3, 20, -1])
def test_a_data_file_cut_short_is_refused_instead_of_killing_the_process(tmp_path: Path, pages: int) -> None:
    data = a_used_one(tmp_path) / DATA_FILE
    size = data.stat().st_size
    cut = pages * 4096 % size
    os.truncate(data, cut)
    assert refusal(tmp_path) == f"is damaged: data.mdb is cut short, {size - cut} bytes are missing"


def test_a_data_file_with_much_missing_is_refused_without_looking_at_every_page(tmp_path: Path) -> None:
    directory = opened(tmp_path)
    for key in (b"a", b"b", b"c"):
        directory.engine.write_batch({key: bytes(8 << 20)}, {})
    directory.close()
    os.truncate(tmp_path / DATA_FILE, 1 << 20)
    assert refusal(tmp_path).startswith("is damaged: data.mdb is cut short, 24")


def test_a_sound_file_whose_last_pages_were_never_written_is_opened(tmp_path: Path) -> None:
    """LMDB leaves such files when a transaction gives back what it took at the end; here we cut one."""
    directory = opened(tmp_path)
    directory.engine.write_batch({b"large": bytes(1 << 20)}, {})
    directory.engine.write_batch({b"a": b"1", b"large": None}, {})
    for number in range(5):
        directory.engine.write_batch({b"a": b"%d" % number}, {})
    directory.close()
    data = tmp_path / DATA_FILE
    size = length = data.stat().st_size
    while not verify(str(data), subdir=False):  # type: ignore[no-untyped-call]
        sound = data.read_bytes()
        length -= 4096
        os.truncate(data, length)
    assert len(sound) < size
    assert refusal(tmp_path) == f"is damaged: data.mdb is cut short, {size - length} bytes are missing"
    data.write_bytes(sound)
    directory = opened(tmp_path)
    assert directory.engine.get(b"a") == b"4"
    directory.close()
    assert data.stat().st_size == size


@pytest.mark.parametrize("damage", [0, len(COMMIT_NUMBER) + 1])
def test_a_damaged_commit_number_is_no_new_directory(tmp_path: Path, damage: int) -> None:
    data = a_used_one(tmp_path) / DATA_FILE
    content = bytearray(data.read_bytes())
    at = content.find(COMMIT_NUMBER)
    while at >= 0:
        content[at + damage] ^= 1
        at = content.find(COMMIT_NUMBER, at + 1)
    data.write_bytes(content)
    assert refusal(tmp_path) == "is damaged: its commit number does not match its checksum"
