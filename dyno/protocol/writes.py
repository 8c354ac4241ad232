"""All writes of one node that are under way, and what is asked before one begins.

A put mints a dot here and is copied to the other owners (`PutCoordinator`); a delete drops what its context
covers, or what it has read first, and is copied likewise. Writes all have the same time, so they expire in
the order in which they began (PERFORMANCE, rule 7). A write that would wait too long, for this disk or for
those of the others, is refused before anything is done (`overload`). A write that was answered *trails* until
every owner has it, or somebody keeps it for those that do not.

In: what to write for whom, the answers of replicas, link and ring events, the time. Out: copies, and one word
to every sink. Raises InvalidRequest for what can never be written, `Refusal` when this replica cannot write
it now, and nothing was done then.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from dyno.causality import token
from dyno.causality.context import Malformed
from dyno.causality.record import OtherKind, Record, put_context
from dyno.config import RECORD_BYTES_MAX
from dyno.errors import Code, InvalidRequest
from dyno.protocol.outbox import Outbox
from dyno.protocol.overload import PeerLoads
from dyno.protocol.put import PutCoordinator
from dyno.protocol.reads import RETRY_AFTER_S
from dyno.protocol.replica import Refusal
from dyno.protocol.sink import Failure, ReadFirst, invalid, overloaded
from dyno.wire.messages import DEFAULT, STATUS_OK, Put, Store
from dyno.wire.values import content_size

if TYPE_CHECKING:
    from dyno.causality.context import Context
    from dyno.config import Config
    from dyno.protocol.membership import Membership
    from dyno.protocol.peers import Peers
    from dyno.protocol.planner import Intent, Planner
    from dyno.protocol.reads import Reads
    from dyno.protocol.replica import Replica, Written
    from dyno.protocol.ring import Ring
    from dyno.protocol.sink import Sink
    from dyno.protocol.spares import Spares
    from dyno.protocol.substitute import Substitute
    from dyno.wire.messages import Delete, Stored

Refused: TypeAlias = Callable[[Refusal, float, Outbox], None]

_REQUEST_ID_BYTES = 16
_OTHERS_TAKE = 2.0  # times as long as this node's own disk, as a rule, until W owners have a write
_MANY_PUTS = 64  # under way: with fewer nobody needs to ask whether peers keep up
_TRAILING_MAX = 10_000  # writes that are answered, but that some owner does not have yet
_TRAILING_BYTES_MAX = 64 << 20  # of their records
_PATIENCE = 1 / 3  # of a write's time: what is left of it when a slow owner's hint is made


class Quorum(NamedTuple):
    """W and PW as counts."""

    needed: int
    primaries: int


class Writes:
    """me: this node's name. reads: for deletes that read first. spares: what writes fall back on."""

    def __init__(
        self,
        *,
        me: str,
        config: Config,
        replica: Replica,
        peers: Peers,
        membership: Membership,
        planner: Planner,
        reads: Reads,
        spares: Spares,
        substitute: Substitute,
    ) -> None:
        self._me = me
        self._config = config
        self._replica = replica
        self._peers = peers
        self._membership = membership
        self._planner = planner
        self._reads = reads
        self._spares = spares
        self._substitute = substitute
        self._loads = PeerLoads(config)
        self._last_id = 0
        self._puts: dict[int, PutCoordinator] = {}
        self._trailing: dict[int, PutCoordinator] = {}
        self._trailing_bytes = 0
        self._silent: deque[tuple[float, PutCoordinator]] = deque()  # whom to look after when
        self._retries: deque[tuple[float, str, PutCoordinator]] = deque()

    @property
    def under_way(self) -> int:
        """Writes that are not answered yet."""
        return len(self._puts)

    # ── what comes in ──

    def begin(
        self, request: Put | Delete, intent: Intent, refused: Refused, sink: Sink, now: float, out: Outbox
    ) -> None:
        """refused: told when this replica cannot write after all, once it has read first."""
        needed = self._planner.needed(intent.owners, request)
        if len(request.request) != _REQUEST_ID_BYTES:
            raise InvalidRequest(f"a request id has {_REQUEST_ID_BYTES} bytes")
        if len(request.context) > RECORD_BYTES_MAX:
            raise InvalidRequest(f"a context of {len(request.context)} bytes was never given to anybody")
        ring = self._planner.ring
        assert ring is not None
        context = token.decode(request.context, cluster=ring.cluster, bucket=request.bucket, key=request.key)
        primaries = 0 if request.pw == DEFAULT else self._planner.primaries(intent.owners, request)
        if not self._takes_data(sink, out) or not self._planner.meets(intent, needed, primaries, sink, out):
            return
        if not self._has_room(intent, needed, primaries, request.budget_ms, sink, now, out):
            return
        quorum = Quorum(needed, primaries)
        if isinstance(request, Put):
            self._put(request, context, intent, quorum, sink, now, out)
        else:
            self._delete(request, context, intent, quorum, refused, sink, now, out)

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
            put.look(now, out)
            self._file(put, out)
            if put.deadline <= now:
                self._forget(put, out)
            elif not put.settled:
                silent.append((now + self._config.fallback_after_s, put))

    def deadline(self) -> float:
        """Infinity for none."""
        earliest = self._retries[0][0] if self._retries else math.inf
        if self._puts:
            earliest = min(earliest, next(iter(self._puts.values())).deadline)
        silent = self._silent
        while silent and silent[0][1].settled:
            self._settled(silent.popleft()[1])
        return min(earliest, silent[0][0]) if silent else earliest

    # ── before it begins ──

    def _takes_data(self, sink: Sink, out: Outbox) -> bool:
        if self._membership.admitting:
            names = ", ".join(self._membership.joining())
            sink.failed(Failure(Code.RING, f"writes wait until {names} has joined the cluster"), out)
            return False
        return True

    def _has_room(
        self,
        intent: Intent,
        needed: int,
        primaries: int,
        budget_ms: int,
        sink: Sink,
        now: float,
        out: Outbox,
    ) -> bool:
        """Whether a write would be on enough disks soon enough, as far as can be seen beforehand."""
        delay_s = self._replica.delay_s(now)
        if delay_s and delay_s > min(self._config.write_delay_max_s, budget_ms / 1000 / _OTHERS_TAKE):
            self._refuse(f"writes wait {delay_s:.2f} s for the disk", delay_s, sink, out)
            return False
        if not self._loads.pressed and len(self._puts) <= _MANY_PUTS:
            return True
        room = self._loads.room(self._planner.standing(intent.owners).others, now)
        if room < needed - 1 and room >= primaries - 1:
            room += len(self._planner.fallbacks(intent.slot))
        if room < needed - 1:
            self._refuse(f"fewer than {needed} owners of the key keep up with writes", 0.0, sink, out)
            return False
        return True

    def _refuse(self, text: str, delay_s: float, sink: Sink, out: Outbox) -> None:
        """delay_s: how long what waits already will take."""
        sink.failed(overloaded(f"{self._me}: {text}", max(self._config.retry_after_s, delay_s)), out)

    # ── puts and deletes ──

    def _put(
        self,
        request: Put,
        context: Context,
        intent: Intent,
        quorum: Quorum,
        sink: Sink,
        now: float,
        out: Outbox,
    ) -> None:
        size = content_size(request.value)
        if size > self._config.value_bytes_max:
            raise InvalidRequest(
                f"the value has {size} bytes, more than value_bytes_max={self._config.value_bytes_max}"
            )
        if request.conditional and not self._matches(request, context, intent, sink, out):
            return
        slot, id, value = intent.slot, request.request, request.value
        if self._me in intent.owners:
            written = self._replica.put(slot, request.key, context=context, request=id, value=value)
        else:
            owners = intent.owners
            written = self._substitute.put(slot, owners, context=context, request=id, value=value)
        assert written.dot is not None
        answer = put_context(context, written.before, written.dot).pack()
        self._copy(intent, written, answer, quorum, sink, now, out)

    def _matches(self, request: Put, context: Context, intent: Intent, sink: Sink, out: Outbox) -> bool:
        """if_context: the record here is at exactly that context; b"" asks that nothing is live."""
        packed, batch = self._reads.read_here(intent.slot, intent.owners)
        try:
            record = Record.unpack(packed) if packed else Record.EMPTY
        except Malformed:
            return True  # the write itself says what is wrong with it
        if record.context == context if request.context else not record.siblings:
            return True
        if batch is None:
            self._conflict(sink, packed, STATUS_OK, 0.0, out)
        elif self._replica.crowded:  # nothing of this write counts among those under way
            self._refuse("too many answers wait for the disk", 0.0, sink, out)
        else:
            batch.waiters.append(partial(self._conflict, sink, packed))
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
        quorum: Quorum,
        refused: Refused,
        sink: Sink,
        now: float,
        out: Outbox,
    ) -> None:
        if context:
            self._bury(intent, context, b"", quorum, sink, now, out)
            return
        reads = self._planner.count(request.bucket, intent.owners, "r", request.r, request.pr)
        primaries = self._planner.count_primaries(request.bucket, intent.owners, "r", request.r, request.pr)
        if self._planner.meets(intent, reads, primaries, sink, out):
            then = partial(self._bury_read, intent, quorum, refused, sink)
            self._reads.begin(intent, reads, ReadFirst(then, sink), now, out, primaries=primaries)

    def _bury_read(
        self,
        intent: Intent,
        quorum: Quorum,
        refused: Refused,
        sink: Sink,
        read: bytes,
        answered: list[str],
        now: float,
        out: Outbox,
    ) -> None:
        """Delete what was read; nothing was, then nothing needs to be written."""
        if not read:
            sink.done(b"", answered, out)
        elif self._takes_data(sink, out):
            try:
                self._bury(intent, Record.unpack(read).context, read, quorum, sink, now, out)
            except (InvalidRequest, OtherKind) as error:
                sink.failed(invalid(str(error)), out)
            except Malformed as error:  # several copies agree on it, or nobody would have looked inside
                text = f"the copies on {', '.join(answered)} are malformed: {error}"
                sink.failed(Failure(Code.STORAGE, text), out)
            except Refusal as refusal:
                refused(refusal, now, out)

    def _bury(
        self,
        intent: Intent,
        context: Context,
        read: bytes,
        quorum: Quorum,
        sink: Sink,
        now: float,
        out: Outbox,
    ) -> None:
        if self._me in intent.owners:
            written = self._replica.delete(intent.slot, intent.key, context=context, read=read)
        else:
            written = self._substitute.delete(intent.slot, intent.owners, context=context, read=read)
        self._copy(intent, written, context.pack(), quorum, sink, now, out)

    def _copy(
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
            patience_s=self._config.put_timeout_s * _PATIENCE,
        )
        self._puts[put.id] = put
        self._silent.append((now + self._config.fallback_after_s, put))
        standing = self._planner.standing(intent.owners)
        self._loads.sent(standing.others, now)
        if written.batch is not None:
            written.batch.waiters.append(partial(self._stored, put, self._me))
        put.start(out, all_live=standing.live == len(intent.owners))
        if put.finished:
            self._file(put, out)

    def _stored(self, put: PutCoordinator, node: str, status: int, now: float, out: Outbox) -> None:
        if put.stored(node, status, now, out):
            self._retries.append((now + RETRY_AFTER_S, node, put))
        if put.finished:
            self._file(put, out)

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
