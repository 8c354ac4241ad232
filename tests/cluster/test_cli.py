"""The command line as people use it: real processes, shells, signals, kill -9.

Every process is ended by its own id, whatever happens to the test; waiting is for a line, an exit, or a state
that `dyno status` shows, each with a deadline.
"""

from __future__ import annotations

import json
import os
import queue
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.ports import free_ports

pytestmark = pytest.mark.cluster

WITHIN_S = 30.0
ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
DYNO = (sys.executable, "-m", "dyno")


class Program:
    """A process whose lines arrive in a queue."""

    def __init__(self, *words: str, shell: str | None = None, cwd: Path | None = None) -> None:
        self.process = subprocess.Popen(
            shell if shell is not None else [*DYNO, *words],
            shell=shell is not None,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
            cwd=cwd,
        )
        self.lines: list[str] = []
        self.complaints: list[str] = []
        self._new: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self.lines, True)),
            threading.Thread(target=self._read, args=(self.process.stderr, self.complaints, False)),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: IO[str], lines: list[str], tell: bool) -> None:
        for line in stream:
            lines.append(line.rstrip("\n"))
            if tell:
                self._new.put(lines[-1])

    def wait_for(self, text: str) -> str:
        """The next line that contains this."""
        end = time.monotonic() + WITHIN_S
        while True:
            try:
                line = self._new.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError((text, self.lines, self.complaints)) from None
            if text in line:
                return line

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        code = self.process.wait(WITHIN_S)
        for reader in self._readers:
            reader.join(WITHIN_S)
        return code

    def end(self) -> None:
        """Whatever state it is in."""
        self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join(WITHIN_S)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


class Cluster(Program):
    """`dyno cluster`, and the processes that it tells of."""

    def __init__(self, data: Path, base_port: int, *, nodes: int = 3) -> None:
        super().__init__(
            "cluster",
            "--nodes",
            str(nodes),
            "--base-port",
            str(base_port),
            "--data",
            str(data),
            cwd=data.parent,
        )
        self.addresses = [f"127.0.0.1:{base_port + number}" for number in range(nodes)]
        self.data = data
        self.pids: list[int] = []

    def wait_ready(self) -> None:
        self.wait_for(f"dyno: cluster of {len(self.addresses)} ready")
        self.wait_for("Ctrl-C")
        found = [re.fullmatch(r"  n\d+ +127\.0\.0\.1:\d+  pid (\d+)", line) for line in self.lines]
        self.pids = [int(match[1]) for match in found if match]
        assert len(self.pids) == len(self.addresses)

    def pasteable(self, words: str) -> str:
        """The line that was printed for people to paste, by the words in it."""
        (line,) = (line for line in self.lines if f"dyno {words}" in line)
        return line.strip()

    def end(self) -> None:
        # Before its own end, so that nothing is left even if children do outlive it.
        for pid in self.pids:
            if exists(pid):
                os.kill(pid, signal.SIGKILL)
        super().end()


def exists(pid: int) -> bool:
    """Whether this is a running `dyno node`."""
    try:
        return b"dyno" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def wait_gone(pids: list[int]) -> None:
    """Until these processes, which are not our children, have ended."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        readable, _, _ = select.select([descriptor], [], [], WITHIN_S)
        os.close(descriptor)
        assert readable, f"{pid} is still there"


def dyno(*words: str, at: str = "", given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    where = ("--node", at) if at else ()
    return subprocess.run(
        [*DYNO, *words, *where],
        input=given,
        capture_output=True,
        env=ENVIRONMENT,
        timeout=WITHIN_S,
        check=False,
    )


def in_another_shell(line: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    bare = {"PATH": os.environ["PATH"]}
    return subprocess.run(
        line, shell=True, cwd=cwd, env=bare, capture_output=True, timeout=WITHIN_S, check=False
    )


def until(check: Callable[[], bool]) -> None:
    """Poll what only other processes can bring about."""
    end = time.monotonic() + WITHIN_S
    while not check():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def liveness(address: str) -> dict[str, str]:
    ended = dyno("status", "--json", at=address)
    if ended.returncode != 0:
        return {}
    return {member["name"]: member["liveness"] for member in json.loads(ended.stdout)["members"]}


@pytest.fixture
def started() -> Iterator[Callable[[Program], Program]]:
    """Ends what a test started."""
    programs: list[Program] = []

    def remember(program: Program) -> Program:
        programs.append(program)
        return program

    yield remember
    for program in programs:
        program.end()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Three nodes that serve."""
    cluster = Cluster(tmp_path / "data", free_ports(3)[0])
    try:
        cluster.wait_ready()
        yield cluster
    finally:
        cluster.end()


