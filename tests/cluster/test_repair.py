"""`dyno repair` against real nodes: nothing to do, a node that missed writes, one that hangs, Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import dyno
from tests.cluster.conftest import wait_until
from tests.cluster.test_explain import run, states

if TYPE_CHECKING:
    from tests.cluster.conftest import Processes

pytestmark = pytest.mark.cluster


async def test_a_node_that_missed_writes_has_them_when_it_is_done(three: Processes) -> None:
    one = three.addresses[0]
    three.nodes[2].kill()
    async with dyno.connect(one) as client:
        await client.bucket("b").put_many({f"k{number}": number for number in range(50)})
        three.nodes[2].start()
        async for _ in client.bucket("b", r=2).keys():
            pass
        seen = []
        progress = await client.repair("b", told=seen.append, timeout=60)
        assert progress["done"]
        assert seen[-1] == progress
        repairs = (await client.status())["repairs"]
    assert sorted(repairs) == ["n1", "n2", "n3"]
    assert all(seconds is not None for seconds in repairs["n1"]["compared_s"].values())
    ended = run("explain", "b", "k7", "--json", at=one)
    assert set(states(json.loads(ended.stdout)).values()) == {"held"}
    ended = run("repair", "--json", at=one)
    assert (ended.returncode, ended.stderr) == (0, "")
    told = json.loads(ended.stdout)
    assert (told["pairs"], told["compared"], told["keys"], told["aside"]) == (3, 3, 150, 0)


def test_a_node_that_hangs_is_named_and_ctrl_c_ends_it(three: Processes) -> None:
    one = three.addresses[0]
    assert run("put", "b", "k", "v", "-w", "all", at=one).returncode == 0
    three.nodes[2].signal(signal.SIGSTOP)
    try:
        command = [sys.executable, "-m", "dyno", "repair", "--node", one]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as waiting:
            with pytest.raises(subprocess.TimeoutExpired):
                waiting.wait(2)
            waiting.send_signal(signal.SIGINT)
            assert waiting.communicate(timeout=30) == (b"", b"")
            assert waiting.returncode == 130
        ended = run("repair", at=one)
        assert ended.returncode == 4
        assert ended.stderr.startswith("dyno: not all copies could be compared (n3: ")
        assert ended.stdout.splitlines()[-1].startswith("all")
    finally:
        three.nodes[2].signal(signal.SIGCONT)
    wait_until(lambda: run("repair", at=one).returncode == 0)
