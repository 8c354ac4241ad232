"""A node: membership, replica and coordinator joined into one machine.

In go messages, link events, finished commits and the time; what is to happen goes to the outbox. The
runner (server or simulator) owns sockets, disk and clock:

- inbound links have numbers, and begin with `accept(hello)`; then `receive`, whose answers go to the
  number, or nowhere when that link is gone;
- outbound links have addresses: `link_up`, `answer`, `link_down`, and `refused` when the other side
  would not have us;
- `take_batch` gives what the disk is to commit, one batch at a time; `committed` or `commit_failed` follow;
- where reading takes long, requests of which `slots_read_by` or `spans_read_by` tell what they will read
  join the `read_line`, are received once that is in memory, and leave it; those that must not join go to
  `overloaded`;
- `tick` at `deadline`.

Nothing here raises for what a remote did: it is answered with a refusal, or reported and dropped.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dyno.errors import Code
from dyno.protocol import handshake
from dyno.protocol.background import part_of
from dyno.protocol.claim import Claim
from dyno.protocol.coordinator import COORDINATED
from dyno.protocol.foresight import Foresight
from dyno.protocol.group_commit import Batch
from dyno.protocol.overload import answer_to
from dyno.protocol.overview import members_of
from dyno.protocol.parts import Parts
from dyno.protocol.ring import Ring
from dyno.wire.messages import (
    STATUS_OK,
    STATUS_RING,
    Ack,
    Admit,
    AskBuckets,
    AskFate,
    AskJoin,
    AskMembers,
    AskRing,
    Assent,
    Branches,
    Committed,
    Compared,
    CreateBucket,
    Delete,
    Examined,
    Failed,
    Fetched,
    Get,
    GetMany,
    Hello,
    HintsHeld,
    Introduce,
    LeavesCompared,
    ListKeys,
    Ping,
    Propose,
    Proposed,
    PushPull,
    Put,
    ReadManyAnswer,
    Reapable,
    Refuse,
    Reject,
    Repaired,
    RingAccept,
    RingAccepted,
    RingEntry,
    RingFence,
    RingFenced,
    RingKnown,
    RingOutvoted,
    RingPrepare,
    RingPromised,
    RootsCompared,
    Stored,
    SwapBuckets,
    Withdrawn,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from dyno.causality.mint import Minter
    from dyno.config import Config
    from dyno.protocol.background import Background
    from dyno.protocol.buckets import BucketRequest
    from dyno.protocol.membership import Membership
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.ring_log import RingRequest
    from dyno.storage.engine import Engine, Span
    from dyno.wire.messages import Datagram, Message
    from dyno.wire.trees import Node as TreeNode

_START_ID_BYTES = 8
# By which requests under a node's own ids are answered.
_ANSWERS = (
    *COORDINATED,
    ReadManyAnswer,
    Compared,
    RootsCompared,
    Branches,
    LeavesCompared,
    Fetched,
    Reapable,
    HintsHeld,
    Examined,
    Repaired,
)
_RING_ANSWERS = (RingEntry, RingKnown, RingPromised, RingAccepted, RingOutvoted, RingFenced)
_EXCHANGE_INTERVAL_S = 0.2  # how often one peer is asked for its ring because we disagree


class Node:
    """membership: built by the runner from what the engine remembers. minter: its start id is the member
    record's. random: for new start ids after a failed commit. former: the address at which this directory
    lived last, if it was another one than now."""

    def __init__(
        self,
        *,
        membership: Callable[[Callable[[], bool]], Membership],
        engine: Engine,
        minter: Minter,
        config: Config,
        random: Random,
        former: str | None = None,
    ) -> None:
        parts = Parts(membership=membership, engine=engine, minter=minter, config=config, random=random)
        self._config = config
        self._random = random
        self._replica = parts.replica
        self.membership = parts.membership
        me = self.membership.me
        self.name = me.name
        self._claim = Claim(name=me.name, start=me.start, former=former, wait_s=config.probe_timeout_s)
        self._peers = parts.peers
        self.read_line = parts.read_line
        self._buckets = parts.buckets
        self._planner = parts.planner
        self._lineage = parts.lineage
        self._recovery = parts.lineage.recovery
        self._ring_keeper = parts.ring_keeper
        self.ring_log = parts.ring_keeper.log
        self.hints = parts.hints
        self.generations = parts.generations
        self._handoff = parts.handoff
        self._coordinator = parts.coordinator
        self._bulk_reads = parts.bulk_reads
        self._peer_requests = parts.peer_requests
        self._foresight = Foresight(me=self.name, planner=self._planner)
        self._exchanges = parts.exchanges
        self.reaping = parts.reaping
        self.quarantine = parts.quarantine
        self._background = parts.background
        self._part: dict[int, Background] = {part.number: part for part in self._background}
        self._ring_version = -1
        self._exchanged_at: dict[str, float] = {}  # by address
        self._refusals: dict[str, str] = {}  # by address
        self._inbound: dict[type, Callable[[int, Message, float, Outbox], None]] = self._doors()

    def start(self, now: float, out: Outbox) -> None:
        if not self._claim.free:
            self._claim.begin(now, out)
            return
        self.membership.start(now, out)
        self._buckets.start(now)
        self.ring_log.start(now)
        self._settle(now, out)

    def stop(self, now: float, out: Outbox) -> None:
        """A clean stop: tell the others, so that they need not find out, and begin nothing more. The runner
        goes on while this node is `busy`."""
        self._bulk_reads.stop()
        self._coordinator.stop()
        self._buckets.stop()
        if self._claim.free:
            self.membership.leave_quietly(now, out)
        else:
            self._claim.give_up()  # nobody was told of this start

    @property
    def busy(self) -> bool:
        """Whether a client waits for an answer."""
        return (
            self._coordinator.busy
            or self._bulk_reads.busy
            or self._buckets.busy
            or self.read_line.waiting > 0
        )

    @property
    def joined(self) -> bool:
        return self.membership.joined

    @property
    def ready(self) -> bool:
        """It has joined, and what it is, and of which cluster, is on the disk."""
        return self.membership.joined and not self._replica.facts_wait

    @property
    def recovering(self) -> bool:
        """Whether any of its copies may lack something that was acknowledged in its name."""
        return self._recovery.recovering

    @property
    def compared_since(self) -> float:
        """See Exchange."""
        return self._exchanges.compared_since

    # ── links ──

    def hello(self, to: Hello | None = None) -> Hello:
        """to: what it answers."""
        seen = 0 if to is None else self._lineage.commits.from_before(to)
        return handshake.hello_of(self._self(), seen=seen)

    def accept(self, hello: Hello, now: float) -> Refuse | None:
        """An inbound link begins. None: answer with `hello(hello)`, and its messages are welcome."""
        if not self._claim.free:
            return Refuse("joining", f"{self.name} is looking whether its name is free")
        refuse = handshake.judge(self._self(), hello)
        if refuse is None and hello.role == handshake.PEER:
            self._lineage.met(hello, now)
        return refuse

    def link_up(self, address: str, hello: Hello, now: float, out: Outbox) -> None:
        """An outbound link's handshake is done; hello is what the other side said of itself."""
        if not self._claim.free:
            self._claim.link_up(address, hello, now, out)
            return
        refuse = handshake.judge(self._self(), hello)
        if refuse is not None:
            self.refused(address, refuse, now, out)
            return
        if hello.directory == self.membership.me.directory:
            out.disconnect.append(address)  # a listed address that is our own
            return
        self._refusals.pop(address, None)
        if self._lineage.greeted(address, hello, now, out):
            self.ring_log.met(hello.name, hello.directory)
        self.generations.learn(hello.rounds)
        self.membership.link_up(address, now, out)
        if self._peers.up(hello.name, address, handshake.understood(hello)):
            self._found(hello.name, now, out)
        self._settle(now, out)

    def refused(self, address: str, refuse: Refuse, now: float, out: Outbox) -> None:
        """The node at an address and this one cannot talk. Where a user named that address, it is an error
        of his configuration; else the member that lived there has moved away."""
        if not self._claim.free:
            self._claim.refused(address, now, out)
            return
        if refuse.code not in ("cluster", "partitions", "protocol"):
            return  # it may be another time
        if address in self.membership.seeds:
            self.membership.seed_refused(address, refuse.text, now, out)
            self._settle(now, out)
        elif self._refusals.get(address) != refuse.text:  # it is dialled again and again, and said once
            if len(self._refusals) >= self._config.members_max:
                del self._refusals[next(iter(self._refusals))]
            self._refusals[address] = refuse.text
            out.events.append(("warning", f"no link to {address}: {refuse.text}"))

    def link_down(self, address: str, now: float, out: Outbox) -> None:
        if not self._claim.free:
            return  # the one that was asked whether it has our name
        self._exchanged_at.pop(address, None)
        self._lineage.commits.gone(address)
        name = self._peers.down(address)
        self.membership.link_down(address, now, out)
        if name is not None:
            self._lost(name, now, out)
        self._settle(now, out)

    # ── messages ──

    def receive(self, link: int, message: Message, now: float, out: Outbox) -> None:
        """A request on an inbound link. Raises ValueError for a message that does not belong there; the
        runner then closes the link."""
        door = self._inbound.get(type(message))
        if door is None:
            raise ValueError(f"a {type(message).__name__} is no request")
        door(link, message, now, out)

    def slots_read_by(self, message: Message) -> Sequence[bytes]:
        """See Foresight."""
        return self._foresight.slots_read_by(message)

    def spans_read_by(self, message: Message) -> Sequence[Span] | Sequence[TreeNode]:
        """See Foresight."""
        return self._foresight.spans_read_by(message)

    def overloaded(self, link: int, message: Message, out: Outbox) -> None:
        """Refuse a request that would wait too long for a slow disk, unstarted."""
        why = f"reads wait {self.read_line.delay_s:.2f} s for the disk"
        retry_after_s = max(self._config.retry_after_s, self.read_line.delay_s)
        answer = answer_to(message, name=self.name, why=why, retry_after_s=retry_after_s)
        if answer is not None:
            out.replies.append((link, answer))

    def answer(self, address: str, message: Message, now: float, out: Outbox) -> None:
        """An answer on an outbound link. Raises ValueError as `receive` does."""
        if type(message) is Stored:  # as most are: to each write there are as many as copies
            self._stored(address, message, now, out)
        elif isinstance(message, _ANSWERS):
            name = self._peers.name_at(address)
            if name is not None:
                if _is_about_the_ring(message):
                    self._exchange(name, address, now, out)
                part = self._part.get(part_of(message.id))
                if part is not None:
                    part.answer(name, message, now, out)
                elif isinstance(message, ReadManyAnswer):
                    self._bulk_reads.answer(name, message, now, out)
                elif isinstance(message, COORDINATED):
                    self._coordinator.answer(name, message, now, out)
        elif isinstance(message, Introduce | Assent | Reject | PushPull | Ack):
            self.membership.answer(address, message, now, out)
            self._settle(now, out)
        elif isinstance(message, _RING_ANSWERS):
            name = self._peers.name_at(address)
            if name is not None:
                self.ring_log.answer(name, message, now, out)
                self._settle(now, out)
        elif isinstance(message, Proposed | Withdrawn | SwapBuckets):
            self._buckets.answer(self._peers.name_at(address), message, now, out)
            self._settle(now, out)
        else:
            raise ValueError(f"a {type(message).__name__} is no answer")

    def _stored(self, address: str, message: Stored, now: float, out: Outbox) -> None:
        name = self._peers.name_at(address)
        if name is None:
            return
        id, status, commit = message
        if commit:
            self._lineage.commits.heard(address, commit, now)
        if status == STATUS_RING:
            self._exchange(name, address, now, out)
        (self._part.get(part_of(id)) or self._coordinator.writes.replication).answer(name, message, now, out)

    def receive_datagram(self, source: str, datagram: Datagram, now: float, out: Outbox) -> None:
        if self._claim.free:
            self.membership.receive_datagram(source, datagram, now, out)
            self._settle(now, out)

    # ── disk and time ──

    def take_batch(self, now: float | None = None) -> Batch | None:
        """now: when the disk gets it."""
        if now is not None:
            self._lineage.take_along(now)
        return self._replica.take_batch(now)

    def committed(self, now: float, out: Outbox, took_s: float | None = None) -> None:
        """took_s: how long the disk was at it, so that it is known what may wait for it."""
        if self._replica.committed(now, out, took_s):
            self._lineage.wrote(out)
        if out.meta:
            self._settle(now, out)

    def commit_failed(self, reason: str, now: float, out: Outbox) -> None:
        """The disk refused the batch and all that waits behind it; reads go on."""
        out.events.append(("error", f"a commit failed: {reason}"))
        self._replica.commit_failed(self._random.randbytes(_START_ID_BYTES), now, out)

    def tick(self, now: float, out: Outbox) -> None:
        if not self._claim.free:
            if self._claim.tick(now, out):
                self.start(now, out)
            return
        self._replica.tick(now)
        self._bulk_reads.tick(now, out)
        self._coordinator.tick(now, out)
        membership = self.membership
        deadline = membership.deadline()
        if deadline is not None and deadline <= now:
            membership.tick(now, out)
            self._settle(now, out)
        deadline = self._buckets.deadline()
        if deadline is not None and deadline <= now:
            self._buckets.tick(now, out)
            self._settle(now, out)
        if self._lineage.deadline() <= now:
            self._lineage.tick(now)
        if self._ring_keeper.deadline() <= now:
            self._ring_keeper.tick(now, out)
            self._settle(now, out)
        for part in self._background:
            if part.deadline() <= now:
                part.tick(now, out)

    def deadline(self) -> float | None:
        if not self._claim.free:
            return self._claim.deadline()
        coordinator, lineage = self._coordinator.deadline(), self._lineage.deadline()
        earliest = coordinator if coordinator < lineage else lineage
        for part in self._background:
            at = part.deadline()
            earliest = at if at < earliest else earliest
        for due in (
            self.membership.deadline(),
            self._bulk_reads.deadline(),
            self._replica.deadline(),
            self._buckets.deadline(),
            self._ring_keeper.deadline(),
        ):
            if due is not None and due < earliest:
                earliest = due
        return None if earliest == math.inf else earliest

    # ── inside ──

    def _doors(self) -> dict[type, Callable[[int, Message, float, Outbox], None]]:
        coordinate: Callable[..., None] = self._coordinator.request
        join: Callable[..., None] = self._membership_request
        bucket: Callable[..., None] = self._bucket_request
        ring: Callable[..., None] = self._ring_request
        doors: dict[type, Callable[..., None]] = {
            Get: self._get,
            GetMany: self._bulk_reads.get_many,
            Put: coordinate,
            Delete: coordinate,
            ListKeys: coordinate,
            **self._peer_requests.doors(),
            Committed: self._committed_there,
            **{kind: door for part in self._background for kind, door in part.doors().items()},
            AskMembers: self._members,
            AskJoin: join,
            Admit: join,
            PushPull: join,
            Ping: join,
            CreateBucket: bucket,
            AskBuckets: bucket,
            Propose: bucket,
            Withdrawn: bucket,
            AskFate: bucket,
            SwapBuckets: bucket,
            AskRing: ring,
            RingEntry: ring,
            RingPrepare: ring,
            RingAccept: ring,
            RingFence: ring,
        }
        return doors

    def _self(self) -> handshake.Self:
        membership = self.membership
        me = membership.me
        return handshake.Self(
            me.name,
            me.directory,
            me.start,
            membership.cluster,
            membership.partitions,
            self._replica.commit_number,
            self.generations.highest,
        )

    def _settle(self, now: float, out: Outbox) -> None:
        """After anything that may have changed the membership or the buckets: take durable facts along, plan
        anew."""
        self._lineage.settle(now, out)
        self._ring_keeper.settle(now, out)
        if out.meta or out.durable_sends or out.durable_replies:
            self._buckets.accompany(out)
            self._replica.keep(out)
        if self._buckets.table.changed:
            self._replan_buckets(now, out)
        membership = self.membership
        if not membership.joined or membership.ring_version == self._ring_version:
            return
        self._ring_version = membership.ring_version
        members = membership.ring_members()
        self._lineage.meet_anew(out)
        if not self._planner.is_planned_with(
            membership.fingerprint
        ):  # else somebody merely moved to another address
            ring = self._planner.ring = Ring(
                members,
                cluster=membership.cluster,
                partitions=membership.partitions,
                fingerprint=membership.fingerprint,
            )
            self._bulk_reads.replan(now, out)
            self._coordinator.replan(ring, out)
            self._recovery.replan()
            for part in self._background:
                part.replan(now, out)
        lost, found = self._peers.place({m.name: m.address for m in members if m.name != self.name})
        for name in lost:
            self._lost(name, now, out)
        for name in found:
            self._found(name, now, out)
        if out.durable_sends:  # the table of buckets, behind facts that wait
            self._replica.keep(out)

    def _found(self, name: str, now: float, out: Outbox) -> None:
        """A node can be asked now, and has said what it knows of this one's commits."""
        self._recovery.greeted(name)
        self.ring_log.link_up(name, out)
        self._coordinator.link_up(name, out)
        self._buckets.link_up(name, out)
        for part in self._background:
            part.link_up(name, now, out)

    def _lost(self, name: str, now: float, out: Outbox) -> None:
        """A node that could be asked cannot be asked any more."""
        self._bulk_reads.lost(name, now, out)
        self._coordinator.link_down(name, out)
        for part in self._background:
            part.link_down(name, now, out)

    def _replan_buckets(self, now: float, out: Outbox) -> None:
        changed = self._buckets.table.changed[:]
        self._buckets.table.changed.clear()
        for bucket in changed:
            self._coordinator.replan_bucket(bucket, out)
        for bucket in changed:  # what begins anew here is planned with all of them
            self._bulk_reads.replan_bucket(bucket, now, out)
        if self._planner.ring is not None:  # there may be another n in use
            self._recovery.replan()
            self._exchanges.replan(now, out)

    def _bucket_request(self, link: int, message: BucketRequest, now: float, out: Outbox) -> None:
        self._buckets.request(link, message, now, out)
        self._settle(now, out)

    def _membership_request(
        self, link: int, message: AskJoin | Admit | PushPull | Ping, now: float, out: Outbox
    ) -> None:
        self.membership.receive(link, message, now, out)
        self._settle(now, out)

    def _ring_request(self, link: int, message: RingRequest, now: float, out: Outbox) -> None:
        self.ring_log.request(link, message, now, out)
        self._settle(now, out)

    def _committed_there(self, link: int, message: Committed, now: float, out: Outbox) -> None:
        self._lineage.commits.said(message, now)

    def _members(self, link: int, message: AskMembers, now: float, out: Outbox) -> None:
        out.replies.append((link, members_of(self.membership, message.id)))

    def _get(self, link: int, message: Get, now: float, out: Outbox) -> None:
        if message.forwarded:
            self._coordinator.request(link, message, now, out)
        else:
            self._bulk_reads.get(link, message, now, out)

    def _exchange(self, name: str, address: str, now: float, out: Outbox) -> None:
        """A peer plans with another ring, or knows other buckets: show each other the tables."""
        if now - self._exchanged_at.get(address, -_EXCHANGE_INTERVAL_S) >= _EXCHANGE_INTERVAL_S:
            self._exchanged_at[address] = now
            self.membership.link_up(address, now, out)
            self._buckets.exchange(name, out)
            self._settle(now, out)


def _is_about_the_ring(answer: Message) -> bool:
    """Whether the other node plans with another ring than ours, or knows other buckets."""
    if isinstance(answer, Failed):
        return answer.code == Code.RING
    return getattr(answer, "status", STATUS_OK) == STATUS_RING
