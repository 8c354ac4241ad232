"""One node's own copies, on the disk and on the way there."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from dyno.causality.context import Context
from dyno.causality.dots import Dot, actor, dot_of_request
from dyno.causality.mint import Minter
from dyno.causality.record import Record
from dyno.config import RECORD_BYTES_MAX, SIBLINGS_MAX
from dyno.errors import InvalidRequest
from dyno.placement.hashing import bucket_id, slot_prefix
from dyno.protocol.generations import HEAD_BYTES
from dyno.protocol.group_commit import Refusal
from dyno.protocol.replica import NO_DOT, Replica, Written, listing_span
from dyno.storage.cell import pack_cell, record_of, unpack_cell
from dyno.wire.messages import (
    STATUS_OK,
    STATUS_OVERLOADED,
    STATUS_REFUSED,
    STATUS_STORAGE,
)
from dyno.wire.pages import DEAD, LIVE, PAGE_KEYS_MAX, UNREADABLE, pack_entries, unpack_entries
from tests.protocol.replica_harness import (
    KEY,
    PREFIX,
    SLOT,
    START,
    Copies,
    a_record,
    a_request,
    values,
)

# ── reading and what is not on the disk yet ──


def test_nothing_is_there_in_the_beginning() -> None:
    copies = Copies()
    assert copies.replica.read(SLOT) == (b"", None)
    assert copies.replica.take_batch() is None
    assert not copies.replica.holds_data


def test_a_write_is_read_with_the_batch_to_wait_for_until_it_is_on_the_disk() -> None:
    copies = Copies()
    written = copies.replica.put(SLOT, KEY, context=Context.EMPTY, request=a_request(), value=b"value")
    assert copies.replica.read(SLOT) == (written.record, written.batch)
    assert copies.replica.holds_data
    taken = copies.replica.take_batch()
    assert taken is written.batch
    assert copies.replica.read(SLOT) == (written.record, taken)
    assert copies.replica.holds_data
    copies.engine.write_batch(taken.writes, taken.meta)
    copies.replica.committed(1.0, copies.out)
    assert copies.replica.read(SLOT) == (written.record, None)
    assert copies.replica.holds_data
    assert unpack_cell(taken.writes[SLOT])[0] == KEY


def test_many_are_read_at_once_but_those_that_are_on_their_way_to_the_disk() -> None:
    copies = Copies()
    for slot in (b"one", b"two", b"three"):
        copies.put(slot=slot)
    copies.commit()
    there = [copies.replica.read(slot)[0] for slot in (b"one", b"two", b"three")]
    slots = [b"three", b"missing", b"one", b"two"]
    assert copies.replica.read_many(slots, bytes_max=10_000) == [there[2], b"", there[0], there[1]]
    copies.put(slot=b"one")
    copies.put(slot=b"missing")
    assert copies.replica.read_many(slots, bytes_max=10_000) == [there[2], None, None, there[1]]
    assert copies.replica.take_batch() is not None
    copies.put(slot=b"two")
    assert copies.replica.read_many(slots, bytes_max=10_000) == [there[2], None, None, None]
    copies.replica.committed(1.0, copies.out)
    assert copies.replica.read_many([b"two"], bytes_max=10_000) == [None]


def test_of_many_those_past_the_bound_are_left_out() -> None:
    copies = Copies()
    for slot in (b"one", b"two"):
        copies.put(bytes(1000), slot=slot)
    copies.commit()
    first, second = (copies.replica.read(slot)[0] for slot in (b"one", b"two"))
    assert copies.replica.read_many([b"one", b"two", b"one"], bytes_max=1500) == [first, second, None]
    assert copies.replica.read_many([b"one", b"two", b"none"], bytes_max=1) == [first, None, None]


def test_a_corrupt_one_among_many_is_left_out_alone() -> None:
    copies = Copies()
    for slot in (b"one", b"two", b"three"):
        copies.put(bytes(1000), slot=slot)
    copies.commit()
    copies.engine.corrupt(b"two")
    first, third = (copies.replica.read(slot)[0] for slot in (b"one", b"three"))
    slots = [b"one", b"two", b"missing", b"three"]
    assert copies.replica.read_many(slots, bytes_max=10_000) == [first, None, b"", third]
    assert copies.replica.read_many([*slots, b"one"], bytes_max=1500) == [first, None, b"", third, None]


def test_a_replica_that_finds_data_holds_data() -> None:
    copies = Copies()
    copies.put()
    copies.commit()
    again = Replica(engine=copies.engine, minter=Minter(b"start 02"), config=copies.config)
    assert again.holds_data


def test_a_write_upon_one_that_is_being_committed_builds_on_it() -> None:
    copies = Copies()
    copies.put(b"one")
    taken = copies.replica.take_batch()
    copies.put(b"two")
    assert values(copies.record()) == [b"one", b"two"]
    assert copies.replica.read(SLOT)[1] is not taken


# ── writes of its own ──


def test_a_blind_write_makes_a_sibling_and_one_with_the_context_replaces() -> None:
    copies = Copies()
    copies.put(b"one")
    copies.put(b"two")
    assert values(copies.record()) == [b"one", b"two"]
    copies.put(b"three", context=copies.record().context)
    assert values(copies.record()) == [b"three"]


def test_dots_go_on_counting_over_commits() -> None:
    copies = Copies()
    copies.put(b"one")
    copies.commit()
    written = copies.replica.put(SLOT, KEY, context=Context.EMPTY, request=a_request(), value=b"two")
    assert written.dot == Dot(actor(START, 0), 2)


def test_a_context_that_knows_more_dots_of_this_start_than_the_disk_opens_an_epoch() -> None:
    copies = Copies()
    first = copies.replica.put(SLOT, KEY, context=Context.EMPTY, request=a_request(), value=b"one")
    assert first.dot is not None
    lost = Context.EMPTY.add(first.dot).add(Dot(first.dot.actor, 2))  # a client saw a second write of ours
    written = copies.replica.put(SLOT, KEY, context=lost, request=a_request(), value=b"two")
    assert written.dot == Dot(actor(START, 1), 1)
    assert values(copies.record()) == [b"two"]


def test_the_hundred_and_first_sibling_is_refused_and_nothing_changes() -> None:
    copies = Copies()
    for number in range(SIBLINGS_MAX):
        copies.put(b"%d" % number)
    with pytest.raises(InvalidRequest, match="the key has 100 siblings, more are refused"):
        copies.put(b"one too many")
    assert len(copies.record().siblings) == SIBLINGS_MAX
    copies.put(b"all in one", context=copies.record().context)
    assert values(copies.record()) == [b"all in one"]


def test_a_record_that_would_be_too_large_is_refused_and_nothing_changes() -> None:
    copies = Copies()
    half = b"x" * (RECORD_BYTES_MAX // 2)
    copies.put(half)
    with pytest.raises(InvalidRequest, match="the record with its siblings would be"):
        copies.put(half)
    assert len(copies.record().siblings) == 1


def test_merging_is_never_refused_for_size_or_siblings() -> None:
    copies = Copies()
    for number in range(SIBLINGS_MAX):
        copies.put(b"%d" % number)
    copies.replica.merge(SLOT, KEY, a_record(b"one", b"two").pack())
    assert len(copies.record().siblings) == SIBLINGS_MAX + 2


def test_a_delete_drops_what_its_context_covers_and_keeps_the_note() -> None:
    copies = Copies()
    copies.put(b"one")
    read = copies.record().context
    copies.put(b"unread")
    written = copies.replica.delete(SLOT, KEY, context=read)
    assert written.dot == NO_DOT
    assert values(copies.record()) == [b"unread"]
    copies.commit()
    after = copies.replica.put(SLOT, KEY, context=Context.EMPTY, request=a_request(), value=b"next")
    assert after.dot == Dot(actor(START, 0), 3)


# ── writes that are sent again ──


SLOT_27 = b"slot of the key............"


def put_as(copies: Copies, request: bytes, value: bytes = b"value", **options: Any) -> Written:
    options = {"context": Context.EMPTY, **options}
    return copies.replica.put(SLOT_27, KEY, request=request, value=value, **options)


def test_a_write_is_recalled_by_its_request_with_what_has_become_of_it() -> None:
    copies = Copies()
    request = a_request()
    assert copies.replica.recall(SLOT_27, request) is None
    written = put_as(copies, request)
    known = copies.replica.recall(SLOT_27, request)
    assert known is not None
    assert (known.dot, known.record, known.batch) == (written.dot, written.record, written.batch)
    copies.commit()
    known = copies.replica.recall(SLOT_27, request)
    assert known is not None
    assert (known.dot, known.record, known.batch) == (written.dot, written.record, None)
    copies.put(b"next", known.before, slot=SLOT_27)
    over = copies.replica.recall(SLOT_27, request)
    assert over is not None
    assert over.dot == written.dot
    assert values(Record.unpack(over.record)) == [b"next"]
    assert copies.replica.recall(SLOT_27, a_request()) is None


def test_the_write_of_another_replica_is_recalled_as_well() -> None:
    copies = Copies()
    theirs = a_record(b"theirs")
    copies.replica.merge(SLOT_27, KEY, theirs.pack())
    known = copies.replica.recall(SLOT_27, theirs.siblings[0].request)
    assert known is not None
    assert known.dot == theirs.siblings[0].dot
    other = a_record(b"more", by=2)
    copies.replica.merge(SLOT_27, KEY, other.pack())
    assert copies.replica.recall(SLOT_27, other.siblings[0].request) is not None


def test_a_write_that_failed_or_was_lost_is_not_recalled() -> None:
    copies = Copies()
    request = a_request()
    put_as(copies, request)
    copies.fail()
    assert copies.replica.recall(SLOT_27, request) is None
    copies.replica.tick(2.0)
    copies.commit()
    put_as(copies, request)
    copies.commit()
    copies.engine.write_batch({SLOT_27: None}, {})
    assert copies.replica.recall(SLOT_27, request) is None


def test_a_write_that_others_know_is_recalled_once_it_was_learned() -> None:
    copies = Copies()
    theirs = a_record(b"theirs")
    (sibling,) = theirs.siblings
    copies.replica.merge(SLOT_27, KEY, theirs.delete(theirs.context).pack())
    assert copies.replica.recall(SLOT_27, sibling.request) is None
    for _ in range(2):
        copies.replica.learn(SLOT_27, sibling.request, sibling.dot)
    assert copies.replica.seen.dots(SLOT_27, sibling.request) == [sibling.dot]
    known = copies.replica.recall(SLOT_27, sibling.request)
    assert known is not None
    assert known.dot == sibling.dot


def test_a_write_that_is_done_again_gets_the_dot_of_its_request_and_keeps_the_note() -> None:
    copies = Copies()
    copies.put(slot=SLOT_27)
    request = a_request()
    written = put_as(copies, request, again=True)
    assert written.dot == dot_of_request(request)
    assert copies.replica.recall(SLOT_27, request) == written._replace(
        before=Record.unpack(written.record).context
    )
    after = put_as(copies, a_request())
    assert after.dot == Dot(actor(START, 0), 2)
    with pytest.raises(InvalidRequest, match="covers the write that it came with"):
        put_as(copies, request, again=True)
    other = Copies()
    assert put_as(other, request, again=True).dot == written.dot


def test_a_first_attempt_that_comes_after_it_was_done_again_elsewhere_is_not_done_twice() -> None:
    request, other = a_request(), Copies()
    again = put_as(other, request, again=True)
    deleted = other.replica.delete(SLOT_27, KEY, context=Record.unpack(again.record).context)
    copies = Copies()
    batch = copies.replica.merge(SLOT_27, KEY, deleted.record)
    written = put_as(copies, request)
    assert (written.record, written.dot, written.batch) == (deleted.record, dot_of_request(request), batch)
    copies.commit()
    assert put_as(copies, request).batch is None
    assert copies.replica.read(SLOT_27) == (deleted.record, None)


@pytest.mark.parametrize("known_here", [True, False])
def test_no_write_has_the_request_of_an_actor_that_its_context_knows(known_here: bool) -> None:
    """It would be a record that nobody can read."""
    copies, actor_ = Copies(), a_request()
    context = Context.EMPTY.add(Dot(actor_, 1)).add(Dot(actor_, 2))
    if known_here:  # as no dot of a request is: of some node
        written = copies.replica.put(
            SLOT_27, KEY, context=context, request=a_request(), value=b"of somebody who read more"
        )
        assert Record.unpack(written.record).context.knows(actor_)
        put_as(copies, actor_)  # is taken for one that was done
    else:
        with pytest.raises(InvalidRequest, match="has the request of the write"):
            put_as(copies, actor_, context=context)
    Record.unpack(copies.replica.read(SLOT_27)[0] or Record.EMPTY.pack())


def test_a_write_that_was_done_again_is_gone_where_it_is_known_to_be_overwritten() -> None:
    """Whether the news comes last or the second dot does; and it stays where nobody overwrote it."""
    request = a_request()
    elsewhere, twice = Copies(), Copies()
    first = put_as(elsewhere, request)
    elsewhere.put(b"next", Record.unpack(first.record).context, slot=SLOT_27)
    overwritten = elsewhere.replica.read(SLOT_27)[0]
    again = put_as(twice, request, again=True).record
    for order in ((first.record, overwritten, again), (first.record, again, overwritten)):
        copies = Copies()
        for record in order:
            copies.replica.merge(SLOT_27, KEY, record)
        assert values(copies.record(SLOT_27)) == [b"next"]
        assert copies.record(SLOT_27).context.covers(dot_of_request(request))
    copies = Copies()
    for record in (first.record, again, first.record):
        copies.replica.merge(SLOT_27, KEY, record)
    assert values(copies.record(SLOT_27)) == [b"value", b"value"]
    ignorant = Copies()
    for record in (overwritten, again):
        ignorant.replica.merge(SLOT_27, KEY, record)
    assert values(ignorant.record(SLOT_27)) == [b"next", b"value"] or values(ignorant.record(SLOT_27)) == [
        b"value",
        b"next",
    ]
    ignorant.replica.merge(SLOT_27, KEY, copies_that_know(first.record, overwritten, again))
    assert values(ignorant.record(SLOT_27)) == [b"next"]


def copies_that_know(*records: bytes) -> bytes:
    copies = Copies()
    for record in records:
        copies.replica.merge(SLOT_27, KEY, record)
    return copies.replica.read(SLOT_27)[0]


@pytest.mark.parametrize("seed", range(40))
def test_replicas_end_equal_whatever_was_done_again_and_in_which_order_it_came(seed: int) -> None:
    """Five replicas write, delete, and do again what they do not know; in the end they merge until nothing
    changes."""
    random = Random(seed)
    replicas = [Copies() for _ in range(5)]
    for number, copies in enumerate(replicas):
        copies.minter.restart(b"start%03d" % number)
    requests = [a_request() for _ in range(4)]
    attempted: dict[bytes, bool] = {}
    for _ in range(40):
        copies, other = random.choice(replicas), random.choice(replicas)
        context = random.choice([Context.EMPTY, copies.record(SLOT_27).context])
        request = random.choice(requests)
        step = random.randrange(4)
        if step == 0 and copies.replica.recall(SLOT_27, request) is None:
            put_as(copies, request, again=attempted.get(request, False), context=context)
            attempted[request] = True
        elif step == 1:
            copies.replica.delete(SLOT_27, KEY, context=context)
        elif packed := other.replica.read(SLOT_27)[0]:
            copies.replica.merge(SLOT_27, KEY, packed)
    for _ in range(3):
        for copies in replicas:
            for other in replicas:
                if packed := other.replica.read(SLOT_27)[0]:
                    copies.replica.merge(SLOT_27, KEY, packed)
    ended = [copies.replica.read(SLOT_27)[0] for copies in replicas]
    assert len(set(ended)) == 1


# ── copies of others ──


def test_the_first_copy_is_stored_as_it_came() -> None:
    copies = Copies()
    incoming = a_record(b"theirs").pack()
    copies.wait(copies.replica.merge(SLOT, KEY, incoming))
    assert record_of(copies.commit().writes[SLOT]) == incoming
    assert copies.told == [STATUS_OK]


def test_a_copy_that_is_on_the_disk_already_needs_no_commit() -> None:
    copies = Copies()
    incoming = a_record(b"one", b"two")
    copies.replica.merge(SLOT, KEY, incoming.pack())
    copies.commit()
    assert copies.replica.merge(SLOT, KEY, incoming.pack()) is None
    assert copies.replica.merge(SLOT, KEY, a_record(b"one").pack()) is None  # older
    assert copies.replica.take_batch() is None


def test_a_copy_that_is_on_its_way_already_waits_for_the_same_commit() -> None:
    copies = Copies()
    incoming = a_record(b"one", b"two")
    batch = copies.replica.merge(SLOT, KEY, incoming.pack())
    assert copies.replica.merge(SLOT, KEY, incoming.pack()) is batch
    assert copies.replica.merge(SLOT, KEY, a_record(b"one").pack()) is batch
    assert copies.replica.take_batch() is batch
    assert copies.replica.merge(SLOT, KEY, incoming.pack()) is batch


def test_concurrent_copies_become_siblings_and_the_note_stays() -> None:
    copies = Copies()
    copies.put(b"mine")
    copies.replica.merge(SLOT, KEY, a_record(b"theirs").pack())
    assert sorted(values(copies.record())) == [b"mine", b"theirs"]
    written = copies.replica.put(SLOT, KEY, context=Context.EMPTY, request=a_request(), value=b"mine 2")
    assert written.dot == Dot(actor(START, 0), 2)


@pytest.mark.parametrize("known", [True, False])
def test_a_malformed_copy_is_refused(known: bool) -> None:
    copies = Copies()
    if known:
        copies.put()
    with pytest.raises(Refusal, match="a malformed record") as refused:
        copies.replica.merge(SLOT, KEY, b"nonsense")
    assert refused.value.status == STATUS_REFUSED


def test_one_dot_with_two_values_is_refused() -> None:
    copies = Copies()
    copies.replica.merge(SLOT, KEY, a_record(b"one").pack())
    with pytest.raises(Refusal, match="one dot has two different values in the record of key b'key'") as no:
        copies.replica.merge(SLOT, KEY, a_record(b"another").pack())
    assert no.value.status == STATUS_REFUSED
    assert values(copies.record()) == [b"one"]


def test_a_slot_never_changes_its_key() -> None:
    copies = Copies()
    copies.put()
    with pytest.raises(Refusal, match="the slot of key b'key' was given for key b'other'") as refused:
        copies.replica.merge(SLOT, b"other", a_record(b"value").pack())
    assert refused.value.status == STATUS_REFUSED


# ── damage and limits ──


def test_a_corrupt_record_is_neither_a_value_nor_an_absence() -> None:
    copies = Copies()
    copies.put()
    copies.commit()
    copies.engine.corrupt(SLOT)
    attempts: list[Callable[[], object]] = [
        lambda: copies.replica.read(SLOT),
        lambda: copies.replica.merge(SLOT, KEY, a_record(b"theirs").pack()),
        copies.put,
        lambda: copies.replica.delete(SLOT, KEY, context=Context.EMPTY),
    ]
    for attempt in attempts:
        with pytest.raises(Refusal) as refused:
            attempt()
        assert refused.value.status == STATUS_STORAGE
    assert copies.replica.take_batch() is None


# ── a commit that fails ──


def test_nothing_that_was_minted_for_a_failed_commit_is_minted_again() -> None:
    copies = Copies()
    copies.put(b"one")
    copies.commit()
    lost = copies.replica.put(SLOT, KEY, context=Context.EMPTY, request=a_request(), value=b"lost")
    copies.fail(now=1.0)
    copies.replica.tick(2.0)
    copies.commit()
    again = copies.replica.put(SLOT, KEY, context=Context.EMPTY, request=a_request(), value=b"again")
    assert lost.dot is not None
    assert again.dot is not None
    assert lost.dot.actor == actor(START, 0)
    assert again.dot.actor == actor(b"start 02", 0)
    merged = copies.record().merge(Record.unpack(lost.record))  # what left before the failure comes back
    assert values(merged) == [b"one", b"lost", b"again"]


def test_a_disk_that_stays_full_costs_the_records_one_actor_alone() -> None:
    copies = Copies()
    copies.put(b"one")
    copies.commit()
    copies.put(b"lost")
    copies.fail(now=1.0)
    for second in range(2, 20):
        copies.replica.tick(float(second))
        with pytest.raises(Refusal):
            copies.put(b"refused")
        copies.fail(b"start %02d" % (second + 1), now=float(second))
    copies.replica.tick(20.0)
    copies.commit()
    copies.put(b"two")
    copies.commit()
    assert len(copies.record().context.actors()) == 2


def test_a_cell_keeps_the_note_beside_the_record() -> None:
    copies = Copies()
    copies.put()
    key, note, record = unpack_cell(copies.commit().writes[SLOT])
    assert pack_cell(key, note, record) == copies.engine.get(SLOT)
    assert note.startswith(START)


# ── pages of keys ──


def stored(copies: Copies, *keys: bytes, prefix: bytes = PREFIX, dead: bool = False) -> None:
    """Records under slots whose hash is the key 16 times."""
    for key in keys:
        slot = prefix + key * 16
        copies.replica.put(slot, key, context=Context.EMPTY, request=a_request(), value=b"value")
        if dead:
            copies.replica.delete(slot, key, context=Record.unpack(copies.replica.read(slot)[0]).context)
    copies.commit()


def scanned(copies: Copies, after: bytes = b"", limit: int = 10) -> tuple[list[tuple[bytes, int]], bytes]:
    """Keys with what they are, and where the page ends."""
    packed, end = copies.replica.scan(PREFIX, after, limit)
    entries = unpack_entries(packed, after=after, end=end)
    assert all(entry.key * 16 in (entry.hash, b"") for entry in entries)
    return [(entry.key, entry.state[0]) for entry in entries], end


def test_a_page_has_what_is_committed_in_its_stretch_alone() -> None:
    copies = Copies()
    stored(copies, b"b", b"a", b"\xff", b"\0")
    stored(copies, b"c", dead=True)
    stored(copies, b"x", prefix=PREFIX[:-1] + b"\0")
    stored(copies, b"x", prefix=PREFIX[:-1] + b"\x02")
    copies.put(slot=PREFIX + b"d" * 16)  # on its way to the disk
    all_of_it = [(b"\0", LIVE), (b"a", LIVE), (b"b", LIVE), (b"c", DEAD), (b"\xff", LIVE)]
    assert scanned(copies) == (all_of_it, b"")


def test_pages_follow_each_other_without_gap_or_overlap() -> None:
    copies = Copies()
    keys = [bytes([number]) for number in range(0, 250, 10)]
    stored(copies, *keys)
    found: list[bytes] = []
    after = b""
    while True:
        page, after = scanned(copies, after, 4)
        found += [key for key, _ in page]
        if not after:
            break
        assert len(page) == 4
        assert after == found[-1] * 16
    assert found == keys
    assert scanned(copies, b"\xff" * 16) == ([], b"")


def test_a_page_is_never_longer_than_a_page_may_be() -> None:
    assert listing_span(PREFIX, b"", 10**9).limit == PAGE_KEYS_MAX
    assert listing_span(PREFIX, b"", 7).limit == 7


def test_equal_records_have_equal_states_whatever_note_is_beside_them() -> None:
    minted, copied, other = Copies(), Copies(), Copies()
    slot = PREFIX + b"a" * 16
    stored(minted, b"a")
    copied.replica.merge(slot, b"a", minted.replica.read(slot)[0])
    copied.commit()
    assert minted.engine.get(slot) != copied.engine.get(slot)
    other.replica.put(slot, b"a", context=Context.EMPTY, request=a_request(), value=b"another value")
    other.commit()
    pages = [copies.replica.scan(PREFIX, b"", 10)[0] for copies in (minted, copied, other)]
    assert pages[0] == pages[1] != pages[2]


def test_a_damaged_record_is_in_the_page_without_its_key() -> None:
    copies = Copies()
    stored(copies, b"a", b"b", b"c")
    copies.engine.corrupt(PREFIX + b"b" * 16)
    assert scanned(copies) == ([(b"a", LIVE), (b"", UNREADABLE), (b"c", LIVE)], b"")


# ── buckets ──


def test_whether_a_bucket_has_records_here_or_on_their_way() -> None:
    copies = Copies()
    bucket, partition, n = bucket_id("bucket"), 5, 3
    slot = slot_prefix(bucket, partition, n) + b"hash of the key."
    assert not copies.replica.gathers(bucket)
    copies.put(slot=slot)
    assert copies.replica.gathers(bucket)
    assert not copies.replica.gathers(bucket_id("another"))
    batch = copies.replica.take_batch()
    assert batch is not None
    assert copies.replica.gathers(bucket)
    assert not copies.replica.stores(bucket, n, partition)
    copies.engine.write_batch(batch.writes, batch.meta)
    copies.replica.committed(1.0, copies.out)
    assert not copies.replica.gathers(bucket)
    assert copies.replica.stores(bucket, n, partition)
    assert not copies.replica.stores(bucket, n + 1, partition)
    assert not copies.replica.stores(bucket, n, partition + 1)
    assert not copies.replica.stores(bucket_id("another"), n, partition)
    copies.engine.corrupt(slot)
    assert copies.replica.stores(bucket, n, partition)


def of_another_kind(record: Record) -> bytes:
    packed = bytearray(record.pack())
    packed[1] = 7
    return bytes(packed)


def test_a_record_of_another_kind_is_not_written_as_siblings() -> None:
    copies = Copies()
    copies.engine.write_batch({SLOT: pack_cell(KEY, b"", of_another_kind(a_record(b"value")))}, {})
    match = "holds no siblings: a packed record has the other kind 7"
    with pytest.raises(InvalidRequest, match=match):
        copies.put()
    with pytest.raises(InvalidRequest, match=match):
        copies.replica.delete(SLOT, KEY, context=Context.EMPTY)
    assert copies.replica.take_batch() is None


def test_a_record_of_another_kind_is_not_merged() -> None:
    copies = Copies()
    copies.put()
    for slot in (SLOT, SLOT[:-1] + b"2"):
        with pytest.raises(Refusal, match="a packed record has the other kind 7") as caught:
            copies.replica.merge(slot, KEY, of_another_kind(a_record(b"value")))
        assert caught.value.status == STATUS_REFUSED


def test_nothing_is_recalled_of_a_record_of_another_kind() -> None:
    copies = Copies()
    copies.engine.write_batch({SLOT: pack_cell(KEY, b"", of_another_kind(a_record(b"value")))}, {})
    assert copies.replica.recall(SLOT, a_request()) is None


def test_a_record_that_is_no_record_is_not_written_over() -> None:
    copies = Copies()
    copies.engine.write_batch({SLOT: pack_cell(KEY, b"", b"nonsense")}, {})
    with pytest.raises(Refusal, match="a malformed record"):
        copies.replica.recall(SLOT, a_request())
    with pytest.raises(Refusal, match="a malformed record") as caught:
        copies.put()
    assert caught.value.status == STATUS_REFUSED


# ── forgetting dead entries ──


def seen(count: int, by: int = 1) -> Context:
    return a_record(*[b"x"] * count, by=by).context


def test_forgetting_all_that_a_record_is_takes_it_out_of_the_engine() -> None:
    copies = Copies()
    copies.replica.merge(SLOT, KEY, Record.EMPTY.delete(seen(2)).pack())
    copies.commit()
    copies.wait(copies.replica.forget(SLOT, seen(2)))
    assert copies.record() == Record.EMPTY
    copies.commit()
    assert copies.told == [STATUS_OK]
    assert copies.engine.get(SLOT) is None


def test_forgetting_keeps_values_note_and_what_has_changed() -> None:
    copies = Copies()
    copies.put()
    mine = copies.record()
    copies.replica.merge(SLOT, KEY, Record.EMPTY.delete(seen(2).union(seen(1, by=2))).pack())
    copies.commit()
    assert copies.replica.forget(SLOT, seen(2).union(seen(2, by=2))) is not None
    copies.commit()
    cell = copies.engine.get(SLOT)
    assert cell is not None
    key, note, packed = unpack_cell(cell)
    assert (key, len(note)) == (KEY, 24)
    assert Record.unpack(packed) == Record(mine.siblings, mine.context.union(seen(1, by=2)))


def test_there_is_nothing_to_forget_of_a_record_that_is_not_there_or_has_changed() -> None:
    copies = Copies()
    assert copies.replica.forget(SLOT, seen(1)) is None
    copies.replica.merge(SLOT, KEY, Record.EMPTY.delete(seen(2)).pack())
    assert copies.replica.forget(SLOT, seen(1)) is None


def test_a_mint_after_its_count_was_forgotten_opens_another_epoch() -> None:
    copies = Copies()
    copies.put()
    first = copies.record()
    copies.replica.delete(SLOT, KEY, context=first.context)
    assert copies.replica.forget(SLOT, first.context) is not None
    copies.put()
    (sibling,) = copies.record().siblings
    assert sibling.dot.actor != first.siblings[0].dot.actor


def test_a_count_that_comes_back_after_it_was_forgotten_is_not_used_again() -> None:
    copies = Copies()
    copies.put()
    first = copies.record()
    copies.replica.merge(SLOT, KEY, a_record(b"another").pack())
    copies.replica.delete(SLOT, KEY, context=first.context)
    copies.replica.forget(SLOT, first.context)
    copies.put(b"second")
    copies.replica.merge(SLOT, KEY, Record.EMPTY.delete(first.context).pack())
    copies.put(b"third")
    dots = [sibling.dot for sibling in copies.record().siblings]
    assert len(dots) == len(set(dots)) == 3
    assert first.siblings[0].dot not in dots


def test_a_full_batch_takes_no_forgetting() -> None:
    copies = Copies(batch_count_max=1)
    copies.replica.merge(SLOT, KEY, Record.EMPTY.delete(seen(2)).pack())
    copies.commit()
    copies.put(slot=b"another slot")
    with pytest.raises(Refusal):
        copies.replica.forget(SLOT, seen(2))


# ── corrupt records, and copies for others ──


def test_a_corrupt_record_that_is_met_is_noted_for_whoever_heals() -> None:
    copies = Copies()
    copies.put()
    copies.commit()
    copies.engine.corrupt(SLOT)
    for read in (
        lambda: copies.replica.read(SLOT),
        copies.put,
        lambda: copies.replica.newest_copy(SLOT),
    ):
        copies.replica.damaged.clear()
        with pytest.raises(Refusal):
            read()
        assert list(copies.replica.damaged) == [SLOT]
    for number in range(2000):
        copies.replica.note_damage(b"%d" % number)
    assert len(copies.replica.damaged) == 1000


def test_a_corrupt_record_is_healed_with_another() -> None:
    copies = Copies()
    copies.put()
    copies.commit()
    sound = record_of(copies.engine.get(SLOT) or b"")
    copies.engine.corrupt(SLOT)
    with pytest.raises(Refusal, match="malformed"):
        copies.replica.heal(SLOT, KEY, b"nonsense")
    batch = copies.replica.heal(SLOT, KEY, sound)
    assert batch is not None
    other = a_record(b"written meanwhile")
    assert copies.replica.heal(SLOT, KEY, other.pack()) is batch  # merged with what is on its way
    copies.commit()
    merged = Record.unpack(copies.replica.read(SLOT)[0])
    assert merged == Record.unpack(sound).merge(other)
    assert copies.replica.heal(SLOT, KEY, sound) is None  # it is whole


def test_a_record_that_is_on_its_way_to_heal_is_merged_with() -> None:
    copies = Copies()
    copies.put()
    copies.commit()
    sound = record_of(copies.engine.get(SLOT) or b"")
    copies.engine.corrupt(SLOT)
    copies.replica.heal(SLOT, KEY, sound)
    batch = copies.replica.take_batch()
    assert batch is not None
    assert copies.replica.heal(SLOT, KEY, sound) is batch


def test_copies_for_another_node_are_what_is_committed() -> None:
    copies = Copies()
    copies.put()
    assert copies.replica.copies_of([SLOT], bytes_max=1) == [(b"", b"")]
    newest = copies.replica.newest_copy(SLOT)
    assert newest is not None
    assert newest[0] == KEY
    copies.commit()
    missing, corrupt = SLOT[:-1] + b"1", SLOT[:-1] + b"2"
    copies.engine.write_batch({corrupt: b"whatever"}, {})
    copies.engine.corrupt(corrupt)
    assert copies.replica.newest_copy(missing) is None
    assert copies.replica.copies_of([missing, corrupt, SLOT, SLOT], bytes_max=1) == [
        (b"", b""),
        None,
        newest,
        None,
    ]
    assert list(copies.replica.damaged) == [corrupt]


@pytest.mark.parametrize("deletes", [False, True])
def test_who_has_read_a_write_as_it_was_done_first_replaces_it_as_it_was_done_again(deletes: bool) -> None:
    copies = Copies()
    request = a_request()
    first = put_as(copies, request, b"first")
    read = Record.unpack(first.record).context
    again = Record.EMPTY.write(Context.EMPTY, dot_of_request(request), request, b"first")
    copies.replica.merge(SLOT_27, KEY, again.pack())
    other = put_as(copies, a_request(), b"other")  # of somebody who has read nothing
    assert set(values(Record.unpack(other.record))) == {b"first", b"other"}
    if deletes:
        written = copies.replica.delete(SLOT_27, KEY, context=read)
    else:
        written = put_as(copies, a_request(), b"next", context=read)
    expected = [b"other"] if deletes else [b"next", b"other"]
    assert sorted(values(Record.unpack(written.record))) == expected


def test_what_is_closed_is_neither_read_nor_written() -> None:
    copies = Copies()
    copies.put()
    copies.commit()
    copies.replica.closed[SLOT[:HEAD_BYTES]] = None
    assert copies.replica.read(SLOT) == (b"", None)
    assert copies.replica.read_many([SLOT], bytes_max=100) == [None]
    assert copies.replica.scan(SLOT[:HEAD_BYTES], b"", 9) == (pack_entries([]), b"")
    record = a_record(b"theirs").pack()
    attempts: list[Callable[[], object]] = [
        copies.put,
        lambda: copies.replica.merge(SLOT, KEY, record),
        lambda: copies.replica.recall(SLOT, a_request()),
    ]
    for attempt in attempts:
        with pytest.raises(Refusal, match="how old this copy is") as refused:
            attempt()
        assert refused.value.status == STATUS_OVERLOADED
    assert copies.replica.take_batch() is None
