"""The data directory of a node: held by one process, of a known format, opened sound or not at all.

In: a path and the engine's bounds. Out: a `DataDirectory` with an open engine, or a ConfigurationError whose
text says what is wrong and names the directory. It holds

    lock        flock'ed for as long as the node runs; the holder's process id is in it
    format      one line: the format version; "unfinished" in it while the directory is being born
    data.mdb    LMDB's records; lock.mdb is LMDB's own

Birth is made of durable steps: the unfinished format, the data file, the finished format. A process killed
between them leaves a directory that the next start completes; only an unfinished directory is ever cleared.
LMDB maps its file and dies of SIGBUS where the file is cut short, so its size is compared with what its meta
page claims before LMDB sees it.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import lmdb
from lmdb.verify import VerifyError, verify

from dyno.errors import ConfigurationError
from dyno.storage.engine import CorruptRecord, StorageFull
from dyno.storage.lmdb.engine import DATA_FILE, LMDB_LOCK_FILE, LmdbEngine, free_bytes_of

FORMAT_VERSION = 1

_LOCK_FILE = "lock"
_FORMAT_FILE = "format"
_FORMAT_DRAFT = "format.new"
# What a directory without a format may hold: the first steps of a birth, and what a new file system has.
_BEFORE_FORMAT = frozenset((_LOCK_FILE, _FORMAT_DRAFT, "lost+found"))

_FORMAT_LINE = re.compile(r"dyno data directory, format (\d{1,9})(, unfinished)?\n")

# LMDB 0.9's meta page on 64 bits: the page's flags; magic, version, page size, last page, transaction.
_META = struct.Struct("=10xH4x II16xI44x48xQQ")
_META_FLAG = 0x08
_MAGIC = 0xBEEFC0DE
_LMDB_FORMAT = 1
# Pages that a transaction took and gave back may lie, never written, past the end of a sound file. There are
# few of them; more than this missing is damage, without looking at every page.
_UNWRITTEN_BYTES_MAX = 16 << 20


@dataclass(slots=True)
class DataDirectory:
    """path: as it was given. engine: open. `close` ends the engine, then lets go of the directory."""

    path: str
    engine: LmdbEngine
    _lock: int | None

    def close(self) -> None:
        self.engine.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def open_directory(
    path: str, *, size_max: int, reserve_bytes: int, free_bytes: Callable[[], int] | None = None
) -> DataDirectory:
    """Opens the data directory, or gives birth to it where there is none or an empty one.

    size_max, reserve_bytes, free_bytes: see LmdbEngine. Raises ConfigurationError."""
    directory = Path(path)
    with _explained(directory):
        _make(directory)
        _refuse_foreign(directory)
        lock = _hold(directory)
        try:
            born = _is_born(directory)
            if born:
                _check_data_file(directory)
            else:
                _begin_birth(directory)
            _require_room(directory, reserve_bytes, free_bytes or free_bytes_of(directory))
            engine = LmdbEngine(path, size_max=size_max, reserve_bytes=reserve_bytes, free_bytes=free_bytes)
            if not born:
                _finish_birth(directory)
        except BaseException:
            os.close(lock)
            raise
    return DataDirectory(path, engine, lock)


@contextmanager
def _explained(directory: Path) -> Iterator[None]:
    """Whatever goes wrong inside leaves as a ConfigurationError that names the directory."""
    try:
        yield
    except OSError as error:
        raise _refusal(directory, f"cannot be used: {error.strerror}") from error
    except StorageFull as error:
        raise _refusal(directory, f"cannot be used: {error}") from error
    except CorruptRecord as error:
        raise _refusal(directory, "is damaged: its commit number does not match its checksum") from error
    except (lmdb.Error, VerifyError) as error:
        raise _refusal(directory, f"cannot be opened: {error}") from error


def _refusal(directory: Path, reason: str) -> ConfigurationError:
    return ConfigurationError(f"data directory {directory} {reason}")


# ── the directory and its lock ──


def _make(directory: Path) -> None:
    if directory.exists() and not directory.is_dir():
        raise _refusal(directory, "is not a directory")
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for path in missing:
        _sync_directory(path.parent)


def _refuse_foreign(directory: Path) -> None:
    """Before anything is written there: a wrong path must not sow files into somebody's directory."""
    if (directory / _FORMAT_FILE).exists():
        return
    foreign = sorted(entry.name for entry in directory.iterdir() if entry.name not in _BEFORE_FORMAT)
    if foreign:
        raise _refusal(
            directory, f"is not a dyno data directory (it holds {foreign[0]!r}); choose an empty one"
        )


