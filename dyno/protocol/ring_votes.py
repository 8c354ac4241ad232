"""A voter's side of the ring log: a Paxos acceptor that answers once its disk has it.

    RingPrepare    RingPromised, with what was accepted before; RingOutvoted if a higher ballot was promised
    RingAccept     RingAccepted; or RingOutvoted
    RingFence      RingFenced, and no vote any more until the forced entry, or a later one, is known

Whoever asks about an entry that is decided gets the last one (`RingEntry`); who asks about one whose
predecessor is not known here hears so (`RingKnown`) and sends it. One who is no voter, or not yet sure that
its disk is the latest, says nothing.

Doubled and late questions are answered again, from what holds by now. Raises ProtocolError for what no node
says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dyno.ringlog import entry as entries
from dyno.ringlog.entry import digest
from dyno.ringlog.numbers import epoch
from dyno.ringlog.vote import is_ballot
from dyno.wire.flat import ProtocolError
from dyno.wire.messages import (
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
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.ring_register import RingRegister
    from dyno.ringlog.vote import Vote


class RingVotes:
    def __init__(self, register: RingRegister) -> None:
        self._register = register

    def prepare(self, link: int, message: RingPrepare, out: Outbox) -> None:
        self._check(message.ballot)
        if not self._is_asked(link, message.number, self._register.next, out):
            return
        vote = self._register.vote.promise(message.ballot)
        if vote is None:
            self._outvote(link, message.number, message.ballot, out)
            return
        answer = RingPromised(message.number, message.ballot, vote.directory, vote.accepted, vote.value)
        self._cast(link, vote, answer, out)

    def accept(self, link: int, message: RingAccept, out: Outbox) -> None:
        self._check(message.ballot)
        if not self._is_asked(link, message.number, self._register.next, out):
            return
        if not self.understands(message.value, out):
            return
        vote = self._register.vote.accept(message.ballot, message.value)
        if vote is None:
            self._outvote(link, message.number, message.ballot, out)
            return
        self._cast(link, vote, RingAccepted(message.number, message.ballot, vote.directory), out)

    def fence(self, link: int, message: RingFence, out: Outbox) -> None:
        """It need not have met a majority: there is none any more, and all who are left are asked."""
        register = self._register
        if epoch(message.forced) <= epoch(message.number):
            raise ProtocolError(f"an entry {message.forced} that is forced after {message.number}")
        if not self._is_current(link, message.number, register.known, out):
            return
        if not register.is_voter(register.name, register.directory):
            return
        vote = register.vote.assent(message.forced)
        if vote is None:
            self._outvote(link, message.number, message.forced.to_bytes(8, "big"), out)
            return
        if not register.vote.fence:
            text = "assented to going on by force: it votes about the ring again when it hears of the outcome"
            out.events.append(("warning", text))
        answer = RingFenced(message.number, message.forced, vote.directory, vote.accepted, vote.value)
        self._cast(link, vote, answer, out)

    def understands(self, value: bytes, out: Outbox) -> bool:
        """Whether a value may follow the last known entry. One of a later version may be beyond this node,
        who then does not vote for it."""
        register = self._register
        try:
            entry = entries.unpack(value)
        except ProtocolError as error:
            out.events.append(("warning", f"no vote for a ring entry that this node cannot read: {error}"))
            return False
        before = digest(register.packed) if register.packed else b""
        follows = entry.number == register.next and entry.before == before and not entry.forced
        if not follows or not register.is_ours(entry):
            out.events.append(("error", f"a ring entry was proposed that cannot follow {register.known}"))
            return False
        return register.entry is not None or register.name in entry.voters()

    # ── inside ──

    def _check(self, ballot: bytes) -> None:
        if not is_ballot(ballot):
            raise ProtocolError("a ballot that no node uses")

    def _is_asked(self, link: int, number: int, voting: int, out: Outbox) -> bool:
        return self._is_current(link, number, voting, out) and self._register.may_vote()

    def _is_current(self, link: int, number: int, ours: int, out: Outbox) -> bool:
        """Whether asker and asked know the same last entry; if not, help."""
        register = self._register
        if number < ours:
            out.replies.append((link, RingEntry(register.packed)))
        elif number > ours:
            out.replies.append((link, RingKnown(register.known)))
        return number == ours

    def _cast(
        self, link: int, vote: Vote, answer: RingPromised | RingAccepted | RingFenced, out: Outbox
    ) -> None:
        """Even an unchanged vote may still be on its way to the disk, so the answer waits for a commit.
        Others are told of that commit: a disk that loses it must be found out."""
        self._register.keep_vote(vote, out)
        out.durable_replies.append((link, answer))
        self._register.keep(out).own = True

    def _outvote(self, link: int, number: int, refused: bytes, out: Outbox) -> None:
        vote = self._register.vote
        out.replies.append((link, RingOutvoted(number, refused, vote.promised, vote.fence)))
