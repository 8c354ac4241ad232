"""What is to be reaped, as it travels: entries by slot, under the number of a round.

    u64 big endian: number of the round ‖ for each slot: slot ‖ u32 bytes of the packed context ‖ context

In: bytes of a peer. Out: contexts by slot, in the order of the slots. Raises ValueError for what no `pack`
made for that (partition, n).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from dyno.causality.context import Context
from dyno.placement.hashing import SLOT_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

SLOTS_MAX: Final = 256  # of one round
NUMBER_MAX: Final = 1 << 62  # a peer's nonsense must leave room above it

_NUMBER: Final = struct.Struct(">Q")
_SLOT: Final = struct.Struct(f">{SLOT_BYTES}sI")


def pack_candidates(number: int, entries: Mapping[bytes, Context]) -> bytes:
    """entries: by slot, in their order."""
    parts = [_NUMBER.pack(number)]
    for slot, context in entries.items():
        packed = context.pack()
        parts += [_SLOT.pack(slot, len(packed)), packed]
    return b"".join(parts)


def unpack_candidates(data: bytes, *, head: bytes) -> tuple[int, dict[bytes, Context]]:
    """(number, entries by slot). head: what all slots begin with."""
    if len(data) < _NUMBER.size:
        raise ValueError("candidates without a number")
    (number,) = _NUMBER.unpack_from(data)
    if number > NUMBER_MAX:
        raise ValueError(f"there is no round {number}")
    entries: dict[bytes, Context] = {}
    last = b""
    at = _NUMBER.size
    while at < len(data):
        if at + _SLOT.size > len(data) or len(entries) >= SLOTS_MAX:
            raise ValueError("candidates that were cut short, or are too many")
        slot, size = _SLOT.unpack_from(data, at)
        at += _SLOT.size
        if slot <= last or not slot.startswith(head) or at + size > len(data):
            raise ValueError("candidates that are not sorted, of another partition, or cut short")
        entries[slot] = Context.unpack(data[at : at + size])
        at += size
        last = slot
    return number, entries
