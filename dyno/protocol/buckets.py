"""Buckets with properties of their own, on one node: the parts joined, and the doors that lead to them.

    bucket_register       the table, what is kept of it, how it may be spoken of
    bucket_reservations   a member's side: may this name be reserved, what became of it
    bucket_creations      a coordinator's side: two phases over all members

In go requests of inbound links, answers and events of outbound links, and the time; what is to happen goes to
the outbox. `table.serving` and `table.copies` say what holds for requests and slots at any time, and
`table.changed` for which buckets that became another. Raises ValueError for a proposal that no node makes.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from dyno.buckets.table import pack, unpack
from dyno.protocol.bucket_creations import Creations
from dyno.protocol.bucket_register import Register
from dyno.protocol.bucket_reservations import Reservations
from dyno.wire.flat import ProtocolError
from dyno.wire.messages import (
    REFUSED,
    AskBuckets,
    AskFate,
    Assent,
    Buckets,
    CreateBucket,
    Propose,
    Proposed,
    SwapBuckets,
    Withdrawn,
)

if TYPE_CHECKING:
    from random import Random

    from dyno.buckets.table import Entry, Table
    from dyno.config import Config
    from dyno.protocol.membership import Membership
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.peers import Peers
    from dyno.protocol.replica import Replica

BucketRequest: TypeAlias = CreateBucket | AskBuckets | Propose | Withdrawn | AskFate | SwapBuckets
BucketAnswer: TypeAlias = Proposed | Withdrawn | SwapBuckets


class BucketKeeper:
    """remembered: the table as it was kept, b"" for none; raises ProtocolError if that is damaged."""

    def __init__(
        self,
        *,
        remembered: bytes,
        membership: Membership,
        peers: Peers,
        replica: Replica,
        config: Config,
        random: Random,
    ) -> None:
        self._register = Register(
            remembered=remembered,
            membership=membership,
            peers=peers,
            replica=replica,
            buckets_max=config.buckets_max,
        )
        self.table: Table = self._register.table
        self._reservations = Reservations(register=self._register, replica=replica)
        self._creations = Creations(
            register=self._register, reservations=self._reservations, config=config, random=random
        )

    def start(self, now: float) -> None:
        """What was left undecided is asked for from now on."""
        self._reservations.start(now)

    def stop(self) -> None:
        """Begin nothing any more; what is under way goes on."""
        self._creations.stop()

    @property
    def busy(self) -> bool:
        """Whether a client waits for an answer."""
        return self._creations.busy

    def why_not(self, name: str) -> str:
        """Why `table.serving` says None of a bucket."""
        return self._register.why_not(self.table.entries[name])

    # ── messages ──

    def request(self, link: int, message: BucketRequest, now: float, out: Outbox) -> None:
        """A request on an inbound link."""
        match message:
            case CreateBucket():
                self._creations.create(link, message, now, out)
            case AskBuckets():
                answer = Buckets(message.id, pack(self.table.created()))
                self._register.replies(out).append((link, answer))
            case Propose():
                self._proposed(link, message, now, out)
            case AskFate():
                self._asked(link, message, out)
            case Withdrawn():
                self._withdrawn(message, out)
            case SwapBuckets():
                self._heard(message, now, out)
                if message.answer:
                    self._show(link, out)

    def answer(self, name: str | None, message: BucketAnswer, now: float, out: Outbox) -> None:
        """An answer on an outbound link. name: of the member at its other end, None while it is none."""
        match message:
            case Proposed():
                if name is not None:
                    self._creations.proposed(name, message, now, out)
            case Withdrawn():
                self._withdrawn(message, out)
            case SwapBuckets():
                entries = self._heard(message, now, out)
                if name is not None:
                    self._creations.told(name, entries, out)

    def accompany(self, out: Outbox) -> None:
        """Whoever is given an assent is shown the table first, on the same link: so nobody has a seat before
        it knows all buckets that those who assented know."""
        if len(self.table) and any(isinstance(answer, Assent) for _, answer in out.durable_replies):
            shown = SwapBuckets(self.table.pack(), False)
            replies = out.durable_replies[:]
            out.durable_replies.clear()
            for link, answer in replies:
                if isinstance(answer, Assent):
                    out.durable_replies.append((link, shown))
                out.durable_replies.append((link, answer))

    # ── links and time ──

    def link_up(self, name: str, out: Outbox) -> None:
        """A member can be asked (again)."""
        if len(self.table):
            self._register.show(name, out)
        self._reservations.link_up(name, out)
        self._creations.link_up(name, out)

    def exchange(self, name: str, out: Outbox) -> None:
        """A member refused a request for what it knows of the ring, or of the bucket."""
        if len(self.table):
            self._register.show(name, out)

    def tick(self, now: float, out: Outbox) -> None:
        self._reservations.tick(now, out)
        self._creations.tick(now, out)

    def deadline(self) -> float | None:
        earliest, at = self._reservations.deadline(), self._creations.deadline()
        if at is None:
            return earliest
        return at if earliest is None or at < earliest else earliest

    # ── inside ──

    def _withdrawn(self, message: Withdrawn, out: Outbox) -> None:
        """Nobody but this node withdraws what it proposed itself."""
        if not self._creations.is_pending(message.bucket, message.proposal):
            self._reservations.withdrawn(message.bucket, message.proposal, out)

    def _heard(self, message: SwapBuckets, now: float, out: Outbox) -> list[Entry]:
        entries = self._reservations.heard(message.buckets, now, out)
        for entry in entries:
            if entry.is_created:
                self._creations.created_elsewhere(entry.name, out)
        return entries

    def _proposed(self, link: int, message: Propose, now: float, out: Outbox) -> None:
        then = partial(self._judged, link, message.id)
        try:
            entries = unpack(message.bucket)
        except ProtocolError as error:  # of a kind that later versions know, perhaps
            then(REFUSED, f"{self._register.me} cannot have such a bucket: {error}", now, out)
            return
        if len(entries) != 1 or not entries[0].proposal or entries[0].doubtful:
            raise ProtocolError("a proposal that proposes nothing")
        held = self.table.get(entries[0].name)
        if held is not None and held.is_created:
            self._show(link, out)
        self._reservations.propose(
            entries[0], ring=message.ring, firm=message.firm, then=then, now=now, out=out
        )

    def _judged(self, link: int, id: int, verdict: int, text: str, now: float, out: Outbox) -> None:
        """A reservation is on the disk before its assent leaves."""
        self._register.replies(out).append((link, Proposed(id, verdict, text)))

    def _asked(self, link: int, message: AskFate, out: Outbox) -> None:
        """Only this node's own proposals can be said to have come to nothing."""
        entry = self.table.get(message.bucket)
        if entry is not None and entry.is_created:
            self._show(link, out)
        elif message.coordinator == self._register.directory and not self._creations.is_pending(
            message.bucket, message.proposal
        ):
            out.replies.append((link, Withdrawn(message.bucket, message.proposal)))

    def _show(self, link: int, out: Outbox) -> None:
        self._register.replies(out).append((link, SwapBuckets(self.table.pack(), False)))
