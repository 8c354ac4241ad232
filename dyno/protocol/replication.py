"""How copies of writes are spread, and the answers to them counted: all that is under way on one node.

The record of a write goes to the other owners while this node's disk is at it (`PutCoordinator`). Writes all
have the same time, so they expire in the order in which they began (PERFORMANCE, rule 7). A write that was
answered *trails* until every owner has it, or somebody keeps it for those that do not; how many trail, and
how large they are, is bounded. Whether the others keep up with what they are sent is known here, too.

In: what was written, for whom, and how many copies are enough; the answers of replicas, link and ring events,
the time. Out: copies, and one word to every sink.
"""

from __future__ import annotations

import math
from collections import deque
from functools import partial
from heapq import heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

from dyno.protocol.overload import PeerLoads
from dyno.protocol.put import PutCoordinator
from dyno.protocol.reads import RETRY_AFTER_S
from dyno.wire.messages import STATUS_OK, Store

if TYPE_CHECKING:
    from dyno.config import Config
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.peers import Peers
    from dyno.protocol.planner import Intent, Planner
    from dyno.protocol.replica import Written
    from dyno.protocol.ring import Ring
    from dyno.protocol.sink import Sink
    from dyno.protocol.spares import Spares
    from dyno.wire.messages import Stored

_MANY_PUTS = 64  # under way: with fewer nobody needs to ask whether peers keep up
_TRAILING_MAX = 10_000  # writes that are answered, but that some owner does not have yet
_TRAILING_BYTES_MAX = 64 << 20  # of their records
_PATIENCE = 1 / 3  # of a write's time: what is left of it when a slow owner's hint is made


class Quorum(NamedTuple):
    """W and PW as counts."""

    needed: int
    primaries: int


