"""An old copy: closed until the others were heard, then opened, or set aside and opened empty."""

from __future__ import annotations

import pytest

from dyno.causality import token
from dyno.causality.context import Context
from dyno.causality.dots import Dot, actor
from dyno.causality.record import Record
from dyno.errors import Code
from dyno.placement.hashing import SLOT_BYTES, slot_copies, slot_partition
from dyno.protocol.background import part_of
from dyno.protocol.group_commit import Refusal
from dyno.protocol.quarantine import ASK_AGAIN_S, SETTLE_S, VERDICT_S
from dyno.protocol.rows import ASIDE, DEAD, rows_of
from dyno.storage.cell import pack_cell, record_of
from dyno.wire.messages import (
    STATUS_OK,
    STATUS_OVERLOADED,
    Compare,
    Compared,
    Failed,
    Read,
    ReadAnswer,
    ReadMany,
    ReadManyAnswer,
    Recall,
    Recalled,
    Scan,
    ScanAnswer,
    Store,
    Stored,
)
from dyno.wire.rows import pack_row
from tests.protocol.member_harness import AFTER_S, DEAD_ENTRY, Member
from tests.protocol.node_harness import a_put

START = b"start 55"


def a_value(value: bytes = b"old", number: int = 1, over: Context = Context.EMPTY) -> Record:
    return Record.EMPTY.delete(over).write(over, Dot(actor(START, 0), number), bytes(16), value)


class Old(Member):
    """n1 with some records, which is told that its disk is an old copy."""

    def __init__(self, *records: Record) -> None:
        super().__init__()
        self.slots: list[bytes] = []
        head = b""
        for record in records:
            key, slot = self.key(but=head)
            head = slot[:3]
            self.slots.append(slot)
            assert self.give(key, slot, record) == STATUS_OK

    @property
    def quarantine(self):  # type: ignore[no-untyped-def]
        return self.node.quarantine

    def give(self, key: bytes, slot: bytes, record: Record) -> int:
        (stored,) = self.ask(Store(1, self.ring.fingerprint, slot, key, record.pack()))
        assert isinstance(stored, Stored)
        return stored.status

    def begin(self) -> None:
        self.quarantine.begin(self.now, self.out)
        self.commit()

    def asked(self) -> dict[str, list[Compare]]:
        """Whom it asked what."""
        asked: dict[str, list[Compare]] = {}
        for address, message in self.sent(Compare):
            assert isinstance(message, Compare)
            if part_of(message.id) == self.quarantine.number:
                asked.setdefault(address[:2], []).append(message)
        return asked

    def hear(self, *generations: int) -> None:
        """n2 and n3, or the first of them, answer all that they were asked."""
        for name, generation in zip(("n2", "n3"), generations, strict=False):
            for ask in self.unheard.get(name, []):
                self.answers(name, Compared(ask.id, STATUS_OK, True, b"", b"", generation))

    def begin_hearing(self) -> None:
        self.begin()
        self.unheard = self.asked()
        self.settle_down(0.0)

    def settle_down(self, seconds: float) -> None:
        self.wait(seconds or 0.1)

    def read(self, slot: bytes) -> bytes:
        (answer,) = self.ask(Read(3, self.ring.fingerprint, slot))
        assert isinstance(answer, ReadAnswer)
        return answer.record

    def aside(self) -> dict[bytes, bytes]:
        start, end = rows_of(ASIDE)
        rows = self.engine.scan(start, end, limit=1000)[0]
        return {key[len(ASIDE) :]: record_of(cell) for key, cell in rows if cell}


# ── closed ──


