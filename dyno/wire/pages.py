"""Pages of keys, packed into one bytes field of a message: rows, as in `wire.rows`, or b"" for none.

Two kinds. What a replica has of a stretch travels as *entries*, in the order of their hashes: the 16-byte
hash of the key, its state, and the key. A state is one byte that says whether there is a live value, followed
by a digest of the record, so that equal states mean equal records. What clients are told is keys alone.

Out of a stranger's bytes comes exactly what was described here, or `ProtocolError`. A page holds at most
PAGE_KEYS_MAX of either, so its memory is bounded by that times the length of a key.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from mmh3 import mmh3_x64_128_digest

from dyno.config import KEY_BYTES_MAX
from dyno.wire import rows
from dyno.wire.flat import ProtocolError

PAGE_KEYS_MAX: Final = 256
HASH_BYTES: Final = 16  # of a key, as its slot has it

DEAD: Final = 0  # a tombstone
LIVE: Final = 1
UNREADABLE: Final = 2  # damaged on the disk, so not even its key is known

_DIGEST_BYTES = 8  # nobody gains by making two records of his own key look alike
_STATE_BYTES = 1 + _DIGEST_BYTES
_HEAD_BYTES = HASH_BYTES + _STATE_BYTES
_UNREADABLE_STATE = bytes([UNREADABLE]) + bytes(_DIGEST_BYTES)


def is_page(after: bytes, limit: int) -> bool:
    """Whether a page may be asked for behind this cursor and of so many keys."""
    return len(after) in (0, HASH_BYTES) and limit >= 1


class Entry(NamedTuple):
    """hash: of the key. state: the kind (DEAD, LIVE, UNREADABLE) and a digest. key: b"" when unreadable."""

    hash: bytes
    state: bytes
    key: bytes


def entry(hash: bytes, key: bytes, record: bytes, *, live: bool) -> Entry:
    """The entry of a record that could be read."""
    kind = b"\x01" if live else b"\x00"
    return Entry(hash, kind + mmh3_x64_128_digest(record)[:_DIGEST_BYTES], key)


def unreadable(hash: bytes) -> Entry:
    """The entry of a record that is damaged."""
    return Entry(hash, _UNREADABLE_STATE, b"")


def pack_entries(entries: Iterable[Entry]) -> bytes:
    fields: list[bytes] = []
    for hash, state, key in entries:
        fields += (hash + state, key)
    return _pack(fields)


def unpack_entries(packed: bytes, *, after: bytes, end: bytes) -> list[Entry]:
    """What `pack_entries` packed. Raises ProtocolError unless these are the entries of a page that begins
    behind the hash `after` and is complete up to `end` (b"": to the end of the stretch)."""
    fields = _unpack(packed, items_max=2 * PAGE_KEYS_MAX)
    if len(fields) % 2:
        raise ProtocolError("an entry was cut short")
    entries: list[Entry] = []
    last = after
    for head, key in zip(fields[::2], fields[1::2], strict=True):
        hash, state = head[:HASH_BYTES], head[HASH_BYTES:]
        if len(head) != _HEAD_BYTES or state[0] > UNREADABLE:
            raise ProtocolError("an entry has no state that is known")
        if hash <= last:
            raise ProtocolError("entries are not in the order of their hashes, or before the page")
        if not (key or state[0] == UNREADABLE) or len(key) > KEY_BYTES_MAX:
            raise ProtocolError(f"an entry with a key of {len(key)} bytes")
        last = hash
        entries.append(Entry(hash, state, key))
    if end and (len(end) != HASH_BYTES or end < last or end <= after):
        raise ProtocolError("a page does not end where it says")
    return entries


def pack_keys(keys: Sequence[bytes]) -> bytes:
    return _pack(keys)


def unpack_keys(packed: bytes) -> list[bytes]:
    """What `pack_keys` packed. Raises ProtocolError for anything else."""
    keys = _unpack(packed, items_max=PAGE_KEYS_MAX)
    for key in keys:
        if not 1 <= len(key) <= KEY_BYTES_MAX:
            raise ProtocolError(f"a key of {len(key)} bytes")
    return keys


def _pack(items: Sequence[bytes]) -> bytes:
    return rows.pack_row(items) if items else b""


def _unpack(packed: bytes, *, items_max: int) -> list[bytes]:
    return rows.unpack_keys(packed, items_max=items_max) if packed else []
