"""All writes of one node that are under way, and what is asked before one begins.

A put mints a dot here and is copied to the other owners (`replication`); a delete drops what its context
covers, and is copied likewise. A put that was sent before is asked for first (`recalls`): where anybody knows
it, what it has become is copied, and no dot is minted. A write that would wait too long, for this disk or for
those of the others, is refused before anything is done (`overload`).

In: what to write for whom, what others know of it, link and ring events, the time. Out: what is to be copied,
or one word to the sink of what is not. Raises InvalidRequest for what can never be written, `Refusal` when
this replica cannot write it now, and nothing was done then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from dyno.causality import token
from dyno.causality.context import Context, Malformed
from dyno.causality.record import Record, put_context
from dyno.config import RECORD_BYTES_MAX
from dyno.errors import Code, InvalidRequest
from dyno.protocol.group_commit import Refusal
from dyno.protocol.outbox import Outbox
from dyno.protocol.recalls import Recalls, dot_of
from dyno.protocol.replica import Written
from dyno.protocol.replication import Quorum, Replication
from dyno.protocol.sink import Failure, invalid, overloaded
from dyno.wire.messages import DEFAULT, STATUS_OK, Put, Recall
from dyno.wire.values import content_size

if TYPE_CHECKING:
    from dyno.config import Config
    from dyno.protocol.membership import Membership
    from dyno.protocol.peers import Peers
    from dyno.protocol.planner import Intent, Planner
    from dyno.protocol.reads import Reads
    from dyno.protocol.replica import Replica
    from dyno.protocol.ring import Ring
    from dyno.protocol.sink import Sink
    from dyno.protocol.spares import Spares
    from dyno.protocol.substitute import Substitute
    from dyno.wire.messages import Delete, Recalled

Refused: TypeAlias = Callable[[Refusal, float, Outbox], None]

_REQUEST_ID_BYTES = 16
_OTHERS_TAKE = 2.0  # times as long as this node's own disk, as a rule, until W owners have a write
_RECALL_SHARE = 0.25  # of the time that a write has, at most, for asking whether it was done before
_RECALLED_MAX = 100  # nodes that are asked for one conditional write


class Writes:
    """me: this node's name. reads: for what is known here of a key. spares: what writes fall back on.

    replication: told of the answers of replicas."""

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
        self._membership = membership
        self._planner = planner
        self._reads = reads
        self._substitute = substitute
        self._recalls = Recalls(peers=peers, patience_s=config.put_timeout_s * _RECALL_SHARE)
        self.replication = Replication(me=me, config=config, peers=peers, planner=planner, spares=spares)

    @property
    def under_way(self) -> int:
        """Writes that are not answered yet."""
        return self.replication.under_way + self._recalls.under_way

    # ── what comes in ──

    def begin(
        self, request: Put | Delete, intent: Intent, refused: Refused, sink: Sink, now: float, out: Outbox
    ) -> None:
        """refused: told when this replica cannot write after all, once the other owners were asked."""
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
            self._put(request, context, intent, quorum, refused, sink, now, out)
        else:
            self._delete(context, intent, quorum, sink, now, out)

    def recalled(self, node: str, message: Recalled, now: float, out: Outbox) -> None:
        """An owner says whether it knows a write. Raises ValueError for what no node says."""
        self._recalls.answer(node, message, now, out)

    def link_up(self, node: str, out: Outbox) -> None:
        """What could not be sent to a node is sent now."""
        self.replication.link_up(node, out)

    def link_down(self, node: str, out: Outbox) -> None:
        self._recalls.link_down(node)
        self.replication.link_down(node, out)

    def replan(self, ring: Ring) -> None:
        """The ring is another one now."""
        self.replication.replan(ring)

    def tick(self, now: float, out: Outbox) -> None:
        self._recalls.tick(now, out)
        self.replication.tick(now, out)

    def deadline(self) -> float:
        """Infinity for none."""
        recalls, copies = self._recalls.deadline(), self.replication.deadline()
        return recalls if recalls < copies else copies

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
        if not self.replication.has_room(intent, needed, primaries, now):
            self._refuse(f"fewer than {needed} owners of the key keep up with writes", 0.0, sink, out)
            return False
        return True

    def _refuse(self, text: str, delay_s: float, sink: Sink, out: Outbox) -> None:
        """delay_s: how long what waits already will take."""
        sink.failed(overloaded(f"{self._me}: {text}", max(self._config.retry_after_s, delay_s)), out)

    # ── puts ──

    def _put(
        self,
        request: Put,
        context: Context,
        intent: Intent,
        quorum: Quorum,
        refused: Refused,
        sink: Sink,
        now: float,
        out: Outbox,
    ) -> None:
        """One that was done already is only brought to an end; one that may have been is asked for first."""
        size = content_size(request.value)
        if size > self._config.value_bytes_max:
            raise InvalidRequest(
                f"the value has {size} bytes, more than value_bytes_max={self._config.value_bytes_max}"
            )
        seen = self._replica.seen
        # A conditional one must not be told of a conflict where it was done again elsewhere; others are
        # recalled where they are minted.
        may_be_known = request.conditional or seen.knows(request.request)
        known = self._recall(request, intent) if may_be_known else None
        if known is not None:
            self._complete(context, intent, known, quorum, sink, now, out)
        elif request.again:
            recall = Recall(0, intent.ring, intent.slot, request.request)
            then = partial(self._recalled, request, context, intent, quorum, refused, sink, now)
            self._recalls.begin(recall, self._who_may_know(request, intent), then, now, out)
        elif seen.barred_at(request.request) is not None:
            self._superseded(quorum, sink, out)
        elif not request.conditional or self._meets_condition(request, context, intent):
            self._mint(request, context, intent, quorum, sink, now, out)
        else:
            self._refuse_condition(intent, sink, out)

    def _mint(
        self,
        request: Put,
        context: Context,
        intent: Intent,
        quorum: Quorum,
        sink: Sink,
        now: float,
        out: Outbox,
    ) -> None:
        slot, id, value = intent.slot, request.request, request.value
        if self._me in intent.owners:
            written = self._replica.put(
                slot, request.key, context=context, request=id, value=value, again=request.again
            )
        else:
            written = self._substitute.put(
                slot, intent.owners, context=context, request=id, value=value, again=request.again
            )
        answer = put_context(context, written.before, written.dot).pack()
        self.replication.copy(intent, written, answer, quorum, sink, now, out)

    # ── puts that were sent before ──

    def _who_may_know(self, request: Put, intent: Intent) -> Sequence[str]:
        """The other owners. A conflict is to say that nobody did it, and any other node may have stood in."""
        others = self._planner.standing(intent.owners).others
        if request.conditional and self._few_members():
            return [*others, *(name for name in self._members() if name not in intent.owners)]
        return others

    def _few_members(self) -> bool:
        """Whether all can be asked for one write."""
        return len(self._members()) <= _RECALLED_MAX

    def _members(self) -> Sequence[str]:
        """Without this node."""
        assert self._planner.ring is not None
        return [name for name in self._planner.ring.names if name != self._me]

    def _recalled(
        self,
        request: Put,
        context: Context,
        intent: Intent,
        quorum: Quorum,
        refused: Refused,
        sink: Sink,
        began: float,
        told: Recalled | None,
        certain: bool,
        now: float,
        out: Outbox,
    ) -> None:
        """told: the answer of an owner that knows the write. certain: all others said that they do not."""
        if not self._planner.is_planned_with(intent.ring):
            text = f"{self._me}: the ring changed while the owners of the key were asked for the write"
            sink.failed(Failure(Code.RING, text), out)
            return
        try:
            known = self._learn(request, intent, told) if told is not None else None
            known = known or self._recall(request, intent)  # or it has come since
            barred_at = self._replica.seen.barred_at(request.request)
            if known is not None:
                self._complete(context, intent, known, quorum, sink, now, out)
            elif barred_at is not None and barred_at >= began:
                self._superseded(quorum, sink, out)
            else:
                self._do_again(request, context, intent, quorum, certain, sink, now, out)
        except InvalidRequest as error:
            sink.failed(invalid(str(error)), out)
        except Refusal as refusal:
            refused(refusal, now, out)

    def _learn(self, request: Put, intent: Intent, told: Recalled) -> Written | None:
        """What an owner knows of a write. None: now it is known here as well. Raises Refusal."""
        if self._me not in intent.owners:
            return Written(told.record, Context.EMPTY, dot_of(told), None)
        self._replica.merge(intent.slot, intent.key, told.record)
        self._replica.learn(intent.slot, request.request, dot_of(told))
        return None

    def _recall(self, request: Put, intent: Intent) -> Written | None:
        if self._me in intent.owners:
            return self._replica.recall(intent.slot, request.request)
        return self._substitute.recall(intent.slot, intent.owners, request.request)

    def _do_again(
        self,
        request: Put,
        context: Context,
        intent: Intent,
        quorum: Quorum,
        certain: bool,
        sink: Sink,
        now: float,
        out: Outbox,
    ) -> None:
        """Nobody who could be asked knows it."""
        if not request.conditional or self._meets_condition(request, context, intent):
            self._mint(request, context, intent, quorum, sink, now, out)
        elif certain and self._few_members():
            self._refuse_condition(intent, sink, out)
        else:  # a conflict would say that it was not done
            text = (
                "the record is not at the context that was given, and a node that cannot be asked may have "
                "done the write before"
            )
            sink.failed(Failure(Code.QUORUM, text, quorum.needed, indeterminate=True), out)

    def _complete(
        self,
        context: Context,
        intent: Intent,
        known: Written,
        quorum: Quorum,
        sink: Sink,
        now: float,
        out: Outbox,
    ) -> None:
        """It was done, under a dot that is known: see to it that enough owners have what it has become."""
        answer = context.vector_only().add(known.dot).pack()
        self.replication.copy(intent, known, answer, quorum, sink, now, out)

    def _superseded(self, quorum: Quorum, sink: Sink, out: Outbox) -> None:
        text = f"{self._me}: another node was asked to do this write, and asked here whether it was done"
        sink.failed(Failure(Code.QUORUM, text, quorum.needed, indeterminate=True), out)

    # ── conditions ──

    def _refuse_condition(self, intent: Intent, sink: Sink, out: Outbox) -> None:
        """if_context: tell what the record is at instead."""
        packed, batch = self._reads.read_here(intent.slot, intent.owners)
        if batch is None:
            self._conflict(sink, packed, STATUS_OK, 0.0, out)
        elif self._replica.crowded:  # nothing of this write counts among those under way
            self._refuse("too many answers wait for the disk", 0.0, sink, out)
        else:
            batch.waiters.append(partial(self._conflict, sink, packed))

    def _meets_condition(self, request: Put, context: Context, intent: Intent) -> bool:
        """if_context: the record here is at exactly that context; b"" asks that nothing is live. Raises
        Refusal where that is not known now."""
        if self._me in intent.owners:
            self._replica.check_open(intent.slot)
        packed, _ = self._reads.read_here(intent.slot, intent.owners)
        try:
            record = Record.unpack(packed) if packed else Record.EMPTY
        except Malformed:
            return True  # the write itself says what is wrong with it
        return record.context == context if request.context else not record.siblings

    def _conflict(self, sink: Sink, packed: bytes, status: int, now: float, out: Outbox) -> None:
        """Once what the caller is shown is on the disk, or never will be."""
        if status == STATUS_OK:
            text = "the record is not at the context that was given: somebody else wrote it"
            sink.failed(Failure(Code.CONFLICT, text, record=packed), out)
        else:
            text = f"{self._me}: the disk refused another write of this key"
            sink.failed(Failure(Code.STORAGE, text), out)

    # ── deletes ──

    def _delete(
        self, context: Context, intent: Intent, quorum: Quorum, sink: Sink, now: float, out: Outbox
    ) -> None:
        """Without a context it covers nothing: whoever asks has read first, and found nothing."""
        if not context:
            sink.done(b"", [], out)
            return
        if self._me in intent.owners:
            written = self._replica.delete(intent.slot, intent.key, context=context)
        else:
            written = self._substitute.delete(intent.slot, intent.owners, context=context)
        self.replication.copy(intent, written, context.pack(), quorum, sink, now, out)
