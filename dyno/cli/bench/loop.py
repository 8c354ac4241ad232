"""The closed loop: so many callers, each of whom begins its next operation when the last one has ended.

In: a bucket, a workload, and for how long. Out: a `Tally`. Operations that began in time are waited for and
counted, however long they take, so a node that hangs cannot hide behind the end of the run.

Updates are ordinary writes of an ordinary client: with the newest context that this process knows of the key,
from its last read or write. Of two callers who update one key at once, neither has seen the other's value, so
siblings are right; the next read covers them, and the update after it replaces them. A caller whose operation
failed counts it, waits a moment, as long as an overloaded node asks, and goes on; after a failed update the
key is read before it is written again.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

import trio

from dyno.errors import DynoError, Overloaded
from dyno.workload.histogram import Histogram
from dyno.workload.mixes import INSERT, READ, RMW, UPDATE

if TYPE_CHECKING:
    from dyno import PutResult, Record
    from dyno.workload.mixes import Operation, Workload
    from dyno.workload.payload import Payload

FAILURE_PAUSE_S = 0.05

_NS = 1_000_000_000


class Keys(Protocol):
    """What of a `dyno.Bucket` a benchmark uses."""

    async def get(self, key: str, /) -> Record: ...

    async def put(self, key: str, value: bytes, /, *, context: bytes | None = None) -> PutResult: ...


class NotFound(DynoError):
    """A record that is certainly there was not read."""


class Tally:
    """What a run saw. latencies: by kind of operation. errors: how many, by the error's name. elapsed_s: from
    the first operation's beginning to the last one's end; cpu_s: this process's share of it."""

    def __init__(self, kinds: tuple[str, ...]) -> None:
        self.latencies = {kind: Histogram() for kind in kinds}
        self.errors: dict[str, int] = {}
        self.last_error: DynoError | None = None
        self.elapsed_s = 0.0
        self.cpu_s = 0.0

    @property
    def operations(self) -> int:
        """How many succeeded."""
        return sum(histogram.count for histogram in self.latencies.values())

    @property
    def failures(self) -> int:
        return sum(self.errors.values())

    def failed(self, error: DynoError) -> None:
        name = type(error).__name__
        self.errors[name] = self.errors.get(name, 0) + 1
        self.last_error = error


class ClosedLoop:
    """contexts: what is known of the keys so far; empty is fine. clock: nanoseconds, monotonic."""

    def __init__(
        self,
        keys: Keys,
        workload: Workload,
        payload: Payload,
        contexts: dict[str, bytes],
        *,
        clients: int,
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._keys = keys
        self._workload = workload
        self._payload = payload
        self._contexts = contexts
        self._updates = UPDATE in workload.mix.kinds
        self._clients = clients
        self._clock = clock
        self._perform: dict[str, Callable[[Operation], Awaitable[None]]] = {
            READ: self._read,
            UPDATE: self._update,
            INSERT: self._insert,
            RMW: self._read_modify_write,
        }

    async def run(self, seconds: float, tally: Tally) -> None:
        """Fill the tally, which may be looked at meanwhile."""
        began, began_cpu = self._clock(), time.process_time_ns()
        end = began + int(seconds * _NS)
        async with trio.open_nursery() as nursery:
            for _ in range(self._clients):
                nursery.start_soon(self._call, end, tally)
        tally.elapsed_s = (self._clock() - began) / _NS
        tally.cpu_s = (time.process_time_ns() - began_cpu) / _NS

    async def _call(self, end: int, tally: Tally) -> None:
        clock, draw, perform, latencies = self._clock, self._workload.next, self._perform, tally.latencies
        now = clock()
        while now < end:
            operation = draw()
            began = clock()
            try:
                await perform[operation.kind](operation)
            except DynoError as error:
                tally.failed(error)
                pause = error.retry_after if isinstance(error, Overloaded) else FAILURE_PAUSE_S
                await trio.sleep(max(0.0, min(pause, (end - clock()) / _NS)))
                now = clock()
            else:
                now = clock()
                latencies[operation.kind].record(now - began)

    async def _read(self, operation: Operation) -> None:
        record = await self._keys.get(operation.key)
        if not record.exists:
            raise NotFound(f"a read of {operation.key}, which was stored, found nothing")
        if self._updates:
            self._contexts[operation.key] = record.context

    async def _update(self, operation: Operation) -> None:
        key, contexts = operation.key, self._contexts
        context = contexts.get(key)
        if context is None:
            context = (await self._keys.get(key)).context
        try:
            result = await self._keys.put(key, self._payload.next(), context=context)
        except DynoError:
            contexts.pop(key, None)
            raise
        contexts[key] = result.context

    async def _insert(self, operation: Operation) -> None:
        await self._keys.put(operation.key, self._payload.next())
        self._workload.acknowledge(operation)

    async def _read_modify_write(self, operation: Operation) -> None:
        record = await self._keys.get(operation.key)
        await self._keys.put(operation.key, self._payload.next(), context=record.context)
