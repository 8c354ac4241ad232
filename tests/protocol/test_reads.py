"""Reads under way and pages of listings, of one node; with several nodes, see stories/."""

from __future__ import annotations

import math
from functools import partial

import pytest

from dyno.causality.context import Context
from dyno.causality.dots import Dot
from dyno.causality.record import Record
from dyno.config import Config
from dyno.placement.hashing import PREFIX_BYTES, bucket_id
from dyno.protocol.outbox import Outbox
from dyno.protocol.overload import ReadLine
from dyno.protocol.planner import Intent
from dyno.protocol.sink import LinkSink
from dyno.wire.messages import (
    ALL,
    STATUS_OK,
    STATUS_RING,
    Failed,
    Found,
    Listed,
    ListKeys,
    Read,
    ReadAnswer,
    Scan,
    ScanAnswer,
    Store,
)
from dyno.wire.pages import HASH_BYTES, PAGE_KEYS_MAX, entry, pack_entries, unpack_keys
from tests.protocol.coordinator_harness import (
    KEY,
    LINK,
    At,
    a_get,
    a_listing,
    a_put,
    listed,
    with_record,
)

# ── deadlines ──


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
    assert at.coordinator.deadline() == math.inf


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


def test_a_replica_that_answers_quickly_is_late_sooner() -> None:
    at = At(names="ab", hedge_after_s=0.05)
    for number in range(100):
        at.ask(a_get(number))
        ((name, read),) = at.sent(Read)
        assert isinstance(read, Read)
        at.now += 0.001
        at.hear(name, ReadAnswer(read.id, STATUS_OK, b""))
    at.ask(a_get(100))
    assert at.coordinator.reads.deadline() < at.now + 0.04


def test_a_read_that_is_answered_needs_no_hedge() -> None:
    at = At()
    at.ask(a_get())
    ((name, read),) = at.sent(Read)
    assert isinstance(read, Read)
    at.hear(name, ReadAnswer(read.id, STATUS_OK, b""))
    assert len(at.answers()) == 1
    assert at.coordinator.deadline() == math.inf


def test_reads_expire_in_the_order_in_which_they_began() -> None:
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
    at = At(hedge_after_s=1.0)  # else b would be asked again for being late
    at.ask(a_get(r=ALL))
    (_, read), _ = at.sent(Read)
    assert isinstance(read, Read)
    at.hear("b", ReadAnswer(read.id, STATUS_RING, b""))
    assert at.coordinator.reads.deadline() == 0.05
    at.tick(0.049)
    assert at.sent(Read) == []
    at.tick(0.051)
    assert at.sent(Read) == [("b", read)]
    at.hear("b", ReadAnswer(read.id, STATUS_OK, b""))
    at.hear("c", ReadAnswer(read.id, STATUS_OK, b""))
    assert len(at.answers()) == 1


def test_reads_under_a_ring_that_is_no_more_fail_with_plan_again() -> None:
    at = At()
    at.ask(a_get(1))
    at.ask(a_get(2))
    (_, read), *_ = at.sent(Read)
    assert isinstance(read, Read)
    at.turn("abc")  # the same one
    assert at.answers() == []
    at.turn("abcd")
    answers = at.answers()
    assert [answer.code for answer in answers if isinstance(answer, Failed)] == ["ring", "ring"]
    assert at.coordinator.reads.under_way == 0
    at.hear("b", ReadAnswer(read.id, STATUS_OK, b""))
    at.hear("c", ReadAnswer(read.id, STATUS_OK, b""))
    assert at.answers() == []


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


def test_one_that_is_known_to_be_late_is_asked_last() -> None:
    at = At()
    at.ask(a_get())
    ((usual, _),) = at.sent(Read)
    plan = at.ring.plan("bucket", KEY)
    intent = Intent(KEY, plan.slot, plan.owners, at.ring.fingerprint)
    at.coordinator.reads.begin(intent, 2, LinkSink(LINK, 2), at.now, at.out, late=usual)
    ((other, _),) = at.sent(Read)
    assert {usual, other} == {"b", "c"}
    at.coordinator.reads.begin(intent, 3, LinkSink(LINK, 3), at.now, at.out, late=usual)
    assert [name for name, _ in at.sent(Read)] == [other, usual]


# ── links ──


