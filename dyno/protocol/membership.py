"""Who is in the cluster, who of them lives, and how a node comes in: the parts joined into one machine.

    member_table   what is known of everybody, a lattice   roster      what follows from each news
    probe          SWIM: ping, ask others to ping          suspicion   time left to refute
    gossip         news that rides on datagrams            links       whom to keep dialling
    join           a joiner's side of a join               admission   a member's side: name rule, data rule

A node begins in one of three ways. It *founds* a cluster when it has no seeds and remembers none. It
*returns* when it remembers a seat under its present directory: it takes a higher start stamp, serves at
once with the ring it remembers and shows its table to everybody it can reach. Else it *joins*, and never
founds.

In go requests of inbound links, answers and events of outbound links, datagrams and the time; what is to
happen goes to the outbox. Nothing here raises for what a remote sent. Until the ring is a log of its own
(DESIGN), it is every member known, dead ones too, and liveness never changes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dyno.protocol.admission import Admission
from dyno.protocol.gossip import GossipQueue, choose
from dyno.protocol.identity import CLUSTER_ID_BYTES
from dyno.protocol.join import Joiner, Phase
from dyno.protocol.member_table import MemberTable
from dyno.protocol.probe import Prober
from dyno.protocol.roster import Roster
from dyno.wire.members import ALIVE, DEAD, JOINING, LEFT, NORMAL, Member
from dyno.wire.messages import (
    Ack,
    Admit,
    AskJoin,
    Assent,
    Gossip,
    Introduce,
    Ping,
    PingRequest,
    PushPull,
    Reject,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from dyno.config import Config
    from dyno.protocol.outbox import Outbox
    from dyno.wire.messages import Datagram


class Membership:
    """me: this process: name, directory, fresh start id, address; its stamp is the one last kept. seat, zone
    and weight count only when the directory has no seat yet. cluster, known: as remembered (identity.py),
    b"" and empty for a new directory. partitions: of the cluster, or of the one to found. seeds: addresses
    given to join by. holds_data: whether this node stores a record or has one on its way to the disk. former:
    the id that this directory had before it got the present one, b"" for none.

    table: every record. joined: whether this node has a seat and may serve."""

    def __init__(
        self,
        *,
        me: Member,
        cluster: bytes,
        partitions: int,
        known: Sequence[Member],
        seeds: Sequence[str],
        config: Config,
        random: Random,
        holds_data: Callable[[], bool],
        former: bytes = b"",
    ) -> None:
        self.joined = False
        self.table = MemberTable(members_max=config.members_max)
        self._config = config
        self._random = random
        self._gossip = GossipQueue(retransmit_mult=config.retransmit_mult)
        self._prober = Prober(me=me.name, table=self.table, gossip=self._gossip, config=config, random=random)
        self._roster = Roster(
            me=me,
            cluster=cluster,
            partitions=partitions,
            table=self.table,
            gossip=self._gossip,
            prober=self._prober,
            config=config,
            holds_data=holds_data,
        )
        self._admission = Admission(roster=self._roster, prober=self._prober, config=config)
        self._roster.seeds = list(seeds)
        self._seat_kept = self._load(known, (me.directory, former) if former else (me.directory,))
        self._joiner: Joiner | None = None
        self._gossip_at = 0.0  # counts while there is something to gossip
        self._push_pull_at: float | None = None
        self._due: float | None = None  # only verbs of this class change it, and all runners ask very often

    # ── what others read ──

    @property
    def me(self) -> Member:
        return self._roster.me

    @property
    def seeds(self) -> Sequence[str]:
        """The addresses given to join by, until they have served."""
        return self._roster.seeds

    @property
    def cluster(self) -> bytes:
        """b"" until the node was introduced to one."""
        return self._roster.cluster

    @property
    def partitions(self) -> int:
        return self._roster.partitions

    @property
    def version(self) -> int:
        """Grows with every change of any member's record."""
        return self.table.version

    @property
    def ring_version(self) -> int:
        """Grows when a ring member's existence, seat, zone, weight, directory or address changes."""
        return self.table.ring_version

    @property
    def fingerprint(self) -> int:
        """Equal on all nodes whose rings place alike."""
        return self.table.fingerprint()

    @property
    def admitting(self) -> bool:
        """Somebody is joining who would change the ring: no data may be taken in."""
        return self.table.pending > 0

    @property
    def letting_in(self) -> bool:
        """Somebody is joining, be it to take over the seat of its name."""
        return self.table.joining > 0

    @property
    def inherited(self) -> bool:
        """This start took over the seat of a directory that is no more."""
        return self._roster.inherited

    @property
    def replaced(self) -> bool:
        """Another directory had this node's seat since it served last."""
        return self._roster.replaced

    def joining(self) -> list[str]:
        """Who is joining, by name."""
        return [member.name for member in self.table.members() if member.state == JOINING]

    def ring_members(self) -> list[Member]:
        """By seat id. Shared: not to be changed."""
        return self.table.ring()

    def is_live(self, name: str) -> bool:
        """Alive or merely suspect, and in the ring."""
        return self.table.is_live(name)

    def is_alive(self, name: str) -> bool:
        record = self.table.seated(name)
        return record is not None and record.liveness == ALIVE

    # ── verbs ──

    def start(self, now: float, out: Outbox) -> None:
        """The runner commits what this leaves in `out.meta` before it says that the node is ready."""
        if self.cluster and self._seat_kept is not None:
            self._return(self._seat_kept)
        elif self.cluster or self.seeds:
            self._begin_to_join(now, out)
        else:
            self._found(out)
        if self.joined:
            self._begin_to_probe(now)
        self._settle(now, out)

    def receive(self, link: int, message: AskJoin | Admit | PushPull, now: float, out: Outbox) -> None:
        """A request on an inbound link."""
        if self._roster.stopped:
            return
        if not isinstance(message, PushPull):
            self._admission.asked(link, message, now, out)
        elif self._roster.active:
            self._hear_table(message, f"link {link}", now, out)
            if message.answer and not self._roster.stopped:
                answer = PushPull(self._roster.packed(), False)
                self._roster.replies(out).append((link, answer))
        self._settle(now, out)

    def answer(
        self, address: str, message: Introduce | Assent | Reject | PushPull, now: float, out: Outbox
    ) -> None:
        """An answer on an outbound link."""
        if self._roster.stopped:
            return
        joiner = self._joiner
        if isinstance(message, PushPull):
            if self._roster.active:
                members = self._hear_table(message, address, now, out)
                if joiner is not None:
                    joiner.heard_table(address, members, out)
                elif address in self._roster.seeds:
                    self._roster.seeds.remove(address)  # it has served; members are dialled anyway
        elif joiner is not None:
            if isinstance(message, Introduce):
                joiner.introduced(message, now, out)
            elif isinstance(message, Assent):
                joiner.assented(message, now, out)
            else:
                joiner.rejected(message, now, out)
        self._settle(now, out)

    def receive_datagram(self, source: str, message: Datagram, now: float, out: Outbox) -> None:
        roster = self._roster
        if roster.stopped or not roster.cluster:
            return
        if isinstance(message, Ping):
            self._pinged(source, message, out)
        elif isinstance(message, Ack):
            self._prober.acked(message, out)
            self._admission.acked(message, now, out)
        elif isinstance(message, PingRequest) and self._roster.active:
            self._prober.relay(source, message, now, out)
        if message.gossip and self._roster.active:
            for record in roster.unpack(message.gossip, source, out) or ():
                roster.hear(record, now, out)
        self._settle(now, out)

    def link_up(self, address: str, now: float, out: Outbox) -> None:
        """An outbound link's handshake is done, or tables are to be exchanged over one that is up: so a
        node that was thought dead, restarted or was cut off is met again."""
        roster = self._roster
        if roster.stopped or not roster.links.went_up(address):
            return
        if self._joiner is not None:
            self._joiner.link_up(address, now, out)
        else:
            roster.sends(out).append((address, PushPull(roster.packed(), True)))
        self._settle(now, out)

    def link_down(self, address: str, now: float, out: Outbox) -> None:
        self._roster.links.went_down(address)

    def seed_refused(self, address: str, reason: str, now: float, out: Outbox) -> None:
        """The node at a seed's address is of another cluster, or cannot talk with us at all. That is an error
        of whoever named it, and the end of this node; unless it serves in its cluster already."""
        roster = self._roster
        if roster.stopped:
            return
        text = f"cannot join at {address}: {reason}"
        if self._joiner is not None:
            self._joiner.refused(text, now, out)
        elif roster.introduced:
            roster.seeds.remove(address)
            out.events.append(("warning", text))
        else:
            roster.stop(text, out)
        self._settle(now, out)

    def tick(self, now: float, out: Outbox) -> None:
        roster = self._roster
        if roster.stopped:
            return
        self._forgive_sleep(now)
        if self._joiner is not None:
            self._joiner.tick(now, out)
        self._admission.tick(now, out)
        target = self._prober.tick(now, out)
        if target is not None:
            roster.suspect(target, now, out)
        roster.bury(now, out)
        self._gossip_some(now, out)
        self._exchange(now, out)
        self._settle(now, out)

    def deadline(self) -> float | None:
        return None if self._roster.stopped else self._due

    def leave_quietly(self, now: float, out: Outbox) -> None:
        """The process is told to end. The ring stays as it is; peers need not find out by themselves. Send
        what is in the outbox; nothing happens here any more."""
        roster = self._roster
        if roster.stopped:
            return
        if self._joiner is not None:
            self._joiner.withdraw_at_once(out)
        else:
            roster.farewell(out)
        self._settle(now, out)
        roster.stopped = True

    def renew_directory(self, directory: bytes, now: float, out: Outbox) -> None:
        """The directory has another id, on the disk already."""
        if not self._roster.stopped:
            self._roster.renew_directory(directory, out)
            self._settle(now, out)

    # ── three ways to begin ──

    def _load(self, known: Sequence[Member], directories: tuple[bytes, ...]) -> Member | None:
        """Take in what is remembered; gives this directory's own seat, if it has one under any of its ids.
        The others are taken for alive until probing says otherwise: what was written of that is old."""
        roster = self._roster
        seat = None
        for record in known:
            if record.name != roster.me.name:
                self.table.merge(record._replace(liveness=ALIVE), admitted=True)
                continue
            roster.claimed_stamp = max(roster.claimed_stamp, record.stamp)
            if record.directory in directories and record.state not in (JOINING, LEFT):
                seat = record
        return seat

    def _found(self, out: Outbox) -> None:
        roster = self._roster
        roster.cluster = self._random.randbytes(CLUSTER_ID_BYTES)
        self._sit_down(roster.me)
        out.events.append(("info", f"founded cluster {roster.cluster.hex()}"))

    def _return(self, seat: Member) -> None:
        self._sit_down(self.me._replace(seat=seat.seat, zone=seat.zone, weight=seat.weight))

    def _sit_down(self, me: Member) -> None:
        stamp = max(me.stamp, self._roster.claimed_stamp) + 1
        self._roster.become(me._replace(stamp=stamp, incarnation=0, state=NORMAL, liveness=ALIVE))
        self._roster.active = self.joined = True

    def _begin_to_join(self, now: float, out: Outbox) -> None:
        roster = self._roster
        known = [member.address for member in self.table.current()]
        seeds = [seed for seed in dict.fromkeys((*self.seeds, *known)) if seed != self.me.address]
        roster.me = self.me._replace(incarnation=0, state=JOINING, liveness=ALIVE)
        if not seeds:
            roster.stop(f"{self.me.name} has no other address to join a cluster by", out)
            return
        self._joiner = Joiner(roster=roster, config=self._config, random=self._random, seeds=seeds)
        self._joiner.start(now, out)

    def _begin_to_probe(self, now: float) -> None:
        self._prober.start(now)
        for member in self.table.current():
            if member.name != self.me.name:
                self._prober.joins_round(member.name)
        self._push_pull_at = now + self._config.push_pull_interval_s * self._random.random()

    # ── inside ──

    def _settle(self, now: float, out: Outbox) -> None:
        """At the end of every verb: what the news made possible, then what it made necessary."""
        joiner = self._joiner
        if joiner is not None:
            joiner.step(now, out)
            if self._push_pull_at is None and self._roster.active:
                self._begin_to_probe(now)
            if joiner.phase is Phase.SEATED:
                self._joiner = None
                self.joined = True
                self._roster.seeds.clear()
        if len(self._gossip):
            self._gossip_at = max(self._gossip_at, now)
        self._roster.settle(out)
        self._due = self._next_due()

    def _next_due(self) -> float | None:
        earliest = self._prober.deadline()
        for at in (
            self._push_pull_at,
            self._roster.suspicions.deadline(),
            self._gossip_at if len(self._gossip) else None,
            self._admission.deadline(),
            None if self._joiner is None else self._joiner.deadline(),
        ):
            if at is not None and (earliest is None or at < earliest):
                earliest = at
        return earliest

    def _pinged(self, source: str, ping: Ping, out: Outbox) -> None:
        me = self.me
        if ping.target != me.name or ping.target_start not in (b"", me.start):
            return
        if ping.target_start:
            self._roster.introduced = True
        gossip = self._gossip.fill(me.name, members=len(self.table))
        out.datagrams.append((source, Ack(ping.seq, me.name, me.start, gossip)))

    def _hear_table(self, message: PushPull, source: str, now: float, out: Outbox) -> list[Member]:
        members = self._roster.unpack(message.members, source, out) or []
        self._roster.hear_table(members, now, out)
        return members

    def _gossip_some(self, now: float, out: Outbox) -> None:
        if not len(self._gossip) or now < self._gossip_at:
            return
        self._gossip_at = now + self._config.gossip_interval_s
        me = self.me.name
        others = [m for m in self.table.current() if m.liveness != DEAD and m.name != me]
        if not others:
            self._gossip.clear()  # whoever comes back is shown the whole table
        for other in choose(self._random, others, self._config.gossip_nodes):
            gossip = self._gossip.fill(me, members=len(self.table))
            if gossip:
                out.datagrams.append((other.address, Gossip(me, gossip)))

    def _exchange(self, now: float, out: Outbox) -> None:
        """Tables with one member, whoever is reachable: what gossip missed, and what the dead would say."""
        if self._push_pull_at is None or now < self._push_pull_at:
            return
        self._push_pull_at = now + self._config.push_pull_interval_s
        up = self._roster.links.up()
        if up and self.joined:
            message = PushPull(self._roster.packed(), True)
            self._roster.sends(out).append((self._random.choice(up), message))

    def _forgive_sleep(self, now: float) -> None:
        """Called long after the deadline: it was this process that did not run, so that nobody's silence
        meant anything, and what they answered meanwhile may still wait to be read."""
        deadline = self.deadline()
        late_s = 0.0 if deadline is None else now - deadline
        if late_s > self._config.probe_interval_s:
            self._prober.drop()
            self._roster.suspicions.postpone(late_s)
