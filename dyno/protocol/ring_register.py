"""What one node knows of the ring log, and what of it is on its disk.

Shared by a voter's side (`ring_votes`) and a proposer's (`ring_proposals`): the last entry that is known,
this directory's vote about the next one, and who may vote. Two small facts hold it, written in one commit
where both change:

    "ring"   the last known entry, packed
    "vote"   what this directory promised and accepted about the next one, packed; b"" for nothing

As long as there is no log, `origin` is the first entry as this node would have it: all who are named in it
decide, every single one, and under whatever directory. For what was decided all have accepted, so one that
forgets is no harm as long as another remembers.

A process that has just started does not vote before every voter that is not known to be dead has greeted it,
and so many of them that it makes a majority: if its disk is an old copy, without its latest promises, it is
told so by then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dyno.ringlog import entry as entries
from dyno.ringlog import vote as votes
from dyno.ringlog.entry import majority
from dyno.ringlog.numbers import FIRST, NONE, after
from dyno.ringlog.vote import Vote
from dyno.wire.flat import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

    from dyno.protocol.group_commit import Batch
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.peers import Askable
    from dyno.ringlog.entry import Entry

RING: Final = "ring"
VOTE: Final = "vote"


class RingRegister:
    """cluster: its id, as far as it is known. remembered: facts by name, as they are on the disk. keep: as of
    GroupCommit. is_dead: whether the member of that name is known to be. Raises ProtocolError if a fact is
    damaged."""

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
    ) -> None:
        self.name = name
        self.directory = directory
        self.start = start
        self._cluster = cluster
        self.peers = peers
        self.keep = keep
        self._is_dead = is_dead
        self.origin: Entry | None = None
        self.packed = remembered(RING) or b""
        self.entry: Entry | None = entries.unpack(self.packed) if self.packed else None
        self.vote = Vote(directory, self.next)
        self._met: dict[bytes, bool] = {}  # directories
        self._met_names: dict[str, bool] = {}
        kept = remembered(VOTE)
        if kept:
            vote = votes.unpack(kept)
            if vote.directory == directory:
                if vote.number != self.next:
                    raise ProtocolError(f"the vote on this disk is about another entry than {self.next}")
                self.vote = vote

    # ── what is known ──

    @property
    def known(self) -> int:
        """The number of the last known entry, NONE where there is no log yet."""
        return NONE if self.entry is None else self.entry.number

    @property
    def next(self) -> int:
        return FIRST if self.entry is None else after(self.entry.number)

    @property
    def base(self) -> Entry | None:
        """The last known entry, or what stands in for one."""
        return self.origin if self.entry is None else self.entry

    def voters(self) -> dict[str, bytes]:
        """Who decides about the next entry: directories by name."""
        return {} if self.base is None else self.base.voters()

    def needed(self, count: int) -> int:
        """How many of so many voters it takes."""
        return count if self.entry is None else majority(count)

    def is_ours(self, entry: Entry) -> bool:
        """Whether it is of this cluster."""
        return entry.cluster == self._cluster()

    def is_voter(self, name: str, directory: bytes) -> bool:
        return self.is_one_of(self.voters(), name, directory)

    def is_one_of(self, voters: dict[str, bytes], name: str, directory: bytes) -> bool:
        """Whether that directory has a vote in its name."""
        return name in voters and (self.entry is None or voters[name] == directory)

    def may_vote(self) -> bool:
        """Whether this directory has a vote, and can be sure of what it promised."""
        if not self.is_voter(self.name, self.directory):
            return False
        if self.entry is None:
            return True  # all are asked anyway
        others = {name: directory for name, directory in self.voters().items() if name != self.name}
        if any(name not in self._met_names and not self._is_dead(name) for name in others):
            return False
        met = sum(directory in self._met for directory in others.values())
        return met + 1 >= majority(len(others) + 1)

    # ── what changes ──

    def met(self, name: str, directory: bytes) -> None:
        """A node answered the greeting of this process, and knows of nothing that this disk lacks."""
        self._met_names[name] = self._met[directory] = True

    def renewed(self, directory: bytes, out: Outbox) -> None:
        """This node's directory has another id: it lacks something, perhaps its votes. It has none now."""
        self.directory = directory
        self.keep_vote(Vote(directory, self.next), out)

    def keep_vote(self, vote: Vote, out: Outbox) -> None:
        """Whoever is told of it is told by way of `out.durable_replies`, or after `keep`."""
        self.vote = vote
        out.meta[VOTE] = votes.pack(vote)

    def learn(self, entry: Entry, packed: bytes, out: Outbox) -> bool:
        """A decided entry. False where it is no news, or another cluster's."""
        if not self.is_ours(entry):
            return False
        if entry.number <= self.known:
            if entry.number == self.known and packed != self.packed:
                text = f"two different ring entries have the number {entry.number}; this node keeps its own"
                out.events.append(("error", text))
            return False
        self.entry, self.packed, self.origin = entry, packed, None
        self.vote = Vote(self.directory, self.next)
        out.meta[RING], out.meta[VOTE] = packed, b""
        return True
