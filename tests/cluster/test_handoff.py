"""What a killed node missed is handed over to it when it is back, by hints alone: real processes, kill -9."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
import trio

import dyno
from dyno.simulator.history import Key
from tests.cluster.faults.disks import look
from tests.cluster.faults.node import FaultyNode
from tests.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.cluster

WRITES = 10_000
BATCH = 500
# Copies are not compared, so nothing but handoff brings anything back.
CONFIG = "exchange_interval_s = 86400.0\n"


@pytest.fixture
def five(tmp_path: Path) -> Iterator[list[FaultyNode]]:
    addresses = [f"127.0.0.1:{port}" for port in free_ports(5)]
    with ExitStack() as stack:
        lifeline, keep = os.pipe()
        stack.callback(os.close, lifeline)
        stack.callback(os.close, keep)
        nodes = []
        for number, address in enumerate(addresses):
            node = FaultyNode(
                f"n{number + 1}",
                address=address,
                path=tmp_path,
                join=[other for other in addresses if other != address],
                words=(),
                lifeline=lifeline,
                own_disk=False,
                founds=number == 0,
                config=CONFIG,
            )
            stack.callback(node.close)
            nodes.append(node)
            node.start()
        yield nodes


def status(at: str, *words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "dyno", "status", "--json", "--node", at, *words]
    ended = subprocess.run(command, capture_output=True, timeout=120, check=True)
    facts: dict[str, Any] = json.loads(ended.stdout)
    return facts


async def all_alive(nodes: list[FaultyNode]) -> None:
    """As each of them sees it."""
    with trio.fail_after(60):
        for node in nodes:
            alive: list[str] = []
            while len(alive) < len(nodes):
                await trio.sleep(0.1)
                try:
                    async with dyno.connect(node.address) as client:
                        members = (await client.status())["members"]
                except dyno.ConnectFailed:
                    continue
                alive = [member["name"] for member in members if member["liveness"] == "alive"]


async def test_a_killed_node_gets_all_that_it_missed_by_handoff_alone(five: list[FaultyNode]) -> None:
    *others, gone = five
    await all_alive(five)
    keys = [f"key{number}" for number in range(WRITES)]
    async with dyno.connect(*[node.address for node in others], timeout=30) as client:
        bucket = client.bucket("handed")
        gone.kill()
        for at in range(0, WRITES, BATCH):
            results = await bucket.put_many({key: key for key in keys[at : at + BATCH]}, w=2)
            assert [result.error for result in results.values()] == [None] * BATCH
        kept = status(others[0].address)
        assert list(kept["hints_for"]) == ["n5"]
        # A share of three fifths; whoever was told of a write had no hint to wait for.
        assert 0.4 * WRITES < kept["hints_for"]["n5"] < 0.8 * WRITES
        gone.start()
        await all_alive(five)
    drained = status(others[0].address, "--wait-drained")
    assert (drained["hints_for"], drained["unheard"]) == ({}, [])
    for node in others:
        assert node.stop() == 0
    async with dyno.connect(gone.address, timeout=30) as client:
        read = {}
        for at in range(0, WRITES, BATCH):
            read |= await client.bucket("handed").get_many(keys[at : at + BATCH], r=1, sloppy=False)
    assert gone.stop() == 0
    found = look({node.name: node.directory for node in five}, [Key("handed", key) for key in keys])
    assert found.left == []
    held = 0
    for key, copies in found.copies.items():
        owners = [name for name, record in copies.items() if record]
        assert len(owners) == 3, (key, owners)
        assert len({copies[name] for name in owners}) == 1, key
        if "n5" in owners:
            held += 1
            assert read[key.key].value == key.key  # by the only node that was left
        else:
            assert isinstance(read[key.key].error, dyno.QuorumNotMet)
    assert held >= kept["hints_for"]["n5"], "a put goes on after its client was answered"
