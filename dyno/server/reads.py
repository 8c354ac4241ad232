"""Reads from a warm disk on the loop, from a cold one beside it (PERFORMANCE, rule 9).

A warm LMDB read takes two microseconds, so the loop does it itself. Where pages have to come from the disk
it takes milliseconds, and a loop that waits for them answers no ping. So reads are measured; when they are
slow on average, a thread reads for a request what it will need, and only then the request is handed to the
core, whose own reads in the same turn find that at hand, unless it was written meanwhile; then it reads
again, from pages that are warm. How many may wait for that is the core's to say (`ReadLine` in
`protocol.overload`): as many as the thread is done with soon enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, TypeAlias

from dyno.errors import StorageFailed
from dyno.protocol.leaf import KEYS_MAX, spans_below
from dyno.server.worker import Worker
from dyno.storage.engine import CorruptRecord, Engine, Scanned, Span, StorageBroken
from dyno.wire.messages import READ_MANY_BYTES_MAX
from dyno.wire.trees import Node

if TYPE_CHECKING:
    from dyno.protocol.overload import ReadLine
    from dyno.transport.reactor import Reactor
    from dyno.wire.messages import Message

_What: TypeAlias = Sequence[bytes] | Sequence[Span] | Sequence[Node]

_COLD_S = 0.001
_WARM_S = 0.000_25
_WEIGHT_OF_LAST = 0.05  # in the running mean
_SURPRISE_MAX = 8.0  # times the mean: one read that hangs says little about the next ones
_TOGETHER_MAX = 6  # samples in reads of many records: one of them that hangs does not make it cold, either
_WARMED_PER_TURN_MAX = 32  # so that a turn, and with it refusals and pings, is not held up for long
_AT_HAND_BYTES_MAX = 64 << 10  # larger cells are not kept for the core: many may be waiting for it


class MeteredEngine(Engine):
    """An engine whose reads are measured. mean_s: of the last ones. cold: whether they are slow on average. A
    read that breaks the engine ends the node, so it raises StorageFailed, in the words of errors.py."""

    __slots__ = ("_at_hand", "_engine", "cold", "commit_number", "mean_s")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._at_hand: dict[bytes, bytes | None] = {}
        self.mean_s = 0.0
        self.cold = False
        self.commit_number = engine.commit_number

    def get(self, key: bytes) -> bytes | None:
        if key in self._at_hand:
            return self._at_hand[key]
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
        at_hand = self._at_hand
        missing = [key for key in keys if key not in at_hand] if at_hand else keys
        if not missing:
            return _up_to(bytes_max, keys, at_hand, ())
        was_cold = self.cold
        read: Sequence[bytes | None] = ()
        started = perf_counter()
        try:
            read = values = self._engine.get_many(missing, bytes_max=bytes_max)
        except StorageBroken as error:
            raise _the_end(error) from error
        finally:
            if not was_cold:
                count = len(read) or len(missing)  # fewer were read than asked for, where they are large
                each_s = (perf_counter() - started) / count
                for _ in range(min(count, _TOGETHER_MAX)):
                    self._took(each_s)
        return _up_to(bytes_max, keys, at_hand, values) if at_hand else values

    def warm(self, what: bytes | Span | Node, found: dict[bytes, bytes | None]) -> int:
        """Read on the thread, so that its pages are in memory: the record under a key, a span of records, or
        what lies below a node of a tree. found: where what may be put at hand goes. What is wrong there is
        the core's to find. Returns how many bytes it was."""
        started, records = perf_counter(), 1
        try:
            if isinstance(what, Span):
                items = self._engine.scan(what.start, what.end, limit=what.limit)[0]
                records = len(items)
                return sum(len(value or b"") for _, value in items)
            if isinstance(what, Node):
                records, size = self._warm_below(what)
                return size
            value = self._engine.get(what)
        except (CorruptRecord, StorageBroken):
            return 0
        finally:
            self._took((perf_counter() - started) / max(records, 1))
        size = len(value or b"")
        if size <= _AT_HAND_BYTES_MAX:
            found[what] = value
        return size

    def _warm_below(self, node: Node) -> tuple[int, int]:
        """Gives how many records and bytes were read."""
        records = size = 0
        for span in spans_below(node, self._engine.scan):
            if span is None or size >= READ_MANY_BYTES_MAX:
                break
            items = self._engine.scan(*span, limit=KEYS_MAX)[0]
            records += len(items)
            size += sum(len(value or b"") for _, value in items)
        return records, size

    def put_at_hand(self, found: Mapping[bytes, bytes | None]) -> None:
        """What is got from now on without reading, until it is let go of."""
        self._at_hand.update(found)

    def let_go_of(self, key: bytes) -> None:
        self._at_hand.pop(key, None)

    def let_go(self) -> None:
        """Of everything."""
        self._at_hand.clear()

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


