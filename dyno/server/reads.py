"""Reads from a warm disk on the loop, from a cold one beside it (PERFORMANCE, rule 9).

A warm LMDB read takes two microseconds, so the loop does it itself. Where pages have to come from the disk
it takes milliseconds, and a loop that waits for them answers no ping. So reads are measured; when they are
slow on average, a request that reads is first walked through by a thread, which pulls its pages into memory,
and only then handed to the core, whose own read is warm again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from dyno.errors import StorageFailed
from dyno.server.worker import Worker
from dyno.storage.engine import CorruptRecord, Engine, Scanned, Span, StorageBroken
from dyno.wire.messages import READ_MANY_BYTES_MAX

if TYPE_CHECKING:
    from dyno.transport.reactor import Reactor
    from dyno.wire.messages import Message

_COLD_S = 0.001
_WARM_S = 0.000_25
_WEIGHT_OF_LAST = 0.05  # in the running mean


class MeteredEngine(Engine):
    """An engine whose reads are measured. cold: whether they are slow on average. A read that breaks the
    engine ends the node, so it raises StorageFailed, in the words of errors.py."""

    __slots__ = ("_engine", "_mean_s", "cold", "commit_number")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._mean_s = 0.0
        self.cold = False
        self.commit_number = engine.commit_number

    def get(self, key: bytes) -> bytes | None:
        was_cold = self.cold  # warmed before, then, so it says nothing about the disk
        started = perf_counter()
        try:
            return self._engine.get(key)
        except StorageBroken as error:
            raise _the_end(error) from error
        finally:
            if not was_cold:
                self._took(perf_counter() - started)

    def get_many(self, keys: Sequence[bytes], *, bytes_max: int) -> list[bytes | None]:
        was_cold = self.cold
        started = perf_counter()
        try:
            return self._engine.get_many(keys, bytes_max=bytes_max)
        except StorageBroken as error:
            raise StorageFailed(f"the disk failed, and this node stops: {error}") from error
        finally:
            if not was_cold:
                self._took((perf_counter() - started) / (len(keys) or 1))

    def warm(self, what: bytes | Span) -> int:
        """Read on the thread, only for the sake of its pages: the record under a key, or a span of records.
        What is wrong there is the core's to find. Returns how many bytes it was."""
        started, records = perf_counter(), 1
        try:
            if isinstance(what, Span):
                items = self._engine.scan(what.start, what.end, limit=what.limit)[0]
                records = len(items)
                return sum(len(value or b"") for _, value in items)
            return len(self._engine.get(what) or b"")
        except (CorruptRecord, StorageBroken):
            return 0
        finally:
            self._took((perf_counter() - started) / max(records, 1))

    def _took(self, seconds: float) -> None:
        self._mean_s += (seconds - self._mean_s) * _WEIGHT_OF_LAST
        if self.cold:
            self.cold = self._mean_s > _WARM_S
        else:
            self.cold = self._mean_s > _COLD_S

    def write_batch(self, writes: Mapping[bytes, bytes | None], meta: Mapping[str, bytes]) -> int:
        self.commit_number = self._engine.write_batch(writes, meta)
        return self.commit_number

    def get_meta(self, name: str) -> bytes | None:
        return self._engine.get_meta(name)

    def scan(self, start: bytes, end: bytes, *, limit: int) -> Scanned:
        """A scan counts as one read that took as long as one of its records."""
        was_cold = self.cold
        started = perf_counter()
        try:
            scanned = self._engine.scan(start, end, limit=limit)
        except StorageBroken as error:
            raise _the_end(error) from error
        if not was_cold:
            self._took((perf_counter() - started) / max(len(scanned[0]), 1))
        return scanned

    def empty(self) -> bool:
        return self._engine.empty()

    def close(self) -> None:
        self._engine.close()


def _the_end(error: StorageBroken) -> StorageFailed:
    return StorageFailed(f"the disk failed, and this node stops: {error}")


class _Waiting(NamedTuple):
    what: Sequence[bytes] | Sequence[Span]
    link: int
    message: Message


class ColdReads:
    """receive(link, message): the core's ear, called once all records that the message reads are in memory.
    waiting_max: of records."""

    def __init__(
        self,
        engine: MeteredEngine,
        reactor: Reactor,
        *,
        waiting_max: int,
        receive: Callable[[int, Message], None],
    ) -> None:
        self._engine = engine
        self._waiting = 0
        self._waiting_max = waiting_max
        self._receive = receive
        self._worker: Worker[_Waiting, _Waiting] = Worker(
            reactor, name="dyno-reads", do=self._warm, on_done=self._warmed
        )

    def take(self, what: Sequence[bytes] | Sequence[Span], link: int, message: Message) -> bool:
        """what: the message will read. False when too many wait already: a stalled loop then slows down who
        asks for so much."""
        if self._waiting + len(what) > self._waiting_max:
            return False
        self._waiting += len(what)
        self._worker.submit(_Waiting(what, link, message))
        return True

    def close(self) -> None:
        self._worker.close()

    def _warm(self, waiting: _Waiting) -> _Waiting:
        room = READ_MANY_BYTES_MAX  # the core will not read more either
        for what in waiting.what:
            room -= self._engine.warm(what)
            if room <= 0:
                break
        return waiting

    def _warmed(self, waiting: _Waiting) -> None:
        self._waiting -= len(waiting.what)
        self._receive(waiting.link, waiting.message)
