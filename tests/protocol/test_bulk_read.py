"""Many reads in one question: what is plain is answered, all else begun anew, and nothing answered twice."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from dyno.buckets.properties import Properties
from dyno.causality.context import Context
from dyno.causality.mint import Minter
from dyno.config import Config
from dyno.placement.hashing import SLOT_BYTES, bucket_id, slot_copies
from dyno.protocol.bulk_read import BulkReads
from dyno.protocol.outbox import Outbox
from dyno.protocol.overload import ReadLine
from dyno.protocol.peers import Peers
from dyno.protocol.planner import Planner
from dyno.protocol.recovery import Weakness
from dyno.protocol.replica import Replica
from dyno.protocol.ring import Ring
from dyno.storage.memory import MemoryEngine
from dyno.wire.codec import ProtocolError
from dyno.wire.members import ALIVE, NORMAL, Member
from dyno.wire.messages import (
    ALL,
    DEFAULT,
    GET_MANY_KEYS_MAX,
    READ_MANY_BYTES_MAX,
    READ_MANY_SLOTS_MAX,
    STATUS_OK,
    STATUS_OVERLOADED,
    STATUS_RING,
    ClientAnswer,
    Failed,
    Found,
    FoundMany,
    Get,
    GetMany,
    ReadMany,
    ReadManyAnswer,
)
from dyno.wire.rows import pack_row, unpack_row

LINK, KEY = 7, b"key"


class Members:
    """What a planner asks of the membership."""

    def __init__(self) -> None:
        self.version = 0
        self.suspects: list[str] = []

    def is_alive(self, name: str) -> bool:
        return name not in self.suspects

    def is_live(self, name: str) -> bool:
        return True


class Weak(Weakness):
    """Which copies of node a are weak: by slot."""

    def __init__(self) -> None:
        self.slots: list[bytes] = []

    @property
    def doubtful(self) -> bool:  # type: ignore[override]
        return bool(self.slots)

    def is_weak(self, slot: bytes) -> bool:
        return slot in self.slots


class At:
    """The bulk reads of node a, linked to all others of the ring."""

    def __init__(self, names: str = "abc", *, linked: str = "", **config: float) -> None:
        self.now = 0.0
        self.out = Outbox()
        self.engine = MemoryEngine()
        self.members = Members()
        self.peers = Peers()
        self.config = Config(**config)  # type: ignore[arg-type]
        self.replica = Replica(engine=self.engine, minter=Minter(b"start 01"), config=self.config)
        self.serving: dict[str, Properties | None] = {}
        self.planner = Planner(
            me="a",
            membership=self.members,  # type: ignore[arg-type]
            serving=self.serving,
            why_not="{} is being created".format,
        )
        self.alone: list[tuple[int, bytes, str]] = []  # (request, key, late) of the reads begun anew
        self.elsewhere = 0
        self.line = ReadLine(self.config)
        self.weakness = Weak()
        self.bulk = BulkReads(
            me="a",
            config=self.config,
            planner=self.planner,
            replica=self.replica,
            peers=self.peers,
            read_line=self.line,
            singly=self._singly,
            elsewhere=lambda: self.elsewhere,
            weakness=self.weakness,
        )
        self.turn(names)
        self.peers.place({name: name for name in names if name != "a"})
        for name in linked or names:
            self.peers.up(name, name)

    def _singly(self, link: int, get: Get, late: str, now: float, out: Outbox) -> None:
        assert link == LINK
        assert now == self.now
        self.alone.append((get.id, get.key, late))

    def turn(self, names: str) -> None:
        """The ring is of these nodes."""
        members = []
        for name in names:
            identity = name.encode() * 16
            members.append(Member(name, identity, identity, identity[:8], 1, 0, NORMAL, ALIVE, name, "", 1.0))
        self.planner.ring = self.ring = Ring(
            members, cluster=b"c" * 16, partitions=16, fingerprint=sum(map(ord, names))
        )
        self.bulk.replan(self.now, self.out)

    def slot(self, key: bytes) -> bytes:
        return self.ring.plan("bucket", key).slot

    def store(self, key: bytes, value: bytes = b"value", *, commit: bool = True) -> bytes:
        """The record that this node has then."""
        written = self.replica.put(self.slot(key), key, context=Context.EMPTY, request=b"r" * 16, value=value)
        if commit:
            batch = self.replica.take_batch()
            assert batch is not None
            self.engine.write_batch(batch.writes, batch.meta)
            self.replica.committed(self.now, self.out)
        return written.record

    def get(self, *keys: bytes, r: int = DEFAULT, first: int = 1) -> None:
        """Gets that arrive in one turn, with ids from `first` on."""
        for id, key in enumerate(keys, first):
            self.bulk.get(LINK, Get(id, "bucket", key, r, DEFAULT, 5000, False), self.now, self.out)
        if keys:
            assert self.bulk.deadline() == self.now
        self.bulk.tick(self.now, self.out)

    def get_many(self, *keys: bytes, r: int = DEFAULT, id: int = 100) -> None:
        request = GetMany(id, "bucket", pack_row(keys), r, DEFAULT, 5000)
        self.bulk.get_many(LINK, request, self.now, self.out)

    def asked(self) -> list[tuple[str, ReadMany]]:
        asked = [(name, message) for name, message in self.out.sends if isinstance(message, ReadMany)]
        assert len(asked) == len(self.out.sends)
        self.out.sends.clear()
        return asked

    def answer(self, name: str, question: ReadMany, *records: bytes | None, status: int = STATUS_OK) -> None:
        row = pack_row(records) if records else b""
        self.bulk.answer(name, ReadManyAnswer(question.id, status, row), self.now, self.out)

    def answers(self) -> list[ClientAnswer]:
        assert all(link == LINK for link, _ in self.out.replies)
        answers: list[ClientAnswer] = [reply for _, reply in self.out.replies]  # type: ignore[misc]
        self.out.replies.clear()
        return answers

    def records(self) -> list[bytes | None]:
        """Of the one FoundMany that was answered."""
        (answer,) = self.answers()
        assert isinstance(answer, FoundMany)
        return unpack_row(answer.records, items_max=GET_MANY_KEYS_MAX)

    def idle(self) -> bool:
        return self.bulk.pending == 0 and not self.bulk.busy and self.bulk.deadline() is None


def keys_owned(at: At, count: int) -> list[bytes]:
    keys = [b"key %d" % number for number in range(500)]
    return [key for key in keys if "a" in at.ring.plan("bucket", key).owners][:count]


def key_not_owned(at: At) -> bytes:
    keys = (b"key %d" % number for number in range(500))
    return next(key for key in keys if "a" not in at.ring.plan("bucket", key).owners)


# ── gets of one turn ──


def test_gets_of_one_turn_are_one_question_to_one_node() -> None:
    at = At()
    record = at.store(b"one")
    at.get(b"one", b"two")
    ((name, question),) = at.asked()
    assert question.ring == at.ring.fingerprint
    assert question.slots == at.slot(b"one") + at.slot(b"two")
    assert at.answers() == []
    assert at.bulk.pending == 2
    assert at.bulk.busy
    at.answer(name, question, record, b"")
    assert at.answers() == [Found(1, record, f"a,{name}", ""), Found(2, b"", f"a,{name}", "")]
    assert at.alone == []
    assert at.idle()


def test_a_get_that_nobody_waits_for_any_more_is_dropped() -> None:
    at = At()
    at.bulk.get(LINK, Get(1, "bucket", KEY, DEFAULT, DEFAULT, 0, False), at.now, at.out)
    at.bulk.get_many(LINK, GetMany(1, "bucket", pack_row([KEY]), DEFAULT, DEFAULT, 0), at.now, at.out)
    assert at.idle()
    at.bulk.tick(at.now, at.out)
    assert at.answers() == at.asked() == at.alone == []


def test_where_one_answer_is_enough_nobody_is_asked() -> None:
    at = At()
    record = at.store(KEY)
    at.get(KEY, r=1)
    assert at.answers() == [Found(1, record, "a", "")]
    assert at.asked() == []
    assert at.idle()


def test_where_all_are_to_answer_all_are_asked_and_waited_for() -> None:
    at = At()
    record = at.store(KEY)
    at.get(KEY, r=ALL)
    (one, question), (other, same) = at.asked()
    assert {one, other} == {"b", "c"}
    assert question == same
    at.answer(one, question, record)
    assert at.answers() == []
    at.answer(one, question, record)  # twice is one answer
    assert at.answers() == []
    at.answer(other, question, record)
    assert at.answers() == [Found(1, record, f"a,{one},{other}", "")]
    assert at.idle()


def test_what_differs_at_any_node_is_begun_anew_and_the_rest_is_answered() -> None:
    at = At()
    records = [at.store(key) for key in (b"one", b"two", b"three")]
    at.get(b"one", b"two", b"three", b"four", r=ALL)
    (one, question), (other, _) = at.asked()
    at.answer(one, question, records[0], b"another", records[2], b"")
    at.answer(other, question, records[0], records[1], None, b"")
    assert [answer.id for answer in at.answers()] == [1, 4]
    assert at.alone == [(2, b"two", ""), (3, b"three", "")]
    assert at.idle()


def test_what_is_on_its_way_to_the_disk_or_corrupt_here_is_begun_anew_at_once() -> None:
    at = At()
    at.store(b"broken")
    at.engine.corrupt(at.slot(b"broken"))
    record = at.store(b"sound")
    at.store(b"written", commit=False)
    at.get(b"broken", b"written", b"sound")
    assert at.alone == [(1, b"broken", ""), (2, b"written", "")]
    ((name, question),) = at.asked()
    assert question.slots == at.slot(b"sound")
    at.answer(name, question, record)
    assert at.answers() == [Found(3, record, f"a,{name}", "")]
    assert at.idle()
    at.get(b"broken")
    assert at.alone[2:] == [(1, b"broken", "")]
    assert at.asked() == []
    assert at.idle()


def test_keys_of_other_nodes_and_impossible_requests_go_where_they_are_passed_on_or_refused() -> None:
    at = At("abcde")
    foreign = key_not_owned(at)
    (mine,) = keys_owned(at, 1)
    at.get(foreign, b"", b"x" * 1025)
    at.get(mine, r=4, first=4)
    assert [id for id, _, _ in at.alone] == [1, 2, 3, 4]
    assert at.asked() == at.answers() == []
    assert at.idle()


def test_without_a_ring_or_enough_who_live_and_are_linked_gets_are_begun_anew() -> None:
    at = At(linked="b")
    at.members.suspects = ["b"]
    at.get(KEY)
    assert at.alone == [(1, KEY, "")]
    at.members.suspects = []
    at.members.version += 1
    at.get(KEY, r=ALL)
    assert len(at.alone) == 2
    at.get(KEY)
    assert [name for name, _ in at.asked()] == ["b"]
    at.planner.ring = None
    at.get(KEY)
    assert len(at.alone) == 3


def test_one_turn_speaks_with_few_nodes() -> None:
    at = At("abcdefgh")
    keys = keys_owned(at, 60)
    at.get(*keys)
    names = Counter(name for name, _ in at.asked())
    assert max(names.values()) == 1
    assert len(names) < 7


def test_the_same_nodes_are_asked_in_one_question_in_whatever_order_the_keys_prefer_them() -> None:
    at = At()
    at.get(*[b"%d" % number for number in range(30)], r=ALL)
    assert sorted(name for name, _ in at.asked()) == ["b", "c"]


def test_more_slots_than_one_question_holds_are_asked_in_several() -> None:
    at = At()
    at.get(*[b"%d" % number for number in range(READ_MANY_SLOTS_MAX + 1)])
    first, second = at.asked()
    assert first[0] == second[0]
    assert [len(question.slots) // 27 for _, question in (first, second)] == [READ_MANY_SLOTS_MAX, 1]
    at.answer(second[0], second[1], b"")
    assert [answer.id for answer in at.answers()] == [READ_MANY_SLOTS_MAX + 1]


# ── late, lost, another ring ──


def test_where_this_nodes_own_disk_has_a_long_line_late_answers_are_waited_for() -> None:
    at = At(hedge_after_s=0.05)
    at.line.mean_s, at.line.waiting = 0.001, 100
    at.get(b"one")
    ((name, question),) = at.asked()
    at.now = 0.5
    at.bulk.tick(at.now, at.out)
    assert at.alone == []
    assert at.bulk.deadline() == pytest.approx(0.55)
    at.answer(name, question, b"")
    assert [answer.id for answer in at.answers()] == [1]


def test_who_does_not_answer_for_long_is_late_for_another_reason() -> None:
    at = At(hedge_after_s=0.05)
    at.line.mean_s, at.line.waiting = 0.001, 100
    at.get(b"one")
    ((name, _),) = at.asked()
    at.now = 0.99
    at.bulk.tick(at.now, at.out)
    assert at.alone == []
    at.now = 1.04
    at.bulk.tick(at.now, at.out)
    assert at.alone == [(1, b"one", name)]


def test_when_the_line_gets_short_the_late_are_overtaken() -> None:
    at = At(hedge_after_s=0.05)
    at.line.mean_s, at.line.waiting = 0.001, 100
    at.get(b"one")
    ((name, _),) = at.asked()
    at.now = 0.05
    at.bulk.tick(at.now, at.out)
    at.line.waiting = 0
    at.now = 0.1
    at.bulk.tick(at.now, at.out)
    assert at.alone == [(1, b"one", name)]


# ── overloaded ──


def test_who_is_overloaded_is_asked_last_by_the_reads_begun_anew_and_by_those_after_them() -> None:
    at = At()
    at.get(b"one", b"two")
    ((name, question),) = at.asked()
    at.answer(name, question, status=STATUS_OVERLOADED)
    assert at.alone == [(1, b"one", name), (2, b"two", name)]
    assert at.idle()
    at.answer(name, question, status=STATUS_OVERLOADED)  # twice
    at.get_many(*[b"%d" % number for number in range(30)])
    ((other, _),) = at.asked()
    assert other != name
    assert len(at.alone) == 2


def test_a_get_many_of_which_nothing_could_be_read_for_the_load_is_refused_as_a_whole() -> None:
    at = At()
    at.get_many(b"one", b"two", b"three")
    ((name, question),) = at.asked()
    at.answer(name, question, status=STATUS_OVERLOADED)
    text = f"a: {name} is overloaded"
    assert at.answers() == [Failed(100, "overloaded", text, 0, "", False, 100, b"")]
    assert at.alone == []
    assert at.idle()


@pytest.mark.parametrize("refused_first", [False, True])
def test_a_get_many_of_which_some_could_be_read_leaves_out_the_rest(refused_first: bool) -> None:
    at = At(names="abcdef")
    at.get_many(*keys_owned(at, 40))
    (one, question), *others = at.asked()
    assert others
    if refused_first:
        at.answer(one, question, status=STATUS_OVERLOADED)
    for other, another in others:
        at.answer(other, another, *[b""] * (len(another.slots) // SLOT_BYTES))
    if not refused_first:
        at.answer(one, question, status=STATUS_OVERLOADED)
    left_out = sum(record is None for record in at.records())
    assert left_out == len(question.slots) // SLOT_BYTES
    assert at.idle()


def test_an_owner_that_is_late_is_asked_last_by_the_reads_begun_anew() -> None:
    at = At(hedge_after_s=0.05)
    at.get(b"one", b"two")
    ((name, question),) = at.asked()
    at.now = 0.02
    at.get(b"three", first=3)
    assert at.bulk.deadline() == 0.05
    at.now = 0.04
    at.bulk.tick(at.now, at.out)
    assert at.alone == []
    at.now = 0.05
    at.bulk.tick(at.now, at.out)
    assert at.alone == [(1, b"one", name), (2, b"two", name)]
    assert at.bulk.pending == 1
    assert at.bulk.deadline() == pytest.approx(0.07)
    at.answer(name, question, b"", b"")  # late, and means nothing
    assert at.answers() == []
    at.now = 1.0
    at.bulk.tick(at.now, at.out)
    assert [id for id, _, _ in at.alone] == [1, 2, 3]
    assert at.idle()


def test_where_all_answers_take_long_they_are_waited_for() -> None:
    """Else all work would be done twice, and each read take even longer."""
    at = At(hedge_after_s=0.05)
    for id in range(1, 11):
        at.get(KEY, first=id)
        ((name, question),) = at.asked()
        due, at.now = at.now + 0.08, at.now + 0.05
        at.bulk.tick(at.now, at.out)
        at.now = due
        at.answer(name, question, b"")
    assert [id for id, _, _ in at.alone] == [1, 2]
    assert [answer.id for answer in at.answers()] == [*range(3, 11)]
    assert at.idle()


def test_a_read_begins_anew_in_the_end_though_no_hedge_can_be_afforded() -> None:
    """A node hangs of which hundreds of questions are under way: none waits longer than a read may."""
    at = At(linked="b", hedge_after_s=0.05, get_timeout_s=1.0)
    rounds = 400
    for id in range(1, rounds + 1):
        at.get(KEY, first=id)
    while at.now < 0.9:
        at.now += 0.05
        at.bulk.tick(at.now, at.out)
    assert 100 < len(at.alone) < 200
    while at.now < 1.1:
        at.now += 0.05
        at.bulk.tick(at.now, at.out)
    assert sorted(id for id, _, _ in at.alone) == [*range(1, rounds + 1)]
    assert at.idle()


def test_who_always_takes_long_makes_nobody_else_late_any_later() -> None:
    at = At(hedge_after_s=0.05)
    for id in range(1, 100):  # c takes long, b does not
        at.get(KEY, first=id, r=ALL)
        (_, question), _ = at.asked()
        at.answer("b", question, b"")
        at.now += 0.3
        at.answer("c", question, b"")
    at.alone.clear()
    at.get(b"one", first=100, r=ALL)
    (_, slow), _ = at.asked()
    at.get(b"two", first=101)
    ((name, _),) = at.asked()
    assert name == "b"
    due = at.bulk.deadline()
    assert due is not None
    assert due <= at.now + 0.05
    at.now = due
    at.bulk.tick(at.now, at.out)
    assert at.alone == [(101, b"two", "b")]
    at.answer("b", slow, b"")
    at.answer("c", slow, b"")
    assert at.idle()


def test_who_is_late_is_not_asked_again_at_once() -> None:
    at = At(hedge_after_s=0.05)
    at.get(KEY)
    ((hung, _),) = at.asked()
    at.now = 0.05
    at.bulk.tick(at.now, at.out)
    assert at.alone == [(1, KEY, hung)]
    at.get_many(*[b"%d" % number for number in range(30)])
    ((other, _),) = at.asked()
    assert other != hung


def test_a_node_that_is_slow_lately_is_not_asked_but_where_it_has_to_be_and_tried_again_after_a_while() -> (
    None
):
    at = At(hedge_after_s=0.05)
    at.get(KEY)
    ((slow, question),) = at.asked()
    at.now = 0.2
    at.bulk.tick(at.now, at.out)
    at.answer(slow, question, b"")
    for id in range(2, 40):
        at.get(b"%d" % id, first=id)
        ((name, question),) = at.asked()
        assert name != slow
        at.answer(name, question, b"")
    at.get(KEY, r=ALL, first=50)
    (one, question), (other, _) = at.asked()
    at.now += 0.06
    at.bulk.tick(at.now, at.out)
    at.answer(one, question, b"")
    at.answer(other, question, b"")
    assert [id for id, _, _ in at.alone] == [1]
    at.now += 11
    at.get_many(*[b"%d" % id for id in range(40)], r=1)
    at.get(KEY, first=60)
    ((name, _),) = at.asked()
    assert name == slow


def test_a_broken_link_gives_up_what_waits_for_that_node_alone() -> None:
    at = At()
    at.get(b"one")
    ((name, question),) = at.asked()
    (other,) = {"b", "c"} - {name}
    at.bulk.lost(other, at.now, at.out)
    assert at.alone == []
    at.bulk.lost(name, at.now, at.out)
    at.bulk.lost(name, at.now, at.out)
    assert at.alone == [(1, b"one", name)]
    at.answer(name, question, b"")
    assert at.answers() == []
    assert at.idle()


def test_who_has_answered_may_be_lost() -> None:
    at = At()
    at.get(KEY, r=ALL)
    (one, question), (other, _) = at.asked()
    at.answer(one, question, b"")
    at.bulk.lost(one, at.now, at.out)
    at.answer(other, question, b"")
    assert len(at.answers()) == 1
    assert at.alone == []


def test_when_the_ring_changes_all_is_begun_anew() -> None:
    at = At()
    at.get(b"one")
    at.get_many(b"two")
    questions = at.asked()
    at.turn("abcd")
    assert at.alone == [(1, b"one", "")]
    assert at.records() == [None]
    for name, question in questions:
        at.answer(name, question, b"")
    assert at.answers() == []
    assert at.idle()


def test_gets_that_were_gathered_before_the_ring_changed_are_planned_with_the_new_one() -> None:
    at = At()
    at.bulk.get(LINK, Get(1, "bucket", KEY, DEFAULT, DEFAULT, 5000, False), at.now, at.out)
    at.turn("abcd")
    at.bulk.tick(at.now, at.out)
    if at.alone:
        assert "a" not in at.ring.plan("bucket", KEY).owners
    else:
        assert [question.ring for _, question in at.asked()] == [at.ring.fingerprint]


@pytest.mark.parametrize("status", [STATUS_RING, 77])
def test_a_replica_that_would_not_read_is_asked_again_by_the_reads_begun_anew(status: int) -> None:
    at = At()
    at.get(KEY)
    ((name, question),) = at.asked()
    at.answer(name, question, status=status)
    assert at.alone == [(1, KEY, "")]
    assert at.idle()


@pytest.mark.parametrize(
    "row",
    [b"", b"\x80", b"nonsense", pack_row([b""]), pack_row([b"", b"", b""]), b"\x82\x40\x01", b"\x82\x40\x80"],
)
def test_an_answer_that_is_none_closes_the_link_and_is_not_counted(row: bytes) -> None:
    at = At()
    at.get(b"one", b"two")
    ((name, question),) = at.asked()
    with pytest.raises(ValueError):
        at.bulk.answer(name, ReadManyAnswer(question.id, STATUS_OK, row), at.now, at.out)
    assert at.answers() == []
    assert at.bulk.pending == 2
    at.bulk.lost(name, at.now, at.out)
    assert [id for id, _, _ in at.alone] == [1, 2]
    assert at.idle()


def test_an_answer_of_somebody_who_was_not_asked_means_nothing() -> None:
    at = At()
    at.get(KEY)
    ((name, question),) = at.asked()
    (other,) = {"b", "c"} - {name}
    at.answer(other, question, b"forged")
    at.answer(name, question._replace(id=question.id + 1), b"forged")
    assert at.answers() == []
    at.answer(name, question, b"")
    assert len(at.answers()) == 1


# ── GetMany ──


def test_a_get_many_is_answered_once_with_an_item_for_each_key() -> None:
    at = At()
    records = {key: at.store(key) for key in (b"one", b"two")}
    at.get_many(b"two", b"missing", b"one")
    ((name, question),) = at.asked()
    at.answer(name, question, records[b"two"], b"", records[b"one"])
    (answer,) = at.answers()
    row = pack_row([records[b"two"], b"", records[b"one"]])
    assert answer == FoundMany(100, row, f"a,{name}", b"\0\0\0")
    assert at.idle()


def test_what_is_not_plain_is_left_out_and_begun_by_nobody() -> None:
    at = At("abcde")
    one, two, three, broken, written = keys_owned(at, 5)
    records = [at.store(key) for key in (one, two, broken)]
    at.engine.corrupt(at.slot(broken))
    at.store(written, commit=False)
    at.get_many(one, key_not_owned(at), broken, two, written, three)
    for name, question in at.asked():
        slots = [question.slots[start : start + 27] for start in range(0, len(question.slots), 27)]
        theirs = {at.slot(one): records[0], at.slot(two): b"another", at.slot(three): b""}
        at.answer(name, question, *[theirs[slot] for slot in slots])
    assert at.records() == [records[0], None, None, None, None, b""]
    assert at.alone == []
    assert at.idle()


def test_a_get_many_of_which_nothing_is_plain_is_answered_too() -> None:
    at = At("abcde")
    at.get_many(key_not_owned(at))
    (answer,) = at.answers()
    assert answer == FoundMany(100, pack_row([None]), "", b"\0")
    assert at.asked() == []
    assert at.idle()


def test_each_key_names_the_nodes_that_answered_for_it() -> None:
    at = At("abcdefgh")
    keys = keys_owned(at, 40)
    at.get_many(*keys)
    asked = at.asked()
    assert len(asked) > 1
    for name, question in reversed(asked):
        at.answer(name, question, *[b""] * (len(question.slots) // 27))
    (answer,) = at.answers()
    assert isinstance(answer, FoundMany)
    groups = answer.answered.split(";")
    assert sorted(groups) == sorted(f"a,{name}" for name, _ in asked)
    for key, group in zip(keys, answer.which, strict=True):
        (name,) = [name for name, question in asked if at.slot(key) in question.slots]
        assert groups[group] == f"a,{name}"


def test_a_late_owner_leaves_its_keys_out_and_the_others_are_answered() -> None:
    at = At("abcdefgh", hedge_after_s=0.05)
    keys = keys_owned(at, 40)
    at.get_many(*keys)
    _, *others = at.asked()
    for name, question in others:
        at.answer(name, question, *[b""] * (len(question.slots) // 27))
    assert at.answers() == []
    at.now = 0.05
    at.bulk.tick(at.now, at.out)
    records = at.records()
    assert {*records} == {b"", None}
    assert at.alone == []
    assert at.idle()


def test_a_key_twice_is_read_twice() -> None:
    at = At()
    record = at.store(KEY)
    at.get_many(KEY, KEY, r=1)
    assert at.records() == [record, record]


def test_a_get_many_before_there_is_a_ring_or_of_one_that_stops_is_refused() -> None:
    at = At()
    ring, at.planner.ring = at.planner.ring, None
    at.get_many(KEY)
    (failed,) = at.answers()
    assert isinstance(failed, Failed)
    assert (failed.id, failed.code) == (100, "ring")
    at.planner.ring = ring
    at.get_many(b"under way")
    at.get(b"gathered")
    at.bulk.stop()
    at.get_many(KEY)
    (failed,) = at.answers()
    assert isinstance(failed, Failed)
    assert failed.code == "ring"
    at.bulk.get(LINK, Get(9, "bucket", KEY, DEFAULT, DEFAULT, 5000, False), at.now, at.out)
    assert at.alone == [(9, KEY, "")]
    assert at.bulk.busy
    for name, question in at.asked():
        at.answer(name, question, b"")
    assert len(at.answers()) == 2
    assert at.idle()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"bucket": ""}, "bucket"),
        ({"bucket": "x" * 65}, "bucket"),
        ({"keys": pack_row([b"a", b""])}, "key"),
        ({"keys": pack_row([b"a", b"x" * 1025])}, "key"),
        ({"r": 4}, "r=4"),
        ({"r": 0}, "r=0"),
        ({"r": 2**64 - 1}, "r="),
        ({"pr": 4}, "pr=4"),
    ],
)
def test_what_no_session_would_send_is_refused_and_nothing_read(fields: dict[str, object], says: str) -> None:
    at = At()
    request = GetMany(100, "bucket", pack_row([b"a", b"b"]), DEFAULT, DEFAULT, 5000)
    at.bulk.get_many(LINK, request._replace(**fields), at.now, at.out)  # type: ignore[arg-type]
    (failed,) = at.answers()
    assert isinstance(failed, Failed)
    assert failed.code == "invalid"
    assert says in failed.message
    assert at.asked() == []
    assert at.idle()


@pytest.mark.parametrize(
    "keys",
    [b"", b"\x80", b"nonsense", pack_row([b"a", None]), b"\x81\x01", b"\x81\x80", pack_row([b"a"] * 257)],
)
def test_keys_that_are_no_row_close_the_link(keys: bytes) -> None:
    at = At()
    with pytest.raises(ProtocolError):
        at.bulk.get_many(LINK, GetMany(1, "bucket", keys, DEFAULT, DEFAULT, 5000), at.now, at.out)
    assert at.answers() == []
    assert at.idle()


# ── bounds ──


def test_gets_past_the_bound_are_told_when_to_come_again() -> None:
    at = At(requests_max=10)
    at.elsewhere = 3
    at.get(*[b"%d" % number for number in range(8)])
    refused = at.answers()
    assert [failed.id for failed in refused] == [8]
    for failed in refused:
        assert isinstance(failed, Failed)
        assert (failed.code, failed.message) == ("overloaded", "a: too many requests are under way")
        assert (failed.retry_after_ms, failed.indeterminate) == (100, False)
    assert at.alone == []
    assert at.bulk.pending == 7
    at.get(b"more", first=9)
    assert [failed.id for failed in at.answers()] == [9]
    for name, question in at.asked():
        at.answer(name, question, *[b""] * 7)
    assert len(at.answers()) == 7
    assert at.idle()
    at.elsewhere = 99
    at.get(b"more", first=10)
    assert len(at.answers()) == 1


def test_a_get_many_past_the_bound_is_told_when_to_come_again_unless_no_other_is_being_read() -> None:
    at = At(requests_max=10)
    at.get_many(*[b"%d" % number for number in range(20)])
    assert at.answers() == []
    assert at.bulk.pending == 20
    at.get_many(KEY, id=101)
    at.get(KEY)
    failures = at.answers()
    assert [(failed.id, getattr(failed, "code", "")) for failed in failures] == [
        (101, "overloaded"),
        (1, "overloaded"),
    ]
    ((name, question),) = at.asked()
    at.answer(name, question, *[b""] * 20)
    assert at.records() == [b""] * 20
    at.elsewhere = 10
    at.get_many(KEY)
    (failed,) = at.answers()
    assert isinstance(failed, Failed)
    assert failed.retry_after_ms == 100
    assert at.idle()


def test_a_get_many_makes_a_node_hold_little_more_than_one_answer() -> None:
    at = At("abcdefgh")
    keys = keys_owned(at, 40)
    size = READ_MANY_BYTES_MAX // 4
    for key in keys:
        at.store(key, bytes(size))
    at.get_many(*keys)
    asked = at.asked()
    assert sum(len(question.slots) // 27 for _, question in asked) == 4
    assert at.bulk.pending == 4
    for name, question in asked:
        slots = [question.slots[start : start + 27] for start in range(0, len(question.slots), 27)]
        at.answer(name, question, *[at.replica.read(slot)[0] for slot in slots])
    records = [record for record in at.records() if record]
    assert len(records) == 4
    assert sum(map(len, records)) < READ_MANY_BYTES_MAX + 2 * size
    assert at.idle()


def test_records_that_wait_for_other_nodes_are_bounded_however_few_keys_they_are() -> None:
    at = At(read_bytes_max=2 << 20)
    at.store(KEY, bytes(1 << 20))
    for id in range(5):
        at.get_many(KEY, id=id)
    refused = at.answers()
    assert [failed.id for failed in refused] == [2, 3, 4]
    at.get(b"small", first=5)
    refused += at.answers()
    assert [failed.id for failed in refused] == [2, 3, 4, 5]
    for failed in refused:
        assert isinstance(failed, Failed)
        assert (failed.code, failed.retry_after_ms) == ("overloaded", 100)
    (name, question), _ = at.asked()
    at.answer(name, question, at.replica.read(at.slot(KEY))[0])
    assert len(at.answers()) == 1
    at.get(KEY, first=6)
    assert len(at.asked()) == 1
    at.bulk.replan(at.now, at.out)
    assert at.bulk.held_bytes == 0
    assert at.idle()


def test_records_of_a_get_many_that_waits_for_its_last_key_count_as_held() -> None:
    """One node hangs, the others answer: what they agreed on is still in memory."""
    at = At("abcde", read_bytes_max=1 << 20)
    large, *small = keys_owned(at, 40)
    at.store(large, bytes(900_000))
    held: list[tuple[str, ReadMany]] = []
    for id in range(4):
        at.get_many(large, *small, id=id)
        for name, question in at.asked():
            slots = [question.slots[start : start + 27] for start in range(0, len(question.slots), 27)]
            if at.slot(large) in slots:
                at.answer(name, question, *[at.replica.read(slot)[0] for slot in slots])
            else:
                held.append((name, question))
    assert held
    assert [answer.id for answer in at.answers()] == [2, 3]  # refused
    assert at.bulk.held_bytes > 1_800_000
    for name, question in held:
        at.answer(name, question, *[b""] * (len(question.slots) // 27))
    assert [answer.id for answer in at.answers()] == [0, 1]
    assert at.bulk.held_bytes == 0
    assert at.idle()


def test_gets_of_one_turn_that_are_large_are_begun_anew_past_the_bound() -> None:
    at = At()
    keys = [b"one", b"two", b"three"]
    for key in keys:
        at.store(key, bytes(READ_MANY_BYTES_MAX // 2))
    at.get(*keys, r=1)
    assert [answer.id for answer in at.answers()] == [1, 2]
    assert at.alone == [(3, b"three", "")]
    assert at.idle()


@pytest.mark.parametrize("seed", range(40))
def test_whatever_comes_and_goes_everything_is_answered_or_begun_anew_exactly_once(seed: int) -> None:
    random = Random(seed)
    at = At("abcde", requests_max=60)
    keys = [b"key %d" % number for number in range(30)]
    for key in random.sample(keys, 15):
        at.store(key)
    asked: list[tuple[str, ReadMany]] = []
    due: list[int] = []
    ended: list[int] = []
    for number in range(1, 120):
        dice = random.randrange(8)
        if dice < 2:
            some = random.sample(keys, random.randrange(1, 6))
            first = number * 1000
            at.get(*some, r=random.choice([1, DEFAULT, ALL]), first=first)
            due += range(first, first + len(some))
        elif dice < 4:
            some = random.sample(keys, random.randrange(1, 20))
            at.get_many(*some, r=random.choice([1, DEFAULT, ALL, 4]), id=number)
            due.append(number)
        elif dice == 4:
            at.bulk.lost(random.choice("bcde"), at.now, at.out)
        elif dice == 5 and random.random() < 0.3:
            at.turn(random.choice(["abcde", "abcd", "abc"]))
        elif dice == 6:
            at.now += random.choice([0.001, 0.06])
            at.bulk.tick(at.now, at.out)
        for name, question in random.sample(asked, min(len(asked), 3)):
            count = len(question.slots) // 27
            records = [at.replica.read(question.slots[i * 27 : i * 27 + 27])[0] for i in range(count)]
            answer = [random.choice([record, record, record, None, b"x"]) for record in records]
            at.answer(name, question, *answer, status=random.choice([STATUS_OK] * 5 + [STATUS_RING]))
        asked += at.asked()
        ended += [answer.id for answer in at.answers()]
    at.now += 1
    at.bulk.tick(at.now, at.out)
    ended += [answer.id for answer in at.answers()]
    ended += [id for id, _, _ in at.alone]
    assert sorted(ended) == sorted(due)
    assert at.bulk.held_bytes == 0
    assert at.idle()


# ── buckets with properties of their own ──


def test_gets_of_buckets_with_other_properties_are_not_read_alike() -> None:
    at = At(names="abcde")
    at.serving["wide"] = Properties(5, 3, 3, 0)
    at.serving["one"] = Properties(5, 1, 1, 0)
    for id, bucket in enumerate(("wide", "one"), 1):
        at.bulk.get(LINK, Get(id, bucket, b"key", DEFAULT, DEFAULT, 5000, False), at.now, at.out)
    at.bulk.tick(at.now, at.out)
    asked = at.asked()
    assert len(asked) == 2
    assert all(slot_copies(question.slots) == 5 for _, question in asked)
    assert [answer.id for _, answer in at.out.replies] == [2]  # type: ignore[union-attr]


def test_what_is_of_a_bucket_that_is_being_created_is_left_to_others() -> None:
    at = At("abc")
    at.serving["bucket"] = None
    at.get(b"key")
    assert at.alone == [(1, b"key", "")]
    at.get_many(b"key")
    ((_, answer),) = at.out.replies
    assert isinstance(answer, FoundMany)
    assert unpack_row(answer.records, items_max=1) == [None]
    assert at.asked() == []


def test_when_a_bucket_is_another_one_what_reads_of_it_is_begun_anew_and_all_else_goes_on() -> None:
    at = At("abc")
    at.get(KEY)
    at.get_many(KEY)
    first, second = at.asked()
    other = Get(2, "other", KEY, DEFAULT, DEFAULT, 5000, False)
    at.bulk.get(LINK, other, at.now, at.out)
    at.get()
    (third,) = at.asked()
    at.bulk.replan_bucket(bucket_id("nobody's"), at.now, at.out)
    assert at.alone == []
    at.bulk.replan_bucket(bucket_id("bucket"), at.now, at.out)
    assert at.alone == [(1, KEY, "")]
    assert at.records() == [None]
    for name, question in (first, second):
        at.answer(name, question, b"value")  # nobody waits for these any more
    assert at.answers() == []
    name, question = third
    at.answer(name, question, b"")
    assert at.answers() == [Found(2, b"", f"a,{name}", "")]
    assert at.idle()


def test_gets_of_several_buckets_that_are_read_together_are_all_begun_anew() -> None:
    at = At("abc")
    at.bulk.get(LINK, Get(2, "other", KEY, DEFAULT, DEFAULT, 5000, False), at.now, at.out)
    at.get(KEY)
    assert len(at.asked()) == 1
    at.bulk.replan_bucket(bucket_id("bucket"), at.now, at.out)
    assert at.alone == [(2, KEY, ""), (1, KEY, "")]
    assert at.idle()


# ── copies that are not complete again yet ──


def test_keys_of_which_this_node_s_copy_is_weak_are_read_alone() -> None:
    at = At()
    for key in (b"weak", b"sound"):
        at.store(key)
    at.weakness.slots.append(at.slot(b"weak"))
    at.get(b"weak", b"sound", r=1)
    assert [key for _, key, _ in at.alone] == [b"weak"]
    assert len(at.answers()) == 1
    at.get_many(b"weak", b"sound", r=1)
    weak, sound = at.records()
    assert weak is None
    assert sound
