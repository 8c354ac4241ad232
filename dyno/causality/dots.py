"""The name of one write: a dot.

A dot is the n-th write of an actor. An actor is one process start together with an epoch of it, so that a
process which lost state, in memory or on disk, can always go on under a name that nobody used before
(`causality.mint`). Dots name writes within one key; two keys never share an actor and are never compared.

A write that is sent again, and that nobody who can be asked knows, is done under the dot of its request,
wherever that is: so it is one write, however often that happens.

In: a start id (8 bytes), an epoch and a counter. Out: a value that hashes, compares, and packs to 24 bytes
whose order as bytes is the order of the dots. Source: dotted version vectors (Preguiça, Baquero, Almeida,
Fonte, Gonçalves 2012, §3); the epoch is dyno's own.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

START_BYTES = 8
ACTOR_BYTES = 16
DOT_BYTES = 24

_ACTOR = struct.Struct(">8sQ")
_DOT = struct.Struct(">16sQ")


class Dot(NamedTuple):
    """actor: 16 bytes, see `actor`. counter: from 1, below 2**64. Sorts by (actor, counter)."""

    actor: bytes
    counter: int

    def pack(self) -> bytes:
        """24 bytes: the actor, then the counter big-endian."""
        return _DOT.pack(*self)


def dot_of_request(request: bytes) -> Dot:
    """The dot of a write that was sent again. request: its id, 16 random bytes: no start of any process has
    them."""
    return Dot(request, 1)


def actor(start: bytes, epoch: int) -> bytes:
    """The 16 bytes of an actor: a start id (8 bytes), then the epoch (from 0, below 2**64) big-endian."""
    assert len(start) == START_BYTES, "a start id has 8 bytes"
    return _ACTOR.pack(start, epoch)
