"""One node's side of creating buckets, driven by hand; its disk commits when told."""

from __future__ import annotations

from random import Random
from typing import Any

from dyno.buckets.properties import Properties
from dyno.buckets.table import Entry
from dyno.causality.context import Context
from dyno.causality.mint import Minter
from dyno.config import Config
from dyno.placement.hashing import Keyspace, bucket_id
from dyno.protocol.bucket_register import BUCKETS, Register
from dyno.protocol.bucket_reservations import Reservations
from dyno.protocol.buckets import BucketKeeper
from dyno.protocol.outbox import Outbox
from dyno.protocol.peers import Peers
from dyno.protocol.replica import Replica
from dyno.storage.memory import MemoryEngine
from dyno.wire.members import ALIVE, NORMAL, Member
from dyno.wire.messages import QUORUM

RING = 7
LINK = 3
WIDE = Properties(5, QUORUM, QUORUM, 0)
P, Q = b"p" * 16, b"q" * 16


def directory_of(name: str) -> bytes:
    return name.encode() * 16


def reserved(name: str = "wide", *, by: str = "b", proposal: bytes = P, n: int = 5) -> Entry:
    return Entry(name, WIDE._replace(n=n), proposal, directory_of(by))


class Members:
    """What is asked of the membership, of a ring of these names."""

    def __init__(self, names: str) -> None:
        self.cluster = b"c" * 16
        self.partitions = 256
        self.joined = True
        self.letting_in = False
        self.fingerprint = RING
        self.dead: list[str] = []
        self.turn(names)
        self.me = self.ring_members()[0]

    def turn(self, names: str) -> None:
        self._ring = []
        for name in names:
            identity = directory_of(name)
            self._ring.append(
                Member(name, identity, identity, identity[:8], 1, 0, NORMAL, ALIVE, name, "", 1.0)
            )

    def ring_members(self) -> list[Member]:
        return self._ring

    def joining(self) -> list[str]:
        return ["newcomer"]

    def is_live(self, name: str) -> bool:
        return name not in self.dead


class Driven:
    """Node a of a, b and c, all of them linked."""

    def __init__(self, names: str = "abc", *, engine: MemoryEngine | None = None, **config: Any) -> None:
        self.now = 0.0
        self.out = Outbox()
        self.engine = engine or MemoryEngine()
        self.config = Config(**config)
        self.members = Members(names)
        self.peers = Peers()
        self.replica = Replica(engine=self.engine, minter=Minter(b"start 01"), config=self.config)
        self.peers.place({name: name for name in names[1:]})
        for name in names[1:]:
            self.peers.up(name, name)
        shared: dict[str, Any] = {
            "remembered": self.engine.get_meta(BUCKETS) or b"",
            "membership": self.members,
            "peers": self.peers,
            "replica": self.replica,
        }
        self.register = Register(buckets_max=self.config.buckets_max, **shared)
        self.reservations = Reservations(register=self.register, replica=self.replica)
        self.keeper = BucketKeeper(config=self.config, random=Random(1), **shared)

    def write(self, bucket: str, key: bytes = b"key", *, n: int = 3) -> None:
        """A record of a bucket joins the batch."""
        slot = Keyspace(self.members.cluster, self.members.partitions).slot(bucket_id(bucket), key, n)
        self.replica.put(slot, key, context=Context.EMPTY, request=b"r" * 16, value=b"value")

    def commit(self) -> None:
        self.replica.keep(self.out)
        batch = self.replica.take_batch()
        assert batch is not None
        self.engine.write_batch(batch.writes, batch.meta)
        self.replica.committed(self.now, self.out)

    def sent(self) -> list[tuple[str, Any]]:
        """What went to other nodes at once; forgotten then."""
        sent: list[tuple[str, Any]] = self.out.sends[:]
        self.out.sends.clear()
        return sent

    def said(self) -> list[Any]:
        """What was answered at once on LINK."""
        said = [answer for link, answer in self.out.replies if link == LINK]
        self.out.replies.clear()
        return said
