"""Histories written by hand, with the real contexts and dots that such calls would have had."""

from __future__ import annotations

from dyno.causality import token
from dyno.causality.context import Context
from dyno.causality.dots import Dot, actor
from dyno.causality.record import Record, Sibling
from dyno.errors import DynoError, QuorumNotMet
from dyno.simulator.checkers import Ending, Violation, check
from dyno.simulator.history import DELETE, GET, PUT, UPDATE, History, Key, Operation
from dyno.wire import values

CLUSTER = b"hand-made-------"
KEY = Key("plain", "k")
OWNERS = ("n1", "n2", "n3")
REAP_AFTER_S = 10.0  # as many lines of a book


def dot(counter: int, who: int = 1) -> Dot:
    return Dot(actor(bytes([who]) * 8, 0), counter)


def context_of(*dots: Dot) -> Context:
    context = Context.EMPTY
    for one in dots:
        context = context.add(one)
    return context


def token_of(context: Context, key: Key = KEY) -> bytes:
    return token.encode(context, cluster=CLUSTER, bucket=key.bucket, key=key.key.encode())


def record_of(*siblings: tuple[Dot, int], context: Context = Context.EMPTY) -> Record:
    """Each sibling a dot with a value; context: what it covers besides."""
    record = Record.EMPTY.delete(context)
    for one, value in siblings:
        written = Record.EMPTY.write(Context.EMPTY, one, bytes(16), values.encode(value, bytes_max=100))
        record = Record(tuple(sorted((*record.siblings, *written.siblings))), record.context.add(one))
    return record


def sibling(one: Dot, value: int) -> Sibling:
    return Sibling(one, bytes(16), values.encode(value, bytes_max=100))


class Book:
    """A history that is written line by line; each line takes a second. Every method returns its operation,
    whose `value` is what a write wrote."""

    def __init__(self, *, holders_lost: int = 0) -> None:
        self.now = 0.0
        self.history = History(cluster=CLUSTER, copies={"plain": 3})
        self.holders_lost = holders_lost
        self.left: tuple[str, ...] = ()
        self.copies: dict[str, bytes] = {}

    def put(
        self,
        one: Dot,
        *,
        after: Operation | None = None,
        client: str = "ann",
        w: int = 2,
        strict: bool = False,
    ) -> Operation:
        """Acknowledged, under this dot. after: the operation whose context it passes."""
        put = self.begin_put(client=client, after=after, w=w, strict=strict)
        self.seen(one, put)
        context = self.history.context(KEY, put.token).add(one)
        put.succeed(self._next(), returned=token_of(context), answered=OWNERS[:w])
        return put

    def begin_put(
        self, *, after: Operation | None = None, client: str = "ann", w: int = 2, strict: bool = False
    ) -> Operation:
        return self.history.begin(client, PUT, KEY, now=self._next(), quorum=w, strict=strict, basis=after)

    def failed_put(self, *, indeterminate: bool, after: Operation | None = None) -> Operation:
        put = self.begin_put(after=after)
        put.fail(self._next(), failure(indeterminate=indeterminate))
        return put

    def get(
        self, *found: Operation, context: Context, client: str = "ann", r: int = 2, strict: bool = False
    ) -> Operation:
        get = self.history.begin(client, GET, KEY, now=self._next(), quorum=r, strict=strict)
        get.siblings = tuple(one.value or 0 for one in found)
        get.succeed(self._next(), returned=token_of(context), answered=OWNERS[:r])
        return get

    def update(self, one: Dot, *found: Operation) -> Operation:
        update = self.history.begin("ann", UPDATE, KEY, now=self._next(), quorum=2)
        update.siblings = tuple(other.value or 0 for other in found)
        self.seen(one, update)
        update.succeed(self._next(), returned=token_of(context_of(one)), answered=OWNERS[:2])
        return update

    def delete(
        self,
        *,
        after: Operation | None = None,
        covers: Context = Context.EMPTY,
        acknowledged: bool = True,
        strict: bool = False,
    ) -> Operation:
        """covers: what one without a context has read by itself."""
        delete = self.history.begin(
            "ann", DELETE, KEY, now=self._next(), quorum=2, strict=strict, basis=after
        )
        if acknowledged:
            returned = delete.token if after else token_of(covers)
            delete.succeed(self._next(), returned=returned, answered=OWNERS[:2])
        else:
            delete.fail(self._next(), failure(indeterminate=True))
        return delete

    def seen(self, one: Dot, put: Operation, where: str = "n1 → n2") -> None:
        assert put.value is not None
        self.history.sightings.unpacked(KEY, record_of((one, put.value)), where=where, now=self.now)

    def end(self, *found: Operation) -> list[Violation]:
        """Everything is read at last, and these values are there."""
        return check(self.history, self.ending(*found))

    def ending(self, *found: Operation) -> Ending:
        final = self.get(*found, context=Context.EMPTY, client="judge", r=3)
        final.returned = b""
        return Ending(
            reads={KEY: final},
            owners={KEY: OWNERS},
            copies={KEY: self.copies},
            left=self.left,
            starts=3,
            holders_lost=self.holders_lost,
            reap_after_s=REAP_AFTER_S,
        )

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def _next(self) -> float:
        self.now += 1.0
        return self.now


def failure(*, indeterminate: bool) -> DynoError:
    return QuorumNotMet("1 of 2", needed=2, answered=1, nodes=("n1",), indeterminate=indeterminate)


def names(violations: list[Violation]) -> list[str]:
    return [violation.checker for violation in violations]
