"""What is stored under a key: the values that are concurrent, and all that was ever read or written there.

A record holds siblings, each under the dot of its write, and a causal context that covers those and all
dots that were overwritten or deleted. It is a dot store over a DotContext (Almeida, Shoker, Baquero 2018,
§7), with the values of a multi-value register.

A write that was sent again may have been done twice: under an ordinary dot, and under the dot of its request
(`dots`). Where both are known to be live both stand in the record, as *twins*, for whoever has read the one
knows nothing of the other; a write or delete that covers one drops both. Where the request's dot is in the
context and not live, the write was overwritten, and its ordinary dot is dropped wherever it turns up. This is
a closure on records (what is covered never comes alive again), so `merge` stays a join.

In: writes and deletes with the context that their author had read, other replicas' records, packed bytes.
Out: new records; nothing here is ever changed in place. Guarantees: `merge` is commutative, associative and
idempotent; a write or delete drops exactly what its author's context covers; equal records have equal bytes,
and `unpack` takes exactly the bytes that `pack` gives and raises `Malformed` for all others. Where an
operand already is the result, that operand itself is returned.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import ClassVar, NamedTuple, final

from dyno.causality.context import Context, Malformed
from dyno.causality.dots import Dot

FORMAT = 1
KIND_SIBLINGS = 0
REQUEST_BYTES = 16

_HEADER = struct.Struct(">BBII")  # format, kind, bytes of the packed context, number of siblings
_SIBLING = struct.Struct(">16sQ16sI")  # dot, request id, bytes of the value
_HEADER_BYTES = _HEADER.size
_SIBLING_BYTES = _SIBLING.size
_ONE_ENTRY_BYTES = 28  # of a packed context of one actor

_new = tuple.__new__  # half the price of calling the class of a named tuple


class DotConflict(ValueError):
    """A dot names two different writes, or is about to. Somebody lost state and minted it twice.

    dot: which one.
    """

    def __init__(self, message: str, *, dot: Dot) -> None:
        super().__init__(message)
        self.dot = dot


class OtherKind(Malformed):
    """A packed record of another kind than siblings: intact, for all that is known here, but not to be read
    as one."""


class Sibling(NamedTuple):
    """One live value. request: the id of its write, 16 bytes, drawn by the session. value: opaque bytes."""

    dot: Dot
    request: bytes
    value: bytes


@final
class Record:
    """An immutable record; equal and hashed by value.

    siblings: sorted by dot, each dot covered by the context. context: every dot seen, live or overwritten.
    Packed (big-endian): format, kind, u32 bytes of the context, u32 siblings; the packed context; for each
    sibling actor 16 bytes, u64 counter, request 16 bytes, u32 bytes of its value; the values.
    """

    __slots__ = ("_packed", "context", "siblings")

    EMPTY: ClassVar[Record]

    def __init__(self, siblings: tuple[Sibling, ...], context: Context, packed: bytes | None = None) -> None:
        """For this module: siblings must be sorted, unique by dot, and covered by the context."""
        self.siblings = siblings
        self.context = context
        self._packed = packed

    @property
    def live(self) -> bool:
        """Whether there is any value; if not, the record is a tombstone, or empty."""
        return bool(self.siblings)

    def dead(self) -> Context:
        """What the context holds of actors of whom no value is live: it only says what must not come back."""
        if not self.siblings:
            return self.context
        live = {sibling.dot.actor: None for sibling in self.siblings}
        return self.context.only(actor for actor in sorted(self.context.actors()) if actor not in live)

    def forget(self, entries: Context) -> Record:
        """The record without those of these entries that are dead here and still exactly so (actor by actor).
        Returns self where none is. A value that was covered by them would be new to it again."""
        dead = self.dead().agreed(entries)
        return Record(self.siblings, self.context.without(dead)) if dead else self

    def write(self, context: Context, dot: Dot, request: bytes, value: bytes) -> Record:
        """Put a value under a new dot, in the place of exactly those siblings that `context` covers.

        context: what the author had read. Raises DotConflict if the dot is known already, here or there.
        """
        assert len(request) == REQUEST_BYTES, "a request id has 16 bytes"
        known = self.context.union(context)
        after = known.add(dot)
        if after is known:
            raise DotConflict("a new write came under a dot that is known already", dot=dot)
        siblings = self._left(context) if self.siblings else []
        if siblings:
            siblings = _without_overwritten(siblings, after)
        siblings.append(_new(Sibling, (dot, request, value)))
        if len(siblings) > 1:
            siblings.sort()
        return Record(tuple(siblings), after)

    def delete(self, context: Context) -> Record:
        """Drop exactly those siblings that `context`, which its author had read, covers; add none."""
        after = self.context.union(context)
        siblings = tuple(_without_overwritten(self._left(context), after))
        if after is self.context and len(siblings) == len(self.siblings):
            return self
        return Record(siblings, after)

    def merge(self, other: Record) -> Record:
        """The record of all that either saw: values in both, or in one and not covered by the other.

        Returns self if other adds nothing to it, and other if self adds nothing. Raises DotConflict if both
        hold one dot with different requests or values.
        """
        packed = self._packed
        if self is other or (packed is not None and packed == other._packed):
            return self
        mine, theirs = self.context, other.context
        if len(other.siblings) == 1 and not mine.covers(other.siblings[0][0]) and theirs.includes(mine):
            return other  # it was written over all that is here, as nearly always
        kept, shared = _still_live(self.siblings, other)
        # A sibling of theirs that our context covers is either shared or overwritten here.
        new = [sibling for sibling in other.siblings if not mine.covers(sibling[0])]
        context = mine.union(theirs)
        # Where our context includes theirs, there is nothing new; where theirs includes ours, all that we
        # kept is shared.
        if context is mine and len(kept) == len(self.siblings):
            return self
        if shared + len(new) == len(other.siblings) and (context is theirs or context == theirs):
            return other
        return Record(tuple(sorted(_without_overwritten(kept + new, context))), context)

    def pack(self) -> bytes:
        """The canonical bytes: equal records have equal bytes. Kept, so asking again is free."""
        if self._packed is None:
            self._packed = self._encode()
        return self._packed

    @staticmethod
    def unpack(data: bytes) -> Record:
        """The record that packs to exactly these bytes. Raises Malformed if there is none, and OtherKind, one
        of those, for a record of another kind."""
        if len(data) < _HEADER_BYTES:
            raise Malformed(f"a packed record cannot have {len(data)} bytes")
        format_, kind, context_bytes, count = _HEADER.unpack_from(data)
        if format_ != FORMAT:
            raise Malformed(f"a packed record has the unknown format {format_}")
        if kind != KIND_SIBLINGS:
            raise OtherKind(f"a packed record has the other kind {kind}")
        if count > 1:
            return _remembered(data) if len(data) <= _REMEMBERED_BYTES_MAX else _unpacked(data)
        table = _HEADER_BYTES + context_bytes
        values = table + _SIBLING_BYTES * count
        if count and values <= len(data):  # as nearly always; the general way finds, and names, what is wrong
            context = Context.unpack(data[_HEADER_BYTES:table])
            actor, counter, request, length = _SIBLING.unpack_from(data, table)
            dot = _new(Dot, (actor, counter))
            if (
                counter
                and context.covers(dot)
                and not context.knows(request)
                and values + length == len(data)
            ):
                return Record((_new(Sibling, (dot, request, data[values:])),), context, data)
        return _unpacked(data)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Record):
            return NotImplemented
        return self.siblings == other.siblings and self.context == other.context

    def __hash__(self) -> int:
        return hash(self.pack())

    def __repr__(self) -> str:
        dots = [f"{sibling.dot.actor.hex()}:{sibling.dot.counter}" for sibling in self.siblings]
        return f"<Record of {' '.join(dots) or 'no value'} | {self.context!r}>"

    def _left(self, context: Context) -> list[Sibling]:
        """What an author who had read `context` leaves: whose dot it does not cover, nor that of its twin."""
        covers = context.covers
        left = [sibling for sibling in self.siblings if not covers(sibling[0])]
        if 0 < len(left) < len(self.siblings):
            knows = self.context.knows
            gone = {sibling[1]: None for sibling in self.siblings if knows(sibling[1]) and covers(sibling[0])}
            if gone:
                left = [sibling for sibling in left if sibling[1] not in gone]
        return left

    def _encode(self) -> bytes:
        context, siblings = self.context.pack(), self.siblings
        if len(siblings) == 1:
            (((actor, counter), request, value),) = siblings
            head = _HEADER.pack(FORMAT, KIND_SIBLINGS, len(context), 1)
            return b"".join((head, context, _SIBLING.pack(actor, counter, request, len(value)), value))
        parts = [_HEADER.pack(FORMAT, KIND_SIBLINGS, len(context), len(siblings)), context]
        for (actor, counter), request, value in siblings:
            parts.append(_SIBLING.pack(actor, counter, request, len(value)))
        parts += [sibling[2] for sibling in siblings]
        return b"".join(parts)


Record.EMPTY = Record((), Context.EMPTY)


def is_live(packed: bytes) -> bool:
    """Whether a packed record has any value, by its header alone; what stands behind that is not checked.
    Raises Malformed for bytes that are too few to be a record."""
    if len(packed) < _HEADER_BYTES:
        raise Malformed(f"a packed record cannot have {len(packed)} bytes")
    _, _, _, count = _HEADER.unpack_from(packed)
    return bool(count)


def head_of(packed: bytes) -> bytes:
    """A packed record without its values: all that its context and its dots depend on; what it says is not
    checked. Raises Malformed for bytes that are too few to be a record."""
    if len(packed) < _HEADER_BYTES:
        raise Malformed(f"a packed record cannot have {len(packed)} bytes")
    _, _, context_bytes, count = _HEADER.unpack_from(packed)
    return packed[: _HEADER_BYTES + context_bytes + _SIBLING_BYTES * count]


def surely_all_live(packed: bytes) -> bool:
    """Whether no entry of the context is dead, for there is one only and a value; by the header alone, as
    above."""
    if len(packed) < _HEADER_BYTES:
        raise Malformed(f"a packed record cannot have {len(packed)} bytes")
    _, _, context_bytes, count = _HEADER.unpack_from(packed)
    return bool(count) and context_bytes == _ONE_ENTRY_BYTES


def put_context(caller: Context, before: Context, dot: Dot) -> Context:
    """The context that a put hands back to its caller.

    caller: the context that came with the put. before: that of the coordinator's record before it. dot: the
    new write's. It is the caller's version vector and the dot: it never covers a sibling that the caller has
    not read, and blind writes do not make it grow. A caller that had read all that the coordinator knows
    keeps its whole context.
    """
    read = caller if caller.includes(before) else caller.vector_only()
    return read.add(dot)


def _still_live(siblings: tuple[Sibling, ...], other: Record) -> tuple[list[Sibling], int]:
    """Those siblings which the other record has not overwritten, and how many of them it holds as well."""
    kept = []
    shared = 0
    theirs: dict[Dot, Sibling] | None = None
    for sibling in siblings:
        dot = sibling[0]
        if not other.context.covers(dot):
            kept.append(sibling)
            continue
        if theirs is None:
            theirs = {twin[0]: twin for twin in other.siblings}
        twin = theirs.get(dot)
        if twin is not None:
            if twin != sibling:
                raise DotConflict("one dot has two different values", dot=dot)
            kept.append(sibling)
            shared += 1
    return kept, shared


def _without_overwritten(siblings: list[Sibling], context: Context) -> list[Sibling]:
    """Without those whose write was done again and is overwritten as such: under all that are live."""
    knows = context.knows
    doubtful = [sibling for sibling in siblings if knows(sibling[1]) and sibling[0][0] != sibling[1]]
    if not doubtful:
        return siblings
    live = {sibling[0][0]: None for sibling in siblings}
    return [sibling for sibling in siblings if not knows(sibling[1]) or sibling[1] in live]


def _unpacked(data: bytes) -> Record:
    """A record of so many siblings as there may be, of which the format and the kind were looked at."""
    _, _, context_bytes, count = _HEADER.unpack_from(data)
    table = _HEADER_BYTES + context_bytes
    values = table + _SIBLING_BYTES * count
    if values > len(data):
        raise Malformed("a packed record was cut short")
    context = Context.unpack(data[_HEADER_BYTES:table])
    return Record(_unpack_siblings(data, context, table, values), context, data)


def _unpack_siblings(data: bytes, context: Context, table: int, values: int) -> tuple[Sibling, ...]:
    """The siblings whose heads stand in data[table:values], and whose values fill all the rest."""
    siblings: list[Sibling] = []
    covers, knows = context.covers, context.knows
    doubtful = False
    last: Dot | None = None
    at = values
    for actor, counter, request, length in _SIBLING.iter_unpack(data[table:values]):
        dot = _new(Dot, (actor, counter))
        if not covers(dot) or not counter:
            raise Malformed("a sibling of a packed record is not covered by its context")
        doubtful = doubtful or (knows(request) and actor != request)
        if last is not None and dot <= last:
            raise Malformed("the siblings of a packed record are not sorted or not unique")
        siblings.append(_new(Sibling, (dot, request, data[at : at + length])))
        at += length
        last = dot
    if at != len(data):
        raise Malformed("a packed record is not as long as it says")
    if doubtful and len(_without_overwritten(siblings, context)) < len(siblings):
        raise Malformed("a sibling of a packed record was overwritten under another dot")
    return tuple(siblings)


# A key with siblings is read and merged over and over, by reads, repairs and further writes, until somebody
# resolves it. Records are immutable, so one object may serve all.
_REMEMBERED_BYTES_MAX = 4096
_remembered = lru_cache(maxsize=256)(_unpacked)