def test_what_is_closed_is_not_read_or_written_by_anybody() -> None:
    old = Old(a_value())
    (slot,) = old.slots
    key, _ = old.key()
    other_key, other = old.key(but=slot[:3])
    assert old.give(other_key, other, a_value()) == STATUS_OK
    old.quarantine.begin(old.now, old.out)
    old.node._replica.closed.pop(other[:3])
    assert old.read(slot) == b""
    assert old.read(other) == a_value().pack()
    assert old.ask(ReadMany(4, old.ring.fingerprint, slot + other)) == [
        ReadManyAnswer(4, STATUS_OK, pack_row([None, a_value().pack()]))
    ]
    assert old.ask(Scan(5, old.ring.fingerprint, slot[:11], b"", 9)) == [ScanAnswer(5, STATUS_OK, b"", b"")]
    assert old.give(key, slot, a_value(b"new", 2)) == STATUS_OVERLOADED
    assert old.give(other_key, other, a_value(b"new", 2)) == STATUS_OK
    replica = old.node._replica
    with pytest.raises(Refusal):
        replica.put(slot, key, context=Context.EMPTY, request=bytes(16), value=b"value")
    with pytest.raises(Refusal):
        replica.delete(slot, key, context=Context.EMPTY)


def test_what_nobody_else_has_a_copy_of_is_never_closed() -> None:
    old = Old(a_value())
    names = (b"key %d" % number for number in range(100))
    key, slot = next((k, p.slot) for k in names if (p := old.ring.plan("alone", k, 1)).owners == ("n1",))
    old.engine.write_batch({slot: pack_cell(key, b"", a_value().pack())}, {})
    old.quarantine.begin(old.now, old.out)
    assert list(old.node._replica.closed) == [old.slots[0][:3]]
    assert old.node._replica.read(slot) == (a_value().pack(), None), "not as if it was never there"


def test_of_what_is_closed_nobody_is_told_that_a_write_is_unknown_or_that_a_condition_does_not_hold() -> None:
    old = Old(a_value())
    (slot,) = old.slots
    key, _ = old.key()
    old.quarantine.begin(old.now, old.out)
    recall = Recall(4, old.ring.fingerprint, slot, b"r" * 16)
    assert old.ask(recall) == [Recalled(4, STATUS_OVERLOADED, b"", 0, b"")]
    assert [text for level, text in old.out.events if level == "error"] == []
    cluster = old.node.membership.cluster
    read = token.encode(a_value().context, cluster=cluster, bucket="bucket", key=key)
    put = a_put(5, key=key, context=read, conditional=True)
    (failure,) = old.ask(put)
    assert isinstance(failure, Failed)
    assert failure.code == Code.OVERLOADED, "no conflict: the record may well be at that context"


def test_an_empty_disk_has_nothing_to_close() -> None:
    old = Old()
    old.begin()
    assert old.quarantine.closed == 0
    assert old.asked() == {}


def test_all_owners_are_asked_for_nothing_but_their_generation() -> None:
    old = Old(a_value())
    old.begin()
    asked = old.asked()
    (slot,) = old.slots
    assert list(asked) == ["n2", "n3"]
    (ask,) = asked["n2"]
    assert (ask.partition, ask.copies, ask.end) == (slot_partition(slot), slot_copies(slot), b"")
    assert ask.after > slot
    assert len(ask.after) == SLOT_BYTES


# ── nothing was reaped since ──


def test_where_nobody_has_a_higher_generation_it_opens_with_its_records() -> None:
    old = Old(a_value(), a_value())
    old.begin_hearing()
    assert old.quarantine.closed == 2
    old.hear(0)
    old.settle_down(1.0)
    assert old.quarantine.closed == 2, "n3 may know better"
    old.unheard.pop("n2")
    old.hear(0, 0)
    old.settle_down(1.0)
    assert old.quarantine.closed == 0
    assert [old.read(slot) for slot in old.slots] == [a_value().pack()] * 2
    assert old.aside() == {}
    assert old.node._replica.closed == {}


# ── something was ──


def test_where_one_has_a_higher_generation_all_is_set_aside() -> None:
    old = Old(a_value(), a_value())
    old.engine.write_batch({DEAD + old.slots[0]: b""}, {})
    old.begin_hearing()
    first, second = old.slots
    (ask,) = [ask for ask in old.unheard["n3"] if ask.partition == slot_partition(first)]
    old.answers("n3", Compared(ask.id, STATUS_OK, True, b"", b"", 4))
    old.settle_down(1.0)
    assert old.engine.get(first) is None
    assert old.engine.get(DEAD + first) is None
    assert old.aside()[first] == a_value().pack()
    assert old.node.generations.of(first) == 4
    assert old.quarantine.closed == 1, "the other one is still asked about"
    assert old.engine.get(second) is not None
    key, _ = old.key()
    assert old.give(key, first, a_value(b"new", 2)) == STATUS_OK


