"""Numbers of ring entries: one integer of 64 bits that orders them all, and rides on every request.

    16 bits  epoch    how often a cluster went on by force, its majority being lost for good
    16 bits  tag      drawn by whoever forced it, 0 in epoch 0
    32 bits  index    counts entries, across epochs too

Within one epoch and tag entries are decided by majorities, so there is one of each number. A forced entry
opens an epoch of its own: it is above all that the lost ones may have decided without anybody knowing, and
two operators who force two halves of one cluster get two different tags: when the halves meet, the higher
wins.
"""

from __future__ import annotations

from typing import Final

NONE: Final = 0  # there is no log yet
FIRST: Final = 1
TAG_BITS: Final = 16

_INDEX_BITS: Final = 32
_EPOCH_SHIFT: Final = _INDEX_BITS + TAG_BITS
_INDEX_MAX: Final = (1 << _INDEX_BITS) - 1
_EPOCH_MAX: Final = (1 << (64 - _EPOCH_SHIFT)) - 1


def after(number: int) -> int:
    """That of the entry that follows, decided by a majority. Raises OverflowError after the last one."""
    if not has_next(number):
        raise OverflowError("there are no more numbers for ring entries")
    return number + 1


def forced_after(number: int, *, fence: int, tag: int) -> int:
    """That of a forced entry on top of `number`, above `fence` too. Raises OverflowError likewise."""
    above = max(epoch(number), epoch(fence)) + 1
    if above > _EPOCH_MAX:
        raise OverflowError("the ring was forced too often")
    return above << _EPOCH_SHIFT | tag << _INDEX_BITS | index(after(number))


def has_next(number: int) -> bool:
    """Whether there is one after it; no entry has a number without."""
    return 0 <= number < 1 << 64 and index(number) < _INDEX_MAX


def epoch(number: int) -> int:
    return number >> _EPOCH_SHIFT


def index(number: int) -> int:
    return number & _INDEX_MAX


def shown(number: int) -> str:
    """As people read it: "17", or "17 (forced 1, tag 3fa2)" in an epoch that force began."""
    if not epoch(number):
        return str(number)
    tag = (number >> _INDEX_BITS) & ((1 << TAG_BITS) - 1)
    return f"{index(number)} (forced {epoch(number)}, tag {tag:04x})"
