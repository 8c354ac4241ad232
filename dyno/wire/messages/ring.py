"""Between nodes: the ring log (docs/design/ring_log.md)."""

from __future__ import annotations

from typing import NamedTuple


class AskRing(NamedTuple):
    """Is there a later ring entry than this one? Answer: RingEntry, or RingKnown where there is none."""

    number: int


class RingEntry(NamedTuple):
    """A decided entry, packed (ringlog.entry). Sent unasked as well."""

    entry: bytes


class RingKnown(NamedTuple):
    """The number of the last entry that the speaker knows; whoever knows a later one may send it."""

    number: int


class RingPrepare(NamedTuple):
    """Promise to accept nothing below this ballot for the entry of that number. Whoever knows that entry
    sends its last one instead, who does not know the entry before says RingKnown."""

    number: int
    ballot: bytes


class RingPromised(NamedTuple):
    """Once it is on disk. accepted, value: what the speaker accepted before, b"" both for nothing."""

    number: int
    ballot: bytes
    directory: bytes
    accepted: bytes
    value: bytes


class RingAccept(NamedTuple):
    number: int
    ballot: bytes
    value: bytes


class RingAccepted(NamedTuple):
    """Once it is on disk."""

    number: int
    ballot: bytes
    directory: bytes


class RingOutvoted(NamedTuple):
    """No to the ballot, or the forced number, in `refused`: a higher one was promised, or this one is
    fenced off by a forced entry."""

    number: int
    refused: bytes
    promised: bytes
    fence: int


class RingFence(NamedTuple):
    """Vote for nothing after the entry `number` any more: the entry `forced` is to follow it."""

    number: int
    forced: int


class RingFenced(NamedTuple):
    """Once it is on disk. The rest is as of RingPromised."""

    number: int
    forced: int
    directory: bytes
    accepted: bytes
    value: bytes