def test_who_does_not_answer_in_time_is_taken_to_have_reaped() -> None:
    old = Old(a_value())
    old.begin_hearing()
    old.hear(0)
    old.settle_down(VERDICT_S - 1)
    assert old.quarantine.closed == 1
    old.settle_down(2.0)
    assert old.quarantine.closed == 0
    assert old.aside() == {old.slots[0]: a_value().pack()}
    assert old.node.generations.of(old.slots[0]) == 0


def test_many_records_are_set_aside_page_by_page() -> None:
    old = Old()
    _, slot = old.key()
    cells = {
        slot[:11] + number.to_bytes(16, "big"): pack_cell(b"k", b"", a_value().pack())
        for number in range(200)
    }
    old.engine.write_batch(cells, {})
    old.begin_hearing()
    old.hear(0, 7)
    old.settle_down(1.0)
    assert old.quarantine.closed == 0
    assert len(old.aside()) == 200
    assert not any(old.engine.get(each) for each in cells)


def test_what_was_on_its_way_to_the_disk_is_set_aside_too() -> None:
    old = Old()
    key, slot = old.key()
    old.node._replica.merge(slot, key, a_value().pack())
    old.quarantine.begin(old.now, old.out)
    old.unheard = old.asked()
    for name in ("n2", "n3"):
        (ask,) = old.unheard[name]
        old.node.answer(f"{name}:1", Compared(ask.id, STATUS_OK, True, b"", b"", 1), old.now, old.out)
    old.quarantine.tick(old.now, old.out)
    old.settle_down(1.0)
    assert old.aside() == {slot: a_value().pack()}
    assert old.engine.get(slot) is None


def test_a_damaged_record_stays_where_it_is() -> None:
    old = Old(a_value())
    old.engine.corrupt(old.slots[0])
    old.begin_hearing()
    old.hear(1, 1)
    old.settle_down(1.0)
    assert old.quarantine.closed == 0
    assert old.aside() == {}


# ── answers that are none ──


def test_an_answer_counts_once_and_only_from_whom_it_was_asked() -> None:
    old = Old(a_value())
    old.begin_hearing()
    (ask,) = old.unheard["n2"]
    yes = Compared(ask.id, STATUS_OK, True, b"", b"", 0)
    old.answers("n3", yes)
    old.answers("n2", yes)
    old.answers("n2", yes)
    old.answers("n3", yes._replace(id=ask.id + 99))
    old.settle_down(1.0)
    assert old.quarantine.closed == 1


def test_who_refuses_or_was_lost_is_asked_again() -> None:
    old = Old(a_value())
    old.begin_hearing()
    (ask,) = old.unheard["n2"]
    old.answers("n2", Compared(ask.id, STATUS_OVERLOADED, False, b"", b"", 0))
    old.node.link_down("n3:1", old.now, old.out)
    old.settle_down(ASK_AGAIN_S * 1.5)
    assert list(old.asked()) == ["n2"]
    old.link("n3")
    old.settle_down(ASK_AGAIN_S * 1.5)
    assert list(old.asked()) == ["n3"]


def test_an_answer_after_the_verdict_changes_nothing() -> None:
    old = Old(a_value())
    old.begin_hearing()
    old.hear(3)
    old.hear(3, 9)
    old.settle_down(1.0)
    assert old.node.generations.of(old.slots[0]) == 3


def test_after_the_verdict_nobody_else_is_asked() -> None:
    old = Old(a_value())
    old.node.link_down("n3:1", old.now, old.out)
    old.begin_hearing()
    old.hear(3)
    old.settle_down(1.0)
    old.link("n3")
    old.settle_down(1.0)
    assert old.asked() == {}