def test_another_owner_is_asked_when_a_link_breaks_and_that_one_again_when_it_is_back() -> None:
    at = At()
    at.ask(a_get())
    ((first, read),) = at.sent(Read)
    assert isinstance(read, Read)
    at.cut(first)
    ((second, again),) = at.sent(Read)
    assert ({first, second}, again) == ({"b", "c"}, read)
    at.cut(second)
    assert at.sent(Read) == []
    assert at.coordinator.reads.under_way == 1
    at.link(first)
    assert at.sent(Read) == [(first, read)]
    at.hear(first, ReadAnswer(read.id, STATUS_OK, b""))
    (found,) = at.answers()
    assert isinstance(found, Found)
    assert found.answered == f"a,{first}"


# ── this node's own copy ──


def test_others_are_asked_while_its_own_copy_is_on_its_way_to_the_disk() -> None:
    at = At()
    at.ask(a_put(1))
    at.out = Outbox()
    at.ask(a_get(2))
    ((name, read),) = at.sent(Read)
    assert isinstance(read, Read)
    at.hear(name, ReadAnswer(read.id, STATUS_OK, b""))
    assert at.answers() == []
    at.commit()
    (found,) = [answer for answer in at.answers() if isinstance(answer, Found)]
    assert (found.id, sorted(found.answered.split(","))) == (2, ["a", name])


def test_a_damaged_copy_of_its_own_is_reported_and_two_others_are_read() -> None:
    at = At()
    with_record(at)
    slot = at.ring.plan("bucket", KEY).slot
    at.engine.corrupt(slot)
    at.ask(a_get())
    ((level, text),) = at.out.events
    assert (level, "checksum" in text) == ("error", True), text
    asked = at.sent(Read)
    assert sorted(name for name, _ in asked) == ["b", "c"]
    for name, read in asked:
        assert isinstance(read, Read)
        at.hear(name, ReadAnswer(read.id, STATUS_OK, b""))
    (found,) = at.answers()
    assert isinstance(found, Found)
    assert sorted(found.answered.split(",")) == ["b", "c"]


def test_a_read_that_only_a_damaged_copy_could_answer_fails() -> None:
    at = At(names="a")
    with_record(at)
    at.engine.corrupt(at.ring.plan("bucket", KEY).slot)
    at.ask(a_get())
    assert at.failure().message.startswith("0 of 1 needed nodes answered the read")
    assert not at.coordinator.reads.under_way


def test_a_read_that_met_a_write_that_never_got_to_the_disk_is_told_what_is_there() -> None:
    at = At()
    with_record(at)
    at.ask(a_put(2, b"never"))
    at.ask(a_get(3, r=1))
    assert at.answers() == []
    at.commit_fails()
    (found,) = [answer for answer in at.answers() if isinstance(answer, Found)]
    assert [sibling.value for sibling in Record.unpack(found.record).siblings] == [b"value"]


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
    assert at.coordinator.deadline() == math.inf  # nobody waits for it
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


# ── overload ──


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


def test_a_page_of_a_replica_with_another_ring_is_asked_for_again_after_a_moment() -> None:
    at = At(hedge_after_s=1.0)
    at.ask(a_listing(r=ALL))
    (node, scan), (other, _) = at.sent(Scan)
    assert isinstance(scan, Scan)
    at.hear(node, ScanAnswer(scan.id, STATUS_RING, b"", b""))
    assert at.coordinator.reads.deadline() == 0.05
    at.tick(0.049)
    assert at.sent(Scan) == []
    at.tick(0.051)
    assert at.sent(Scan) == [(node, scan)]
    for name in (node, other):
        assert at.answers() == []
        at.hear(name, ScanAnswer(scan.id, STATUS_OK, b"", b""))
    assert listed(at) == []


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
    assert at.coordinator.deadline() == math.inf
    assert not at.coordinator.busy


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


def test_reads_of_a_bucket_that_becomes_another_are_planned_again() -> None:
    at = At()
    at.ask(a_get(1))
    at.ask(a_get(2)._replace(bucket="other"))
    at.coordinator.replan_bucket(bucket_id("bucket"), at.out)
    failure = at.failure()
    assert (failure.id, failure.code) == (1, "ring")
    assert at.coordinator.reads.under_way == 1
    at.coordinator.replan_bucket(bucket_id("bucket"), at.out)
    assert at.answers() == []


def test_who_answers_pages_however_slowly_is_not_silent() -> None:
    at = At(hedge_after_s=0.05)
    for id in range(4):
        at.ask(a_listing(id + 1))
        at.tick(at.now + 0.12)
        for node, scan in at.sent(Scan):
            assert isinstance(scan, Scan)
            at.hear(node, ScanAnswer(scan.id, STATUS_OK, b"", b""))
        assert len(at.answers()) == 1
    at.ask(a_get(9))
    assert len(at.sent(Read)) == 1
    at.tick(at.now + 0.001)
    assert at.sent(Read) == [], "nobody is overtaken at once"


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
