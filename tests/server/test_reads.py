"""Slow reads go to a thread and back; fast ones stay on the loop."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import pytest

from dyno.config import Config
from dyno.errors import StorageFailed
from dyno.protocol.overload import ReadLine
from dyno.server.reads import ColdReads, MeteredEngine
from dyno.storage.engine import CorruptRecord, StorageBroken
from dyno.storage.memory import MemoryEngine
from dyno.transport.reactor import Reactor
from dyno.wire.messages import DEFAULT, AskMembers, Get, Message


class Disk(MemoryEngine):
    """A memory engine that takes its time, as a cold disk does."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds_per_read = 0.0
        self.fault: type[Exception] | None = None
        self.reads = 0

    def get(self, key: bytes) -> bytes | None:
        self.reads += 1
        end = time.perf_counter() + self.seconds_per_read
        while time.perf_counter() < end:
            pass
        if self.fault is not None:
            raise self.fault(key)
        return super().get(key)


def reads_of(
    disk: Disk, reactor: Reactor, received: list[tuple[int, Message]], *, times: Sequence[float] = (0.0,)
) -> ColdReads:
    """times: what the clock says, one after the other; the last one from then on."""
    clock = list(times)
    return ColdReads(
        MeteredEngine(disk),
        reactor,
        line=ReadLine(Config(requests_max=2)),
        now=lambda: clock.pop(0) if len(clock) > 1 else clock[0],
        receive=lambda *what: received.append(what),
    )


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    reactor = Reactor()
    yield reactor
    reactor.close()


def test_a_warm_disk_stays_warm() -> None:
    engine = MeteredEngine(Disk())
    for _ in range(1000):
        assert engine.get(b"k") is None
    assert not engine.cold


def test_slow_reads_make_it_cold_and_quick_ones_warm_again() -> None:
    disk = Disk()
    engine = MeteredEngine(disk)
    disk.seconds_per_read = 0.004
    for _ in range(30):
        engine.get(b"k")
    assert engine.cold
    disk.seconds_per_read = 0.0
    for _ in range(30):
        engine.get(b"k")  # warmed by somebody: says nothing
    assert engine.cold
    for _ in range(300):
        engine.warm(b"k")
    assert not engine.cold


def test_one_read_that_hangs_does_not_make_it_cold() -> None:
    disk = Disk()
    engine = MeteredEngine(disk)
    engine.get(b"k")
    disk.seconds_per_read = 0.2
    engine.get(b"k")
    assert not engine.cold
    assert engine.mean_s < 0.0002


def test_it_is_the_engine_that_it_measures() -> None:
    disk = Disk()
    engine = MeteredEngine(disk)
    assert engine.empty()
    assert engine.write_batch({b"k": b"v"}, {"fact": b"1"}) == engine.commit_number == 1
    assert (engine.get(b"k"), engine.get_meta("fact")) == (b"v", b"1")
    assert engine.scan(b"", b"z", limit=10) == ([(b"k", b"v")], None)
    engine.close()


def test_a_request_waits_for_its_pages_and_is_received_in_order(reactor: Reactor) -> None:
    disk = Disk()
    received: list[tuple[int, Message]] = []
    reads = reads_of(disk, reactor, received)
    assert reads.take(b"k", 1, AskMembers(1))
    assert reads.take(b"k", 1, AskMembers(2))
    assert not reads.take(b"k", 1, AskMembers(3))  # too many wait
    while len(received) < 2:
        reactor.turn()
    assert received == [(1, AskMembers(1)), (1, AskMembers(2))]
    assert disk.reads == 2
    assert reads.take(b"k", 1, AskMembers(4))
    reads.close()
    reads.close()


@pytest.mark.parametrize("fault", [CorruptRecord, StorageBroken])
def test_what_is_wrong_is_left_to_the_core_to_find(reactor: Reactor, fault: type[Exception]) -> None:
    disk = Disk()
    disk.fault = fault
    received: list[tuple[int, Message]] = []
    reads = reads_of(disk, reactor, received)
    for number in range(3):
        assert reads.take(b"k", 1, AskMembers(number))
        while len(received) <= number:
            reactor.turn()
    reads.close()


def test_a_read_that_breaks_the_engine_is_the_end_of_the_node() -> None:
    disk = Disk()
    disk.fault = StorageBroken
    with pytest.raises(StorageFailed, match="this node stops"):
        MeteredEngine(disk).get(b"k")
    disk.fault = CorruptRecord
    with pytest.raises(CorruptRecord):
        MeteredEngine(disk).get(b"k")


def test_what_nobody_waits_for_any_more_is_dropped_unstarted(reactor: Reactor) -> None:
    received: list[tuple[int, Message]] = []
    reads = reads_of(Disk(), reactor, received, times=(10.0, 10.0, 10.2))
    late, in_time = (Get(budget, "b", b"k", DEFAULT, DEFAULT, budget, False) for budget in (199, 201))
    assert reads.take(b"k", 1, late)
    assert reads.take(b"k", 1, in_time)
    while not received:
        reactor.turn()
    assert received == [(1, in_time._replace(budget_ms=1))]
    assert reads.take(b"k", 1, late)  # both have left the line
    assert reads.take(b"k", 1, late)
    reads.close()


# ── what the thread has read is at hand for the core ──


class Core:
    """Reads the slot of what it receives."""

    def __init__(self, disk: Disk, reactor: Reactor) -> None:
        self.engine = MeteredEngine(disk)
        self.found: list[bytes | None] = []
        self.reads = ColdReads(
            self.engine,
            reactor,
            line=ReadLine(Config()),
            now=lambda: 0.0,
            receive=lambda _link, _message: self.found.append(self.engine.get(b"k")),
        )


def test_the_core_reads_what_the_thread_has_read(reactor: Reactor) -> None:
    disk = Disk()
    core = Core(disk, reactor)
    for value in (None, b"v"):
        if value is not None:
            core.engine.write_batch({b"k": value}, {})
        before = disk.reads
        assert core.reads.take(b"k", 1, AskMembers(1))
        while not core.found:
            reactor.turn()
        assert core.found == [value]
        assert disk.reads == before + 1
        core.found.clear()
    core.engine.get(b"k")
    assert disk.reads == before + 2  # it is at hand for that request alone
    core.reads.close()


def test_what_was_written_since_is_read_again(reactor: Reactor) -> None:
    disk = Disk()
    core = Core(disk, reactor)
    core.engine.write_batch({b"k": b"old"}, {})
    core.reads.committed([b"k"])  # nobody waits
    for number in range(3):
        assert core.reads.take(b"k", 1, AskMembers(number))
    while disk.reads < 3:
        pass  # the thread is at it
    core.engine.write_batch({b"k": b"new"}, {})
    core.reads.committed([b"other", b"k"])
    while len(core.found) < 3:
        reactor.turn()
    assert core.found == [b"new"] * 3
    assert disk.reads == 6
    core.reads.close()


def test_large_records_are_not_kept_for_the_core(reactor: Reactor) -> None:
    disk = Disk()
    core = Core(disk, reactor)
    core.engine.write_batch({b"k": bytes(65 << 10)}, {})
    assert core.reads.take(b"k", 1, AskMembers(1))
    while not core.found:
        reactor.turn()
    assert disk.reads == 2
    core.reads.close()
