"""What somebody has read: a causal context, as a set of dots in little space.

A context is a version vector (actor -> n: all of that actor's dots from 1 to n) plus a cloud of dots that
are not contiguous with it yet. It is the DotContext of delta-CRDTs (Almeida, Shoker, Baquero 2018, "Delta
state replicated data types", §7.2).

In: dots, other contexts, packed bytes. Out: new contexts; nothing here is ever changed in place.
Guarantees: a context is always compact (no dot of the cloud could move into the vector) and its parts are
sorted, so equal sets of dots have equal bytes. `unpack` takes exactly the bytes that `pack` gives and raises
`Malformed` for all others, so whatever was unpacked packs to the same bytes again. Methods that have nothing
to add return an operand itself, so callers may compare by identity.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, final

from dyno.causality.dots import DOT_BYTES, Dot

if TYPE_CHECKING:
    from collections.abc import Iterable

_CLOUD_COUNT = struct.Struct(">I")
_ENTRY = struct.Struct(">16sQ")
_ONE = struct.Struct(">I16sQ")
_TWO = struct.Struct(">I16sQ16sQ")
_HEADER_BYTES = _CLOUD_COUNT.size

# One call packs the whole context up to this many actors without a cloud.
_SMALL = 9
_PACK_SMALL = tuple(struct.Struct(">I" + "16sQ" * actors).pack for actors in range(_SMALL))


class Malformed(ValueError):
    """Packed bytes that no `pack` of ours could have made: cut short, altered, or of another format."""


@final
class Context:
    """An immutable, compact set of dots; equal and hashed by value, false when empty.

    Packed (big-endian): u32 number of cloud dots, then the vector as (actor 16 bytes, u64 highest counter)
    sorted by actor, then the cloud as (actor, u64 counter) sorted.
    """

    __slots__ = ("_cloud", "_packed", "_vector")

    EMPTY: ClassVar[Context]

    def __init__(self, vector: dict[bytes, int], cloud: dict[Dot, None], packed: bytes | None = None) -> None:
        """For this module: the parts must be sorted and compact already, and are never changed again."""
        self._vector = vector
        self._cloud = cloud  # a dict and not a set: it is iterated, and must keep its order
        self._packed = packed

    def covers(self, dot: Dot) -> bool:
        """Whether this dot is in the context."""
        return dot[1] <= self._vector.get(dot[0], 0) or dot in self._cloud

    def knows(self, actor: bytes) -> bool:
        """Whether the first dot of this actor is in the context."""
        return actor in self._vector

    def includes(self, other: Context) -> bool:
        """Whether every dot of the other context is in this one."""
        if other is self or (not other._cloud and other._vector == self._vector):
            return True
        # Comparing vector with vector is enough: the dot that follows our entry is not in our cloud, for we
        # are compact, but it is in theirs when their entry is higher.
        count_of = self._vector.get
        for actor, counter in other._vector.items():
            if count_of(actor, 0) < counter:
                return False
        return not other._cloud or all(self.covers(dot) for dot in other._cloud)

    def union(self, other: Context) -> Context:
        """The dots of both. Returns self, or else other, if that one includes the rest already."""
        if self.includes(other):
            return self
        if other.includes(self):
            return other
        vector = self._vector.copy()
        for actor, counter in other._vector.items():
            if vector.get(actor, 0) < counter:
                vector[actor] = counter
        if len(vector) > len(self._vector):
            vector = dict(sorted(vector.items()))
        if not self._cloud and not other._cloud:
            return Context(vector, _NO_CLOUD)
        return _compacted(vector, sorted({**self._cloud, **other._cloud}))

    def add(self, dot: Dot) -> Context:
        """This context and the dot. Returns self if the dot is in it already."""
        actor, counter = dot
        vector, cloud = self._vector, self._cloud
        known = vector.get(actor, 0)
        if counter <= known or dot in cloud:
            return self
        if counter != known + 1:
            return Context(vector, dict.fromkeys(sorted((*cloud, dot))))
        vector = {**vector, actor: counter}
        if not known and len(vector) > 1:
            vector = dict(sorted(vector.items()))
        return _compacted(vector, cloud) if cloud else Context(vector, cloud)

    def highest(self, actor: bytes) -> int:
        """The highest counter known of this actor, in the vector or in the cloud; 0 if there is none."""
        highest = self._vector.get(actor, 0)
        for dot in self._cloud:
            if dot.actor == actor:
                highest = dot.counter  # sorted, and above the vector: the last one is the highest
        return highest

    def actors(self) -> frozenset[bytes]:
        """Everybody whose dots it holds."""
        return frozenset(self._vector).union(dot.actor for dot in self._cloud)

    def parts(self) -> tuple[dict[bytes, int], list[Dot]]:
        """Copies of the vector, actor -> highest counter, and of the cloud."""
        return self._vector.copy(), list(self._cloud)

    def vector_only(self) -> Context:
        """The context without its cloud."""
        return Context(self._vector, _NO_CLOUD) if self._cloud else self

    def only(self, actors: Iterable[bytes]) -> Context:
        """The dots of these actors alone."""
        wanted = dict.fromkeys(actors)
        vector = {actor: counter for actor, counter in self._vector.items() if actor in wanted}
        cloud = {dot: None for dot in self._cloud if dot.actor in wanted}
        return Context(vector, cloud or _NO_CLOUD)

    def agreed(self, other: Context) -> Context:
        """The dots of all actors of whom both hold exactly the same."""
        if not self._cloud and not other._cloud:
            count_of = other._vector.get
            vector = {actor: count for actor, count in self._vector.items() if count_of(actor) == count}
            return self if len(vector) == len(self._vector) else Context(vector, _NO_CLOUD)
        mine, theirs = _by_actor(self), _by_actor(other)
        return self.only(actor for actor, dots in mine.items() if theirs.get(actor) == dots)

    def without(self, entries: Context) -> Context:
        """This context less the dots of every actor of whom `entries` holds exactly the same. Of whom it
        holds more, or less, nothing is dropped. Returns self where that is nobody."""
        if not self._cloud and not entries._cloud:
            count_of = entries._vector.get
            vector = {actor: count for actor, count in self._vector.items() if count_of(actor) != count}
            return self if len(vector) == len(self._vector) else Context(vector, _NO_CLOUD)
        agreed = _by_actor(self.agreed(entries))
        return self.only(actor for actor in _by_actor(self) if actor not in agreed) if agreed else self

    def pack(self) -> bytes:
        """The canonical bytes: equal contexts have equal bytes. Kept, so asking again is free."""
        if self._packed is None:
            self._packed = self._encode()
        return self._packed

    @staticmethod
    def unpack(data: bytes) -> Context:
        """The context that packs to exactly these bytes. Raises Malformed if there is none."""
        # One or two actors without a cloud are by far the most common, so they are tried in one step each.
        # Whatever is wrong with them is found, and named, by the general way.
        if len(data) == _ONE.size:
            dots, actor, counter = _ONE.unpack(data)
            if counter and not dots:
                return Context({actor: counter}, _NO_CLOUD, data)
        elif len(data) == _TWO.size:
            dots, actor, counter, second, its_counter = _TWO.unpack(data)
            if actor < second and counter and its_counter and not dots:
                return Context({actor: counter, second: its_counter}, _NO_CLOUD, data)
        return _remembered(data) if len(data) <= _REMEMBERED_BYTES_MAX else _unpacked(data)

    def __bool__(self) -> bool:
        # A compact context without a vector can still hold a cloud.
        return bool(self._vector or self._cloud)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Context):
            return NotImplemented
        return self._vector == other._vector and self._cloud == other._cloud

    def __hash__(self) -> int:
        return hash(self.pack())

    def __repr__(self) -> str:
        entries = [f"{actor.hex()}:1..{counter}" for actor, counter in self._vector.items()]
        entries += [f"{dot.actor.hex()}:{dot.counter}" for dot in self._cloud]
        return f"<Context {' '.join(entries) or 'empty'}>"

    def _encode(self) -> bytes:
        vector, cloud = self._vector, self._cloud
        if not cloud and len(vector) < _SMALL:
            return _PACK_SMALL[len(vector)](0, *[part for entry in vector.items() for part in entry])
        parts = [_CLOUD_COUNT.pack(len(cloud))]
        parts += [_ENTRY.pack(*entry) for entry in vector.items()]
        parts += [_ENTRY.pack(*dot) for dot in cloud]
        return b"".join(parts)


_NO_CLOUD: dict[Dot, None] = {}
Context.EMPTY = Context({}, _NO_CLOUD)


def _by_actor(context: Context) -> dict[bytes, tuple[int, ...]]:
    """What is held of each actor: its count in the vector, then its counters in the cloud."""
    held: dict[bytes, tuple[int, ...]] = {actor: (counter,) for actor, counter in context._vector.items()}
    for actor, counter in context._cloud:
        held[actor] = (*held.get(actor, (0,)), counter)
    return held


def _compacted(vector: dict[bytes, int], dots: Iterable[Dot]) -> Context:
    """A context of a vector, which is taken over and changed, and of dots, which come sorted.

    The dots come from clouds, which hold no counter 1, so they never bring the vector a new actor.
    """
    cloud: dict[Dot, None] = {}
    for dot in dots:
        known = vector.get(dot.actor, 0)
        if dot.counter == known + 1:
            vector[dot.actor] = dot.counter
        elif dot.counter > known:
            cloud[dot] = None
    return Context(vector, cloud or _NO_CLOUD)


def _unpacked(data: bytes) -> Context:
    entries, rest = divmod(len(data) - _HEADER_BYTES, DOT_BYTES)
    if rest or entries < 0:
        raise Malformed(f"a packed context cannot have {len(data)} bytes")
    (count,) = _CLOUD_COUNT.unpack_from(data)
    if count > entries:
        raise Malformed("a packed context claims more dots than it has")
    middle = len(data) - count * DOT_BYTES
    vector: dict[bytes, int] = dict(_ENTRY.iter_unpack(data[_HEADER_BYTES:middle]))
    if len(vector) != entries - count or [*vector] != sorted(vector):
        raise Malformed("the actors of a packed context are not sorted or not unique")
    if 0 in vector.values():
        raise Malformed("a counter of a packed context is zero")
    if not count:
        return Context(vector, _NO_CLOUD, data)
    cloud = dict.fromkeys(map(Dot._make, _ENTRY.iter_unpack(data[middle:])))
    if len(cloud) != count or [*cloud] != sorted(cloud):
        raise Malformed("the dots of a packed context are not sorted or not unique")
    for actor, counter in cloud:
        if counter <= vector.get(actor, 0) + 1:
            raise Malformed("a packed context is not compact")
    return Context(vector, cloud, data)


# A context passes through one process several times: with a client's token, with the records before and after
# its write, with those of other copies. They are immutable, so one object may serve all.
_REMEMBERED_BYTES_MAX = 4096
_remembered = lru_cache(maxsize=512)(_unpacked)
