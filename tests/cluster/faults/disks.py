"""What lies on the disks of stopped nodes.

In: the data directories, and the keys in question. Out: the packed record of each on each disk, and what is
there besides that should be gone by the end of a trial.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dyno.placement.hashing import bucket_id, slot_bucket
from dyno.protocol.rows import HINTS, is_row, rows_of
from dyno.simulator.history import Key
from dyno.storage.cell import unpack_cell
from dyno.storage.engine import KEY_END
from dyno.storage.lmdb.directory import open_directory

_PAGE = 1000
_SIZE_MAX = 1 << 38


class Found(NamedTuple):
    """copies: of every key the packed record on each node's disk, b"" for none. left: sentences about what
    should not be there."""

    copies: dict[Key, dict[str, bytes]]
    left: list[str]


def look(directories: Mapping[str, Path], keys: Sequence[Key]) -> Found:
    """directories: by the names of their nodes, none of which runs."""
    copies = {key: dict.fromkeys(directories, b"") for key in keys}
    key_of = {(bucket_id(key.bucket), key.key.encode()): key for key in keys}
    left: list[str] = []
    for name, path in directories.items():
        directory = open_directory(str(path), size_max=_SIZE_MAX, reserve_bytes=1)
        try:
            engine = directory.engine
            start: bytes | None = b"\0"
            while start is not None:
                cells, start = engine.scan(start, KEY_END, limit=_PAGE)
                for slot, cell in cells:
                    if is_row(slot):
                        continue
                    if cell is None:
                        left.append(f"a record on {name} is corrupt: {slot.hex()}")
                        continue
                    key, _, record = unpack_cell(cell)
                    known = key_of.get((slot_bucket(slot), key))
                    if known is not None:
                        copies[known][name] = record
            hints, _ = engine.scan(*rows_of(HINTS), limit=_PAGE)
            if hints:
                left.append(f"{name} still keeps {len(hints)} hints")
        finally:
            directory.close()
    return Found(copies, left)
