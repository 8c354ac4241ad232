"""A small world of Membership machines: virtual time, a network with faults, disks that take their time.

Everything is drawn from one seed. A `Process` is one run of a node on a `Disk`, which outlives it. Links
keep their order and break with either end; datagrams are lost, doubled and overtaken. What is written
becomes durable COMMIT_S later, and only then are the durable messages let go.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random
from typing import Any

from dyno.config import Config
from dyno.protocol.gossip import GossipQueue
from dyno.protocol.identity import remembered
from dyno.protocol.local_health import LocalHealth
from dyno.protocol.member_table import MemberTable
from dyno.protocol.membership import Membership
from dyno.protocol.outbox import Outbox
from dyno.protocol.probe import Prober
from dyno.protocol.roster import Roster
from dyno.wire import datagram
from dyno.wire.flat import ProtocolError
from dyno.wire.members import ALIVE, NORMAL, Member
from dyno.wire.messages import Ack, Admit, AskJoin, Assent, Introduce, Ping, PushPull, Reject


def a_member(name: str = "n2", **fields: Any) -> Member:
    """A seated, living member whose ids follow from its name and number of start."""
    start = fields.pop("start", 1)
    return Member(
        name=name,
        directory=f"directory of {name}".encode().ljust(16, b".")[:16],
        seat=f"seat of {name}".encode().ljust(16, b".")[:16],
        start=start if isinstance(start, bytes) else start.to_bytes(8, "big"),
        stamp=1,
        incarnation=0,
        state=NORMAL,
        liveness=ALIVE,
        address=f"{name}:7100",
        zone="",
        weight=1.0,
    )._replace(**fields)


CLUSTER = b"a cluster's id.."
COMMIT_S = 0.004
REDIAL_S = 0.1
QUICK = Config(
    probe_interval_s=0.2,
    probe_timeout_s=0.08,
    gossip_interval_s=0.04,
    push_pull_interval_s=2.0,
    join_retry_s=0.2,
)


def a_roster(
    me: Member, *others: Member, holds_data: bool = False, config: Config = QUICK, careful: bool = True
) -> tuple[Roster, Prober]:
    """A node's roster that knows some others, with a link up to each, and its prober."""
    table = MemberTable(members_max=config.members_max)
    gossip = GossipQueue(retransmit_mult=config.retransmit_mult)
    health = LocalHealth(factor_max=config.self_distrust_max)
    prober = Prober(me=me.name, table=table, gossip=gossip, health=health, config=config, random=Random(1))
    roster = Roster(
        me=me,
        cluster=CLUSTER,
        partitions=64,
        table=table,
        gossip=gossip,
        prober=prober,
        health=health,
        config=config,
        holds_data=lambda: holds_data,
        careful=careful,
    )
    for member in (me, *others):
        table.merge(member, admitted=True)
    roster.active = True
    roster.introduced = True
    roster.settle(Outbox())
    for member in others:
        roster.links.went_up(member.address)
    return roster, prober


@dataclass
class Disk:
    """A data directory. data: whether it holds a user's record."""

    name: str
    directory: bytes
    seat: bytes
    meta: dict[str, bytes] = field(default_factory=dict)
    data: bool = False


