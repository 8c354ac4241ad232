"""What was set aside comes back: into the copy that is here, or to an owner elsewhere; once."""

from __future__ import annotations

import pytest

from dyno.protocol.group_commit import Refusal
from dyno.protocol.merging import AGAIN_S, ANSWER_TIMEOUT_S, PAGE_RECORDS, WAITING_MAX
from dyno.protocol.rows import ASIDE, rows_of
from dyno.storage.cell import pack_cell
from dyno.wire.messages import STATUS_OK, STATUS_OVERLOADED, Compared, Store, Stored
from tests.protocol.member_harness import Member
from tests.protocol.test_quarantine import a_value

RUN = b"r" * 16


class Merger(Member):
    """n1, whose rows are put on the disk by hand."""

    @property
    def merging(self):  # type: ignore[no-untyped-def]
        return next(part for part in self.node._background if part.number == 10)

    def aside(self, *slots: tuple[bytes, bytes], value: bytes = b"old", more: bytes = b"") -> None:
        rows = {ASIDE + slot + more: pack_cell(key, b"", a_value(value).pack()) for key, slot in slots}
        self.engine.write_batch(rows, {})

    def begin(self, run: bytes = RUN) -> None:
        self.merging.begin(run, self.now, self.out)
        self.wait(0.1)

    def rows(self) -> list[bytes]:
        start, end = rows_of(ASIDE)
        return [key for key, _ in self.engine.scan(start, end, limit=1000)[0]]

    def stores(self) -> list[tuple[str, Store]]:
        return [
            (address[:2], message)
            for address, message in self.sent(Store)
            if isinstance(message, Store) and message.id >> 56 == 10
        ]

    @property
    def merged(self) -> int:
        return self.node._replica.mended.merged


def test_a_record_is_merged_into_the_copy_that_is_here() -> None:
    one = Merger()
    key, slot = one.key()
    one.aside((key, slot))
    one.begin()
    assert one.on_disk(slot) == a_value()
    assert (one.rows(), one.merged) == ([], 1)
    assert not one.merging.is_under_way(RUN)
    assert one.merging.deadline() == float("inf")


def test_both_of_two_that_were_set_aside_come_back() -> None:
    one = Merger()
    key, slot = one.key()
    one.aside((key, slot))
    record = a_value(b"other", 2)
    one.engine.write_batch({ASIDE + slot + b"d" * 8: pack_cell(key, b"", record.pack())}, {})
    one.begin()
    assert one.on_disk(slot) == a_value().merge(record)
    assert one.rows() == []


def test_there_may_be_many_pages() -> None:
    one = Merger()
    key, slot = one.key()
    for number in range(PAGE_RECORDS + 5):
        one.aside((key, slot), more=b"%08d" % number)
    one.merging.begin(RUN, one.now, one.out)
    one.tick()
    assert one.merging.is_under_way(RUN)
    one.wait(0.1)
    assert (one.rows(), one.merged) == ([], PAGE_RECORDS + 5)


def test_what_is_kept_for_others_is_sent_to_an_owner() -> None:
    one = Merger(others=5)
    key, slot = one.key(owns=False)
    one.aside((key, slot))
    one.begin()
    ((name, store),) = one.stores()
    assert name in one.ring.owners(slot)
    assert (store.slot, store.key, store.record) == (slot, key, a_value().pack())
    assert len(one.rows()) == 1
    assert one.merging.is_under_way(RUN)
    one.merging.answer("n9", Stored(store.id, STATUS_OK), one.now, one.out)
    assert one.merging.is_under_way(RUN)
    for _ in range(2):
        one.answers(name, Stored(store.id, STATUS_OK))
    one.wait(0.1)
    assert (one.rows(), one.merged) == ([], 1)
    assert not one.merging.is_under_way(RUN)


def test_what_an_owner_does_not_take_stays() -> None:
    one = Merger(others=5)
    key, slot = one.key(owns=False)
    one.aside((key, slot))
    for ending in (
        lambda name, id: one.answers(name, Stored(id, STATUS_OVERLOADED)),
        lambda name, id: one.node.link_down(f"{name}:1", one.now, one.out),
        lambda name, id: one.wait(ANSWER_TIMEOUT_S + 1),
    ):
        one.begin()
        ((name, store),) = one.stores()
        ending(name, store.id)
        one.wait(0.1)
        assert not one.merging.is_under_way(RUN)
        assert len(one.rows()) == 1
    assert one.merged == 0


def test_a_row_that_changed_meanwhile_stays() -> None:
    one = Merger(others=5)
    key, slot = one.key(owns=False)
    one.aside((key, slot))
    one.begin()
    ((name, store),) = one.stores()
    one.aside((key, slot), value=b"another")
    one.answers(name, Stored(store.id, STATUS_OK))
    assert len(one.rows()) == 1
    assert one.merged == 0


def test_with_no_owner_to_be_asked_it_stays() -> None:
    one = Merger(others=5)
    key, slot = one.key(owns=False)
    one.aside((key, slot))
    for name in one.others:
        one.node.link_down(f"{name}:1", one.now, one.out)
    one.begin()
    assert len(one.rows()) == 1
    assert not one.merging.is_under_way(RUN)


