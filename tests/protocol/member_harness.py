"""One member of a cluster, driven by hand, with links to all others; for what nodes do by themselves."""

from __future__ import annotations

from dyno.causality.context import Context
from dyno.causality.dots import Dot, actor
from dyno.causality.record import Record
from dyno.config import Config
from dyno.placement.hashing import slot_copies, slot_partition
from dyno.protocol.candidates import pack_candidates
from dyno.storage.cell import record_of
from dyno.storage.memory import MemoryEngine
from dyno.wire.messages import STATUS_OK, AskReap, Message, Reap, Store, Stored
from tests.protocol.node_harness import Driven

AFTER_S = 8.0
_STEP_S = 0.001
DEAD_ENTRY = Context.EMPTY.add(Dot(actor(b"start 77", 0), 1))
OTHER_ENTRY = Context.EMPTY.add(Dot(actor(b"start 78", 0), 1))


class Member(Driven):
    """n1 in a cluster of as many others, with links to all of them; it owns some partitions, leads some."""

    def __init__(self, others: int = 2, *, engine: MemoryEngine | None = None) -> None:
        super().__init__(config=Config(reap_after_s=AFTER_S), engine=engine)
        self.others = [f"n{number}" for number in range(2, others + 2)]
        self.learn(*self.others)
        for name in self.others:
            self.link(name)
        self.out.sends.clear()
        ring = self.node._planner.ring
        assert ring is not None
        self.ring = ring

    def key(self, *, leads: bool = False, owns: bool = True, but: bytes = b"") -> tuple[bytes, bytes]:
        """A key, and its slot, of which n1 is the first owner, another one, or none. but: not in the same
        partition as that slot."""
        for number in range(10_000):
            key = b"key %d" % number
            slot = self.ring.plan("bucket", key).slot
            owners = self.ring.owners(slot)
            if ("n1" in owners) == owns and (not owns or (owners[0] == "n1") == leads) and slot[:3] != but:
                return key, slot
        raise AssertionError("no such key")

    def store(self, key: bytes, slot: bytes, *, dead: Context = DEAD_ENTRY) -> None:
        """A tombstone."""
        record = Record.EMPTY.delete(dead).pack()
        (stored,) = self.ask(Store(1, self.ring.fingerprint, slot, key, record))
        assert isinstance(stored, Stored)
        assert stored.status == STATUS_OK

    def wait(self, seconds: float, *, until: type | None = None) -> None:
        """Time goes by as the runner has it: tick by tick. Pings and all that go nowhere."""
        end = self.now + seconds
        while self.now < end:
            due = min(part.deadline() for part in self.node._background)
            self.now = min(max(due, self.now + _STEP_S), end)
            self.tick()
            if until is not None and any(type(message) is until for _, message in self.out.sends):
                return

    def tick(self) -> None:
        for part in self.node._background:
            if part.deadline() <= self.now:
                part.tick(self.now, self.out)
        self.node._replica.tick(self.now)
        self.node.membership._prober._probe = None  # nobody is there to answer
        self.node.membership.tick(self.now, self.out)
        self.out.datagrams.clear()
        self.commit()

    def asks(self) -> list[AskReap]:
        """What it asked the others."""
        return [message for _, message in self.sent(AskReap) if isinstance(message, AskReap)]

    def answers(self, name: str, message: Message) -> None:
        self.node.answer(f"{name}:1", message, self.now, self.out)
        self.commit()

    def on_disk(self, slot: bytes) -> Record:
        cell = self.engine.get(slot)
        return Record.unpack(record_of(cell)) if cell else Record.EMPTY

    def ask_reap(self, slot: bytes, number: int = 1, **entries: object) -> AskReap:
        candidates = pack_candidates(number, {slot: DEAD_ENTRY})
        return AskReap(
            7, self.ring.fingerprint, slot_partition(slot), slot_copies(slot), candidates
        )._replace(**entries)  # type: ignore[arg-type]

    def reap(self, slot: bytes, number: int = 1) -> Reap:
        agreed = pack_candidates(number, {slot: DEAD_ENTRY})
        fingerprint = self.ring.fingerprint
        return Reap(8, fingerprint, slot_partition(slot), slot_copies(slot), number, agreed)
