"""Values to write: of one size, all different, not to be compressed, and cheap to make.

A value is a piece of a pool of random bytes, followed by a count, so making one costs little more than
copying it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

_POOL_BYTES = 64 << 10  # beyond the size of a value: as many different pieces
_COUNT_BYTES = 8


class Payload:
    """size: bytes of every value, at least one. Values below 8 bytes repeat once their counts do."""

    __slots__ = ("_count", "_piece_bytes", "_pool", "_random", "_size")

    def __init__(self, random: Random, size: int) -> None:
        assert size > 0, "an empty value is the same every time"
        self._random = random.random
        self._size = size
        self._piece_bytes = max(0, size - _COUNT_BYTES)
        self._pool = random.randbytes(self._piece_bytes + _POOL_BYTES)
        self._count = 0

    def next(self) -> bytes:
        self._count += 1
        at = int(self._random() * _POOL_BYTES)
        value = self._pool[at : at + self._piece_bytes] + self._count.to_bytes(_COUNT_BYTES, "big")
        return value[-self._size :]
