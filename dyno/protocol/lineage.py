"""Whether this node's disk is the latest that anybody was told of in its name, and what follows if it is not.

    commits    the numbers of other directories' commits, and what to tell those who greet us
    recovery   which of this node's copies are weak until they were compared

Three things make a disk one that lacks something: a member that is greeted knows a higher commit number of
this directory than it had when this process started (an old copy that was put back, a disk that lied);
another directory served under this name since it did; this directory is new and took over the seat of its
name. In the first two cases the directory gets a new id, so that the numbers of its two lives are not mixed
up: durably first, with the mark that everything is to be compared, then its member record tells the others.
A process that dies in between is told again, or has the new id already.

In: greetings, numbers, what the membership found out, commits of this node, the time. Out: facts, a member
record, and the number of this node's last commit to two of the others.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from dyno.protocol.commits import Commits
from dyno.protocol.identity import COMMITS, RECOVERING, remember_renewal
from dyno.protocol.recovery import Recovery
from dyno.wire.messages import STATUS_OK, Committed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from random import Random

    from dyno.protocol.membership import Membership
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.peers import Peers
    from dyno.protocol.planner import Planner
    from dyno.protocol.replica import Replica
    from dyno.wire.messages import Hello

TOLD_AT_ONCE: Final = 2  # others, of a commit: one of them may be as good as away
_DIRECTORY_ID_BYTES = 16


class Lineage:
    """remembered: facts by name, as they are on the disk. copies: as of Recovery. random: for a new id."""

    def __init__(
        self,
        *,
        remembered: Callable[[str], bytes | None],
        membership: Membership,
        planner: Planner,
        replica: Replica,
        peers: Peers,
        copies: Mapping[bytes, int],
        random: Random,
    ) -> None:
        self._membership = membership
        self._replica = replica
        self._peers = peers
        self._told = 0
        self._random = random
        self._number_at_start = replica.commit_number
        # Told, with the time, as soon as this disk turns out to be an old copy.
        self.on_old_copy: Callable[[float, Outbox], None] = _nobody
        # Told of this directory's new id, once it is on the disk, with the time.
        self.on_renewed: Callable[[bytes, float, Outbox], None] = _nobody_else
        self._renewing = False
        self._inherited = False
        self.commits = Commits(remembered(COMMITS) or b"")
        self.recovery = Recovery(
            me=membership.me.name,
            membership=membership,
            planner=planner,
            copies=copies,
            remembered=remembered(RECOVERING) or b"",
        )

    # ── what comes in ──

    def greeted(self, address: str, hello: Hello, now: float, out: Outbox) -> bool:
        """The node at an address answered our hello with its own, and belongs to this cluster. Gives whether
        it knows of nothing that this disk lacks."""
        self.commits.greeted(address, hello, now)
        lacks = hello.seen > self._number_at_start
        if lacks and self._membership.joined:
            text = f"{hello.name} knows of commit {hello.seen}, and this disk had {self._number_at_start}"
            self._renew(text, now, out)
        return not lacks

    def met(self, hello: Hello, now: float) -> None:
        """A node dialled this one. What it commits is known from now on, for its process may end before this
        node's own link to it is up. Only members are remembered: anybody can say hello."""
        member = self._membership.table.seated(hello.name)
        if member is not None and member.directory == hello.directory:
            self.commits.met(hello, now)

    def settle(self, now: float, out: Outbox) -> None:
        """After anything that may have changed the membership."""
        membership = self._membership
        if membership.replaced and not self._renewing:
            self._renew("another one served in its name since", now, out)
        if membership.inherited and not self._inherited:
            self._inherited = True  # and remembered, with the seat
            self.recovery.lose()

    def meet_anew(self, out: Outbox) -> None:
        """The ring has changed: whoever has another directory now than when it was greeted is greeted
        again."""
        for member in self._membership.ring_members():
            if self.commits.directory_at(member.address) not in (b"", member.directory):
                out.disconnect.append(member.address)
                out.connect.append(member.address)

    # ── disk and time ──

    def take_along(self, now: float) -> None:
        """A commit is about to begin."""
        if self.commits.due(now) and not self._replica.rests:
            self._keep_commits(now)

    def wrote(self, out: Outbox) -> None:
        """Writes are on the disk that this node acknowledges by itself: two others are told, each in its
        turn, so that somebody knows of the last commit, and everybody of a late one."""
        me = self._membership.me
        said = Committed(me.directory, me.start, self._replica.commit_number)
        members = self._membership.ring_members()
        told = 0
        for _ in members:
            self._told += 1
            member = members[self._told % len(members)]
            if member.name != me.name and self._peers.send(member.name, said, out):
                told += 1
                if told == TOLD_AT_ONCE:
                    break

    def tick(self, now: float) -> None:
        if self.commits.deadline() <= now:
            self._keep_commits(now)
        if self.recovery.due(now):
            self._replica.keep_facts(self.recovery.kept())

    def deadline(self) -> float:
        """Infinity for none."""
        commits, recovery = self.commits.deadline(), self.recovery.deadline()
        return commits if commits < recovery else recovery

    # ── inside ──

    def _keep_commits(self, now: float) -> None:
        members = self._membership.ring_members()
        self._replica.keep_facts(self.commits.kept([member.directory for member in members], now))

    def _renew(self, why: str, now: float, out: Outbox) -> None:
        if self._renewing:
            return
        self._renewing = True
        self.recovery.lose()
        former = self._membership.me.directory
        directory = self._random.randbytes(_DIRECTORY_ID_BYTES)
        out.events.append(
            (
                "warning",
                f"this data directory is an old copy ({why}): it gets another id, {directory.hex()}, and "
                f"answers for nothing alone before it has been compared with the other nodes",
            )
        )
        remember_renewal(directory=directory, former=former, out=out)
        self._replica.keep(out).waiters.append(partial(self._renewed, directory))
        self.on_old_copy(now, out)

    def _renewed(self, directory: bytes, status: int, now: float, out: Outbox) -> None:
        if status == STATUS_OK:
            self._renewing = False
            self._number_at_start = self._replica.commit_number
            self._membership.renew_directory(directory, now, out)
            self.on_renewed(directory, now, out)
        else:  # the facts are tried again with the next commit
            self._replica.keep(out).waiters.append(partial(self._renewed, directory))


def _nobody(now: float, out: Outbox) -> None:
    """Nobody else wants to know."""


def _nobody_else(directory: bytes, now: float, out: Outbox) -> None:
    """Likewise."""
