"""What follows from every piece of news about a member, this node itself included.

In go records, however they came: by datagram, table exchange or a join. What changes the member table is
gossiped on, starts or ends a suspicion, moves links and is remembered on disk; `settle` at the end of every
verb writes and dials what has changed.

News about this node's own name:
    its own start, not alive or above what it says itself   refute: a higher incarnation
    another start above its own, seated                     introduced: stop, superseded; else stamp above it,
                                                            and of another directory: this one was replaced
    another start above its own, joining                    seated here: stamp above it, the seat is taken
*Introduced* means that a peer was heard to know this process start. Before that a node is but a restored
old directory for all it knows, and nobody's successor; after that two processes claim one name, and the
one with the lower record goes (DESIGN, Identity).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dyno.protocol.identity import RECORDS_PER_NAME, remember, remember_stamp
from dyno.protocol.links import Links
from dyno.protocol.suspicion import Patience, Suspicions, patience
from dyno.wire.doubts import Doubt, unpack_doubts
from dyno.wire.flat import ProtocolError
from dyno.wire.members import (
    ALIVE,
    DEAD,
    JOINING,
    LEFT,
    LIVENESS_NAMES,
    NORMAL,
    SUSPECT,
    Member,
    pack_members,
    unpack_member,
    unpack_members,
)
from dyno.wire.messages import PushPull

if TYPE_CHECKING:
    from collections.abc import Callable

    from dyno.config import Config
    from dyno.protocol.gossip import GossipQueue
    from dyno.protocol.local_health import LocalHealth
    from dyno.protocol.member_table import MemberTable
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.probe import Prober
    from dyno.wire.messages import ClientAnswer, ClientRequest, PeerMessage

COUNT_MAX: Final = 1 << 62  # of stamps and incarnations: a peer's nonsense must leave room above it


class Roster:
    """me: this node's record as it is now. cluster: b"" and partitions 0 until there is one. active: this
    start knows its cluster and follows its news. introduced, stopped: see above; after stopped nothing may be
    done any more. claimed_stamp: the highest stamp that another process was heard to claim this node's name
    with. revoked: a member said that our join is over. replaced: the name was another directory's since this
    one served last, so it may lack what was acknowledged in its name. inherited: so may a new directory that
    took over the seat. careful: see Membership."""

    def __init__(
        self,
        *,
        me: Member,
        cluster: bytes,
        partitions: int,
        table: MemberTable,
        gossip: GossipQueue,
        prober: Prober,
        health: LocalHealth,
        config: Config,
        holds_data: Callable[[], bool],
        careful: bool = True,
    ) -> None:
        self.me = me
        self.cluster = cluster
        self.partitions = partitions
        self.table = table
        self.gossip = gossip
        self.links = Links()
        self.suspicions = Suspicions()
        self.died_at: dict[str, float] = {}  # by name, of those that are dead
        self.seeds: list[str] = []  # dialled besides the members
        self.active = False
        self.introduced = False
        self.stopped = False
        self.claimed_stamp = 0
        self.revoked = False
        self.replaced = False
        self.inherited = False
        self._prober = prober
        self.health = health
        self._config = config
        self._holds_data = holds_data
        self._careful = careful
        self._kept_version = -1
        self._dialled: tuple[int, list[str]] = (-1, [])
        self._packed = b""
        self._packed_version = -1

    # ── news ──

    def unpack(self, packed: bytes, source: str, out: Outbox) -> list[Member] | None:
        """Records from a peer; None, and a word in the log, when they are malformed."""
        records_max = self._config.members_max * RECORDS_PER_NAME
        try:
            records = unpack_members(packed, members_max=records_max)
            for record in records:
                _check_bounds(record)
        except ProtocolError as error:
            out.events.append(("warning", f"malformed member records from {source}: {error}"))
            return None
        return records

    def unpack_joiner(self, packed: bytes, out: Outbox) -> Member | None:
        """The record of a process that wants to join; None as above."""
        try:
            record = unpack_member(packed)
            _check_bounds(record)
        except ProtocolError as error:
            out.events.append(("warning", f"a malformed record wants to join: {error}"))
            return None
        if (record.state, record.liveness) != (JOINING, ALIVE):
            out.events.append(("warning", f"{record.name} wants to join but its record says otherwise"))
            return None
        return record

    def hear(self, record: Member, now: float, out: Outbox, *, admitted: bool = False) -> None:
        if record.name == self.me.name:
            self._hear_of_me(record, out)
            return
        if record.state == JOINING and not admitted and self._ends_the_join(record):
            record = record._replace(state=LEFT, incarnation=record.incarnation + 1)
        before = self.table.holder(record.name)
        slots = (self.table.seated(record.name), self.table.candidate(record.name))
        if not self.table.merge(record, admitted=admitted):
            return
        for held in slots:
            if held is not None and self.table.find(held.name, held.start) is None:
                self.suspicions.cleared(held)  # another process start is in its place
        if record.liveness == SUSPECT:
            self.suspicions.raised(record, now=now, patience=self._patience())
            self.gossip.add_doubt(self.suspicions.doubt(record))
        else:
            self.suspicions.cleared(record)
            self.gossip.drop_doubt(record.name)
        if not (admitted or _is_mere_doubt(record, before)):
            # What a join brought is known to the others, or none of their business yet.
            self.gossip.add(record)
        if record.state != LEFT:
            self._note_liveness(record, before, now, out)

    def hear_doubts(self, packed: bytes, source: str, now: float, out: Outbox) -> None:
        """From a peer's datagram."""
        try:
            doubts = unpack_doubts(packed)
        except ProtocolError as error:
            out.events.append(("warning", f"malformed doubts from {source}: {error}"))
            return
        for doubt in doubts:
            self._hear_doubt(doubt, now, out)

    def hear_table(self, records: list[Member], now: float, out: Outbox) -> None:
        """A peer's whole table, its own record first. Whom it holds dead and we alive is only suspected, so
        that two halves that meet again do not bury each other's living (memberlist does the same)."""
        for place, heard in enumerate(records):
            record = heard
            if place and heard.liveness == DEAD and heard.name != self.me.name:
                held = self.table.find(heard.name, heard.start)
                if held is not None and held.liveness == ALIVE:
                    record = heard._replace(liveness=SUSPECT)
            self.hear(record, now, out)

    def suspect(self, target: Member, now: float, out: Outbox) -> None:
        """A probe of this record was answered by nobody."""
        self._hear_doubt(Doubt(target.name, target.start, target.incarnation, self.me.name), now, out)

    def bury(self, now: float, out: Outbox) -> None:
        """Suspects whose time is over are dead."""
        for name, start, incarnation in self.suspicions.expired(now):
            held = self.table.find(name, start)
            if held is not None and held.liveness == SUSPECT and held.incarnation == incarnation:
                self.hear(held._replace(liveness=DEAD), now, out)

    def refuses_for_data(self, newcomer: Member) -> bool:
        """The data rule (admission.py): nobody who would change the ring while this node holds data."""
        seated = self.table.seated(newcomer.name)
        sits_here = seated is not None and seated.directory == newcomer.directory
        return not sits_here and not self.table.takes_over(newcomer) and self._holds_data()

    # ── this node's own record ──

    def become(self, me: Member) -> None:
        """Everything of this node changes here. Nothing is gossiped: datagrams do not wait for the disk. Who
        hears of it over a link gossips it on."""
        self.me = me
        self.table.merge(me, admitted=True)

    def stamp_above(self, stamp: int, out: Outbox) -> None:
        """Another process claimed the name with this stamp: claim it anew, above it."""
        self.become(self.me._replace(stamp=stamp + 1, incarnation=0))
        remember_stamp(self.me.stamp, out)
        out.events.append(("warning", f"another start of {self.me.name} is known: took stamp {stamp + 1}"))
        if self.me.state != JOINING:
            self.tell_all(out)

    def renew_directory(self, directory: bytes, out: Outbox) -> None:
        """This node's directory has another id from now on, and remembers it."""
        self.replaced = False
        self.become(self.me._replace(directory=directory, incarnation=self.me.incarnation + 1))
        self.keep(out)
        self.tell_all(out)

    def stop(self, reason: str, out: Outbox) -> None:
        self.stopped = True
        out.stop = reason

    # ── speaking ──

    def packed(self) -> bytes:
        """The whole table, this node's own record first."""
        if self._packed_version != self.table.version:
            self._packed_version = self.table.version
            others = (record for record in self.table.records() if record.name != self.me.name)
            self._packed = pack_members([self.me, *others])
        return self._packed

    def sends(self, out: Outbox) -> list[tuple[str, PeerMessage | ClientRequest]]:
        """Where to put what carries this node's record: a stamp is on disk before anybody sees it."""
        if self.introduced:
            return out.sends
        remember_stamp(self.me.stamp, out)
        return out.durable_sends

    def replies(self, out: Outbox) -> list[tuple[int, ClientAnswer | PeerMessage]]:
        """The same for answers."""
        if self.introduced:
            return out.replies
        remember_stamp(self.me.stamp, out)
        return out.durable_replies

    def tell_all(self, out: Outbox) -> None:
        """This node's record has changed in a way that must be on disk before anybody sees it."""
        out.durable_sends += self._to_all_up()

    def farewell(self, out: Outbox) -> None:
        """This process ends on purpose: nobody needs to suspect it first."""
        self.become(self.me._replace(liveness=DEAD))
        out.sends += self._to_all_up()

    def settle(self, out: Outbox) -> None:
        """Remember and dial what the verb that ends now has changed."""
        if self.cluster and self._kept_version != self.table.facts_version:
            self.keep(out)
        if self._dialled != (self.table.facts_version, self.seeds):
            self._dialled = (self.table.facts_version, list(self.seeds))
            self.links.want(self._wanted(), out)

    def keep(self, out: Outbox) -> None:
        """Write everything that a restart must know."""
        self._kept_version = self.table.facts_version
        remember(
            cluster=self.cluster,
            partitions=self.partitions,
            stamp=self.me.stamp,
            members=self.packed(),
            out=out,
        )

    # ── inside ──

    def _ends_the_join(self, joining: Member) -> bool:
        """A joiner that this node never admitted and never will. It may have died after others admitted it,
        and they take no data as long as it might be seated; it cannot be, so we say for it that it left."""
        known = self.table.find(joining.name, joining.start)
        is_stranger = known is None or known.state == LEFT
        return is_stranger and self.me.state == NORMAL and self.refuses_for_data(joining)

    def _hear_doubt(self, doubt: Doubt, now: float, out: Outbox) -> None:
        """Doubts about an incarnation that is not known yet come again when it is: they are repeated."""
        name, start, incarnation, _ = doubt
        held = self.table.find(name, start)
        if held is None or held.incarnation != incarnation or held.liveness == DEAD:
            return
        if held.liveness == ALIVE:
            held = held._replace(liveness=SUSPECT)
            self.hear(held, now, out)
            if name == self.me.name:
                return  # refuted
        accusers = [name for name in doubt.by() if self.table.holder(name) is not None]
        if self.suspicions.accused(held, accusers, now=now):
            self.gossip.add_doubt(self.suspicions.doubt(held))

    def _hear_of_me(self, record: Member, out: Outbox) -> None:
        me = self.me
        if me.state == LEFT or self.stopped:
            return
        if record.start == me.start:
            self.introduced = True
            if record.state == LEFT:
                self.revoked = True
            elif record != me and record.order() >= me.order():
                self._refute(record, out)
            return
        self.claimed_stamp = max(self.claimed_stamp, record.stamp)
        if record.order() <= me.order() or record.state == LEFT:
            return
        if record.state == JOINING:
            # Whether a joiner or a rival joiner wins is for the members to say (admission.py).
            if me.state != JOINING:
                self.stamp_above(record.stamp, out)
        elif me.state == JOINING or not self.introduced:
            if me.state != JOINING and record.directory != me.directory:
                self.replaced = True
            self.stamp_above(record.stamp, out)
        else:
            self.stop(f"another process, at {record.address}, took the name {me.name}", out)

    def _refute(self, rumour: Member, out: Outbox) -> None:
        """Say that this process lives, above whatever was said of it."""
        self.health.change(1)
        me = self.me._replace(stamp=rumour.stamp, incarnation=rumour.incarnation + 1)
        self.become(me)
        self.gossip.add(me)
        out.events.append(("info", f"refuted being {LIVENESS_NAMES[rumour.liveness]}"))
        if rumour.liveness == DEAD:
            # The dead are not gossiped with, so those that buried this node hear it over their links.
            self.sends(out).extend(self._to_all_up())

    def _note_liveness(self, record: Member, before: Member | None, now: float, out: Outbox) -> None:
        if before is not None and (before.start, before.liveness) == (record.start, record.liveness):
            return
        if record.liveness != DEAD:
            self._prober.joins_round(record.name)
            self.died_at.pop(record.name, None)
        else:
            self.died_at[record.name] = now
            if self.links.is_up(record.address):
                # It can be reached after all; let it know, so that it can refute.
                self.sends(out).append((record.address, PushPull(pack_members([self.me, record]), False)))
        if (ALIVE if before is None else before.liveness) != record.liveness:
            # Who reads of a death is to read of the return, too: one level for both.
            out.events.append(("warning", f"{record.name} is {LIVENESS_NAMES[record.liveness]}"))

    def _to_all_up(self) -> list[tuple[str, PeerMessage | ClientRequest]]:
        message = PushPull(pack_members([self.me]), False)
        return [(address, message) for address in self.links.up()]

    def _wanted(self) -> list[str]:
        """Every member but this node, dead ones too, so that whoever comes back is met again; then seeds."""
        mine = (self.me.name, self.me.address)
        members = [r.address for r in self.table.records() if r.name != mine[0] and r.state != LEFT]
        return [address for address in (*members, *self.seeds) if address != mine[1]]

    def _patience(self) -> Patience:
        config = self._config
        return patience(
            members=len(self.table),
            mult=config.suspicion_mult,
            max_mult=config.suspicion_max_mult,
            probe_interval_s=config.probe_interval_s,
            careful=self._careful,
        )


def _is_mere_doubt(record: Member, before: Member | None) -> bool:
    """Whether a doubt says all that is new in a record."""
    return record.liveness == SUSPECT and before is not None and record == before._replace(liveness=SUSPECT)


def _check_bounds(record: Member) -> None:
    """Raises ProtocolError for counts that leave no room above them."""
    if record.stamp >= COUNT_MAX or record.incarnation >= COUNT_MAX:
        raise ProtocolError(f"a stamp or incarnation of {record.name} is beyond all bounds")
