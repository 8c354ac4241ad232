"""A coordinator on one of several nodes, driven by hand; its disk commits when told."""

from __future__ import annotations

import itertools

from dyno.buckets.properties import DEFAULTS, Properties
from dyno.causality import token
from dyno.causality.mint import Minter
from dyno.causality.record import Record
from dyno.config import Config
from dyno.placement.hashing import slot_partition
from dyno.protocol.coordinator import Answer, Coordinator
from dyno.protocol.generations import Generations
from dyno.protocol.handoff import Handoff
from dyno.protocol.hints import Hints
from dyno.protocol.outbox import Outbox
from dyno.protocol.overload import ReadLine
from dyno.protocol.peers import Peers
from dyno.protocol.planner import Planner
from dyno.protocol.replica import Replica
from dyno.protocol.ring import Ring
from dyno.protocol.spares import Spares
from dyno.storage.cell import record_of
from dyno.storage.memory import MemoryEngine
from dyno.wire.members import ALIVE, NORMAL, Member
from dyno.wire.messages import DEFAULT, Delete, Failed, Get, Listed, ListKeys, Message, Put
from dyno.wire.pages import unpack_keys

LINK, KEY = 7, b"key"

_requests = itertools.count(1)


class Members:
    """What a coordinator asks of the membership."""

    def __init__(self) -> None:
        self.admitting = False
        self.deaf = False
        self.suspects: list[str] = []
        self.dead: list[str] = []

    @property
    def version(self) -> int:
        return len(self.suspects) + len(self.dead)

    def joining(self) -> list[str]:
        return ["newcomer"]

    def is_alive(self, name: str) -> bool:
        return name not in self.suspects and name not in self.dead

    def is_live(self, name: str) -> bool:
        return name not in self.dead


class At:
    """A coordinator on one of several nodes, all linked, whose disk commits when told to."""

    def __init__(
        self,
        me: str = "a",
        names: str = "abc",
        *,
        copies: int = 3,
        read_line: ReadLine | None = None,
        **config: float,
    ) -> None:
        self.now = 0.0
        self.out = Outbox()
        self.engine = MemoryEngine()
        self.serving: dict[str, Properties | None] = {}
        if copies != DEFAULTS.n:
            self.serving["bucket"] = DEFAULTS._replace(n=copies)
        self.members = Members()
        self.peers = Peers()
        self.config = Config(**config)  # type: ignore[arg-type]
        self.replica = Replica(engine=self.engine, minter=Minter(b"start 01"), config=self.config)
        self.planner = Planner(
            me=me,
            membership=self.members,  # type: ignore[arg-type]
            serving=self.serving,
            why_not="bucket {!r} is being created by b; try again in a moment".format,
        )
        self.hints = Hints(config=self.config, replica=self.replica)
        self.handoff = Handoff(
            config=self.config,
            hints=self.hints,
            replica=self.replica,
            peers=self.peers,
            planner=self.planner,
        )
        self.coordinator = Coordinator(
            me=me,
            config=self.config,
            replica=self.replica,
            peers=self.peers,
            membership=self.members,  # type: ignore[arg-type]
            planner=self.planner,
            read_line=read_line,
            hints=self.hints,
            spares=Spares(
                hints=self.hints,
                handoff=self.handoff,
                generations=Generations(self.replica),
                planner=self.planner,
                peers=self.peers,
            ),
        )
        self.turn(names)
        self.peers.place({name: name for name in names if name != me})
        for name in names:
            self.peers.up(name, name)

    def turn(self, names: str) -> None:
        """The ring is of these nodes."""
        members = []
        for name in names:
            identity = name.encode() * 16
            members.append(Member(name, identity, identity, identity[:8], 1, 0, NORMAL, ALIVE, name, "", 1.0))
        fingerprint = sum(map(ord, names))
        self.ring = Ring(members, cluster=b"c" * 16, partitions=16, fingerprint=fingerprint)
        self.planner.ring = self.ring
        self.coordinator.replan(self.ring, self.out)

    def ask(self, request: Get | Put | Delete | ListKeys) -> None:
        self.coordinator.request(LINK, request, self.now, self.out)

    def commit(self) -> None:
        batch = self.replica.take_batch()
        assert batch is not None
        self.engine.write_batch(batch.writes, batch.meta)
        self.replica.committed(self.now, self.out)

    def commit_fails(self) -> None:
        assert self.replica.take_batch() is not None
        self.replica.commit_failed(b"start 02", self.now, self.out)

    def tick(self, now: float) -> None:
        """Time passes, deadline by deadline."""
        while (deadline := self.coordinator.deadline()) is not None and deadline <= now:
            self.now = deadline
            self.coordinator.tick(deadline, self.out)
        self.now = now

    def hear(self, name: str, message: Answer) -> None:
        self.coordinator.answer(name, message, self.now, self.out)

    def cut(self, name: str) -> None:
        """The link to a node breaks."""
        self.peers.down(name)
        self.coordinator.link_down(name, self.out)

    def link(self, name: str) -> None:
        self.peers.up(name, name)
        self.coordinator.link_up(name, self.out)

    def sent(self, kind: type) -> list[tuple[str, Message]]:
        sent: list[tuple[str, Message]] = [send for send in self.out.sends if type(send[1]) is kind]
        self.out.sends.clear()
        return sent

    def answers(self) -> list[Message]:
        answers: list[Message] = [reply for link, reply in self.out.replies if link == LINK]
        self.out.replies.clear()
        return answers

    def failure(self) -> Failed:
        (answer,) = self.answers()
        assert isinstance(answer, Failed)
        return answer


