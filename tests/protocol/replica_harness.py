"""A replica on a disk that commits when told to."""

from __future__ import annotations

import itertools

from dyno.causality.context import Context
from dyno.causality.dots import Dot, actor
from dyno.causality.mint import Minter
from dyno.causality.record import Record
from dyno.config import Config
from dyno.protocol.group_commit import Batch
from dyno.protocol.outbox import Outbox
from dyno.protocol.replica import Replica
from dyno.protocol.rows import is_row
from dyno.storage.memory import MemoryEngine

START = b"start 01"
SLOT, KEY = b"slot of the key", b"key"
PREFIX = b"stretch of\x01"


_numbers = itertools.count(1)


def a_request() -> bytes:
    """The id of a write that nobody made before."""
    return next(_numbers).to_bytes(16, "big")


class Copies:
    """A replica on a memory engine, with a disk that commits when told to."""

    def __init__(self, **config: int) -> None:
        self.engine = MemoryEngine()
        self.minter = Minter(START)
        self.config = Config(**config)  # type: ignore[arg-type]
        self.replica = Replica(engine=self.engine, minter=self.minter, config=self.config)
        self.out = Outbox()
        self.told: list[int] = []

    def put(self, value: bytes = b"value", context: Context = Context.EMPTY, slot: bytes = SLOT) -> Batch:
        written = self.replica.put(slot, KEY, context=context, request=a_request(), value=value)
        assert written.batch is not None
        return written.batch

    def wait(self, batch: Batch | None) -> None:
        assert batch is not None
        batch.waiters.append(lambda status, now, out: self.told.append(status))

    def commit(self) -> Batch:
        batch = self.replica.take_batch()
        assert batch is not None
        self.engine.write_batch(batch.writes, batch.meta)
        self.replica.committed(1.0, self.out)
        return batch

    def fail(self, new_start: bytes = b"start 02", now: float = 1.0) -> None:
        assert self.replica.take_batch() is not None
        self.replica.commit_failed(new_start, now, self.out)

    def record(self, slot: bytes = SLOT) -> Record:
        packed, _ = self.replica.read(slot)
        return Record.unpack(packed) if packed else Record.EMPTY


def a_record(*values: bytes, by: int = 1, over: Context = Context.EMPTY) -> Record:
    """Concurrent values of another node."""
    record = Record((), over)
    for count, value in enumerate(values, 1):
        record = record.write(
            Context.EMPTY, Dot(actor(b"other %02d" % by, 0), count), b"%8d%8d" % (by, count), value
        )
    return record


def slots_of(batch: Batch) -> list[bytes]:
    """Of the records in it."""
    return [slot for slot in batch.writes if not is_row(slot)]


def values(record: Record) -> list[bytes]:
    return [sibling.value for sibling in record.siblings]
