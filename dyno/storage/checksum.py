"""The checksum under which every engine keeps a value: 8 bytes in front of it.

`seal` makes what is stored, `unseal` gives the value back or None when the bytes are not what was sealed
under that key. The hash is MurmurHash3 x64-128 cut to 64 bits, seeded with the CRC-32 of the key, so that a
sound value under a wrong key is found as well: damage passes once in 2^64, a misplaced value once in 2^32.
It guards against rot and misdirected writes, not against a forger.

Measured for 1 KiB: 0.3 µs, and 0.2 µs for slicing; two CRCs take 0.9 µs, BLAKE2b 1.8 µs. Seeding instead of
hashing key and value in one piece saves a copy of the value, which counts from 100 KB on.
"""

from __future__ import annotations

from zlib import crc32

from mmh3 import mmh3_x64_128_digest

CHECKSUM_BYTES = 8


def seal(key: bytes, value: bytes) -> bytes:
    """The bytes to store for `value` under `key`."""
    return mmh3_x64_128_digest(value, crc32(key))[:CHECKSUM_BYTES] + value


def unseal(key: bytes, sealed: bytes) -> bytes | None:
    """The value, or None when `sealed` is damaged, cut short or belongs to another key."""
    value = sealed[CHECKSUM_BYTES:]
    if sealed.startswith(mmh3_x64_128_digest(value, crc32(key))[:CHECKSUM_BYTES]):
        return value
    return None
