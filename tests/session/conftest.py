"""A session with hand-driven nodes around it, on virtual time."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from dyno.buckets.properties import Properties
from dyno.buckets.table import Entry, pack
from dyno.causality.context import Context
from dyno.causality.dots import Dot
from dyno.causality.record import Record as Stored
from dyno.session.calls import Call
from dyno.session.options import BucketOptions
from dyno.session.outbox import SessionOutbox
from dyno.session.session import Session
from dyno.wire import values
from dyno.wire.members import ALIVE, NORMAL, Member, pack_members
from dyno.wire.messages import AskMembers, Buckets, CreateBucket, Done, Failed, Found, Hello, Members

CLUSTER = bytes(range(16))


class World:
    """The shell of one session: it keeps what the session wants, and does only what a test says.

    Nodes are called n1, n2, … and live at n1:7101, n2:7101, …"""

    CLUSTER = CLUSTER

    def __init__(
        self, seeds: Sequence[str] = ("n1:7101", "n2:7101", "n3:7101"), *, timeout: float = 5.0
    ) -> None:
        self.now = 100.0
        self.out = SessionOutbox()
        self.session = Session(seeds, random=random.Random(1), timeout=timeout)
        self.bucket = BucketOptions("carts")

    # ── what the session wants ──

    def dialled(self) -> list[str]:
        taken, self.out.connect = self.out.connect, []
        return taken

    def dropped(self) -> list[str]:
        taken, self.out.disconnect = self.out.disconnect, []
        return taken

    def sent(self, kind: type | None = None) -> list[tuple[str, Any]]:
        """All that was sent since the last look; with a kind only that, and the rest is forgotten."""
        taken, self.out.sends = self.out.sends, []
        return [(address, message) for address, message in taken if kind is None or type(message) is kind]

    def finished(self) -> list[Call]:
        taken, self.out.finished = self.out.finished, []
        return taken

    # ── what happens to it ──

    def open(self) -> Call:
        return self.session.open(self.now, self.out)

    def get(self, key: str = "alice", **options: Any) -> Call:
        return self.session.get(self.bucket, key, now=self.now, out=self.out, **options)

    def put(self, key: str = "alice", value: Any = 1, **options: Any) -> Call:
        return self.session.put(self.bucket, key, value, now=self.now, out=self.out, **options)

    def delete(self, key: str = "alice", *, context: bytes | None = b"token", **options: Any) -> Call:
        return self.session.delete(self.bucket, key, context=context, now=self.now, out=self.out, **options)

    def status(self, **options: Any) -> Call:
        return self.session.status(now=self.now, out=self.out, **options)

    def create_bucket(self, name: str = "wide", *, n: int = 5, **options: Any) -> Call:
        return self.session.create_bucket(name, n=n, now=self.now, out=self.out, **options)

    def cancel(self, call: Call) -> None:
        self.session.cancel(call, self.now, self.out)

    def up(self, address: str, *, name: str = "", cluster: bytes = CLUSTER) -> None:
        name = name or address.partition(":")[0]
        hello = Hello(1, 1, "peer", cluster, 64, name, b"d" * 16, b"s" * 8, "")
        self.session.link_up(address, hello, self.now, self.out)

    def down(self, address: str, reason: str = "Connection refused") -> None:
        self.session.link_down(address, reason, self.now, self.out)

    def hear(self, address: str, message: Any) -> None:
        self.session.handle(address, message, self.now, self.out)

    def advance(self, seconds: float) -> None:
        """Let the time pass, tick by tick."""
        end = self.now + seconds
        while (at := self.session.deadline()) <= end:
            assert at > self.now or at == self.session.deadline(), "time does not go backwards"
            before = at
            self.now = max(self.now, at)
            self.session.tick(self.now, self.out)
            assert self.session.deadline() > before, "a tick moves its own deadline"
        self.now = end

    # ── in one go ──

    def requests(self) -> list[tuple[str, Any]]:
        """What was asked of nodes since the last look; who asks for the members is told them."""
        asked = self.sent()
        for address, message in asked:
            if type(message) is AskMembers:
                self.hear(address, self.members("n1", "n2", "n3", id=message.id))
        return [(address, message) for address, message in asked if type(message) is not AskMembers]

    def serve(self, answer: Callable[[str, Any], Any], *, limit_s: float = 100.0) -> None:
        """Answer all requests, each a turn after it came, until nothing is under way; None is no answer."""
        end = self.now + limit_s
        while self.session._dispatch.calls and self.now < end:
            for address, message in self.requests():
                said = answer(address, message)
                if said is not None:
                    self.hear(address, said)
            self.advance(0.01)

    def settle(self, *nodes: str, members: Members | None = None) -> World:
        """Open, with links to these nodes (n1, n2 and n3) and the members known."""
        nodes = nodes or ("n1", "n2", "n3")
        self.open()
        for node in nodes:
            self.up(f"{node}:7101")
        self.tell(members or self.members("n1", "n2", "n3"))
        self.cancel(self.get("the call that is routed by no table"))
        self.sent()
        self.finished()
        self.dialled()
        return self

    def tell(self, members: Members) -> None:
        """Answer the AskMembers that is under way."""
        asked = [address for address, message in self.sent(AskMembers)]
        self.hear(asked[-1], members)

    # ── what nodes say ──

    def member(self, name: str, **facts: Any) -> Member:
        known = Member(
            name=name,
            directory=name.encode().ljust(16, b"d"),
            seat=name.encode().ljust(16, b"s"),
            start=b"start-id",
            stamp=1,
            incarnation=0,
            state=NORMAL,
            liveness=ALIVE,
            address=f"{name}:7101",
            zone="",
            weight=1.0,
        )
        return known._replace(**facts)

    def members(self, *members: str | Member, id: int = 0, ring: int = 1, partitions: int = 64) -> Members:
        listed = [self.member(m) if isinstance(m, str) else m for m in members]
        return Members(id, CLUSTER, partitions, ring, pack_members(listed))

    def stored(self, *siblings: Any) -> Stored:
        """A record with these concurrent values; each has an actor of its own."""
        record = Stored.EMPTY
        for number, value in enumerate(siblings, 1):
            dot = Dot(b"%016d" % number, 1)
            record = record.write(Context.EMPTY, dot, b"%016d" % number, values.encode(value))
        return record

    def found(self, call: Call, *siblings: Any, answered: str = "n1,n2", fallbacks: str = "") -> Found:
        record = self.stored(*siblings).pack() if siblings else b""
        return Found(call.id, record, answered, fallbacks)

    def done(self, call: Call) -> Done:
        context = Context.EMPTY.add(Dot(b"%016d" % 7, 1))
        return Done(call.id, context.pack(), "n1,n2", "n2")

    def created(self, request: CreateBucket) -> Buckets:
        properties = Properties(request.n, request.r, request.w, request.kind)
        return Buckets(request.id, pack([Entry(request.bucket, properties)]))

    def failed(self, call: Call, code: str, **facts: Any) -> Failed:
        failed = Failed(call.id, code, f"the reason for {code}", 2, "", False, 0, b"")
        return failed._replace(**facts)


@pytest.fixture
def a_world() -> Callable[..., World]:
    return World


@pytest.fixture
def world() -> World:
    """Linked to n1, n2 and n3, with their membership known and the table ready."""
    return World().settle()


@pytest.fixture
def never() -> float:
    return math.inf
