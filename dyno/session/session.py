"""The client as one pure machine: calls go in, messages and results come out.

A shell (`dyno.client`, or the simulator) owns sockets and clock and runs it with these verbs:

- `open`, `get`, `put`, `delete`, `list_keys`, `status`, `create_bucket`, `buckets` begin a call; its result
  appears in `SessionOutbox.finished`; `cancel` drops one;
- `hello` is the first thing to say on every link; then `link_up(address, hello)`, or `refused`, or
  `link_down`; `handle` takes every answer;
- `tick` at `deadline`; `close` ends all calls.

`now` is monotonic seconds. All verbs fill the one outbox that they are given. Guarantees: a call that was
begun ends exactly once, at its timeout at the latest; invalid requests raise before anything is sent; a
write is never sent twice unless the first was surely not done (see `dispatch`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from dyno.config import RECORD_BYTES_MAX
from dyno.errors import Code, ConnectFailed, InvalidRequest, Overloaded
from dyno.session import buckets, failures, options
from dyno.session.batch import Batch
from dyno.session.calls import Call
from dyno.session.changes import Changes
from dyno.session.dispatch import PATIENCE_S, Dispatch
from dyno.session.links import Links, LinkState
from dyno.session.pages import page_of
from dyno.session.paths import Paths
from dyno.session.results import Origin, PutResult, Record
from dyno.session.routing import Routing
from dyno.session.status import status_of
from dyno.wire import values
from dyno.wire.address import parse_address
from dyno.wire.codec import ProtocolError
from dyno.wire.messages import (
    PROTOCOL_VERSION,
    AskBuckets,
    AskMembers,
    Buckets,
    CreateBucket,
    Delete,
    Done,
    Failed,
    Found,
    FoundMany,
    Get,
    GetMany,
    Hello,
    Listed,
    ListKeys,
    Members,
    Put,
    Refuse,
)
from dyno.wire.pages import PAGE_KEYS_MAX
from dyno.wire.rows import unpack_row

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from dyno.errors import DynoError
    from dyno.session.links import NodeLink
    from dyno.session.options import BucketOptions
    from dyno.session.outbox import SessionOutbox
    from dyno.wire.messages import Message

PROTOCOL_LOW = 1
TIMEOUT_S = 5.0
OPEN_GRACE_S = 1.0  # how long an opening goes on when every listed address has failed once
REFRESH_S = 2.0  # between two looks at the members, while in use
FRESH_S = 1.0  # what was learned so lately is not asked again when a link comes up
IN_USE_S = 10.0  # after its last call a client counts as in use for so long
CALLS_MAX = 50_000  # under way at once
REQUEST_ID_BYTES = 16
CLUSTER_BYTES = 16
_REQUEST_BYTES = 128  # of a message without its value, about

_new = tuple.__new__  # half the price of calling the class of a named tuple


class Session:
    """seeds: the addresses that the user listed, "host:port". random: for request ids and jitter. timeout:
    seconds, of calls that name none. Raises InvalidRequest for what cannot be right."""

    def __init__(self, seeds: Sequence[str], *, random: Random, timeout: float = TIMEOUT_S) -> None:
        if not seeds:
            raise InvalidRequest("give the address of at least one node, like '127.0.0.1:7101'")
        for seed in seeds:
            _check_address(seed)
        self.timeout = options.timeout_s(timeout)
        self.random = random
        self._links = Links(seeds, random)
        self._routing = Routing()
        self._paths = Paths(self._links, self._routing)
        self._changes = Changes()
        self._dispatch = Dispatch(self._links, self._paths, self._changes, random)
        self._cluster = b""
        self._last_id = 0
        self._closed: str | None = None
        self._opening: Call | None = None
        self._opening_may_fail_at = math.inf
        self._used_at = -math.inf
        self._asked: NodeLink | None = None  # whom the members were asked of last
        self._asked_at = -math.inf
        self._asking = False  # and whether it still owes the answer
        self._learned_at = -math.inf
        self._refresh_at = math.inf
        self._upkeep_at = math.inf

    # ── calls ──

    def open(self, now: float, out: SessionOutbox) -> Call:
        """Ends when a link is up. Fails with ConnectFailed once every listed address has failed and a short
        grace is over, so that a node that is just starting is found."""
        call = Call(self.next_id(), None, bucket=b"", deadline=now + self.timeout, weight=0)
        self._opening = call
        self._opening_may_fail_at = now + OPEN_GRACE_S
        self._used_at = now
        self._dispatch.hold(call)
        self._upkeep(now, out)
        return call

    def get(
        self,
        bucket: BucketOptions,
        key: str | bytes,
        *,
        r: int | str | None = None,
        pr: int | str | None = None,
        timeout: float | None = None,
        delay: float = 0.0,
        now: float,
        out: SessionOutbox,
    ) -> Call:
        """Ends with a Record. delay: seconds to wait before it is sent."""
        seconds = (bucket.timeout or self.timeout) if timeout is None else options.timeout_s(timeout)
        request = _new(
            Get,
            (
                self.next_id(),
                bucket.name,
                options.key_bytes(key),
                bucket.r if r is None else options.quorum(r, "r", 0),
                bucket.pr if pr is None else options.quorum(pr, "pr", 0),
                int(seconds * 1000) or 1,
                False,
            ),
        )
        call = Call(request.id, request, bucket=bucket.id, deadline=now + seconds, weight=_REQUEST_BYTES)
        return self.begin(call, now, out, delay=delay)

    def put(
        self,
        bucket: BucketOptions,
        key: str | bytes,
        value: Any,
        *,
        w: int | str | None = None,
        pw: int | str | None = None,
        timeout: float | None = None,
        context: bytes | None = None,
        if_context: bytes | None = None,
        now: float,
        out: SessionOutbox,
    ) -> Call:
        """Ends with a PutResult; ConflictError when if_context does not match."""
        call = self.put_call(
            bucket,
            key,
            value,
            w=w,
            pw=pw,
            timeout=timeout,
            context=context,
            if_context=if_context,
            now=now,
        )
        return self.begin(call, now, out)

    def put_call(
        self,
        bucket: BucketOptions,
        key: str | bytes,
        value: Any,
        *,
        w: int | str | None = None,
        pw: int | str | None = None,
        timeout: float | None = None,
        context: bytes | None = None,
        if_context: bytes | None = None,
        now: float,
    ) -> Call:
        """A put that is still to be begun."""
        if if_context is None:
            given = b"" if context is None else options.context_token(context, "context")
        elif context is None:
            given = options.context_token(if_context, "if_context")
        else:
            raise InvalidRequest(
                "give context or if_context, not both: if_context is the write's context too"
            )
        seconds = (bucket.timeout or self.timeout) if timeout is None else options.timeout_s(timeout)
        encoded = values.encode(value, bytes_max=RECORD_BYTES_MAX)
        request = _new(
            Put,
            (
                self.next_id(),
                bucket.name,
                options.key_bytes(key),
                encoded,
                given,
                if_context is not None,
                bucket.w if w is None else options.quorum(w, "w", 0),
                bucket.pw if pw is None else options.quorum(pw, "pw", 0),
                self.random.randbytes(REQUEST_ID_BYTES),
                int(seconds * 1000) or 1,
                False,
            ),
        )
        weight = _REQUEST_BYTES + len(encoded) + len(given)
        return Call(request.id, request, bucket=bucket.id, deadline=now + seconds, weight=weight)

    def delete(
        self,
        bucket: BucketOptions,
        key: str | bytes,
        *,
        w: int | str | None = None,
        pw: int | str | None = None,
        timeout: float | None = None,
        context: bytes | None = None,
        now: float,
        out: SessionOutbox,
    ) -> Call:
        """Ends with a PutResult whose context is what was deleted. Without a context the node reads first, by
        the handle's r and pr; b"", which a missing key has, covers nothing, so then nothing is sent."""
        seconds = (bucket.timeout or self.timeout) if timeout is None else options.timeout_s(timeout)
        given = b"" if context is None else options.context_token(context, "context")
        request = _new(
            Delete,
            (
                self.next_id(),
                bucket.name,
                options.key_bytes(key),
                given,
                bucket.r,
                bucket.pr,
                bucket.w if w is None else options.quorum(w, "w", 0),
                bucket.pw if pw is None else options.quorum(pw, "pw", 0),
                self.random.randbytes(REQUEST_ID_BYTES),
                int(seconds * 1000) or 1,
                False,
            ),
        )
        weight = _REQUEST_BYTES + len(given)
        call = Call(request.id, request, bucket=bucket.id, deadline=now + seconds, weight=weight)
        if context is not None and not given:
            self._dispatch.hold(call)
            origin = Origin(self._cluster, request.bucket, request.key)
            self._dispatch.conclude(call, PutResult(b"", origin, "", ""), now, out)
            return call
        return self.begin(call, now, out)

    def list_keys(
        self,
        bucket: BucketOptions,
        partition: int,
        after: bytes,
        *,
        r: int,
        pr: int,
        timeout: float,
        now: float,
        out: SessionOutbox,
    ) -> Call:
        """Ends with a Page: for `Listing`, which has checked the rest. partition: below `partitions`."""
        request = ListKeys(
            self.next_id(),
            bucket.name,
            partition,
            after,
            PAGE_KEYS_MAX,
            r,
            pr,
            int(timeout * 1000) or 1,
            False,
        )
        call = Call(request.id, request, bucket=bucket.id, deadline=now + timeout, weight=_REQUEST_BYTES)
        return self.begin(call, now, out)

    @property
    def partitions(self) -> int:
        """Of the cluster; 0 until any node has told its members."""
        return self._routing.partitions

    def status(self, *, timeout: float | None = None, now: float, out: SessionOutbox) -> Call:
        """Ends with the dict of `dyno status --json`, as one node sees the cluster now."""
        seconds = self.timeout if timeout is None else options.timeout_s(timeout)
        request = AskMembers(self.next_id())
        call = Call(request.id, request, bucket=b"", deadline=now + seconds, weight=_REQUEST_BYTES)
        return self.begin(call, now, out)

    def next_id(self) -> int:
        """For a call, unique within the session."""
        self._last_id += 1
        return self._last_id

    def begin(self, call: Call, now: float, out: SessionOutbox, *, delay: float = 0.0) -> Call:
        """Raises Overloaded when too many are under way."""
        dispatch = self._dispatch
        if self._closed is not None:
            raise ConnectFailed(self._closed)
        if len(dispatch.calls) >= CALLS_MAX:
            raise Overloaded(f"this client has {CALLS_MAX} calls under way already", retry_after=0.1)
        self._used_at = now
        if now >= self._refresh_at:
            self._ask_members(now, out)
        if delay:
            dispatch.begin_later(call, now + delay)
            return call
        dispatch.begin(call, now, out)
        if call.link is None:
            self._upkeep(now, out)
        return call

    def never_began(self, call: Call, why: str) -> DynoError:
        """What a call ends with whose time was up before it could be begun."""
        if self._links.any_up:
            return failures.timeout(call, why, indeterminate=False)
        return failures.unreachable(self._links.why())

    def grouped(
        self, bucket: bytes, keys: list[bytes], now: float, out: SessionOutbox
    ) -> list[tuple[NodeLink | None, list[bytes]]]:
        """See Paths.grouped."""
        return self._paths.grouped(bucket, keys, now, out)

    @property
    def cluster(self) -> bytes:
        """The cluster's id; b"" before the first link was up."""
        return self._cluster

    def create_bucket(
        self,
        name: str,
        *,
        n: int | None = None,
        r: int | str | None = None,
        w: int | str | None = None,
        kind: str = "siblings",
        timeout: float | None = None,
        now: float,
        out: SessionOutbox,
    ) -> Call:
        """Ends with the bucket's properties, as `buckets` shows them."""
        seconds = self.timeout if timeout is None else options.timeout_s(timeout)
        request = buckets.creation(
            self.next_id(), name, n=n, r=r, w=w, kind=kind, budget_ms=int(seconds * 1000) or 1
        )
        call = Call(request.id, request, bucket=b"", deadline=now + seconds, weight=_REQUEST_BYTES)
        return self.begin(call, now, out)

    def buckets(self, *, timeout: float | None = None, now: float, out: SessionOutbox) -> Call:
        """Ends with a dict of the properties of all created buckets, by name."""
        seconds = self.timeout if timeout is None else options.timeout_s(timeout)
        request = AskBuckets(self.next_id())
        call = Call(request.id, request, bucket=b"", deadline=now + seconds, weight=_REQUEST_BYTES)
        return self.begin(call, now, out)

    def cancel(self, call: Call, now: float, out: SessionOutbox) -> None:
        """Nobody waits for it any more; what was sent may still be done. Never disturbs another call."""
        if isinstance(call, Batch):
            call.cancel(now, out)
        self._dispatch.cancel(call, now, out)

    def close(
        self,
        now: float,
        out: SessionOutbox,
        *,
        reason: str = "the client was closed",
        cause: BaseException | None = None,
    ) -> None:
        """End all calls; a write that was sent may have been done. Nothing can be begun any more."""
        self._closed = reason
        self._dispatch.end_all(reason, cause, now, out)

    # ── links ──

    def hello(self) -> Hello:
        """What to say first on every link."""
        return Hello(PROTOCOL_LOW, PROTOCOL_VERSION, "client", self._cluster, 0, "", b"", b"", "")

    def link_up(self, address: str, hello: Hello, now: float, out: SessionOutbox) -> None:
        """The node at a dialled address said hello."""
        link = self._links.get(address)
        if link is None or link.state is not LinkState.DIALLING:
            return
        objection = self._objection(hello)
        if objection:
            out.disconnect.append(address)
            self._down(link, objection, now, out)
            self._upkeep(now, out)
            return
        self._cluster = hello.cluster
        if link.failures:
            self._changes.link_changed(now)
        self._links.came_up(link, hello.name, now)
        self._paths.forget()
        if now >= self._learned_at + FRESH_S:
            self._ask_members(now, out)
        if self._opening is not None:
            opening, self._opening = self._opening, None
            if opening.id in self._dispatch.calls:
                self._dispatch.conclude(opening, None, now, out)
        self._dispatch.send_waiting(now, out)

    def refused(self, address: str, refuse: Refuse, now: float, out: SessionOutbox) -> None:
        """The node would not talk to us, and closes."""
        out.disconnect.append(address)
        self.link_down(address, refuse.text, now, out)

    def link_down(self, address: str, reason: str, now: float, out: SessionOutbox) -> None:
        """A link broke, or could not be made."""
        link = self._links.get(address)
        if link is not None and link.state is not LinkState.DOWN:
            self._down(link, reason, now, out)
            self._upkeep(now, out)

    def handle(self, address: str, message: Message, now: float, out: SessionOutbox) -> None:
        """An answer on a link that is up. What belongs to no call is late and means nothing. Raises
        ProtocolError for a message that is no answer; the link is then to be closed."""
        link = self._links.get(address)
        if link is None or link.state is not LinkState.UP:
            return
        link.heard_at = now
        if link.silent_at is not None:
            link.silent_at = None
            link.refresh()
            self._dispatch.send_waiting(now, out)
        if isinstance(message, Found):
            call = self._dispatch.calls.get(message.id)
            if call is not None and isinstance(request := call.request, Get):
                origin = _new(Origin, (self._cluster, request.bucket, request.key))
                record = Record(message.record, origin, message.answered, message.fallbacks)
                self._dispatch.found(call, link, record, now, out)
        elif isinstance(message, Done):
            call = self._dispatch.calls.get(message.id)
            if call is not None and isinstance(request := call.request, Put | Delete):
                origin = _new(Origin, (self._cluster, request.bucket, request.key))
                result = PutResult(message.context, origin, message.answered, message.fallbacks)
                self._dispatch.conclude(call, result, now, out)
        elif isinstance(message, Failed):
            self._failed(link, message, now, out)
        elif isinstance(message, Members):
            self._members(link, message, now, out)
        elif isinstance(message, Buckets):
            call = self._dispatch.calls.get(message.id)
            if call is not None and isinstance(call.request, CreateBucket | AskBuckets):
                self._dispatch.conclude(call, buckets.answered(call.request, message), now, out)
        else:
            self._many(message, now, out)

    # ── time ──

    def tick(self, now: float, out: SessionOutbox) -> None:
        self._dispatch.tick(now, out)
        self._upkeep(now, out)

    def deadline(self) -> float:
        """When `tick` is due; infinity when nothing is under way and nobody used the client lately."""
        return min(self._dispatch.next(), self._upkeep_at)

    # ── inside: calls ──

    def _many(self, message: Message, now: float, out: SessionOutbox) -> None:
        """An answer about many keys."""
        if not isinstance(message, FoundMany | Listed):
            raise ProtocolError(f"a {type(message).__name__} is no answer")
        call = self._dispatch.calls.get(message.id)
        if call is None:
            return
        if isinstance(message, FoundMany) and isinstance(call.request, GetMany):
            self._dispatch.conclude(call, _found_many(message, len(call.keys)), now, out)
        elif isinstance(message, Listed) and isinstance(call.request, ListKeys):
            self._dispatch.conclude(call, page_of(message, call.request), now, out)

    def _failed(self, link: NodeLink, failed: Failed, now: float, out: SessionOutbox) -> None:
        call = self._dispatch.calls.get(failed.id)
        if call is None or not call.is_asked_at(link):
            return  # a late word from a link that was given up on
        request = call.request
        origin = None
        if isinstance(request, Get | Put | Delete):
            origin = Origin(self._cluster, request.bucket, request.key)
        if failed.code == Code.RING:
            self._ask_members(now, out)
        error = failures.error_of(failed, call, origin)
        self._dispatch.refused(call, link, failed, error, now, out)

    # ── inside: links and members ──

    def _objection(self, hello: Hello) -> str:
        """Why we would not talk to a node, or ""."""
        if hello.protocol_low > PROTOCOL_VERSION or hello.protocol_high < PROTOCOL_LOW:
            return (
                f"talks protocol versions {hello.protocol_low} to {hello.protocol_high}, "
                f"this client {PROTOCOL_LOW} to {PROTOCOL_VERSION}"
            )
        if hello.role != "peer" or not hello.name:
            return "is not a dyno node"
        if len(hello.cluster) != CLUSTER_BYTES:
            return "has not joined a cluster yet"
        if self._cluster and hello.cluster != self._cluster:
            return f"belongs to cluster {hello.cluster.hex()}, the others to {self._cluster.hex()}"
        return ""

    def _down(self, link: NodeLink, reason: str, now: float, out: SessionOutbox) -> None:
        unsent: dict[int, bool] = {}
        for address, message in out.sends:
            if address == link.address:
                unsent[message.id] = True
        if unsent:
            out.sends[:] = [send for send in out.sends if send[0] != link.address]
        was_up = link.state is LinkState.UP
        self._links.went_down(link, reason, now)
        self._paths.forget()
        if was_up:
            self._changes.link_changed(now)
        self._dispatch.link_lost(link, reason, unsent, now, out)
        if was_up:
            self._asking = self._asking and self._asked is not link
            self._ask_members(now, out)

    def _ask_members(self, now: float, out: SessionOutbox) -> None:
        """Ask a node, another one than last time if possible; unless one was asked and may still answer."""
        if self._asking and now < self._asked_at + PATIENCE_S:
            return
        self._refresh_at = now + REFRESH_S
        last = () if self._asked is None else (self._asked,)
        link = self._links.any_ready(last) or self._links.any_ready(())
        self._asking = link is not None
        if link is not None:
            out.sends.append((link.address, AskMembers(0)))
            self._asked = link
            self._asked_at = now
            self._upkeep_at = min(self._upkeep_at, now + PATIENCE_S)

    def _members(self, link: NodeLink, told: Members, now: float, out: SessionOutbox) -> None:
        try:
            if told.cluster != self._cluster:
                raise ProtocolError("members of another cluster")
            changed = self._routing.learn(told)
        except ValueError as error:
            out.disconnect.append(link.address)
            self._down(link, f"not understood: {error}", now, out)
            self._upkeep(now, out)
            return
        self._asking = False
        self._learned_at = now
        if changed:
            self._paths.forget()
            self._changes.learned(self._routing.members, now)
            self._links.forget_all_but([member.address for member in self._routing.members])
        call = self._dispatch.calls.get(told.id)
        if call is not None and isinstance(call.request, AskMembers):
            status = status_of(self._routing, cluster=told.cluster, partitions=told.partitions)
            self._dispatch.conclude(call, status, now, out)

    def _upkeep(self, now: float, out: SessionOutbox) -> None:
        """Give up what is overdue, dial, look at the members, and set when to come back."""
        for link, reason in self._links.overdue(now):
            out.disconnect.append(link.address)
            self._down(link, reason, now, out)
        in_use = bool(self._dispatch.calls) or now < self._used_at + IN_USE_S
        if self._asking and self._asked_at + PATIENCE_S <= now:
            self._no_members(now, out)
        if in_use and self._refresh_at <= now:
            self._ask_members(now, out)
        redial = in_use and self._links.any_ready(()) is None
        if redial:
            for member in self._routing.members:
                self._links.of_member(member.name, member.address)
            self._links.dial_all(now, out)
        at = self._links.next_event(redial=redial)
        if in_use:
            at = min(at, self._refresh_at)
        if self._asking:
            at = min(at, self._asked_at + PATIENCE_S)
        if self._opening is not None:
            at = self._check_opening(self._opening, at, now, out)
        self._upkeep_at = at

    def _no_members(self, now: float, out: SessionOutbox) -> None:
        """Who was asked for the members has not answered: ask somebody else."""
        link = self._asked
        assert link is not None
        if link.heard_at <= self._asked_at:
            link.fall_silent(now)
        self._ask_members(now, out)

    def _check_opening(self, opening: Call, at: float, now: float, out: SessionOutbox) -> float:
        """Give up an opening for which every address has had its chance; when to look again otherwise."""
        if opening.id not in self._dispatch.calls:
            self._opening = None  # it was cancelled, or had no more time
        elif now < self._opening_may_fail_at:
            return min(at, self._opening_may_fail_at)
        elif self._links.listed_all_failed():
            self._opening = None
            self._dispatch.fail(opening, failures.unreachable(self._links.why()), now, out)
        return at


def _found_many(message: FoundMany, keys: int) -> tuple[list[bytes | None], list[str], bytes]:
    """For each key its record, if it is there, and the number of the group of names that answered. Raises
    ProtocolError."""
    records = unpack_row(message.records, items_max=keys)
    answered = message.answered.split(";")
    if not len(records) == len(message.which) == keys or max(message.which) >= len(answered):
        raise ProtocolError("an answer for other keys than were asked for")
    return records, answered, message.which


def _check_address(address: str) -> None:
    if not isinstance(address, str):
        raise InvalidRequest(f"an address is a str like '127.0.0.1:7101', not {type(address).__name__}")
    try:
        parse_address(address)
    except ValueError as error:
        raise InvalidRequest(str(error)) from error
