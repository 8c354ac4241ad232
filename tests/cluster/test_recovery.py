"""What a node lost comes back from the others while nobody reads it: real processes, real disks.

The disks are read beside the nodes (`faults.glimpse`), so nothing here can be the work of read repair.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

import dyno
from tests.cluster.conftest import Processes
from tests.cluster.faults import plan
from tests.cluster.faults.__main__ import figures
from tests.cluster.faults.glimpse import CORRUPT, glimpses, rot
from tests.cluster.faults.trial import Options, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cluster.faults.glimpse import Glimpse

pytestmark = pytest.mark.cluster

KEYS = [f"key{number}" for number in range(1500)]
WITHIN_S = 60.0


@pytest.fixture
def four(tmp_path: Path) -> Iterator[Processes]:
    """Four nodes that serve."""
    processes = Processes(tmp_path, 4)
    try:
        processes.start()
        yield processes
    finally:
        processes.kill()


async def fill(client: dyno.Client, *, turn: int = 0, w: int = 3) -> None:
    values = {key: f"{turn}:{key}" for key in KEYS}
    bucket = client.bucket("b")
    found = await bucket.get_many(KEYS)
    contexts = {key: record.context for key, record in found.items()}
    stored = await bucket.put_many(values, contexts=contexts, w=w)
    assert [result.error for result in stored.values()] == [None] * len(KEYS)


async def until(check: Callable[[], bool]) -> None:
    """Something that only other processes can bring about."""
    with trio.fail_after(WITHIN_S):
        while not check():
            await trio.sleep(0.1)


def are_equal(disks: list[Glimpse]) -> bool:
    """Whether all disks have the same sound records."""
    one, *others = [disk.records("b") for disk in disks]
    return b"" not in one.values() and all(other == one for other in others)


def have_three_equal_copies(disks: list[Glimpse]) -> bool:
    """Every record that is on any of the disks."""
    copies: dict[bytes, list[bytes]] = {}
    for disk in disks:
        for slot, record in disk.records("b").items():
            copies.setdefault(slot, []).append(record)
    return all(len(of_one) == 3 == of_one.count(of_one[0]) for of_one in copies.values())


async def test_a_wiped_node_holds_everything_again_with_nobody_reading(three: Processes) -> None:
    async with dyno.connect(*three.addresses, timeout=10) as client:
        await fill(client)
        three.nodes[2].kill()
        three.nodes[2].wipe()
        three.nodes[2].start()
        with glimpses([node.data for node in three.nodes]) as disks:
            assert len(disks[0].records("b")) == len(KEYS)
            await until(lambda: are_equal(disks))
        with trio.fail_after(WITHIN_S):
            while any(replica["weak"] for replica in (await client.explain("b", KEYS[0]))["replicas"]):
                await trio.sleep(0.1)


async def test_a_node_that_was_away_holds_what_it_missed_with_nobody_reading(three: Processes) -> None:
    async with dyno.connect(*three.addresses, timeout=10) as client:
        await fill(client)
        three.nodes[2].kill()
        await fill(client, turn=1, w=2)
        three.nodes[2].start()
        with glimpses([node.data for node in three.nodes]) as disks:
            await until(lambda: are_equal(disks))


async def test_corrupt_records_are_found_and_healed_with_nobody_reading(three: Processes) -> None:
    async with dyno.connect(*three.addresses, timeout=10) as client:
        await fill(client)
        node = three.nodes[2]
        with glimpses([node.data]) as (disk,):
            before = disk.records("b")
        node.kill()
        rotten = rot(node.data, "b", share=10)
        assert len(rotten) == len(KEYS) // 10
        with glimpses([node.data]) as (disk,):
            assert [slot for slot, record in disk.records("b").items() if record == CORRUPT] == rotten
        node.start()
        with glimpses([node.data]) as (disk,):
            await until(lambda: disk.records("b") == before)
    assert node.log.read_text().count("was corrupt and is healed") == len(rotten)


async def test_a_corrupt_record_is_never_served(three: Processes) -> None:
    """Not by the node that has it, however few copies are asked for, nor once it may not be healed."""
    async with dyno.connect(*three.addresses, timeout=10) as client:
        await fill(client)
        one, other, node = three.nodes
        node.kill()
        rot(node.data, "b", share=1)
        other.kill()  # so that nothing can be healed
        node.start()
        async with dyno.connect(node.address, timeout=10) as alone:
            for key in KEYS[:100]:
                assert (await alone.bucket("b").get(key, r=1, sloppy=True)).siblings == [f"0:{key}"]
            one.kill()
            with pytest.raises(dyno.DynoError):
                await alone.bucket("b").get(KEYS[0], r=1, timeout=1)


def test_half_of_the_nodes_killed_at_once_again_and_again_lose_nothing() -> None:
    outcome = run(Options(seed=33, nodes=4, seconds=6.0, kinds=(plan.HALF,), loopback=True))
    assert outcome.violations == [], "\n".join(figures(outcome))
    assert outcome.acknowledged > 100
    assert outcome.starts == 4 + 2 * outcome.faults[plan.HALF] > 4


def test_a_disk_that_rots_loses_nothing_and_shows_nothing_wrong() -> None:
    outcome = run(Options(seed=165, nodes=3, seconds=6.0, kinds=(plan.KILL, plan.ROT), loopback=True))
    assert outcome.violations == [], "\n".join(figures(outcome))
    assert outcome.acknowledged > 100
    assert outcome.faults[plan.ROT] == 1


async def test_half_of_the_nodes_killed_under_load_are_equal_again_with_nobody_reading(
    four: Processes,
) -> None:
    acknowledged: dict[bytes, bool] = {}
    is_over = False

    async def writer(client: dyno.Client, number: int) -> None:
        """Every key once, so what was acknowledged is what has to be there."""
        turn = 0
        while not is_over:
            turn += 1
            key = f"{number}-{turn}"
            try:
                await client.bucket("b").put(key, key)
            except dyno.DynoError:
                continue  # nobody was told that it was done
            acknowledged[key.encode()] = True

    async with dyno.connect(*four.addresses, timeout=5) as client, trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(writer, client, number)
        await until(lambda: len(acknowledged) > 500)
        for node in four.nodes[2:]:
            node.kill()
        before = len(acknowledged)
        await until(lambda: len(acknowledged) > before + 100)
        for node in four.nodes[2:]:
            node.launch()
        for node in four.nodes[2:]:
            await trio.to_thread.run_sync(node.wait_ready)
        before = len(acknowledged)
        await until(lambda: len(acknowledged) > before + 100)
        is_over = True
    with glimpses([node.data for node in four.nodes]) as disks:
        await until(lambda: have_three_equal_copies(disks))
        there: dict[bytes, bytes] = {}
        for disk in disks:
            there.update(disk.keys("b"))
        assert acknowledged.keys() <= dict.fromkeys(there.values()).keys()
