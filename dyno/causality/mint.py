"""New dots, so that lost state never gives one dot to two writes.

A coordinator that counts up from what it finds on disk reissues dots once it has lost a copy, a commit or
its memory, and replicas then drop the acknowledged write as one they know already (Riak's kv679). So beside
the replicated bytes, in the same transaction, a node keeps a note of the last dot that it minted for a key.
The count goes on only if the note is of this very process start and agrees with what the record's context
says; in every other case a new epoch, and with it an actor that nobody has used, is opened.

In: the context at hand and the key's note. Out: a dot that the context does not cover, and the new note.
Guarantees: within one start id no dot is given out twice, provided that a note is never older than a commit
that succeeded, and that a failed commit is followed by `restart`.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from dyno.causality.context import Malformed
from dyno.causality.dots import START_BYTES, Dot, actor

if TYPE_CHECKING:
    from dyno.causality.context import Context

_NOTE = struct.Struct(">8sQQ")

_new = tuple.__new__  # half the price of calling the class of a named tuple


class Note(NamedTuple):
    """The last dot that a process minted for a key. start: 8 bytes. epoch: from 0. counter: from 1."""

    start: bytes
    epoch: int
    counter: int

    def pack(self) -> bytes:
        """24 bytes: the start id, then epoch and counter big-endian."""
        return _NOTE.pack(*self)

    @staticmethod
    def unpack(data: bytes) -> Note:
        """The note that packs to exactly these bytes. Raises Malformed if there is none."""
        if len(data) != _NOTE.size:
            raise Malformed(f"a packed note cannot have {len(data)} bytes")
        note = _NOTE.unpack(data)
        if not note[2]:
            raise Malformed("the counter of a packed note is zero")
        return _new(Note, note)


class Minter:
    """Mints the dots of one process.

    start: its present start id, 8 random bytes, drawn by the caller at every process start.
    """

    __slots__ = ("_epoch", "start")

    def __init__(self, start: bytes) -> None:
        assert len(start) == START_BYTES, "a start id has 8 bytes"
        self.start = start
        self._epoch = 0  # the next one to open

    def mint(self, context: Context, note: Note | None) -> tuple[Dot, Note]:
        """A dot for a new write to a key, and the note to store with that write.

        context: the record's, united with the one that the caller gave. note: this node's for the key, if it
        has one, with all that is queued for the disk.
        """
        if note is not None and note.start == self.start:
            present = actor(self.start, note.epoch)
            if context.highest(present) == note.counter:
                counter = note.counter + 1
                return _new(Dot, (present, counter)), _new(Note, (self.start, note.epoch, counter))
        return self._open_epoch(context)

    def restart(self, start: bytes) -> None:
        """Go on under a new start id (8 random bytes), as after every failed commit: the notes on disk may
        lack what was minted and sent since the last good one."""
        assert len(start) == START_BYTES, "a start id has 8 bytes"
        assert start != self.start, "a start id is never used again"
        self.start = start
        self._epoch = 0

    def _open_epoch(self, context: Context) -> tuple[Dot, Note]:
        epoch, fresh = self._next_epoch()
        if context.highest(fresh):
            # Only a forged context knows an epoch that was not opened yet; it must not swallow the write.
            forged = context.actors()
            while fresh in forged:
                epoch, fresh = self._next_epoch()
        return Dot(fresh, 1), Note(self.start, epoch, 1)

    def _next_epoch(self) -> tuple[int, bytes]:
        epoch = self._epoch
        self._epoch += 1
        return epoch, actor(self.start, epoch)
