"""A joiner's side of a join: from an address on the command line to a seat in the ring.

    ASKING       AskJoin to every seed, again and again     Introduce → ADMITTING
                                                            Reject name, data → STOPPED
    ADMITTING    Admit to every member known, and to all    all assented → SEATED
                 that they know of                          Reject name, data → WITHDRAWING
    WITHDRAWING  tell all that were asked                   told, or tired of it → STOPPED

Whoever assents takes no data until the joiner is seated, so the cluster is empty everywhere at that moment;
and a node that is not known to the joiner yet is joining itself and must ask a member that names the joiner
to it. An assent counts for one data directory: a member that lost its own is asked again. What is unanswered
is repeated, so lost, doubled and late messages do no harm; every answer of one round carries its id.

Dead members have to assent as well, but for one that takes over the seat of its own name: that leaves the
ring as it is, so the cluster may hold data and go on. It *inherits* what it does not have, and knows it.

In go the answers of outbound links and the time; out go requests, and what a restart must know.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

from dyno.config import PARTITIONS_MAX
from dyno.protocol.identity import CLUSTER_ID_BYTES, remember_loss, remember_stamp
from dyno.protocol.member_table import same_place
from dyno.protocol.roster import COUNT_MAX
from dyno.wire.members import ALIVE, DEAD, JOINING, LEAVING, LEFT, LIVENESS_NAMES, NORMAL, Member, pack_member
from dyno.wire.messages import Admit, AskJoin, Assent, Introduce, PushPull, Reject

if TYPE_CHECKING:
    from random import Random

    from dyno.config import Config
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.roster import Roster

_SEAT_ID_BYTES = 16
_REASK_ROUNDS = 4  # how often those that assented are asked again: they tell of new members and addresses
_WITHDRAW_ROUNDS = 5  # then whoever was not told hears it from the others


class Phase(Enum):
    ASKING = auto()
    ADMITTING = auto()
    SEATED = auto()
    WITHDRAWING = auto()
    STOPPED = auto()


class Joiner:
    """seeds: whom to ask for an introduction."""

    def __init__(self, *, roster: Roster, config: Config, random: Random, seeds: list[str]) -> None:
        self.phase = Phase.ASKING
        self._roster = roster
        self._config = config
        self._random = random
        self._seeds = seeds
        self._id = 0
        self._round_at: float | None = None
        self._stamp = 0  # what the present round of Admits is about
        self._assented: dict[str, bytes] = {}  # name to data directory
        # name to address and data directory, in the present repetition
        self._asked: dict[str, tuple[str, bytes]] = {}
        self._held: Member | None = None  # who had this name's seat last
        self._told: dict[str, bool] = {}  # address that ever got an Admit; True once it knows we gave up
        self._waiting_for = ""
        self._reason = ""
        self._rounds = 0  # in the present phase

    def start(self, now: float, out: Outbox) -> None:
        self._id += 1
        self._repeat(now, out)

    def link_up(self, address: str, now: float, out: Outbox) -> None:
        if self.phase is Phase.ASKING and address in self._seeds:
            self._ask(address, out)
        elif self.phase is Phase.ADMITTING:
            self._asked = {name: asked for name, asked in self._asked.items() if asked[0] != address}
        elif self.phase is Phase.WITHDRAWING:
            self._tell(out)

    def introduced(self, answer: Introduce, now: float, out: Outbox) -> None:
        """The first member to answer names the cluster and all that are in it."""
        roster = self._roster
        if self.phase is not Phase.ASKING or answer.id != self._id:
            return
        members = roster.unpack(answer.members, "the member that introduces us", out)
        if members is None:
            return
        if not members or members[0].state not in (NORMAL, LEAVING) or members[0].name == roster.me.name:
            out.events.append(("warning", "an introduction by no member"))
            return
        if not _is_proper(answer):
            out.events.append(("warning", "an introduction to no proper cluster"))
            return
        if roster.cluster not in (b"", answer.cluster):
            self._stop(
                f"this data directory began to join cluster {roster.cluster.hex()}, "
                f"but its seeds belong to {answer.cluster.hex()}",
                out,
            )
            return
        roster.cluster, roster.partitions = answer.cluster, answer.partitions
        self._hear(members, now, out)
        stamp = max(roster.me.stamp, roster.claimed_stamp, answer.stamp)
        roster.become(roster.me._replace(stamp=stamp + 1, seat=answer.seat or roster.me.seat))
        roster.active = True
        self.phase = Phase.ADMITTING
        out.events.append(("info", f"joining cluster {answer.cluster.hex()}"))

    def assented(self, answer: Assent, now: float, out: Outbox) -> None:
        """One member has this node's record on disk, and tells whom else it knows."""
        if self.phase is not Phase.ADMITTING or answer.id != self._id:
            return
        members = self._roster.unpack(answer.members, "a member that assents", out)
        if not members:
            return
        self._hear(members, now, out)
        self._assented[members[0].name] = members[0].directory

    def rejected(self, answer: Reject, now: float, out: Outbox) -> None:
        if answer.id != self._id or self.phase not in (Phase.ASKING, Phase.ADMITTING):
            return
        if answer.code in ("name", "data"):
            self._withdraw(f"{self._roster.me.name} cannot join: {answer.text}", now, out)
        elif self.phase is Phase.ADMITTING and self._roster.claimed_stamp >= self._roster.me.stamp:
            self._roster.stamp_above(self._roster.claimed_stamp, out)

    def refused(self, reason: str, now: float, out: Outbox) -> None:
        """A seed cannot be talked to, now or ever."""
        if self.phase in (Phase.ASKING, Phase.ADMITTING):
            self._withdraw(reason, now, out)

    def heard_table(self, address: str, members: list[Member], out: Outbox) -> None:
        """While withdrawing: a member that does not hold this node for a joiner any more was told."""
        if self.phase is not Phase.WITHDRAWING or address not in self._told:
            return
        name = self._roster.me.name
        if not any(member.name == name and member.state == JOINING for member in members):
            self._told[address] = True
            if all(self._told.values()):
                self._stop(self._reason, out)

    def step(self, now: float, out: Outbox) -> None:
        """At the end of every verb: ask whom the news made worth asking, and take the seat when due."""
        if self.phase is not Phase.ADMITTING:
            return
        roster = self._roster
        if roster.revoked:
            self._withdraw(f"{roster.me.name} cannot join: the cluster holds data", now, out)
            return
        if self._stamp != roster.me.stamp:
            # A new claim: what was assented to was another one.
            self._stamp = roster.me.stamp
            self._id += 1
            self._assented.clear()
            self._asked.clear()
            self._round_at = now + self._pause_s()
        missing = self._missing()
        if not missing and self._assented:
            self._take_seat(out)
            return
        for member in missing:
            if self._asked.get(member.name) != (member.address, member.directory):
                self._admit(member, out)

    def tick(self, now: float, out: Outbox) -> None:
        if self._round_at is not None and now >= self._round_at:
            self._repeat(now, out)

    def deadline(self) -> float | None:
        return self._round_at

    def withdraw_at_once(self, out: Outbox) -> None:
        """The process is told to end: say so to whom it asked, without waiting for their answer."""
        if self.phase is Phase.ADMITTING:
            self._give_up()
            out.sends += self._farewells()  # the stamp was on disk before the first was asked

    # ── inside ──

    def _hear(self, members: list[Member], now: float, out: Outbox) -> None:
        roster = self._roster
        for member in members:
            sits = member.name == roster.me.name and member.state in (NORMAL, LEAVING)
            if sits and (self._held is None or member.order() > self._held.order()):
                self._held = member
            roster.hear(member, now, out, admitted=True)

    def _repeat(self, now: float, out: Outbox) -> None:
        self._round_at = now + self._pause_s()
        self._rounds += 1
        if self.phase is Phase.ASKING:
            for seed in self._seeds:
                self._ask(seed, out)
        elif self.phase is Phase.ADMITTING:
            self._asked.clear()
            self._say_who_is_missing(out)
            if self._rounds % _REASK_ROUNDS == 0:
                for member in self._others():
                    self._admit(member, out)
        elif self._rounds > _WITHDRAW_ROUNDS:
            self._stop(self._reason, out)
        else:
            self._tell(out)

    def _admit(self, member: Member, out: Outbox) -> None:
        roster = self._roster
        if roster.links.is_up(member.address):
            self._asked[member.name] = (member.address, member.directory)
            self._told[member.address] = False
            remember_stamp(roster.me.stamp, out)
            out.durable_sends.append((member.address, Admit(self._id, pack_member(roster.me))))

    def _pause_s(self) -> float:
        """Longer than a member may check a name, and never in step with other joiners."""
        retry_s = self._config.join_retry_s * (1 + 0.5 * self._random.random())
        return self._config.probe_timeout_s + retry_s

    def _ask(self, seed: str, out: Outbox) -> None:
        if self._roster.links.is_up(seed):
            out.sends.append((seed, AskJoin(self._id, pack_member(self._roster.me._replace(stamp=0)))))

    def _others(self) -> list[Member]:
        mine = self._roster.me.name
        return [member for member in self._roster.table.current() if member.name != mine]

    def _missing(self) -> list[Member]:
        """Whose assent is still wanted."""
        others = self._others()
        if self._held is not None and same_place(self._held, self._roster.me):
            others = [member for member in others if member.liveness != DEAD]
        return [m for m in others if self._assented.get(m.name) != m.directory]

    def _say_who_is_missing(self, out: Outbox) -> None:
        names = sorted(
            member.name if member.liveness == ALIVE else f"{member.name} ({LIVENESS_NAMES[member.liveness]})"
            for member in self._missing()
        )
        waiting_for = ", ".join(names)
        if waiting_for != self._waiting_for:
            self._waiting_for = waiting_for
            out.events.append(("info", f"waiting for the assent of {waiting_for}"))

    def _take_seat(self, out: Outbox) -> None:
        roster = self._roster
        me = roster.me
        if self._held is not None:
            roster.inherited = True
            remember_loss(out)
        roster.become(me._replace(state=NORMAL, incarnation=me.incarnation + 1))
        self.phase, self._round_at = Phase.SEATED, None
        roster.keep(out)
        roster.tell_all(out)
        roster.introduced = True
        out.events.append(("info", f"joined cluster {roster.cluster.hex()}"))

    def _withdraw(self, reason: str, now: float, out: Outbox) -> None:
        roster = self._roster
        if self.phase is Phase.ASKING and roster.cluster:
            # An earlier start of this directory may have got assents and never given them back.
            stamp = max(roster.me.stamp, roster.claimed_stamp) + 1
            roster.become(roster.me._replace(stamp=stamp))
            roster.active = True
            self._told = dict.fromkeys((member.address for member in self._others()), False)
        if not self._told:
            self._stop(reason, out)
            return
        out.events.append(("warning", f"giving up: {reason}"))
        self._reason = reason
        self._give_up()
        self._rounds = 0
        self._round_at = now + self._pause_s()
        self._tell(out)

    def _give_up(self) -> None:
        me = self._roster.me
        self._roster.become(me._replace(state=LEFT, incarnation=me.incarnation + 1))
        self.phase = Phase.WITHDRAWING

    def _tell(self, out: Outbox) -> None:
        self._roster.sends(out).extend(self._farewells())

    def _farewells(self) -> list[tuple[str, PushPull]]:
        """The whole table: who took the name from us should be known as soon as that we gave up."""
        message = PushPull(self._roster.packed(), True)
        is_up = self._roster.links.is_up
        return [(address, message) for address, told in self._told.items() if not told and is_up(address)]

    def _stop(self, reason: str, out: Outbox) -> None:
        self.phase, self._round_at = Phase.STOPPED, None
        self._roster.stop(reason, out)


def _is_proper(introduction: Introduce) -> bool:
    """To a cluster that there can be, with a stamp that leaves room above it and a seat or none."""
    return (
        len(introduction.cluster) == CLUSTER_ID_BYTES
        and 1 <= introduction.partitions <= PARTITIONS_MAX
        and introduction.stamp < COUNT_MAX
        and len(introduction.seat) in (0, _SEAT_ID_BYTES)
    )