def test_the_first_minute(cluster: Cluster, tmp_path: Path, started: Callable[[Program], Program]) -> None:
    for words, printed in (("put fruit", b""), ("get fruit", b"red\n")):
        ended = in_another_shell(cluster.pasteable(words), tmp_path)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, printed, b"")
    assert b"3 of 3 members alive" in in_another_shell(cluster.pasteable("status"), tmp_path).stdout

    os.kill(cluster.pids[1], signal.SIGKILL)
    assert f"n2 (pid {cluster.pids[1]}) was killed by SIGKILL" in cluster.wait_for("dyno: n2")
    restart = cluster.wait_for("--name n2").strip()
    one, two, _ = cluster.addresses
    assert dyno("put", "fruit", "pear", "green", at=one).returncode == 0
    assert dyno("get", "fruit", "apple", at=one).stdout == b"red\n"

    by_hand = started(Program(shell=f"exec env {restart}", cwd=tmp_path))
    by_hand.wait_for(f"dyno: n2 ready on {two}")
    until(lambda: liveness(one) == {"n1": "alive", "n2": "alive", "n3": "alive"})
    assert dyno("get", "fruit", "pear", "-r", "3", at=two).stdout == b"green\n"

    cluster.signal(signal.SIGTERM)
    assert cluster.wait() == 0
    wait_gone([cluster.pids[0], cluster.pids[2]])
    assert by_hand.process.poll() is None  # it is its user's
    by_hand.signal(signal.SIGINT)
    assert by_hand.wait() == 0
    assert by_hand.lines == [f"dyno: n2 ready on {two}"]
    assert (cluster.data / "n1").is_dir()


def test_siblings_of_two_writers(cluster: Cluster) -> None:
    one, two, three = cluster.addresses
    assert dyno("put", "carts", "alice", "milk", at=one).returncode == 0
    assert dyno("put", "carts", "alice", "-5", at=two).returncode == 0
    found = dyno("get", "carts", "alice", at=three)
    *siblings, context = found.stdout.decode().splitlines()
    assert (found.returncode, sorted(siblings), found.stderr) == (3, ["-5", "milk"], b"")
    token = context.removeprefix("context: ")
    resolved = dyno("put", "carts", "alice", "-", "--context", token, at=one, given=b"\x00\xff\n")
    assert (resolved.returncode, resolved.stdout, resolved.stderr) == (0, b"", b"")
    assert dyno("get", "carts", "alice", at=two).stdout == b"\x00\xff\n"
    assert dyno("get", "carts", "bob", at=two).returncode == 1
    refused = dyno("get", "carts", "alice", "-r", "4", at=one)
    assert (refused.returncode, refused.stderr.count(b"\n")) == (2, 1)


def test_more_writers_than_live_nodes(cluster: Cluster) -> None:
    one = cluster.addresses[0]
    os.kill(cluster.pids[2], signal.SIGKILL)
    cluster.wait_for("dyno: n3")
    ended = dyno("put", "b", "k", "v", "-w", "3", at=one)
    assert (ended.returncode, ended.stdout, ended.stderr.count(b"\n")) == (4, b"", 1)
    assert dyno("put", "b", "k", "v", "-w", "2", at=one).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_children_never_outlive_the_cluster(cluster: Cluster, number: signal.Signals) -> None:
    cluster.signal(number)
    assert cluster.wait() == (-9 if number == signal.SIGKILL else 0)
    wait_gone(cluster.pids)
    assert cluster.complaints == []


