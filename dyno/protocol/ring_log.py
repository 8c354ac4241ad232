"""The ring as a log of numbered entries, on one node: the parts joined, and the doors that lead to them.

    ring_register     the last known entry and this directory's vote about the next one, on the disk
    ring_votes        a voter's side: a Paxos acceptor
    ring_proposals    a proposer's side: wishes and ballots

Entry k+1 is decided by single-decree Paxos among the voters of entry k, so there are never two different
ones of one number, and there is progress whenever a majority of those voters can talk. Entries are whole:
who lacks some takes the last one, from anybody, as soon as a number above its own is heard.

In go requests of inbound links, answers of outbound links by the name of the member at the other end,
numbers that others mention, and the time; what is to happen goes to the outbox. `entry` is the ring as it
is known, and `on_entry` is told of every later one. Raises ProtocolError for what no node says.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeAlias

from dyno.protocol.ring_proposals import Force, RingProposals
from dyno.protocol.ring_register import RingRegister
from dyno.protocol.ring_votes import RingVotes
from dyno.ringlog import entry as entries
from dyno.ringlog.numbers import shown
from dyno.wire.flat import ProtocolError
from dyno.wire.messages import (
    AskRing,
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
    from collections.abc import Callable
    from random import Random

    from dyno.config import Config
    from dyno.protocol.group_commit import Batch
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.peers import Askable
    from dyno.protocol.ring_proposals import Then
    from dyno.ringlog.changes import Change
    from dyno.ringlog.entry import Entry

RingRequest: TypeAlias = AskRing | RingEntry | RingPrepare | RingAccept | RingFence
RingAnswer: TypeAlias = RingEntry | RingKnown | RingPromised | RingAccepted | RingOutvoted | RingFenced

ASK_INTERVAL_S: Final = 0.2  # at least, between two questions to one node for what it knows


class RingLog:
    """name, directory, start: of this node. The rest but config and random is as of RingRegister. Raises
    ProtocolError if a fact is damaged."""

    def __init__(
        self,
        *,
        name: str,
        directory: bytes,
        start: bytes,
        cluster: Callable[[], bytes],
        remembered: Callable[[str], bytes | None],
        peers: Askable,
        keep: Callable[[Outbox], Batch],
        is_dead: Callable[[str], bool],
        config: Config,
        random: Random,
    ) -> None:
        self._register = RingRegister(
            name=name,
            directory=directory,
            start=start,
            cluster=cluster,
            remembered=remembered,
            peers=peers,
            keep=keep,
            is_dead=is_dead,
        )
        self._peers = peers
        self._random = random
        self._votes = RingVotes(self._register)
        self._proposals = RingProposals(self._register, random=random, learn=self._learn)
        self._gossip_s = config.push_pull_interval_s
        self._gossip_at = math.inf
        self._asked_at: dict[str, float] = {}
        self._linked: dict[str, bool] = {}  # who could ever be asked
        # Told of every entry that becomes the last known one.
        self.on_entry: Callable[[Entry, float, Outbox], object] = _nobody

    # ── what is known, and what is wished ──

    @property
    def entry(self) -> Entry | None:
        """The last known one; None where there is no log yet."""
        return self._register.entry

    @property
    def number(self) -> int:
        """Of that; 0 where there is no log yet."""
        return self._register.known

    def start(self, now: float) -> None:
        """What was left half-done is finished, here or elsewhere."""
        self._gossip_at = now + self._gossip_s * self._random.random()
        if self._register.vote.accepted:
            self._proposals.watch(now)

    def found(self, origin: Entry, now: float) -> None:
        """There is no log yet, and it should begin like this: a founder alone, or a cluster that had none.
        All who are named have to agree; said again when this node sees them differently."""
        if self._register.entry is None and self._register.origin != origin:
            self._register.origin = origin
            self._proposals.watch(now)

    def wish(
        self, *changes: Change, then: Then, now: float, out: Outbox, deadline: float | None = None
    ) -> None:
        """The changes are to be made together. `then` is called once, now or later, with what came of it;
        without a deadline it is wished until it is so, or cannot be."""
        self._proposals.wish(changes, deadline=deadline, then=then, now=now, out=out)

    def force(
        self, lost: tuple[bytes, ...], *, then: Then, now: float, out: Outbox, deadline: float | None = None
    ) -> None:
        """Go on without a majority, which is lost for good: the members with these directories have left.
        All others have to assent. Destructive: if the lost live on somewhere, what they store meanwhile is
        not in the ring."""
        self._proposals.force(Force(lost, deadline, then), now, out)

    # ── this node and others ──

    def met(self, name: str, directory: bytes) -> None:
        """That node answered this process's greeting, and knows of nothing that this disk lacks."""
        self._register.met(name, directory)

    def renewed(self, directory: bytes, out: Outbox) -> None:
        """This node's directory has another id, for it lacks something."""
        self._register.renewed(directory, out)

    def heard(self, name: str, number: int, now: float, out: Outbox) -> None:
        """Somebody mentioned the number of the last entry that it knows."""
        lately = now - self._asked_at.get(name, -math.inf) < ASK_INTERVAL_S
        if number > self.number and not lately and self._peers.send(name, AskRing(self.number), out):
            self._asked_at[name] = now

    def link_up(self, name: str, out: Outbox) -> None:
        """A node can be asked (again)."""
        self._linked[name] = True
        self._peers.send(name, AskRing(self.number), out)
        self._proposals.link_up(name, out)

    # ── messages ──

    def request(self, link: int, message: RingRequest, now: float, out: Outbox) -> None:
        """A request on an inbound link."""
        match message:
            case AskRing():
                later = self.number > message.number
                answer = RingEntry(self._register.packed) if later else RingKnown(self.number)
                out.replies.append((link, answer))
            case RingEntry():
                self._told(message, now, out)
            case RingPrepare():
                self._votes.prepare(link, message, out)
            case RingAccept():
                self._votes.accept(link, message, out)
                if self._register.vote.accepted:
                    self._proposals.watch(now)
            case RingFence():
                self._votes.fence(link, message, out)

    def answer(self, name: str, message: RingAnswer, now: float, out: Outbox) -> None:
        """An answer on an outbound link to a member."""
        match message:
            case RingEntry():
                self._told(message, now, out)
            case RingKnown():
                self._proposals.behind(name, message, out)
            case RingPromised():
                self._proposals.promised(name, message, now, out)
            case RingAccepted():
                self._proposals.accepted(name, message, now, out)
            case RingOutvoted():
                self._proposals.outvoted(name, message, now, out)
            case RingFenced():
                self._proposals.fenced(name, message, now, out)

    # ── time ──

    def tick(self, now: float, out: Outbox) -> None:
        self._proposals.tick(now, out)
        if self._gossip_at <= now:
            self._gossip_at = now + self._gossip_s
            self._ask_anybody(out)

    def deadline(self) -> float | None:
        at = self._proposals.deadline()
        earliest = self._gossip_at if at is None else min(at, self._gossip_at)
        return None if earliest == math.inf else earliest

    # ── inside ──

    def _told(self, message: RingEntry, now: float, out: Outbox) -> None:
        try:
            entry = entries.unpack(message.entry)
        except ProtocolError as error:
            out.events.append(("warning", f"a ring entry that this node cannot read: {error}"))
            return
        self._learn(entry, message.entry, now, out)

    def _learn(self, entry: Entry, packed: bytes, now: float, out: Outbox) -> None:
        if self._register.learn(entry, packed, out):
            out.events.append(("info", f"ring entry {shown(entry.number)}"))
            self.on_entry(entry, now, out)
            self._proposals.learned(now, out)

    def _ask_anybody(self, out: Outbox) -> None:
        """Whoever missed an entry, and hears no number, finds out."""
        names = self._linked = {name: True for name in self._linked if self._peers.can_ask(name)}
        if names:
            self._peers.send(self._random.choice(list(names)), AskRing(self.number), out)


def _nobody(entry: Entry, now: float, out: Outbox) -> None:
    """Nobody wants to know."""
