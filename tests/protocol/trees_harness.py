"""A replica whose trees are checked against its disk."""

from __future__ import annotations

from contextlib import suppress
from random import Random

from dyno.causality.context import Context
from dyno.causality.mint import Minter
from dyno.causality.record import Record
from dyno.config import Config
from dyno.errors import InvalidRequest
from dyno.merkle.places import HEAD_BYTES
from dyno.merkle.tree import Tree
from dyno.placement.hashing import Keyspace, bucket_id, slot_prefix
from dyno.protocol.group_commit import Refusal
from dyno.protocol.outbox import Outbox
from dyno.protocol.recount import Recount
from dyno.protocol.replica import Batch, Replica
from dyno.protocol.rows import RECORDS_END
from dyno.protocol.trees import Count, Trees
from dyno.storage.cell import record_of
from dyno.storage.engine import CorruptRecord
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


_HEADS = ((0, 1), (0, 3), (7, 3))  # partition and n


class Life:
    """What may happen to a disk, at random. peer: another owner, whose records are merged and heal."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.disk = Disk(random=random, config=Config(scrub_s=0.001))
        self.peer = Disk(random=random)
        self.keys = [
            b"%c%d" % (random.choice(b"abcd"), number) for number in range(random.choice((2, 8, 40)))
        ]
        self.flying: Batch | None = None  # the disk is at it
        self.shows = False  # and is done, which nobody knows
        self.rotten: dict[bytes, bytes] = {}  # keys by slot
        self.now = 0.0
        self.kinds = (
            [self.put] * 8
            + [self.delete, self.rot, self.forget, self.set_aside] * 2
            + [self.merge, self.heal] * 3
            + [self.disk.step] * 5
            + [self.commit] * 6
            + [self.crash]
        )

    def step(self) -> None:
        with suppress(Refusal, InvalidRequest, CorruptRecord):  # nothing was changed then
            self.random.choice(self.kinds)()
        self.rotten = {slot: key for slot, key in self.rotten.items() if self.is_rotten(slot)}

    def end(self) -> None:
        """All is written, sound and counted."""
        while self.flying is not None:
            self.commit(fails=False)
        self.disk.commit(self.now)
        for slot, key in self.rotten.items():
            self.disk.replica.heal(slot, key, self.theirs(slot))
        self.disk.commit(self.now)
        self.disk.count()

    # ── kinds ──

    def put(self) -> None:
        key, slot = self.some()
        context = self.disk.context(slot) if self.random.random() < 0.7 else Context.EMPTY
        request = self.random.randbytes(16)
        self.disk.replica.put(slot, key, context=context, request=request, value=request)

    def delete(self) -> None:
        key, slot = self.some()
        self.disk.replica.delete(slot, key, context=self.disk.context(slot))

    def forget(self) -> None:
        _, slot = self.some()
        self.disk.replica.forget(slot, self.disk.context(slot))

    def set_aside(self) -> None:
        _, slot = self.some()
        self.disk.replica.write_rows({slot: None})

    def merge(self) -> None:
        key, slot = self.some()
        context = self.random.choice((self.disk, self.peer)).context(slot)
        request = self.random.randbytes(16)
        self.peer.replica.put(slot, key, context=context, request=request, value=request)
        self.peer.commit()
        self.disk.replica.merge(slot, key, self.theirs(slot))

    def rot(self) -> None:
        key, slot = self.some()
        if not self.disk.replica.waits(slot) and self.disk.engine.get(slot) is not None:
            self.disk.engine.corrupt(slot)
            self.rotten[slot] = key

    def heal(self) -> None:
        if self.rotten:
            slot, key = self.random.choice(list(self.rotten.items()))
            self.disk.replica.heal(slot, key, self.theirs(slot))

    def commit(self, *, fails: bool | None = None) -> None:
        """One begins, or ends."""
        if self.flying is None:
            self.flying = self.disk.replica.take_batch(self.now)
            if self.flying is not None and self.random.random() < 0.5:
                self.disk.engine.write_batch(self.flying.writes, self.flying.meta)
                self.shows = True
        elif not self.shows and (self.random.random() < 0.25 if fails is None else fails):
            self.disk.replica.commit_failed(self.random.randbytes(8), self.now, self.disk.out)
            self.flying = None
            self.now += 2.0
            self.disk.replica.tick(self.now)
            self.disk.commit(self.now)  # without records
        else:
            self.disk.finish(self.flying, now=self.now, written=self.shows)
            self.flying, self.shows = None, False

    def crash(self) -> None:
        self.flying, self.shows = None, False
        self.disk.restart()

    # ── inside ──

    def some(self) -> tuple[bytes, bytes]:
        key = self.random.choice(self.keys)
        partition, copies = _HEADS[key[-1] % len(_HEADS)]
        return key, slot_prefix(bucket_id(key[:1].decode()), partition, copies) + slot_of(key)[-16:]

    def theirs(self, slot: bytes) -> bytes:
        return self.peer.replica.read(slot)[0] or Record.EMPTY.pack()

    def is_rotten(self, slot: bytes) -> bool:
        try:
            self.disk.engine.get(slot)
        except CorruptRecord:
            return True
        return False