def test_a_frozen_child_does_not_hold_up_an_impatient_user(cluster: Cluster) -> None:
    os.kill(cluster.pids[0], signal.SIGSTOP)
    cluster.signal(signal.SIGINT)
    wait_gone(cluster.pids[1:])  # the first Ctrl-C has arrived
    cluster.signal(signal.SIGINT)
    assert cluster.wait() == 0
    wait_gone(cluster.pids)


def test_a_cluster_comes_back_after_kill_9_of_everything(
    cluster: Cluster, started: Callable[[Program], Program]
) -> None:
    one = cluster.addresses[0]
    assert dyno("put", "b", "k", "kept", "-w", "all", at=one).returncode == 0
    for pid in (cluster.process.pid, *cluster.pids):
        os.kill(pid, signal.SIGKILL)
    cluster.wait()
    wait_gone(cluster.pids)
    again = started(Cluster(cluster.data, int(one.rpartition(":")[2])))
    assert isinstance(again, Cluster)
    again.wait_ready()
    assert dyno("get", "b", "k", "-r", "all", at=again.addresses[2]).stdout == b"kept\n"


def test_a_first_node_that_lost_its_disk_joins_again(
    cluster: Cluster, started: Callable[[Program], Program]
) -> None:
    one = cluster.addresses[0]
    born = json.loads(dyno("status", "--json", at=one).stdout)["cluster"]
    cluster.signal(signal.SIGTERM)
    assert cluster.wait() == 0
    for file in (cluster.data / "n1").iterdir():
        file.unlink()
    again = started(Cluster(cluster.data, int(one.rpartition(":")[2])))
    assert isinstance(again, Cluster)
    again.wait_ready()
    assert json.loads(dyno("status", "--json", at=one).stdout)["cluster"] == born


def test_a_cluster_whose_last_node_died_says_so(
    tmp_path: Path, started: Callable[[Program], Program]
) -> None:
    cluster = started(Cluster(tmp_path / "data", free_ports(1)[0], nodes=1))
    assert isinstance(cluster, Cluster)
    cluster.wait_ready()
    os.kill(cluster.pids[0], signal.SIGKILL)
    cluster.wait_for("dyno: n1")
    cluster.wait_for("dyno: no node is left")
    assert cluster.wait() == 0


def test_a_port_in_use_starts_no_cluster(tmp_path: Path) -> None:
    first = free_ports(3)[0]
    with socket.create_server(("127.0.0.1", first + 1)):
        ended = dyno("cluster", "--base-port", str(first), "--data", str(tmp_path / "data"))
    assert (ended.returncode, ended.stdout, ended.stderr.count(b"\n")) == (2, b"", 1)
    assert f"n2 cannot listen on 127.0.0.1:{first + 1}".encode() in ended.stderr
    assert not (tmp_path / "data").exists()


def test_a_node_that_cannot_start_stops_the_others(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "n2").write_text("no directory")
    ended = dyno("cluster", "--base-port", str(free_ports(3)[0]), "--data", str(tmp_path / "data"))
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert b"dyno: n2 did not start: " in ended.stderr
    assert ended.stderr.count(b"\n") == 1


def node_words(data: Path, *, listen: str = "127.0.0.1:0") -> tuple[str, ...]:
    return ("node", "--name", "n1", "--listen", listen, "--data", str(data))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_node_says_one_line_and_stops_cleanly(
    number: signal.Signals, tmp_path: Path, started: Callable[[Program], Program]
) -> None:
    node = started(Program(*node_words(tmp_path / "n1")))
    address = node.wait_for("dyno: n1 ready on ").removeprefix("dyno: n1 ready on ")
    assert dyno("put", "b", "k", "v", at=address).returncode == 0
    node.signal(number)
    assert node.wait() == 0
    assert node.lines == [f"dyno: n1 ready on {address}"]
    assert all(re.match(r"\d\d:\d\d:\d\d (debug|info|warning|error) ", line) for line in node.complaints)

    again = started(Program(*node_words(tmp_path / "n1", listen=address), "--log-level", "error"))
    again.wait_for(f"dyno: n1 ready on {address}")
    assert dyno("get", "b", "k", at=address).stdout == b"v\n"
    again.signal(number)
    assert again.wait() == 0
    assert again.complaints == []


