"""Owners of copies that exchange them, driven by hand: no link loses anything, disks wait for a word."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from dyno.causality.context import Context
from dyno.causality.mint import Minter
from dyno.config import Config
from dyno.protocol.exchange import Exchange
from dyno.protocol.generations import Generations
from dyno.protocol.group_commit import Refusal
from dyno.protocol.outbox import Outbox
from dyno.protocol.peers import Peers
from dyno.protocol.recovery import Recovery
from dyno.protocol.replica import Replica
from dyno.protocol.ring import Ring
from dyno.storage.cell import record_of
from dyno.storage.memory import MemoryEngine
from dyno.wire.messages import STATUS_OK, Store, Stored
from tests.protocol.membership_harness import a_member

FINGERPRINT = 7
COPIES = 3
NAMES = ("n1", "n2", "n3")


class Owner:
    """One of the nodes that own everything. asked: what it wants to ask of whom; events: its log."""

    def __init__(
        self,
        name: str,
        *,
        config: Config,
        remembered: bytes = b"",
        names: tuple[str, ...],
        partitions: int = 2,
    ) -> None:
        self.name = name
        self.engine = MemoryEngine()
        self.out = Outbox()
        self.now = 0.0
        members = [a_member(n) for n in names]
        self.ring = Ring(members, cluster=b"c" * 16, partitions=partitions, fingerprint=FINGERPRINT)
        self.planner: Any = SimpleNamespace(ring=self.ring)
        self.copies: dict[bytes, int] = {}
        membership: Any = SimpleNamespace(is_live=lambda name: False)
        self.replica = Replica(engine=self.engine, minter=Minter(name.encode().ljust(8)), config=config)
        self.peers = Peers()
        self.peers.place({n: f"{n}:1" for n in names if n != name})
        self.recovery = Recovery(
            me=name,
            membership=membership,
            planner=self.planner,
            copies=self.copies,
            remembered=remembered,
        )
        self.recovery.replan()
        self.generations = Generations(self.replica)
        self.exchange = Exchange(
            me=name,
            config=config,
            planner=self.planner,
            replica=self.replica,
            peers=self.peers,
            recovery=self.recovery,
            generations=self.generations,
        )
        self.exchange.replan(self.now, self.out)

    def write(self, key: bytes, value: bytes = b"value", size: int = 0) -> bytes:
        """A put that nobody else hears of; gives its slot."""
        slot = self.ring.plan("bucket", key, COPIES).slot
        value = value.ljust(size, b".")
        self.replica.put(slot, key, context=Context.EMPTY, request=key.ljust(16)[:16], value=value)
        return slot

    def replica_entry(self, key: bytes) -> tuple[bytes, bytes, bytes]:
        """Slot, key and record, as another replica would be sent them."""
        slot = self.ring.plan("bucket", key, COPIES).slot
        return slot, key, self.replica.read(slot)[0]

    def commit(self) -> None:
        while (batch := self.replica.take_batch(self.now)) is not None:
            self.engine.write_batch(batch.writes, batch.meta)
            self.replica.committed(self.now, self.out)

    def fail_commit(self) -> None:
        assert self.replica.take_batch(self.now) is not None
        self.replica.commit_failed(b"another.", self.now, self.out)

    def records(self) -> dict[bytes, bytes]:
        return {
            slot: record_of(cell) if cell else b"corrupt"
            for slot, cell in self.engine.scan(b"", b"\xff", limit=10_000)[0]
        }

    def tick(self, now: float) -> None:
        self.now = now
        self.replica.tick(now)
        self.exchange.tick(now, self.out)

    def taken(self) -> list[tuple[str, Any]]:
        """What was sent since the last time: (node, message)."""
        sends, self.out.sends = self.out.sends, []
        return [(address.removesuffix(":1"), message) for address, message in sends]

    def serve(self, message: Any) -> Any:
        """The answer to a request, its commit included."""
        if isinstance(message, Store):
            try:
                self.replica.merge(message.slot, message.key, message.record)
            except Refusal as refusal:
                return Stored(message.id, refusal.status)
            self.commit()
            return Stored(message.id, STATUS_OK, self.replica.commit_number)
        out = Outbox()
        self.exchange.doors()[type(message)](1, message, self.now, out)
        ((_, answer),) = out.replies
        return answer

    def events(self) -> str:
        return "\n".join(text for _, text in self.out.events)


class Owners:
    """All of them, linked."""

    def __init__(
        self,
        *names: str,
        config: Config | None = None,
        remembered: bytes = b"",
    ) -> None:
        names = names or NAMES
        self.now = 0.0
        self.by_name = {
            name: Owner(
                name, config=config or Config(), names=names, remembered=remembered if name == "n1" else b""
            )
            for name in names
        }
        self.answers: list[Any] = []  # that n1 got
        for one in self.by_name.values():
            for other in names:
                if other != one.name:
                    self.link(one, other)
        self.n1 = self.by_name["n1"]
        self.n2 = self.by_name.get("n2", self.n1)

    def link(self, owner: Owner, other: str) -> None:
        owner.peers.up(other, f"{other}:1")
        owner.exchange.link_up(other, self.now, owner.out)

    def unlink(self, owner: Owner, other: str) -> None:
        owner.peers.down(f"{other}:1")
        owner.exchange.link_down(other, self.now, owner.out)

    def commit(self) -> None:
        for owner in self.by_name.values():
            owner.commit()

    def deliver(self) -> int:
        """All that n1 asks is answered, and what it stores committed; how many questions there were."""
        sent = self.n1.taken()
        for name, message in sent:
            answer = self.by_name[name].serve(message)
            self.answers.append(answer)
            self.n1.exchange.answer(name, answer, self.now, self.n1.out)
        self.n1.commit()
        return len(sent)

    def run(self, seconds: float) -> None:
        """n1 does what is due, whenever it is."""
        until = self.now + seconds
        while True:
            while self.deliver():
                pass
            at = max(self.n1.exchange.deadline(), self.now)
            if at > until:
                break
            self.now = at
            self.n1.tick(self.now)
        self.now = self.n1.now = until
