"""Reads from a warm disk on the loop, from a cold one beside it (PERFORMANCE, rule 9).

A warm LMDB read takes two microseconds, so the loop does it itself. Where pages have to come from the disk
it takes milliseconds, and a loop that waits for them answers no ping. So reads are measured; when they are
slow on average, a thread reads for a request what it will need, and only then the request is handed to the
core, whose own read finds that at hand, unless it was written meanwhile; then it reads again, from pages that
are warm. How many may wait for that is the core's to say (`protocol.overload.ReadLine`): as many as the
thread is done with soon enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from time import perf_counter
from typing import TYPE_CHECKING, TypeAlias

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
_AT_HAND_BYTES_MAX = 64 << 10  # larger cells are not kept for the core: many may be waiting for it


Read: TypeAlias = tuple[bytes, bytes | None]


class MeteredEngine(Engine):
    """An engine whose reads are measured. mean_s: of the last ones. cold: whether they are slow on average. A
    read that breaks the engine ends the node, so it raises StorageFailed, in the words of errors.py."""

    __slots__ = ("_at_hand", "_engine", "cold", "commit_number", "mean_s")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._at_hand: Read | None = None
        self.mean_s = 0.0
        self.cold = False
        self.commit_number = engine.commit_number

    def get(self, key: bytes) -> bytes | None:
        at_hand = self._at_hand
        if at_hand is not None and at_hand[0] == key:
            return at_hand[1]
        was_cold = self.cold  # warmed before, then, so it says nothing about the disk
        started = perf_counter()
        try:
            return self._engine.get(key)
        except StorageBroken as error:
            raise StorageFailed(f"the disk failed, and this node stops: {error}") from error
        finally:
            if not was_cold:
                self._took(perf_counter() - started)

    def warm(self, key: bytes) -> Read | None:
        """Read on the thread: what may be put at hand, and the pages in memory. What is wrong there is the
        core's to find."""
        started = perf_counter()
        try:
            value = self._engine.get(key)
        except (CorruptRecord, StorageBroken):
            return None
        finally:
            self._took(perf_counter() - started)
        return (key, value) if value is None or len(value) <= _AT_HAND_BYTES_MAX else None

    def put_at_hand(self, read: Read | None) -> None:
        """What the next `get` of this key returns without reading, until told otherwise."""
        self._at_hand = read

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


class _Waiting:
    """until: when nobody waits for an answer any more. read: what the thread found. stale: whether the slot
    was written since it may have been read."""

    __slots__ = ("link", "message", "read", "slot", "stale", "until")

    def __init__(self, slot: bytes, link: int, message: Message, until: float) -> None:
        self.slot = slot
        self.link = link
        self.message = message
        self.until = until
        self.read: Read | None = None
        self.stale = False


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
        self._waiting: dict[bytes, list[_Waiting]] = {}  # by slot; bounded by the line
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
        waiting = _Waiting(slot, link, message, until)
        self._waiting.setdefault(slot, []).append(waiting)
        self._worker.submit(waiting)
        return True

    def committed(self, slots: Iterable[bytes]) -> None:
        """These were written, which the core is about to be told. Until then it knows better than the disk;
        from then on what was read before must not be given to it."""
        if self._waiting:
            for slot in slots:
                for waiting in self._waiting.get(slot, ()):
                    waiting.stale = True

    def close(self) -> None:
        self._worker.close()

    def _warm(self, waiting: _Waiting) -> _Waiting:
        waiting.read = self._engine.warm(waiting.slot)
        return waiting

    def _warmed(self, waiting: _Waiting) -> None:
        of_slot = self._waiting[waiting.slot]
        of_slot.remove(waiting)
        if not of_slot:
            del self._waiting[waiting.slot]
        message = self._line.leave(waiting.message, waiting.until, self._now())
        if message is not None:
            self._engine.put_at_hand(None if waiting.stale else waiting.read)
            try:
                self._receive(waiting.link, message)
            finally:
                self._engine.put_at_hand(None)
