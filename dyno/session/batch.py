"""Many keys in one call: `get_many` and `put_many` as machines over ordinary calls.

    get_many ── keys grouped by node ──▶ a GetMany each ──▶ what is plain is there
                                             └─ what is not ──▶ a get each ──▶ record or error
    put_many ──────────────────────────▶ a put each ─────────▶ result or error

A batch is a call whose parts are calls: they are sent, sent again and given up like all others, and when the
last one has ended the batch ends with a dict that has an entry for every key of the caller. What leaves in
one turn for one node travels in one frame. At most PARTS_MAX parts are under way at once.

Nodes answer a GetMany only with what they find without effort: keys whose copies are equal and at rest. The
others are asked for by gets of their own, which merge and repair.

In: keys and values as users give them; whatever cannot be right raises InvalidRequest before anything is
sent. Out: entries that have a value or an error. The call as a whole fails only where every key failed for
one of two reasons that are not about the key: nobody could be reached, or the nodes refuse the options.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Any

from dyno.errors import ConnectFailed, DynoError, InvalidRequest
from dyno.session import failures, options
from dyno.session.calls import Call
from dyno.session.results import FailedPut, FailedRecord, Origin, Record
from dyno.wire.messages import GET_MANY_KEYS_MAX, Get, GetMany
from dyno.wire.rows import pack_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from dyno.session.links import NodeLink
    from dyno.session.options import BucketOptions
    from dyno.session.outbox import SessionOutbox
    from dyno.session.session import Session

PARTS_MAX = 512  # of one batch, under way at once
KEYS_BYTES_MAX = 128 << 10  # of one GetMany
_REQUEST_BYTES = 128  # of a message without what it carries, about

_new = tuple.__new__


class Batch(Call, ABC):
    """A call made of calls; begun by `go_on`. result: for every key of the caller its entry."""

    __slots__ = ("_parts", "_session", "_todo", "entries")

    def __init__(self, session: Session, *, deadline: float) -> None:
        super().__init__(session.next_id(), None, bucket=b"", deadline=deadline, weight=0)
        self.entries: dict[Any, Any] = {}
        self._session = session
        self._todo: deque[Call] = deque()
        self._parts: dict[int, Call] = {}

    def go_on(self, now: float, out: SessionOutbox) -> None:
        """Begin what there is room for; when nothing is left, end."""
        while self._todo and len(self._parts) < PARTS_MAX:
            part = self._todo.popleft()
            try:
                if part.deadline <= now:
                    raise failures.timeout(part, "its turn in the batch did not come", indeterminate=False)
                part.parent = self
                self._parts[part.id] = part
                self._session.begin(part, now, out)
            except DynoError as error:
                self._parts.pop(part.id, None)
                self.failed(part, error)
        if not self._parts and not self._todo and self.result is None:
            self.result = self.entries
            self.error = self._sole_failure()
            out.finished.append(self)

    def ended(self, part: Call, now: float, out: SessionOutbox) -> None:
        """A part has its result or its error."""
        del self._parts[part.id]
        if part.error is not None:
            self.failed(part, part.error)
        else:
            self.found(part)
        self.go_on(now, out)

    def cancel(self, now: float, out: SessionOutbox) -> None:
        """Nobody waits for it any more, nor for its parts."""
        self._todo.clear()
        parts, self._parts = self._parts, {}
        for part in parts.values():
            self._session.cancel(part, now, out)

    @abstractmethod
    def found(self, part: Call) -> None:
        """Take a part's result."""

    @abstractmethod
    def failed(self, part: Call, error: DynoError) -> None:
        """Take a part's error."""

    def _sole_failure(self) -> DynoError | None:
        """What the whole call fails with, where that is no matter of the keys."""
        for kind in (ConnectFailed, InvalidRequest):
            if self.entries and all(isinstance(entry.error, kind) for entry in self.entries.values()):
                error: DynoError = next(iter(self.entries.values())).error
                return error
        return None


