"""More load than the disks can serve: quick refusals, full throughput of what is accepted, flat queues."""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random

import pytest

from dyno.simulator.machine import Machine
from dyno.simulator.simulation import Simulation
from dyno.simulator.stranger import Stranger
from dyno.wire.messages import (
    ALL,
    DEFAULT,
    Done,
    Failed,
    Found,
    FoundMany,
    Get,
    GetMany,
    Listed,
    ListKeys,
    Message,
    Put,
)
from dyno.wire.rows import pack_row, unpack_row
from tests.protocol.stories.cluster_harness import on_disk

Simulate = Callable[..., Simulation]

LINKS_PER_NODE = 4
STEP_S = 0.005
WARM_S = 2.5  # until every node knows how fast its disk is
VALUE = b"x" * 1000


class Load:
    """Requests for keys of their own (or, for reads, of 1000) over links to all nodes, as no session would
    send them: refused ones are not sent again. Only what is answered after WARM_S counts."""

    def __init__(self, sim: Simulation, *, w: int = DEFAULT, reads: float = 0.0) -> None:
        self.sim = sim
        self.w = w
        self.reads = reads
        self.done: list[float] = []  # seconds until the answer
        self.refused: list[float] = []
        self.failed: list[Failed] = []
        self.stored: list[bytes] = []  # keys of all writes that were acknowledged, from the first on
        self.sizes: list[int] = []  # of all queues of all nodes, the longest one, step by step
        self._random = Random(7)
        self._links: list[Stranger] = [
            sim.stranger(name) for name in sim.machines for _ in range(LINKS_PER_NODE)
        ]
        self._heard = [1] * len(self._links)
        self._asked: dict[int, tuple[float, Get | Put]] = {}
        self._again: list[tuple[float, int]] = []  # when, over which link
        self._last_id = 0
        self._began = sim.now

    def open_loop(self, per_s: float, seconds: float) -> float:
        """Requests come whatever becomes of those before. Gives how many a second were done."""
        due = 0.0
        while self.sim.now - self._began < seconds:
            due += per_s * STEP_S
            for _ in range(int(due)):
                self._ask(self._random.randrange(len(self._links)))
            due -= int(due)
            self._step(again=False)
        return len(self.done) / (seconds - WARM_S)

    def closed_loop(self, callers: int, seconds: float) -> float:
        """So many callers, each of which asks again when it is answered, or when it was told to."""
        for number in range(callers):
            self._ask(number % len(self._links))
        while self.sim.now - self._began < seconds:
            self._step(again=True)
        return len(self.done) / (seconds - WARM_S)

    def settle(self) -> None:
        """Nobody asks any more: every answer that is still owed comes."""
        self.sim.run_for(10)
        self._step(again=False)
        assert not self._asked

    def _ask(self, link: int) -> None:
        number = self._last_id = self._last_id + 1
        request: Get | Put
        if self._random.random() < self.reads:
            request = Get(number, "bucket", b"%d" % (number % 1000), DEFAULT, DEFAULT, 5000, False)
        else:
            key, identity = b"key %d" % number, b"%016d" % number
            request = Put(number, "bucket", key, VALUE, b"", False, self.w, DEFAULT, identity, 5000, False)
        self._asked[number] = (self.sim.now, request)
        self._links[link].send(request)

    def _step(self, *, again: bool) -> None:
        while self._again and self._again[0][0] <= self.sim.now:
            self._ask(heappop(self._again)[1])
        self.sim.run_for(STEP_S)
        for number, link in enumerate(self._links):
            assert link.closed is None
            for answer in link.heard[self._heard[number] :]:
                assert isinstance(answer, Done | Found | Failed)
                self._hear(answer)
                if again:
                    at = self.sim.now
                    if isinstance(answer, Failed):
                        at += answer.retry_after_ms / 1000
                    heappush(self._again, (at, number))
            self._heard[number] = len(link.heard)
        self.sizes.append(max(queue for machine in self.sim.machines.values() for queue in queues(machine)))

    def _hear(self, answer: Done | Found | Failed) -> None:
        asked_at, request = self._asked.pop(answer.id)
        if isinstance(answer, Done):
            self.stored.append(request.key)
        if self.sim.now - self._began < WARM_S:
            return
        if not isinstance(answer, Failed):
            self.done.append(self.sim.now - asked_at)
        elif answer.code == "overloaded":
            assert not answer.indeterminate
            assert answer.retry_after_ms >= 100
            self.refused.append(self.sim.now - asked_at)
        else:
            self.failed.append(answer)


