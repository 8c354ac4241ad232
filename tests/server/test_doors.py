"""Bad input at the doors of a running node: a clear answer or a closed link, and the others are served."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import cbor2
import pytest
import trio

import dyno
from dyno.wire.link import LinkCodec
from dyno.wire.messages import (
    DEFAULT,
    PROTOCOL_VERSION,
    AskMembers,
    Done,
    Failed,
    Get,
    Hello,
    Members,
    Message,
    Put,
    Refuse,
    Stored,
)

PEERS = 10
CLIENT = Hello(PROTOCOL_VERSION, PROTOCOL_VERSION, "client", b"", 0, "", b"", b"", "")


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[dyno.Node]:
    config = {
        "handshake_timeout_s": 1.0,
        "client_links_max": 20,
        "peer_links_max": PEERS,
        "link_backlog_bytes_max": 4 << 20,
        "links_bytes_max": 16 << 20,
    }
    async with dyno.Node(name="n1", listen="127.0.0.1:0", data=str(tmp_path / "n1"), config=config) as node:
        yield node
        # Whatever the test did to it, it serves.
        with trio.fail_after(5):
            async with dyno.connect(node.address) as client:
                await client.bucket("after").put("key", "value")
                assert (await client.bucket("after").get("key")).value == "value"


class Raw:
    """A hand-made client."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._codec = LinkCodec()
        self._heard: list[Message] = []

    async def send(self, *messages: Message) -> None:
        codec = LinkCodec()
        for message in messages:
            codec.send(message)
        while data := codec.drain():
            await self.stream.send_all(data)

    async def hear(self) -> Message:
        """The next message; EOFError when the link is closed instead."""
        while not self._heard:
            with trio.fail_after(10):
                data = await self.stream.receive_some(65536)
            if not data:
                raise EOFError
            self._heard += self._codec.feed(data)
        return self._heard.pop(0)

    async def closed(self) -> bool:
        with trio.fail_after(3):
            try:
                while await self.stream.receive_some(65536):
                    pass
            except trio.BrokenResourceError:
                pass
        return True


class Door:
    """Where a node can be knocked at."""

    def __init__(self, node: dyno.Node) -> None:
        host, port = node.address.rsplit(":", 1)
        self.address = (host, int(port))
        self.visitors: list[Raw] = []

    async def dial(self) -> Raw:
        raw = Raw(await trio.open_tcp_stream(*self.address))
        self.visitors.append(raw)
        return raw

    async def greeted(self, hello: Hello = CLIENT) -> Raw:
        raw = await self.dial()
        await raw.send(hello)
        assert isinstance(await raw.hear(), Hello)
        return raw


@pytest.fixture
async def door(node: dyno.Node) -> AsyncIterator[Door]:
    door = Door(node)
    yield door
    for visitor in door.visitors:
        await visitor.stream.aclose()


def framed(value: object) -> bytes:
    body = cbor2.dumps(value)
    return struct.pack(">I", len(body)) + body


def nested(depth: int) -> bytes:
    body = b"\x81" * depth + b"\x00"
    return struct.pack(">I", len(body)) + body


GARBAGE = {
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "random": bytes((number * 7919 + 13) % 256 for number in range(2000)),
    "4 GiB": b"\xff\xff\xff\xff" + b"x" * 100,
    "nested": nested(3000),
    "a map": framed({1: 2}),
    "unknown type": framed([9999, 1, 2, 3]),
    "missing fields": framed([1, 2]),
    "a tag": framed([cbor2.CBORTag(4711, 1)]),
    "a bignum": framed([1 << 100]),
    "an empty frame": b"\0\0\0\0",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_instead_of_a_hello(door: Door, garbage: bytes) -> None:
    raw = await door.dial()
    await raw.stream.send_all(garbage)
    assert await raw.closed()


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_after_the_hello(door: Door, garbage: bytes) -> None:
    raw = await door.greeted()
    await raw.stream.send_all(garbage)
    assert await raw.closed()


async def test_a_truncated_frame_then_silence(door: Door) -> None:
    raw = await door.dial()
    await raw.stream.send_all(framed([1, 2, 3])[:5])
    assert await raw.closed()  # no hello in time


async def test_another_protocol_version_is_refused_with_both_versions(door: Door) -> None:
    raw = await door.dial()
    await raw.send(CLIENT._replace(protocol_low=77, protocol_high=78))
    refuse = await raw.hear()
    assert isinstance(refuse, Refuse)
    assert refuse.code == "protocol"
    assert "77 to 78" in refuse.text
    assert await raw.closed()


async def test_a_peer_of_another_cluster_is_refused(door: Door) -> None:
    raw = await door.dial()
    hello = Hello(PROTOCOL_VERSION, PROTOCOL_VERSION, "peer", b"x" * 16, 1024, "n9", b"d" * 16, b"s" * 8, "")
    await raw.send(hello)
    refuse = await raw.hear()
    assert isinstance(refuse, Refuse)
    assert refuse.code == "cluster"


async def test_a_peer_of_another_partition_count_is_refused(door: Door) -> None:
    raw = await door.greeted()
    await raw.send(AskMembers(1))
    members = await raw.hear()
    assert isinstance(members, Members)
    other = await door.dial()
    await other.send(
        Hello(PROTOCOL_VERSION, PROTOCOL_VERSION, "peer", members.cluster, 7, "n9", b"d" * 16, b"s" * 8, "")
    )
    refuse = await other.hear()
    assert isinstance(refuse, Refuse)
    assert refuse.code == "partitions"


async def test_a_client_of_another_cluster_is_refused(door: Door) -> None:
    raw = await door.dial()
    await raw.send(CLIENT._replace(cluster=b"y" * 16))
    assert isinstance(await raw.hear(), Refuse)


async def test_an_answer_where_a_request_belongs_closes_the_link(door: Door) -> None:
    raw = await door.greeted()
    await raw.send(Stored(1, 0))
    assert await raw.closed()


async def test_two_hellos_close_the_link(door: Door) -> None:
    raw = await door.greeted()
    await raw.send(CLIENT)
    assert await raw.closed()


A_PUT = Put(1, "bucket", b"key", b"\x01", b"", False, DEFAULT, DEFAULT, b"r" * 16, 5000, False)


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (A_PUT._replace(key=b""), "a key is"),
        (A_PUT._replace(key=b"k" * 1025), "a key is"),
        (A_PUT._replace(bucket=""), "a bucket's name"),
        (A_PUT._replace(bucket="b" * 65), "a bucket's name"),
        (A_PUT._replace(value=cbor2.dumps(bytes((1 << 20) + 1))), "value"),
        (A_PUT._replace(w=0), "w=0"),
        (A_PUT._replace(w=4), "w=4"),
        (A_PUT._replace(pw=4), "pw=4"),
        (A_PUT._replace(request=b"short"), "request id"),
        (A_PUT._replace(context=b"\x01garbage"), "context"),
        (Get(1, "bucket", b"key", 4, DEFAULT, 5000, False), "r=4"),
        (Get(1, "bucket", b"key", 0, DEFAULT, 5000, False), "r=0"),
    ],
)
async def test_an_invalid_request_is_answered_as_such(door: Door, request_: Put | Get, reason: str) -> None:
    raw = await door.greeted()
    await raw.send(request_)
    failed = await raw.hear()
    assert isinstance(failed, Failed)
    assert (failed.id, failed.code) == (1, "invalid")
    assert reason in failed.message


