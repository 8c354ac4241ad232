"""A coordinator's side of creating a bucket: two phases over all members, given up unless all agree.

    LOOKING      Propose, not firm, to every member: nobody is held up     all assent → RESERVING
    RESERVING    Propose, firm: whoever assents serves the name no more    all assent → decided, TELLING
    TELLING      the whole table to every member                           all have it, or too late → answer

The decision is this node's own table with the bucket as created, on its disk before anybody hears of it.
Until then a refusal, silence or a crash means that nothing comes of the proposal, ever (presumed abort:
Mohan, Lindsay, Obermarck 1986). It is taken only if nobody came into the ring, or is on the way in, since the
members were asked; so whoever comes in later learns of it.

What is not answered is asked again when a link comes back; doubled answers count once.
"""

from __future__ import annotations

from enum import Enum, auto
from functools import partial
from typing import TYPE_CHECKING

from dyno.buckets.properties import Properties, check
from dyno.buckets.table import PROPOSAL_BYTES, Entry, pack
from dyno.errors import Code, InvalidRequest
from dyno.protocol.sink import Failure, LinkSink, failed, invalid
from dyno.wire.messages import ASSENTED, BUSY, Buckets, CreateBucket, Propose, Withdrawn

if TYPE_CHECKING:
    from random import Random

    from dyno.config import Config
    from dyno.protocol.bucket_register import Register
    from dyno.protocol.bucket_reservations import Reservations
    from dyno.protocol.outbox import Outbox
    from dyno.wire.messages import Failed, Proposed

CREATIONS_MAX = 64  # under way at once on one coordinator


class Phase(Enum):
    LOOKING = auto()
    RESERVING = auto()
    TELLING = auto()


class Creation:
    """entry: the reserved one. members: those that have to agree, by name and directory. number: of the
    present round, the id of its proposals. did: who has assented, or has heard, in the present phase."""

    __slots__ = ("deadline", "did", "entry", "id", "link", "members", "number", "phase")

    def __init__(
        self, entry: Entry, *, members: list[tuple[str, bytes]], link: int, id: int, deadline: float
    ) -> None:
        self.entry = entry
        self.members = members
        self.link = link
        self.id = id
        self.deadline = deadline
        self.phase = Phase.LOOKING
        self.number = 0
        self.did: dict[str, bool] = {}

    @property
    def name(self) -> str:
        return self.entry.name

    def is_agreed(self) -> bool:
        return len(self.did) == len(self.members)

    def missing(self) -> list[str]:
        return [name for name, _ in self.members if name not in self.did]


