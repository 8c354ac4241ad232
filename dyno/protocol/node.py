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

from functools import partial
from typing import TYPE_CHECKING

from dyno.buckets.properties import DEFAULTS
from dyno.config import COPIES, KEY_BYTES_MAX
from dyno.errors import Code, InvalidRequest
from dyno.placement.hashing import BUCKET_IN_SLOT, COPIES_IN_SLOT, PREFIX_BYTES, SLOT_BYTES
from dyno.protocol import handshake
from dyno.protocol.bucket_register import BUCKETS
from dyno.protocol.buckets import BucketKeeper
from dyno.protocol.bulk_read import BulkReads
from dyno.protocol.claim import Claim
from dyno.protocol.coordinator import Coordinator
from dyno.protocol.overload import PEERS_ROOM, ReadLine, answer_to
from dyno.protocol.peers import Peers
from dyno.protocol.planner import Planner
from dyno.protocol.replica import Batch, Refusal, Replica, listing_span
from dyno.protocol.ring import Ring
from dyno.wire.members import pack_members
from dyno.wire.messages import (
    GET_MANY_KEYS_MAX,
    READ_MANY_BYTES_MAX,
    READ_MANY_SLOTS_MAX,
    STATUS_OK,
    STATUS_OVERLOADED,
    STATUS_REFUSED,
    STATUS_RING,
    Admit,
    AskBuckets,
    AskFate,
    AskJoin,
    AskMembers,
    Assent,
    CreateBucket,
    Delete,
    Done,
    Failed,
    Found,
    Get,
    GetMany,
    Hello,
    Introduce,
    Listed,
    ListKeys,
    Members,
    Propose,
    Proposed,
    PushPull,
    Put,
    Read,
    ReadAnswer,
    ReadMany,
    ReadManyAnswer,
    Refuse,
    Reject,
    Scan,
    ScanAnswer,
    Store,
    Stored,
    SwapBuckets,
    Withdrawn,
)
from dyno.wire.pages import is_page
from dyno.wire.rows import pack_row, unpack_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from dyno.causality.mint import Minter
    from dyno.config import Config
    from dyno.protocol.buckets import BucketRequest
    from dyno.protocol.coordinator import Answer
    from dyno.protocol.membership import Membership
    from dyno.protocol.outbox import Outbox
    from dyno.storage.engine import Engine, Span
    from dyno.wire.messages import Datagram, Message

