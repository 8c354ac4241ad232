"""A bucket in memory that answers with the client's own results, takes its time, and fails when told to."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
import trio

from dyno.causality import record as causality
from dyno.causality import token
from dyno.causality.dots import Dot
from dyno.causality.record import put_context
from dyno.session.results import Origin, PutResult, Record
from dyno.wire import values

CLUSTER = bytes(range(16))
NAME = "bench"


class Shelf:
    """records: by key. gets, puts: what was asked, in order. delay: draws the seconds that an operation
    takes, half of them before it is done. objection: asked before each operation, with "get" or "put" and the
    key; what it returns is raised. siblings_most: of any key, ever. under_way_most: operations at once."""

    def __init__(self, delay: Callable[[], float]) -> None:
        self.records: dict[str, causality.Record] = {}
        self.gets: list[str] = []
        self.puts: list[str] = []
        self.delay = delay
        self.objection: Callable[[str, str], Exception | None] = lambda what, key: None
        self.siblings_most = 0
        self.under_way = 0
        self.under_way_most = 0
        self._counter = 0

    async def get(self, key: str, /) -> Record:
        self.gets.append(key)
        await self._take_time("get", key)
        record = self.records.get(key)
        packed = record.pack() if record is not None else b""
        await trio.sleep(self.delay() / 2)
        return Record(packed, self._origin(key), "n1", "")

    async def put(self, key: str, value: bytes, /, *, context: bytes | None = None) -> PutResult:
        self.puts.append(key)
        await self._take_time("put", key)
        before = self.records.get(key, causality.Record.EMPTY)
        caller = token.decode(context or b"", cluster=CLUSTER, bucket=NAME, key=key.encode())
        self._counter += 1
        dot = Dot(bytes(16), self._counter)
        after = before.write(
            caller, dot, self._counter.to_bytes(16, "big"), values.encode(value, bytes_max=1 << 20)
        )
        self.records[key] = after
        self.siblings_most = max(self.siblings_most, len(after.siblings))
        answer = put_context(caller, before.context, dot).pack()
        await trio.sleep(self.delay() / 2)
        return PutResult(answer, self._origin(key), "n1", "")

    def fill(self, key: str, *stored: object) -> None:
        """Siblings that nobody has read."""
        record = self.records.get(key, causality.Record.EMPTY)
        for number, value in enumerate(stored):
            dot = Dot(b"f" * 16, record.context.highest(b"f" * 16) + 1)
            record = record.write(
                causality.Record.EMPTY.context, dot, number.to_bytes(16, "big"), values.encode(value)
            )
        self.records[key] = record

    def values_of(self, key: str) -> list[object]:
        return [values.decode(sibling.value) for sibling in self.records[key].siblings]

    async def _take_time(self, what: str, key: str) -> None:
        self.under_way += 1
        self.under_way_most = max(self.under_way_most, self.under_way)
        try:
            await trio.sleep(self.delay() / 2)
        finally:
            self.under_way -= 1
        error = self.objection(what, key)
        if error is not None:
            raise error

    def _origin(self, key: str) -> Origin:
        return Origin(CLUSTER, NAME, key.encode())


@pytest.fixture
def shelf() -> Shelf:
    chance = Random(1)
    return Shelf(lambda: chance.uniform(0.001, 0.02))