async def test_more_than_the_cluster_has_is_a_quorum_failure_with_nothing_written(door: Door) -> None:
    raw = await door.greeted()
    await raw.send(A_PUT._replace(w=2))
    failed = await raw.hear()
    assert isinstance(failed, Failed)
    assert (failed.code, failed.needed, failed.indeterminate) == ("quorum", 2, False)


async def test_an_expired_request_is_dropped_unstarted(door: Door) -> None:
    raw = await door.greeted()
    await raw.send(A_PUT._replace(budget_ms=0), A_PUT._replace(id=2))
    done = await raw.hear()
    assert isinstance(done, Done)
    assert done.id == 2


async def test_half_open_connections_do_not_keep_others_out(door: Door) -> None:
    sockets = [socket.socket() for _ in range(600)]
    try:
        for sock in sockets:
            sock.setblocking(False)
            sock.connect_ex(door.address)
        with trio.fail_after(5):
            raw = await door.greeted()
            await raw.send(AskMembers(1))
            assert isinstance(await raw.hear(), Members)
    finally:
        for sock in sockets:
            sock.close()


async def test_too_many_clients_are_told_so(door: Door) -> None:
    for _ in range(20):
        await door.greeted()
    raw = await door.dial()
    await raw.send(CLIENT)
    refuse = await raw.hear()
    assert isinstance(refuse, Refuse)
    assert refuse.code == "overloaded"
    for visitor in door.visitors:  # make room for the fixture's own client
        await visitor.stream.aclose()


async def test_a_client_that_never_reads_is_cut_off(door: Door) -> None:
    """Its answers fill the kernel's buffers and then the link's backlog, which is bounded."""
    raw = await door.greeted()
    value = cbor2.dumps(bytes(500_000))
    await raw.send(A_PUT._replace(value=value))
    assert isinstance(await raw.hear(), Done)
    with trio.fail_after(10):
        try:
            while True:
                await raw.send(
                    *[Get(n, "bucket", b"key", DEFAULT, DEFAULT, 5000, False) for n in range(2, 50)]
                )
        except trio.BrokenResourceError:
            pass


async def test_datagrams_of_all_kinds_are_survived(door: Door) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for garbage in (*GARBAGE.values(), b"", b"\0" * 60_000):
            sock.sendto(garbage, door.address)
    raw = await door.greeted()
    await raw.send(AskMembers(1))
    assert isinstance(await raw.hear(), Members)


A_PEER = CLIENT._replace(role="peer", name="n9", directory=b"d" * 16, start=b"s" * 8)


async def test_links_from_peers_are_bounded_and_take_no_room_from_clients(door: Door) -> None:
    for _ in range(PEERS):
        await door.greeted(A_PEER)
    raw = await door.dial()
    await raw.send(A_PEER)
    refuse = await raw.hear()
    assert isinstance(refuse, Refuse)
    assert (refuse.code, refuse.text) == ("overloaded", f"n1 has links from {PEERS} peers")
    await door.greeted()
    await door.visitors[0].stream.aclose()
    with trio.fail_after(5):
        while True:  # the node has to hear of it first
            again = await door.dial()
            await again.send(A_PEER)
            if isinstance(await again.hear(), Hello):
                break


async def test_many_messages_in_pieces_that_are_never_finished_fill_no_memory(door: Door) -> None:
    """Each is within its link's bound; all together are not, and the longest one has to go."""
    codec = LinkCodec()
    codec.send(A_PUT._replace(value=bytes(30 << 20)))
    piece = codec.drain()
    slow = [await door.greeted() for _ in range(4)]
    with trio.fail_after(10):
        try:
            for _ in range(30):
                for raw in slow:
                    await raw.stream.send_all(piece)
        except trio.BrokenResourceError:
            pass
        else:
            raise AssertionError("all of them were taken")
    honest = await door.greeted()
    await honest.send(A_PUT._replace(value=cbor2.dumps(bytes(900_000))))
    assert isinstance(await honest.hear(), Done)
