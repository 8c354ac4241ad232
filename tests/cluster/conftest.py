"""Real node processes on loopback, each ended by its own id whatever happens to the test."""

from __future__ import annotations

import selectors
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.ports import free_ports

READY_WITHIN_S = 30.0


class NodeProcess:
    """One `dyno node`. start, kill (-9) and stop (SIGTERM) as often as a test likes."""

    def __init__(self, name: str, port: int, data: Path, join: Sequence[str]) -> None:
        self.name = name
        self.address = f"127.0.0.1:{port}"
        self.data = data
        self._join = join
        self._process: subprocess.Popen[str] | None = None
        self.log = data.parent / f"{name}.log"

    def launch(self) -> None:
        command = [sys.executable, "-m", "dyno", "node", "--name", self.name, "--listen", self.address]
        command += ["--data", str(self.data), "--log-level", "debug"]
        for address in self._join:
            command += ["--join", address]
        with self.log.open("a") as log:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)

    def wait_ready(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(READY_WITHIN_S):
                raise AssertionError(f"{self.name} is not ready; its log:\n{self.log.read_text()}")
        line = self._process.stdout.readline()
        assert line == f"dyno: {self.name} ready on {self.address}\n", (line, self.log.read_text())

    def start(self) -> None:
        self.launch()
        self.wait_ready()

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def wipe(self) -> None:
        """The process must not run."""
        assert self._process is None
        shutil.rmtree(self.data)

    def stop(self) -> int:
        """A clean stop; its exit code."""
        assert self._process is not None
        self._process.terminate()
        code = self._process.wait(timeout=20)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None
        return code


class Processes:
    """A cluster of nodes n1, n2, … that join through the ones before them."""

    def __init__(self, path: Path, count: int) -> None:
        ports = free_ports(count)
        self.addresses = [f"127.0.0.1:{port}" for port in ports]
        self.nodes = [
            NodeProcess(f"n{i + 1}", port, path / f"n{i + 1}", self.addresses[:i])
            for i, port in enumerate(ports)
        ]

    def start(self) -> None:
        """All at once: the first founds, the others wait for it."""
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            node.wait_ready()

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Processes]:
    """Three nodes that serve."""
    processes = Processes(tmp_path, 3)
    try:
        processes.start()
        yield processes
    finally:
        processes.kill()


def wait_until(check: object, *, within_s: float = 20.0) -> None:
    """Poll something that only other processes can bring about."""
    assert callable(check)
    end = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
