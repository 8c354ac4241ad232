"""Hand-made peers, and nodes that run on any engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random

import pytest
import trio

from dyno.config import Config
from dyno.protocol.birth import Birth, node_on
from dyno.server.reads import MeteredEngine
from dyno.server.runner import Runner
from dyno.server.sockets import bind
from dyno.storage.engine import Engine
from dyno.wire.link import LinkCodec
from dyno.wire.messages import PROTOCOL_VERSION, AskMembers, Hello, Members, Message


class Peer:
    """A hand-made peer of one node."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.cluster = b""
        self._stream = stream
        self._codec = LinkCodec()
        self._heard: list[Message] = []

    async def greet(self) -> None:
        versions = (PROTOCOL_VERSION, PROTOCOL_VERSION)
        await self.send(Hello(*versions, "peer", b"", 0, "stranger", b"d" * 16, b"s" * 8, ""))
        hello = await self.hear()
        assert isinstance(hello, Hello)
        self.cluster = hello.cluster

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

    async def members(self) -> Members:
        """What the node says of the cluster, whatever it says before that."""
        await self.send(AskMembers(4711))
        while True:
            message = await self.hear()
            if isinstance(message, Members):
                return message

    async def is_heard_out(self) -> bool:
        """Whether the node still answers on this link."""
        try:
            await self.members()
        except (EOFError, trio.BrokenResourceError):
            return False
        return True


@pytest.fixture
async def peer_of() -> AsyncIterator[Callable]:
    """A function from a node's address to a greeted peer of it."""
    streams: list[trio.SocketStream] = []

    async def peer_of(address: str) -> Peer:
        host, port = address.rsplit(":", 1)
        stream = await trio.open_tcp_stream(host, int(port))
        streams.append(stream)
        peer = Peer(stream)
        await peer.greet()
        return peer

    yield peer_of
    for stream in streams:
        await stream.aclose()


@pytest.fixture
def running() -> Callable[[Engine], AbstractAsyncContextManager[tuple[Runner, str]]]:
    """Run a node on an engine: gives the runner and the node's address. What ends the runner ends the block,
    in an exception group."""

    @asynccontextmanager
    async def running(engine: Engine) -> AsyncIterator[tuple[Runner, str]]:
        listener, gossip = await bind("127.0.0.1", 0)
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        birth = Birth("n1", address, "", 1.0, 64, ())
        metered = MeteredEngine(engine)
        config = Config()
        core = node_on(metered, birth, config=config, random=Random(1))
        async with trio.open_nursery() as nursery:
            runner = Runner(
                core=core,
                engine=metered,
                config=config,
                listener=listener,
                gossip=gossip,
                random=Random(2),
                spawn=nursery.start_soon,
                log=lambda _level, _text: None,
            )
            try:
                nursery.start_soon(runner.run)
                nursery.start_soon(runner.run_timer)
                await runner.joined.wait()
                yield runner, address
                nursery.cancel_scope.cancel()
            finally:
                runner.close()

    return running
