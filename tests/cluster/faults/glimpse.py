"""What lies on the disk of a node that runs, and how to damage it on the disk of one that does not.

In: a data directory. Out: records by slot, as the last commit left them. LMDB lets other processes read
beside the node, which notices nothing of it; so this is no read of the store, and repairs nothing. One
process looks into one directory once at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import lmdb

from dyno.placement.hashing import BUCKET_IN_SLOT, SLOT_BYTES, bucket_id, slot_bucket
from dyno.protocol.rows import is_row
from dyno.storage.cell import unpack_cell
from dyno.storage.checksum import unseal

CORRUPT: Final = b""
DATA_FILE: Final = "data.mdb"
_SIZE_MAX: Final = 1 << 38


class Glimpse:
    """Open until `close`."""

    def __init__(self, directory: Path) -> None:
        self._env = lmdb.open(
            str(directory),
            map_size=_SIZE_MAX,
            max_dbs=2,
            readonly=True,
            create=False,
            readahead=False,
            lib_version=0,
        )
        self._records = self._env.open_db(b"records", create=False)

    def record(self, slot: bytes) -> bytes | None:
        """Packed; None where there is none, CORRUPT for one that is."""
        with self._env.begin(self._records) as txn:
            sealed = txn.get(slot)
        return None if sealed is None else _record(slot, sealed)

    def records(self, *buckets: str) -> dict[bytes, bytes]:
        """All of these buckets by slot; CORRUPT for those that are."""
        return {slot: _record(slot, sealed) for slot, sealed in self.sealed(*buckets)}

    def keys(self, bucket: str) -> dict[bytes, bytes]:
        """Of all sound records of a bucket, by slot."""
        cells = {slot: unseal(slot, sealed) for slot, sealed in self.sealed(bucket)}
        return {slot: unpack_cell(cell)[0] for slot, cell in cells.items() if cell}

    def sealed(self, *buckets: str) -> Iterator[tuple[bytes, bytes]]:
        """All of these buckets, of any without names, by slot: with its checksum, sound or not."""
        ids = dict.fromkeys(map(bucket_id, buckets))
        with self._env.begin(self._records) as txn, txn.cursor() as cursor:
            for slot, sealed in cursor.iternext():
                if not is_row(slot) and (not ids or slot_bucket(slot) in ids):
                    yield slot, sealed

    def close(self) -> None:
        self._env.close()


@contextmanager
def glimpses(directories: Sequence[Path]) -> Iterator[list[Glimpse]]:
    with ExitStack() as stack:
        opened = []
        for directory in directories:
            one = Glimpse(directory)
            stack.callback(one.close)
            opened.append(one)
        yield opened


def rot(directory: Path, *buckets: str, share: int) -> list[bytes]:
    """Flip a bit in one of so many records of these buckets, of any without names, on the disk of a node that
    does not run. Their slots. Where LMDB gave pages back there may be older copies; they rot with them."""
    with glimpses([directory]) as (disk,):
        cells = dict(list(disk.sealed(*buckets))[::share])
    file = directory / DATA_FILE
    content = bytearray(file.read_bytes())
    found: dict[bytes, bool] = {}
    buckets_met = dict.fromkeys(map(slot_bucket, cells))
    for met in re.finditer(b"|".join(map(re.escape, buckets_met)), content) if cells else ():
        begin = met.start() - BUCKET_IN_SLOT
        slot = bytes(content[begin : begin + SLOT_BYTES])
        sealed, at = cells.get(slot, b""), begin + SLOT_BYTES
        if sealed and content.startswith(sealed, at):
            content[at + len(sealed) - 1] ^= 1
            found[slot] = True
    assert len(found) == len(cells), "LMDB keeps a value that is no page long right behind its key"
    file.write_bytes(content)
    return list(cells)


def _record(slot: bytes, sealed: bytes) -> bytes:
    cell = unseal(slot, sealed)
    return CORRUPT if cell is None else unpack_cell(cell)[2]
