"""Well-formed nonsense from everywhere, by dice: whatever peers and clients send, and whenever disks fail and
links break, a node raises nothing but ValueError (which closes a link), answers every request exactly once,
says nothing that cannot be encoded, and is idle when all is over."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from dyno.causality import token
from dyno.causality.context import Context
from dyno.causality.dots import Dot
from dyno.causality.record import DotConflict, Record
from dyno.config import Config
from dyno.errors import InvalidRequest
from dyno.protocol.birth import Birth, node_on
from dyno.protocol.outbox import Outbox
from dyno.storage.memory import MemoryEngine
from dyno.wire import datagram
from dyno.wire.explanations import HEARD, Report, pack_report, view_of
from dyno.wire.hints import Held, pack_hints
from dyno.wire.link import LinkCodec
from dyno.wire.members import ALIVE, DEAD, NORMAL, SUSPECT, Member, pack_members
from dyno.wire.messages import (
    ALL,
    DEFAULT,
    QUORUM,
    Ack,
    Admit,
    AskHints,
    AskJoin,
    AskMembers,
    AskRepair,
    AskStatus,
    Assent,
    Datagram,
    Delete,
    Done,
    Examine,
    Examined,
    Explain,
    Explained,
    Failed,
    Found,
    FoundMany,
    Get,
    GetMany,
    Gossip,
    Hello,
    HintsHeld,
    Introduce,
    Listed,
    ListKeys,
    Members,
    Message,
    Ping,
    PingRequest,
    PushPull,
    Put,
    Read,
    ReadAnswer,
    ReadMany,
    ReadManyAnswer,
    Refuse,
    Reject,
    Repair,
    Repaired,
    RepairTold,
    Scan,
    ScanAnswer,
    Store,
    Stored,
)
from dyno.wire.pages import entry, pack_entries, unreadable
from dyno.wire.repairs import RUN_BYTES, Mends, Peer, pack_reports
from dyno.wire.repairs import Report as MendedHere
from dyno.wire.rows import pack_row

HUGE = (0, 1, 2**32, 2**62 - 1, 2**62, 2**63, 2**64 - 1)
ADDRESSES = ("n1:1", "n2:1", "n3:1", "n4:1", "n5:1", "127.0.0.1:9", "a..b:1", "seed:1")
NAMES = ("n1", "n2", "n3", "n4", "n5")
IDS = tuple(bytes([number]) * 16 for number in range(4))
KEYS = (b"k0", b"k1", b"k2")
LINKS = 3

_SURVEYED = AskHints | Examine


class Nonsense:
    """Messages that decode, about a node's own ids, keys and requests as often as about anybody's."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.node: Any = None
        self.ids = [1]  # of what the node asked lately

    def message(self) -> Message:
        make: Any = self.random.choice([getattr(self, name) for name in dir(self) if name.startswith("a_")])
        message: Message = make()
        return message

    def datagram(self) -> Datagram:
        flip, start = self.random.choice, self.node.membership.me.start
        return flip(
            [
                Ping(self.id(), flip(NAMES), flip([b"", start, b"s" * 8]), "x", self.table()),
                Ack(self.id(), flip(NAMES), flip([b"", start, b"s" * 8]), self.table()),
                PingRequest(self.id(), flip([*NAMES, "?" * 70]), b"s" * 8, flip(ADDRESSES), "x", b""),
                Gossip("x", self.table()),
            ]
        )

    # ── what clients send ──

    def a_get(self) -> Message:
        return Get(0, "b", self.key(), self.quorum(), self.quorum(), *self.tail())

    def a_put(self) -> Message:
        key, conditional = self.key(), self.random.random() < 0.3
        quorums = (self.quorum(), self.quorum())
        request = self.random.choice([b"q" * 16] * 9 + [b""])
        return Put(0, "b", key, b"\x01", self.context(key), conditional, *quorums, request, *self.tail())

    def a_delete(self) -> Message:
        key = self.key()
        quorums = (self.quorum(), self.quorum(), self.quorum(), self.quorum())
        return Delete(0, "b", key, self.context(key), *quorums, b"q" * 16, *self.tail())

    def a_listing(self) -> Message:
        partition = self.random.choice([*range(16), 16, 2**64 - 1])
        limit = self.random.choice([1, 2, 100, 100, 0, 2**64 - 1])
        quorums = (self.quorum(), self.quorum())
        return ListKeys(0, "b", partition, self.cursor(), limit, *quorums, *self.tail())

    def a_get_many(self) -> Message:
        keys = [self.key() for _ in range(self.random.randrange(1, 9))]
        packed = self.row(keys) if self.random.random() < 0.9 else self.row([*keys, None, b""])
        budget_ms, _ = self.tail()
        return GetMany(0, "b", packed, self.quorum(), self.quorum(), budget_ms)

    def a_found_many(self) -> Message:
        return FoundMany(self.id(), self.row([self.record()]), "n2", b"\0")

    def a_question(self) -> Message:
        return AskMembers(self.id())

    def a_status_question(self) -> Message:
        return AskStatus(0)

    def an_explain(self) -> Message:
        return Explain(0, self.random.choice(["b", "b", ""]), self.key(), *self.tail())

    def a_repair(self) -> Message:
        run = self.random.choice([b"", b"r" * RUN_BYTES, b"s" * RUN_BYTES, self.random.randbytes(RUN_BYTES)])
        return AskRepair(0, run, self.random.choice(["", "b", "b" * 65]), self.random.random() < 0.5)

    # ── what the parts in the background send ──

    def a_repair_of_a_node(self) -> Message:
        run = self.random.choice([b"", b"r" * RUN_BYTES, b"short"])
        return Repair(self.id(), self.ring(), run, self.random.choice([0, 3, 99]), self.random.random() < 0.5)

    def a_report_of_repairs(self) -> Message:
        name = self.random.choice(NAMES)
        packed = pack_reports(
            [MendedHere(name, self.random.choice([0, 0, 1]), 0, Mends(), (Peer("n2", 0, 3),))]
        )
        return Repaired(
            self.id(), self.random.choice([0, 0, 1, 9]), self.random.choice([packed] * 5 + [b"?"])
        )

    def a_hints_question(self) -> Message:
        return AskHints(self.id())

    def an_examine(self) -> Message:
        return Examine(self.id(), self.ring(), self.slot(self.key()))

    def some_hints(self) -> Message:
        name = self.random.choice(NAMES)
        rows = self.random.choice([[], [Held(name, "", 0)], [Held(name, "n2", 3)]])
        return HintsHeld(self.id(), self.random.choice([pack_hints(rows)] * 5 + [b"?"]))

    def a_examined(self) -> Message:
        views = (view_of(self.record()), view_of(self.record(), "n3"))
        report = Report(self.random.choice(NAMES), HEARD, False, 5, views)
        return Examined(self.id(), self.status(), self.random.choice([pack_report(report)] * 5 + [b"?"]))

    # ── what replicas send ──

    def a_read(self) -> Message:
        return Read(self.id(), self.ring(), self.slot(self.key()))

    def a_read_many(self) -> Message:
        slots = b"".join(self.slot(self.key()) for _ in range(self.random.randrange(5)))
        return ReadMany(self.id(), self.ring(), slots)

    def a_read_many_answer(self) -> Message:
        records = [
            self.random.choice([b"", None, self.record()]) for _ in range(self.random.choice([1, 1, 2, 3]))
        ]
        return ReadManyAnswer(self.id(), self.status(), self.row(records))

    def a_store(self) -> Message:
        key = self.key()
        return Store(self.id(), self.ring(), self.slot(key), key, self.record())

    def a_read_answer(self) -> Message:
        return ReadAnswer(self.id(), self.status(), self.record())

    def a_scan(self) -> Message:
        prefix = self.random.choice([self.slot(self.key())[:11]] * 9 + [b"", b"p" * 12])
        limit = self.random.choice([1, 2, 100, 100, 100, 0, 2**64 - 1])
        return Scan(self.id(), self.ring(), prefix, self.cursor(), limit)

    def a_scan_answer(self) -> Message:
        return ScanAnswer(self.id(), self.status(), self.entries(), self.cursor())

    def a_page_of_keys(self) -> Message:
        return Listed(self.id(), b"", self.cursor())

    def a_stored(self) -> Message:
        return Stored(self.id(), self.status())

    def a_found(self) -> Message:
        return Found(self.id(), self.record(), "n2", "")

    def a_done(self) -> Message:
        return Done(self.id(), b"", "n2", "")

    def a_failure(self) -> Message:
        code = self.random.choice(["ring", "quorum", "?"])
        return Failed(self.id(), code, "because", 0, "", False, 0, b"")

    # ── what members and joiners send ──

    def a_table(self) -> Message:
        return PushPull(self.table(), self.random.random() < 0.5)

    def an_application(self) -> Message:
        return self.random.choice([AskJoin, Admit])(self.id(), self.table())

    def an_introduction(self) -> Message:
        flip = self.random.choice
        cluster = flip([b"c" * 16] * 5 + [self.node.membership.cluster, b""])
        partitions = flip([16] * 5 + [0, 2**64 - 1])
        introducer = self.member()._replace(name=flip(NAMES[1:]), state=NORMAL)
        seat = flip([b"", b"", b"x", b"s" * 16])
        return Introduce(flip([1, 2]), cluster, partitions, flip(HUGE), seat, pack_members([introducer]))

    def an_assent(self) -> Message:
        return Assent(self.random.choice([1, 2, 3]), self.table())

    def a_rejection(self) -> Message:
        return Reject(self.random.choice([1, 2, 3]), self.random.choice(["data", "name", "busy", "?"]), "no")

    def a_hello(self) -> Hello:
        flip = self.random.choice
        if self.random.random() < 0.8:
            return self.greeting(flip(NAMES))
        cluster = flip([b"", self.node.membership.cluster, b"c" * 16])
        return Hello(1, 1, "peer", cluster, flip([0, 16]), flip(NAMES), flip(IDS), b"s" * 8, "")

    def a_refusal(self) -> Message:
        return Refuse("cluster", "no")

    # ── of what they are made ──

    def greeting(self, name: str) -> Hello:
        """What a member says, as it should."""
        cluster = self.node.membership.cluster
        return Hello(1, 1, "peer", cluster, 16 if cluster else 0, name, b"d" * 16, b"s" * 8, "")

    def id(self) -> int:
        return self.random.choice([*self.ids[-3:], *self.ids[-3:], *self.ids[-20:], *HUGE])

    def row(self, items: list[Any]) -> bytes:
        if self.random.random() < 0.1:
            return self.random.choice([b"", b"\x80", b"\x81\x01", b"\x81\x80", self.random.randbytes(20)])
        return pack_row(items)

    def key(self) -> bytes:
        return self.random.choice(KEYS)

    def quorum(self) -> int:
        return self.random.choice([0, 1, 1, 2, 2, 3, DEFAULT, DEFAULT, DEFAULT, QUORUM, ALL, 4, 2**64 - 1])

    def tail(self) -> tuple[int, bool]:
        return self.random.choice([0, 1, 5000, 5000]), self.random.random() < 0.1

    def status(self) -> int:
        return self.random.choice([0, 0, 0, 1, 2, 3, 4, 77])

    def ring(self) -> int:
        ours: int = self.node.membership.fingerprint
        return ours if self.random.random() < 0.9 else self.random.choice(HUGE)

    def slot(self, key: bytes) -> bytes:
        ours = (*self.node.slots_read_by(Get(1, "b", key, 1, 0, 1, False)), b"s" * 27)
        return self.random.choice([ours[0]] * 9 + [b"", b"s" * 27, b"s" * 28])

    def record(self) -> bytes:
        if self.random.random() < 0.1:
            return self.random.randbytes(20)
        record = Record.EMPTY
        for _ in range(self.random.randrange(4)):
            dot = Dot(self.random.choice([b"a" * 16, b"b" * 16]), self.random.randrange(1, 4))
            try:
                record = record.write(record.context, dot, b"r" * 16, self.random.choice([b"x", b"y"]))
            except DotConflict:
                continue
        return record.pack()

    def cursor(self) -> bytes:
        return self.random.choice([b"", b"", b"", bytes(16), self.slot(self.key())[11:], b"x"])

    def entries(self) -> bytes:
        if self.random.random() < 0.1:
            return self.random.randbytes(20)
        made = []
        for key in self.random.sample(KEYS, self.random.randrange(len(KEYS) + 1)):
            hash = self.slot(key)[11:]
            alive = self.random.random() < 0.5
            whole = entry(hash, key, self.record(), live=alive)
            made.append(self.random.choice([whole, whole, unreadable(hash)]))
        return pack_entries(sorted(made))

    def context(self, key: bytes) -> bytes:
        dice = self.random.random()
        if dice < 0.5:
            return b"" if dice < 0.4 else self.random.randbytes(self.random.randrange(60))
        context = Context.EMPTY.add(Dot(self.random.choice([b"a" * 16, b"b" * 16]), 1))
        return token.encode(context, cluster=self.node.membership.cluster or b"c", bucket="b", key=key)

    def table(self) -> bytes:
        if self.random.random() < 0.05:
            return self.random.randbytes(10)
        return pack_members([self.member() for _ in range(self.random.randrange(4))])

    def member(self) -> Member:
        flip, me = self.random.choice, self.node.membership.me
        if self.random.random() < 0.8:
            name = flip(NAMES[1:])
            identity = name.encode() * 8
            liveness = flip([ALIVE, ALIVE, ALIVE, SUSPECT, DEAD])
            incarnation = self.random.randrange(3)
            address, start = f"{name}:1", identity[:8]
            return Member(name, identity, identity, start, 1, incarnation, NORMAL, liveness, address, "", 1.0)
        return Member(
            name=flip(NAMES),
            directory=flip([*IDS, me.directory]),
            seat=flip([*IDS, me.seat]),
            start=flip([b"s" * 8, b"t" * 8, me.start]),
            stamp=flip([0, 1, 2, 3, me.stamp, me.stamp + 1]) if self.random.random() < 0.9 else 2**62 - 1,
            incarnation=flip([0, 1, 2, me.incarnation + 1]),
            state=self.random.randrange(4),
            liveness=self.random.randrange(3),
            address=flip(ADDRESSES),
            zone=flip(["", "z"]),
            weight=flip([0.001, 1.0, 1000.0]),
        )


