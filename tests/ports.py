"""Ports for what a test starts, which nobody takes meanwhile, whether one process runs the tests or many.

A port that the system hands out is anybody's again as soon as it is let go: a node that a test killed could
find another's in its place. So a process that runs tests takes a stretch of ports below those that the system
hands out, and keeps the others off by holding the first of it as long as it lives. It deals the rest of the
stretch in turn, so that a port comes back as late as can be.
"""

from __future__ import annotations

import socket
from functools import cache
from typing import Final

HOST: Final = "127.0.0.1"
FIRST: Final = 20_000
LAST: Final = 32_000
STRETCH: Final = 500


def free_ports(count: int) -> list[int]:
    """So many in a row, free for TCP and UDP alike."""
    return _stretch().deal(count)


class Stretch:
    """ports: those that are dealt. held: what keeps other processes off, if they ask here as well."""

    def __init__(self, ports: range, held: socket.socket) -> None:
        self._ports = ports
        self._next = ports.start
        self._held = held

    def deal(self, count: int) -> list[int]:
        for _ in self._ports:
            if self._next + count > self._ports.stop:
                self._next = self._ports.start
            row = range(self._next, self._next + count)
            self._next += 1
            if all(map(is_free, row)):
                self._next = row.stop
                return list(row)
        raise AssertionError(f"there are no {count} free ports in a row in {self._ports}")


@cache
def _stretch() -> Stretch:
    for first in range(FIRST, LAST, STRETCH):
        held = socket.socket()
        try:
            held.bind((HOST, first))
        except OSError:
            held.close()
            continue
        return Stretch(range(first + 1, first + STRETCH), held)
    raise AssertionError(f"all ports from {FIRST} to {LAST} are taken")


def is_free(port: int) -> bool:
    try:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(socket.AF_INET, kind) as probe:
                probe.bind((HOST, port))
    except OSError:
        return False
    return True
