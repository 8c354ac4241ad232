"""Every client request of a node that is not read together with others, from the door to the answer.

A request is checked and planned against the ring. Where this node owns the key it becomes a read (`reads`) or
a write (`writes`), and else it is passed on to a node that does (`Forwarding`). Where none of those can be
reached or answers this node stands in for them.

Whether an owner answers shows with time: one after the other is asked, and then this node. It need not wait
where none of them is known to be alive, or it hears nobody (`wakefulness`): a write then goes to all of them
at once beside its hints; what they can do better if they live, a read or a write with a condition, is passed
on and done here after a moment of silence.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from dyno.buckets.properties import DEFAULTS
from dyno.errors import Code, InvalidRequest
from dyno.protocol.forward import Forwarding, StandIn
from dyno.protocol.group_commit import Refusal
from dyno.protocol.overload import ReadLine
from dyno.protocol.planner import Intent
from dyno.protocol.reads import Reads
from dyno.protocol.recovery import SOUND
from dyno.protocol.sink import Doubtful, Failure, LinkSink, invalid, overloaded
from dyno.protocol.substitute import Substitute
from dyno.protocol.writes import Writes
from dyno.wire.messages import (
    STATUS_OVERLOADED,
    Delete,
    Done,
    Explained,
    Failed,
    Found,
    Get,
    Listed,
    ListKeys,
    Put,
    ReadAnswer,
    Recalled,
    ScanAnswer,
    Stored,
)

if TYPE_CHECKING:
    from dyno.config import Config
    from dyno.protocol.hints import Hints
    from dyno.protocol.membership import Membership
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.peers import Peers
    from dyno.protocol.planner import Planner
    from dyno.protocol.recovery import Weakness
    from dyno.protocol.replica import Replica
    from dyno.protocol.ring import Plan, Ring
    from dyno.protocol.sink import Sink
    from dyno.protocol.spares import Spares

Request: TypeAlias = Get | Put | Delete | ListKeys
Answer: TypeAlias = ReadAnswer | ScanAnswer | Stored | Recalled | Found | Done | Listed | Failed | Explained

_PATIENCE_SHARE = 1 / 3  # of the time that a write has, until one that was passed on goes to one more owner

COORDINATED = (Stored, ReadAnswer, ScanAnswer, Recalled, Found, Done, Listed, Failed, Explained)


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
        hints: Hints,
        spares: Spares,
        read_line: ReadLine | None = None,
        weakness: Weakness = SOUND,
    ) -> None:
        self.reads = Reads(
            me=me,
            config=config,
            replica=replica,
            peers=peers,
            planner=planner,
            read_line=ReadLine(config) if read_line is None else read_line,
            weakness=weakness,
            hints=hints,
        )
        self.writes = Writes(
            me=me,
            config=config,
            replica=replica,
            peers=peers,
            membership=membership,
            planner=planner,
            reads=self.reads,
            spares=spares,
            substitute=Substitute(replica=replica, hints=hints),
        )
        self._me = me
        self._config = config
        self._peers = peers
        self._planner = planner
        self._stopping = False
        self._last_id = 0
        self._forwardings: dict[int, Forwarding] = {}  # in the order of their deadlines
        self._passed_on: deque[tuple[float, Forwarding]] = deque()  # and when they are overdue
        self._patience_s = config.put_timeout_s * _PATIENCE_SHARE
        self._doubted: deque[tuple[float, Forwarding]] = deque()  # passed on to suspects, until when

    def stop(self) -> None:
        """Begin nothing any more; what is under way goes on."""
        self._stopping = True

    @property
    def busy(self) -> bool:
        """Whether anybody waits for an answer."""
        return self.under_way > 0

    @property
    def under_way(self) -> int:
        """Requests that are not answered yet."""
        return self.reads.under_way + self.writes.under_way + len(self._forwardings)

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
        if isinstance(message, Stored):
            self.writes.replication.answer(node, message, now, out)
        elif isinstance(message, ReadAnswer | ScanAnswer):
            self.reads.answer(node, message, now, out)
        elif isinstance(message, Recalled):
            self.writes.recalled(node, message, now, out)
        else:
            forwarding = self._forwardings.get(message.id)
            if forwarding is not None:
                forwarding.answer(node, message, out)
                if forwarding.finished:
                    del self._forwardings[forwarding.id]

    def link_up(self, node: str, out: Outbox) -> None:
        """What could not be sent to a node is sent now."""
        self.reads.link_up(node, out)
        self.writes.link_up(node, out)

    def link_down(self, node: str, out: Outbox) -> None:
        self.reads.link_down(node, out)
        self.writes.link_down(node, out)
        for forwarding in list(self._forwardings.values()):
            forwarding.lost(node, out)
            if forwarding.finished:
                del self._forwardings[forwarding.id]

    def replan(self, ring: Ring, out: Outbox) -> None:
        """The ring is another one now."""
        self.reads.replan(ring, out)
        self.writes.replan(ring)

    def replan_bucket(self, bucket: bytes, out: Outbox) -> None:
        """A bucket, given by its id, has other properties than a moment ago."""
        self.reads.replan_bucket(bucket, out)

    def tick(self, now: float, out: Outbox) -> None:
        self.reads.tick(now, out)
        self.writes.tick(now, out)
        while self._passed_on and self._passed_on[0][0] <= now:
            forwarding = self._passed_on.popleft()[1]
            if forwarding.overdue(out):
                self._passed_on.append((now + self._patience_s, forwarding))
            else:
                self._stand_in(forwarding, now, out)
        while self._doubted and self._doubted[0][0] <= now:
            self._stand_in(self._doubted.popleft()[1], now, out)
        while self._forwardings and (first := next(iter(self._forwardings.values()))).deadline <= now:
            del self._forwardings[first.id]
            first.expire(out)

    def deadline(self) -> float:
        """Infinity for none."""
        reads, writes = self.reads.deadline(), self.writes.deadline()
        earliest = reads if reads < writes else writes
        for waiting in (self._passed_on, self._doubted):
            while waiting and waiting[0][1].finished:
                waiting.popleft()
            if waiting:
                earliest = min(earliest, waiting[0][0])
        if self._forwardings:
            earliest = min(earliest, next(iter(self._forwardings.values())).deadline)
        return earliest

    # ── planning ──

    def _admit(self, link: int, request: Request, sink: Sink, late: str, now: float, out: Outbox) -> None:
        ring = self._planner.ring
        if ring is None or self._stopping:
            reason = "is stopping" if self._stopping else "has not joined a cluster yet"
            sink.failed(Failure(Code.RING, f"{self._me} {reason}"), out)
            return
        if self.under_way >= self._config.requests_max:
            text = f"{self._me}: too many requests are under way"
            sink.failed(overloaded(text, self._config.retry_after_s), out)
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
            if isinstance(request, ListKeys):
                self.reads.list_keys(request, plan, ring, sink, now, out)
            elif isinstance(request, Get):
                self._get(request, plan, ring, sink, late, now, out)
            else:
                self._write(link, request, plan, ring, sink, now, out)
        elif request.forwarded:
            text = f"{self._me} does not own the key; the nodes disagree about the ring"
            sink.failed(Failure(Code.RING, text), out)
        else:
            self._hand_on(link, request, plan, ring, sink, now, out)

    def _hand_on(
        self, link: int, request: Request, plan: Plan, ring: Ring, sink: Sink, now: float, out: Outbox
    ) -> None:
        """To a primary that lives and can be reached. Where there is none, this node stands in for them."""
        needed = self._planner.needed(plan.owners, request)
        primaries = self._planner.primaries(plan.owners, request)
        if isinstance(request, ListKeys):
            primaries = needed
        if not self._planner.meets(plan, needed, primaries, sink, out):
            return
        if primaries:
            self._forward(link, request, plan, now, out)
            return
        stand_in = partial(self._do_after_all, link, request, plan, ring, sink, now)
        can_ask, is_live = self._peers.can_ask, self._planner.is_live
        if not self._planner.is_deaf and any(map(can_ask, self._planner.standing(plan.owners).alive)):
            self._forward(link, request, plan, now, out, stand_in)
        elif not any(is_live(name) and can_ask(name) for name in plan.owners):
            self._do_here(link, request, plan, ring, sink, now, out)
        elif isinstance(request, Get) or (isinstance(request, Put) and request.conditional):
            forwarding = self._forward(link, request, plan, now, out, stand_in)
            self._doubted.append((now + self._config.fallback_after_s, forwarding))
        else:
            self._do_here(link, request, plan, ring, sink, now, out)

    def _do_here(
        self, link: int, request: Request, plan: Plan, ring: Ring, sink: Sink, now: float, out: Outbox
    ) -> None:
        if isinstance(request, Get):
            self._get(request, plan, ring, sink, "", now, out)
        elif not isinstance(request, ListKeys):
            self._write(link, request, plan, ring, sink, now, out)

    def _stand_in(self, forwarding: Forwarding, now: float, out: Outbox) -> None:
        """None of those that it was passed on to answers."""
        if not forwarding.finished and forwarding.stand_in is not None:
            del self._forwardings[forwarding.id]
            if forwarding.stand_in(now, out):
                forwarding.finished = True
            else:
                forwarding.expire(out)

    def _do_after_all(
        self,
        link: int,
        request: Request,
        plan: Plan,
        ring: Ring,
        sink: Sink,
        asked_at: float,
        now: float,
        out: Outbox,
    ) -> bool:
        """Though owners have it, too, and may be doing it. False: whoever asked has given up."""
        left_ms = request.budget_ms - int((now - asked_at) * 1000)
        if left_ms <= 0:
            return False
        request = request._replace(budget_ms=left_ms)
        if not isinstance(request, Get):
            sink = Doubtful(sink)
        if isinstance(request, Put):
            request = request._replace(again=True)
        if not self._planner.is_planned_with(ring.fingerprint):
            text = f"the ring changed while {self._me} waited for owners of the key"
            sink.failed(Failure(Code.RING, text), out)
            return True
        try:
            self._do_here(link, request, plan, ring, sink, now, out)
        except InvalidRequest as error:
            sink.failed(invalid(str(error)), out)
        return True

    def _forward(
        self,
        link: int,
        request: Request,
        plan: Plan,
        now: float,
        out: Outbox,
        stand_in: StandIn | None = None,
    ) -> Forwarding:
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
            stand_in=stand_in,
        )
        forwarding.start(out)
        if not forwarding.finished:
            self._forwardings[forwarding.id] = forwarding
            self._passed_on.append((now + self._patience_s, forwarding))
        return forwarding

    def _get(
        self, request: Get, plan: Plan, ring: Ring, sink: Sink, late: str, now: float, out: Outbox
    ) -> None:
        needed = self._planner.needed(plan.owners, request)
        primaries = self._planner.primaries(plan.owners, request)
        if self._planner.meets(plan, needed, primaries, sink, out):
            intent = Intent(request.key, plan.slot, plan.owners, ring.fingerprint)
            self.reads.begin(intent, needed, sink, now, out, late=late, primaries=primaries)

    def _write(
        self, link: int, request: Put | Delete, plan: Plan, ring: Ring, sink: Sink, now: float, out: Outbox
    ) -> None:
        intent = Intent(request.key, plan.slot, plan.owners, ring.fingerprint)
        refused = partial(self._refused, link, request, plan, sink)
        try:
            self.writes.begin(request, intent, refused, sink, now, out)
        except Refusal as refusal:
            refused(refusal, now, out)

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
        is_other = self._me in plan.owners and len(plan.owners) > 1
        if refusal.status == STATUS_OVERLOADED or request.forwarded or not is_other:
            sink.failed(self._failure(refusal), out)
        else:
            if refusal.is_news:
                out.events.append(("error", f"{refusal}; handing the write to another owner"))
            self._forward(link, request, plan, now, out)

    def _failure(self, refusal: Refusal) -> Failure:
        if refusal.status == STATUS_OVERLOADED:
            return overloaded(f"{self._me}: {refusal}", self._config.retry_after_s)
        return Failure(Code.STORAGE, f"{self._me}: {refusal}")

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id
