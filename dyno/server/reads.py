"""Reads from a warm disk on the loop, from a cold one beside it (PERFORMANCE, rule 9).

A warm LMDB read takes two microseconds, so the loop does it itself. Where pages have to come from the disk
it takes milliseconds, and a loop that waits for them answers no ping. So reads are measured; when they are
slow on average, a request that reads is first walked through by a thread, which pulls its pages into memory,
and only then handed to the core, whose own read is warm again. How many may wait for that is the core's to
say (`protocol.overload.ReadLine`): as many as the thread is done with soon enough.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from dyno.errors import StorageFailed
from dyno.server.worker import Worker
from dyno.storage.engine import CorruptRecord, Engine, Scanned, StorageBroken

if TYPE_CHECKING:
    from dyno.protocol.overload import ReadLine
    from dyno.transport.reactor import Reactor
    from dyno.wire.messages import Message

_COLD_S = 0.001
_WARM_S = 0.000_25
_WEIGHT_OF_LAST = 0.05  # in the running mean
_SURPRISE_MAX = 8.0  # times the mean: one read that hangs says little about the next ones
_WARMED_PER_TURN_MAX = 32  # so that a turn, and with it refusals and pings, is not held up for long


class MeteredEngine(Engine):
    """An engine whose reads are measured. mean_s: of the last ones. cold: whether they are slow on average. A
    read that breaks the engine ends the node, so it raises StorageFailed, in the words of errors.py."""

    __slots__ = ("_engine", "cold", "commit_number", "mean_s")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.mean_s = 0.0
        self.cold = False
        self.commit_number = engine.commit_number

    def get(self, key: bytes) -> bytes | None:
        was_cold = self.cold  # warmed before, then, so it says nothing about the disk
        started = perf_counter()
        try:
            return self._engine.get(key)
        except StorageBroken as error:
            raise StorageFailed(f"the disk failed, and this node stops: {error}") from error
        finally:
            if not was_cold:
                self._took(perf_counter() - started)

    def warm(self, key: bytes) -> None:
        """Read on the thread, only for the sake of its pages. What is wrong there is the core's to find."""
        started = perf_counter()
        try:
            self._engine.get(key)
        except (CorruptRecord, StorageBroken):
            return
        finally:
            self._took(perf_counter() - started)

    def _took(self, seconds: float) -> None:
        seconds = min(seconds, _COLD_S + self.mean_s * _SURPRISE_MAX)
        self.mean_s += (seconds - self.mean_s) * _WEIGHT_OF_LAST
        if self.cold:
            self.cold = self.mean_s > _WARM_S
        else:
            self.cold = self.mean_s > _COLD_S

    def write_batch(self, writes: Mapping[bytes, bytes | None], meta: Mapping[str, bytes]) -> int:
        self.commit_number = self._engine.write_batch(writes, meta)
        return self.commit_number

    def get_meta(self, name: str) -> bytes | None:
        return self._engine.get_meta(name)

    def scan(self, start: bytes, end: bytes, *, limit: int) -> Scanned:
        return self._engine.scan(start, end, limit=limit)

    def empty(self) -> bool:
        return self._engine.empty()

    def close(self) -> None:
        self._engine.close()


class _Waiting(NamedTuple):
    slot: bytes
    link: int
    message: Message
    until: float  # when nobody waits for an answer any more


class ColdReads:
    """line: the core's. receive(link, message): the core's ear, called once the message's record is in
    memory, unless nobody waits any more. now(): the runner's clock at this turn."""

    def __init__(
        self,
        engine: MeteredEngine,
        reactor: Reactor,
        *,
        line: ReadLine,
        now: Callable[[], float],
        receive: Callable[[int, Message], None],
    ) -> None:
        self._engine = engine
        self._line = line
        self._now = now
        self._receive = receive
        self._worker: Worker[_Waiting, _Waiting] = Worker(
            reactor,
            name="dyno-reads",
            do=self._warm,
            on_done=self._warmed,
            per_turn_max=_WARMED_PER_TURN_MAX,
        )

    def take(self, slot: bytes, link: int, message: Message) -> bool:
        """False when it would wait too long."""
        self._line.mean_s = self._engine.mean_s
        until = self._line.join(message, self._now())
        if until is None:
            return False
        self._worker.submit(_Waiting(slot, link, message, until))
        return True

    def close(self) -> None:
        self._worker.close()

    def _warm(self, waiting: _Waiting) -> _Waiting:
        self._engine.warm(waiting.slot)
        return waiting

    def _warmed(self, waiting: _Waiting) -> None:
        message = self._line.leave(waiting.message, waiting.until, self._now())
        if message is not None:
            self._receive(waiting.link, message)
