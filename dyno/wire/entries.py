"""What a replica has of a stretch of one (partition, n), as it is told in a `Compared`: slots and digests.

An entry is a slot and 8 bytes: BLAKE2b of the record, or DAMAGED for one that is corrupt. Entries are in the
order of their slots. In: such entries. Out: one field, and back; whatever no replica would send ends in
ProtocolError.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from dyno.wire.flat import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping

DIGEST_BYTES: Final = 8
DAMAGED: Final = bytes(DIGEST_BYTES)

_SLOT_BYTES = 27
_ENTRY_BYTES = _SLOT_BYTES + DIGEST_BYTES
_STRETCH_BYTES = 16


def digest_of(record: bytes) -> bytes:
    return blake2b(record, digest_size=DIGEST_BYTES).digest()


def digest_of_stretch(entries: Mapping[bytes, bytes]) -> bytes:
    """entries: digests by slot, in their order."""
    return blake2b(pack_slots(entries), digest_size=_STRETCH_BYTES).digest() if entries else NOTHING


NOTHING: Final = blake2b(digest_size=_STRETCH_BYTES).digest()  # of a stretch that is empty


def pack_slots(entries: Mapping[bytes, bytes]) -> bytes:
    return b"".join([slot + digest for slot, digest in entries.items()])


def unpack_slots(packed: bytes, *, head: bytes, after: bytes, end: bytes) -> dict[bytes, bytes]:
    """Digests by slot. head: what all slots begin with; they lie behind `after` up to and with `end`, b"" for
    no bound. Raises ProtocolError."""
    if len(packed) % _ENTRY_BYTES:
        raise ProtocolError("entries of a stretch are cut short")
    entries: dict[bytes, bytes] = {}
    last = after
    for at in range(0, len(packed), _ENTRY_BYTES):
        slot = packed[at : at + _SLOT_BYTES]
        if slot <= last or not slot.startswith(head) or (end and slot > end):
            raise ProtocolError("an entry lies outside of its stretch, or out of order")
        entries[slot] = packed[at + _SLOT_BYTES : at + _ENTRY_BYTES]
        last = slot
    return entries
