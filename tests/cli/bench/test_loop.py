from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest
import trio

from dyno.cli.bench.loop import FAILURE_PAUSE_S, ClosedLoop, Tally
from dyno.errors import InvalidRequest, Overloaded, QuorumNotMet
from dyno.workload.mixes import INSERT, MIXES, READ, RMW, UPDATE, Workload
from dyno.workload.payload import Payload

if TYPE_CHECKING:
    from trio.testing import MockClock

    from tests.cli.bench.conftest import Shelf


def clock() -> int:
    return round(trio.current_time() * 1e9)


def quorum_not_met() -> QuorumNotMet:
    return QuorumNotMet("one of two", needed=2, answered=1, nodes=("n1",), indeterminate=True)


class Run:
    """A loop on a shelf that holds the records."""

    def __init__(self, shelf: Shelf, mix: str, *, records: int = 20, clients: int = 8) -> None:
        self.tally = Tally(MIXES[mix].kinds)
        self.contexts: dict[str, bytes] = {}
        workload = Workload(MIXES[mix], records=records, random=Random(1), run="r")
        for key in workload.keys_to_load():
            shelf.fill(key, b"loaded")
        self.loop = ClosedLoop(
            shelf, workload, Payload(Random(2), 10), self.contexts, clients=clients, clock=clock
        )

    async def for_(self, seconds: float) -> Tally:
        await self.loop.run(seconds, self.tally)
        return self.tally


@pytest.mark.parametrize(
    ("mix", "kinds", "gets", "puts"),
    [
        ("b", (READ, UPDATE), (READ,), (UPDATE,)),
        ("c", (READ,), (READ,), ()),
        ("d", (READ, INSERT), (READ,), (INSERT,)),
        ("f", (READ, RMW), (READ, RMW), (RMW,)),
    ],
)
async def test_each_operation_is_what_it_says(
    shelf: Shelf,
    mix: str,
    kinds: tuple[str, ...],
    gets: tuple[str, ...],
    puts: tuple[str, ...],
    autojump_clock: MockClock,
) -> None:
    run = Run(shelf, mix)
    if mix == "b":  # as after loading
        for key in shelf.records:
            run.contexts[key] = (await shelf.get(key)).context
        shelf.gets.clear()
    tally = await run.for_(5.0)
    counts = {kind: histogram.count for kind, histogram in tally.latencies.items()}
    assert tuple(counts) == kinds
    assert min(counts.values()) > 0
    assert len(shelf.gets) == sum(counts[kind] for kind in gets)
    assert len(shelf.puts) == sum(counts[kind] for kind in puts)
    assert (tally.operations, tally.errors) == (sum(counts.values()), {})


async def test_so_many_callers_ask_at_once(shelf: Shelf, autojump_clock: MockClock) -> None:
    await Run(shelf, "c", clients=5).for_(1.0)
    assert shelf.under_way_most == 5


async def test_latencies_are_those_of_the_operations(shelf: Shelf, autojump_clock: MockClock) -> None:
    shelf.delay = lambda: 0.25
    tally = await Run(shelf, "f", clients=3).for_(10.0)
    assert tally.latencies[READ].percentile_ns(50) == pytest.approx(0.25e9, rel=0.004)
    assert tally.latencies[RMW].percentile_ns(99.9) == pytest.approx(0.5e9, rel=0.004)  # its two halves
    assert tally.elapsed_s == pytest.approx(10.0, abs=0.5)


async def test_what_began_in_time_is_waited_for_and_counted(shelf: Shelf, autojump_clock: MockClock) -> None:
    shelf.delay = lambda: 3.0
    tally = await Run(shelf, "c", clients=2).for_(4.0)
    assert tally.operations == 4
    assert tally.elapsed_s == pytest.approx(6.0)


@pytest.mark.parametrize("mix", ["a", "b", "f"])
async def test_siblings_of_a_hot_key_do_not_pile_up(
    shelf: Shelf, mix: str, autojump_clock: MockClock
) -> None:
    tally = await Run(shelf, mix, records=1, clients=16).for_(8.0)
    assert tally.operations > 5000
    assert 1 < shelf.siblings_most <= 16


