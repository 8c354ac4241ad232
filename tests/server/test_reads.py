"""Slow reads go to a thread and back; fast ones stay on the loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from dyno.config import Config
from dyno.errors import StorageFailed
from dyno.protocol.overload import ReadLine
from dyno.server.reads import ColdReads, MeteredEngine
from dyno.storage.engine import CorruptRecord, Scanned, Span, StorageBroken
from dyno.storage.memory import MemoryEngine
from dyno.transport.reactor import Reactor
from dyno.wire.messages import DEFAULT, READ_MANY_BYTES_MAX, AskMembers, Get, Message
from dyno.wire.trees import Node


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


def reads_of(
    disk: Disk,
    reactor: Reactor,
    receive: Callable[[int, Message], None],
    *,
    records_max: int = 2,
    times: Sequence[float] = (0.0,),
) -> ColdReads:
    """times: what the clock says, one after the other; the last one from then on."""
    clock = list(times)
    return ColdReads(
        MeteredEngine(disk),
        reactor,
        line=ReadLine(Config(requests_max=records_max)),
        now=lambda: clock.pop(0) if len(clock) > 1 else clock[0],
        receive=receive,
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
        engine.warm(b"k", {})
    assert not engine.cold


def test_one_read_that_hangs_does_not_make_it_cold() -> None:
    disk = Disk()
    engine = MeteredEngine(disk)
    engine.get(b"k")
    disk.seconds_per_read = 0.2
    engine.get(b"k")
    assert not engine.cold
    assert engine.mean_s < 0.0002


def test_two_slow_reads_of_many_records_make_it_cold_and_one_that_hangs_does_not() -> None:
    disk = Disk()
    disk.seconds_per_read = 0.01
    engine = MeteredEngine(disk)
    engine.get_many([b"k"] * 20, bytes_max=1000)
    assert not engine.cold
    engine.get_many([b"k"] * 20, bytes_max=1000)
    assert engine.cold


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
        engine.warm(Span(b"", b"z", 100), {})
    assert not engine.cold


def test_what_lies_below_a_node_of_a_tree_is_read_bucket_by_bucket() -> None:
    disk = Disk()
    engine = MeteredEngine(disk)
    head, value = b"\0\0\3", bytes(1000)
    buckets = [bytes([number]) * 8 for number in range(3)]
    slots = [head + bucket + bytes([key]).ljust(16, b"k") for bucket in buckets for key in range(20)]
    engine.write_batch(dict.fromkeys(slots, value), {})
    engine.write_batch({b"\0\0\4" + slots[0][3:]: value}, {})
    assert [engine.warm(Node(head, 1, number), {}) for number in range(2)] == [60_000, 0]
    assert engine.warm(Node(head, 0, 0), {}) == 60_000
    engine.write_batch(dict.fromkeys(slots[:40], bytes(READ_MANY_BYTES_MAX // 16)), {})
    assert engine.warm(Node(head, 1, 0), {}) == 20 * READ_MANY_BYTES_MAX // 16, "it is enough"
    disk.fault = StorageBroken
    assert engine.warm(Node(head, 1, 0), {}) == 0, "the core will find out"


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
    reads = reads_of(disk, reactor, lambda *what: received.append(what))
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
    reads = reads_of(disk, reactor, lambda *_: received.append(disk.reads), records_max=3)
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
    reads = reads_of(disk, reactor, lambda *_: received.append(disk.reads), records_max=1000)
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


def test_of_many_reads_those_that_were_not_made_do_not_count() -> None:
    disk = Disk()
    engine = MeteredEngine(disk)
    disk.write_batch({b"k": b"v"}, {})
    disk.seconds_per_read = 0.004
    for _ in range(30):
        assert engine.get_many([b"k"] * 1000, bytes_max=1) == [b"v"]
    assert engine.cold


@pytest.mark.parametrize("fault", [CorruptRecord, StorageBroken])
def test_what_is_wrong_is_left_to_the_core_to_find(reactor: Reactor, fault: type[Exception]) -> None:
    disk = Disk()
    disk.fault = fault
    received: list[tuple[int, Message]] = []
    reads = reads_of(disk, reactor, lambda *what: received.append(what))
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


def test_what_nobody_waits_for_any_more_is_dropped_unstarted(reactor: Reactor) -> None:
    received: list[tuple[int, Message]] = []
    reads = reads_of(Disk(), reactor, lambda *what: received.append(what), times=(10.0, 10.0, 10.2))
    late, in_time = (Get(budget, "b", b"k", DEFAULT, DEFAULT, budget, False) for budget in (199, 201))
    assert reads.take([b"k"], 1, late)
    assert reads.take([b"k"], 1, in_time)
    while not received:
        reactor.turn()
    assert received == [(1, in_time._replace(budget_ms=1))]
    assert reads.take([b"k"], 1, late)  # both have left the line
    assert reads.take([b"k"], 1, late)
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
        assert core.reads.take([b"k"], 1, AskMembers(1))
        while not core.found:
            reactor.turn()
        assert core.found == [value]
        assert disk.reads == before + 1
        core.found.clear()
        core.reads.turn_ended()
    core.reads.turn_ended()
    core.engine.get(b"k")
    assert disk.reads == before + 2  # it is at hand for that turn alone
    core.reads.close()


def test_what_was_written_since_is_read_again(reactor: Reactor) -> None:
    disk = Disk()
    core = Core(disk, reactor)
    core.engine.write_batch({b"k": b"old"}, {})
    core.reads.committed([b"k"])  # nobody waits
    for number in range(3):
        assert core.reads.take([b"k"], 1, AskMembers(number))
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
    assert core.reads.take([b"k"], 1, AskMembers(1))
    while not core.found:
        reactor.turn()
    assert disk.reads == 2
    core.reads.close()


def test_gets_that_are_read_together_at_the_end_of_the_turn_find_it_at_hand(reactor: Reactor) -> None:
    disk = Disk()
    engine = MeteredEngine(disk)
    received: list[int] = []
    reads = ColdReads(
        engine,
        reactor,
        line=ReadLine(Config()),
        now=lambda: 0.0,
        receive=lambda link, _message: received.append(link),
    )
    engine.write_batch({b"a": b"1", b"b": b"2", b"c": b"3"}, {})
    assert reads.take([b"a", b"none"], 1, AskMembers(1))
    assert reads.take([b"c"], 2, AskMembers(2))
    while len(received) < 2:
        reactor.turn()
    before = disk.reads
    assert engine.get_many([b"a", b"c", b"none"], bytes_max=100) == [b"1", b"3", None]
    assert engine.get_many([b"a", b"c"], bytes_max=1) == [b"1"]
    assert disk.reads == before
    assert engine.get_many([b"c", b"b", b"a"], bytes_max=100) == [b"3", b"2", b"1"]
    assert engine.get_many([b"b", b"none", b"b", b"a"], bytes_max=1) == [b"2"]
    assert engine.get_many([b"none", b"b", b"b"], bytes_max=1) == [None, b"2"]
    assert disk.reads == before + 3
    engine.write_batch({b"c": b"4"}, {})
    reads.committed([b"c"])  # in the same turn
    assert engine.get_many([b"a", b"c"], bytes_max=100) == [b"1", b"4"]
    reads.turn_ended()
    before = disk.reads
    assert engine.get_many([b"a", b"c"], bytes_max=100) == [b"1", b"4"]
    assert disk.reads == before + 2
    reads.close()