class World:
    def __init__(self, seed: int = 0, *, loss: float = 0.0, config: Config = QUICK) -> None:
        self.random = Random(seed)
        self.loss = loss
        self.config = config
        self.now = 100.0
        self.processes: list[Process] = []
        self.cuts: list[tuple[frozenset[str], frozenset[str]]] = []  # addresses that cannot reach each other
        self.port = 7100
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    # ── what tests do ──

    def disk(self, name: str) -> Disk:
        return Disk(name, self.random.randbytes(16), self.random.randbytes(16))

    def start(
        self,
        disk: Disk,
        *seeds: str,
        address: str | None = None,
        config: Config | None = None,
        zone: str = "",
    ) -> Process:
        """A process on that disk, at a new address unless one is given."""
        if address is None:
            self.port += 1
            address = f"h:{self.port}"
        process = Process(self, disk, address, seeds, config or self.config, zone)
        self.processes.append(process)
        process.run(lambda out: process.membership.start(self.now, out))
        return process

    def cluster(self, count: int) -> list[Process]:
        """So many members, all joined."""
        first = self.start(self.disk("n1"))
        rest = [self.start(self.disk(f"n{i + 1}"), first.address) for i in range(1, count)]
        members = [first, *rest]
        self.until(lambda: all(m.joined for m in members) and agree(members))
        return members

    def partition(self, some: list[Process], others: list[Process]) -> None:
        """Neither side can reach the other; links between them break at once."""
        cut = (frozenset(p.address for p in some), frozenset(p.address for p in others))
        self.cuts.append(cut)
        for process in self.processes:
            for address in list(process.links):
                if self.is_cut(process.address, address):
                    process.break_link(address)

    def heal(self) -> None:
        self.cuts.clear()

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self._step()
        self.now = end

    def until(self, true: Callable[[], bool], *, within: float = 30.0) -> float:
        """Run until something holds; gives how long that took."""
        began = self.now
        while not true():
            assert self._queue and self._queue[0][0] <= began + within, f"not within {within} s"
            self._step()
        return self.now - began

    # ── what processes need ──

    def at(self, when: float, what: Callable[[], None]) -> None:
        self._count += 1
        heappush(self._queue, (when, self._count, what))

    def latency(self) -> float:
        return 0.0005 + 0.004 * self.random.random()

    def is_cut(self, one: str, other: str) -> bool:
        return any((one in a and other in b) or (one in b and other in a) for a, b in self.cuts)

    def process_at(self, address: str) -> Process | None:
        for process in self.processes:
            if process.address == address and process.running:
                return process
        return None

    def send_datagram(self, source: Process, address: str, data: bytes) -> None:
        copies = 1 + (self.loss > 0 and self.random.random() < 0.05)
        for _ in range(copies):
            if self.random.random() >= self.loss:
                self.at(self.now + self.latency(), lambda: self._deliver(source.address, address, data))

    def _deliver(self, source: str, address: str, data: bytes) -> None:
        target = self.process_at(address)
        if target is not None and not self.is_cut(source, address):
            target.got_datagram(source, data)

    def _step(self) -> None:
        self.now, _, what = heappop(self._queue)
        what()


@dataclass
class Link:
    """An outbound link that is up. free_at: when the last message on it arrives, for they stay in order."""

    target: Process
    number: int
    free_at: float = 0.0
    back_free_at: float = 0.0


