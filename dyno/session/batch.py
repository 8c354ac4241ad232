"""Many keys in one call: `get_many` and `put_many` as machines over ordinary calls.

    get_many ── keys dealt to nodes ───▶ a GetMany each ──▶ what is plain is there
                                             └─ what is not ──▶ a get each ──▶ record or error
    put_many ──────────────────────────▶ a put each ─────────▶ result or error

A batch is a call whose parts are calls: they are sent, sent again and given up like all others, and when the
last one has ended the batch ends with a dict that has an entry for every key of the caller. What leaves in
one turn for one node travels in one frame. At most PARTS_MAX parts with KEYS_MAX keys are under way at once.

Nodes answer a GetMany only with what they find without effort: keys whose copies are equal and at rest. The
others are asked for by gets of their own, which merge and repair.

In: keys and values as users give them; whatever cannot be right raises InvalidRequest before anything is
sent. Out: entries that have a value or an error. The call as a whole fails only where every key failed for
one of two reasons that are not about the key: nobody could be reached, or the nodes refuse the options.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from dyno.errors import ConnectFailed, DynoError, InvalidRequest, Overloaded
from dyno.session import options
from dyno.session.calls import REQUEST_BYTES, Call
from dyno.session.results import FailedPut, FailedRecord, Origin, Record
from dyno.wire.messages import Get, GetMany
from dyno.wire.rows import pack_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dyno.session.links import NodeLink
    from dyno.session.options import BucketOptions
    from dyno.session.outbox import SessionOutbox
    from dyno.session.session import Session

PARTS_MAX = 512  # of one batch, under way at once
KEYS_MAX = 4096  # likewise; a batch alone should not be more than a node takes
MEMBERS_WAIT_S = 1.0  # for members that were asked for, but never more than half of the timeout

_new = tuple.__new__


class Batch(Call, ABC):
    """A call made of calls; begun by `go_on`. result: for every key of the caller its entry."""

    __slots__ = ("_began_at", "_keys", "_parts", "_session", "_todo", "entries")

    def __init__(self, session: Session, *, now: float, seconds: float) -> None:
        super().__init__(session.requests.next_id(), None, bucket=b"", deadline=now + seconds, weight=0)
        self.entries: dict[Any, Any] = {}  # in the caller's order; None until the key's part has ended
        self._began_at = now
        self._session = session
        self._todo: deque[Call] = deque()
        self._parts: dict[int, Call] = {}
        self._keys = 0  # of _parts

    def go_on(self, now: float, out: SessionOutbox) -> None:
        """Begin what there is room for; when nothing is left, end."""
        while self._todo and len(self._parts) < PARTS_MAX and self._keys < KEYS_MAX:
            part = self._todo.popleft()
            try:
                if part.deadline <= now:
                    raise self._session.never_began(part, "its turn in the batch did not come")
                if now > self._began_at:
                    part.trim(now)
                part.parent = self
                self._parts[part.id] = part
                self._keys += len(part.keys)
                self._session.begin(part, now, out)
            except DynoError as error:
                if self._parts.pop(part.id, None) is not None:
                    self._keys -= len(part.keys)
                if isinstance(error, Overloaded) and self._parts:
                    self._todo.appendleft(part)  # the client is full; this one's turn is when another ends
                    break
                self.failed(part, error)
        if not self._parts and not self._todo and self.result is None:
            self.result = self.entries
            self.error = self._sole_failure()
            out.finished.append(self)

    def ended(self, part: Call, now: float, out: SessionOutbox) -> None:
        """A part has its result or its error."""
        del self._parts[part.id]
        self._keys -= len(part.keys)
        if part.error is not None:
            self.failed(part, part.error)
        else:
            self.found(part)
        self.go_on(now, out)

    def cancel(self, now: float, out: SessionOutbox) -> None:
        """Nobody waits for it any more, nor for its parts."""
        self._todo.clear()
        parts, self._parts = self._parts, {}
        # Those that were sent come last, or those that wait would be sent in the room that they leave.
        for part in sorted(parts.values(), key=lambda part: part.link is not None):
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

    __slots__ = ("_bucket", "_budget_ms", "_named", "_pr", "_r", "_undealt", "_waited")

    def __init__(
        self,
        session: Session,
        bucket: BucketOptions,
        keys: Iterable[str | bytes],
        *,
        r: int | str | None = None,
        pr: int | str | None = None,
        timeout: float | None = None,
        sloppy: bool | None = None,
        now: float,
    ) -> None:
        seconds = bucket.seconds(timeout, session.requests.timeout)
        super().__init__(session, now=now, seconds=seconds)
        self._bucket = bucket
        self._r = bucket.r if r is None else options.quorum(r, "r", 0)
        self._pr = options.primaries(pr, "pr", bucket.pr, sloppy)
        self._named: dict[bytes, list[str | bytes]] = {}  # "a" and b"a" are one key, with an entry each
        self._budget_ms = options.budget_ms(seconds)
        key_bytes = options.key_bytes
        for key in _each(keys):
            self._named.setdefault(key_bytes(key), []).append(key)
            self.entries[key] = None
        self._undealt = bool(self._named)
        self._waited = False

    def go_on(self, now: float, out: SessionOutbox) -> None:
        """A client that has just opened learns the members first: any other node than their owners would
        leave out most of the keys."""
        if self._undealt and not self._waited:
            self._waited = True
            if self._awaits_members(now):
                return
        if self._undealt:
            self._undealt = False
            for link, some in self._session.grouped(self._bucket.id, list(self._named), now, out):
                self._todo.append(self._many(link, some))
        super().go_on(now, out)

    def _awaits_members(self, now: float) -> bool:
        """Whether the keys can only be dealt after a part that does nothing but wait for them."""
        seconds = min(MEMBERS_WAIT_S, (self.deadline - now) / 2)
        part = Call(self._session.requests.next_id(), None, bucket=b"", deadline=now + seconds, weight=0)
        part.keys = ()
        part.parent = self
        if not self._session.await_members(part):
            return False
        self._parts[part.id] = part
        return True

    def _many(self, link: NodeLink | None, keys: list[bytes]) -> Call:
        packed = pack_row(keys)
        id = self._session.requests.next_id()
        request = GetMany(id, self._bucket.name, packed, self._r, self._pr, self._budget_ms)
        part = Call(id, request, bucket=b"", deadline=self.deadline, weight=REQUEST_BYTES + len(packed))
        part.prefers = link
        part.keys = keys
        return part

    def found(self, part: Call) -> None:
        result = part.result
        if part.request is None:
            return  # the members are known now
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
        """A get for one key."""
        id = self._session.requests.next_id()
        request = Get(id, self._bucket.name, key, self._r, self._pr, self._budget_ms, False)
        part = Call(id, request, bucket=self._bucket.id, deadline=self.deadline, weight=REQUEST_BYTES)
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
        sloppy: bool | None = None,
        now: float,
    ) -> None:
        seconds = bucket.seconds(timeout, session.requests.timeout)
        super().__init__(session, now=now, seconds=seconds)
        self._name_of: dict[bytes, str | bytes] = {}
        context_of = {key: context for key, _, context in _by_key(contexts or {}, "contexts")}
        for key, name, value in _by_key(values, "values"):
            self._name_of[key] = name
            self.entries[name] = None
            part = session.requests.put(
                bucket,
                key,
                value,
                w=w,
                pw=pw,
                sloppy=sloppy,
                timeout=seconds,
                context=context_of.pop(key, None),
                if_context=None,
                now=now,
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
    if not isinstance(keys, Iterable):
        raise InvalidRequest(f"get_many takes several keys, like a list of them, not {type(keys).__name__}")
    return keys


def _by_key(given: Mapping[Any, Any], what: str) -> Iterator[tuple[bytes, str | bytes, Any]]:
    """Each key with the name that the caller has for it, and what he gives it."""
    if not isinstance(given, Mapping):
        raise InvalidRequest(f"{what} is a dict by key, not {type(given).__name__}")
    names: dict[bytes, str | bytes] = {}
    for name, item in given.items():
        key = options.key_bytes(name)
        if key in names:
            raise InvalidRequest(f"{name!r} and {names[key]!r} are one key, which is twice in {what}")
        names[key] = name
        yield key, name, item