class GetBatch(Batch):
    """keys: of the caller, who gets an entry for each. An entry is a Record, or a FailedRecord."""

    __slots__ = ("_bucket", "_named", "_pr", "_r")

    def __init__(
        self,
        session: Session,
        bucket: BucketOptions,
        keys: Iterable[str | bytes],
        *,
        r: int | str | None = None,
        pr: int | str | None = None,
        timeout: float | None = None,
        now: float,
    ) -> None:
        seconds = (bucket.timeout or session.timeout) if timeout is None else options.timeout_s(timeout)
        super().__init__(session, deadline=now + seconds)
        self._bucket = bucket
        self._r = bucket.r if r is None else options.quorum(r, "r", 0)
        self._pr = bucket.pr if pr is None else options.quorum(pr, "pr", 0)
        self._named: dict[bytes, list[str | bytes]] = {}  # "a" and b"a" are one key, with an entry each
        key_bytes = options.key_bytes
        for key in _each(keys):
            self._named.setdefault(key_bytes(key), []).append(key)
        budget_ms = int(seconds * 1000) or 1
        for link, group in session.grouped(bucket.id, list(self._named)):
            for some in _slices(group):
                self._todo.append(self._many(link, some, budget_ms))

    def _many(self, link: NodeLink | None, keys: list[bytes], budget_ms: int) -> Call:
        packed = pack_row(keys)
        id = self._session.next_id()
        request = GetMany(id, self._bucket.name, packed, self._r, self._pr, budget_ms)
        part = Call(id, request, bucket=b"", deadline=self.deadline, weight=_REQUEST_BYTES + len(packed))
        part.prefers = link
        part.keys = keys
        return part

    def found(self, part: Call) -> None:
        result = part.result
        if isinstance(result, Record):
            self._enter(part.request.key, result)  # type: ignore[union-attr]
            return
        records, answered, which = result
        cluster, bucket, entries, named = self._session.cluster, self._bucket.name, self.entries, self._named
        for key, record, group in zip(part.keys, records, which, strict=True):
            if record is None:
                self._todo.append(self._alone(key))
            else:
                origin = _new(Origin, (cluster, bucket, key))
                for name in named[key]:
                    entries[name] = Record(record, origin, answered[group], "")

    def failed(self, part: Call, error: DynoError) -> None:
        for key in part.keys:
            self._enter(key, FailedRecord(error))

    def _alone(self, key: bytes) -> Call:
        """A get for one key. Its budget is set when it is sent."""
        id = self._session.next_id()
        request = Get(id, self._bucket.name, key, self._r, self._pr, 1, False)
        part = Call(id, request, bucket=self._bucket.id, deadline=self.deadline, weight=_REQUEST_BYTES)
        part.keys = (key,)
        return part

    def _enter(self, key: bytes, entry: Record) -> None:
        for name in self._named[key]:
            self.entries[name] = entry


class PutBatch(Batch):
    """values: by the caller's keys. contexts: of some of them, or all. An entry is a PutResult, or a
    FailedPut."""

    __slots__ = ("_name_of",)

    def __init__(
        self,
        session: Session,
        bucket: BucketOptions,
        values: Mapping[Any, Any],
        *,
        contexts: Mapping[Any, bytes] | None = None,
        w: int | str | None = None,
        pw: int | str | None = None,
        timeout: float | None = None,
        now: float,
    ) -> None:
        seconds = (bucket.timeout or session.timeout) if timeout is None else options.timeout_s(timeout)
        super().__init__(session, deadline=now + seconds)
        self._name_of: dict[bytes, str | bytes] = {}
        context_of = {options.key_bytes(key): context for key, context in (contexts or {}).items()}
        for name, value in values.items():
            key = options.key_bytes(name)
            if key in self._name_of:
                raise InvalidRequest(
                    f"{name!r} and {self._name_of[key]!r} are one key; give one value for it"
                )
            self._name_of[key] = name
            part = session.put_call(
                bucket, key, value, w=w, pw=pw, timeout=seconds, context=context_of.pop(key, None), now=now
            )
            part.keys = (key,)
            self._todo.append(part)
        for key in context_of:
            raise InvalidRequest(f"contexts has {key!r}, for which there is no value")

    def found(self, part: Call) -> None:
        self.entries[self._name_of[part.keys[0]]] = part.result

    def failed(self, part: Call, error: DynoError) -> None:
        self.entries[self._name_of[part.keys[0]]] = FailedPut(error)


def _each(keys: Iterable[str | bytes]) -> Iterable[str | bytes]:
    if isinstance(keys, str | bytes):
        raise InvalidRequest(f"get_many takes several keys, like [{keys!r}], not one")
    return keys


def _slices(keys: list[bytes]) -> Iterator[list[bytes]]:
    """As many keys as one GetMany holds."""
    some: list[bytes] = []
    size = 0
    for key in keys:
        if len(some) == GET_MANY_KEYS_MAX or size + len(key) > KEYS_BYTES_MAX:
            yield some
            some, size = [], 0
        some.append(key)
        size += len(key)
    if some:
        yield some
