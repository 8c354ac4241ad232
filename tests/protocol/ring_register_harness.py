"""A register of the ring log on a disk in memory, for tests of those who share it."""

from __future__ import annotations

from dyno.config import Config
from dyno.protocol.group_commit import Batch, GroupCommit
from dyno.protocol.outbox import Outbox
from dyno.protocol.peers import Peers
from dyno.protocol.ring_register import RING, VOTE, RingRegister
from dyno.ringlog import entry as entries
from dyno.ringlog import vote as votes
from dyno.ringlog.entry import Entry, digest
from dyno.ringlog.vote import Vote, ballot_of
from dyno.storage.memory import MemoryEngine
from tests.ringlog.ring_makers import an_entry, an_id

LOW, HIGH = ballot_of(1, b"low....."), ballot_of(2, b"high....")


class Site:
    """Node a of the ring a, b, c, where all are linked and have met."""

    def __init__(self, entry: Entry | None = None, *, vote: Vote | None = None, meets: str = "bc") -> None:
        self.engine = MemoryEngine()
        facts = {}
        if entry is not None:
            facts[RING] = entries.pack(entry)
        if vote is not None:
            facts[VOTE] = votes.pack(vote)
        self.engine.write_batch({}, facts)
        self.commits = GroupCommit(engine=self.engine, config=Config())
        self.peers = Peers()
        self.peers.place({name: f"{name}:1" for name in "bcd"})
        for name in "bcd":
            self.peers.up(name, f"{name}:1")
        self.dead: list[str] = []
        self.register = RingRegister(
            name="a",
            directory=an_id("a"),
            start=b"a start.",
            cluster=bytes,
            remembered=self.engine.get_meta,
            peers=self.peers,
            keep=self.keep,
            is_dead=self.dead.__contains__,
        )
        for name in meets:
            self.register.met(name, an_id(name))

    def keep(self, out: Outbox) -> Batch:
        return self.commits.keep(out)

    def commit(self, now: float = 0.0) -> Outbox:
        """The disk takes what waits for it; what may leave then."""
        out = Outbox()
        batch = self.commits.take_batch()
        assert batch is not None
        self.engine.write_batch(batch.writes, batch.meta)
        self.commits.committed(now, out)
        return out

    @property
    def vote_on_disk(self) -> Vote | None:
        packed = self.engine.get_meta(VOTE)
        return votes.unpack(packed) if packed else None


def the_next(entry: Entry, *names: str) -> Entry:
    """An entry that may follow, with only those rows."""
    rows = tuple(row for row in entry.rows if row.name in names)
    return entry._replace(number=entry.number + 1, before=digest(entries.pack(entry)), rows=rows)


FIRST_ENTRY = an_entry()
SECOND = the_next(FIRST_ENTRY, "a", "b")