def _hold(directory: Path) -> int:
    """Locks the directory against other processes and other nodes of this one; returns the descriptor."""
    lock = os.open(directory / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(lock, 32).decode("ascii", "replace").strip()
        os.close(lock)
        raise _refusal(directory, f"is in use by another node (pid {holder or 'unknown'})") from None
    except OSError:
        os.close(lock)
        raise
    with suppress(OSError):  # only for the other's error text; a node starts on a full disk too
        os.ftruncate(lock, 0)
        os.pwrite(lock, b"%d\n" % os.getpid(), 0)
    return lock


# ── the format and birth ──


def _is_born(directory: Path) -> bool:
    """False for a directory that is new or whose birth did not end. Refuses formats that are not ours."""
    try:
        with (directory / _FORMAT_FILE).open("rb") as file:
            text = file.read(256).decode("ascii", "replace")
    except FileNotFoundError:
        return False
    line = _FORMAT_LINE.fullmatch(text)
    if line is None:
        raise _refusal(
            directory, f"has no known format: it says {text!r}, this dyno reads format {FORMAT_VERSION}"
        )
    if int(line[1]) != FORMAT_VERSION:
        raise _refusal(directory, f"has format {line[1]}, this dyno reads format {FORMAT_VERSION}")
    return line[2] is None


def _begin_birth(directory: Path) -> None:
    """Nothing was ever acknowledged from an unfinished directory: its data file is worthless."""
    _write_format(directory, unfinished=True)
    (directory / DATA_FILE).unlink(missing_ok=True)
    (directory / LMDB_LOCK_FILE).unlink(missing_ok=True)


def _finish_birth(directory: Path) -> None:
    _sync_directory(directory)  # the data file's name, before the format vouches for it
    _write_format(directory, unfinished=False)


def _write_format(directory: Path, *, unfinished: bool) -> None:
    draft = directory / _FORMAT_DRAFT
    with draft.open("w", encoding="ascii") as file:
        suffix = ", unfinished" if unfinished else ""
        file.write(f"dyno data directory, format {FORMAT_VERSION}{suffix}\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(directory / _FORMAT_FILE)
    _sync_directory(directory)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ── LMDB's files ──


def _require_room(directory: Path, reserve_bytes: int, free_bytes: Callable[[], int]) -> None:
    """LMDB maps its lock file writable: making it on a disk that cannot hold it ends in SIGBUS."""
    if not (directory / LMDB_LOCK_FILE).exists():
        free = free_bytes()
        if free < reserve_bytes:
            raise StorageFull(f"{free} bytes of the disk are free, {reserve_bytes} are kept in reserve")


def _check_data_file(directory: Path) -> None:
    """LMDB takes an empty file for a new one, and touches whatever page its meta page speaks of."""
    data = directory / DATA_FILE
    if not data.exists():
        raise _refusal(directory, f"is damaged: {DATA_FILE} is missing")
    with data.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        claimed = _claimed_bytes(file.fileno())
    if claimed is None:
        raise _refusal(directory, f"is damaged: {DATA_FILE} does not begin as an LMDB file does")
    if size >= claimed:
        return
    missing = claimed - size
    if missing > _UNWRITTEN_BYTES_MAX or verify(str(data), subdir=False):  # type: ignore[no-untyped-call]
        raise _refusal(directory, f"is damaged: {DATA_FILE} is cut short, {missing} bytes are missing")
    os.truncate(data, claimed)  # sound: lengthened, so that the next start need not look at every page


def _claimed_bytes(descriptor: int) -> int | None:
    """How long the file must be to hold every page that the newest meta page counts; None if it has none."""
    newest = (-1, 0)
    at = 0
    for _ in range(2):
        head = os.pread(descriptor, _META.size, at)
        if len(head) < _META.size:
            return None
        flags, magic, version, page_bytes, last_page, transaction = _META.unpack(head)
        if not flags & _META_FLAG or magic != _MAGIC or version != _LMDB_FORMAT:
            return None
        newest = max(newest, (transaction, (last_page + 1) * page_bytes))
        at = page_bytes
    return newest[1]
