"""A fake node that speaks the wire on loopback, and keeps its keys in a dict."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
import trio

from dyno.buckets.properties import Properties
from dyno.buckets.table import Entry, pack
from dyno.causality import token
from dyno.causality.context import Context
from dyno.causality.dots import Dot
from dyno.causality.record import Record, put_context
from dyno.placement.hashing import Keyspace, bucket_id
from dyno.wire.explanations import HEARD, Explanation, Report, absent, pack_explanation, view_of
from dyno.wire.hints import Held, pack_hints, rows_of
from dyno.wire.link import LinkCodec
from dyno.wire.members import ALIVE, NORMAL, Member, pack_members
from dyno.wire.messages import (
    GET_MANY_KEYS_MAX,
    AskBuckets,
    AskMembers,
    AskRepair,
    AskStatus,
    Buckets,
    CreateBucket,
    Delete,
    Done,
    Explain,
    Explained,
    Failed,
    Found,
    FoundMany,
    Get,
    GetMany,
    Hello,
    Listed,
    ListKeys,
    Members,
    Message,
    Put,
    RepairTold,
)
from dyno.wire.pages import pack_keys
from dyno.wire.repairs import Report as MendedHere
from dyno.wire.repairs import pack_reports
from dyno.wire.rows import pack_row, unpack_keys

CLUSTER = bytes(range(16))
PARTITIONS = 16


class FakeNode:
    """address: where it listens, once it serves. others: nodes that it lists as members besides itself.

    left_out: keys that a GetMany does not answer. held: hints that it keeps, by target. seen: all requests,
    in the order of arrival. turns: how many requests came in each read. answer: may be set to a function that
    answers a request instead of the node; None from it means no answer, ever."""

    def __init__(self, name: str = "n1") -> None:
        self.name = name
        self.address = ""
        self.others: list[FakeNode] = []
        self.records: dict[tuple[str, bytes], Record] = {}
        self.buckets: dict[str, Entry] = {}
        self.left_out: list[bytes] = []
        self.held: dict[str, int] = {}
        self.repairs: list[AskRepair] = []
        self.seen: list[Any] = []
        self.turns: list[int] = []
        self.answer: Callable[[Any], Message | None] = self.answer_truly
        self.first: Callable[[Hello], Message | None] = self.hello
        self._dots = itertools.count(1)
        self._streams: list[trio.SocketStream] = []
        self._arrived = trio.Event()

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[FakeNode]:
        (listener,) = await trio.open_tcp_listeners(port, host="127.0.0.1")
        self.address = f"127.0.0.1:{listener.socket.getsockname()[1]}"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, self._talk, [listener])
            try:
                yield self
            finally:
                nursery.cancel_scope.cancel()

    def drop_links(self) -> None:
        """Reset every connection, as a node that is killed does."""
        for stream in self._streams:
            stream.socket.close()
        self._streams.clear()

    def hello(self, _hello: Hello) -> Message:
        return Hello(1, 1, "peer", CLUSTER, PARTITIONS, self.name, b"d" * 16, b"s" * 8, "")

    def answer_truly(self, request: Any) -> Message | None:
        match request:
            case Get():
                record = self.records.get((request.bucket, request.key))
                return Found(request.id, record.pack() if record else b"", self.name, "")
            case GetMany():
                return self._found_many(request)
            case Put():
                return self._put(request)
            case Delete():
                record = self.records.get((request.bucket, request.key), Record.EMPTY)
                covered = _context(request) if request.context else record.context
                self.records[request.bucket, request.key] = record.delete(covered)
                return Done(request.id, covered.pack(), self.name, "")
            case CreateBucket():
                properties = Properties(request.n, request.r, request.w, request.kind)
                entry = self.buckets[request.bucket] = Entry(request.bucket, properties)
                return Buckets(request.id, pack([entry]))
            case AskBuckets():
                return Buckets(request.id, pack(self.buckets.values()))
            case ListKeys():
                return self._list(request)
            case Explain():
                record = self.records.get((request.bucket, request.key))
                copy = view_of(record.pack()) if record else absent()
                report = Report(self.name, HEARD, views=(copy,))
                explanation = Explanation(0, 3, (self.name,), (), (report,))
                return Explained(request.id, pack_explanation(explanation))
            case AskMembers() | AskStatus():
                members = pack_members(node.member() for node in (self, *self.others))
                hints = b""
                if isinstance(request, AskStatus):
                    hints = pack_hints(row for node in (self, *self.others) for row in node.hints())
                return Members(request.id, CLUSTER, PARTITIONS, 1, members, hints)
            case AskRepair():
                self.repairs.append(request)
                reports = [MendedHere(node.name, HEARD) for node in (self, *self.others)]
                return RepairTold(request.id, pack_reports(reports))
        raise AssertionError(f"no client sends {request!r}")

    def _list(self, request: ListKeys) -> Message:
        """Two keys a page."""
        keyspace = Keyspace(CLUSTER, PARTITIONS)
        found = []
        for (bucket, key), record in self.records.items():
            hash = keyspace.slot(bucket_id(bucket), key, 3)[-16:]
            here = keyspace.partition(bucket_id(bucket), key) == request.partition
            if bucket == request.bucket and here and record.live and hash > request.after:
                found.append((hash, key))
        page = sorted(found)[:2]
        cursor = page[-1][0] if len(found) > len(page) else b""
        return Listed(request.id, pack_keys([key for _, key in page]), cursor)

    def hints(self) -> list[Held]:
        return rows_of(self.name, self.held)

    def member(self) -> Member:
        seat = self.name.encode().ljust(16, b"s")
        return Member(self.name, seat, seat, b"start-id", 1, 0, NORMAL, ALIVE, self.address, "", 1.0)

    def _found_many(self, request: GetMany) -> Message:
        row: list[bytes | None] = []
        for key in unpack_keys(request.keys, items_max=GET_MANY_KEYS_MAX):
            record = self.records.get((request.bucket, key))
            row.append(None if key in self.left_out else record.pack() if record else b"")
        return FoundMany(request.id, pack_row(row), self.name, bytes(len(row)))

    def _put(self, put: Put) -> Message:
        record = self.records.get((put.bucket, put.key), Record.EMPTY)
        context = _context(put)
        if put.conditional and (record.context != context if put.context else record.siblings):
            return Failed(put.id, "conflict", "somebody else wrote it", 0, "", False, 0, record.pack())
        dot = Dot(self.name.encode().ljust(16, b"a"), next(self._dots))
        self.records[put.bucket, put.key] = record.write(context, dot, put.request, put.value)
        return Done(put.id, put_context(context, record.context, dot).pack(), self.name, "")

    async def _talk(self, stream: trio.SocketStream) -> None:
        codec, greeted = LinkCodec(), False
        self._streams.append(stream)
        try:
            async for data in stream:
                messages = codec.feed(data)
                if not greeted and messages:
                    greeted = True
                    hello, *messages = messages
                    assert isinstance(hello, Hello)
                    self._send(codec, self.first(hello))
                if messages:
                    self.turns.append(len(messages))
                for message in messages:
                    self.seen.append(message)
                    self._send(codec, self.answer(message))
                self._arrived.set()
                self._arrived = trio.Event()
                while out := codec.drain():
                    await stream.send_all(out)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client went away, or `drop_links`
        finally:
            stream.socket.close()

    def _send(self, codec: LinkCodec, message: Message | None) -> None:
        if message is not None:
            codec.send(message)

    def requests(self, kind: type) -> list[Any]:
        return [message for message in self.seen if type(message) is kind]

    async def received(self, kind: type, count: int = 1) -> None:
        """Until that many requests of a kind have come."""
        with trio.fail_after(5):
            while len(self.requests(kind)) < count:
                await self._arrived.wait()

    def conflicting(self, bucket: str, key: bytes, value: bytes) -> None:
        """Somebody else writes blindly."""
        record = self.records.get((bucket, key), Record.EMPTY)
        dot = Dot(b"somebody else---", next(self._dots))
        self.records[bucket, key] = record.write(Context.EMPTY, dot, b"r" * 16, value)


def _context(request: Put | Delete) -> Context:
    return token.decode(request.context, cluster=CLUSTER, bucket=request.bucket, key=request.key)


@pytest.fixture
def a_node() -> type[FakeNode]:
    return FakeNode


@pytest.fixture
def serving() -> Callable[..., AbstractAsyncContextManager[FakeNode]]:
    """A fake node that serves: `async with serving() as node`."""
    return lambda name="n1", port=0: FakeNode(name).serving(port)