# ── restarts and disks that refuse ──


def test_it_goes_on_after_a_restart() -> None:
    old = Old(a_value(), a_value())
    old.engine.write_batch({ASIDE + b"\0\0\3" + bytes(24): pack_cell(b"k", b"", a_value().pack())}, {})
    old.begin_hearing()
    again = Old.__new__(Old)
    Member.__init__(again, engine=old.engine)
    again.slots = old.slots
    again.now = 0.0
    assert again.quarantine.closed == 2
    assert again.read(old.slots[0]) == b""
    again.quarantine.replan(again.now, again.out)
    again.unheard = again.asked()
    again.hear(0, 1)
    again.settle_down(1.0)
    assert len(again.aside()) == 3


def refuse(old: Old) -> None:
    """The next commit fails, and the disk rests."""
    if old.node.take_batch() is None:
        old.node._replica.write_row(b"\xff\xff\xff\x7f", b"")
        old.node.take_batch()
    old.node.commit_failed("no room", old.now, old.out)


def test_a_disk_that_cannot_keep_that_it_is_closed_is_asked_again() -> None:
    old = Old(a_value())
    old.quarantine.begin(old.now, old.out)
    refuse(old)
    assert old.engine.get(ASIDE + old.slots[0][:3]) is None
    old.settle_down(2.0)
    assert old.engine.get(ASIDE + old.slots[0][:3]) == b""
    old.quarantine.begin(old.now, old.out)  # told once more
    refuse(old)
    old.quarantine.begin(old.now, old.out)
    assert old.quarantine.closed == 1
    old.settle_down(2.0)
    assert old.engine.get(ASIDE + old.slots[0][:3]) == b""


def test_a_disk_that_refuses_what_is_set_aside_begins_it_anew() -> None:
    old = Old(a_value())
    old.begin_hearing()
    for name in ("n2", "n3"):
        (ask,) = old.unheard[name]
        old.node.answer(f"{name}:1", Compared(ask.id, STATUS_OK, True, b"", b"", 1), old.now, old.out)
    old.quarantine.tick(old.now, old.out)
    refuse(old)
    assert old.quarantine.closed == 1
    assert old.engine.get(old.slots[0]) is not None
    old.unheard = old.asked()
    old.hear(1, 1)
    old.settle_down(2.0)
    assert old.quarantine.closed == 0
    assert old.aside() == {old.slots[0]: a_value().pack()}


def test_a_disk_that_rests_is_waited_for() -> None:
    old = Old(a_value())
    old.begin_hearing()
    refuse(old)
    for name in ("n2", "n3"):
        (ask,) = old.unheard[name]
        old.node.answer(f"{name}:1", Compared(ask.id, STATUS_OK, True, b"", b"", 1), old.now, old.out)
    old.settle_down(3.0)
    assert old.aside() == {old.slots[0]: a_value().pack()}


def test_an_opening_that_does_not_get_to_the_disk_begins_anew() -> None:
    old = Old(a_value())
    old.begin_hearing()
    for name in ("n2", "n3"):
        (ask,) = old.unheard[name]
        old.node.answer(f"{name}:1", Compared(ask.id, STATUS_OK, True, b"", b"", 0), old.now, old.out)
    old.quarantine.tick(old.now, old.out)
    refuse(old)
    assert old.read(old.slots[0]) == b""
    old.unheard = old.asked()
    old.hear(0, 0)
    old.settle_down(2.0)
    assert old.read(old.slots[0]) == a_value().pack()


def test_clients_go_first() -> None:
    old = Old(a_value())
    old.begin_hearing()
    replica = old.node._replica
    replica._pace.committed(1.0, 1.0)
    other_key, other = old.key(but=old.slots[0][:3])
    for number in range(200):
        replica.merge(other[:-2] + number.to_bytes(2, "big"), other_key, a_value().pack())
    for name in ("n2", "n3"):
        (ask,) = old.unheard[name]
        old.node.answer(f"{name}:1", Compared(ask.id, STATUS_OK, True, b"", b"", 1), old.now, old.out)
    old.quarantine.tick(old.now, old.out)
    assert not replica.waiting(ASIDE + old.slots[0])
    old.settle_down(1.0)
    assert old.engine.get(ASIDE + old.slots[0]) is not None


