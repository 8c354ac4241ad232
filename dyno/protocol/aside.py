"""Rows for records that are set aside: kept, and never to come back by themselves (`rows.ASIDE`).

In: a slot and a cell, what is aside there already. Out: a row that has all of both, or a second one where the
two do not fit together; and whether what is aside adds any value to a record.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from dyno.causality.context import Malformed
from dyno.causality.record import DotConflict, Record
from dyno.protocol.group_commit import Refusal
from dyno.protocol.rows import ASIDE
from dyno.storage.cell import pack_cell, record_of, unpack_cell

if TYPE_CHECKING:
    from dyno.protocol.replica import Replica

_DIGEST_BYTES: Final = 8


def adds_nothing(aside: bytes, present: bytes) -> bool:
    """Whether a record has no value that is not in another, or covered by it. In doubt it adds something."""
    try:
        other, record = Record.unpack(aside), Record.unpack(present) if present else Record.EMPTY
        return _writes(record.merge(other)) == _writes(record)
    except (Malformed, DotConflict):
        return False


def _writes(record: Record) -> set[bytes]:
    """By their requests: one that was done again may be there under two dots."""
    return {sibling.request for sibling in record.siblings}


def row_aside(replica: Replica, slot: bytes, cell: bytes) -> tuple[bytes, bytes]:
    """The row for a cell that is set aside, merged with what is aside there already; beside it, where the two
    do not fit together, or that one is damaged."""
    row = ASIDE + slot
    key, _, record = unpack_cell(cell)
    try:
        there = replica.row(row)
        if there is None or there == cell:
            return row, cell
        merged = Record.unpack(record_of(there)).merge(Record.unpack(record))
    except (Refusal, Malformed, DotConflict):
        return row + blake2b(cell, digest_size=_DIGEST_BYTES).digest(), cell
    return row, pack_cell(key, b"", merged.pack())