def queues(machine: Machine) -> list[int]:
    """How much waits in a node: for its disk, for answers of others, in line before slow reads."""
    node = machine.node
    gathering, coordinator = node._replica._gathering, node._coordinator
    return [
        len(gathering.writes),
        gathering.waiting // 3,  # a put of its own, and copies for others
        len(coordinator.writes.replication._puts)
        + len(coordinator.reads._gets)
        + len(coordinator._forwardings),
        len(coordinator.reads._retries) + len(coordinator.writes.replication._retries),
        node.read_line.waiting,
    ]


def loaded(simulate: Simulate, *, record_s: float = 0.001, read_s: float = 0.0, **load: float) -> Load:
    """Three nodes whose engines do 1,000 records a second."""
    sim = simulate(3, events_kept=0)
    for machine in sim.machines.values():
        machine.commit_s = (0.0005, 0.001)
        machine.seconds_per_record = record_s
        machine.seconds_per_read = read_s
    made = Load(sim, **load)  # type: ignore[arg-type]
    sim.run_for(0.1)
    made._began = sim.now
    return made


def p99(seconds: list[float]) -> float:
    return sorted(seconds)[int(len(seconds) * 0.99)] if seconds else math.nan


def assert_flat(sizes: list[int], most: int) -> None:
    """Bounded while nobody knows yet how slow the disks are, and shorter from then on."""
    assert max(sizes) < 2500
    assert max(sizes[int(WARM_S / STEP_S) :]) < most


