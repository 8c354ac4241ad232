"""What a replica answers to the coordinators of other nodes, driven by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dyno.causality.context import Context
from dyno.causality.dots import Dot, actor
from dyno.causality.record import Record
from dyno.config import Config
from dyno.placement.hashing import PREFIX_BYTES
from dyno.protocol.outbox import Outbox
from dyno.protocol.overload import PEERS_ROOM
from dyno.wire.messages import (
    STATUS_OK,
    STATUS_OVERLOADED,
    STATUS_REAPED,
    STATUS_REFUSED,
    STATUS_RING,
    STATUS_STORAGE,
    STATUS_WEAK,
    Done,
    Failed,
    HandOver,
    Message,
    Put,
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
    StoreHint,
)
from dyno.wire.pages import unpack_entries
from dyno.wire.rows import pack_row
from tests.protocol.node_harness import KEY, LINK, Driven, a_get, a_put, create, three

# ── doors ──


@pytest.mark.parametrize("slot", [b"", b"s" * 26, b"s" * 28, b"s" * 600])
def test_a_slot_that_no_engine_takes_does_not_come_in(slot: bytes) -> None:
    driven = Driven()
    ring = driven.node.membership.fingerprint
    for message in (Read(1, ring, slot), Store(1, ring, slot, KEY, b"")):
        with pytest.raises(ValueError, match="a slot of"):
            driven.ask(message)


@pytest.mark.parametrize("key", [b"", b"k" * 1025])
def test_a_key_that_no_cell_takes_does_not_come_in(key: bytes) -> None:
    driven = Driven()
    with pytest.raises(ValueError, match="a key of"):
        driven.ask(Store(1, driven.node.membership.fingerprint, b"s" * 27, key, b""))


def test_a_copy_is_not_kept_where_its_key_does_not_belong() -> None:
    """Else the key that does belong there could not be written any more."""
    driven = Driven()
    ring = driven.node.membership.fingerprint
    (slot,) = driven.node.slots_read_by(a_get())
    record = Record.EMPTY.pack()
    assert driven.ask(Store(1, ring, slot, b"another key", record)) == [Stored(1, STATUS_REFUSED)]
    assert driven.ask(Store(0, ring, slot, b"another key", record)) == []
    assert "does not belong" in driven.out.events[-1][1]
    for partition in (slot[0] ^ 0xFF, 0xFF):
        elsewhere = bytes([partition]) + slot[1:]
        assert driven.ask(Store(2, ring, elsewhere, KEY, record)) == [Stored(2, STATUS_REFUSED)]
    (done,) = driven.ask(a_put())
    assert isinstance(done, Done)


# ── with others ──


def test_a_copy_is_stored_under_the_ring_that_is_ours_and_answered_once_it_is_on_the_disk() -> None:
    driven = three()
    driven.ask(a_put())
    store = driven.sent(Store)[0][1]
    assert isinstance(store, Store)
    assert driven.ask(store._replace(ring=7)) == [Stored(store.id, STATUS_RING)]
    assert driven.ask(store) == [Stored(store.id, STATUS_OK, driven.engine.commit_number)]  # we have it
    assert driven.ask(store._replace(id=0)) == []
    assert driven.ask(Read(8, store.ring, store.slot)) == [ReadAnswer(8, STATUS_OK, store.record)]
    other = driven.of_another_key(store)
    driven.node.receive(LINK, other, 0.0, driven.out)
    driven.node.receive(LINK, Read(9, store.ring, other.slot), 0.0, driven.out)
    driven.node.receive(LINK, other._replace(id=0), 0.0, driven.out)
    assert not driven.out.replies
    driven.commit()
    assert driven.out.replies == [
        (LINK, Stored(store.id, STATUS_OK, driven.engine.commit_number)),
        (LINK, ReadAnswer(9, STATUS_OK, store.record)),
    ]


def test_a_scan_is_answered_under_the_ring_that_is_ours() -> None:
    driven = three()
    driven.ask(a_put())
    store = driven.sent(Store)[0][1]
    assert isinstance(store, Store)
    scan = Scan(5, store.ring, store.slot[:11], b"", 9)
    assert driven.ask(scan._replace(ring=7)) == [ScanAnswer(5, STATUS_RING, b"", b"")]
    (answer,) = driven.ask(scan)
    assert isinstance(answer, ScanAnswer)
    assert answer[:2] == (5, STATUS_OK)
    (entry,) = unpack_entries(answer.entries, after=b"", end=answer.end)
    assert (entry.key, entry.hash) == (KEY, store.slot[11:])


@pytest.mark.parametrize("change", [{"prefix": b"p" * 12}, {"after": b"a" * 15}, {"limit": 0}], ids=repr)
def test_a_scan_that_no_node_asks_for_closes_its_link(change: dict[str, Any]) -> None:
    driven = three()
    with pytest.raises(ValueError, match="a scan that no node asks for"):
        driven.ask(Scan(5, driven.node.membership.fingerprint, b"p" * 11, b"", 9)._replace(**change))


def test_a_replica_read_that_met_a_write_that_failed_is_told_what_is_on_the_disk() -> None:
    driven = three()
    driven.ask(a_put())
    store = driven.sent(Store)[0][1]
    assert isinstance(store, Store)
    before = Read(8, store.ring, store.slot)
    driven.node.receive(LINK, a_put(2), 0.0, driven.out)
    driven.node.receive(LINK, before, 0.0, driven.out)
    assert not driven.out.replies
    assert driven.node.take_batch() is not None
    driven.node.commit_failed("no room", 0.0, driven.out)
    assert (LINK, ReadAnswer(8, STATUS_OK, store.record)) in driven.out.replies


def test_damage_is_reported_and_no_answer() -> None:
    driven = three()
    driven.ask(a_put())
    store = driven.sent(Store)[0][1]
    assert isinstance(store, Store)
    driven.engine.corrupt(store.slot)
    looks: list[Callable[[], list[Message]]] = [
        lambda: driven.ask(Read(8, store.ring, store.slot)),
        lambda: driven.ask(store),
    ]
    for look in looks:
        driven.out.events.clear()
        (answer,) = look()
        assert answer.status == 3  # type: ignore[union-attr]
        assert driven.out.events[0][0] == "error"


def test_a_copy_for_a_disk_that_rests_is_refused_without_a_word_in_the_log() -> None:
    driven = three()
    driven.ask(a_put())
    store = driven.sent(Store)[0][1]
    assert isinstance(store, Store)
    driven.node.receive(LINK, a_put(2), 0.0, driven.out)
    assert driven.node.take_batch() is not None
    driven.node.commit_failed("no room", 0.0, driven.out)
    driven.out = Outbox()
    other = driven.of_another_key(store)
    assert driven.ask(other) == [Stored(store.id, 3)]
    assert not driven.out.events


# ── overload ──


def slow(driven: Driven) -> Store:
    """Its disk takes a millisecond for a record, as far as anybody knows. A copy of some key."""
    driven.ask(a_put())
    ((_, store), *_) = driven.sent(Store)
    assert isinstance(store, Store)
    fill(driven, 200, like=store)
    assert driven.node.take_batch(0.0) is not None
    driven.node.committed(0.2, driven.out, 0.2)
    driven.out = Outbox()
    return store


def fill(driven: Driven, count: int, *, like: Store) -> None:
    """So many copies of keys of their own come from a peer."""
    for number in range(count):
        key = b"fill %d" % number
        (slot,) = driven.node.slots_read_by(a_get(key=key))
        driven.node.receive(LINK, like._replace(id=100 + number, key=key, slot=slot), 0.2, driven.out)


def test_copies_for_a_slow_disk_have_more_room_than_clients_and_repairs_have_not() -> None:
    driven = three()
    store = slow(driven)
    other = driven.of_another_key(store)
    fill(driven, 550, like=store)
    driven.out = Outbox()
    now = 0.2
    driven.node.receive(LINK, a_put(7, key=b"more"), now, driven.out)
    ((_, failed),) = driven.out.replies
    assert isinstance(failed, Failed)
    assert failed.code == "overloaded"
    driven.node.receive(LINK, other._replace(id=0), now, driven.out)  # refused without a word
    driven.node.receive(LINK, other._replace(id=8), now, driven.out)
    assert len(driven.out.replies) == 1
    fill(driven, int(550 * PEERS_ROOM), like=store)
    driven.out = Outbox()
    driven.node.receive(LINK, other._replace(id=9, key=KEY, slot=store.slot), now, driven.out)
    assert driven.out.replies == [(LINK, Stored(9, STATUS_OVERLOADED))]


def test_as_many_answers_wait_for_a_commit_and_no_more() -> None:
    driven = Driven(config=Config(batch_waiters_max=3))
    driven.learn("n2", "n3")
    driven.link("n2")
    driven.ask(a_put())
    store = driven.sent(Store)[0][1]
    assert isinstance(store, Store)
    other = driven.of_another_key(store)
    read = Read(7, other.ring, other.slot)
    for number in range(2):
        driven.node.receive(LINK, other._replace(id=number + 10), 0.0, driven.out)
        driven.node.receive(LINK, read._replace(id=number + 20), 0.0, driven.out)
    assert driven.out.replies == [(LINK, ReadAnswer(21, STATUS_OVERLOADED, b""))]
    driven.node.receive(LINK, other._replace(id=12), 0.0, driven.out)
    assert driven.out.replies[1:] == [(LINK, Stored(12, STATUS_OVERLOADED))]
    driven.commit()
    assert len(driven.out.replies) == 5


# ── many reads at once ──


def test_a_peer_is_answered_many_records_as_they_are_stored() -> None:
    driven = Driven()
    driven.ask(a_put())
    (slot,) = driven.node.slots_read_by(a_get())
    (other,) = driven.node.slots_read_by(a_get(key=b"other"))  # type: ignore[arg-type]
    ring = driven.node.membership.fingerprint
    (one,) = driven.ask(Read(1, ring, slot))
    assert isinstance(one, ReadAnswer)
    (many,) = driven.ask(ReadMany(2, ring, slot + other + slot))
    assert many == ReadManyAnswer(2, STATUS_OK, pack_row([one.record, b"", one.record]))
    driven.engine.corrupt(slot)
    (many,) = driven.ask(ReadMany(3, ring, other + slot))
    assert many == ReadManyAnswer(3, STATUS_OK, pack_row([b"", None]))
    assert driven.ask(ReadMany(4, ring + 1, slot)) == [ReadManyAnswer(4, STATUS_RING, b"")]


@pytest.mark.parametrize("slots", [b"", b"s" * 26, b"s" * 28, b"s" * 27 * 4097])
def test_slots_that_are_none_close_the_link(slots: bytes) -> None:
    driven = Driven()
    with pytest.raises(ValueError, match="slots of"):
        driven.ask(ReadMany(1, driven.node.membership.fingerprint, slots))


def test_what_a_peer_is_told_of_is_on_the_disk() -> None:
    driven = Driven()
    (slot,) = driven.node.slots_read_by(a_get())
    driven.node.receive(LINK, a_put(), driven.now, driven.out)
    ring = driven.node.membership.fingerprint
    driven.node.receive(LINK, ReadMany(2, ring, slot), driven.now, driven.out)
    assert [reply for _, reply in driven.out.replies] == [ReadManyAnswer(2, STATUS_OK, pack_row([None]))]


# ── buckets ──


def test_a_replica_refuses_what_was_planned_with_another_n() -> None:
    driven = Driven()
    driven.ask(create())
    ring = driven.node.membership.fingerprint
    (right,) = driven.node.slots_read_by(a_get()._replace(bucket="wide"))
    record = Record.EMPTY.pack()
    for n, status in ((5, STATUS_OK), (3, STATUS_RING), (0, STATUS_RING), (255, STATUS_RING)):
        slot = right[:2] + bytes([n]) + right[3:]
        (read,) = driven.ask(Read(1, ring, slot))
        (stored,) = driven.ask(Store(2, ring, slot, KEY, record))
        assert (read.status, stored.status) == (status, status)  # type: ignore[union-attr]
    (other,) = driven.node.slots_read_by(a_get())
    (read,) = driven.ask(Read(1, ring, other[:2] + b"\5" + other[3:]))
    assert read == ReadAnswer(1, STATUS_RING, b"")


def test_a_replica_refuses_many_and_pages_that_were_planned_with_another_n() -> None:
    driven = Driven()
    driven.ask(create())
    ring = driven.node.membership.fingerprint
    (wide,) = driven.node.slots_read_by(a_get()._replace(bucket="wide"))
    (other,) = driven.node.slots_read_by(a_get())
    wrong = wide[:2] + bytes([3]) + wide[3:]
    (answer,) = driven.ask(ReadMany(1, ring, wide + other))
    assert answer.status == STATUS_OK  # type: ignore[union-attr]
    assert driven.ask(ReadMany(1, ring, wide + wrong)) == [ReadManyAnswer(1, STATUS_RING, b"")]
    (page,) = driven.ask(Scan(1, ring, wide[:PREFIX_BYTES], b"", 10))
    assert page.status == STATUS_OK  # type: ignore[union-attr]
    assert driven.ask(Scan(1, ring, wrong[:PREFIX_BYTES], b"", 10)) == [ScanAnswer(1, STATUS_RING, b"", b"")]


# ── hints ──


def a_record(value: bytes = b"value") -> bytes:
    dot = Dot(actor(b"start 01", 0), 1)
    return Record.EMPTY.write(Context.EMPTY, dot, b"r" * 16, value).pack()


def five() -> Driven:
    """n1 of five, linked to all."""
    driven = Driven()
    driven.learn("n2", "n3", "n4", "n5")
    for name in ("n2", "n3", "n4", "n5"):
        driven.link(name)
    driven.out = Outbox()
    return driven


def elsewhere(driven: Driven) -> tuple[bytes, bytes, tuple[str, ...]]:
    """A key that n1 does not own, its slot, and who does."""
    ring = driven.node._planner.ring
    assert ring is not None
    for number in range(100):
        key = b"key %d" % number
        plan = ring.plan("bucket", key)
        if "n1" not in plan.owners:
            return key, plan.slot, plan.owners
    raise AssertionError("n1 owns everything")


def a_hint(driven: Driven, **fields: Any) -> StoreHint:
    key, slot, owners = elsewhere(driven)
    ring = driven.node.membership.fingerprint
    return StoreHint(1, ring, slot, key, a_record(), owners[0], 0, True)._replace(**fields)


def test_a_hint_is_kept_answered_once_it_is_on_the_disk_and_read_by_whoever_asks_for_its_key() -> None:
    driven = five()
    hint = a_hint(driven)
    driven.node.receive(LINK, hint, driven.now, driven.out)
    driven.node.receive(LINK, Read(2, hint.ring, hint.slot), driven.now, driven.out)
    assert driven.out.replies == []
    driven.commit()
    assert driven.out.replies == [
        (LINK, Stored(1, STATUS_OK, driven.engine.commit_number)),
        (LINK, ReadAnswer(2, STATUS_OK, hint.record)),
    ]
    driven.out.replies.clear()
    assert driven.ask(hint._replace(id=3)) == [Stored(3, STATUS_OK, driven.engine.commit_number)], (
        "it is here"
    )
    assert driven.node.hints.held() == {hint.target: 1}


def test_a_fallback_that_keeps_nothing_of_a_key_says_so() -> None:
    driven = five()
    _, slot, _ = elsewhere(driven)
    ring = driven.node.membership.fingerprint
    assert driven.ask(Read(1, ring, slot)) == [ReadAnswer(1, STATUS_OK, b"")]
    with pytest.raises(ValueError, match="a slot of partition"):
        driven.ask(Read(1, ring, b"\xff" + slot[1:]))


def test_a_hint_that_was_planned_with_another_ring_or_for_no_owner_is_not_kept() -> None:
    driven = five()
    hint = a_hint(driven)
    others = [name for name in ("n2", "n3", "n4", "n5") if name not in elsewhere(driven)[2]]
    assert driven.ask(hint._replace(ring=1)) == [Stored(1, STATUS_RING)]
    assert driven.ask(hint._replace(target=others[0])) == [Stored(1, STATUS_REFUSED)]
    assert driven.ask(hint._replace(key=b"another key")) == [Stored(1, STATUS_REFUSED)]
    assert driven.ask(hint._replace(record=b"nonsense")) == [Stored(1, STATUS_REFUSED)]
    assert driven.node.hints.held() == {}


def test_hints_that_no_node_sends_close_the_link() -> None:
    driven = five()
    for fields in ({"id": 0}, {"target": "n1"}, {"slot": b"short"}, {"key": b""}):
        with pytest.raises(ValueError, match=r"a hint that no node sends|a slot of|a key of"):
            driven.ask(a_hint(driven, **fields))
    (slot,) = driven.node.slots_read_by(a_get()) or (elsewhere(driven)[1],)
    with pytest.raises(ValueError, match="without asking"):
        driven.ask(HandOver(0, driven.node.membership.fingerprint, slot, KEY, a_record(), 0))
    with pytest.raises(ValueError, match="a slot of"):
        driven.ask(HandOver(1, driven.node.membership.fingerprint, b"short", KEY, a_record(), 0))


def test_a_hint_that_no_write_counts_on_is_refused_beyond_the_budget() -> None:
    driven = Driven(config=Config(hints_bytes_max=1))
    driven.learn("n2", "n3", "n4", "n5")
    assert driven.ask(a_hint(driven, needed=False)) == [Stored(1, STATUS_OVERLOADED)]
    assert driven.ask(a_hint(driven)) == [Stored(1, STATUS_OK, driven.engine.commit_number)]


def test_hints_that_nobody_waits_for_yield_to_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    driven = five()
    limit = Config().write_delay_max_s
    monkeypatch.setattr(driven.node._replica, "delay_s", lambda now: limit * 0.8)
    assert driven.ask(a_hint(driven, needed=False)) == [Stored(1, STATUS_OVERLOADED)]
    assert driven.ask(a_hint(driven)) == [Stored(1, STATUS_OK, driven.engine.commit_number)]


def test_what_is_handed_over_is_merged_and_answered_once_it_is_on_the_disk() -> None:
    driven = three()
    (slot,) = driven.node.slots_read_by(a_get())
    ring = driven.node.membership.fingerprint
    handed = HandOver(1, ring, slot, KEY, a_record(), 0)
    driven.node.receive(LINK, handed, driven.now, driven.out)
    assert driven.out.replies == []
    driven.commit()
    assert driven.out.replies == [(LINK, Stored(1, STATUS_OK, driven.engine.commit_number))]
    driven.out.replies.clear()
    assert driven.ask(Read(2, ring, slot)) == [ReadAnswer(2, STATUS_OK, handed.record)]
    assert driven.ask(handed._replace(id=3)) == [Stored(3, STATUS_OK, driven.engine.commit_number)], (
        "it is handed over twice"
    )
    assert list(driven.node.slots_read_by(handed)) == [slot]


def test_what_was_kept_since_before_the_last_reaping_does_not_come_back() -> None:
    driven = three()
    (slot,) = driven.node.slots_read_by(a_get())
    ring = driven.node.membership.fingerprint
    driven.node.generations.rise(slot[:3], 2)
    driven.commit()
    assert driven.ask(HandOver(1, ring, slot, KEY, a_record(), 1)) == [Stored(1, STATUS_REAPED)]
    assert driven.ask(Read(2, ring, slot)) == [ReadAnswer(2, STATUS_OK, b"")]
    assert driven.ask(HandOver(3, ring, slot, KEY, a_record(), 2)) == [
        Stored(3, STATUS_OK, driven.engine.commit_number)
    ]


# ── copies that are not complete again yet ──


def test_a_weak_copy_is_told_to_be_one() -> None:
    driven = three()
    driven.ask(a_put())
    (slot,) = driven.node.slots_read_by(a_get())
    ring = driven.node.membership.fingerprint
    (sound,) = driven.ask(Read(1, ring, slot))
    assert isinstance(sound, ReadAnswer)
    assert sound.status == STATUS_OK
    driven.node._recovery.lose()
    assert driven.ask(Read(1, ring, slot)) == [sound._replace(status=STATUS_WEAK)]
    assert driven.ask(ReadMany(2, ring, slot)) == [ReadManyAnswer(2, STATUS_OK, pack_row([None]))]
    (page,) = driven.ask(Scan(3, ring, slot[:11], b"", 10))
    assert isinstance(page, ScanAnswer)
    assert page.status == STATUS_WEAK
    assert len(unpack_entries(page.entries, after=b"", end=page.end)) == 1
    driven.node.receive(LINK, a_put(9), driven.now, driven.out)
    (waited,) = [answer for answer in driven.ask(Read(4, ring, slot)) if isinstance(answer, ReadAnswer)]
    assert waited.status == STATUS_WEAK


def test_a_stored_copy_says_with_which_commit() -> None:
    driven = three()
    driven.ask(a_put())
    store = driven.sent(Store)[0][1]
    assert isinstance(store, Store)
    before = driven.engine.commit_number
    assert driven.ask(driven.of_another_key(store)) == [Stored(store.id, STATUS_OK, before + 1)]
    assert driven.ask(store) == [Stored(store.id, STATUS_OK, before + 1)]  # it was there already
    assert driven.ask(store._replace(ring=1)) == [Stored(store.id, STATUS_RING, 0)]


# ── recalls ──


def a_recall(store: Store, put: Put, id: int = 9) -> Recall:
    return Recall(id, store.ring, store.slot, put.request)


def a_store(driven: Driven) -> Store:
    store = driven.sent(Store)[0][1]
    assert isinstance(store, Store)
    return store


def test_a_write_is_recalled_once_it_is_on_the_disk() -> None:
    driven = three()
    put = a_put()
    driven.node.receive(LINK, put, 0.0, driven.out)
    store = a_store(driven)
    driven.node.receive(LINK, a_recall(store, put), 0.0, driven.out)
    assert driven.out.replies == []
    batch = driven.node.take_batch(0.0)
    assert batch is not None
    driven.engine.write_batch(batch.writes, batch.meta)
    driven.node.committed(0.0, driven.out)
    ((_, answer),) = driven.out.replies
    driven.out.replies.clear()
    assert isinstance(answer, Recalled)
    assert (answer.id, answer.status, answer.record) == (9, STATUS_OK, store.record)
    (sibling,) = Record.unpack(store.record).siblings
    assert (answer.actor, answer.counter) == sibling.dot
    assert driven.ask(a_recall(store, put)) == [answer]


def test_a_recalled_write_that_never_got_to_the_disk_was_never_there() -> None:
    driven = three()
    put = a_put()
    driven.node.receive(LINK, put, 0.0, driven.out)
    recall = a_recall(a_store(driven), put)
    driven.node.receive(LINK, recall, 0.0, driven.out)
    assert driven.node.take_batch() is not None
    driven.node.commit_failed("no room", 0.0, driven.out)
    assert (LINK, Recalled(9, STATUS_OK, b"", 0, b"")) in driven.out.replies


def test_a_recall_under_another_ring_or_by_another_n_is_not_answered_with_a_guess() -> None:
    driven = three()
    put = a_put()
    driven.ask(put)
    recall = a_recall(a_store(driven), put)
    other_ring = Recalled(9, STATUS_RING, b"", 0, b"")
    assert driven.ask(recall._replace(ring=recall.ring ^ 1)) == [other_ring]
    assert driven.ask(recall._replace(slot=recall.slot[:2] + b"\x05" + recall.slot[3:])) == [other_ring]


def test_what_no_node_recalls_does_not_come_in() -> None:
    driven = three()
    put = a_put()
    driven.ask(put)
    recall = a_recall(a_store(driven), put)
    for forged in (recall._replace(slot=b"short"), recall._replace(request=b"short")):
        with pytest.raises(ValueError, match="bytes"):
            driven.ask(forged)


def test_a_recall_of_a_damaged_record_is_no_answer() -> None:
    driven = three()
    put = a_put()
    driven.ask(put)
    recall = a_recall(a_store(driven), put)
    driven.engine.corrupt(recall.slot)
    (answer,) = driven.ask(recall)
    assert answer == Recalled(9, STATUS_STORAGE, b"", 0, b"")
    assert driven.out.events[-1][0] == "error"


def test_recalls_that_wait_for_a_commit_are_bounded() -> None:
    driven = Driven(config=Config(batch_waiters_max=3))
    driven.learn("n2", "n3")
    driven.link("n2")
    driven.link("n3")
    put = a_put()
    driven.node.receive(LINK, put, 0.0, driven.out)
    recall = a_recall(a_store(driven), put)
    for number in range(6):
        driven.node.receive(LINK, recall._replace(id=number), 0.0, driven.out)
    refused = [answer for _, answer in driven.out.replies if isinstance(answer, Recalled)]
    assert [answer.status for answer in refused] == [STATUS_OVERLOADED] * 4


def test_a_fallback_recalls_what_it_keeps_for_others_once_that_is_on_its_disk() -> None:
    driven = five()
    hint = a_hint(driven)
    (sibling,) = Record.unpack(hint.record).siblings
    recall = Recall(2, hint.ring, hint.slot, sibling.request)
    driven.node.receive(LINK, recall._replace(id=1), driven.now, driven.out)
    driven.node.receive(LINK, hint, driven.now, driven.out)
    driven.node.receive(LINK, recall, driven.now, driven.out)
    unknown = Recalled(1, STATUS_OK, b"", 0, b"")
    assert driven.out.replies == [(LINK, unknown)]
    driven.commit()
    known = Recalled(2, STATUS_OK, *sibling.dot, hint.record)
    assert driven.out.replies[-1] == (LINK, known)