def test_what_contradicts_the_copy_or_is_damaged_stays() -> None:
    one = Merger()
    key, slot = one.key()
    (stored,) = one.ask(Store(1, one.ring.fingerprint, slot, key, a_value(b"new").pack()))
    assert isinstance(stored, Stored)
    one.aside((key, slot))
    _, other = one.key(but=slot[:3])
    one.engine.write_batch({ASIDE + other: pack_cell(key, b"", b"x"), ASIDE + slot[:3]: b""}, {})
    one.begin()
    assert len(one.rows()) == 3
    assert not one.merging.is_under_way(RUN)
    assert any("stays so" in text for _, text in one.out.events)


def test_it_waits_while_copies_are_closed() -> None:
    one = Merger()
    key, slot = one.key()
    one.aside((key, slot))
    one.node._replica.closed[slot[:3]] = None
    one.begin()
    assert one.merging.is_under_way(RUN)
    del one.node._replica.closed[slot[:3]]
    one.wait(AGAIN_S + 0.1)
    assert one.rows() == []


def test_it_waits_while_the_disk_rests() -> None:
    one = Merger()
    key, slot = one.key()
    one.aside((key, slot))
    one.node._replica._rests_until = one.now + 2 * AGAIN_S
    one.begin()
    assert one.merging.is_under_way(RUN)
    assert not [event for event in one.out.events if event[0] == "error"]
    one.wait(4 * AGAIN_S)
    assert (one.rows(), one.merged) == ([], 1)


def test_a_full_batch_makes_it_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Merger()
    key, slot = one.key()
    one.aside((key, slot))
    replica = one.node._replica

    def refuse(*_: object) -> None:
        raise Refusal(STATUS_OVERLOADED, "full")

    with monkeypatch.context() as patch:
        patch.setattr(replica, "merge", refuse)
        one.begin()
        assert one.merging.is_under_way(RUN)
    one.wait(AGAIN_S + 0.1)
    assert one.rows() == []


def test_clients_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Merger()
    one.aside(one.key())
    with monkeypatch.context() as patch:
        patch.setattr(one.node._replica, "delay_s", lambda now: 99.0)
        one.begin()
        assert len(one.rows()) == 1
    one.wait(AGAIN_S + 0.1)
    assert one.rows() == []


def test_a_row_that_cannot_be_dropped_is_sent_once_more_by_the_next_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = Merger(others=5)
    one.aside(one.key(owns=False))
    one.begin()
    ((name, store),) = one.stores()

    def refuse(*_: object) -> None:
        raise Refusal(STATUS_OVERLOADED, "full")

    with monkeypatch.context() as patch:
        patch.setattr(one.node._replica, "write_row", refuse)
        one.answers(name, Stored(store.id, STATUS_OK))
    one.wait(AGAIN_S + 0.1)
    assert len(one.rows()) == 1
    assert not one.merging.is_under_way(RUN)
    one.begin()
    ((name, store),) = one.stores()
    one.answers(name, Stored(store.id, STATUS_OK))
    assert one.rows() == []


def test_a_commit_that_fails_leaves_it_set_aside() -> None:
    one = Merger()
    one.aside(one.key())
    one.merging.begin(RUN, one.now, one.out)
    one.merging.tick(one.now, one.out)
    assert one.merging.is_under_way(RUN), "it is not on the disk yet"
    assert one.node.take_batch() is not None
    one.node.commit_failed("no room", one.now, one.out)
    assert not one.merging.is_under_way(RUN)
    assert (len(one.rows()), one.merged) == (1, 0)
    one.wait(5.0)  # until it may be tried again
    one.begin()
    assert (one.rows(), one.merged) == ([], 1)


def test_a_row_that_is_changing_stays() -> None:
    one = Merger()
    key, slot = one.key()
    one.aside((key, slot))
    one.node._replica.write_row(ASIDE + slot, pack_cell(key, b"", a_value(b"more").pack()))
    one.merging.begin(RUN, one.now, one.out)
    one.merging.tick(one.now, one.out)
    one.commit()
    assert len(one.rows()) == 1
    one.begin()
    assert one.rows() == []


def test_all_runs_wait_for_the_same_walk_and_have_a_bound() -> None:
    one = Merger()
    for number in range(WAITING_MAX + 1):
        one.merging.begin(b"%016d" % number, one.now, one.out)
    assert not one.merging.is_under_way(b"%016d" % 0)
    assert one.merging.is_under_way(b"%016d" % 1)
    one.wait(0.1)
    assert not one.merging.is_under_way(b"%016d" % WAITING_MAX)


def test_links_rings_and_other_answers_do_not_concern_it() -> None:
    one = Merger()
    one.merging.link_up("n2", one.now, one.out)
    one.merging.replan(one.now, one.out)
    assert one.merging.doors() == {}
    with pytest.raises(ValueError, match="no answer"):
        one.merging.answer("n2", Compared(1, 0, False, b"", b"", 0), one.now, one.out)
