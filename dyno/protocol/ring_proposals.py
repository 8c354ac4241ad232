"""A proposer's side of the ring log: wishes, and the ballots by which they become entries.

    PREPARING    RingPrepare to every voter of the last entry      enough promised → value → ACCEPTING
    ACCEPTING    RingAccept to every voter                         enough accepted → decided, told to all
    FENCING      RingFence to every survivor                       all assented → the forced entry, told to
    all

The value is the one accepted under the highest ballot that a promise names; only if there is none, all
wishes that wait here, in one entry. Somebody else's value may well be decided; then the wishes go on with
the entry after. A ballot that is outvoted or gets no answers is followed by a higher one after a random
pause that grows with every attempt, so that duels end. What another proposer left half-done is finished
here after a while.

This node's own vote counts when its disk has it, as everybody's. Answers count once per directory, whatever
is doubled. Nothing here is durable, and nothing needs to be: ballots carry the start id of their process.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from dyno.ringlog import changes as making
from dyno.ringlog import entry as entries
from dyno.ringlog.changes import Change, NotPossible
from dyno.ringlog.entry import Entry
from dyno.ringlog.numbers import TAG_BITS, forced_after
from dyno.ringlog.vote import ballot_of, is_ballot, round_of
from dyno.wire.flat import ProtocolError
from dyno.wire.members import LEFT
from dyno.wire.messages import (
    STATUS_OK,
    RingAccept,
    RingAccepted,
    RingEntry,
    RingFence,
    RingFenced,
    RingKnown,
    RingOutvoted,
    RingPrepare,
    RingPromised,
)

if TYPE_CHECKING:
    from random import Random

    from dyno.protocol.outbox import Outbox
    from dyno.protocol.ring_register import RingRegister
    from dyno.ringlog.vote import Vote

BALLOT_S: Final = 1.0  # until a ballot without enough answers is given up
PAUSE_S: Final = 0.05  # before the next one, at most; doubled with every attempt
PAUSE_MAX_S: Final = 5.0
FINISH_S: Final = 2.0  # until what another proposer began is finished here; up to twice that
ALL_AGAIN_S: Final = 2.0  # until it is looked again whether all can be asked who have to agree
WISHES_MAX: Final = 256  # that wait on one node

Learn: TypeAlias = Callable[[Entry, bytes, float, "Outbox"], object]  # (entry, packed, now, out)


class Outcome(NamedTuple):
    """number: of an entry in which all is as it was wished; 0 where that did not come about, and why.
    is_open: it may come about yet."""

    number: int
    why: str = ""
    is_open: bool = False


Then: TypeAlias = Callable[[Outcome, float, "Outbox"], object]


class Wish:
    """exposed: whether it is in a value that voters were asked to accept as the next entry."""

    __slots__ = ("changes", "deadline", "exposed", "then")

    def __init__(self, changes: tuple[Change, ...], *, deadline: float | None, then: Then) -> None:
        self.changes = changes
        self.deadline = deadline
        self.then = then
        self.exposed = False


class Force(NamedTuple):
    """lost: directories that are gone for good."""

    lost: tuple[bytes, ...]
    deadline: float | None
    then: Then


class Phase(Enum):
    PREPARING = auto()
    ACCEPTING = auto()
    FENCING = auto()


class Ballot:
    """number: of the entry to be decided; while fencing, of the one before. voters: names by directory.
    granted, refused: who said yes and no in this phase. best: the highest ballot under which a value was
    accepted, and that value. fenced: whether somebody refused for having assented to a forced entry.
    helped: who was sent what it lacked."""

    __slots__ = (
        "best",
        "deadline",
        "entry",
        "fenced",
        "forced",
        "granted",
        "helped",
        "id",
        "needed",
        "number",
        "phase",
        "refused",
        "value",
        "voters",
    )

    def __init__(
        self, id: bytes, *, number: int, voters: dict[str, bytes], needed: int, deadline: float
    ) -> None:
        self.id = id
        self.number = number
        self.deadline = deadline
        self.phase = Phase.PREPARING
        self.forced = 0
        self.best: tuple[bytes, bytes] = (b"", b"")
        self.value = b""
        self.entry: Entry | None = None
        self.fenced = False
        self.helped: dict[str, bool] = {}
        self.ask(voters, needed)

    def ask(self, voters: dict[str, bytes], needed: int) -> None:
        """A phase begins."""
        self.voters = voters
        self.needed = needed
        self.granted: dict[str, bool] = {}
        self.refused: dict[str, bool] = {}

    def question(self) -> RingPrepare | RingAccept | RingFence:
        match self.phase:
            case Phase.PREPARING:
                return RingPrepare(self.number, self.id)
            case Phase.ACCEPTING:
                return RingAccept(self.number, self.id, self.value)
            case Phase.FENCING:
                return RingFence(self.number, self.forced)

    @property
    def is_hopeless(self) -> bool:
        """Whether too many said no. Where a fence was the reason, all are heard first."""
        heard = len(self.granted | self.refused) == len(self.voters)
        return len(self.voters) - len(self.refused) < self.needed and (heard or not self.fenced)

    def note(self, name: str, accepted: bytes, value: bytes) -> bool:
        """A voter said yes; whether that is enough now."""
        self.granted[name] = True
        self.best = max(self.best, (accepted, value))
        return len(self.granted) == self.needed


class RingProposals:
    """learn: told of what was decided here."""

    def __init__(self, register: RingRegister, *, random: Random, learn: Learn) -> None:
        self._register = register
        self._random = random
        self._learn = learn
        self._wishes: list[Wish] = []
        self._force: Force | None = None
        self._ballot: Ballot | None = None
        self._round = 0
        self._fence = 0  # the highest forced number that anybody assented to, as far as is known
        self._forced = (-1, 0)  # the last one drawn here, behind the number of the entry that it follows
        self._attempts = 0
        self._begin_at: float | None = None
        self._unfences = False  # whether the next ballot is to end fences of which nothing came

    # ── what is wished ──

    def wish(
        self, changes: tuple[Change, ...], *, deadline: float | None, then: Then, now: float, out: Outbox
    ) -> None:
        """The changes are to be made together, in whatever entry. `then` is called once, now or later."""
        if len(self._wishes) >= WISHES_MAX:
            then(Outcome(0, f"{self._register.name}: too many ring changes wait already"), now, out)
            return
        self._wishes.append(Wish(changes, deadline=deadline, then=then))
        if self._ballot is None and (self._begin_at is None or not self._attempts):
            self._begin(now, out)  # else it comes along with the next ballot

    def force(self, force: Force, now: float, out: Outbox) -> None:
        """The members with these directories have left, by force; one such thing at a time."""
        if self._force is not None:
            force.then(Outcome(0, f"{self._register.name} is about to go on by force already"), now, out)
            return
        self._force = force
        self._ballot = None
        self._attempts = 0
        self._begin(now, out)

    def watch(self, now: float) -> None:
        """There is something to be decided, which somebody else is probably about to."""
        if self._begin_at is None and self._ballot is None:
            self._begin_at = now + FINISH_S * (1 + self._random.random())

    # ── answers ──

    def promised(self, name: str, message: RingPromised, now: float, out: Outbox) -> None:
        ballot = self._mine(Phase.PREPARING, name, message.directory)
        if ballot is None or (message.number, message.ballot) != (ballot.number, ballot.id):
            return
        self._granted(ballot, name, message.accepted, message.value, now, out)

    def accepted(self, name: str, message: RingAccepted, now: float, out: Outbox) -> None:
        ballot = self._mine(Phase.ACCEPTING, name, message.directory)
        if ballot is not None and (message.number, message.ballot) == (ballot.number, ballot.id):
            self._granted(ballot, name, b"", b"", now, out)

    def fenced(self, name: str, message: RingFenced, now: float, out: Outbox) -> None:
        ballot = self._mine(Phase.FENCING, name, message.directory)
        if ballot is not None and (message.number, message.forced) == (ballot.number, ballot.forced):
            self._granted(ballot, name, message.accepted, message.value, now, out)

    def outvoted(self, name: str, message: RingOutvoted, now: float, out: Outbox) -> None:
        ballot = self._ballot
        if ballot is None or message.number != ballot.number or message.refused != _id_of(ballot):
            return
        if is_ballot(message.promised):
            self._round = max(self._round, round_of(message.promised))
        self._fence = max(self._fence, message.fence)
        if name in ballot.voters:
            self._refused(ballot, name, message.fence, now)

    def behind(self, name: str, message: RingKnown, out: Outbox) -> None:
        """Somebody lacks the last entry. A voter is asked again behind it, once."""
        register, ballot = self._register, self._ballot
        if message.number >= register.known:
            return
        register.peers.send(name, RingEntry(register.packed), out)
        if ballot is not None and name in ballot.voters and name not in ballot.helped:
            ballot.helped[name] = True
            register.peers.send(name, ballot.question(), out)

    # ── what happens ──

    def link_up(self, name: str, out: Outbox) -> None:
        """A node can be asked (again)."""
        ballot = self._ballot
        if ballot is not None and name in ballot.voters and name not in ballot.granted:
            self._register.peers.send(name, ballot.question(), out)

    def learned(self, now: float, out: Outbox) -> None:
        """There is a new last entry, decided here or elsewhere."""
        decided_here = self._ballot is not None and self._ballot.entry is self._register.entry
        self._ballot = None
        self._attempts = 0
        self._begin_at = None
        for wish in self._wishes:
            wish.exposed = False
        self._settle(now, out)
        if self._wishes or self._force is not None:
            self._begin_at = now if decided_here else now + PAUSE_S * self._random.random()

    def tick(self, now: float, out: Outbox) -> None:
        self._give_up_late(now, out)
        if self._ballot is not None and self._ballot.deadline <= now:
            self._pause(now)
        if self._begin_at is not None and self._begin_at <= now:
            self._begin(now, out)

    def deadline(self) -> float | None:
        if self._ballot is None and not self._wishes and self._force is None:
            return self._begin_at  # as nearly always, and every turn asks
        wishes: list[Wish | Force] = [*self._wishes]
        if self._force is not None:
            wishes.append(self._force)
        times = [wish.deadline for wish in wishes if wish.deadline is not None]
        if self._ballot is not None:
            times.append(self._ballot.deadline)
        if self._begin_at is not None:
            times.append(self._begin_at)
        return min(times, default=None)

    # ── ballots ──

    def _begin(self, now: float, out: Outbox) -> None:
        register = self._register
        self._begin_at = None
        self._ballot = None
        self._settle(now, out)
        if register.base is None:
            return  # begun when there is something to begin with
        unfences, self._unfences = self._unfences, False
        if self._force is not None:
            self._begin_force(self._force, now, out)
        elif unfences:
            self._fence_off(register.voters(), now, out)
        elif not (self._wishes or register.vote.accepted or register.entry is None):
            self._attempts = 0
        elif register.entry is None and not self._all_can_be_asked():
            # All have to agree on the first entry. To ask some would have them write promises, over and over.
            self._begin_at = now + ALL_AGAIN_S
        else:
            self._round = max(self._round, round_of(register.vote.promised)) + 1
            voters = register.voters()
            self._ballot = ballot = Ballot(
                ballot_of(self._round, register.start),
                number=register.next,
                voters=voters,
                needed=register.needed(len(voters)),
                deadline=now + BALLOT_S,
            )
            self._ask(ballot, register.vote.promise(ballot.id), now, out)

    def _all_can_be_asked(self) -> bool:
        register = self._register
        return all(register.peers.can_ask(name) for name in register.voters() if name != register.name)

    def _ask(self, ballot: Ballot, vote: Vote | None, now: float, out: Outbox) -> None:
        """All voters, this node too. vote: its own, if it says yes."""
        register = self._register
        question = ballot.question()
        for name in ballot.voters:
            if name != register.name:
                register.peers.send(name, question, out)
        sure = ballot.phase is Phase.FENCING or register.may_vote()
        if vote is not None and sure and register.name in ballot.voters:
            register.keep_vote(vote, out)
            batch = register.keep(out)
            batch.own = True
            batch.waiters.append(partial(self._voted, ballot, ballot.phase, vote))
        elif register.vote.fence and register.name in ballot.voters:
            self._refused(ballot, register.name, register.vote.fence, now)

    def _voted(self, ballot: Ballot, phase: Phase, vote: Vote, status: int, now: float, out: Outbox) -> None:
        """This node's own vote is on its disk, or is not: then the ballot ends by itself."""
        if status == STATUS_OK and self._ballot is ballot and ballot.phase is phase:
            self._granted(ballot, self._register.name, vote.accepted, vote.value, now, out)

    def _refused(self, ballot: Ballot, name: str, fence: int, now: float) -> None:
        """A voter said no. Where all were heard, and fences are why it is hopeless, nothing came of a force
        that was begun, or somebody would have told: so all of them together end it."""
        ballot.refused[name] = True
        ballot.fenced = ballot.fenced or (fence != 0 and ballot.phase is not Phase.FENCING)
        if ballot.is_hopeless:
            self._unfences = ballot.fenced
            self._pause(now)

    def _mine(self, phase: Phase, name: str, directory: bytes) -> Ballot | None:
        """The ballot under way, if it is in that phase and this is one of those who are asked."""
        ballot = self._ballot
        if ballot is None or ballot.phase is not phase:
            return None
        return ballot if self._register.is_one_of(ballot.voters, name, directory) else None

    def _granted(
        self, ballot: Ballot, name: str, accepted: bytes, value: bytes, now: float, out: Outbox
    ) -> None:
        if not ballot.note(name, accepted, value):
            if ballot.is_hopeless:
                self._unfences = ballot.fenced
                self._pause(now)
            return
        try:
            match ballot.phase:
                case Phase.PREPARING:
                    self._propose(ballot, now, out)
                case Phase.ACCEPTING:
                    self._decide(ballot, now, out)
                case Phase.FENCING:
                    self._impose(ballot, now, out)
        except ProtocolError as error:
            out.events.append(("warning", f"a ring entry that this node cannot read was accepted: {error}"))
            self._pause(now)

    def _propose(self, ballot: Ballot, now: float, out: Outbox) -> None:
        """The value that may have been decided already; else what is wished here."""
        register = self._register
        value = ballot.best[1] or self._own_value()
        if not value:
            self._rest(now)
            return
        ballot.value, ballot.entry = value, entries.unpack(value)
        if ballot.entry.number != ballot.number:
            raise ProtocolError(f"it is no entry {ballot.number}")
        ballot.phase = Phase.ACCEPTING
        voters = ballot.voters if register.entry is not None else ballot.entry.voters()
        ballot.ask(voters, register.needed(len(voters)))
        ballot.deadline = now + BALLOT_S
        self._ask(ballot, register.vote.accept(ballot.id, value), now, out)

    def _own_value(self) -> bytes:
        register = self._register
        if register.entry is None:
            assert register.origin is not None
            return entries.pack(register.origin)
        entry = making.follow(register.entry, [wish.changes for wish in self._wishes])
        if entry is None:
            return b""
        for wish in self._wishes:
            wish.exposed = True
        return entries.pack(entry)

    def _decide(self, ballot: Ballot, now: float, out: Outbox) -> None:
        assert ballot.entry is not None
        self._learn(ballot.entry, ballot.value, now, out)
        for row in ballot.entry.rows:
            if row.name != self._register.name and (row.state != LEFT or row.since == ballot.entry.number):
                self._register.peers.send(row.name, RingEntry(ballot.value), out)

    def _rest(self, now: float) -> None:
        """There is nothing to be decided after all, or somebody else is about to."""
        self._ballot = None
        self._attempts = 0
        if self._register.vote.accepted:
            self.watch(now)

    def _pause(self, now: float) -> None:
        """This ballot comes to nothing; another one later."""
        self._ballot = None
        self._attempts += 1
        pause = min(PAUSE_MAX_S, PAUSE_S * (1 << min(self._attempts, 16)))
        self._begin_at = now + pause * self._random.random()

    # ── force ──

    def _begin_force(self, force: Force, now: float, out: Outbox) -> None:
        register = self._register
        me, voters = register.name, register.voters()
        left = {name: directory for name, directory in voters.items() if directory not in force.lost}
        if len(left) == len(voters):
            self._end_force(Outcome(0, "none of those who are to be put out is a member"), now, out)
        elif me not in voters:
            self._end_force(Outcome(0, f"{me} is no member that could go on by force"), now, out)
        elif (
            len(left) >= register.needed(len(voters))
            and max(self._fence, register.vote.fence) <= register.known
        ):
            text = "a majority of the members is left; remove the others without force"
            self._end_force(Outcome(0, text), now, out)
        else:
            left[me] = register.directory  # if that is another one by now, it goes on under it
            self._fence_off(left, now, out)

    def _fence_off(self, left: dict[str, bytes], now: float, out: Outbox) -> None:
        """Ask for assent, again under the same number unless somebody assented to a higher one."""
        register = self._register
        fence = max(self._fence, register.vote.fence)
        if self._forced[0] != register.known or self._forced[1] < fence:
            try:
                number = forced_after(register.known, fence=fence, tag=self._random.getrandbits(TAG_BITS))
            except OverflowError as error:
                if self._force is not None:
                    self._end_force(Outcome(0, str(error)), now, out)
                return
            self._forced = (register.known, number)
        ballot = self._ballot = Ballot(
            b"", number=register.known, voters=left, needed=len(left), deadline=now + BALLOT_S
        )
        ballot.phase = Phase.FENCING
        ballot.forced = self._forced[1]
        self._ask(ballot, register.vote.assent(ballot.forced), now, out)

    def _impose(self, ballot: Ballot, now: float, out: Outbox) -> None:
        """All who are left have assented. What one of them accepted may have been decided with the lost
        ones, so it is taken along."""
        register, base = self._register, self._register.base
        lost = () if self._force is None else self._force.lost
        assert base is not None
        if register.vote.fence != ballot.forced:  # it has assented to another one meanwhile
            self._pause(now)
            return
        if ballot.best[1]:
            base = entries.unpack(ballot.best[1])
            if base.number != register.next or base.row(register.name) is None:
                raise ProtocolError(f"it is no entry {register.next}")
        ballot.entry = making.force(
            base, ballot.forced, lost, name=register.name, directory=register.directory
        )
        ballot.value = entries.pack(ballot.entry)
        out.events.append(("warning", f"the ring went on by force: {', '.join(ballot.voters)}"))
        self._decide(ballot, now, out)

    def _end_force(self, outcome: Outcome, now: float, out: Outbox) -> None:
        force, self._force = self._force, None
        assert force is not None
        self._attempts = 0
        force.then(outcome, now, out)
        if self._wishes:
            self._begin_at = now

    # ── wishes ──

    def _settle(self, now: float, out: Outbox) -> None:
        """Answer those that are fulfilled, and those that cannot be."""
        entry, force = self._register.entry, self._force
        if entry is None:
            return
        if force is not None and not any(directory in force.lost for directory in entry.voters().values()):
            self._end_force(Outcome(entry.number), now, out)
        for wish in list(self._wishes):
            try:
                outcome = Outcome(entry.number) if making.judge(entry, wish.changes) else None
            except NotPossible as error:
                outcome = Outcome(0, str(error))
            if outcome is not None:
                self._wishes.remove(wish)
                wish.then(outcome, now, out)

    def _give_up_late(self, now: float, out: Outbox) -> None:
        force = self._force
        if force is not None and force.deadline is not None and force.deadline <= now:
            silent = [name for name, d in self._register.voters().items() if d not in force.lost]
            self._ballot = None
            self._end_force(Outcome(0, f"not all of {', '.join(silent)} assented in time", True), now, out)
        for wish in list(self._wishes):
            if wish.deadline is not None and wish.deadline <= now:
                self._wishes.remove(wish)
                text = "no majority of the members decided about the ring in time"
                wish.then(Outcome(0, text, wish.exposed), now, out)


def _id_of(ballot: Ballot) -> bytes:
    """What an answer to the present question repeats."""
    return ballot.forced.to_bytes(8, "big") if ballot.phase is Phase.FENCING else ballot.id