class Creations:
    """reservations: this node's own side as a member."""

    def __init__(
        self, *, register: Register, reservations: Reservations, config: Config, random: Random
    ) -> None:
        self._register = register
        self._reservations = reservations
        self._random = random
        self._ask_timeout_s = config.put_timeout_s
        self._tell_timeout_s = config.get_timeout_s
        self._retry_after_s = config.retry_after_s
        self._under_way: dict[str, Creation] = {}
        self._last_number = 0
        self._stopping = False

    def stop(self) -> None:
        """Begin nothing any more; what is under way goes on."""
        self._stopping = True

    @property
    def busy(self) -> bool:
        return bool(self._under_way)

    def create(self, link: int, request: CreateBucket, now: float, out: Outbox) -> None:
        """A client's wish. Exactly one answer goes to `link`, but for one whose time is over already."""
        if request.budget_ms == 0:
            return
        name = request.bucket
        properties = Properties(request.n, request.r, request.w, request.kind)
        sink = LinkSink(link, request.id)
        try:
            check(name, properties)
        except InvalidRequest as error:
            sink.failed(invalid(str(error)), out)
            return
        held = self._register.table.get(name)
        if held is not None and held.is_created and name not in self._under_way:
            self._answer(link, request.id, held, properties, out)
            return
        failure = self._obstacle(name, held)
        if failure is not None:
            sink.failed(failure, out)
            return
        proposal = self._random.randbytes(PROPOSAL_BYTES)
        creation = self._under_way[name] = Creation(
            Entry(name, properties, proposal, self._register.directory),
            members=self._register.members(),
            link=link,
            id=request.id,
            deadline=now + self._ask_timeout_s,
        )
        self._ask_all(creation, now, out)

    def proposed(self, name: str, answer: Proposed, now: float, out: Outbox) -> None:
        """A member's answer."""
        for creation in self._under_way.values():
            if creation.number == answer.id and creation.phase is not Phase.TELLING:
                self._judged(creation, name, answer.id, answer.verdict, answer.text, now, out)
                return

    def told(self, name: str, entries: list[Entry], out: Outbox) -> None:
        """A member has answered our table with its own: what it has as created there, it has on its disk."""
        has = {entry.name: True for entry in entries if entry.is_created}
        for creation in list(self._under_way.values()):
            if creation.phase is Phase.TELLING and creation.name in has:
                _note(creation, name)
                if creation.is_agreed():
                    self._finish(creation, out)

    def created_elsewhere(self, name: str, out: Outbox) -> None:
        """Another node's table says that the bucket is created, and so does ours by now."""
        creation = self._under_way.get(name)
        if creation is not None and creation.phase is not Phase.TELLING:
            del self._under_way[name]
            self._tell_withdrawn(creation, out)
            entry = self._register.table.entries[name]
            self._answer(creation.link, creation.id, entry, creation.entry.properties, out)

    def link_up(self, name: str, out: Outbox) -> None:
        """What could not be sent to a member is sent now; it is shown the table anyway."""
        for creation in self._under_way.values():
            if creation.phase is not Phase.TELLING and name in creation.missing():
                self._propose(creation, name, out)

    def is_pending(self, name: str, proposal: bytes) -> bool:
        """Whether a proposal of this node's own may still be decided."""
        creation = self._under_way.get(name)
        return creation is not None and creation.entry.proposal == proposal

    def tick(self, now: float, out: Outbox) -> None:
        for creation in list(self._under_way.values()):
            if creation.deadline > now:
                continue
            if creation.phase is Phase.TELLING:
                self._give_up_telling(creation, out)
            else:
                silent = ", ".join(creation.missing())
                self._withdraw(creation, self._shortfall(creation, f"no answer from {silent} in time"), out)

    def deadline(self) -> float | None:
        if not self._under_way:
            return None
        return min(creation.deadline for creation in self._under_way.values())

    # ── before it begins ──

    def _obstacle(self, name: str, held: Entry | None) -> Failure | None:
        """Why a bucket cannot be created now, as far as this node can say alone."""
        register = self._register
        membership = register.membership
        if self._stopping or not membership.joined:
            reason = "is stopping" if self._stopping else "has not joined a cluster yet"
            return Failure(Code.RING, f"{register.me} {reason}")
        if membership.letting_in:
            names = ", ".join(membership.joining())
            return Failure(Code.RING, f"creating waits until {names} has joined the cluster")
        if name in self._under_way or (held is not None and not register.is_abandoned(held)):
            return Failure(Code.RING, f"bucket {name!r} is being created")
        if len(self._under_way) >= CREATIONS_MAX:
            text = f"{register.me}: too many buckets are being created"
            return Failure(Code.OVERLOADED, text, retry_after_s=self._retry_after_s)
        dead = [other for other in register.others() if not membership.is_live(other)]
        if dead:
            text = f"creating a bucket needs every member; dead: {', '.join(dead)}"
            return Failure(Code.QUORUM, text, len(register.members()))
        return None  # whose link is down just now may be back in time

    # ── asking ──

    def _ask_all(self, creation: Creation, now: float, out: Outbox) -> None:
        """Begin a round. This node judges as every member does."""
        self._last_number += 1
        number = creation.number = self._last_number
        creation.did.clear()
        register = self._register
        for name in creation.missing():
            if name != register.me:
                self._propose(creation, name, out)
        self._reservations.propose(
            creation.entry,
            ring=register.membership.fingerprint,
            firm=creation.phase is Phase.RESERVING,
            then=partial(self._judged, creation, register.me, number),
            now=now,
            out=out,
        )

    def _propose(self, creation: Creation, name: str, out: Outbox) -> None:
        firm = creation.phase is Phase.RESERVING
        ring = self._register.membership.fingerprint
        self._register.ask(name, Propose(creation.number, ring, pack([creation.entry]), firm), out)

    def _judged(
        self, creation: Creation, name: str, number: int, verdict: int, text: str, now: float, out: Outbox
    ) -> None:
        """A member has judged the proposal; what is said of an earlier round counts no more."""
        if self._under_way.get(creation.name) is not creation or creation.number != number:
            return
        if verdict == ASSENTED:
            _note(creation, name)
            if creation.is_agreed():
                self._advance(creation, now, out)
        elif verdict == BUSY:
            self._withdraw(creation, Failure(Code.RING, text), out)
        else:
            self._withdraw(creation, invalid(text), out)

    def _advance(self, creation: Creation, now: float, out: Outbox) -> None:
        register = self._register
        if register.membership.letting_in or register.members() != creation.members:
            self._withdraw(creation, Failure(Code.RING, "the members changed meanwhile"), out)
        elif creation.phase is Phase.LOOKING:
            creation.phase = Phase.RESERVING
            self._ask_all(creation, now, out)
        else:
            self._decide(creation, now, out)

    # ── the end ──

    def _decide(self, creation: Creation, now: float, out: Outbox) -> None:
        register = self._register
        register.table.put(creation.entry.created())
        register.keep(out)
        creation.phase = Phase.TELLING
        creation.deadline = now + self._tell_timeout_s
        creation.did.clear()
        _note(creation, register.me)
        out.events.append(("info", f"created bucket {creation.name!r}: {creation.entry.properties}"))
        for name in creation.missing():
            register.show(name, out)
        if creation.is_agreed():
            self._finish(creation, out)

    def _give_up_telling(self, creation: Creation, out: Outbox) -> None:
        """Whoever has not heard yet is not to be reached; it will, for it asks. Where most have it, no crash
        takes it back."""
        if 2 * len(creation.did) > len(creation.members):
            self._finish(creation, out)
            return
        del self._under_way[creation.name]
        text = f"bucket {creation.name!r} is being created; no word yet from {', '.join(creation.missing())}"
        failure = self._shortfall(creation, text)._replace(indeterminate=True)
        LinkSink(creation.link, creation.id).failed(failure, out)

    def _finish(self, creation: Creation, out: Outbox) -> None:
        del self._under_way[creation.name]
        entry = creation.entry.created()
        self._answer(creation.link, creation.id, entry, entry.properties, out)

    def _withdraw(self, creation: Creation, failure: Failure, out: Outbox) -> None:
        del self._under_way[creation.name]
        self._reservations.withdrawn(creation.name, creation.entry.proposal, out)
        self._tell_withdrawn(creation, out)
        LinkSink(creation.link, creation.id).failed(failure, out)

    def _tell_withdrawn(self, creation: Creation, out: Outbox) -> None:
        if creation.phase is Phase.RESERVING:
            for name in self._register.others():
                self._register.ask(name, Withdrawn(creation.name, creation.entry.proposal), out)

    def _answer(self, link: int, id: int, entry: Entry, wanted: Properties, out: Outbox) -> None:
        """The bucket is created; with what was wanted? Said once no crash takes it back."""
        answer: Buckets | Failed = Buckets(id, pack([entry]))
        if entry.properties != wanted:
            text = f"bucket {entry.name!r} was created with {entry.properties}; that cannot be changed"
            answer = failed(id, invalid(text))
        self._register.replies(out).append((link, answer))

    def _shortfall(self, creation: Creation, text: str) -> Failure:
        return Failure(Code.QUORUM, text, len(creation.members), tuple(creation.did))


def _note(creation: Creation, name: str) -> None:
    """A member has done what the present phase asks; who is none counts for nothing."""
    if name in creation.missing():
        creation.did[name] = True