def test_ten_times_the_writes_that_the_disks_take_leave_the_throughput_where_it_was(
    simulate: Simulate,
) -> None:
    peak = 0.0
    for rate in (800, 1000, 1200):
        peak = max(peak, loaded(simulate).open_loop(rate, 5.0))
    assert 900 < peak < 1300
    load = loaded(simulate)
    assert load.open_loop(10 * peak, 5.5) >= 0.8 * peak
    assert len(load.refused) > 5 * len(load.done)
    assert p99(load.refused) < 0.03
    assert p99(load.done) < 1.1
    assert len(load.failed) < 0.005 * len(load.done)
    assert_flat(load.sizes, 1200)
    load.settle()
    for key in load.stored[:: len(load.stored) // 200]:
        assert sum(bool(copy) for copy in on_disk(load.sim, key).values()) >= 2


def test_ten_times_the_callers_see_the_same(simulate: Simulate) -> None:
    peak = loaded(simulate).closed_loop(240, 5.0)
    load = loaded(simulate)
    assert load.closed_loop(2400, 10.0) >= 0.8 * peak
    assert p99(load.refused) < 0.03
    assert len(load.failed) < 0.005 * len(load.done)
    assert_flat(load.sizes, 1600)


def test_ten_times_the_reads_that_slow_disks_take(simulate: Simulate) -> None:
    peak = 0.0
    for rate in (1200, 1500, 1800):
        peak = max(peak, loaded(simulate, read_s=0.001, reads=1.0).open_loop(rate, 4.0))
    assert 1200 < peak < 1600  # each takes two of the three disks
    load = loaded(simulate, read_s=0.001, reads=1.0)
    assert load.open_loop(10 * peak, 4.0) >= 0.8 * peak
    assert p99(load.refused) < 0.03
    assert max(load.done) < 1.0
    assert not load.failed
    assert_flat(load.sizes, 800)


def test_ten_times_the_reads_and_writes_that_slow_disks_take(simulate: Simulate) -> None:
    peak = 0.0
    for rate in (900, 1100, 1300):
        peak = max(peak, loaded(simulate, read_s=0.001, reads=0.5).open_loop(rate, 4.0))
    load = loaded(simulate, read_s=0.001, reads=0.5)
    assert load.open_loop(10 * peak, 4.0) >= 0.8 * peak
    assert p99(load.refused) < 0.03
    assert len(load.failed) < 0.005 * len(load.done)
    assert_flat(load.sizes, 2000)


def test_one_disk_of_three_that_reads_slowly_is_left_out(simulate: Simulate) -> None:
    load = loaded(simulate, read_s=0.0002, reads=1.0)
    load.sim.machines["n3"].seconds_per_read = 0.02
    assert load.open_loop(900, 5.0) > 0.95 * 600  # all that are asked of the others
    assert not load.failed
    assert_flat(load.sizes, 400)


def test_reads_of_many_keys_and_listings_past_what_slow_disks_take_are_refused(simulate: Simulate) -> None:
    load = loaded(simulate, read_s=0.001)
    strangers = [load.sim.stranger(name) for name in load.sim.machines]
    load.sim.run_for(0.1)
    heard: list[Message] = []
    for turn in range(400):
        keys = pack_row([b"key %d" % number for number in range(turn % 64 + 1)])
        for stranger in strangers:
            stranger.send(GetMany(2 * turn, "bucket", keys, DEFAULT, DEFAULT, 5000))
            page = ListKeys(2 * turn + 1, "bucket", turn % 64, b"", 100, DEFAULT, DEFAULT, 5000, False)
            stranger.send(page)
        load.sim.run_for(STEP_S)
        assert max(queue for machine in load.sim.machines.values() for queue in queues(machine)) < 1000
    load.sim.run_for(10)
    for stranger in strangers:
        assert stranger.closed is None
        assert len(stranger.heard) == 1 + 2 * 400
        heard += stranger.heard[1:]
    refused = [answer for answer in heard if isinstance(answer, Failed)]
    assert {answer.code for answer in refused} == {"overloaded"}
    assert sum(isinstance(answer, Listed) for answer in heard) > 50
    found = [answer for answer in heard if isinstance(answer, FoundMany)]
    records = [record for many in found for record in unpack_row(many.records, items_max=64)]
    assert len(found) > 100
    assert records.count(b"") > 0.75 * len(records)


def test_one_slow_disk_of_three_falls_behind_alone(simulate: Simulate) -> None:
    load = loaded(simulate)
    load.sim.machines["n3"].seconds_per_record = 0.01
    assert load.open_loop(3000, 5.0) > 850
    assert len(load.failed) < 0.005 * len(load.done)
    assert_flat(load.sizes, 2000)


def test_two_slow_disks_of_three_set_the_pace_and_hardly_a_write_is_begun_in_vain(
    simulate: Simulate,
) -> None:
    load = loaded(simulate)
    for name in ("n2", "n3"):
        load.sim.machines[name].seconds_per_record = 0.01
    load.open_loop(150, 4.0)
    assert load.open_loop(1000, 10.0) > 80
    assert len(load.failed) < 0.05 * len(load.done)
    assert_flat(load.sizes, 800)


def test_writes_that_need_every_disk_go_at_the_slowest_ones_pace(simulate: Simulate) -> None:
    load = loaded(simulate, w=ALL)
    load.sim.machines["n3"].seconds_per_record = 0.002
    assert load.open_loop(3000, 5.0) > 400
    assert len(load.failed) < 0.05 * len(load.done)


def test_an_fsync_that_hangs_for_a_moment_has_nobody_refused(simulate: Simulate) -> None:
    load = loaded(simulate, record_s=0.00002)

    def hang(seconds: float) -> None:
        for machine in load.sim.machines.values():
            machine.commit_s = (seconds, seconds)

    load.open_loop(2000, 3.0)
    hang(0.2)
    load.open_loop(2000, 3.0 + STEP_S)  # what is committed from now on takes as long
    hang(0.002)
    load.open_loop(2000, 4.0)
    assert load.refused == []
    assert load.failed == []
    assert 0.2 < max(load.done) < 0.5


@pytest.mark.parametrize("commit_s", [(0.002, 0.01), (0.01, 0.04)])
def test_a_burst_after_a_quiet_time_has_nobody_refused(
    simulate: Simulate, commit_s: tuple[float, float]
) -> None:
    load = loaded(simulate, record_s=0.00003)
    for machine in load.sim.machines.values():
        machine.commit_s = commit_s
    load.open_loop(300, 3.0)
    load.open_loop(3000 / STEP_S, 3.0 + 2 * STEP_S)
    load.settle()
    assert load.refused == []
    assert load.failed == []
    assert len(load.done) > 3000
