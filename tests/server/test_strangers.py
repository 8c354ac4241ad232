"""Well-formed messages that no sound peer sends: a running node refuses, closes the link or ignores them, and
serves on."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

import dyno
from dyno.wire import datagram
from dyno.wire.members import ALIVE, NORMAL, Member, pack_members
from dyno.wire.messages import Gossip, PingRequest, PushPull

STRANGER = Member(
    name="stranger",
    directory=b"d" * 16,
    seat=b"s" * 16,
    start=b"s" * 8,
    stamp=1,
    incarnation=0,
    state=NORMAL,
    liveness=ALIVE,
    address="127.0.0.1:9",
    zone="",
    weight=1.0,
)
HOPELESS_ADDRESSES = ["a..b:1", "a" * 64 + ".x:1", "[fe80::1%nope0]:1"]


class Log:
    """What a node says, for tests that wait for it."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._more = trio.Event()

    def __call__(self, level: str, text: str) -> None:
        self._lines.append(text)
        self._more.set()
        self._more = trio.Event()

    async def says(self, text: str) -> None:
        with trio.fail_after(5):
            while not any(text in line for line in self._lines):
                await self._more.wait()


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
async def node(tmp_path: Path, log: Log) -> AsyncIterator[dyno.Node]:
    async with dyno.Node(name="n1", listen="127.0.0.1:0", data=str(tmp_path / "n1"), log=log) as node:
        yield node
        async with dyno.connect(node.address, timeout=5) as client:
            assert (await client.status())["partitions"] == 1024


@pytest.fixture
async def peer(node: dyno.Node, peer_of: Any) -> Any:
    return await peer_of(node.address)


def post(node: dyno.Node, packet: bytes) -> None:
    host, port = node.address.rsplit(":", 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(packet, (host, int(port)))


@pytest.mark.parametrize("address", HOPELESS_ADDRESSES)
async def test_pinging_a_hopeless_address_for_somebody(
    node: dyno.Node, log: Log, peer: Any, address: str
) -> None:
    request = PingRequest(1, "n9", b"s" * 8, address, "stranger", b"")
    post(node, datagram.encode(peer.cluster, request))
    await log.says(f"cannot resolve {address}")
    assert await peer.is_heard_out()


@pytest.mark.parametrize("address", HOPELESS_ADDRESSES)
async def test_gossip_of_a_member_at_a_hopeless_address(
    node: dyno.Node, log: Log, peer: Any, address: str
) -> None:
    record = pack_members([STRANGER._replace(address=address)])
    post(node, datagram.encode(peer.cluster, Gossip("stranger", record)))
    await peer.send(PushPull(record, True))
    await log.says(f"cannot resolve {address}")
    assert await peer.is_heard_out()
