"""Where the result of an operation goes.

A coordinator does not know whether a client, or a listing that reads on the way, waits for what it finds out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from dyno.errors import Code
from dyno.protocol.outbox import Outbox
from dyno.wire.messages import Done, Failed, Found, Listed


class Failure(NamedTuple):
    """Why an operation failed, in the words and facts of errors.py."""

    code: str
    message: str
    needed: int = 0
    nodes: tuple[str, ...] = ()
    indeterminate: bool = False
    retry_after_s: float = 0.0
    record: bytes = b""


def invalid(message: str) -> Failure:
    return Failure(Code.INVALID, message)


def overloaded(message: str, retry_after_s: float) -> Failure:
    return Failure(Code.OVERLOADED, message, retry_after_s=retry_after_s)


def failed(id: int, failure: Failure) -> Failed:
    """As it travels. id: of the request."""
    code, message, needed, nodes, indeterminate, retry_after_s, record = failure
    joined, retry_after_ms = ",".join(nodes), int(retry_after_s * 1000)
    return Failed(id, str(code), message, needed, joined, indeterminate, retry_after_ms, record)


class ReadSink(Protocol):
    """Exactly one call per operation. fallbacks: those among `answered` that are no primaries."""

    def found(
        self, record: bytes, answered: list[str], now: float, out: Outbox, fallbacks: Sequence[str] = ()
    ) -> None: ...
    def failed(self, failure: Failure, out: Outbox) -> None: ...


class WriteSink(Protocol):
    """Exactly one call per operation. fallbacks: those among `answered` that are no primaries."""

    def done(
        self, context: bytes, answered: list[str], out: Outbox, fallbacks: Sequence[str] = ()
    ) -> None: ...
    def failed(self, failure: Failure, out: Outbox) -> None: ...


class ListSink(Protocol):
    """Exactly one call per operation."""

    def listed(self, keys: bytes, cursor: bytes, out: Outbox) -> None: ...
    def failed(self, failure: Failure, out: Outbox) -> None: ...


class Sink(ReadSink, WriteSink, ListSink, Protocol):
    """Whoever asks for anything."""


AnySink: TypeAlias = ReadSink | WriteSink | ListSink  # whoever can be told of a failure


class LinkSink:
    """A client (or a node that forwards for one) on an inbound link."""

    __slots__ = ("_id", "_link")

    def __init__(self, link: int, id: int) -> None:
        self._link = link
        self._id = id

    def found(
        self, record: bytes, answered: list[str], now: float, out: Outbox, fallbacks: Sequence[str] = ()
    ) -> None:
        found = Found(self._id, record, ",".join(answered), ",".join(fallbacks))
        out.replies.append((self._link, found))

    def done(self, context: bytes, answered: list[str], out: Outbox, fallbacks: Sequence[str] = ()) -> None:
        out.replies.append((self._link, Done(self._id, context, ",".join(answered), ",".join(fallbacks))))

    def listed(self, keys: bytes, cursor: bytes, out: Outbox) -> None:
        out.replies.append((self._link, Listed(self._id, keys, cursor)))

    def failed(self, failure: Failure, out: Outbox) -> None:
        out.replies.append((self._link, failed(self._id, failure)))


class Doubtful:
    """Whoever waits for a write that others were given before: that it fails here does not say that they did
    not do it."""

    __slots__ = ("_waiting",)

    def __init__(self, waiting: Sink) -> None:
        self._waiting = waiting

    def found(
        self, record: bytes, answered: list[str], now: float, out: Outbox, fallbacks: Sequence[str] = ()
    ) -> None:
        self._waiting.found(record, answered, now, out, fallbacks)

    def done(self, context: bytes, answered: list[str], out: Outbox, fallbacks: Sequence[str] = ()) -> None:
        self._waiting.done(context, answered, out, fallbacks)

    def listed(self, keys: bytes, cursor: bytes, out: Outbox) -> None:
        self._waiting.listed(keys, cursor, out)

    def failed(self, failure: Failure, out: Outbox) -> None:
        indeterminate = failure.code not in (Code.CONFLICT, Code.INVALID)
        self._waiting.failed(failure._replace(indeterminate=indeterminate), out)


class Ending:
    """A listing of which somebody else wants to know as well when it ends, however it does."""

    __slots__ = ("_then", "_waiting")

    def __init__(self, waiting: ListSink, then: Callable[[], None]) -> None:
        self._waiting = waiting
        self._then = then

    def listed(self, keys: bytes, cursor: bytes, out: Outbox) -> None:
        self._then()
        self._waiting.listed(keys, cursor, out)

    def failed(self, failure: Failure, out: Outbox) -> None:
        self._then()
        self._waiting.failed(failure, out)