def test_a_node_that_is_still_joining_stops_cleanly(
    tmp_path: Path, started: Callable[[Program], Program]
) -> None:
    words = (*node_words(tmp_path / "n1"), "--join", "127.0.0.1:1", "--log-level", "debug")
    node = started(Program(*words))
    until(lambda: any("127.0.0.1:1" in line for line in node.complaints))
    node.signal(signal.SIGTERM)
    assert node.wait() == 0
    assert node.lines == []


def test_a_taken_port_and_a_locked_directory(tmp_path: Path, started: Callable[[Program], Program]) -> None:
    node = started(Program(*node_words(tmp_path / "n1")))
    address = node.wait_for("dyno: n1 ready on ").removeprefix("dyno: n1 ready on ")
    for ended, complaint in (
        (dyno(*node_words(tmp_path / "n1")), str(tmp_path / "n1")),
        (dyno(*node_words(tmp_path / "other", listen=address)), address),
    ):
        assert (ended.returncode, ended.stdout, ended.stderr.count(b"\n")) == (2, b"", 1)
        assert complaint in ended.stderr.decode()


def test_a_name_that_is_taken_and_another_cluster(
    tmp_path: Path, started: Callable[[Program], Program]
) -> None:
    addresses = []
    for place in ("here", "there"):
        founder = started(Program(*node_words(tmp_path / place)))
        addresses.append(founder.wait_for("dyno: n1 ready on ").removeprefix("dyno: n1 ready on "))
        if place == "there":
            founder.signal(signal.SIGTERM)
            assert founder.wait() == 0
    here = addresses[0]
    for place, complaint in (
        ("elsewhere", f"the name n1 is taken by a live process at {here}"),
        ("there", "belongs to cluster"),
    ):
        ended = dyno(*node_words(tmp_path / place), "--join", here, "--log-level", "error")
        assert (ended.returncode, ended.stderr.count(b"\n")) == (2, 1), place
        # One that returns to its own cluster may serve before it hears which one the address belongs to.
        assert ended.stdout == b"" or (place == "there" and ended.stdout.startswith(b"dyno: n1 ready on "))
        assert complaint in ended.stderr.decode()


def test_more_nodes_than_a_cluster_with_data_has(tmp_path: Path, cluster: Cluster) -> None:
    assert dyno("put", "b", "k", "v", at=cluster.addresses[0]).returncode == 0
    cluster.signal(signal.SIGTERM)
    assert cluster.wait() == 0
    first = cluster.addresses[0].rpartition(":")[2]
    ended = dyno("cluster", "--nodes", "4", "--base-port", first, "--data", str(cluster.data))
    assert (ended.returncode, ended.stdout, ended.stderr.count(b"\n")) == (2, b"", 1)
    assert ended.stderr.startswith(b"dyno: n4 did not start: cannot join: the cluster holds data")


def test_a_node_of_a_file(tmp_path: Path, started: Callable[[Program], Program]) -> None:
    file = tmp_path / "node.toml"
    file.write_text(
        'name = "filed"\nlisten = "[::1]:0"\ndata = "n1"\npartitions = 16\nvalue_bytes_max = 10\n'
    )
    node = started(Program("node", "--config", str(file), "--name", "flagged", cwd=tmp_path))
    address = node.wait_for("dyno: flagged ready on [::1]:").rpartition(" ")[2]
    assert (tmp_path / "n1").is_dir()
    assert json.loads(dyno("status", "--json", at=address).stdout)["partitions"] == 16
    assert dyno("put", "b", "k", "x" * 11, at=address).returncode == 2


def test_nobody_answers(tmp_path: Path) -> None:
    ended = dyno("get", "b", "k", at=f"127.0.0.1:{free_ports(1)[0]}")
    assert (ended.returncode, ended.stdout, ended.stderr.count(b"\n")) == (5, b"", 1)


def test_ctrl_c_ends_a_command_with_130(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*DYNO, "put", "b", "k", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    try:
        assert process.stdin is not None
        # The pipe holds 64 KiB; that more was taken says that the command reads by now.
        process.stdin.write(b"x" * (1 << 20))
        process.stdin.flush()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=WITHIN_S)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (130, b"", b"")