def _up_to(
    bytes_max: int,
    keys: Sequence[bytes],
    at_hand: Mapping[bytes, bytes | None],
    read: Sequence[bytes | None],
) -> list[bytes | None]:
    """The values of the first keys, as `Engine.get_many` gives them. read: of those not at hand, that it gave
    for as many bytes, so they suffice."""
    values: list[bytes | None] = []
    rest = iter(read)
    for key in keys:
        value = at_hand[key] if key in at_hand else next(rest)
        values.append(value)
        bytes_max -= len(value or b"")
        if bytes_max <= 0:
            break
    return values


class _Waiting:
    """what: the message will read. until: when nobody waits for an answer any more. found: by the thread.
    stale: slots that were written since they may have been read."""

    __slots__ = ("found", "link", "message", "stale", "until", "what")

    def __init__(self, what: _What, link: int, message: Message, until: float) -> None:
        self.what = what
        self.link = link
        self.message = message
        self.until = until
        self.found: dict[bytes, bytes | None] = {}
        self.stale: dict[bytes, bool] = {}


class ColdReads:
    """line: the core's. receive(link, message): the core's ear, called once what the message reads is in
    memory, unless nobody waits any more. now(): the runner's clock at this turn. At the end of each turn
    comes `turn_ended`."""

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

    def take(self, what: _What, link: int, message: Message) -> bool:
        """what: the message will read. False when it would wait too long."""
        self._line.mean_s = self._engine.mean_s
        until = self._line.join(message, self._now(), records=len(what))
        if until is None:
            return False
        waiting = _Waiting(what, link, message, until)
        for slot in what:
            if isinstance(slot, bytes):
                self._waiting.setdefault(slot, []).append(waiting)
        self._worker.submit(waiting)
        return True

    def committed(self, slots: Iterable[bytes]) -> None:
        """These were written, which the core is about to be told. Until then it knows better than the disk;
        from then on what was read before must not be given to it."""
        for slot in slots:
            self._engine.let_go_of(slot)
            for waiting in self._waiting.get(slot, ()):
                waiting.stale[slot] = True

    def turn_ended(self) -> None:
        """What the core was handed in it has been read: gets wait for its end to be read together."""
        self._engine.let_go()

    def close(self) -> None:
        self._worker.close()

    def _warm(self, waiting: _Waiting) -> _Waiting:
        room = READ_MANY_BYTES_MAX  # the core will not read more either
        for what in waiting.what:
            room -= self._engine.warm(what, waiting.found)
            if room <= 0:
                break
        return waiting

    def _warmed(self, waiting: _Waiting) -> None:
        for slot in waiting.what:
            if isinstance(slot, bytes):
                of_slot = self._waiting[slot]
                of_slot.remove(waiting)
                if not of_slot:
                    del self._waiting[slot]
        message = self._line.leave(waiting.message, waiting.until, self._now(), records=len(waiting.what))
        if message is not None:
            for slot in waiting.stale:
                waiting.found.pop(slot, None)
            self._engine.put_at_hand(waiting.found)
            self._receive(waiting.link, message)