async def test_one_caller_alone_makes_no_sibling(shelf: Shelf, autojump_clock: MockClock) -> None:
    tally = await Run(shelf, "a", clients=1).for_(30.0)
    assert tally.latencies[UPDATE].count > 100
    assert shelf.siblings_most == 1


async def test_a_key_of_which_nothing_is_known_is_read_before_it_is_updated(
    shelf: Shelf, autojump_clock: MockClock
) -> None:
    await Run(shelf, "a", records=100, clients=4).for_(10.0)
    assert all(b"loaded" not in shelf.values_of(key) for key in set(shelf.puts))


async def test_inserts_that_failed_are_not_read(shelf: Shelf, autojump_clock: MockClock) -> None:
    refused = set()

    def objection(what: str, key: str) -> Exception | None:
        if what == "put" and len(shelf.puts) % 2:
            refused.add(key)
            return quorum_not_met()
        return None

    shelf.objection = objection
    tally = await Run(shelf, "d").for_(20.0)
    assert tally.errors == {"QuorumNotMet": len(refused)}
    assert refused
    assert not refused & set(shelf.gets)
    assert any(key.endswith("-r") for key in shelf.gets)


async def test_failures_are_counted_by_kind_and_the_run_goes_on(
    shelf: Shelf, autojump_clock: MockClock
) -> None:
    errors = [quorum_not_met(), InvalidRequest("100 siblings"), quorum_not_met()]

    def objection(what: str, key: str) -> Exception | None:
        return errors.pop() if errors and what == "put" else None

    shelf.objection = objection
    tally = await Run(shelf, "a").for_(5.0)
    assert tally.errors == {"QuorumNotMet": 2, "InvalidRequest": 1}
    assert tally.failures == 3
    assert tally.operations > 1000
    assert isinstance(tally.last_error, QuorumNotMet)


async def test_a_key_whose_update_failed_is_read_before_it_is_written_again(
    shelf: Shelf, autojump_clock: MockClock
) -> None:
    failed: list[str] = []

    def objection(what: str, key: str) -> Exception | None:
        if what == "put" and not failed:
            failed.append(key)
            shelf.fill(key, b"kept all the same")  # by some replica
            shelf.gets.clear()
            return quorum_not_met()
        return None

    shelf.objection = objection
    run = Run(shelf, "a", records=1, clients=1)
    await run.for_(1.0)
    assert failed == ["user0"]
    assert shelf.gets
    assert b"kept all the same" not in shelf.values_of("user0")


async def test_an_overloaded_node_is_left_alone_for_as_long_as_it_asks(
    shelf: Shelf, autojump_clock: MockClock
) -> None:
    shelf.delay = lambda: 0.0
    shelf.objection = lambda what, key: Overloaded("too much", retry_after=2.0)
    tally = await Run(shelf, "c", clients=3).for_(9.0)
    assert tally.errors == {"Overloaded": 15}  # at 0, 2, 4, 6 and 8 seconds
    assert (tally.operations, tally.elapsed_s) == (0, pytest.approx(9.0))


async def test_no_other_failure_is_repeated_at_full_speed(shelf: Shelf, autojump_clock: MockClock) -> None:
    shelf.delay = lambda: 0.0
    shelf.objection = lambda what, key: quorum_not_met()
    tally = await Run(shelf, "c", clients=1).for_(1.0)
    assert tally.failures == pytest.approx(1.0 / FAILURE_PAUSE_S, abs=1)


async def test_a_read_that_finds_nothing_is_a_failure(shelf: Shelf, autojump_clock: MockClock) -> None:
    run = Run(shelf, "c", records=1, clients=1)
    shelf.records.clear()
    tally = await run.for_(1.0)
    assert list(tally.errors) == ["NotFound"]
    assert "user0" in str(tally.last_error)


async def test_a_bug_is_no_failure_to_count(shelf: Shelf, autojump_clock: MockClock) -> None:
    shelf.objection = lambda what, key: ZeroDivisionError()
    with pytest.raises(ExceptionGroup) as raised:
        await Run(shelf, "c").for_(1.0)
    assert raised.group_contains(ZeroDivisionError)


async def test_the_cpu_time_is_measured(shelf: Shelf, autojump_clock: MockClock) -> None:
    tally = await Run(shelf, "c").for_(5.0)
    assert 0 < tally.cpu_s < 60
