"""A replica whose trees are checked against its disk."""

from __future__ import annotations

from random import Random

from dyno.causality.context import Context
from dyno.causality.mint import Minter
from dyno.causality.record import Record
from dyno.config import Config
from dyno.merkle.places import HEAD_BYTES
from dyno.merkle.tree import Tree
from dyno.placement.hashing import Keyspace, bucket_id
from dyno.protocol.outbox import Outbox
from dyno.protocol.recount import Recount
from dyno.protocol.replica import Batch, Replica
from dyno.protocol.rows import RECORDS_END
from dyno.protocol.trees import Count, Trees
from dyno.storage.cell import record_of
from dyno.storage.memory import MemoryEngine

_KEYS = Keyspace(b"cluster.", 1)
_BUCKET = bucket_id("fruit")


def slot_of(key: bytes) -> bytes:
    return _KEYS.slot(_BUCKET, key, 3)


class Disk:
    def __init__(self, *, random: Random | None = None, config: Config | None = None) -> None:
        self.engine = MemoryEngine()
        self.random = random or Random(1)
        self.config = config or Config()
        self.out = Outbox()
        self.now = 0.0
        self.written = False
        self.restart()

    def restart(self) -> None:
        self.replica = Replica(
            engine=self.engine, minter=Minter(self.random.randbytes(8)), config=self.config
        )
        self.recount = Recount(me="n1", config=self.config, replica=self.replica)

    @property
    def trees(self) -> Trees:
        return self.replica.trees

    def put(self, key: bytes) -> bytes:
        slot = slot_of(key)
        request = self.random.randbytes(16)
        context = self.context(slot)
        self.replica.put(slot, key, context=context, request=request, value=request)
        return slot

    def context(self, slot: bytes) -> Context:
        packed = self.replica.read(slot)[0]
        return Record.unpack(packed).context if packed else Context.EMPTY

    def commit(self, now: float = 0.0) -> None:
        while (batch := self.replica.take_batch(now)) is not None:
            self.finish(batch, now=now)

    def finish(self, batch: Batch, *, now: float = 0.0, written: bool = False) -> None:
        if not written:
            self.engine.write_batch(batch.writes, batch.meta)
        self.replica.committed(now, self.out)

    def step(self) -> None:
        """What is due of the recount, once."""
        self.now = max(self.now, self.recount.deadline())
        self.recount.tick(self.now, self.out)

    def count(self) -> None:
        """All that is urgent."""
        while self.trees.edge is not None or self.trees.unsure or self.trees.crowded:
            self.step()

    def on_disk(self) -> dict[bytes, Tree]:
        """What the trees should say, by the disk itself."""
        counts: dict[bytes, Count] = {}
        for slot, cell in self.engine.scan(b"\0", RECORDS_END, limit=100_000)[0]:
            count = counts.setdefault(slot[:HEAD_BYTES], Count(slot[:HEAD_BYTES]))
            count.add(slot, None if cell is None else record_of(cell), me="n1")
        return {head: count.counting.tree() for head, count in counts.items()}

    def check(self) -> None:
        assert self.trees.ready
        expected = self.on_disk()
        for head, tree in self.trees.by_head.items():
            right = expected.pop(head, Tree())
            assert (tree.total, tree.count) == (right.total, right.count)
            below = min(tree.depth, right.depth)
            assert tree.sums(0, 0, below=below) == right.sums(0, 0, below=below)
        assert not expected
