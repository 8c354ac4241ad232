"""What clients asked for and what they were told: the evidence that `checkers` judge.

An `Operation` is one key's part of one call, from its beginning to its end, as its client saw it: what was
written under which context, what was read, which nodes answered, and whether the client knows that it was
done. Every value is written once in a history, so whatever is read or stored tells who wrote it.

`Sightings` are the dots that left a node: in a record on its way to another node, in an answer to a client,
or on a disk in the end. What was sent and never committed counts, for somebody may know of it.

In: calls as they begin and end, and records as they pass by. Nothing is judged here, and nothing is decoded
before somebody asks, for every operation of every run comes through here.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from dyno.causality import token
from dyno.causality.context import Context
from dyno.causality.dots import Dot
from dyno.causality.record import Record
from dyno.errors import DynoError
from dyno.ringlog import entry as entries
from dyno.wire import values

GET: Final = "get"
PUT: Final = "put"
DELETE: Final = "delete"
UPDATE: Final = "update"

OK: Final = "ok"
NOT_DONE: Final = "not done"  # the client was told so
UNKNOWN: Final = "perhaps done"  # an indeterminate failure, or no answer in time
UNDER_WAY: Final = "under way"

_VALUE_BYTES_MAX: Final = 100


class Key(NamedTuple):
    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{self.bucket}/{self.key}"


class Operation:
    """One key's part of a call.

    number: from 1, and the value that a write writes. basis: the operation whose context this write passed
    on, None for none. quorum: how many answers it asked for. strict: only owners counted. siblings: the
    values that a read found, or that an update's last round was given. token: the context that it passed;
    returned: the one that it was given. answered: names of nodes."""

    __slots__ = (
        "answered",
        "basis",
        "began",
        "client",
        "ended",
        "error",
        "key",
        "kind",
        "number",
        "outcome",
        "quorum",
        "returned",
        "siblings",
        "strict",
        "token",
        "value",
    )

    def __init__(
        self,
        number: int,
        client: str,
        kind: str,
        key: Key,
        *,
        began: float,
        quorum: int,
        strict: bool = False,
        basis: Operation | None = None,
        value: int | None = None,
    ) -> None:
        self.number = number
        self.client = client
        self.kind = kind
        self.key = key
        self.began = began
        self.ended = math.inf
        self.quorum = quorum
        self.strict = strict
        self.basis = basis
        self.value = value
        self.returned = b""
        self.token: bytes = b"" if basis is None else basis.returned
        self.siblings: tuple[int, ...] = ()
        self.outcome = UNDER_WAY
        self.answered: tuple[str, ...] = ()
        self.error = ""

    @property
    def writes(self) -> bool:
        return self.kind != GET

    @property
    def acknowledged(self) -> bool:
        return self.outcome == OK

    @property
    def perhaps_done(self) -> bool:
        """Whether its effect may be seen."""
        return self.outcome != NOT_DONE

    def read(self) -> tuple[int, ...]:
        """The values that its author is known to have read, or to have written before it."""
        basis = self.basis
        if basis is None:
            return self.siblings if self.kind == UPDATE else ()
        if basis.kind == GET:
            return basis.siblings
        return () if basis.value is None else (basis.value,)

    def succeed(self, now: float, *, returned: bytes, answered: tuple[str, ...]) -> None:
        self.outcome, self.ended = OK, now
        self.returned, self.answered = returned, answered

    def fail(self, now: float, error: Exception) -> None:
        """Raises what is no error of a store: a bug of ours."""
        if not isinstance(error, DynoError):
            raise error
        self.ended = now
        self.outcome = UNKNOWN if getattr(error, "indeterminate", False) else NOT_DONE
        self.answered = getattr(error, "nodes", ())
        self.error = f"{type(error).__name__}: {error}"

    def __repr__(self) -> str:
        return f"<{self.kind} {self.key} #{self.number} by {self.client}: {self.outcome}>"


class Clash(NamedTuple):
    """One dot with two values. first, second: (value, who had it, when)."""

    key: Key
    dot: Dot
    first: tuple[int, str, float]
    second: tuple[int, str, float]


class Sightings:
    """Dots with the values that they were seen under."""

    __slots__ = ("_by_dot", "_last", "_of_value", "clashes", "largest", "rings")

    def __init__(self) -> None:
        self.clashes: list[Clash] = []
        # Ring entries by number, each as it was seen first: bytes, where, when.
        self.rings: dict[int, dict[bytes, tuple[str, float]]] = {}
        self.largest: dict[Key, tuple[int, str, float]] = {}  # the longest packed record: bytes, where, when
        self._by_dot: dict[Key, dict[Dot, tuple[bytes, int, str, float]]] = {}
        self._of_value: dict[int, list[Dot]] = {}
        self._last: dict[Key, bytes] = {}

    def dots_of(self, value: int) -> list[Dot]:
        """Usually one; several where a write was minted again."""
        return self._of_value.get(value, [])

    def record(self, key: Key, packed: bytes, *, where: str, now: float) -> None:
        """A packed record was seen."""
        if not packed or self._last.get(key) is packed:
            return  # the same bytes on their way to the next owner
        self._last[key] = packed
        if len(packed) > self.largest.get(key, (0, "", 0.0))[0]:
            self.largest[key] = (len(packed), where, now)
        self.unpacked(key, Record.unpack(packed), where=where, now=now)

    def ring(self, packed: bytes, *, where: str, now: float) -> None:
        """An entry of the ring's log was seen."""
        seen = self.rings.setdefault(entries.unpack(packed).number, {})
        seen.setdefault(packed, (where, now))

    def unpacked(self, key: Key, record: Record, *, where: str, now: float) -> None:
        known = self._by_dot.setdefault(key, {})
        for dot, _, value in record.siblings:
            first = known.get(dot)
            if first is None or first[0] != value:
                self._new(key, dot, value, values.decode(value), where, now)

    def acknowledged(self, operation: Operation, passed: Context, returned: Context) -> None:
        """What a put was answered names its dot, even where its record never left the coordinator."""
        for actor in returned.actors():  # a set, but only one of them has a dot that was not passed
            dot = Dot(actor, returned.highest(actor))
            if not passed.covers(dot):
                assert operation.value is not None
                value = values.encode(operation.value, bytes_max=_VALUE_BYTES_MAX)
                where = ", ".join(operation.answered)
                self._new(operation.key, dot, value, operation.value, where, operation.ended)

    def _new(self, key: Key, dot: Dot, value: bytes, number: int, where: str, now: float) -> None:
        known = self._by_dot.setdefault(key, {})
        first = known.get(dot)
        if first is None:
            known[dot] = (value, number, where, now)
            self._of_value.setdefault(number, []).append(dot)
        elif first[0] != value:
            self.clashes.append(Clash(key, dot, first[1:], (number, where, now)))


