"""A node driven by hand: it does nothing by itself, and its disk commits when told."""

from __future__ import annotations

import itertools
from random import Random

from dyno.buckets.properties import DEFAULTS
from dyno.buckets.table import Entry
from dyno.config import Config
from dyno.protocol.birth import Birth, node_on
from dyno.protocol.outbox import Outbox
from dyno.storage.memory import MemoryEngine
from dyno.wire.members import ALIVE, NORMAL, Member, pack_members
from dyno.wire.messages import (
    DEFAULT,
    QUORUM,
    CreateBucket,
    Get,
    GetMany,
    Hello,
    ListKeys,
    Message,
    PushPull,
    Put,
    Store,
)
from dyno.wire.rows import pack_row

KEY = b"key"
LINK = 1
_requests = itertools.count(1)


class Driven:
    """A node that does nothing by itself: its messages are looked at, its disk commits when told to."""

    def __init__(
        self, *seeds: str, engine: MemoryEngine | None = None, seed: int = 1, config: Config | None = None
    ) -> None:
        self.engine = MemoryEngine() if engine is None else engine
        birth = Birth("n1", "n1:1", "", 1.0, 16, seeds)
        self.node = node_on(self.engine, birth, config=config or Config(), random=Random(seed))
        self.out = Outbox()
        self.now = 0.0
        self.node.start(self.now, self.out)
        self.commit()

    def commit(self) -> None:
        """Until nothing waits for the disk any more."""
        while (batch := self.node.take_batch()) is not None:
            self.engine.write_batch(batch.writes, batch.meta)
            self.node.committed(self.now, self.out)

    def end_turn(self) -> None:
        """As the runner does: what is due at once is begun."""
        if (due := self.node.deadline()) is not None and due <= self.now:
            self.node.tick(self.now, self.out)

    def ask(self, *messages: Message, link: int = LINK) -> list[Message]:
        """The answers that this link gets, commits included."""
        for message in messages:
            self.node.receive(link, message, self.now, self.out)
        self.end_turn()
        self.commit()
        answers: list[Message] = [reply for number, reply in self.out.replies if number == link]
        self.out.replies.clear()
        return answers

    def of_another_key(self, store: Store) -> Store:
        """The same record for a key of its own."""
        key = b"another key"
        (slot,) = self.node.slots_read_by(a_get()._replace(key=key))
        return store._replace(key=key, slot=slot)

    def hello_of(self, name: str, *, cluster: bytes | None = None) -> Hello:
        mine = self.node.hello()
        ours = mine.cluster if cluster is None else cluster
        return mine._replace(name=name, directory=name.encode().ljust(16, b"."), cluster=ours)

    def learn(self, *names: str, port: int = 1) -> None:
        """These are members as well."""
        members = [self.node.membership.me]
        for name in names:
            identity = name.encode().ljust(16, b".")
            members.append(
                Member(
                    name, identity, identity, identity[:8], port, 0, NORMAL, ALIVE, f"{name}:{port}", "", 1.0
                )
            )
        self.ask(PushPull(pack_members(members), False))
        self.out = Outbox()

    def link(self, name: str, port: int = 1) -> str:
        address = f"{name}:{port}"
        self.node.link_up(address, self.hello_of(name), self.now, self.out)
        return address

    def sent(self, kind: type) -> list[tuple[str, Message]]:
        """What was sent over outbound links, of one kind; forgotten then."""
        sent: list[tuple[str, Message]] = [send for send in self.out.sends if type(send[1]) is kind]
        self.out.sends.clear()
        return sent


def a_put(id: int = 1, **fields: int | bytes) -> Put:
    """A request of its own each time."""
    request = next(_requests).to_bytes(16, "big")
    put = Put(id, "bucket", KEY, b"value", b"", False, DEFAULT, DEFAULT, request, 5000, False)
    return put._replace(**fields)  # type: ignore[arg-type]


def a_get(id: int = 2, **fields: int | bytes) -> Get:
    return Get(id, "bucket", KEY, DEFAULT, DEFAULT, 5000, False)._replace(**fields)  # type: ignore[arg-type]


def a_listing(id: int = 3, partition: int = 0, limit: int = 9) -> ListKeys:
    return ListKeys(id, "bucket", partition, b"", limit, DEFAULT, DEFAULT, 5000, False)


def a_get_many(*keys: bytes) -> GetMany:
    return GetMany(3, "bucket", pack_row(keys), DEFAULT, DEFAULT, 5000)


def three() -> Driven:
    """n1 of n1, n2, n3, linked to both."""
    driven = Driven()
    driven.learn("n2", "n3")
    driven.link("n2")
    driven.link("n3")
    driven.out = Outbox()
    return driven


WIDE = Entry("wide", DEFAULTS._replace(n=5))


def create(id: int = 5, name: str = "wide", n: int = 5) -> CreateBucket:
    return CreateBucket(id, name, n, QUORUM, QUORUM, 0, 5000)