def a_get(id: int = 1, key: bytes = KEY, r: int = DEFAULT, *, forwarded: bool = False) -> Get:
    return Get(id, "bucket", key, r, DEFAULT, 5000, forwarded)


def a_put(id: int = 1, value: bytes = b"value", context: bytes = b"", **fields: object) -> Put:
    """A request of its own each time, unless the fields name one."""
    request = next(_requests).to_bytes(16, "big")
    put = Put(id, "bucket", KEY, value, context, False, DEFAULT, DEFAULT, request, 5000, False)
    return put._replace(**fields)  # type: ignore[arg-type]


def a_delete(id: int = 1, context: bytes = b"") -> Delete:
    return Delete(id, "bucket", KEY, context, DEFAULT, DEFAULT, DEFAULT, DEFAULT, b"d" * 16, 5000, False)


def owned(at: At) -> bytes:
    """Some key of node a's other than KEY."""
    keys = (b"key %d" % number for number in range(100))
    return next(key for key in keys if "a" in at.ring.plan("bucket", key).owners)


def not_owned(at: At) -> bytes:
    keys = (b"key %d" % number for number in range(100))
    return next(key for key in keys if "a" not in at.ring.plan("bucket", key).owners)


def with_record(at: At) -> int:
    """A record of KEY on this disk; its partition."""
    at.ask(a_put(w=1))
    at.commit()
    at.coordinator.tick(100.0, at.out)
    at.out = Outbox()
    return slot_partition(at.ring.plan("bucket", KEY).slot)


def record_at(at: At) -> bytes:
    """What is on this disk under KEY."""
    cell = at.engine.get(at.ring.plan("bucket", KEY).slot)
    assert cell is not None
    return record_of(cell)


def a_context(at: At) -> bytes:
    """The token that whoever has read that would give back."""
    context = Record.unpack(record_at(at)).context
    return token.encode(context, cluster=b"c" * 16, bucket="bucket", key=KEY)


def a_listing(id: int = 1, partition: int = 0, r: int = DEFAULT, **fields: object) -> ListKeys:
    listing = ListKeys(id, "bucket", partition, b"", 100, r, DEFAULT, 5000, False)
    return listing._replace(**fields)  # type: ignore[arg-type]


def listed(at: At) -> list[bytes]:
    (answer,) = at.answers()
    assert isinstance(answer, Listed), answer
    assert answer[0] == 1
    assert answer.cursor == b""
    return unpack_keys(answer.keys)
