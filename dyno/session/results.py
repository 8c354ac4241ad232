"""What calls return: `Record`, `PutResult`, and which nodes took part.

An answer is kept as it came, and decoded when the caller first asks for values or context, so a caller pays
only for what it uses. In: the bytes and names of an answer, and the key that it belongs to. Guarantees:
`siblings` is always raw; `value` never picks one of several silently; a context is a token bound to its key.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from dyno.causality import record as causality
from dyno.causality import token
from dyno.causality.context import Context
from dyno.errors import ConflictError, DynoError, InvalidRequest, StorageFailed
from dyno.wire import values


class Replicas(NamedTuple):
    """Names of nodes. answered: all that answered in time. fallbacks: those of them that stood in for an
    owner."""

    answered: tuple[str, ...]
    fallbacks: tuple[str, ...]


class Origin(NamedTuple):
    """Where an answer is from; tokens are bound to it. cluster: 16 bytes."""

    cluster: bytes
    bucket: str
    key: bytes


class _Answer:
    """Lazily split names of the nodes behind an answer."""

    __slots__ = ("_answered", "_context", "_fallbacks", "_origin")

    error: DynoError | None = None  # of an entry of a batch that failed
    _answered: str
    _context: bytes | None
    _fallbacks: str
    _origin: Origin

    @property
    def replicas(self) -> Replicas:
        return Replicas(names(self._answered), names(self._fallbacks))


class Record(_Answer):
    """What is stored under a key. Raises StorageFailed, when first looked at, if damaged bytes came, and
    InvalidRequest if those of a record of another kind."""

    __slots__ = ("_packed", "_siblings", "_unpacked")

    def __init__(self, packed: bytes, origin: Origin, answered: str, fallbacks: str) -> None:
        """packed: a canonical causality.Record, or b"" where no replica has one."""
        self._packed = packed
        self._unpacked: causality.Record | None = None
        self._siblings: list[Any] | None = None
        self._origin = origin
        self._answered = answered
        self._fallbacks = fallbacks
        self._context = None

    @property
    def exists(self) -> bool:
        """Whether there is a value, or several."""
        return bool(self._packed) and bool(self._record().siblings)

    @property
    def value(self) -> Any:
        """The only value; None when there is none. Raises ConflictError when there are siblings."""
        found = self._values()
        if len(found) > 1:
            raise ConflictError(
                f"{shown(self._origin)} has {len(found)} concurrent values; put a merged one with context",
                siblings=list(found),
                context=self.context,
            )
        return found[0] if found else None

    @property
    def siblings(self) -> list[Any]:
        """All concurrent values in the record's order, [] when there is none. The list is the caller's."""
        return list(self._values())

    @property
    def context(self) -> bytes:
        """The token that covers what was read; b"" where nothing was ever written."""
        if self._context is None:
            self._context = encode_token(self._record().context, self._origin)
        return self._context

    def __repr__(self) -> str:
        return f"<Record of {shown(self._origin)}: {self._values()!r}>"

    def _record(self) -> causality.Record:
        if self._unpacked is None:
            try:
                self._unpacked = (
                    causality.Record.unpack(self._packed) if self._packed else causality.Record.EMPTY
                )
            except causality.OtherKind as error:
                raise InvalidRequest(f"{shown(self._origin)} holds no siblings: {error}") from error
            except ValueError as error:
                raise _damaged(self._origin, error) from error
        return self._unpacked

    def _values(self) -> list[Any]:
        if self._siblings is None:
            try:
                # A write that was done again may be there under two dots.
                found = {sibling.request: sibling.value for sibling in self._record().siblings}
                self._siblings = [values.decode(value) for value in found.values()]
            except ValueError as error:
                raise _damaged(self._origin, error) from error
        return self._siblings


class UpdatedRecord(Record):
    """The record as `update` left it: the value that it put, under the context that the put returned."""

    __slots__ = ()

    def __init__(self, value: bytes, stored: PutResult) -> None:
        super().__init__(b"", stored._origin, stored._answered, stored._fallbacks)
        self._siblings = [values.decode(value)]
        self._context = stored.context

    @property
    def exists(self) -> bool:
        return True


class PutResult(_Answer):
    """What a put or a delete did. A delete's context is what it covered."""

    __slots__ = ("_packed",)

    def __init__(self, packed: bytes, origin: Origin, answered: str, fallbacks: str) -> None:
        """packed: a causality.Context, or b"" for the empty one."""
        self._packed = packed
        self._origin = origin
        self._answered = answered
        self._fallbacks = fallbacks
        self._context = None

    @property
    def context(self) -> bytes:
        """The token of this write, for the caller's next one."""
        if self._context is None:
            try:
                context = Context.unpack(self._packed) if self._packed else Context.EMPTY
            except ValueError as error:
                raise _damaged(self._origin, error) from error
            self._context = encode_token(context, self._origin)
        return self._context

    def __repr__(self) -> str:
        return f"<PutResult of {shown(self._origin)}: on {', '.join(self.replicas.answered) or 'no node'}>"


class FailedRecord(Record):
    """An entry of `get_many` whose read failed: `error` says why, all other attributes raise it."""

    __slots__ = ("error",)

    def __init__(self, error: DynoError) -> None:
        self.error = error

    def __getattribute__(self, name: str) -> Any:
        return _but_error(self, name)

    def __repr__(self) -> str:
        return f"<Record that failed: {self.error!r}>"


class FailedPut(PutResult):
    """An entry of `put_many` whose write failed: `error` says why, all other attributes raise it."""

    __slots__ = ("error",)

    def __init__(self, error: DynoError) -> None:
        self.error = error

    def __getattribute__(self, name: str) -> Any:
        return _but_error(self, name)

    def __repr__(self) -> str:
        return f"<PutResult that failed: {self.error!r}>"


def _but_error(entry: object, name: str) -> Any:
    if name in ("exists", "value", "siblings", "context", "replicas"):
        error: DynoError = object.__getattribute__(entry, "error")
        raise error.with_traceback(None)  # or it would grow with every look at one of many entries
    return object.__getattribute__(entry, name)


def encode_token(context: Context, origin: Origin) -> bytes:
    return token.encode(context, cluster=origin.cluster, bucket=origin.bucket, key=origin.key)


def names(joined: str) -> tuple[str, ...]:
    return tuple(joined.split(",")) if joined else ()


def shown(origin: Origin) -> str:
    """Bucket and key as an error names them."""
    return f"{origin.bucket}/{origin.key.decode(errors='backslashreplace')[:80]}"


def _damaged(origin: Origin, error: ValueError) -> StorageFailed:
    return StorageFailed(f"the answer for {shown(origin)} is damaged: {error}")