class Process:
    def __init__(
        self,
        world: World,
        disk: Disk,
        address: str,
        seeds: tuple[str, ...],
        config: Config,
        zone: str = "",
    ) -> None:
        self.world = world
        self.disk = disk
        self.address = address
        self.running = True
        self.frozen = False
        self.stopped_because: str | None = None
        self.events: list[str] = []
        self.datagrams = 0
        self.wanted: dict[str, None] = {}
        self.links: dict[str, Link] = {}
        self.inbound: dict[int, tuple[Process, str]] = {}
        self._numbers = 0
        self._tick_at: float | None = None
        kept = remembered(disk.meta.get, members_max=config.members_max)
        me = Member(
            disk.name,
            disk.directory,
            disk.seat,
            world.random.randbytes(8),
            kept.stamp,
            0,
            NORMAL,
            0,
            address,
            zone,
            1.0,
        )
        self.membership = Membership(
            me=me,
            cluster=kept.cluster,
            partitions=kept.partitions or 64,
            known=kept.members,
            seeds=seeds,
            config=config,
            random=Random(world.random.random()),
            holds_data=lambda: disk.data,
        )

    # ── what tests ask and do ──

    @property
    def name(self) -> str:
        return self.disk.name

    @property
    def joined(self) -> bool:
        return self.running and self.membership.joined

    @property
    def admitting(self) -> bool:
        return self.membership.admitting

    def ring(self) -> list[str]:
        return sorted(member.name for member in self.membership.ring_members())

    def sees(self, name: str) -> Member:
        record = self.membership.table.holder(name)
        assert record is not None
        return record

    def put(self) -> bool:
        """Accept data where that is allowed."""
        if not self.joined or self.admitting:
            return False
        self.disk.data = True
        return True

    def kill(self) -> None:
        """kill -9: what was not on disk is lost, all links break."""
        self.running = False
        for address in list(self.links):
            self.break_link(address)
        for number in list(self.inbound):
            source, address = self.inbound[number]
            source.break_link(address)

    def quit(self) -> None:
        """A clean stop: what it still says is sent."""
        self.run(lambda out: self.membership.leave_quietly(self.world.now, out))
        self.world.run(COMMIT_S * 3)
        self.kill()

    def break_link(self, address: str) -> None:
        link = self.links.pop(address, None)
        if link is None:
            return
        link.target.inbound.pop(link.number, None)
        if self.running:
            self.run(lambda out: self.membership.link_down(address, self.world.now, out))
            self._dial_later(address)

    # ── the runner ──

    def run(self, verb: Callable[[Outbox], None]) -> None:
        out = Outbox()
        verb(out)
        self._empty(out)
        deadline = self.membership.deadline()
        if self.running and deadline is not None and (self._tick_at is None or deadline < self._tick_at):
            self._tick_at = deadline
            self.world.at(max(deadline, self.world.now), lambda: self._tick(deadline))

    def got_datagram(self, source: str, data: bytes) -> None:
        if self.frozen:
            self.world.at(self.world.now + 0.05, lambda: self.got_datagram(source, data))
            return
        if not self.running or not self.membership.cluster:
            return
        try:
            message = datagram.decode(self.membership.cluster, data)
        except ProtocolError:
            return
        self.run(lambda out: self.membership.receive_datagram(source, message, self.world.now, out))

    def _tick(self, due: float) -> None:
        if self.frozen:
            self.world.at(self.world.now + 0.05, lambda: self._tick(due))
            return
        if not self.running or self._tick_at != due:
            return
        self._tick_at = None
        self.run(lambda out: self.membership.tick(self.world.now, out))

    def _empty(self, out: Outbox) -> None:
        self.events += [text for _, text in out.events]
        for address in out.disconnect:
            del self.wanted[address]
            link = self.links.pop(address, None)
            if link is not None:
                link.target.inbound.pop(link.number, None)
        for address in out.connect:
            assert address not in self.wanted
            self.wanted[address] = None
            self._dial(address)
        for address, message in out.datagrams:
            self.datagrams += 1
            self.world.send_datagram(self, address, datagram.encode(self.membership.cluster, message))
        self._let_go(out.sends, out.replies)
        if out.meta or out.durable_sends or out.durable_replies:
            self.world.at(self.world.now + COMMIT_S, lambda: self._committed(out))
        if out.stop is not None:
            self.stopped_because = out.stop
            self.kill()

    def _committed(self, out: Outbox) -> None:
        if self.running:
            self.disk.meta.update(out.meta)
            self._let_go(out.durable_sends, out.durable_replies)

    def _let_go(self, sends: list[tuple[str, Any]], replies: list[tuple[int, Any]]) -> None:
        world = self.world
        for address, message in sends:
            link = self.links.get(address)
            if link is not None:
                link.free_at = max(link.free_at, world.now + world.latency())
                world.at(link.free_at, lambda a=address, k=link, m=message: self._arrive(a, k, m))
        for number, message in replies:
            entry = self.inbound.get(number)
            if entry is not None:
                source, address = entry
                link = source.links[address]
                link.back_free_at = max(link.back_free_at, world.now + world.latency())
                world.at(
                    link.back_free_at, lambda s=source, a=address, k=link, m=message: s.answered(a, k, m)
                )

    def _arrive(self, address: str, link: Link, message: Any) -> None:
        target = link.target
        if self.links.get(address) is not link or not target.running:
            return
        if target.frozen:
            self.world.at(self.world.now + 0.05, lambda: self._arrive(address, link, message))
            return
        assert isinstance(message, AskJoin | Admit | PushPull | Ping)
        target.run(lambda out: target.membership.receive(link.number, message, self.world.now, out))

    def answered(self, address: str, link: Link, message: Any) -> None:
        if self.links.get(address) is not link or not self.running:
            return
        if self.frozen:
            self.world.at(self.world.now + 0.05, lambda: self.answered(address, link, message))
            return
        assert isinstance(message, Introduce | Assent | Reject | PushPull | Ack)
        self.run(lambda out: self.membership.answer(address, message, self.world.now, out))

    def _dial(self, address: str) -> None:
        if not self.running or address not in self.wanted or address in self.links:
            return
        target = self.world.process_at(address)
        if target is None or target.frozen or self.frozen or self.world.is_cut(self.address, address):
            self._dial_later(address)
            return
        ours, theirs = self.membership.cluster, target.membership.cluster
        if ours and theirs and ours != theirs:
            self._dial_later(address)
            return
        target._numbers += 1
        link = self.links[address] = Link(target, target._numbers)
        target.inbound[link.number] = (self, address)
        self.world.at(self.world.now + 2 * self.world.latency(), lambda: self._up(address, link))

    def _up(self, address: str, link: Link) -> None:
        if self.running and self.links.get(address) is link:
            self.run(lambda out: self.membership.link_up(address, self.world.now, out))

    def _dial_later(self, address: str) -> None:
        later = self.world.now + REDIAL_S * (0.5 + self.world.random.random())
        self.world.at(later, lambda: self._dial(address))


def agree(processes: list[Process]) -> bool:
    """The running ones know the same members."""
    tables = [p.membership.table.members() for p in processes if p.running]
    return all(table == tables[0] for table in tables)
