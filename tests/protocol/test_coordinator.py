"""Every client request of a node, from the door to the answer; with several nodes, see stories/."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

import pytest

from dyno.buckets.properties import DEFAULTS, Properties
from dyno.causality import token
from dyno.causality.context import Context
from dyno.causality.dots import Dot
from dyno.causality.mint import Minter
from dyno.causality.record import Record
from dyno.config import RECORD_BYTES_MAX, Config
from dyno.placement.hashing import PREFIX_BYTES, bucket_id, slot_partition
from dyno.protocol.coordinator import Answer, Coordinator
from dyno.protocol.outbox import Outbox
from dyno.protocol.overload import ReadLine
from dyno.protocol.peers import Peers
from dyno.protocol.planner import Planner
from dyno.protocol.replica import Replica
from dyno.protocol.ring import Ring
from dyno.protocol.sink import LinkSink
from dyno.storage.cell import pack_cell
from dyno.storage.memory import MemoryEngine
from dyno.wire.members import ALIVE, NORMAL, Member
from dyno.wire.messages import (
    ALL,
    DEFAULT,
    STATUS_OK,
    STATUS_OVERLOADED,
    STATUS_RING,
    Delete,
    Done,
    Failed,
    Found,
    Get,
    Listed,
    ListKeys,
    Message,
    Put,
    Read,
    ReadAnswer,
    Scan,
    ScanAnswer,
    Store,
    Stored,
)
from dyno.wire.pages import HASH_BYTES, PAGE_KEYS_MAX, entry, pack_entries, unpack_keys

LINK, KEY = 7, b"key"


class Members:
    """What a coordinator asks of the membership."""

    def __init__(self) -> None:
        self.admitting = False
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
        self.coordinator = Coordinator(
            me=me,
            config=self.config,
            replica=self.replica,
            peers=self.peers,
            membership=self.members,  # type: ignore[arg-type]
            planner=self.planner,
            read_line=read_line,
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

    def tick(self, now: float) -> None:
        """Time passes, deadline by deadline."""
        while (deadline := self.coordinator.deadline()) is not None and deadline <= now:
            self.now = deadline
            self.coordinator.tick(deadline, self.out)
        self.now = now

    def hear(self, name: str, message: Answer) -> None:
        self.coordinator.answer(name, message, self.now, self.out)

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
    put = Put(id, "bucket", KEY, value, context, False, DEFAULT, DEFAULT, b"r" * 16, 5000, False)
    return put._replace(**fields)  # type: ignore[arg-type]


def a_delete(id: int = 1, context: bytes = b"") -> Delete:
    return Delete(id, "bucket", KEY, context, DEFAULT, DEFAULT, DEFAULT, DEFAULT, b"d" * 16, 5000, False)


def not_owned(at: At) -> bytes:
    keys = (b"key %d" % number for number in range(100))
    return next(key for key in keys if "a" not in at.ring.plan("bucket", key).owners)


# ── deadlines ──


def test_nothing_is_due_when_nothing_is_under_way() -> None:
    at = At()
    assert at.coordinator.deadline() is None
    at.coordinator.tick(100.0, at.out)


def test_a_read_is_hedged_and_in_the_end_given_up() -> None:
    at = At(hedge_after_s=0.05, get_timeout_s=2.0)
    at.ask(a_get())
    assert len(at.sent(Read)) == 1
    assert at.coordinator.deadline() == 0.05
    at.tick(0.05)
    assert len(at.sent(Read)) == 1
    at.tick(1.99)
    assert at.answers() == []
    at.tick(2.0)
    assert at.failure().message.startswith("1 of 2 needed nodes answered the read in time")
    assert at.coordinator.deadline() is None


def test_a_read_is_hedged_again_and_again_until_everybody_is_asked() -> None:
    at = At(names="abcde", copies=5, hedge_after_s=0.05)
    at.ask(a_get(r=2))
    for number in range(1, 4):
        assert len(at.sent(Read)) == 1
        at.tick(0.05 * number)
    ((last, read),) = at.sent(Read)
    assert isinstance(read, Read)
    at.tick(0.5)
    assert at.sent(Read) == []
    at.hear(last, ReadAnswer(read.id, STATUS_OK, b""))
    assert isinstance(at.answers()[0], Found)


def test_a_read_that_is_answered_needs_no_hedge() -> None:
    at = At()
    at.ask(a_get())
    ((name, read),) = at.sent(Read)
    assert isinstance(read, Read)
    at.hear(name, ReadAnswer(read.id, STATUS_OK, b""))
    assert len(at.answers()) == 1
    assert at.coordinator.deadline() is None


def test_a_write_is_given_up_in_the_end() -> None:
    at = At(put_timeout_s=3.0)
    at.ask(a_put())
    at.commit()
    assert at.coordinator.deadline() == 3.0
    at.tick(3.0)
    failure = at.failure()
    assert (failure.code, failure.nodes, failure.indeterminate) == ("quorum", "a", True)
    store = at.sent(Store)[0][1]
    assert isinstance(store, Store)
    at.hear("b", Stored(store.id, STATUS_OK))
    assert at.answers() == []


def test_a_commit_that_comes_after_the_write_was_given_up_means_nothing() -> None:
    at = At(put_timeout_s=3.0)
    at.ask(a_put())
    at.tick(3.0)
    at.failure()
    at.commit()
    assert at.answers() == []


def test_a_request_that_was_passed_on_is_given_up_after_the_other_nodes_own_time() -> None:
    at = At(names="abcde", get_timeout_s=2.0, put_timeout_s=3.0)
    at.ask(a_get(key=not_owned(at)))
    assert at.coordinator.deadline() == 5.0
    at.tick(5.0)
    assert at.failure().message.endswith("did not answer in time")
    assert at.coordinator.deadline() is None


def test_reads_and_writes_expire_in_the_order_in_which_they_began() -> None:
    at = At(get_timeout_s=2.0)
    for number in range(3):
        at.now = number * 0.5
        at.ask(a_get(number))
    at.tick(2.4)
    assert [answer.id for answer in at.answers()] == [0]  # type: ignore[union-attr]
    at.tick(3.0)
    assert [answer.id for answer in at.answers()] == [1, 2]  # type: ignore[union-attr]


# ── the ring ──


def test_replicas_with_another_ring_are_asked_again_after_a_moment() -> None:
    at = At()
    at.ask(a_get(r=ALL))
    (_, read), _ = at.sent(Read)
    assert isinstance(read, Read)
    at.hear("b", ReadAnswer(read.id, STATUS_RING, b""))
    at.tick(0.049)
    assert at.sent(Read) == []
    at.tick(0.051)
    assert at.sent(Read) == [("b", read)]
    at.hear("b", ReadAnswer(read.id, STATUS_OK, b""))
    at.hear("c", ReadAnswer(read.id, STATUS_OK, b""))
    assert len(at.answers()) == 1


def test_a_write_that_a_replica_with_another_ring_refused_is_sent_again_after_a_moment() -> None:
    at = At()
    at.ask(a_put())
    (_, store), _ = at.sent(Store)
    assert isinstance(store, Store)
    at.hear("b", Stored(store.id, STATUS_RING))
    at.tick(0.05)
    assert at.sent(Store) == [("b", store)]


def test_reads_under_a_ring_that_is_no_more_fail_with_plan_again() -> None:
    at = At()
    at.ask(a_get(1))
    at.ask(a_delete(2))
    (_, read), *_ = at.sent(Read)
    assert isinstance(read, Read)
    at.turn("abc")  # the same one
    assert at.answers() == []
    at.turn("abcd")
    answers = at.answers()
    assert [answer.code for answer in answers if isinstance(answer, Failed)] == ["ring", "ring"]
    at.hear("b", ReadAnswer(read.id, STATUS_OK, b""))
    at.hear("c", ReadAnswer(read.id, STATUS_OK, b""))
    assert at.answers() == []


def test_a_node_that_owns_nothing_here_refuses_what_was_passed_on_to_it() -> None:
    at = At(names="abcde")
    at.ask(a_get(key=not_owned(at), forwarded=True))
    assert at.failure().code == "ring"


def test_data_is_refused_while_somebody_joins() -> None:
    at = At()
    at.members.admitting = True
    at.ask(a_put())
    failure = at.failure()
    assert failure.code == "ring"
    assert "newcomer" in failure.message
    at.ask(a_delete())
    assert at.failure().code == "ring"
    at.ask(a_get(r=1))
    assert isinstance(at.answers()[0], Found)
    assert at.replica.take_batch() is None


def test_a_delete_reads_by_the_quorum_that_it_came_with() -> None:
    at = At()
    at.ask(a_put())
    at.commit()
    at.sent(Store)
    at.ask(a_delete(2)._replace(r=1))
    assert [type(message) for _, message in at.out.sends] == [Store, Store]  # its own copy is enough
    at.out.sends.clear()
    at.answers()
    at.ask(a_delete(3)._replace(r=ALL))
    assert len(at.sent(Read)) == 2
    at.ask(a_delete(4)._replace(r=4))
    assert "r=4" in at.failure().message


def test_a_delete_that_has_read_writes_nothing_once_somebody_joins() -> None:
    at = At()
    at.ask(a_delete())
    ((name, read),) = at.sent(Read)
    assert isinstance(read, Read)
    other = At("b")
    other.ask(a_put())
    copy = other.sent(Store)[0][1]
    assert isinstance(copy, Store)
    at.members.admitting = True
    at.hear(name, ReadAnswer(read.id, STATUS_OK, copy.record))
    assert at.failure().code == "ring"


# ── whom to ask first ──


def test_those_alive_are_asked_before_suspects_and_suspects_before_the_dead() -> None:
    at = At()
    at.ask(a_get())
    ((first, _),) = at.sent(Read)
    (second,) = {"b", "c"} - {first}
    at.members.suspects = [first]
    at.ask(a_get())
    assert [name for name, _ in at.sent(Read)] == [second]
    at.members.dead = [second]
    at.ask(a_get())
    assert [name for name, _ in at.sent(Read)] == [first]


def test_a_request_for_others_goes_to_one_that_is_alive() -> None:
    at = At(names="abcde")
    key = not_owned(at)
    owners = at.ring.plan("bucket", key).owners
    at.members.dead = [owners[0]]
    at.members.suspects = [owners[1]]
    at.ask(a_get(key=key))
    assert [name for name, _ in at.sent(Get)] == [owners[2]]


def test_a_request_for_others_is_not_begun_when_too_few_of_them_live() -> None:
    at = At(names="abcde")
    key = not_owned(at)
    at.members.dead = list(at.ring.plan("bucket", key).owners[:2])
    at.ask(a_get(key=key))
    assert at.failure().message.startswith("2 owners of the key are needed, 1 of 3 are alive; dead: ")
    assert at.out.sends == []


# ── bounds ──


def test_reads_that_are_answered_and_wait_for_late_copies_are_bounded_and_forgotten() -> None:
    at = At(requests_max=2, get_timeout_s=2.0)
    for number in range(1500):
        at.ask(a_get(number, r=2))
        ((name, read),) = at.sent(Read)
        assert isinstance(read, Read)
        at.tick(at.now + 0.05)  # the hedge
        ((hedge, _),) = at.sent(Read)
        at.hear(hedge, ReadAnswer(read.id, STATUS_OK, b""))
        assert len(at.answers()) == 1
        at.now -= 0.049
    assert len(at.coordinator.reads._trailing) == 1000
    at.hear(name, ReadAnswer(read.id, STATUS_OK, b""))
    assert len(at.coordinator.reads._trailing) == 999
    at.coordinator.link_down(name, at.out)
    assert not at.coordinator.reads._trailing


def test_reads_that_trail_are_given_up_with_their_time() -> None:
    at = At()
    at.ask(a_get(r=2))
    ((_, read),) = at.sent(Read)
    assert isinstance(read, Read)
    at.tick(0.05)
    ((hedge, _),) = at.sent(Read)
    at.hear(hedge, ReadAnswer(read.id, STATUS_OK, b""))
    assert len(at.coordinator.reads._trailing) == 1
    assert at.coordinator.deadline() is None  # nobody waits for it
    at.coordinator.tick(2.0, at.out)
    assert not at.coordinator.reads._trailing
    assert len(at.answers()) == 1


def test_a_read_of_a_write_on_its_way_is_over_once_it_is_answered() -> None:
    at = At()
    at.ask(a_put(1))
    at.ask(a_get(2, r=1))
    at.commit()
    assert any(isinstance(answer, Found) for answer in at.answers())
    assert not at.coordinator.reads._gets
    assert not at.coordinator.reads._trailing


@pytest.mark.parametrize(
    "request_",
    [a_put(request=b"short"), a_delete()._replace(request=b"x" * 17)],
)
def test_a_request_id_has_sixteen_bytes(request_: Put | Delete) -> None:
    at = At()
    at.ask(request_)
    assert at.failure().message == "a request id has 16 bytes"


def test_a_context_larger_than_any_record_is_refused_without_being_looked_into() -> None:
    at = At()
    at.ask(a_put(context=bytes(RECORD_BYTES_MAX + 1)))
    assert "never given to anybody" in at.failure().message
    at.ask(a_delete(context=bytes(RECORD_BYTES_MAX + 1)))
    assert "never given to anybody" in at.failure().message


def test_a_random_context_is_refused() -> None:
    at = At()
    random = Random(1)
    for _ in range(100):
        at.ask(a_put(context=random.randbytes(random.randrange(1, 60))))
        assert at.failure().code == "invalid"
    assert at.replica.take_batch() is None


def test_a_delete_of_what_is_malformed_on_all_others_is_answered_too() -> None:
    at = At()
    at.ask(a_put())
    at.commit()
    (slot,) = at.engine.scan(b"", b"\xff" * 30, limit=9)[0]
    at.engine.corrupt(slot[0])
    at.answers()
    at.sent(Store)
    at.ask(a_delete())
    for name, read in at.sent(Read):
        assert isinstance(read, Read)
        at.hear(name, ReadAnswer(read.id, STATUS_OK, b"junk"))
    failure = at.failure()
    assert (failure.code, failure.indeterminate) == ("storage", False)
    assert "malformed" in failure.message


def test_one_that_stops_begins_nothing_and_finishes_what_is_under_way() -> None:
    at = At()
    at.ask(a_put(1))
    (_, store), _ = at.sent(Store)
    assert isinstance(store, Store)
    at.coordinator.stop()
    for request in (a_get(2), a_put(3), a_delete(4)):
        at.ask(request)
        assert at.failure().code == "ring"
        assert not at.out.sends
    assert at.coordinator.busy
    at.commit()
    at.hear("b", Stored(store.id, STATUS_OK))
    assert isinstance(at.answers()[0], Done)
    assert not at.coordinator.busy


# ── contexts of answers ──


def context_of(answer: Message) -> Context:
    assert isinstance(answer, Done)
    return Context.unpack(answer.context)


def test_the_context_of_a_blind_write_covers_that_write_alone() -> None:
    at = At(names="a")
    contexts = []
    for number in range(3):
        at.ask(a_put(number, b"%d" % number))
        at.commit()
        contexts.append(context_of(at.answers()[0]))
    at.ask(a_get(9))
    (found,) = at.answers()
    assert isinstance(found, Found)
    record = Record.unpack(found.record)
    for number, context in enumerate(contexts):
        covered = [sibling.value for sibling in record.siblings if context.covers(sibling.dot)]
        assert covered == [b"%d" % number]


def test_the_context_of_a_write_that_had_read_everything_is_that_of_the_record() -> None:
    at = At(names="a")
    at.ask(a_put(1))
    at.commit()
    read = token.encode(context_of(at.answers()[0]), cluster=b"c" * 16, bucket="bucket", key=KEY)
    at.ask(a_put(2, b"next", read))
    at.commit()
    written = context_of(at.answers()[0])
    at.ask(a_get(3))
    (found,) = at.answers()
    assert isinstance(found, Found)
    assert Record.unpack(found.record).context == written


REQUESTS: list[Callable[[], Get | Put | Delete]] = [a_get, a_put, a_delete]


@pytest.mark.parametrize("a_request", REQUESTS)
def test_before_there_is_a_ring_nobody_is_served(a_request: Callable[[], Get | Put | Delete]) -> None:
    at = At()
    at.planner.ring = None
    at.ask(a_request())
    assert at.failure().message == "a has not joined a cluster yet"


# ── overload ──


def write_many(at: At, count: int) -> list[Store]:
    """The copies that go to b and c."""
    for number in range(count):
        at.ask(a_put(number, key=b"key %d" % number))
    return [store for name, store in at.sent(Store) if name == "b" and isinstance(store, Store)]


def slow_down(at: At) -> None:
    """The disk takes a millisecond for a record from now on, as far as anybody knows."""
    write_many(at, 200)
    assert at.replica.take_batch(at.now) is not None
    at.now += 0.2
    at.replica.committed(at.now, at.out, 0.2)
    for store in [store for name, store in at.sent(Store) if name == "b"]:
        at.hear("b", Stored(store.id, STATUS_OK))  # type: ignore[union-attr]
    at.answers()


def test_a_write_that_would_wait_too_long_for_the_disk_is_refused_before_it_begins() -> None:
    at = At(names="a")
    slow_down(at)
    write_many(at, 600)
    answers = at.answers()
    assert 50 < len(answers) < 150
    refused = answers[-1]
    assert isinstance(refused, Failed)
    assert (refused.code, refused.indeterminate) == ("overloaded", False)
    assert refused.message.startswith("a: writes wait 0.5")
    assert 500 <= refused.retry_after_ms <= 550
    at.ask(a_delete(context=b""))  # reads first, and then would write
    assert at.failure().code == "overloaded"
    at.commit()
    assert len(at.answers()) + len(answers) == 600
    at.ask(a_put(1000))
    at.commit()
    assert isinstance(at.answers()[0], Done)


def test_a_write_whose_caller_waits_for_less_is_refused_earlier() -> None:
    at = At(names="a")
    slow_down(at)
    write_many(at, 100)
    at.ask(a_put(1000, budget_ms=150))
    assert at.failure().code == "overloaded"
    at.ask(a_put(1001, budget_ms=250))
    assert at.answers() == []


def test_a_write_is_not_begun_when_too_many_of_its_owners_refused_copies_lately() -> None:
    at = At()
    stores = write_many(at, 100)
    for name in "bc":
        at.hear(name, Stored(stores[-1].id, STATUS_OVERLOADED))
    at.answers()
    at.ask(a_put(1000))
    failed = at.failure()
    assert (failed.code, failed.indeterminate) == ("overloaded", False)
    assert failed.message == "a: fewer than 2 owners of the key keep up with writes"
    at.ask(a_put(1001, w=1))
    assert at.answers() == []
    for store in stores[:50]:
        at.hear("b", Stored(store.id, STATUS_OK))
    at.ask(a_put(1002))
    assert at.answers() == []


def test_a_peer_that_owes_many_answers_and_gives_none_is_not_waited_for() -> None:
    at = At()
    write_many(at, 65)
    at.now = 1.4
    at.ask(a_put(1000))
    assert at.answers() == []
    at.now = 1.6
    at.ask(a_put(1001))
    assert at.failure().code == "overloaded"
    at.coordinator.link_down("b", at.out)
    at.ask(a_put(1002))
    assert at.answers() == []


def test_reads_that_are_late_because_the_disk_is_slow_are_not_hedged() -> None:
    line = ReadLine(Config())
    at = At(hedge_after_s=0.05, read_line=line)
    line.mean_s = 0.001
    line.waiting = 100
    at.ask(a_get())
    assert len(at.sent(Read)) == 1
    at.tick(0.06)
    assert at.sent(Read) == []
    line.waiting = 0
    at.tick(0.09)
    assert at.sent(Read) == []
    at.tick(0.1)
    assert len(at.sent(Read)) == 1


# ── listings ──


def a_listing(id: int = 1, partition: int = 0, r: int = DEFAULT, **fields: object) -> ListKeys:
    listing = ListKeys(id, "bucket", partition, b"", 100, r, DEFAULT, 5000, False)
    return listing._replace(**fields)  # type: ignore[arg-type]


def with_record(at: At) -> int:
    """A record of KEY on this disk; its partition."""
    at.ask(a_put(w=1))
    at.commit()
    at.coordinator.tick(100.0, at.out)
    at.out = Outbox()
    return slot_partition(at.ring.plan("bucket", KEY).slot)


def listed(at: At) -> list[bytes]:
    (answer,) = at.answers()
    assert isinstance(answer, Listed), answer
    assert answer[0] == 1
    assert answer.cursor == b""
    return unpack_keys(answer.keys)


def test_a_page_of_keys_is_scanned_here_and_at_another_owner() -> None:
    at = At()
    partition = with_record(at)
    at.ask(a_listing(partition=partition))
    ((node, scan),) = at.sent(Scan)
    assert isinstance(scan, Scan)
    slot = at.ring.plan("bucket", KEY).slot
    assert (scan.prefix, scan.after, scan.ring) == (slot[:PREFIX_BYTES], b"", at.ring.fingerprint)
    assert at.coordinator.busy
    entries, _ = at.replica.scan(scan.prefix, b"", 100)
    at.hear(node, ReadAnswer(scan.id, STATUS_OK, b""))  # means nothing to a listing
    at.hear(node, ScanAnswer(scan.id, STATUS_OK, entries, b""))
    assert listed(at) == [KEY]
    assert not at.coordinator.busy
    at.hear(node, ScanAnswer(scan.id, STATUS_OK, entries, b""))
    assert at.answers() == []


def test_a_page_for_a_read_means_nothing() -> None:
    at = At()
    at.ask(a_get())
    ((node, read),) = at.sent(Read)
    assert isinstance(read, Read)
    at.hear(node, ScanAnswer(read.id, STATUS_OK, b"", b""))
    assert at.answers() == []
    assert at.coordinator.busy


def test_a_key_of_which_the_owners_differ_is_read_and_repaired() -> None:
    at = At()
    partition = with_record(at)
    at.ask(a_listing(partition=partition))
    ((node, scan),) = at.sent(Scan)
    at.hear(node, ScanAnswer(scan.id, STATUS_OK, b"", b""))  # type: ignore[union-attr]
    assert at.answers() == []
    assert at.coordinator.busy
    ((other, read),) = at.sent(Read)
    assert isinstance(read, Read)
    assert read.slot == at.ring.plan("bucket", KEY).slot
    at.hear(other, ReadAnswer(read.id, STATUS_OK, b""))
    ((_, store),) = at.sent(Store)
    assert isinstance(store, Store)
    assert (store.key, store.slot) == (KEY, read.slot)
    assert listed(at) == [KEY]


def test_a_page_has_no_more_keys_than_a_client_takes_whatever_it_asks_for() -> None:
    """Each owner may have as many, and all of them others."""
    at = At()
    record = Record.EMPTY.write(Context.EMPTY, Dot(b"a" * 16, 1), b"r" * 16, b"v").pack()
    at.ask(a_listing(limit=1 << 40, r=ALL))
    asked = at.sent(Scan)
    hashes = [number.to_bytes(HASH_BYTES, "big") for number in range(2 * PAGE_KEYS_MAX)]
    for first, (node, scan) in enumerate(asked):
        assert isinstance(scan, Scan)
        entries = [entry(hash, hash, b"", live=True) for hash in hashes[first::2]]
        at.hear(node, ScanAnswer(scan.id, STATUS_OK, pack_entries(entries), b""))
    while not (answers := at.answers()):
        for node, read in at.sent(Read):
            assert isinstance(read, Read)
            at.hear(node, ReadAnswer(read.id, STATUS_OK, record))
    (answer,) = answers
    assert isinstance(answer, Listed), answer
    assert unpack_keys(answer.keys) == hashes[:PAGE_KEYS_MAX]
    assert answer.cursor == hashes[PAGE_KEYS_MAX - 1]


def test_a_listing_whose_ring_changes_before_its_reads_is_planned_again() -> None:
    at = At()
    partition = with_record(at)
    listing = a_listing(partition=partition)
    at.ask(listing)
    at.turn("abcd")
    assert at.failure().code == "ring"

    read_key = partial(at.coordinator.reads._read_listed, at.ring.plan("bucket", KEY), at.ring, 2)
    at.turn("abcde")
    sink = LinkSink(LINK, 1)
    read_key(b"h" * 16, KEY, sink, at.now, at.out)
    assert at.failure().code == "ring"


def test_a_listing_is_hedged_asked_again_and_in_the_end_given_up() -> None:
    at = At(hedge_after_s=0.05, get_timeout_s=2.0)
    at.ask(a_listing())
    ((first, scan),) = at.sent(Scan)
    assert isinstance(scan, Scan)
    at.tick(0.05)
    ((second, _),) = at.sent(Scan)
    assert first != second
    at.hear(first, ScanAnswer(scan.id, STATUS_RING, b"", b""))
    at.tick(0.11)
    assert [node for node, _ in at.sent(Scan)] == [first]
    at.tick(2.0)
    assert at.failure().message.startswith("1 of 2 needed nodes answered the read in time")
    assert at.coordinator.deadline() is None
    assert not at.coordinator.busy


def test_a_listing_of_a_partition_of_others_is_passed_on() -> None:
    at = At(names="abcdef")
    partition = slot_partition(at.ring.plan("bucket", not_owned(at)).slot)
    at.ask(a_listing(partition=partition))
    ((node, passed),) = at.sent(ListKeys)
    assert passed == a_listing(id=1, partition=partition, forwarded=True)
    at.hear(node, Listed(1, b"", b""))
    assert listed(at) == []
    at.ask(a_listing(partition=partition, forwarded=True))
    assert at.failure().code == "ring"


@pytest.mark.parametrize(
    ("listing", "text"),
    [
        (a_listing(limit=0), "limit of 1 at least"),
        (a_listing(after=b"short"), "behind a key's hash"),
        (a_listing(partition=16), "there is no partition 16"),
        (a_listing(bucket=""), "bucket's name"),
        (a_listing(r=4), "more than the bucket's n=3"),
    ],
)
def test_a_listing_that_cannot_be_is_refused(listing: ListKeys, text: str) -> None:
    at = At()
    at.ask(listing)
    failure = at.failure()
    assert (failure.code, text in failure.message) == ("invalid", True), failure


def test_a_listing_needs_enough_living_owners() -> None:
    at = At()
    at.members.dead = ["b", "c"]
    at.ask(a_listing())
    assert at.failure().code == "quorum"
    assert not at.sent(Scan)


def test_few_listings_are_under_way_at_once() -> None:
    at = At(listings_max=2)
    at.ask(a_listing(1))
    at.ask(a_listing(2))
    at.ask(a_listing(3))
    failure = at.failure()
    assert (failure.id, failure.code, failure.retry_after_ms) == (3, "overloaded", 100)
    at.ask(a_listing(4, partition=99))  # refused, and counts no more
    at.answers()
    scans = at.sent(Scan)
    assert len(scans) == 2
    node, scan = scans[0]
    at.hear(node, ScanAnswer(scan.id, STATUS_OK, b"", b""))  # type: ignore[union-attr]
    assert listed(at) == []
    at.ask(a_listing(5))
    assert at.answers() == []
    at.tick(2.0)
    assert len(at.answers()) == 2
    at.ask(a_listing(6, r=1))
    assert len(at.answers()) == 1


# ── buckets with properties of their own ──


def test_a_bucket_that_is_being_created_is_served_to_nobody() -> None:
    at = At()
    at.serving["bucket"] = None
    for request in (a_get(), a_put(), a_delete()):
        at.ask(request)
        failure = at.failure()
        assert (failure.code, failure.indeterminate) == ("ring", False)
        assert failure.message == "bucket 'bucket' is being created by b; try again in a moment"
    at.ask(a_get()._replace(bucket="other"))
    assert len(at.sent(Read)) == 1


def test_the_quorums_of_a_bucket_are_those_of_calls_that_name_none() -> None:
    at = At(names="abcde")
    at.serving["bucket"] = Properties(5, 1, ALL, 0)
    at.ask(a_get())
    assert isinstance(at.answers()[0], Found)
    at.ask(a_get(r=2))
    assert len(at.sent(Read)) == 1
    at.ask(a_put())
    at.commit()
    stores = at.sent(Store)
    for name, store in stores[:-1]:
        assert isinstance(store, Store)
        at.hear(name, Stored(store.id, STATUS_OK))
    assert at.answers() == []
    name, store = stores[-1]
    assert isinstance(store, Store)
    at.hear(name, Stored(store.id, STATUS_OK))
    (done,) = at.answers()
    assert isinstance(done, Done)
    assert len(done.answered.split(",")) == 5
    at.ask(a_delete())  # reads one, itself
    assert len(at.sent(Store)) == 4


def test_counts_go_up_to_the_n_of_the_bucket() -> None:
    at = At(names="abcde", copies=5)
    at.ask(a_get(r=5))
    assert len(at.sent(Read)) == 4
    at.ask(a_get(r=6))
    assert at.failure().message == "r=6 is more than the bucket's n=5"
    at.ask(a_get(r=4)._replace(bucket="other"))
    assert at.failure().message == "r=4 is more than the bucket's n=3"


def test_reads_of_a_bucket_that_becomes_another_are_planned_again() -> None:
    at = At()
    at.ask(a_get(1))
    at.ask(a_get(2)._replace(bucket="other"))
    at.coordinator.replan_bucket(bucket_id("bucket"), at.out)
    failure = at.failure()
    assert (failure.id, failure.code) == (1, "ring")
    at.coordinator.replan_bucket(bucket_id("bucket"), at.out)
    assert at.answers() == []


def test_a_write_that_goes_on_to_another_owner_while_its_bucket_is_reserved_counts_as_before() -> None:
    at = At()
    at.ask(a_put())
    at.commit()
    at.serving["bucket"] = None
    (name, store), *_ = at.sent(Store)
    assert isinstance(store, Store)
    at.hear(name, Stored(store.id, STATUS_OK))
    assert isinstance(at.answers()[0], Done)


def of_another_kind() -> bytes:
    packed = bytearray(Record.EMPTY.write(Context.EMPTY, Dot(b"a" * 16, 1), b"r" * 16, b"v").pack())
    packed[1] = 7
    return bytes(packed)


def test_an_operation_of_another_kind_than_the_record_is_invalid() -> None:
    at = At("a", "a")
    slot = at.ring.plan("bucket", KEY).slot
    at.engine.write_batch({slot: pack_cell(KEY, b"", of_another_kind())}, {})
    for request in (a_put(), a_delete()):
        at.ask(request)
        failure = at.failure()
        assert failure.code == "invalid"
        assert "a packed record has the other kind 7" in failure.message


def test_a_delete_that_finds_a_record_of_another_kind_only_here_is_invalid() -> None:
    at = At("a", "ab")
    slot = at.ring.plan("bucket", KEY).slot
    at.ask(a_delete())
    ((name, read),) = at.sent(Read)
    assert isinstance(read, Read)
    at.engine.write_batch({slot: pack_cell(KEY, b"", of_another_kind())}, {})
    record = Record.EMPTY.write(Context.EMPTY, Dot(b"a" * 16, 1), b"r" * 16, b"v").pack()
    at.hear(name, ReadAnswer(read.id, STATUS_OK, record))
    failure = at.failure()
    assert (failure.code, "holds no siblings" in failure.message) == ("invalid", True)


def test_a_conditional_put_over_a_record_of_another_kind_is_invalid() -> None:
    at = At()
    slot = at.ring.plan("bucket", KEY).slot
    at.engine.write_batch({slot: pack_cell(KEY, b"", of_another_kind())}, {})
    at.ask(a_put(conditional=True))
    failure = at.failure()
    assert (failure.code, "holds no siblings" in failure.message) == ("invalid", True)


def test_conditional_puts_that_wait_for_a_commit_to_be_refused_are_bounded() -> None:
    at = At(batch_waiters_max=5)
    at.ask(a_put())
    for number in range(2, 12):
        at.ask(a_put(number, conditional=True))
    refused = at.answers()
    assert [failed.id for failed in refused] == [6, 7, 8, 9, 10, 11]  # type: ignore[union-attr]
    assert {failed.code for failed in refused} == {"overloaded"}  # type: ignore[union-attr]
    at.commit()
    conflicts = at.answers()
    assert [failed.id for failed in conflicts] == [2, 3, 4, 5]  # type: ignore[union-attr]
    assert {failed.code for failed in conflicts} == {"conflict"}  # type: ignore[union-attr]
