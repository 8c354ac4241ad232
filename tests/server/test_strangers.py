"""Well-formed messages that no sound peer sends: a running node refuses, closes the link or ignores them, and
serves on."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

import dyno
from dyno.wire import datagram
from dyno.wire.link import LinkCodec
from dyno.wire.members import ALIVE, NORMAL, Member, pack_members
from dyno.wire.messages import (
    PROTOCOL_VERSION,
    AskMembers,
    Gossip,
    Hello,
    Members,
    Message,
    PingRequest,
    PushPull,
)

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


class Peer:
    """A hand-made peer of one node."""

    def __init__(self, stream: trio.SocketStream, cluster: bytes) -> None:
        self.cluster = cluster
        self._stream = stream
        self._codec = LinkCodec()
        self._heard: list[Message] = []

    async def send(self, *messages: Message) -> None:
        codec = LinkCodec()
        for message in messages:
            codec.send(message)
        while data := codec.drain():
            await self._stream.send_all(data)

    async def hear(self) -> Message:
        """The next message; EOFError when the link is closed instead."""
        while not self._heard:
            with trio.fail_after(5):
                data = await self._stream.receive_some(65536)
            if not data:
                raise EOFError
            self._heard += self._codec.feed(data)
        return self._heard.pop(0)

    async def is_heard_out(self) -> bool:
        """Whether the node still answers on this link."""
        await self.send(AskMembers(4711))
        try:
            while not isinstance(await self.hear(), Members):
                pass
        except (EOFError, trio.BrokenResourceError):
            return False
        return True

    async def aclose(self) -> None:
        await self._stream.aclose()


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
async def peer(node: dyno.Node) -> AsyncIterator[Peer]:
    host, port = node.address.rsplit(":", 1)
    peer = Peer(await trio.open_tcp_stream(host, int(port)), b"")
    versions = (PROTOCOL_VERSION, PROTOCOL_VERSION)
    await peer.send(Hello(*versions, "peer", b"", 0, "stranger", b"d" * 16, b"s" * 8, ""))
    hello = await peer.hear()
    assert isinstance(hello, Hello)
    peer.cluster = hello.cluster
    yield peer
    await peer.aclose()


def post(node: dyno.Node, packet: bytes) -> None:
    host, port = node.address.rsplit(":", 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(packet, (host, int(port)))


@pytest.mark.parametrize("address", HOPELESS_ADDRESSES)
async def test_pinging_a_hopeless_address_for_somebody(
    node: dyno.Node, log: Log, peer: Peer, address: str
) -> None:
    request = PingRequest(1, "n9", b"s" * 8, address, "stranger", b"")
    post(node, datagram.encode(peer.cluster, request))
    await log.says(f"cannot resolve {address}")
    assert await peer.is_heard_out()


@pytest.mark.parametrize("address", HOPELESS_ADDRESSES)
async def test_gossip_of_a_member_at_a_hopeless_address(
    node: dyno.Node, log: Log, peer: Peer, address: str
) -> None:
    record = pack_members([STRANGER._replace(address=address)])
    post(node, datagram.encode(peer.cluster, Gossip("stranger", record)))
    await peer.send(PushPull(record, True))
    await log.says(f"cannot resolve {address}")
    assert await peer.is_heard_out()