class History:
    """All operations of a run, in the order in which they began. cluster: its id, to which tokens are bound.
    copies: how many owners the keys of each bucket have. sent_again: how many writes of a key were."""

    def __init__(self, *, cluster: bytes, copies: dict[str, int]) -> None:
        self.cluster = cluster
        self.copies = copies
        self.operations: list[Operation] = []
        self.sightings = Sightings()
        self.sent_again: dict[Key, int] = {}
        self._requests: dict[bytes, None] = {}  # of those
        self._passed: dict[int, dict[bytes, None]] = {}  # tokens, by update
        self._contexts: dict[bytes, Context] = {b"": Context.EMPTY}

    def begin(
        self,
        client: str,
        kind: str,
        key: Key,
        *,
        now: float,
        quorum: int,
        strict: bool = False,
        basis: Operation | None = None,
    ) -> Operation:
        number = len(self.operations) + 1
        operation = Operation(
            number,
            client,
            kind,
            key,
            began=now,
            quorum=quorum,
            strict=strict,
            basis=basis,
            value=number if kind in (PUT, UPDATE) else None,
        )
        self.operations.append(operation)
        return operation

    def again(self, key: Key, request: bytes) -> None:
        """A write was sent that had been sent before."""
        if request not in self._requests:
            self._requests[request] = None
            self.sent_again[key] = self.sent_again.get(key, 0) + 1

    def passed(self, value: bytes, token: bytes) -> None:
        """An update passes on what its own reads were given, which its user is not shown: one of them."""
        number = values.decode(value)
        author = self.of_value(number) if isinstance(number, int) else None
        if author is not None and author.kind == UPDATE:
            self._passed.setdefault(author.number, {})[token] = None

    def note_acknowledged(self) -> None:
        """Let the sightings know of the dots of all acknowledged puts and updates; once, in the end."""
        for operation in self.operations:
            if operation.kind in (PUT, UPDATE) and operation.acknowledged:
                passed = self.context(operation.key, operation.token)
                for token in self._passed.get(operation.number, ()):
                    passed = passed.union(self.context(operation.key, token))
                returned = self.context(operation.key, operation.returned)
                self.sightings.acknowledged(operation, passed, returned)

    def by_key(self) -> dict[Key, list[Operation]]:
        """In the order of their beginnings."""
        found: dict[Key, list[Operation]] = {}
        for operation in self.operations:
            found.setdefault(operation.key, []).append(operation)
        return found

    def of_value(self, value: int) -> Operation | None:
        """Who wrote it; None for a value that nobody wrote."""
        if 0 < value <= len(self.operations) and self.operations[value - 1].value == value:
            return self.operations[value - 1]
        return None

    def context(self, key: Key, packed: bytes) -> Context:
        """What a token says. Raises InvalidRequest for one that belongs to another key."""
        context = self._contexts.get(packed)
        if context is None:
            context = token.decode(packed, cluster=self.cluster, bucket=key.bucket, key=key.key.encode())
            self._contexts[packed] = context
        return context
