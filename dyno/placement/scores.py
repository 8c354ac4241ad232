"""The rendezvous scores: how much each partition prefers each seat, the lower the more.

In: seat ids, weights, the number of partitions. Out: per seat, one integer per partition. A seat's scores
depend on its own id and weight alone, so other seats that come and go do not disturb them.

Weighted rendezvous hashing (Thaler and Ravishankar 1998; -ln(u)/weight as in Schindelhauer and Schomaker
2005) draws an independent variate u for every pair. Here a seat's draws are *stratified*: its hashes only
order the partitions, and the partition of rank r gets a u out of [r, r+1)/partitions. Every seat then has as
many low scores as any other, which takes two thirds of the variance out of the loads of three copies before
any cap has to (docs/design/placement.md). Only operations that IEEE 754 defines to the last bit are used, and
scores are integers, so every node computes the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, repeat
from math import frexp
from struct import unpack
from typing import Final

import mmh3

_DRAW_BITS: Final = 16  # of a hash: where in its stratum a score lies
_DRAW_MASK: Final = (1 << _DRAW_BITS) - 1
_UNIT: Final = 1 << 32  # what 1.0 of the unit exponential is as an integer
_WEIGHT_UNIT: Final = 1 << 64


def scores(ids: Sequence[bytes], weights: Sequence[float], partitions: int, *, seed: int) -> list[list[int]]:
    """Per seat, its score at each partition. weights: positive, finite; seed: 32 bits.

    Scores compare within one call only: where all weights are equal, mere ranks do, and order the same way.
    """
    strata = _strata(partitions) if min(weights) < max(weights) else None
    lists = []
    for seat_id, weight in zip(ids, weights, strict=True):
        hashes = _hashes(seed.to_bytes(4, "big") + seat_id, partitions)
        by_rank = sorted(range(partitions), key=hashes.__getitem__)
        own = [0] * partitions
        if strata is None:
            for rank, partition in enumerate(by_rank):
                own[partition] = rank << _DRAW_BITS | hashes[partition] & _DRAW_MASK
        else:
            slowness = round(_WEIGHT_UNIT / weight)
            for (low, width), partition in zip(strata, by_rank, strict=True):
                own[partition] = (low + width * (hashes[partition] & _DRAW_MASK)) * slowness
        lists.append(own)
    return lists


def _hashes(key: bytes, count: int) -> tuple[int, ...]:
    """`count` 64-bit hashes of `key`, two out of each call."""
    calls = (count + 1) // 2
    digests = b"".join(map(mmh3.mmh3_x64_128_digest, repeat(key), range(calls)))
    return unpack(f"<{2 * calls}Q", digests)[:count]


def _strata(partitions: int) -> list[tuple[int, int]]:
    """Per rank, where its part of the unit exponential begins, and how much of it one draw step covers."""
    edges = [round(-_log(1 - rank / partitions) * _UNIT) for rank in range(partitions)]
    edges.append(edges[-1] + 2 * _UNIT)  # the last one has no end; twice its mean serves as well
    return [(low << _DRAW_BITS, high - low) for low, high in pairwise(edges)]


def _log(x: float) -> float:
    """The natural logarithm of x > 0 within 1e-7, the same on every platform (libm's is not)."""
    mantissa, exponent = frexp(x)
    if mantissa < 0.7071067811865476:
        mantissa, exponent = mantissa * 2, exponent - 1
    z = (mantissa - 1) / (mantissa + 1)
    zz = z * z
    series = 1 + zz * (1 / 3 + zz * (1 / 5 + zz * (1 / 7 + zz / 9)))
    return exponent * 0.6931471805599453 + 2 * z * series
