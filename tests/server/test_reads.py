"""Slow reads go to a thread and back; fast ones stay on the loop."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from dyno.errors import StorageFailed
from dyno.server.reads import ColdReads, MeteredEngine
from dyno.storage.engine import CorruptRecord, Scanned, Span, StorageBroken
from dyno.storage.memory import MemoryEngine
from dyno.transport.reactor import Reactor
from dyno.wire.messages import READ_MANY_BYTES_MAX, AskMembers, Message


class Disk(MemoryEngine):
    """A memory engine that takes its time, as a cold disk does."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds_per_read = 0.0
        self.fault: type[Exception] | None = None
        self.reads = 0
        self.seconds_per_scan = 0.0

    def scan(self, start: bytes, end: bytes, *, limit: int) -> Scanned:
        until = time.perf_counter() + self.seconds_per_scan
        while time.perf_counter() < until:
            pass
        if self.fault is not None:
            raise self.fault(start)
        return super().scan(start, end, limit=limit)

    def get(self, key: bytes) -> bytes | None:
        self.reads += 1
        end = time.perf_counter() + self.seconds_per_read
        while time.perf_counter() < end:
            pass
        if self.fault is not None:
            raise self.fault(key)
        return super().get(key)


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


def test_a_scan_counts_by_its_records() -> None:
    disk = Disk()
    engine = MeteredEngine(disk)
    engine.write_batch({b"%03d" % number: b"v" for number in range(100)}, {})
    disk.seconds_per_scan = 0.02
    for _ in range(30):
        assert len(engine.scan(b"", b"z", limit=100)[0]) == 100
    assert not engine.cold, "0.2 ms a record"
    for _ in range(30):
        engine.scan(b"000", b"001", limit=100)
    assert engine.cold
    disk.seconds_per_scan = 0.0
    for _ in range(30):
        engine.scan(b"000", b"001", limit=100)  # warmed by somebody: says nothing
    assert engine.cold
    for _ in range(300):
        engine.warm(Span(b"", b"z", 100))
    assert not engine.cold


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
    reads = ColdReads(
        MeteredEngine(disk), reactor, waiting_max=2, receive=lambda *what: received.append(what)
    )
    assert reads.take([b"k"], 1, AskMembers(1))
    assert reads.take([b"k"], 1, AskMembers(2))
    assert not reads.take([b"k"], 1, AskMembers(3))  # too many wait
    while len(received) < 2:
        reactor.turn()
    assert received == [(1, AskMembers(1)), (1, AskMembers(2))]
    assert disk.reads == 2
    assert reads.take([b"k"], 1, AskMembers(4))
    reads.close()
    reads.close()


def test_all_records_of_a_request_are_warmed_before_it_is_received(reactor: Reactor) -> None:
    disk = Disk()
    received: list[int] = []
    reads = ColdReads(
        MeteredEngine(disk), reactor, waiting_max=3, receive=lambda *_: received.append(disk.reads)
    )
    assert reads.take([b"a", b"b"], 1, AskMembers(1))
    assert not reads.take([b"c", b"d"], 1, AskMembers(2))  # too many records, not requests, wait
    assert reads.take([b"c"], 1, AskMembers(3))
    while len(received) < 2:
        reactor.turn()
    assert received[0] >= 2
    assert received[1] == 3
    assert reads.take([b"a", b"b", b"c"], 1, AskMembers(4))
    reads.close()


def test_no_more_is_warmed_than_the_core_will_read(reactor: Reactor) -> None:
    disk = Disk()
    disk.write_batch({b"large": bytes(READ_MANY_BYTES_MAX // 2)}, {})
    received: list[int] = []
    reads = ColdReads(
        MeteredEngine(disk), reactor, waiting_max=1000, receive=lambda *_: received.append(disk.reads)
    )
    assert reads.take([b"none", *[b"large"] * 500], 1, AskMembers(1))
    while not received:
        reactor.turn()
    assert received == [3]
    reads.close()


def test_many_reads_at_once_count_by_what_one_of_them_took() -> None:
    disk = Disk()
    engine = MeteredEngine(disk)
    disk.write_batch({b"k": b"v"}, {})
    keys = [b"k"] * 100
    disk.seconds_per_read = 0.000_1
    for _ in range(30):
        assert engine.get_many(keys, bytes_max=1000) == [b"v"] * 100
    assert not engine.cold, "ten milliseconds for a hundred are quick"
    assert engine.get_many([], bytes_max=1000) == []
    disk.seconds_per_read = 0.004
    for _ in range(30):
        engine.get_many([b"k"] * 2, bytes_max=1000)
    assert engine.cold
    disk.seconds_per_read = 0.0
    for _ in range(30):
        engine.get_many(keys, bytes_max=1000)  # warmed by somebody: says nothing
    assert engine.cold


@pytest.mark.parametrize("fault", [CorruptRecord, StorageBroken])
def test_what_is_wrong_is_left_to_the_core_to_find(reactor: Reactor, fault: type[Exception]) -> None:
    disk = Disk()
    disk.fault = fault
    received: list[tuple[int, Message]] = []
    reads = ColdReads(
        MeteredEngine(disk), reactor, waiting_max=2, receive=lambda *what: received.append(what)
    )
    for number in range(3):
        assert reads.take([Span(b"k", b"z", 9)] if number == 1 else [b"k"], 1, AskMembers(number))
        while len(received) <= number:
            reactor.turn()
    reads.close()


def test_a_read_that_breaks_the_engine_is_the_end_of_the_node() -> None:
    disk = Disk()
    disk.fault = StorageBroken
    with pytest.raises(StorageFailed, match="this node stops"):
        MeteredEngine(disk).get(b"k")
    with pytest.raises(StorageFailed, match="this node stops"):
        MeteredEngine(disk).scan(b"k", b"z", limit=9)
    with pytest.raises(StorageFailed, match="this node stops"):
        MeteredEngine(disk).get_many([b"k"], bytes_max=1000)
    disk.fault = CorruptRecord
    with pytest.raises(CorruptRecord):
        MeteredEngine(disk).get(b"k")
    with pytest.raises(CorruptRecord):
        MeteredEngine(disk).get_many([b"k"], bytes_max=1000)
