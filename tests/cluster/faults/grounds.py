"""Where the nodes of a trial live, and what can be done to the network between them.

On `Loopback` nothing can. In `Namespaces` every node has a network namespace of its own and a virtual cable
to every other and to this process, which stays outside: so any two can be parted, both ways or one way only,
and a cable can be made too narrow for what goes over it, or lossy and slow where the kernel has netem.

    node 1 ═══ node 2          addresses: 198.18.RUN.1, .2, …; this process: 198.18.RUN.254
       ╚══ node 3 ══╝          (RFC 2544's range for tests, which nobody routes)

Everything is named after this process and removed by `close`, which may be called at any time and again; what
a process left behind that was killed is removed by the next one (`sweep`). Needs root, `ip` and `tc`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from tests.ports import free_ports

PORT = 7101
OUTSIDE = 0  # this process, among the numbers of nodes, which count from 1
NARROW = ("tbf", "rate", "256kbit", "burst", "8kb", "limit", "16kb")
LOSSY = ("netem", "delay", "20ms", "10ms", "loss", "20%", "duplicate", "2%", "reorder", "10%")

_PREFIX = "dyno"


class Grounds(Protocol):
    """Nodes are numbered from 1. faults: the kinds of network faults that can be had here."""

    faults: Sequence[str]

    def address(self, node: int) -> str: ...

    def words(self, node: int) -> list[str]:
        """What to put before the command that is to run there."""
        ...

    def part(self, one: int, other: int) -> None: ...
    def part_one_way(self, source: int, target: int) -> None: ...
    def worsen(self, one: int, other: int, how: Sequence[str]) -> None: ...

    def mend(self, one: int, other: int) -> None:
        """Whatever was done to what is between them."""
        ...

    def close(self) -> None: ...


class Loopback:
    faults: Sequence[str] = ()

    def __init__(self, nodes: int) -> None:
        self._ports = free_ports(nodes)

    def address(self, node: int) -> str:
        return f"127.0.0.1:{self._ports[node - 1]}"

    def words(self, node: int) -> list[str]:
        return []

    def part(self, one: int, other: int) -> None:
        raise NotImplementedError("nothing can be parted on loopback")

    def part_one_way(self, source: int, target: int) -> None:
        raise NotImplementedError("nothing can be parted on loopback")

    def worsen(self, one: int, other: int, how: Sequence[str]) -> None:
        raise NotImplementedError("loopback cannot be made worse")

    def mend(self, one: int, other: int) -> None:
        pass

    def close(self) -> None:
        pass


class Namespaces:
    def __init__(self, nodes: int) -> None:
        sweep()
        self._id = f"{os.getpid():x}"
        self._run = random.SystemRandom().randrange(1, 255)
        self._nodes = range(1, nodes + 1)
        self.faults = ("part", "isolate", "one way", "narrow", *(("lossy",) if has_netem() else ()))
        try:
            for node in self._nodes:
                _run("ip", "netns", "add", self._space(node))
                _run("ip", "-n", self._space(node), "link", "set", "lo", "up")
                _run("ip", "-n", self._space(node), "addr", "add", f"{self._host(node)}/32", "dev", "lo")
            for one, other in self._pairs():
                self._lay(one, other)
        except BaseException:
            self.close()
            raise

    def address(self, node: int) -> str:
        return f"{self._host(node)}:{PORT}"

    def words(self, node: int) -> list[str]:
        return ["ip", "netns", "exec", self._space(node)]

    def part(self, one: int, other: int) -> None:
        self._ip(one, "link", "set", self._end(one, other), "down")

    def part_one_way(self, source: int, target: int) -> None:
        """Frames go to a station that nobody is, so nobody takes them; nobody is told."""
        self._ip(
            source, "neigh", "replace", self._host(target), "lladdr", "02:00:00:00:00:00",
            "nud", "permanent", "dev", self._end(source, target),
        )  # fmt: skip

    def worsen(self, one: int, other: int, how: Sequence[str]) -> None:
        for here, there in ((one, other), (other, one)):
            _run(*self._tc(here), "qdisc", "replace", "dev", self._end(here, there), "root", *how)

    def mend(self, one: int, other: int) -> None:
        for here, there in ((one, other), (other, one)):
            end = self._end(here, there)
            _run(*self._tc(here), "qdisc", "del", "dev", end, "root", check=False)
            self._ip(here, "neigh", "del", self._host(there), "dev", end, check=False)
            self._ip(here, "link", "set", end, "up")
            self._route(here, there)  # which goes when a cable goes down

    def close(self) -> None:
        """Cables go with the namespace that either end is in."""
        for node in self._nodes:
            _run("ip", "netns", "del", self._space(node), check=False)

    # ── inside ──

    def _pairs(self) -> Iterator[tuple[int, int]]:
        return itertools.combinations((OUTSIDE, *self._nodes), 2)

    def _space(self, node: int) -> str:
        return f"{_PREFIX}-{os.getpid()}-n{node}"

    def _host(self, node: int) -> str:
        return f"198.18.{self._run}.{node or 254}"

    def _end(self, here: int, there: int) -> str:
        """An interface's name has 15 characters at most."""
        return f"dy{self._id}.{here}.{there}"

    def _lay(self, one: int, other: int) -> None:
        ends = self._end(one, other), self._end(other, one)
        _run("ip", "link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for node, end in zip((one, other), ends, strict=True):
            if node != OUTSIDE:
                _run("ip", "link", "set", end, "netns", self._space(node))
            else:
                _run("ip", "addr", "add", f"{self._host(OUTSIDE)}/32", "dev", end)
            self._ip(node, "link", "set", end, "up")
        for here, there in ((one, other), (other, one)):
            self._route(here, there)

    def _route(self, here: int, there: int) -> None:
        self._ip(
            here, "route", "replace", f"{self._host(there)}/32", "dev", self._end(here, there),
            "src", self._host(here),
        )  # fmt: skip

    def _ip(self, node: int, *words: str, check: bool = True) -> None:
        _run("ip", *(("-n", self._space(node)) if node != OUTSIDE else ()), *words, check=check)

    def _tc(self, node: int) -> list[str]:
        return ["tc", *(("-n", self._space(node)) if node != OUTSIDE else ())]


def why_no_namespaces() -> str:
    """ "" where there can be some."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [word for word in ("ip", "tc") if shutil.which(word) is None]
    if missing:
        return f"network namespaces need {' and '.join(missing)}"
    name = f"{_PREFIX}-{os.getpid()}-probe"
    made = _run("ip", "netns", "add", name, check=False)
    if made.returncode:
        return f"no network namespace can be made here: {made.stderr.strip()}"
    try:
        laid = _run("ip", "-n", name, "link", "add", "va", "type", "veth", "peer", "name", "vb", check=False)
        return f"no virtual cable can be laid here: {laid.stderr.strip()}" if laid.returncode else ""
    finally:
        _run("ip", "netns", "del", name, check=False)


def has_netem() -> bool:
    """Whether the kernel can lose and delay packets. Tried in a namespace, where it disturbs nobody."""
    name = f"{_PREFIX}-{os.getpid()}-probe"
    _run("ip", "netns", "add", name)
    try:
        words = ("tc", "-n", name, "qdisc", "add", "dev", "lo", "root", *LOSSY)
        return _run(*words, check=False).returncode == 0
    finally:
        _run("ip", "netns", "del", name, check=False)


def sweep() -> None:
    """Remove what processes of ours left behind that are gone."""
    for name in _run("ip", "netns", "list").stdout.split():
        prefix, _, rest = name.partition("-")
        pid = rest.partition("-")[0]
        if prefix == _PREFIX and pid.isdecimal() and not Path(f"/proc/{pid}").exists():
            for process in _run("ip", "netns", "pids", name, check=False).stdout.split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(process), signal.SIGKILL)  # a paused one, which could not end by itself
            _run("ip", "netns", "del", name, check=False)


def _run(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    # In a session of its own, so that Ctrl-C does not reach what sets up and takes down.
    ended = subprocess.run(words, capture_output=True, text=True, check=False, start_new_session=True)
    if check and ended.returncode:
        raise OSError(f"{' '.join(words)}: {ended.stderr.strip()}")
    return ended
