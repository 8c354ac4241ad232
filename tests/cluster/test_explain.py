"""`dyno explain` and `dyno status --wait-drained` against real nodes, by hand: right and wrong words,
siblings, tombstones, a node that is down, a node that hangs, no node at all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import dyno
from tests.cluster.conftest import wait_until
from tests.ports import free_ports

if TYPE_CHECKING:
    from tests.cluster.conftest import Processes

pytestmark = pytest.mark.cluster


def run(*words: str, at: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dyno", *words, "--node", at]
    environment = {name: value for name, value in os.environ.items() if name != "DYNO_NODES"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)


def explained(key: str, at: str) -> dict[str, Any]:
    ended = run("explain", "b", key, "--json", at=at)
    assert (ended.returncode, ended.stderr) == (0, "")
    facts: dict[str, Any] = json.loads(ended.stdout)
    return facts


def states(facts: dict[str, Any]) -> dict[str, str]:
    return {r["node"]: r["copy"]["state"] if r["copy"] else r["reach"] for r in facts["replicas"]}


def liveness(name: str, at: str) -> str:
    members = json.loads(run("status", "--json", at=at).stdout)["members"]
    return next(member["liveness"] for member in members if member["name"] == name)


def test_what_three_nodes_hold_of_a_key(three: Processes) -> None:
    one, other = three.addresses[:2]
    assert states(explained("k", one)) == {"n1": "absent", "n2": "absent", "n3": "absent"}
    for value in ("milk", "bread"):
        assert run("put", "b", "k", value, "-w", "all", at=one).returncode == 0
    facts, others = explained("k", one), explained("k", other)
    assert facts["agree"]
    for replica in (*facts["replicas"], *others["replicas"]):
        del replica["compared_s"]  # seconds
    assert facts == others, "whoever is asked"
    for replica in facts["replicas"]:
        assert sorted(sibling["value"] for sibling in replica["copy"]["siblings"]) == ["bread", "milk"]
    assert run("delete", "b", "k", "-w", "all", at=one).returncode == 0
    assert all(replica["copy"]["tombstone"] for replica in explained("k", other)["replicas"])
    shown = run("explain", "b", "k", at=one)
    assert [line.split()[2] for line in shown.stdout.splitlines()[2:5]] == ["tombstone"] * 3


def test_a_node_that_hangs_and_one_that_is_down(three: Processes) -> None:
    one = three.addresses[0]
    assert run("put", "b", "k", "v", "-w", "all", at=one).returncode == 0
    three.nodes[2].signal(signal.SIGSTOP)
    try:
        assert states(explained("k", one)) == {"n1": "held", "n2": "held", "n3": "silent"}
        facts = json.loads(run("status", "--json", at=one).stdout)
        assert facts["unheard"] == ["n3"]
    finally:
        three.nodes[2].signal(signal.SIGCONT)
    three.nodes[2].kill()
    wait_until(lambda: states(explained("k", one))["n3"] == "unreachable")
    assert not explained("k", one)["agree"]
    three.nodes[2].start()
    wait_until(lambda: states(explained("k", one))["n3"] == "held")


def test_waiting_for_hints_that_nobody_keeps(three: Processes) -> None:
    one = three.addresses[0]
    ended = run("status", "--wait-drained", at=one)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[0].endswith("3 of 3 members alive")
    three.nodes[1].kill()
    wait_until(lambda: liveness("n2", one) == "dead")
    assert run("status", "--wait-drained", at=one).returncode == 0, "what waits for the dead does not count"


def test_ctrl_c_ends_the_wait_for_a_node_that_does_not_answer(three: Processes) -> None:
    three.nodes[1].signal(signal.SIGSTOP)
    command = [sys.executable, "-m", "dyno", "status", "--wait-drained", "--node", three.addresses[0]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as waiting:
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                waiting.wait(1.5)
            waiting.send_signal(signal.SIGINT)
            assert waiting.communicate(timeout=30) == (b"", b"")
            assert waiting.returncode == 130
        finally:
            three.nodes[1].signal(signal.SIGCONT)
            waiting.kill()


async def test_the_same_in_python(three: Processes) -> None:
    async with dyno.connect(*three.addresses) as client:
        await client.bucket("b").put("k", {"a": 1}, w=3)
        facts = await client.explain("b", "k")
        assert [r["copy"]["siblings"][0]["value"] for r in facts["replicas"]] == [{"a": 1}] * 3
        await client.hints_drained(timeout=30)


def test_wrong_words_and_no_cluster(three: Processes) -> None:
    nowhere = f"127.0.0.1:{free_ports(1)[0]}"
    for words, at, code in (
        (("explain", "b"), three.addresses[0], 2),
        (("explain", "b" * 65, "k"), three.addresses[0], 2),
        (("explain", "b", "k" * 1025), three.addresses[0], 2),
        (("explain", "b", "k"), "nowhere", 2),
        (("explain", "b", "k"), nowhere, 5),
        (("status", "--wait-drained"), nowhere, 5),
        (("status", "--wait-drained", "n1"), three.addresses[0], 2),
    ):
        ended = run(*words, at=at)
        assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (code, "", 1), (words, ended)
