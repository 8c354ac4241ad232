"""What a node keeps beside the replicated records, in the same engine and the same transactions.

A slot begins with a partition (2 bytes) and n (1), and n is at most 9, so a key that begins with `ff ff ff`
is no slot. The fourth byte tells of which kind a row is; what follows is the kind's own. The part of the
node that writes a kind is the only one that reads it:

    HINTS        target's name, zero byte, slot → generation and cell, kept for that target (protocol.hints)
    HELD         target's name → how many hints are kept for it, and how many bytes they have (protocol.hints)
    SEEN         time-ordered number → (request id, slot, dot) of one batch's writes (protocol.requests_seen)
    DEAD         slot → context entries without a live value, and since when (protocol.reaping)
    GENERATIONS  partition, n → how often it was reaped here (protocol.reaping)
    ASIDE        slot → a cell that must not come back by itself (protocol.quarantine)
"""

from __future__ import annotations

from typing import Final

_PREFIX: Final = b"\xff\xff\xff"
RECORDS_END: Final = _PREFIX  # all slots are below

HINTS: Final = _PREFIX + b"\x01"
SEEN: Final = _PREFIX + b"\x02"
DEAD: Final = _PREFIX + b"\x03"
GENERATIONS: Final = _PREFIX + b"\x04"
ASIDE: Final = _PREFIX + b"\x05"
HELD: Final = _PREFIX + b"\x06"


def is_row(key: bytes) -> bool:
    """Whether an engine key is a row beside the records, not a slot."""
    return key.startswith(_PREFIX)


def rows_of(prefix: bytes) -> tuple[bytes, bytes]:
    """All keys that begin with a prefix lie from the first of these up to, not including, the second. The
    last byte of a prefix is below 0xff."""
    return prefix, prefix[:-1] + bytes((prefix[-1] + 1,))