class Replication:
    """me: this node's name. spares: what writes fall back on."""

    def __init__(self, *, me: str, config: Config, peers: Peers, planner: Planner, spares: Spares) -> None:
        self._me = me
        self._config = config
        self._peers = peers
        self._planner = planner
        self._spares = spares
        self._loads = PeerLoads(config)
        self._last_id = 0
        self._puts: dict[int, PutCoordinator] = {}
        self._trailing: dict[int, PutCoordinator] = {}
        self._trailing_bytes = 0
        self._silent: deque[tuple[float, PutCoordinator]] = deque()  # whom to look after when
        self._slow: list[tuple[float, int]] = []  # a heap: when to look after which, by id, once more
        self._patience_s = config.put_timeout_s * _PATIENCE
        self._retries: deque[tuple[float, str, PutCoordinator]] = deque()

    @property
    def under_way(self) -> int:
        """Writes that are not answered yet."""
        return len(self._puts)

    # ── what comes in ──

    def has_room(self, intent: Intent, needed: int, primaries: int, now: float) -> bool:
        """Whether enough of the others keep up with what they are sent."""
        if not self._loads.pressed and len(self._puts) <= _MANY_PUTS:
            return True
        room = self._loads.room(self._planner.standing(intent.owners).others, now)
        if room < needed - 1 and room >= primaries - 1:
            room += len(self._planner.fallbacks(intent.slot))
        return room >= needed - 1

    def copy(
        self,
        intent: Intent,
        written: Written,
        context: bytes,
        quorum: Quorum,
        sink: Sink,
        now: float,
        out: Outbox,
    ) -> None:
        """The record goes to the other owners while this node's disk is at it."""
        put = PutCoordinator(
            store=Store(self._next_id(), intent.ring, intent.slot, intent.key, written.record),
            context=context,
            owners=intent.owners,
            needed=quorum.needed,
            primaries=quorum.primaries,
            deadline=now + self._config.put_timeout_s,
            me=self._me,
            peers=self._peers,
            sink=sink,
            spares=self._spares,
            patience_s=self._patience_s,
        )
        self._puts[put.id] = put
        self._silent.append((now + self._config.fallback_after_s, put))
        standing = self._planner.standing(intent.owners)
        self._loads.sent(standing.others, now)
        if written.batch is not None:
            written.batch.waiters.append(partial(self._stored, put, self._me))
        put.start(out, all_live=standing.live == len(intent.owners))
        if written.batch is None and self._me in intent.owners:  # a write that was done before
            self._stored(put, self._me, STATUS_OK, now, out)
        elif put.finished:
            self._file(put, out)

    def answer(self, node: str, message: Stored, now: float, out: Outbox) -> None:
        """A replica's; one to a write that is over is late and means nothing."""
        put = self._puts.get(message.id) or self._trailing.get(message.id)
        if put is None or put.is_owner(node):  # what fallbacks have room for is another matter
            self._loads.answered(node, message.status, now)
        if put is not None:
            self._stored(put, node, message.status, now, out)

    def link_up(self, node: str, out: Outbox) -> None:
        """What could not be sent to a node is sent now."""
        self._loads.lost(node)
        for put in self._all():
            put.retry(node, out)

    def link_down(self, node: str, out: Outbox) -> None:
        self._loads.lost(node)
        for put in self._all():
            put.lost(node, out)
            self._file(put, out)

    def replan(self, ring: Ring) -> None:
        """The ring is another one now. A write is on some disks already, and goes on."""
        self._loads.keep(ring.names)

    def tick(self, now: float, out: Outbox) -> None:
        while self._retries and self._retries[0][0] <= now:
            _, node, put = self._retries.popleft()
            put.retry(node, out)
        while self._puts and (put := next(iter(self._puts.values()))).deadline <= now:
            del self._puts[put.id]
            put.expire(out)
        silent = self._silent
        while silent and silent[0][0] <= now:
            _, put = silent.popleft()
            self._look(put, now, out)
        slow = self._slow
        while slow and slow[0][0] <= now:
            slow_one = self._put_under(heappop(slow)[1])
            if slow_one is not None:
                self._look(slow_one, now, out)

    def deadline(self) -> float:
        """Infinity for none."""
        earliest = self._retries[0][0] if self._retries else math.inf
        for put in self._puts.values():  # the first one
            earliest = put.deadline if put.deadline < earliest else earliest
            break
        silent = self._silent
        while silent and silent[0][1].settled:
            self._settled(silent.popleft()[1])
        if silent and silent[0][0] < earliest:
            earliest = silent[0][0]
        slow = self._slow
        while slow and self._put_under(slow[0][1]) is None:
            heappop(slow)
        return slow[0][0] if slow and slow[0][0] < earliest else earliest

    # ── inside ──

    def _stored(self, put: PutCoordinator, node: str, status: int, now: float, out: Outbox) -> None:
        if put.stored(node, status, now, out):
            self._retries.append((now + RETRY_AFTER_S, node, put))
        if put.finished:
            self._file(put, out)

    def _look(self, put: PutCoordinator, now: float, out: Outbox) -> None:
        """One that trails, or has asked all fallbacks that it may, is looked after twice more: before its
        time is over, and when it is."""
        put.look(now, out)
        self._file(put, out)
        if put.deadline <= now:
            self._forget(put, out)
        elif put.patient and not put.settled:
            patient_until = put.deadline - self._patience_s
            heappush(self._slow, (patient_until if patient_until > now else put.deadline, put.id))
        elif not put.settled:
            self._silent.append((now + self._config.fallback_after_s, put))

    def _put_under(self, id: int) -> PutCoordinator | None:
        return self._puts.get(id) or self._trailing.get(id)

    def _all(self) -> list[PutCoordinator]:
        return [*self._puts.values(), *self._trailing.values()]

    def _file(self, put: PutCoordinator, out: Outbox) -> None:
        """A write is under way until it is answered; then it trails until it is settled."""
        if not put.finished:
            return
        if put.settled:
            self._settled(put)
        elif self._puts.pop(put.id, None) is not None:
            self._trailing[put.id] = put
            self._trailing_bytes += put.bytes
            while len(self._trailing) > _TRAILING_MAX or self._trailing_bytes > _TRAILING_BYTES_MAX:
                self._forget(next(iter(self._trailing.values())), out)

    def _settled(self, put: PutCoordinator) -> None:
        if self._puts.pop(put.id, None) is None and self._trailing.pop(put.id, None) is not None:
            self._trailing_bytes -= put.bytes

    def _forget(self, put: PutCoordinator, out: Outbox) -> None:
        """Its time, or the room for it, is over."""
        if self._trailing.pop(put.id, None) is not None:
            self._trailing_bytes -= put.bytes
            put.give_up(out)

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id