_START_ID_BYTES = 8
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
        self._config = config
        self._random = random
        self._replica = Replica(engine=engine, minter=minter, config=config)
        self.membership = membership(lambda: self._replica.holds_data)
        me = self.membership.me
        self.name = me.name
        self._claim = Claim(name=me.name, start=me.start, former=former, wait_s=config.probe_timeout_s)
        self._peers = Peers()
        self.read_line = ReadLine(config)
        self._buckets = BucketKeeper(
            remembered=engine.get_meta(BUCKETS) or b"",
            membership=self.membership,
            peers=self._peers,
            replica=self._replica,
            config=config,
            random=random,
        )
        self._copies = self._buckets.table.copies
        self._planner = Planner(
            me=self.name,
            membership=self.membership,
            serving=self._buckets.table.serving,
            why_not=self._buckets.why_not,
        )
        self._coordinator = Coordinator(
            me=self.name,
            config=config,
            replica=self._replica,
            peers=self._peers,
            membership=self.membership,
            read_line=self.read_line,
            planner=self._planner,
        )
        self._bulk_reads = BulkReads(
            me=self.name,
            config=config,
            planner=self._planner,
            replica=self._replica,
            peers=self._peers,
            singly=self._read_singly,
            read_line=self.read_line,
            elsewhere=lambda: self._coordinator.under_way,
        )
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

    # ── links ──

    def hello(self) -> Hello:
        return handshake.hello_of(self._self())

    def accept(self, hello: Hello) -> Refuse | None:
        """An inbound link begins. None: answer with `hello()`, and its messages are welcome."""
        if not self._claim.free:
            return Refuse("joining", f"{self.name} is looking whether its name is free")
        return handshake.judge(self._self(), hello)

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
        self.membership.link_up(address, now, out)
        if self._peers.up(hello.name, address):
            self._coordinator.link_up(hello.name, out)
            self._buckets.link_up(hello.name, out)
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
        name = self._peers.down(address)
        self.membership.link_down(address, now, out)
        if name is not None:
            self._bulk_reads.lost(name, now, out)
            self._coordinator.link_down(name, out)
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
        """The slots that this replica will read for a message, as far as they are known beforehand. None for
        one that will be refused."""
        if isinstance(message, Read | Store):
            return (message.slot,) if len(message.slot) == SLOT_BYTES else ()
        if isinstance(message, ReadMany):
            return _slots_of(message) if self._same_ring(message.ring) else ()
        if isinstance(message, Get | Put | Delete):
            return self._own_slots(message.bucket, (message.key,))
        if isinstance(message, GetMany):
            return self._own_slots(message.bucket, unpack_keys(message.keys, items_max=GET_MANY_KEYS_MAX))
        return ()

    def spans_read_by(self, message: Message) -> Sequence[Span]:
        """The same for a page of records."""
        if isinstance(message, Scan) and _is_scan(message):
            return (listing_span(message.prefix, message.after, message.limit),)
        ring = self._planner.ring
        if ring is not None and isinstance(message, ListKeys) and is_page(message.after, message.limit):
            bucket = self._planner.serving.get(message.bucket, DEFAULTS)
            if bucket is None:
                return ()
            try:
                plan = ring.plan_listing(message.bucket, message.partition, bucket.n)
            except InvalidRequest:
                return ()
            if self.name in plan.owners:
                return (listing_span(plan.slot, message.after, message.limit),)
        return ()

    def overloaded(self, link: int, message: Message, out: Outbox) -> None:
        """Refuse a request that would wait too long for a slow disk, unstarted."""
        why = f"reads wait {self.read_line.delay_s:.2f} s for the disk"
        retry_after_s = max(self._config.retry_after_s, self.read_line.delay_s)
        answer = answer_to(message, name=self.name, why=why, retry_after_s=retry_after_s)
        if answer is not None:
            out.replies.append((link, answer))

    def answer(self, address: str, message: Message, now: float, out: Outbox) -> None:
        """An answer on an outbound link. Raises ValueError as `receive` does."""
        if isinstance(
            message, ReadManyAnswer | ReadAnswer | ScanAnswer | Stored | Found | Done | Listed | Failed
        ):
            name = self._peers.name_at(address)
            if name is not None:
                if _is_about_the_ring(message):
                    self._exchange(name, address, now, out)
                if isinstance(message, ReadManyAnswer):
                    self._bulk_reads.answer(name, message, now, out)
                else:
                    self._coordinator.answer(name, message, now, out)
        elif isinstance(message, Introduce | Assent | Reject | PushPull):
            self.membership.answer(address, message, now, out)
            self._settle(now, out)
        elif isinstance(message, Proposed | Withdrawn | SwapBuckets):
            self._buckets.answer(self._peers.name_at(address), message, now, out)
            self._settle(now, out)
        else:
            raise ValueError(f"a {type(message).__name__} is no answer")

    def receive_datagram(self, source: str, datagram: Datagram, now: float, out: Outbox) -> None:
        if self._claim.free:
            self.membership.receive_datagram(source, datagram, now, out)
            self._settle(now, out)

    # ── disk and time ──

    def take_batch(self, now: float | None = None) -> Batch | None:
        """now: when the disk gets it."""
        return self._replica.take_batch(now)

    def committed(self, now: float, out: Outbox, took_s: float | None = None) -> None:
        """took_s: how long the disk was at it, so that it is known what may wait for it."""
        self._replica.committed(now, out, took_s)

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

    def deadline(self) -> float | None:
        if not self._claim.free:
            return self._claim.deadline()
        earliest = self.membership.deadline()
        for at in (
            self._bulk_reads.deadline(),
            self._coordinator.deadline(),
            self._replica.deadline(),
            self._buckets.deadline(),
        ):
            if at is not None and (earliest is None or at < earliest):
                earliest = at
        return earliest

    # ── inside ──

    def _own_slots(self, bucket: str, keys: Sequence[bytes]) -> list[bytes]:
        """The slots of those keys that this node owns."""
        ring = self._planner.ring
        properties = self._planner.serving.get(bucket, DEFAULTS)
        if ring is None or properties is None:
            return []
        try:
            plans = [ring.plan(bucket, key, properties.n) for key in keys]
        except InvalidRequest:
            return []
        return [plan.slot for plan in plans if self.name in plan.owners]

    def _doors(self) -> dict[type, Callable[[int, Message, float, Outbox], None]]:
        coordinate: Callable[..., None] = self._coordinator.request
        join: Callable[..., None] = self._membership_request
        bucket: Callable[..., None] = self._bucket_request
        doors: dict[type, Callable[..., None]] = {
            Get: self._get,
            GetMany: self._bulk_reads.get_many,
            Put: coordinate,
            Delete: coordinate,
            ListKeys: coordinate,
            Read: self._read,
            ReadMany: self._read_many,
            Scan: self._scan,
            Store: self._store,
            AskMembers: self._members,
            AskJoin: join,
            Admit: join,
            PushPull: join,
            CreateBucket: bucket,
            AskBuckets: bucket,
            Propose: bucket,
            Withdrawn: bucket,
            AskFate: bucket,
            SwapBuckets: bucket,
        }
        return doors

    def _self(self) -> handshake.Self:
        membership = self.membership
        me = membership.me
        return handshake.Self(me.name, me.directory, me.start, membership.cluster, membership.partitions)

    def _settle(self, now: float, out: Outbox) -> None:
        """After anything that may have changed the membership or the buckets: take durable facts along, plan
        anew."""
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
        if not self._same_ring(membership.fingerprint):  # else somebody merely moved to another address
            ring = self._planner.ring = Ring(
                members,
                cluster=membership.cluster,
                partitions=membership.partitions,
                fingerprint=membership.fingerprint,
            )
            self._bulk_reads.replan(now, out)
            self._coordinator.replan(ring, out)
        lost, found = self._peers.place({m.name: m.address for m in members if m.name != self.name})
        for name in lost:
            self._bulk_reads.lost(name, now, out)
            self._coordinator.link_down(name, out)
        for name in found:
            self._coordinator.link_up(name, out)
            self._buckets.link_up(name, out)
        if out.durable_sends:  # the table of buckets, behind facts that wait
            self._replica.keep(out)

    def _replan_buckets(self, now: float, out: Outbox) -> None:
        changed = self._buckets.table.changed[:]
        self._buckets.table.changed.clear()
        for bucket in changed:
            self._coordinator.replan_bucket(bucket, out)
        self._bulk_reads.replan(now, out)

    def _bucket_request(self, link: int, message: BucketRequest, now: float, out: Outbox) -> None:
        self._buckets.request(link, message, now, out)
        self._settle(now, out)

    def _membership_request(
        self, link: int, message: AskJoin | Admit | PushPull, now: float, out: Outbox
    ) -> None:
        self.membership.receive(link, message, now, out)
        self._settle(now, out)

    def _members(self, link: int, message: AskMembers, now: float, out: Outbox) -> None:
        membership = self.membership
        packed = pack_members(membership.table.members())
        answer = Members(
            message.id, membership.cluster, membership.partitions, membership.fingerprint, packed
        )
        out.replies.append((link, answer))

    def _same_ring(self, fingerprint: int) -> bool:
        return self._planner.ring is not None and self._planner.ring.fingerprint == fingerprint

    def _get(self, link: int, message: Get, now: float, out: Outbox) -> None:
        if message.forwarded:
            self._coordinator.request(link, message, now, out)
        else:
            self._bulk_reads.get(link, message, now, out)

    def _read_singly(self, link: int, get: Get, late: str, now: float, out: Outbox) -> None:
        self._coordinator.request(link, get, now, out, late=late)

    def _read_many(self, link: int, message: ReadMany, now: float, out: Outbox) -> None:
        """Answer with the records as they are stored, undecoded."""
        slots = _slots_of(message)
        if not self._same_ring(message.ring) or not all(map(self._same_copies, slots)):
            out.replies.append((link, ReadManyAnswer(message.id, STATUS_RING, b"")))
            return
        records = self._replica.read_many(slots, bytes_max=READ_MANY_BYTES_MAX)
        out.replies.append((link, ReadManyAnswer(message.id, STATUS_OK, pack_row(records))))

    def _same_copies(self, slot: bytes) -> bool:
        """Whether whoever planned for this slot, or for all that begin so, knows of its bucket what is known
        here."""
        return self._copies.get(slot[BUCKET_IN_SLOT], COPIES) == slot[COPIES_IN_SLOT]

    def _read(self, link: int, message: Read, now: float, out: Outbox) -> None:
        """Answer with the record as it is stored, undecoded."""
        _check_slot(message.slot)
        if not self._same_ring(message.ring) or not self._same_copies(message.slot):
            out.replies.append((link, ReadAnswer(message.id, STATUS_RING, b"")))
            return
        try:
            record, batch = self._replica.read(message.slot)
        except Refusal as refusal:
            out.events.append(("error", str(refusal)))
            out.replies.append((link, ReadAnswer(message.id, refusal.status, b"")))
            return
        if batch is None:
            out.replies.append((link, ReadAnswer(message.id, STATUS_OK, record)))
        elif self._replica.crowded:
            out.replies.append((link, ReadAnswer(message.id, STATUS_OVERLOADED, b"")))
        else:
            batch.waiters.append(partial(self._read_waited, link, message, record))

    def _read_waited(
        self, link: int, message: Read, record: bytes, status: int, now: float, out: Outbox
    ) -> None:
        if status == STATUS_OK:
            out.replies.append((link, ReadAnswer(message.id, STATUS_OK, record)))
        else:
            self._read(link, message, now, out)  # what never got to the disk was never there

    def _scan(self, link: int, message: Scan, now: float, out: Outbox) -> None:
        """Answer with a page of what is on the disk."""
        if not _is_scan(message):
            raise ValueError("a scan that no node asks for")
        if self._same_ring(message.ring) and self._same_copies(message.prefix):
            entries, end = self._replica.scan(message.prefix, message.after, message.limit)
            out.replies.append((link, ScanAnswer(message.id, STATUS_OK, entries, end)))
        else:
            out.replies.append((link, ScanAnswer(message.id, STATUS_RING, b"", b"")))

    def _store(self, link: int, message: Store, now: float, out: Outbox) -> None:
        _check_slot(message.slot)
        if not 1 <= len(message.key) <= KEY_BYTES_MAX:
            raise ValueError(f"a key of {len(message.key)} bytes")
        if (
            not self._same_ring(message.ring)
            or not self._same_copies(message.slot)
            or self.membership.admitting
        ):
            self._answer_store(link, message.id, STATUS_RING, now, out)
            return
        assert self._planner.ring is not None
        if not self._planner.ring.places(message.slot, message.key, self.name):
            out.events.append(("error", f"a peer sent key {message.key!r} to where it does not belong"))
            self._answer_store(link, message.id, STATUS_REFUSED, now, out)
            return
        # Read repair, which nobody waits for, yields to clients.
        room = PEERS_ROOM if message.id else 1.0
        if self._replica.crowded or self._replica.delay_s(now) > self._config.write_delay_max_s * room:
            self._answer_store(link, message.id, STATUS_OVERLOADED, now, out)
            return
        try:
            batch = self._replica.merge(message.slot, message.key, message.record)
        except Refusal as refusal:
            if refusal.is_news:
                out.events.append(("error", f"a record from a peer was refused: {refusal}"))
            self._answer_store(link, message.id, refusal.status, now, out)
            return
        if batch is None:
            self._answer_store(link, message.id, STATUS_OK, now, out)
        elif message.id:
            batch.waiters.append(partial(self._answer_store, link, message.id))

    def _answer_store(self, link: int, id: int, status: int, now: float, out: Outbox) -> None:
        if id:
            out.replies.append((link, Stored(id, status)))

    def _exchange(self, name: str, address: str, now: float, out: Outbox) -> None:
        """A peer plans with another ring, or knows other buckets: show each other the tables."""
        if now - self._exchanged_at.get(address, -_EXCHANGE_INTERVAL_S) >= _EXCHANGE_INTERVAL_S:
            self._exchanged_at[address] = now
            self.membership.link_up(address, now, out)
            self._buckets.exchange(name, out)
            self._settle(now, out)


def _check_slot(slot: bytes) -> None:
    """An engine would not take it."""
    if len(slot) != SLOT_BYTES:
        raise ValueError(f"a slot of {len(slot)} bytes")


def _slots_of(message: ReadMany) -> list[bytes]:
    slots = message.slots
    count, rest = divmod(len(slots), SLOT_BYTES)
    if rest or not 1 <= count <= READ_MANY_SLOTS_MAX:
        raise ValueError(f"slots of {len(slots)} bytes in all")
    return [slots[at : at + SLOT_BYTES] for at in range(0, len(slots), SLOT_BYTES)]


def _is_scan(message: Scan) -> bool:
    return len(message.prefix) == PREFIX_BYTES and is_page(message.after, message.limit)


def _is_about_the_ring(answer: ReadManyAnswer | Answer) -> bool:
    """Whether the other node plans with another ring than ours, or knows other buckets."""
    if isinstance(answer, Failed):
        return answer.code == Code.RING
    return (
        isinstance(answer, ReadManyAnswer | ReadAnswer | ScanAnswer | Stored) and answer.status == STATUS_RING
    )