class Besieged:
    """A node in the middle of it."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.nonsense = Nonsense(self.random)
        self.engine = MemoryEngine()
        self.codec = LinkCodec()
        self.now = 0.0
        self.last_id = 1000
        self.seeds = self.random.choice([(), (), ("seed:1",)])
        self.start()

    def start(self) -> None:
        birth = Birth("n1", "n1:1", "", 1.0, 16, self.seeds)
        config = Config(requests_max=50, listings_max=20, batch_count_max=30)
        self.node = node_on(self.engine, birth, config=config, random=Random(self.random.random()))
        self.nonsense.node = self.node
        self.out = Outbox()
        self.answers: dict[tuple[int, int], int] = {}  # to (link, request)
        self.node.start(self.now, self.out)

    def step(self) -> None:
        """One thing happens."""
        happens: list[Any] = [self.hear] * 8 + [self.hear_answer] * 4 + [self.hear_datagram]
        happens += [self.link, self.link, self.unlink, self.pass_time, self.commit, self.commit]
        self.random.choice(happens)()
        self.carry_out()
        if self.out.stop is not None or self.random.random() < 0.005:
            self.start()

    def hear(self) -> None:
        link, message = self.random.randrange(LINKS), self.nonsense.message()
        if self.random.random() < 0.5:
            nonsense = self.nonsense
            requests = [nonsense.a_get, nonsense.a_get_many, nonsense.a_put, nonsense.a_delete]
            message = self.random.choice([*requests, nonsense.a_listing])()
        if isinstance(message, Get | GetMany | Put | Delete | ListKeys | AskStatus | Explain | AskRepair):
            self.last_id += 1
            message = message._replace(id=self.last_id)
            if isinstance(message, AskStatus | AskRepair) or message.budget_ms:
                self.answers[link, message.id] = 0
        try:
            self.node.receive(link, message, self.now, self.out)
        except ValueError as error:
            assert not isinstance(error, InvalidRequest)
            if isinstance(message, GetMany):
                self.answers.pop((link, message.id), None)  # its link is closed instead

    def hear_answer(self) -> None:
        message = self.nonsense.message()
        if self.random.random() < 0.5:
            nonsense = self.nonsense
            answers = [nonsense.a_read_answer, nonsense.a_read_many_answer]
            message = self.random.choice([*answers, nonsense.a_stored, nonsense.a_scan_answer])()
        try:
            self.node.answer(self.random.choice(ADDRESSES), message, self.now, self.out)
        except ValueError as error:
            assert "is no answer" in str(error) or isinstance(message, ReadManyAnswer | HintsHeld | Examined)

    def hear_datagram(self) -> None:
        self.node.receive_datagram("127.0.0.1:5", self.nonsense.datagram(), self.now, self.out)

    def link(self) -> None:
        address = self.random.choice(ADDRESSES)
        hello = self.nonsense.greeting(address.partition(":")[0])
        if self.random.random() < 0.2:
            hello = self.nonsense.a_hello()
        self.node.link_up(address, hello, self.now, self.out)

    def unlink(self) -> None:
        self.node.link_down(self.random.choice(ADDRESSES), self.now, self.out)

    def pass_time(self) -> None:
        deadline = self.node.deadline()
        if deadline is not None and self.random.random() < 0.7:
            self.now = max(self.now, deadline)
        else:
            self.now += self.random.choice([0.01, 1.0, 5.0])
        self.tick()

    def tick(self) -> None:
        for _ in range(5):
            self.node.tick(self.now, self.out)
            deadline = self.node.deadline()
            if deadline is None or deadline > self.now:
                return
        raise AssertionError("the loop would spin")

    def commit(self) -> None:
        batch = self.node.take_batch()
        if batch is None:
            return
        if self.random.random() < 0.8:
            self.engine.write_batch(batch.writes, batch.meta)
            self.node.committed(self.now, self.out)
        else:
            self.node.commit_failed("no room", self.now, self.out)

    def carry_out(self) -> None:
        out = self.out
        for link, reply in out.replies:
            if isinstance(reply, Members) and (link, reply.id) not in self.answers:
                continue  # to AskMembers
            if isinstance(
                reply, Found | FoundMany | Done | Listed | Failed | Members | Explained | RepairTold
            ):
                self.answers[link, reply.id] += 1
        for _, message in (*out.sends, *out.replies):
            self.codec.send(message)
            if isinstance(
                message, Read | ReadMany | Scan | Store | Get | Put | Delete | ListKeys | _SURVEYED
            ):
                self.nonsense.ids.append(message.id)
        self.codec.drain()
        for _, message in out.datagrams:
            datagram.encode(self.node.membership.cluster, message)
        for done in (out.replies, out.sends, out.datagrams, out.connect, out.disconnect, out.events):
            done.clear()

    def come_to_rest(self) -> None:
        """The node is told to stop; time passes, and the disk works again."""
        self.node.stop(self.now, self.out)
        while self.node.busy:
            self.now += 0.5
            self.node.tick(self.now, self.out)
            if (batch := self.node.take_batch()) is not None:
                self.engine.write_batch(batch.writes, batch.meta)
                self.node.committed(self.now, self.out)
            self.carry_out()
        for _ in range(4):
            self.now += 1.0
            self.node.tick(self.now, self.out)
            self.carry_out()


@pytest.mark.parametrize("seed", range(60))
def test_nonsense_of_all_kinds_is_survived(seed: int) -> None:
    besieged = Besieged(seed)
    for _ in range(300):
        besieged.step()
    besieged.come_to_rest()
    assert besieged.node._coordinator.reads._listings == 0
    assert all(count == 1 for count in besieged.answers.values())
