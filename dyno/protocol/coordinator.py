"""Every client request of a node, from the door to the answer.

A request is checked, planned against the ring, and becomes an operation (a `GetCoordinator`, a
`PutCoordinator`, a `Forwarding`) under a number that the answers of other nodes carry. Timeouts are
constant per kind, so operations expire in the order in which they began and the head of an
insertion-ordered dict is the next deadline: no timer per request (PERFORMANCE, rule 7).
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from dyno.causality import token
from dyno.causality.context import Context
from dyno.causality.record import Record, put_context
from dyno.errors import Code, InvalidRequest
from dyno.protocol import quorum
from dyno.protocol.forward import Forwarding
from dyno.protocol.get import GetCoordinator
from dyno.protocol.put import PutCoordinator
from dyno.protocol.replica import Refusal, Replica, Written
from dyno.protocol.sink import Failure, LinkSink, Sink, invalid
from dyno.wire.messages import (
    DEFAULT,
    QUORUM,
    STATUS_OVERLOADED,
    Delete,
    Done,
    Failed,
    Found,
    Get,
    Put,
    ReadAnswer,
    Store,
    Stored,
)

if TYPE_CHECKING:
    from dyno.config import Config
    from dyno.protocol.membership import Membership
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.peers import Peers
    from dyno.protocol.ring import Plan, Ring

Request: TypeAlias = Get | Put | Delete

_REQUEST_ID_BYTES = 16
_RETRY_AFTER_S = 0.05  # how long a replica is given to learn the ring before it is asked again


class Intent(NamedTuple):
    """What a request comes to: a key, the nodes that own it under the ring `ring`, how many of them must
    do it, and who waits for the result."""

    key: bytes
    slot: bytes
    owners: tuple[str, ...]
    ring: int
    needed: int
    sink: Sink


class Coordinator:
    """me: this node's name. `ring` is set by the node whenever the ring changes; None until it joined."""

    def __init__(
        self, *, me: str, config: Config, replica: Replica, peers: Peers, membership: Membership
    ) -> None:
        self.ring: Ring | None = None
        self._me = me
        self._config = config
        self._replica = replica
        self._peers = peers
        self._membership = membership
        self._last_id = 0
        self._gets: dict[int, GetCoordinator] = {}
        self._puts: dict[int, PutCoordinator] = {}
        self._forwardings: dict[int, Forwarding] = {}
        self._hedges: deque[tuple[float, GetCoordinator]] = deque()
        self._retries: deque[tuple[float, str, GetCoordinator | PutCoordinator]] = deque()

    # ── what comes in ──

    def request(self, link: int, request: Request, now: float, out: Outbox) -> None:
        """A client's request, or one that another node passed on. Exactly one answer goes to `link`, but
        for a request whose caller has given up already."""
        if request.budget_ms == 0:
            return
        sink = LinkSink(link, request.id)
        try:
            self._admit(link, request, sink, now, out)
        except InvalidRequest as error:
            sink.failed(invalid(str(error)), out)

    def answer(
        self, node: str, message: ReadAnswer | Stored | Found | Done | Failed, now: float, out: Outbox
    ) -> None:
        """An answer of another node; one to an operation that is over is late and means nothing."""
        if type(message) is ReadAnswer:
            get = self._gets.get(message.id)
            if get is not None:
                self._answered(get, node, message.status, message.record, now, out)
        elif type(message) is Stored:
            put = self._puts.get(message.id)
            if put is not None:
                self._stored(put, node, message.status, now, out)
        else:
            forwarding = self._forwardings.get(message.id)
            if forwarding is not None:
                forwarding.answer(node, message, out)  # type: ignore[arg-type]
                if forwarding.finished:
                    del self._forwardings[forwarding.id]

    def link_up(self, node: str, now: float, out: Outbox) -> None:
        """What could not be sent to a node is sent now."""
        for get in list(self._gets.values()):
            get.retry(node, now, out)
        for put in list(self._puts.values()):
            put.retry(node, out)

    def link_down(self, node: str, now: float, out: Outbox) -> None:
        for get in list(self._gets.values()):
            get.lost(node, now, out)
            if get.finished:
                del self._gets[get.id]
        for put in self._puts.values():
            put.lost(node)
        for forwarding in list(self._forwardings.values()):
            forwarding.lost(node, out)
            if forwarding.finished:
                del self._forwardings[forwarding.id]

    def tick(self, now: float, out: Outbox) -> None:
        while self._hedges and self._hedges[0][0] <= now:
            self._hedges.popleft()[1].hedge(now, out)
        while self._retries and self._retries[0][0] <= now:
            _, node, operation = self._retries.popleft()
            if isinstance(operation, PutCoordinator):
                operation.retry(node, out)
            else:
                operation.retry(node, now, out)
        while self._gets and (get := next(iter(self._gets.values()))).deadline <= now:
            del self._gets[get.id]
            get.expire(now, out)
        while self._puts and (put := next(iter(self._puts.values()))).deadline <= now:
            del self._puts[put.id]
            put.expire(out)
        while self._forwardings and (first := next(iter(self._forwardings.values()))).deadline <= now:
            del self._forwardings[first.id]
            first.expire(out)

    def deadline(self) -> float | None:
        hedges = self._hedges
        while hedges and hedges[0][1].answered:
            hedges.popleft()
        heads = [queue[0][0] for queue in (hedges, self._retries) if queue]
        heads += [
            next(iter(operations.values())).deadline  # type: ignore[attr-defined]
            for operations in (self._gets, self._puts, self._forwardings)
            if operations
        ]
        return min(heads, default=None)

    # ── planning ──

    def _admit(self, link: int, request: Request, sink: Sink, now: float, out: Outbox) -> None:
        ring = self.ring
        if ring is None:
            sink.failed(Failure(Code.RING, f"{self._me} has not joined a cluster yet"), out)
            return
        if len(self._gets) + len(self._puts) + len(self._forwardings) >= self._config.requests_max:
            self._overloaded("too many requests are under way", sink, out)
            return
        plan = ring.plan(request.bucket, request.key)
        if self._me in plan.owners:
            self._coordinate(link, request, plan, ring, sink, now, out)
        elif request.forwarded:
            text = f"{self._me} does not own the key; the nodes disagree about the ring"
            sink.failed(Failure(Code.RING, text), out)
        else:
            self._forward(link, request, plan, now, out)

    def _forward(self, link: int, request: Request, plan: Plan, now: float, out: Outbox) -> None:
        others = [name for name in self._by_liveness(plan.owners) if name != self._me]
        config = self._config
        # Later than the other node's own verdict, which says more than our silence.
        timeout = config.get_timeout_s + config.put_timeout_s
        forwarding = Forwarding(
            id=self._next_id(),
            link=link,
            request=request,
            owners=others,
            deadline=now + timeout,
            peers=self._peers,
        )
        forwarding.start(out)
        if not forwarding.finished:
            self._forwardings[forwarding.id] = forwarding

    def _coordinate(
        self, link: int, request: Request, plan: Plan, ring: Ring, sink: Sink, now: float, out: Outbox
    ) -> None:
        if type(request) is Get:
            needed = self._needed(plan.owners, "r", request.r, request.pr)
            if self._enough_live(plan.owners, needed, sink, out):
                intent = Intent(request.key, plan.slot, plan.owners, ring.fingerprint, needed, sink)
                self._read(intent, needed, sink, now, out)
            return
        assert type(request) is Put or type(request) is Delete
        if len(request.request) != _REQUEST_ID_BYTES:
            raise InvalidRequest(f"a request id has {_REQUEST_ID_BYTES} bytes")
        context = token.decode(request.context, cluster=ring.cluster, bucket=request.bucket, key=request.key)
        needed = self._needed(plan.owners, "w", request.w, request.pw)
        if self._membership.admitting:
            sink.failed(Failure(Code.RING, "a node is joining the cluster"), out)
        elif self._enough_live(plan.owners, needed, sink, out):
            intent = Intent(request.key, plan.slot, plan.owners, ring.fingerprint, needed, sink)
            try:
                if type(request) is Put:
                    self._put(request, context, intent, now, out)
                else:
                    self._delete(context, intent, now, out)
            except Refusal as refusal:
                self._refused(link, refusal, request, plan, sink, now, out)

    def _needed(self, owners: tuple[str, ...], what: str, answers: int, primaries: int) -> int:
        """R or W as a count. Without fallbacks every answer is a primary's: PR and PW only raise it."""
        assert self.ring is not None
        resolve = partial(quorum.count, copies=self.ring.copies, owners=len(owners))
        return max(
            resolve(answers, what=what, default=QUORUM, least=1),
            resolve(primaries, what=f"p{what}", default=0, least=0),
        )

    def _enough_live(self, owners: tuple[str, ...], needed: int, sink: Sink, out: Outbox) -> bool:
        """Checked before anything is done: a quorum that cannot be met is not begun."""
        is_live = self._membership.is_live
        dead = [name for name in owners if not is_live(name)]
        live = len(owners) - len(dead)
        if live >= needed:
            return True
        text = f"{needed} owners of the key are needed, {live} of {len(owners)} are alive"
        if dead:
            text += f"; dead: {', '.join(dead)}"
        sink.failed(Failure(Code.QUORUM, text, needed), out)
        return False

    def _by_liveness(self, owners: tuple[str, ...]) -> list[str]:
        """This node first, then those alive or suspect, then the dead, in preference order each."""
        is_live, me = self._membership.is_live, self._me
        return sorted(owners, key=lambda name: 0 if name == me else 1 if is_live(name) else 2)

    # ── reading ──

    def _read(self, intent: Intent, needed: int, sink: Sink, now: float, out: Outbox) -> None:
        get = GetCoordinator(
            id=self._next_id(),
            slot=intent.slot,
            key=intent.key,
            owners=self._by_liveness(intent.owners),
            needed=needed,
            ring=intent.ring,
            deadline=now + self._config.get_timeout_s,
            me=self._me,
            replica=self._replica,
            peers=self._peers,
            sink=sink,
        )
        get.start(now, out)
        if not get.finished:
            self._gets[get.id] = get
            self._hedges.append((now + self._config.hedge_after_s, get))

    # ── writing ──

    def _put(self, request: Put, context: Context, intent: Intent, now: float, out: Outbox) -> None:
        if len(request.value) > self._config.value_bytes_max:
            raise InvalidRequest(
                f"the value has {len(request.value)} bytes, "
                f"more than value_bytes_max={self._config.value_bytes_max}"
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
        text = "the record is not at the context that was given: somebody else wrote it"
        failure = Failure(Code.CONFLICT, text, record=packed)
        if batch is None:
            intent.sink.failed(failure, out)
        else:
            batch.waiters.append(lambda _status, _now, out: intent.sink.failed(failure, out))
        return False

    def _delete(self, context: Context, intent: Intent, now: float, out: Outbox) -> None:
        if context:
            self._bury(intent, context, b"", now, out)
            return
        reads = self._needed(intent.owners, "r", DEFAULT, DEFAULT)
        if self._enough_live(intent.owners, reads, intent.sink, out):
            self._read(intent, reads, _Burial(self, intent), now, out)

    def bury_read(self, intent: Intent, read: bytes, answered: list[str], now: float, out: Outbox) -> None:
        """Delete what was read; nothing was, then nothing needs to be written."""
        if not read:
            intent.sink.done(b"", answered, out)
            return
        try:
            self._bury(intent, Record.unpack(read).context, read, now, out)
        except Refusal as refusal:
            intent.sink.failed(self._failure(refusal), out)

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
        written.batch.waiters.append(partial(self._stored, put, self._me))
        put.start(out)

    def _stored(self, put: PutCoordinator, node: str, status: int, now: float, out: Outbox) -> None:
        if put.stored(node, status, now, out):
            self._retries.append((now + _RETRY_AFTER_S, node, put))
        if put.finished:
            self._puts.pop(put.id, None)

    def _answered(
        self, get: GetCoordinator, node: str, status: int, record: bytes, now: float, out: Outbox
    ) -> None:
        if get.answer(node, status, record, now, out):
            self._retries.append((now + _RETRY_AFTER_S, node, get))
        if get.finished:
            self._gets.pop(get.id, None)

    # ── refusals ──

    def _refused(
        self, link: int, refusal: Refusal, request: Put | Delete, plan: Plan, sink: Sink, now: float, out: Outbox
    ) -> None:
        """This replica cannot write, and has not. Another owner may, unless this one was the other."""
        if refusal.status == STATUS_OVERLOADED or request.forwarded or len(plan.owners) == 1:
            sink.failed(self._failure(refusal), out)
        else:
            out.events.append(("error", f"{refusal}; handing the write to another owner"))
            self._forward(link, request, plan, now, out)

    def _failure(self, refusal: Refusal) -> Failure:
        if refusal.status == STATUS_OVERLOADED:
            return Failure(
                Code.OVERLOADED, f"{self._me}: {refusal}", retry_after_s=self._config.retry_after_s
            )
        return Failure(Code.STORAGE, f"{self._me}: {refusal}")

    def _overloaded(self, text: str, sink: Sink, out: Outbox) -> None:
        failure = Failure(Code.OVERLOADED, f"{self._me}: {text}", retry_after_s=self._config.retry_after_s)
        sink.failed(failure, out)

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id


class _Burial:
    """A delete without a context, while it reads: what the read finds is what is deleted."""

    __slots__ = ("_coordinator", "_intent")

    def __init__(self, coordinator: Coordinator, intent: Intent) -> None:
        self._coordinator = coordinator
        self._intent = intent

    def found(self, record: bytes, answered: list[str], now: float, out: Outbox) -> None:
        self._coordinator.bury_read(self._intent, record, answered, now, out)

    def done(self, context: bytes, answered: list[str], out: Outbox) -> None:
        raise AssertionError("a read has no context to give")

    def failed(self, failure: Failure, out: Outbox) -> None:
        self._intent.sink.failed(failure, out)
