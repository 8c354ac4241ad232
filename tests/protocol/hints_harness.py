"""Hints on a memory engine, with a disk that commits when told to."""

from __future__ import annotations

from dyno.causality.context import Context
from dyno.causality.dots import Dot, actor
from dyno.causality.mint import Minter
from dyno.causality.record import Record
from dyno.config import Config
from dyno.protocol.group_commit import Batch
from dyno.protocol.hints import Hints
from dyno.protocol.outbox import Outbox
from dyno.protocol.replica import Replica
from dyno.protocol.rows import HELD, HINTS
from dyno.storage.memory import MemoryEngine

KEY = b"key"


def a_slot(number: int, *, partition: int = 1) -> bytes:
    return bytes((0, partition, 3)) + b"bucketid" + number.to_bytes(16, "big")


def a_record(*values: bytes, by: int = 1) -> bytes:
    """Of writes that do not know of each other, each node's first ones."""
    record = Record.EMPTY
    for number, value in enumerate(values, 1):
        dot = Dot(actor(bytes((by,)) * 8, 0), number)
        record = record.write(Context.EMPTY, dot, value.ljust(16, b".")[:16], value)
    return record.pack()


def values(packed: bytes) -> list[bytes]:
    return sorted(sibling.value for sibling in Record.unpack(packed).siblings)


class Kept:
    """Of node a."""

    def __init__(self, *, engine: MemoryEngine | None = None, **config: float) -> None:
        self.engine = engine or MemoryEngine()
        self.config = Config(**config)  # type: ignore[arg-type]
        self.replica = Replica(engine=self.engine, minter=Minter(bytes(8)), config=self.config)
        self.hints = Hints(config=self.config, replica=self.replica)
        self.out = Outbox()
        self.now = 0.0

    def keep(
        self, target: str, number: int, record: bytes, *, generation: int = 0, needed: bool = True
    ) -> Batch | None:
        return self.hints.keep(target, a_slot(number), KEY, record, generation=generation, needed=needed)

    def commit(self) -> None:
        batch = self.replica.take_batch(self.now)
        assert batch is not None
        self.engine.write_batch(batch.writes, batch.meta)
        self.replica.committed(self.now, self.out)

    def commit_fails(self) -> None:
        assert self.replica.take_batch() is not None
        self.replica.commit_failed(b"start 02", self.now, self.out)
        self.now += 2.0
        self.replica.tick(self.now)
        self.commit()  # the disk is tried without records

    def restarted(self) -> Kept:
        """Another process on what is on the disk."""
        return Kept(engine=self.engine)

    def rows(self) -> list[bytes]:
        """The hints on the disk."""
        rows, _ = self.engine.scan(HINTS, HINTS + b"\xff", limit=1000)
        return [row for row, _ in rows]

    def corrupt_count(self, target: str) -> None:
        self.engine.corrupt(HELD + target.encode())
