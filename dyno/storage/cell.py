"""What a node keeps under a slot: the full key, its own note, and the replicated record.

A slot is a hash of the key, so the key itself has to be kept beside the record. The note is this node's
memory of the last dot that it minted for the key (24 bytes, `causality.mint`), or empty; it is not
replicated.

    u16 big endian: length of the key, plus 0x8000 when there is a note ‖ key ‖ note ‖ record

The record and the note are opaque here. What cannot have come from `pack_cell` raises ValueError.
"""

from __future__ import annotations

from dyno.config import KEY_BYTES_MAX

NOTE_BYTES = 24

_NOTED = 0x8000
_NOTED_BYTE = _NOTED >> 8
_HEAD_BYTES = 2


def pack_cell(key: bytes, note: bytes, record: bytes) -> bytes:
    """key: 1..1024 bytes. note: 24 bytes or none. record: any. Raises ValueError for other lengths."""
    head = len(key)
    if not 0 < head <= KEY_BYTES_MAX:
        raise ValueError(f"a key has 1 to {KEY_BYTES_MAX} bytes, not {head}")
    if note:
        if len(note) != NOTE_BYTES:
            raise ValueError(f"a note has {NOTE_BYTES} bytes, not {len(note)}")
        head |= _NOTED
    return head.to_bytes(_HEAD_BYTES, "big") + key + note + record


def unpack_cell(cell: bytes) -> tuple[bytes, bytes, bytes]:
    """(key, note, record), as they were packed. Raises ValueError."""
    record_at = _record_at(cell)
    note_at = record_at - NOTE_BYTES if cell[0] & _NOTED_BYTE else record_at
    return cell[_HEAD_BYTES:note_at], cell[note_at:record_at], cell[record_at:]


def record_of(cell: bytes) -> bytes:
    """The record alone. Raises ValueError."""
    return cell[_record_at(cell) :]


def _record_at(cell: bytes) -> int:
    if len(cell) > _HEAD_BYTES:
        high = cell[0]  # byte by byte: half the price of a slice, and every read comes through here
        length = (high & ~_NOTED_BYTE) << 8 | cell[1]
        at = _HEAD_BYTES + NOTE_BYTES + length if high & _NOTED_BYTE else _HEAD_BYTES + length
        if 0 < length <= KEY_BYTES_MAX and len(cell) >= at:
            return at
    raise ValueError(f"not a cell: {cell[:16].hex()} ({len(cell)} bytes)")
