"""The client as one pure machine: calls go in, messages and results come out.

A shell (`dyno.client`, or the simulator) owns sockets and clock and runs it with these verbs:

- `open`, `get`, `put`, `delete`, `list_keys`, `status`, `explain`, `create_bucket`, `buckets` begin a call;
  its result appears in `SessionOutbox.finished`; `cancel` drops one;
- `hello` is the first thing to say on every link; then `link_up(address, hello)`, or `refused`, or
  `link_down`; `handle` takes every answer;
- `tick` at `deadline`; `close` ends all calls.

`now` is monotonic seconds. All verbs fill the one outbox that they are given. Guarantees: a call that was
begun ends exactly once, at its timeout at the latest; invalid requests raise before anything is sent; a
write that is sent again is done once, for nodes know it by its request id (see `judging`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dyno.errors import Code, ConnectFailed, InvalidRequest, Overloaded
from dyno.session import buckets, explaining, failures
from dyno.session.batch import Batch
from dyno.session.calls import Call
from dyno.session.changes import Changes
from dyno.session.deletion import Deletion
from dyno.session.dispatch import Dispatch
from dyno.session.links import Links, LinkState
from dyno.session.pages import page_of
from dyno.session.paths import Paths
from dyno.session.requests import Requests
from dyno.session.results import Origin, PutResult, Record
from dyno.session.routing import Routing
from dyno.session.upkeep import Upkeep
from dyno.wire.address import parse_address
from dyno.wire.codec import ProtocolError
from dyno.wire.messages import (
    AskBuckets,
    AskRepair,
    Buckets,
    CreateBucket,
    Delete,
    Done,
    Explain,
    Explained,
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
    RepairTold,
)
from dyno.wire.repairs import unpack_reports
from dyno.wire.rows import unpack_row

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from dyno.errors import DynoError
    from dyno.session.links import NodeLink
    from dyno.session.options import BucketOptions
    from dyno.session.outbox import SessionOutbox
    from dyno.wire.messages import Message

TIMEOUT_S = 5.0
CALLS_MAX = 50_000  # under way at once

_new = tuple.__new__  # half the price of calling the class of a named tuple


class Session:
    """seeds: the addresses that the user listed, "host:port". random: for request ids and jitter. timeout:
    seconds, of calls that name none. Raises InvalidRequest for what cannot be right.

    requests: builds the calls, for machines that are made of several."""

    def __init__(self, seeds: Sequence[str], *, random: Random, timeout: float = TIMEOUT_S) -> None:
        if not seeds:
            raise InvalidRequest("give the address of at least one node, like '127.0.0.1:7101'")
        for seed in seeds:
            _check_address(seed)
        self.requests = Requests(random=random, timeout=timeout)
        self.random = random
        self._links = Links(seeds, random)
        self._routing = Routing()
        self._paths = Paths(self._links, self._routing, random)
        changes = Changes()
        self._dispatch = Dispatch(self._links, self._paths, changes, random)
        self._upkeep = Upkeep(self._links, self._routing, self._paths, changes, self._dispatch)
        self._closed: str | None = None

    # ── calls ──

    def open(self, now: float, out: SessionOutbox) -> Call:
        """Ends when a link is up. Fails with ConnectFailed once every listed address has failed and a short
        grace is over, so that a node that is just starting is found."""
        call = self.requests.opening(now)
        self._upkeep.open(call, now, out)
        return call

    def get(
        self,
        bucket: BucketOptions,
        key: str | bytes,
        *,
        now: float,
        out: SessionOutbox,
        r: int | str | None = None,
        pr: int | str | None = None,
        timeout: float | None = None,
        sloppy: bool | None = None,
        delay: float = 0.0,
    ) -> Call:
        """Ends with a Record. sloppy: None: as the handle has it. delay: seconds to wait before it is
        sent."""
        call = self.requests.get(bucket, key, r=r, pr=pr, timeout=timeout, sloppy=sloppy, now=now)
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
        sloppy: bool | None = None,
        now: float,
        out: SessionOutbox,
    ) -> Call:
        """Ends with a PutResult; ConflictError when if_context does not match."""
        call = self.requests.put(
            bucket,
            key,
            value,
            w=w,
            pw=pw,
            timeout=timeout,
            context=context,
            if_context=if_context,
            sloppy=sloppy,
            now=now,
        )
        return self.begin(call, now, out)

    def delete(
        self,
        bucket: BucketOptions,
        key: str | bytes,
        *,
        w: int | str | None = None,
        pw: int | str | None = None,
        timeout: float | None = None,
        context: bytes | None = None,
        sloppy: bool | None = None,
        now: float,
        out: SessionOutbox,
    ) -> Call:
        """Ends with a PutResult whose context is what was deleted. Without a context it reads first, by the
        handle's r and pr; b"", which a missing key has, covers nothing, so then nothing is sent."""
        call = self.requests.delete(
            bucket, key, w=w, pw=pw, timeout=timeout, context=context, sloppy=sloppy, now=now
        )
        if context is None:
            get = self.requests.get(bucket, key, r=None, pr=None, timeout=timeout, sloppy=sloppy, now=now)
            deletion = Deletion(self, get=get, delete=call)
            deletion.start(now, out)
            return deletion
        if context == b"":
            assert isinstance(call.request, Delete)
            self._dispatch.hold(call)
            origin = Origin(self.cluster, bucket.name, call.request.key)
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
        call = self.requests.list_keys(bucket, partition, after, r=r, pr=pr, timeout=timeout, now=now)
        return self.begin(call, now, out)

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
        call = self.requests.create_bucket(name, n=n, r=r, w=w, kind=kind, timeout=timeout, now=now)
        return self.begin(call, now, out)

    def buckets(self, *, timeout: float | None = None, now: float, out: SessionOutbox) -> Call:
        """Ends with a dict of the properties of all created buckets, by name."""
        return self.begin(self.requests.buckets(timeout=timeout, now=now), now, out)

    def status(
        self, *, now: float, out: SessionOutbox, timeout: float | None = None, delay: float = 0.0
    ) -> Call:
        """Ends with the dict of `dyno status --json`, as one node sees the cluster now. delay: seconds to
        wait before it is asked."""
        return self.begin(self.requests.status(timeout=timeout, now=now), now, out, delay=delay)

    def explain(
        self,
        bucket: str,
        key: str | bytes,
        *,
        timeout: float | None = None,
        now: float,
        out: SessionOutbox,
    ) -> Call:
        """Ends with the dict of `dyno explain --json`: what every node holds of a key."""
        return self.begin(self.requests.explain(bucket, key, timeout=timeout, now=now), now, out)

    def repair(
        self,
        run: bytes,
        bucket: str,
        *,
        now: float,
        out: SessionOutbox,
        merge: bool = False,
        timeout: float | None = None,
        delay: float = 0.0,
    ) -> Call:
        """Ends with a list of the reports of all members: for `Repairing`, which checks the rest, and with
        no run and no bucket for what was mended so far. delay: seconds to wait before it is asked."""
        call = self.requests.repair(run, bucket, merge=merge, timeout=timeout, now=now)
        return self.begin(call, now, out, delay=delay)

    def members(self, *, timeout: float, now: float, out: SessionOutbox) -> Call:
        """Ends when a node has told the members, with how many partitions there are."""
        return self.begin(self.requests.members(timeout=timeout, now=now), now, out)

    def begin(self, call: Call, now: float, out: SessionOutbox, *, delay: float = 0.0) -> Call:
        """Raises Overloaded when too many are under way."""
        dispatch = self._dispatch
        if self._closed is not None:
            raise ConnectFailed(self._closed)
        if len(dispatch.calls) >= CALLS_MAX:
            raise Overloaded(f"this client has {CALLS_MAX} calls under way already", retry_after=0.1)
        upkeep = self._upkeep
        upkeep.used_at = now
        if now >= upkeep.refresh_at:
            upkeep.ask_members(now, out)
        if delay:
            dispatch.begin_later(call, now + delay)
            return call
        dispatch.begin(call, now, out)
        if call.link is None:
            upkeep.tick(now, out)
        return call

    def cancel(self, call: Call, now: float, out: SessionOutbox) -> None:
        """Nobody waits for it any more; what was sent may still be done. Never disturbs another call."""
        if isinstance(call, Batch | Deletion):
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

    def await_members(self, call: Call) -> bool:
        """End the call when the members are known, or at its deadline. False, and the call is not begun:
        there is nothing to wait for, or no room."""
        if self._closed is not None or len(self._dispatch.calls) >= CALLS_MAX:
            return False
        return self._upkeep.await_members(call)

    # ── what is known ──

    @property
    def cluster(self) -> bytes:
        """The cluster's id; b"" before the first link was up."""
        return self._upkeep.cluster

    @property
    def partitions(self) -> int:
        """Of the cluster; 0 until any node has told its members."""
        return self._routing.partitions

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

    # ── links ──

    def hello(self) -> Hello:
        """What to say first on every link."""
        return self._upkeep.hello()

    def link_up(self, address: str, hello: Hello, now: float, out: SessionOutbox) -> None:
        """The node at a dialled address said hello."""
        self._upkeep.link_up(address, hello, now, out)

    def refused(self, address: str, refuse: Refuse, now: float, out: SessionOutbox) -> None:
        """The node would not talk to us, and closes."""
        out.disconnect.append(address)
        self._upkeep.link_down(address, refuse.text, now, out)

    def link_down(self, address: str, reason: str, now: float, out: SessionOutbox) -> None:
        """A link broke, or could not be made."""
        self._upkeep.link_down(address, reason, now, out)

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
                origin = _new(Origin, (self._upkeep.cluster, request.bucket, request.key))
                record = Record(message.record, origin, message.answered, message.fallbacks)
                self._dispatch.found(call, link, record, now, out)
        elif isinstance(message, Done):
            call = self._dispatch.calls.get(message.id)
            if call is not None and isinstance(request := call.request, Put | Delete):
                origin = _new(Origin, (self._upkeep.cluster, request.bucket, request.key))
                result = PutResult(message.context, origin, message.answered, message.fallbacks)
                self._dispatch.conclude(call, result, now, out)
        elif isinstance(message, Failed):
            self._failed(link, message, now, out)
        elif isinstance(message, Members):
            self._upkeep.members(link, message, now, out)
        elif isinstance(message, Buckets):
            call = self._dispatch.calls.get(message.id)
            if call is not None and isinstance(call.request, CreateBucket | AskBuckets):
                self._dispatch.conclude(call, buckets.answered(call.request, message), now, out)
        else:
            self._many(message, now, out)

    # ── time ──

    def tick(self, now: float, out: SessionOutbox) -> None:
        self._dispatch.tick(now, out)
        self._upkeep.tick(now, out)

    def deadline(self) -> float:
        """When `tick` is due; infinity when nothing is under way and nobody used the client lately."""
        return min(self._dispatch.next(), self._upkeep.due_at)

    # ── inside ──

    def _many(self, message: Message, now: float, out: SessionOutbox) -> None:
        """An answer about many keys, or what is rare."""
        if not isinstance(message, FoundMany | Listed | Explained | RepairTold):
            raise ProtocolError(f"a {type(message).__name__} is no answer")
        call = self._dispatch.calls.get(message.id)
        if call is None:
            return
        if isinstance(message, FoundMany) and isinstance(call.request, GetMany):
            self._dispatch.conclude(call, _found_many(message, len(call.keys)), now, out)
        elif isinstance(message, Listed) and isinstance(call.request, ListKeys):
            self._dispatch.conclude(call, page_of(message, call.request), now, out)
        elif isinstance(message, Explained) and isinstance(call.request, Explain):
            shown = explaining.shown(call.request.bucket, call.request.key, message)
            self._dispatch.conclude(call, shown, now, out)
        elif isinstance(message, RepairTold) and isinstance(call.request, AskRepair):
            self._dispatch.conclude(call, unpack_reports(message.reports), now, out)

    def _failed(self, link: NodeLink, failed: Failed, now: float, out: SessionOutbox) -> None:
        call = self._dispatch.calls.get(failed.id)
        if call is None:
            return
        if not call.is_asked_at(link):
            self._dispatch.forgive(call, link)
            return  # a late word from a link that was given up on
        request = call.request
        origin = None
        if isinstance(request, Get | Put | Delete):
            origin = Origin(self._upkeep.cluster, request.bucket, request.key)
        if failed.code == Code.RING:
            self._upkeep.ask_members(now, out)
        error = failures.error_of(failed, call, origin)
        self._dispatch.refused(call, link, failed, error, now, out)


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
