"""What gathers for the disk and waits for it, and what becomes of that: by the writes of a replica."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dyno.protocol.group_commit import Refusal
from dyno.protocol.outbox import Outbox
from dyno.protocol.overload import PEERS_ROOM
from dyno.wire.messages import (
    STATUS_OK,
    STATUS_OVERLOADED,
    STATUS_STORAGE,
    AskMembers,
    Stored,
)
from tests.protocol.replica_harness import (
    KEY,
    SLOT,
    Copies,
    a_record,
    slots_of,
    values,
)

# ── the pace of the disk ──


def write_many(copies: Copies, count: int) -> None:
    for number in range(count):
        copies.put(slot=b"slot %d" % number)


def commit_within(copies: Copies, seconds: float, *, at: float) -> None:
    batch = copies.replica.take_batch(at)
    assert batch is not None
    copies.replica.committed(at + seconds, copies.out, seconds)


def test_writes_gather_while_a_batch_is_committed_and_go_together_with_the_next() -> None:
    copies = Copies()
    copies.put(slot=b"one")
    first = copies.replica.take_batch()
    copies.put(slot=b"two")
    copies.put(slot=b"three")
    assert copies.replica.take_batch() is None  # one at a time
    assert first is not None
    assert slots_of(first) == [b"one"]
    copies.replica.committed(1.0, copies.out)
    assert slots_of(copies.commit()) == [b"two", b"three"]


def test_everybody_who_waits_hears_of_the_commit() -> None:
    copies = Copies()
    batch = copies.put()
    copies.wait(batch)
    copies.wait(batch)
    copies.commit()
    assert copies.told == [STATUS_OK, STATUS_OK]


def test_what_may_wait_for_the_disk_is_bounded_by_count() -> None:
    copies = Copies(batch_count_max=2)
    copies.put(slot=b"one")
    copies.put(slot=b"two")
    with pytest.raises(Refusal, match="too many writes wait") as refused:
        copies.put(slot=b"three")
    assert refused.value.status == STATUS_OVERLOADED
    copies.commit()
    copies.put(slot=b"three")


def test_what_may_wait_for_the_disk_is_bounded_by_bytes() -> None:
    copies = Copies(batch_bytes_max=2000)
    copies.put(b"x" * 1000)
    with pytest.raises(Refusal) as refused:
        copies.put(b"x" * 1000, slot=b"other")
    assert refused.value.status == STATUS_OVERLOADED


def test_facts_are_committed_and_what_depends_on_them_leaves_only_then() -> None:
    copies = Copies()
    out = copies.out
    out.meta["stamp"] = b"1"
    out.durable_sends.append(("h2:1", AskMembers(1)))
    out.durable_replies.append((7, Stored(1, 0)))
    copies.replica.keep(out)
    assert not out
    assert not out.meta
    copies.commit()
    assert copies.engine.get_meta("stamp") == b"1"
    assert out.sends == [("h2:1", AskMembers(1))]
    assert out.replies == [(7, Stored(1, 0))]
    assert not copies.replica.holds_data


def test_facts_wait_until_they_are_on_the_disk() -> None:
    copies = Copies()
    copies.put()
    assert copies.replica.take_batch() is not None
    assert not copies.replica.facts_wait
    copies.out.meta["stamp"] = b"1"
    copies.replica.keep(copies.out)
    assert copies.replica.facts_wait
    copies.replica.committed(0.0, copies.out)
    assert copies.replica.facts_wait  # that was the batch before
    assert copies.replica.take_batch() is not None
    assert copies.replica.facts_wait
    copies.replica.committed(0.0, copies.out)
    assert not copies.replica.facts_wait


def test_a_failed_commit_fails_all_that_waited_for_it_and_all_that_was_built_on_it() -> None:
    copies = Copies()
    copies.put(b"committed")
    copies.commit()
    copies.wait(copies.put(b"lost", slot=b"one"))
    taken = copies.replica.take_batch()
    copies.wait(copies.put(b"lost too", slot=b"two"))
    copies.replica.commit_failed(b"start 02", 1.0, copies.out)
    assert copies.told == [STATUS_STORAGE, STATUS_STORAGE]
    assert taken is not None
    assert values(copies.record()) == [b"committed"]
    assert copies.replica.read(b"one") == (b"", None)
    assert copies.replica.read(b"two") == (b"", None)
    assert copies.replica.take_batch() is None


def test_after_a_failed_commit_the_disk_rests_and_reads_go_on() -> None:
    copies = Copies()
    theirs = a_record(b"theirs")
    copies.replica.merge(b"other", KEY, theirs.pack())
    copies.commit()
    copies.put()
    copies.fail(now=10.0)
    assert copies.replica.deadline() == 11.0
    copies.replica.tick(10.9)
    attempts: list[Callable[[], object]] = [
        lambda: copies.replica.merge(SLOT, KEY, theirs.pack()),
        copies.put,
        lambda: copies.replica.delete(SLOT, KEY, context=theirs.context),
    ]
    for attempt in attempts:
        with pytest.raises(Refusal, match="the disk refused the last writes") as refused:
            attempt()
        assert refused.value.status == STATUS_STORAGE
        assert not refused.value.is_news  # the failed commit was
    assert copies.replica.read(b"other") == (theirs.pack(), None)
    assert copies.replica.merge(b"other", KEY, theirs.pack()) is None  # what is there needs no disk
    copies.replica.tick(11.0)
    assert copies.replica.deadline() is None
    for attempt in attempts:  # before the disk has taken a batch without any
        with pytest.raises(Refusal, match="the disk refused the last writes"):
            attempt()
    assert not copies.commit().writes
    copies.wait(copies.put())
    copies.commit()
    assert copies.told == [STATUS_OK]


def test_facts_outlive_a_failed_commit_but_a_full_disk_is_not_asked_all_the_time() -> None:
    copies = Copies()
    copies.out.meta["stamp"] = b"1"
    copies.out.durable_replies.append((7, Stored(1, 0)))
    copies.replica.keep(copies.out)
    copies.fail(now=10.0)
    assert copies.replica.take_batch() is None
    copies.replica.tick(11.0)
    copies.commit()
    assert copies.engine.get_meta("stamp") == b"1"
    assert copies.out.replies == [(7, Stored(1, 0))]


def test_a_disk_that_is_idle_or_unknown_keeps_nobody_waiting() -> None:
    copies = Copies()
    assert copies.replica.delay_s(0.0) == 0.0
    write_many(copies, 1000)
    assert copies.replica.delay_s(0.0) == 0.0


def test_what_gathers_waits_for_the_commit_under_way_and_its_own() -> None:
    copies = Copies()
    write_many(copies, 200)
    commit_within(copies, 0.2, at=0.0)
    write_many(copies, 10)
    assert copies.replica.delay_s(1.0) == 0.0  # so few are always welcome
    write_many(copies, 100)
    assert copies.replica.delay_s(1.0) == pytest.approx(0.1, rel=0.05)
    assert copies.replica.take_batch(1.0) is not None
    write_many(copies, 50)
    assert copies.replica.delay_s(1.0) == pytest.approx(0.15, rel=0.05)
    assert copies.replica.delay_s(1.08) == pytest.approx(0.07, rel=0.05)


def test_a_commit_that_nobody_measures_teaches_nothing() -> None:
    copies = Copies()
    write_many(copies, 200)
    copies.commit()
    write_many(copies, 200)
    assert copies.replica.take_batch() is not None
    write_many(copies, 200)
    assert copies.replica.delay_s(100.0) == 0.0


def test_no_more_gathers_than_a_commit_may_take() -> None:
    copies = Copies()
    write_many(copies, 5000)
    commit_within(copies, 5.0, at=0.0)
    with pytest.raises(Refusal, match="too many writes wait for the disk") as refused:
        write_many(copies, 5000)
    assert refused.value.status == STATUS_OVERLOADED
    batch = copies.replica.take_batch(5.0)
    assert batch is not None
    assert len(batch.writes) == pytest.approx(500 * PEERS_ROOM, rel=0.1)


def test_a_few_may_gather_for_a_disk_however_slow() -> None:
    copies = Copies()
    write_many(copies, 100)
    commit_within(copies, 1000.0, at=0.0)
    write_many(copies, 16)


def test_as_many_may_wait_for_a_commit_and_no_more() -> None:
    copies = Copies(batch_waiters_max=2)
    for _ in range(2):
        assert not copies.replica.crowded
        copies.wait(copies.put())
    assert copies.replica.crowded
    assert copies.replica.take_batch() is not None
    assert copies.replica.crowded  # who repeats what is being committed waits for that
    copies.replica.committed(1.0, copies.out)
    assert not copies.replica.crowded


def test_messages_that_wait_for_facts_are_bounded_and_the_facts_are_kept() -> None:
    copies = Copies()
    for number in range(3000):
        copies.out.meta["stamp"] = b"%d" % number
        copies.out.durable_replies.append((7, Stored(number, 0)))
        copies.out.durable_sends.append(("n2:1", AskMembers(number)))
        copies.replica.keep(copies.out)
    batch = copies.commit()
    assert batch.meta == {"stamp": b"2999"}
    assert [reply.id for _, reply in copies.out.replies] == list(range(1024))  # type: ignore[union-attr]
    assert len(copies.out.sends) == 1024


def test_messages_that_wait_for_facts_are_bounded_while_the_disk_stays_full() -> None:
    copies = Copies()
    for second in range(4):
        for number in range(2):  # in the batch that is tried, and in the next one
            for _ in range(2000):
                copies.out.meta["stamp"] = b"1"
                copies.out.durable_replies.append((7, Stored(second, 0)))
                copies.out.durable_sends.append(("n2:1", AskMembers(second)))
                copies.replica.keep(copies.out)
            if not number:
                assert copies.replica.take_batch() is not None
        copies.replica.commit_failed(b"start %02d" % second, float(second), copies.out)
        copies.replica.tick(second + 1.0)
    batch = copies.commit()
    assert len(batch.replies) == len(batch.sends) == 1024
    assert [reply.id for _, reply in batch.replies] == [0] * 1024  # type: ignore[union-attr]


def test_what_is_held_and_what_waits_is_told_by_prefix() -> None:
    copies = Copies()
    assert not copies.replica.holds(b"slot")
    assert not copies.replica.gathers_records
    copies.put()
    assert copies.replica.gathers_records
    assert copies.replica.holds(b"slot")
    assert copies.replica.waiting(b"slot") == [SLOT]
    assert copies.replica.waits(SLOT)
    assert not copies.replica.waits(b"slot")
    assert copies.replica.take_batch() is not None
    assert copies.replica.waits(SLOT)
    assert copies.replica.waiting(b"slot") == [SLOT]
    assert copies.replica.waiting(b"other") == []


def test_facts_that_nobody_waits_for_leave_a_node_ready() -> None:
    copies = Copies()
    copies.replica.keep_facts({"commits": b"1", "recovering": b"2"})
    assert not copies.replica.facts_wait
    batch = copies.replica.take_batch()
    assert batch is not None
    assert not copies.replica.facts_wait
    copies.engine.write_batch(batch.writes, batch.meta)
    assert not copies.replica.committed(0.0, Outbox())
    out = Outbox()
    out.meta["stamp"] = b"3"
    kept = copies.replica.keep(out)
    assert copies.replica.facts_wait
    assert copies.replica.take_batch() is kept
    assert not copies.replica.rests
    copies.replica.commit_failed(b"another.", 0.0, Outbox())
    assert copies.replica.rests


def test_rows_are_written_together_or_not_at_all() -> None:
    copies = Copies(batch_bytes_max=1000)
    batch = copies.replica.write_rows({b"one": b"1", b"other": None})
    assert batch.writes == {b"one": b"1", b"other": None}
    with pytest.raises(Refusal):
        copies.replica.write_rows({b"small": b"", b"large": b"x" * 1000})
    assert batch.writes == {b"one": b"1", b"other": None}
    assert copies.replica.newest(b"one") == (b"1", batch)
    copies.commit()
    assert copies.replica.newest(b"one") == (b"1", None)


def test_which_of_two_batches_is_committed_last() -> None:
    replica = Copies().replica
    replica.write_row(b"one", b"1")
    committing = replica.take_batch()
    gathering = replica.write_row(b"two", b"2")
    for one, other, later in (
        (None, None, None),
        (committing, None, committing),
        (None, committing, committing),
        (committing, gathering, gathering),
        (gathering, committing, gathering),
        (committing, committing, committing),
    ):
        assert replica.later(one, other) is later


def test_copies_of_other_nodes_are_answered_with_the_number_of_their_commit() -> None:
    copies = Copies()
    batch = copies.put()
    batch.copies += [(7, 1), (8, 2)]
    assert batch.waiting == 2
    copies.commit()
    assert copies.out.replies == [(7, Stored(1, STATUS_OK, 1)), (8, Stored(2, STATUS_OK, 1))]


def test_copies_of_a_commit_that_failed_are_refused_and_so_are_those_behind_it() -> None:
    copies = Copies()
    copies.put().copies.append((7, 1))
    assert copies.replica.take_batch() is not None
    copies.put(slot=b"another slot").copies.append((8, 2))
    copies.replica.commit_failed(b"start 02", 1.0, copies.out)
    assert copies.out.replies == [(7, Stored(1, STATUS_STORAGE, 0)), (8, Stored(2, STATUS_STORAGE, 0))]


def test_copies_crowd_a_batch_as_waiters_do() -> None:
    copies = Copies(batch_waiters_max=2)
    batch = copies.put()
    batch.copies.append((7, 1))
    assert not copies.replica.crowded
    batch.copies.append((7, 2))
    assert copies.replica.crowded


def test_a_row_is_what_was_written_last_and_a_page_what_is_on_the_disk() -> None:
    copies = Copies()
    copies.replica.write_row(b"one", b"1")
    assert copies.replica.row(b"one") == b"1"
    assert copies.replica.rows(b"a", b"z", limit=9) == ([], None)
    assert copies.replica.commit_number == 0
    copies.commit()
    assert copies.replica.commit_number == 1
    assert copies.replica.rows(b"a", b"z", limit=9) == ([(b"one", b"1")], None)
    copies.replica.write_row(b"one", None)
    assert copies.replica.row(b"one") is None


def test_a_corrupt_row_is_refused_and_noted() -> None:
    copies = Copies()
    copies.replica.write_row(b"one", b"1")
    copies.commit()
    copies.engine.corrupt(b"one")
    with pytest.raises(Refusal) as refused:
        copies.replica.row(b"one")
    assert refused.value.status == STATUS_STORAGE
    assert list(copies.replica.damaged) == [b"one"]


def test_what_is_about_to_be_overwritten_is_no_damage_any_more_and_again_when_that_fails() -> None:
    copies = Copies()
    copies.replica.write_row(b"one", b"1")
    copies.commit()
    copies.engine.corrupt(b"one")
    copies.replica.write_row(b"one", b"2")
    copies.replica.note_damage(b"one")  # by somebody who looks at the disk
    assert not copies.replica.damaged
    copies.fail()
    copies.replica.note_damage(b"one")
    assert list(copies.replica.damaged) == [b"one"]