# ── what becomes of what is aside ──


def aside(*records: Record) -> tuple[Old, bytes, bytes]:
    """Set aside, and open again."""
    old = Old(*records)
    old.begin_hearing()
    old.hear(1, 1)
    old.settle_down(0.5)
    assert old.quarantine.closed == 0
    key, slot = old.key()
    assert slot == old.slots[0]
    return old, key, slot


def test_what_is_known_again_is_dropped_once_the_copy_is_complete() -> None:
    old, key, slot = aside(a_value())
    complete: dict[bytes, bool] = {}
    old.quarantine._is_complete = lambda head: head in complete
    old.give(key, slot, a_value())
    old.settle_down(SETTLE_S * 2)
    assert old.quarantine.count == 1
    complete[slot[:3]] = True
    old.settle_down(SETTLE_S * 2)
    assert old.quarantine.count == 0
    assert old.aside() == {}


def test_what_was_overwritten_since_is_dropped() -> None:
    old, key, slot = aside(a_value())
    old.give(key, slot, a_value(b"newer", 2, over=a_value().context))
    old.settle_down(SETTLE_S * 2)
    assert old.aside() == {}


def test_a_tombstone_is_dropped_whatever_is_there() -> None:
    old, _, _ = aside(Record.EMPTY.delete(DEAD_ENTRY))
    old.settle_down(SETTLE_S * 2)
    assert old.aside() == {}


def test_what_is_known_nowhere_else_stays_and_does_not_come_back() -> None:
    old, key, slot = aside(a_value())
    old.give(key, slot, Record.EMPTY.delete(DEAD_ENTRY))
    old.settle_down(max(AFTER_S, SETTLE_S) * 2)
    assert old.quarantine.count == 1
    assert old.aside() == {slot: a_value().pack()}
    assert Record.unpack(old.read(slot)).siblings == ()


def test_what_is_aside_for_others_or_damaged_is_counted_and_kept() -> None:
    old = Member(others=4)
    _, foreign = old.key(owns=False)
    _, own = old.key()
    cell = pack_cell(b"key", b"", Record.EMPTY.pack())
    old.engine.write_batch({ASIDE + foreign: cell, ASIDE + own: cell}, {})
    old.engine.corrupt(ASIDE + own)
    old.wait(SETTLE_S * 2)
    assert old.node.quarantine.count == 2


def test_a_disk_that_rests_drops_the_row_later() -> None:
    old, key, slot = aside(a_value())
    old.give(key, slot, a_value())
    refuse(old)
    old.quarantine._settle(old.now)
    assert old.aside() == {slot: a_value().pack()}
    old.settle_down(SETTLE_S * 2)
    assert old.aside() == {}


def test_a_ring_of_which_nothing_is_known_yet_has_no_owners() -> None:
    old = Old(a_value())
    old.node._planner.ring = None
    old.quarantine.begin(old.now, old.out)
    assert old.quarantine.closed == 1
    assert old.asked() == {}


def test_rows_that_are_gone_are_counted_anew_when_somebody_says_so() -> None:
    old = Old(a_value())
    (slot,) = old.slots
    key, _ = old.key()
    other = Record.EMPTY.write(Context.EMPTY, Dot(actor(START, 0), 2), b"q" * 16, b"other")
    old.engine.write_batch({ASIDE + slot + b"d" * 8: pack_cell(key, b"", other.pack())}, {})
    old.quarantine.count_again(old.now)
    old.settle_down(0.0)
    assert old.quarantine.count == 1
    old.engine.write_batch({ASIDE + slot + b"d" * 8: None}, {})
    old.settle_down(0.0)
    assert old.quarantine.count == 1
    old.quarantine.count_again(old.now)
    old.settle_down(0.0)
    assert old.quarantine.count == 0
