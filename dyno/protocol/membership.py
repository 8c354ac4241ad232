"""Who is in the cluster, who of them lives, and how a node comes in: the parts joined into one machine.

    member_table   what is known of everybody, a lattice   roster      what follows from each news
    probe          SWIM: ping, ask others to ping          suspicion   time left to refute
    gossip         news that rides on datagrams            links       whom to keep dialling
    join           a joiner's side of a join               admission   a member's side: name rule, data rule
    local_health   how far to distrust oneself             wakefulness whether this process ran all the time

A node begins in one of three ways. It *founds* a cluster when it has no seeds and remembers none. It
*returns* when it remembers a seat under its present directory: it takes a higher start stamp, serves at
once with the ring it remembers and shows its table to everybody it can reach. Else it *joins*, and never
founds.

In go requests of inbound links, answers and events of outbound links, datagrams and the time; what is to
happen goes to the outbox. Nothing here raises for what a remote sent. Until the ring is a log of its own
(DESIGN), it is every member known, dead ones too, and liveness never changes it.
"""

from __future__ import annotations

from math import ceil, log2
from typing import TYPE_CHECKING, Final

from dyno.protocol.admission import Admission
from dyno.protocol.gossip import GossipQueue, choose
from dyno.protocol.identity import CLUSTER_ID_BYTES
from dyno.protocol.join import Joiner, Phase
from dyno.protocol.local_health import LocalHealth
from dyno.protocol.member_table import MemberTable
from dyno.protocol.probe import Prober
from dyno.protocol.roster import Roster
from dyno.protocol.wakefulness import Wakefulness
from dyno.wire.members import ALIVE, DEAD, JOINING, LEFT, NORMAL, Member
from dyno.wire.messages import (
    Ack,
    Admit,
    AskJoin,
    Assent,
    Doubts,
    Gossip,
    Introduce,
    Nack,
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

_PUSH_PULL_MEMBERS: Final = 32  # from this number on tables are exchanged more rarely


class Membership:
    """me: this process: name, directory, fresh start id, address; its stamp is the one last kept. seat, zone
    and weight count only when the directory has no seat yet. cluster, known: as remembered (identity.py),
    b"" and empty for a new directory. partitions: of the cluster, or of the one to found. seeds: addresses
    given to join by. holds_data: whether this node stores a record or has one on its way to the disk. former:
    the id that this directory had before it got the present one, b"" for none. nacks, buddy: see Prober.
    careful: whether time in which this process did not run, or heard nobody, speaks against nobody. (A node
    is all three; without them, and with factors of 1 in the configuration, this is plain SWIM, to compare.)

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
        nacks: bool = True,
        buddy: bool = True,
        careful: bool = True,
    ) -> None:
        self.joined = False
        self.table = MemberTable(members_max=config.members_max)
        self._config = config
        self._random = random
        self._gossip = GossipQueue(retransmit_mult=config.retransmit_mult)
        self._health = LocalHealth(factor_max=config.self_distrust_max)
        self._prober = Prober(
            me=me.name,
            table=self.table,
            gossip=self._gossip,
            health=self._health,
            config=config,
            random=random,
            nacks=nacks,
            buddy=buddy,
        )
        self._roster = Roster(
            me=me,
            cluster=cluster,
            partitions=partitions,
            table=self.table,
            gossip=self._gossip,
            prober=self._prober,
            health=self._health,
            config=config,
            holds_data=holds_data,
            careful=careful,
        )
        self._wakefulness = Wakefulness(config) if careful else None
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

    @property
    def deaf(self) -> bool:
        """Nobody was heard for some time, be it that all others are dead or that this node is cut off."""
        return self._wakefulness is not None and self._wakefulness.deaf

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

    def receive(self, link: int, message: AskJoin | Admit | PushPull | Ping, now: float, out: Outbox) -> None:
        """A request on an inbound link."""
        roster = self._roster
        if roster.stopped:
            return
        self._look(now, hears=True)
        if isinstance(message, Ping):
            self._hear_gossip(message.gossip, f"link {link}", now, out)
            ack = self._ack(message)
            if ack is not None:
                out.replies.append((link, ack))
        elif not isinstance(message, PushPull):
            self._admission.asked(link, message, now, out)
        elif roster.active:
            self._hear_table(message, f"link {link}", now, out)
            if message.answer and not roster.stopped:
                answer = PushPull(roster.packed(), False)
                roster.replies(out).append((link, answer))
        self._settle(now, out)

    def answer(
        self, address: str, message: Introduce | Assent | Reject | PushPull | Ack, now: float, out: Outbox
    ) -> None:
        """An answer on an outbound link."""
        if self._roster.stopped:
            return
        self._look(now, hears=True)
        joiner = self._joiner
        if isinstance(message, Ack):
            self._prober.acked(message, now, out)
            self._hear_gossip(message.gossip, address, now, out)
        elif isinstance(message, PushPull):
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
        self._look(now, hears=True)
        if isinstance(message, Nack):
            self._prober.nacked(message)
        elif isinstance(message, Ping):
            self._hear_gossip(message.gossip, source, now, out)  # first: the ack refutes what it told
            ack = self._ack(message)
            if ack is not None:
                out.datagrams.append((source, ack))
        else:
            if isinstance(message, Ack):
                self._prober.acked(message, now, out)
                self._admission.acked(message, now, out)
            elif isinstance(message, PingRequest) and roster.active:
                self._prober.relay(source, message, now, out)
            elif isinstance(message, Doubts) and roster.active:
                roster.hear_doubts(message.doubts, source, now, out)
            self._hear_gossip(message.gossip, source, now, out)
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
        self._look(now)
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
                alive = record if record.liveness == ALIVE else record._replace(liveness=ALIVE)
                self.table.merge(alive, admitted=True)
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
        self._push_pull_at = now + self._push_pull_interval_s() * self._random.random()

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
            None if self._wakefulness is None or self._push_pull_at is None else self._wakefulness.deadline(),
        ):
            if at is not None and (earliest is None or at < earliest):
                earliest = at
        return earliest

    def _ack(self, ping: Ping) -> Ack | None:
        """The answer, if this process is the one that is meant."""
        me = self.me
        if self._roster.stopped or ping.target != me.name or ping.target_start not in (b"", me.start):
            return None
        if ping.target_start:
            self._roster.introduced = True
        return Ack(ping.seq, me.name, me.start, self._gossip.fill(me.name, members=len(self.table)))

    def _hear_gossip(self, packed: bytes, source: str, now: float, out: Outbox) -> None:
        roster = self._roster
        if packed and roster.active:
            for record in roster.unpack(packed, source, out) or ():
                roster.hear(record, now, out)

    def _hear_table(self, message: PushPull, source: str, now: float, out: Outbox) -> list[Member]:
        members = self._roster.unpack(message.members, source, out) or []
        self._roster.hear_table(members, now, out)
        return members

    def _gossip_some(self, now: float, out: Outbox) -> None:
        if not len(self._gossip) or now < self._gossip_at:
            return
        config, members = self._config, self.table.current()
        self._gossip_at = now + config.gossip_interval_s
        me, died_at = self.me.name, self._roster.died_at
        dead_since = now - config.gossip_to_dead_s

        def listens(member: Member) -> bool:
            """Who died a while ago does not; who did just now may be told so, and say otherwise."""
            is_gone = member.liveness == DEAD and died_at.get(member.name, dead_since) <= dead_since
            return not is_gone and member.name != me

        others = choose(self._random, members, config.gossip_nodes, listens)
        if not others:
            self._gossip.clear()  # whoever comes back is shown the whole table
        for other in others:
            doubts, gossip = self._gossip.fill_both(me, members=len(members))
            if doubts:
                out.datagrams.append((other.address, Doubts(me, doubts, gossip)))
            elif gossip:
                out.datagrams.append((other.address, Gossip(me, gossip)))

    def _exchange(self, now: float, out: Outbox) -> None:
        """Tables with one member, whoever is reachable: what gossip missed, and what the dead would say."""
        if self._push_pull_at is None or now < self._push_pull_at:
            return
        self._push_pull_at = now + self._push_pull_interval_s()
        up = self._roster.links.up()
        if up and self.joined:
            message = PushPull(self._roster.packed(), True)
            self._roster.sends(out).append((self._random.choice(up), message))

    def _push_pull_interval_s(self) -> float:
        """Tables grow with the cluster, so the larger one exchanges them more rarely (memberlist)."""
        doublings = ceil(log2(max(1, len(self.table)) / _PUSH_PULL_MEMBERS))
        return self._config.push_pull_interval_s * (1 + max(0, doublings))

    def _look(self, now: float, *, hears: bool = False) -> None:
        """First of all, at every verb that judges anybody or may lead to that. hears: somebody speaks."""
        if self._wakefulness is None:
            return
        paused_s, deaf_s = self._wakefulness.look(now, due=self._due, hears=hears)
        if paused_s:
            self._prober.postpone(paused_s)
            self._roster.suspicions.postpone(paused_s)
        if deaf_s:
            self._roster.suspicions.prolong(deaf_s)
