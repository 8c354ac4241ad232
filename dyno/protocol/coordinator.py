"""Every client request of a node, from the door to the answer.

A request is checked, planned against the ring, and becomes an operation (a `GetCoordinator`, a
`PutCoordinator`, a `Forwarding`; a `ListingCoordinator` is a read of its own kind) under a number that the
answers of other nodes carry. Timeouts are constant per kind, so operations expire in the order in which they
began and the head of an insertion-ordered dict is the next deadline: no timer per request (PERFORMANCE,
rule 7). `Hedges` says which reads are late.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from dyno.buckets.properties import DEFAULTS
from dyno.causality import token
from dyno.causality.context import Context, Malformed
from dyno.causality.record import OtherKind, Record, put_context
from dyno.config import RECORD_BYTES_MAX
from dyno.errors import Code, InvalidRequest
from dyno.placement.hashing import slot_bucket
from dyno.protocol.forward import Forwarding
from dyno.protocol.get import GetCoordinator
from dyno.protocol.hedges import Hedges
from dyno.protocol.listing import ListingCoordinator
from dyno.protocol.outbox import Outbox
from dyno.protocol.overload import PeerLoads, ReadLine
from dyno.protocol.put import PutCoordinator
from dyno.protocol.replica import Refusal, Replica, Written
from dyno.protocol.sink import Ending, Failure, LinkSink, ListSink, ReadFirst, ReadSink, Sink, invalid
from dyno.wire.messages import (
    STATUS_OK,
    STATUS_OVERLOADED,
    Delete,
    Done,
    Failed,
    Found,
    Get,
    Listed,
    ListKeys,
    Put,
    ReadAnswer,
    ScanAnswer,
    Store,
    Stored,
)
from dyno.wire.pages import is_page
from dyno.wire.values import content_size

if TYPE_CHECKING:
    from dyno.config import Config
    from dyno.protocol.membership import Membership
    from dyno.protocol.peers import Peers
    from dyno.protocol.planner import Planner
    from dyno.protocol.ring import Plan, Ring

Request: TypeAlias = Get | Put | Delete | ListKeys
Answer: TypeAlias = ReadAnswer | ScanAnswer | Stored | Found | Done | Listed | Failed
Refused: TypeAlias = Callable[[Refusal, float, Outbox], None]

_REQUEST_ID_BYTES = 16
_RETRY_AFTER_S = 0.05  # how long a replica is given to learn the ring before it is asked again
_OTHERS_TAKE = 2.0  # times as long as this node's own disk, as a rule, until W owners have a write
_MANY_PUTS = 64  # under way: with fewer nobody needs to ask whether peers keep up
_TRAILING_MAX = 1000  # reads that are answered but still wait for somebody's copy, to repair it


class Intent(NamedTuple):
    """What a request comes to: a key, the nodes that own it under the ring `ring`, how many of them must
    do it, and who waits for the result."""

    key: bytes
    slot: bytes
    owners: tuple[str, ...]
    ring: int
    needed: int
    sink: Sink


class Doubtful(NamedTuple):
    """A key that a listing has to read, as an Intent has it."""

    key: bytes
    slot: bytes
    owners: tuple[str, ...]
    ring: int


class Coordinator:
    """me: this node's name."""

    def __init__(
        self,
        *,
        me: str,
        config: Config,
        replica: Replica,
        peers: Peers,
        membership: Membership,
        planner: Planner,
        read_line: ReadLine | None = None,
    ) -> None:
        self._me = me
        self._planner = planner
        self._config = config
        self._replica = replica
        self._peers = peers
        self._membership = membership
        self._loads = PeerLoads(config)
        self._stopping = False
        self._last_id = 0
        self._gets: dict[int, GetCoordinator] = {}
        self._trailing: dict[int, GetCoordinator] = {}
        self._puts: dict[int, PutCoordinator] = {}
        self._forwardings: dict[int, Forwarding] = {}
        self._listings = 0  # pages of keys that are being put together
        self._hedges = Hedges(config.hedge_after_s, ReadLine(config) if read_line is None else read_line)
        self._retries: deque[tuple[float, str, GetCoordinator | PutCoordinator]] = deque()

    def stop(self) -> None:
        """Begin nothing any more; what is under way goes on."""
        self._stopping = True

    @property
    def busy(self) -> bool:
        """Whether anybody waits for an answer."""
        return bool(self._gets or self._puts or self._forwardings)

    @property
    def under_way(self) -> int:
        """Requests that are not answered yet."""
        return len(self._gets) + len(self._puts) + len(self._forwardings)

    # ── what comes in ──

    def request(self, link: int, request: Request, now: float, out: Outbox, *, late: str = "") -> None:
        """A client's request, or one that another node passed on. Exactly one answer goes to `link`, but
        for a request whose caller has given up already. late: an owner that a read had better not ask."""
        if request.budget_ms == 0:
            return
        sink = LinkSink(link, request.id)
        try:
            self._admit(link, request, sink, late, now, out)
        except InvalidRequest as error:
            sink.failed(invalid(str(error)), out)

    def answer(self, node: str, message: Answer, now: float, out: Outbox) -> None:
        """An answer of another node; one to an operation that is over is late and means nothing."""
        if type(message) is ReadAnswer:
            get = self._gets.get(message.id) or self._trailing.get(message.id)
            if get is not None and type(get) is not ListingCoordinator:
                self._hedges.answered(get, node, now)
                self._answered(get, node, message.status, message.record, now, out)
        elif type(message) is ScanAnswer:
            listing = self._gets.get(message.id)
            if type(listing) is ListingCoordinator:
                self._scanned(listing, node, message, now, out)
        elif type(message) is Stored:
            self._loads.answered(node, message.status, now)
            put = self._puts.get(message.id)
            if put is not None:
                self._stored(put, node, message.status, now, out)
        else:
            forwarding = self._forwardings.get(message.id)
            if forwarding is not None:
                forwarding.answer(node, message, out)  # type: ignore[arg-type]
                if forwarding.finished:
                    del self._forwardings[forwarding.id]

    def link_up(self, node: str, out: Outbox) -> None:
        """What could not be sent to a node is sent now."""
        self._loads.lost(node)
        for get in self._gets.values():
            get.retry(node, out)
        for put in self._puts.values():
            put.retry(node, out)

    def link_down(self, node: str, out: Outbox) -> None:
        self._loads.lost(node)
        for get in self._gets.values():
            get.lost(node, out)
        for get in list(self._trailing.values()):
            get.lost(node, out)
            self._file(get)
        for put in self._puts.values():
            put.lost(node)
        for forwarding in list(self._forwardings.values()):
            forwarding.lost(node, out)
            if forwarding.finished:
                del self._forwardings[forwarding.id]

    def replan(self, ring: Ring, out: Outbox) -> None:
        """The ring is another one now. What reads found out under the old one counts no more: they fail
        with "plan again", which harms nobody. A write is on some disks already, and goes on."""
        self._loads.keep(ring.names)
        for get in list(self._gets.values()):
            if get.ring != ring.fingerprint:
                get.replan(out)
                self._file(get)

    def replan_bucket(self, bucket: bytes, out: Outbox) -> None:
        """A bucket, given by its id, has other properties than a moment ago: the same for its reads."""
        for get in list(self._gets.values()):
            if slot_bucket(get.slot) == bucket:
                get.replan(out)
                self._file(get)

    def tick(self, now: float, out: Outbox) -> None:
        self._hedges.tick(now, out)
        while self._retries and self._retries[0][0] <= now:
            _, node, operation = self._retries.popleft()
            operation.retry(node, out)
        while self._gets and (get := next(iter(self._gets.values()))).deadline <= now:
            del self._gets[get.id]
            get.expire(out)
        while self._trailing and (get := next(iter(self._trailing.values()))).deadline <= now:
            del self._trailing[get.id]
        while self._puts and (put := next(iter(self._puts.values()))).deadline <= now:
            del self._puts[put.id]
            put.expire(out)
        while self._forwardings and (first := next(iter(self._forwardings.values()))).deadline <= now:
            del self._forwardings[first.id]
            first.expire(out)

    def deadline(self) -> float | None:
        """Reads that only trail wait for whichever tick comes next."""
        earliest = self._hedges.deadline()
        if self._retries:
            earliest = min(earliest, self._retries[0][0])
        if self._gets:
            earliest = min(earliest, next(iter(self._gets.values())).deadline)
        if self._puts:
            earliest = min(earliest, next(iter(self._puts.values())).deadline)
        if self._forwardings:
            earliest = min(earliest, next(iter(self._forwardings.values())).deadline)
        return None if earliest == math.inf else earliest

    # ── planning ──

    def _admit(self, link: int, request: Request, sink: Sink, late: str, now: float, out: Outbox) -> None:
        ring = self._planner.ring
        if ring is None or self._stopping:
            reason = "is stopping" if self._stopping else "has not joined a cluster yet"
            sink.failed(Failure(Code.RING, f"{self._me} {reason}"), out)
            return
        if self.under_way >= self._config.requests_max:
            self._overloaded("too many requests are under way", sink, out)
            return
        bucket = self._planner.serving.get(request.bucket, DEFAULTS)
        if bucket is None:
            sink.failed(Failure(Code.RING, self._planner.why_not(request.bucket)), out)
            return
        if isinstance(request, ListKeys):
            plan = ring.plan_listing(request.bucket, request.partition, bucket.n)
        else:
            plan = ring.plan(request.bucket, request.key, bucket.n)
        if self._me in plan.owners:
            if type(request) is Get:
                self._get(request, plan, ring, sink, late, now, out)
            elif isinstance(request, ListKeys):
                self._list(request, plan, ring, sink, now, out)
            else:
                self._coordinate(link, request, plan, ring, sink, now, out)
        elif request.forwarded:
            text = f"{self._me} does not own the key; the nodes disagree about the ring"
            sink.failed(Failure(Code.RING, text), out)
        elif self._enough_live(plan.owners, self._planner.needed(plan.owners, request), sink, out):
            self._forward(link, request, plan, now, out)

    def _forward(self, link: int, request: Request, plan: Plan, now: float, out: Outbox) -> None:
        config = self._config
        forwarding = Forwarding(
            id=self._next_id(),
            link=link,
            request=request,
            needed=self._planner.needed(plan.owners, request),
            owners=list(self._planner.standing(plan.owners).others),
            # Later than the other node's own verdict, which says more than our silence.
            deadline=now + config.get_timeout_s + config.put_timeout_s,
            peers=self._peers,
        )
        forwarding.start(out)
        if not forwarding.finished:
            self._forwardings[forwarding.id] = forwarding

    def _get(
        self, request: Get, plan: Plan, ring: Ring, sink: Sink, late: str, now: float, out: Outbox
    ) -> None:
        needed = self._planner.needed(plan.owners, request)
        if self._enough_live(plan.owners, needed, sink, out):
            intent = Intent(request.key, plan.slot, plan.owners, ring.fingerprint, needed, sink)
            self._read(intent, needed, sink, now, out, late=late)

    def _coordinate(
        self, link: int, request: Request, plan: Plan, ring: Ring, sink: Sink, now: float, out: Outbox
    ) -> None:
        assert type(request) is Put or type(request) is Delete
        needed = self._planner.needed(plan.owners, request)
        intent = Intent(request.key, plan.slot, plan.owners, ring.fingerprint, needed, sink)
        if len(request.request) != _REQUEST_ID_BYTES:
            raise InvalidRequest(f"a request id has {_REQUEST_ID_BYTES} bytes")
        if len(request.context) > RECORD_BYTES_MAX:
            raise InvalidRequest(f"a context of {len(request.context)} bytes was never given to anybody")
        context = token.decode(request.context, cluster=ring.cluster, bucket=request.bucket, key=request.key)
        if not self._takes_data(sink, out) or not self._enough_live(plan.owners, needed, sink, out):
            return
        if not self._has_room(plan.owners, needed, request.budget_ms, sink, now, out):
            return
        try:
            if isinstance(request, Put):
                self._put(request, context, intent, now, out)
            else:
                refused = partial(self._refused, link, request, plan, sink)
                self._delete(request, context, intent, refused, now, out)
        except Refusal as refusal:
            self._refused(link, request, plan, sink, refusal, now, out)

    def _takes_data(self, sink: Sink, out: Outbox) -> bool:
        if self._membership.admitting:
            names = ", ".join(self._membership.joining())
            sink.failed(Failure(Code.RING, f"writes wait until {names} has joined the cluster"), out)
            return False
        return True

    def _enough_live(self, owners: tuple[str, ...], needed: int, sink: Sink | ListSink, out: Outbox) -> bool:
        """Checked before anything is done: a quorum that cannot be met is not begun."""
        shortage = self._planner.shortage(owners, needed)
        if shortage is not None:
            sink.failed(shortage, out)
        return shortage is None

    def _has_room(
        self, owners: tuple[str, ...], needed: int, budget_ms: int, sink: Sink, now: float, out: Outbox
    ) -> bool:
        """Whether a write would be on enough disks soon enough, as far as can be seen beforehand."""
        delay_s = self._replica.delay_s(now)
        if delay_s and delay_s > min(self._config.write_delay_max_s, budget_ms / 1000 / _OTHERS_TAKE):
            self._overloaded(f"writes wait {delay_s:.2f} s for the disk", sink, out, delay_s)
            return False
        if not self._loads.pressed and len(self._puts) <= _MANY_PUTS:
            return True
        if self._loads.room(self._planner.standing(owners).others, now) < needed - 1:
            self._overloaded(f"fewer than {needed} owners of the key keep up with writes", sink, out)
            return False
        return True

    # ── reading ──

    def _read(
        self,
        intent: Intent | Doubtful,
        needed: int,
        sink: ReadSink,
        now: float,
        out: Outbox,
        *,
        late: str = "",
    ) -> None:
        owners = self._planner.standing(intent.owners).readers
        if late:
            owners = (*(name for name in owners if name != late), late)
        get = GetCoordinator(
            id=self._next_id(),
            slot=intent.slot,
            key=intent.key,
            owners=owners,
            needed=needed,
            ring=intent.ring,
            deadline=now + self._config.get_timeout_s,
            me=self._me,
            replica=self._replica,
            peers=self._peers,
            sink=sink,
        )
        self._gets[get.id] = get
        get.start(out)
        self._read_own(get, now, out)
        if not get.answered:
            self._hedges.began(get, now)

    def _read_own(self, get: GetCoordinator, now: float, out: Outbox) -> None:
        try:
            record, batch = self._replica.read(get.slot)
        except Refusal as refusal:
            out.events.append(("error", str(refusal)))
            self._answered(get, self._me, refusal.status, b"", now, out)
            return
        if batch is None:
            self._answered(get, self._me, STATUS_OK, record, now, out)
        else:
            # Nobody is told of a record before it is on the disk.
            batch.waiters.append(partial(self._own_committed, get, record))

    def _own_committed(
        self, get: GetCoordinator, record: bytes, status: int, now: float, out: Outbox
    ) -> None:
        if status == STATUS_OK:
            self._answered(get, self._me, STATUS_OK, record, now, out)
        else:
            self._read_own(get, now, out)  # what never got to the disk was never there

    def _answered(
        self, get: GetCoordinator, node: str, status: int, record: bytes, now: float, out: Outbox
    ) -> None:
        if get.answer(node, status, record, now, out):
            self._retries.append((now + _RETRY_AFTER_S, node, get))
        self._file(get)

    def _file(self, get: GetCoordinator) -> None:
        """A read is under way until it is answered; then it trails until everybody asked has answered."""
        if not get.answered:
            return
        self._gets.pop(get.id, None)
        if get.finished:
            self._trailing.pop(get.id, None)
        elif get.id not in self._trailing:
            if len(self._trailing) >= _TRAILING_MAX:
                del self._trailing[next(iter(self._trailing))]
            self._trailing[get.id] = get

    # ── listing ──

    def _list(
        self,
        request: ListKeys,
        plan: Plan,
        ring: Ring,
        sink: ListSink,
        now: float,
        out: Outbox,
    ) -> None:
        """A page of keys: every replica's scan costs as much as a hundred reads, so few are begun at once."""
        needed = self._planner.needed(plan.owners, request)
        if not self._enough_live(plan.owners, needed, sink, out):
            return
        if not is_page(request.after, request.limit):
            raise InvalidRequest("a page of keys has a limit of 1 at least and begins behind a key's hash")
        if self._listings >= self._config.listings_max:
            self._overloaded("too many listings of keys are under way", sink, out)
            return
        self._listings += 1
        listing = ListingCoordinator(
            id=self._next_id(),
            prefix=plan.slot,
            after=request.after,
            limit=request.limit,
            owners=self._planner.standing(plan.owners).readers,
            needed=needed,
            ring=ring.fingerprint,
            deadline=now + self._config.get_timeout_s,
            me=self._me,
            replica=self._replica,
            peers=self._peers,
            read_key=partial(self._read_listed, plan, ring, needed),
            sink=Ending(sink, self._listing_ended),
        )
        self._gets[listing.id] = listing
        listing.start(out)
        entries, end = self._replica.scan(plan.slot, request.after, request.limit)
        self._scanned(listing, self._me, ScanAnswer(listing.id, STATUS_OK, entries, end), now, out)
        if not listing.answered:
            self._hedges.began_long(listing, now)

    def _scanned(
        self, listing: ListingCoordinator, node: str, answer: ScanAnswer, now: float, out: Outbox
    ) -> None:
        if listing.scanned(node, answer, now, out):
            self._retries.append((now + _RETRY_AFTER_S, node, listing))
        self._file(listing)

    def _read_listed(
        self,
        plan: Plan,
        ring: Ring,
        needed: int,
        hash: bytes,
        key: bytes,
        sink: ReadSink,
        now: float,
        out: Outbox,
    ) -> None:
        """The ordinary read of a key of which the replicas' pages differ."""
        assert self._planner.ring is not None
        if self._planner.ring.fingerprint == ring.fingerprint:
            doubtful = Doubtful(key, plan.slot + hash, plan.owners, ring.fingerprint)
            self._read(doubtful, needed, sink, now, out)
        else:
            sink.failed(Failure(Code.RING, "the ring changed during the listing"), out)

    def _listing_ended(self) -> None:
        self._listings -= 1

    # ── writing ──

    def _put(self, request: Put, context: Context, intent: Intent, now: float, out: Outbox) -> None:
        size = content_size(request.value)
        if size > self._config.value_bytes_max:
            raise InvalidRequest(
                f"the value has {size} bytes, more than value_bytes_max={self._config.value_bytes_max}"
            )
        if request.conditional and not self._matches(request, context, intent, out):
            return
        written = self._replica.put(
            intent.slot, request.key, context=context, request=request.request, value=request.value
        )
        assert written.dot is not None
        answer = put_context(context, written.before, written.dot).pack()
        self._copy(intent, written, answer, now, out)

    def _matches(self, request: Put, context: Context, intent: Intent, out: Outbox) -> bool:
        """if_context: the record here is at exactly that context; b"" asks that nothing is live."""
        packed, batch = self._replica.read(intent.slot)
        record = Record.unpack(packed) if packed else Record.EMPTY
        if record.context == context if request.context else not record.siblings:
            return True
        if batch is None:
            self._conflict(intent.sink, packed, STATUS_OK, 0.0, out)
        else:
            batch.waiters.append(partial(self._conflict, intent.sink, packed))
        return False

    def _conflict(self, sink: Sink, packed: bytes, status: int, now: float, out: Outbox) -> None:
        """Once what the caller is shown is on the disk, or never will be."""
        if status == STATUS_OK:
            text = "the record is not at the context that was given: somebody else wrote it"
            sink.failed(Failure(Code.CONFLICT, text, record=packed), out)
        else:
            text = f"{self._me}: the disk refused another write of this key"
            sink.failed(Failure(Code.STORAGE, text), out)

    def _delete(
        self,
        request: Delete,
        context: Context,
        intent: Intent,
        refused: Refused,
        now: float,
        out: Outbox,
    ) -> None:
        if context:
            self._bury(intent, context, b"", now, out)
            return
        reads = self._planner.count(request.bucket, intent.owners, "r", request.r, request.pr)
        if self._enough_live(intent.owners, reads, intent.sink, out):
            self._read(
                intent, reads, ReadFirst(partial(self._bury_read, intent, refused), intent.sink), now, out
            )

    def _bury_read(
        self, intent: Intent, refused: Refused, read: bytes, answered: list[str], now: float, out: Outbox
    ) -> None:
        """Delete what was read; nothing was, then nothing needs to be written."""
        if not read:
            intent.sink.done(b"", answered, out)
        elif self._takes_data(intent.sink, out):
            try:
                self._bury(intent, Record.unpack(read).context, read, now, out)
            except (InvalidRequest, OtherKind) as error:
                intent.sink.failed(invalid(str(error)), out)
            except Malformed as error:  # several copies agree on it, or nobody would have looked inside
                text = f"the copies on {', '.join(answered)} are malformed: {error}"
                intent.sink.failed(Failure(Code.STORAGE, text), out)
            except Refusal as refusal:
                refused(refusal, now, out)

    def _bury(self, intent: Intent, context: Context, read: bytes, now: float, out: Outbox) -> None:
        written = self._replica.delete(intent.slot, intent.key, context=context, read=read)
        self._copy(intent, written, context.pack(), now, out)

    def _copy(self, intent: Intent, written: Written, context: bytes, now: float, out: Outbox) -> None:
        """The record goes to the other owners while this node's disk is at it."""
        put = PutCoordinator(
            store=Store(self._next_id(), intent.ring, intent.slot, intent.key, written.record),
            context=context,
            owners=intent.owners,
            needed=intent.needed,
            deadline=now + self._config.put_timeout_s,
            me=self._me,
            peers=self._peers,
            sink=intent.sink,
        )
        self._puts[put.id] = put
        self._loads.sent(self._planner.standing(intent.owners).others, now)
        written.batch.waiters.append(partial(self._stored, put, self._me))
        put.start(out)

    def _stored(self, put: PutCoordinator, node: str, status: int, now: float, out: Outbox) -> None:
        if put.stored(node, status, now, out):
            self._retries.append((now + _RETRY_AFTER_S, node, put))
        if put.finished:
            self._puts.pop(put.id, None)

    # ── refusals ──

    def _refused(
        self,
        link: int,
        request: Put | Delete,
        plan: Plan,
        sink: Sink,
        refusal: Refusal,
        now: float,
        out: Outbox,
    ) -> None:
        """This replica cannot write, and has not. Another owner may, unless this one was the other."""
        if refusal.status == STATUS_OVERLOADED or request.forwarded or len(plan.owners) == 1:
            sink.failed(self._failure(refusal), out)
        else:
            if refusal.is_news:
                out.events.append(("error", f"{refusal}; handing the write to another owner"))
            self._forward(link, request, plan, now, out)

    def _failure(self, refusal: Refusal) -> Failure:
        if refusal.status == STATUS_OVERLOADED:
            return Failure(
                Code.OVERLOADED, f"{self._me}: {refusal}", retry_after_s=self._config.retry_after_s
            )
        return Failure(Code.STORAGE, f"{self._me}: {refusal}")

    def _overloaded(self, text: str, sink: Sink | ListSink, out: Outbox, delay_s: float = 0.0) -> None:
        """delay_s: how long what waits already will take."""
        retry_after_s = max(self._config.retry_after_s, delay_s)
        sink.failed(Failure(Code.OVERLOADED, f"{self._me}: {text}", retry_after_s=retry_after_s), out)

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id
