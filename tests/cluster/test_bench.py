"""`dyno bench` against three real nodes."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.cluster.conftest import Processes

pytestmark = pytest.mark.cluster

WITHIN_S = 60.0
BENCH = (sys.executable, "-m", "dyno", "bench", "--records", "200", "--value-bytes", "100", "--clients", "16")


def measured(three: Processes, *words: str) -> dict[str, Any]:
    ended = subprocess.run(
        [*BENCH, "--json", "--node", three.addresses[0], *words],
        capture_output=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    facts: dict[str, Any] = json.loads(ended.stdout)
    return facts


def test_each_workload_has_its_operations_and_all_their_figures(three: Processes) -> None:
    for workload, kinds in {"a": ["read", "update"], "d": ["read", "insert"], "f": ["read", "rmw"]}.items():
        facts = measured(three, "--workload", workload, "--seconds", "1")
        assert list(facts) == [*kinds, "run"]
        for kind in kinds:
            figures = facts[kind]
            assert figures["count"] > 0
            assert figures["ops_per_s"] == pytest.approx(
                figures["count"] / facts["run"]["elapsed_s"], rel=0.01
            )
            assert 0 < figures["p50_ms"] <= figures["p95_ms"] <= figures["p99_ms"] <= figures["p999_ms"]
        run = facts["run"]
        assert run["errors"] == {}
        assert run["operations"] == sum(facts[kind]["count"] for kind in kinds)
        assert run["elapsed_s"] >= 1.0
        assert 0 < run["client_cpu_us_per_op"] < 1e6
        assert (run["workload"], run["clients"], run["records"]) == (workload, 16, 200)


def test_ctrl_c_ends_a_run_with_130_and_leaves_the_terminal_as_it_was(three: Processes) -> None:
    ours, its = os.openpty()
    process = subprocess.Popen(
        [*BENCH, "--seconds", "600", "--node", three.addresses[0]],
        stdout=subprocess.PIPE,
        stderr=its,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80"},
    )
    os.close(its)
    try:
        shown = read_until(ours, b"of 600 s")
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=WITHIN_S)
        assert (process.returncode, out) == (130, b"")
        shown += read_until_closed(ours)
    finally:
        process.kill()
        process.communicate()
        os.close(ours)
    assert b"Traceback" not in shown
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")  # the cursor is back
    assert shown.endswith(b"\x1b[2K")  # and the line gone


def read_until(descriptor: int, text: bytes) -> bytes:
    end = time.monotonic() + WITHIN_S
    shown = b""
    while text not in shown:
        readable, _, _ = select.select([descriptor], [], [], max(0.0, end - time.monotonic()))
        assert readable, shown
        shown += os.read(descriptor, 1 << 16)
    return shown


def read_until_closed(descriptor: int) -> bytes:
    shown = b""
    try:
        while more := os.read(descriptor, 1 << 16):
            shown += more
    except OSError:  # how a pty says that its other end is closed
        pass
    return shown
