"""Handing hints over: in order, bounded, throttled, to whoever can be asked, and never twice for nothing."""

from __future__ import annotations

import math

import pytest

from dyno.placement.hashing import Keyspace, bucket_id
from dyno.protocol.background import ID_BITS, part_of
from dyno.protocol.group_commit import Batch
from dyno.protocol.handoff import Handoff
from dyno.protocol.peers import Peers
from dyno.protocol.rows import ASIDE
from dyno.wire.messages import (
    STATUS_OK,
    STATUS_OVERLOADED,
    STATUS_REAPED,
    STATUS_REFUSED,
    STATUS_RING,
    STATUS_STORAGE,
    HandOver,
    HintsHeld,
    Stored,
)
from tests.protocol.hints_harness import KEY, Kept, a_record, a_slot

ONE, OTHER = a_record(b"one", by=1), a_record(b"other", by=2)
RING = 7


class _Ring:
    fingerprint = RING


class _Planner:
    """As far as it is asked."""

    ring = _Ring()


class Handing:
    """Node a, which keeps hints for b and c."""

    def __init__(self, kept: Kept | None = None, **config: float) -> None:
        self.kept = kept or Kept(**config)
        self.peers = Peers()
        self.peers.place({"b": "b", "c": "c"})
        self.handoff = Handoff(
            config=self.kept.config,
            hints=self.kept.hints,
            replica=self.kept.replica,
            peers=self.peers,
            planner=_Planner(),  # type: ignore[arg-type]
        )

    def keep(self, target: str, number: int, record: bytes = ONE) -> Batch | None:
        batch = self.kept.keep(target, number, record)
        self.handoff.kept(target, batch)
        return batch

    def fill(self, count: int, *, target: str = "b", size: int = 0) -> None:
        for number in range(count):
            self.kept.keep(target, number, a_record(b"x" * size) if size else ONE)
        self.kept.commit()

    def link(self, name: str = "b") -> None:
        self.peers.up(name, name)
        self.handoff.link_up(name, self.kept.now, self.kept.out)

    def cut(self, name: str = "b") -> None:
        self.peers.down(name)
        self.handoff.link_down(name, self.kept.now, self.kept.out)

    def sent(self) -> list[HandOver]:
        """Since the last look."""
        sent = [message for _, message in self.kept.out.sends]
        self.kept.out.sends.clear()
        assert all(isinstance(message, HandOver) for message in sent)
        return sent  # type: ignore[return-value]

    def answer(self, message: HandOver, status: int = STATUS_OK, *, node: str = "b") -> None:
        self.handoff.answer(node, Stored(message.id, status), self.kept.now, self.kept.out)

    def take(self) -> int:
        """The target stores whatever it is sent; how many that were."""
        count = 0
        while sent := self.sent():
            count += len(sent)
            for message in sent:
                self.answer(message)
        return count

    def wait(self, until: float) -> None:
        while (deadline := self.handoff.deadline()) <= until:
            self.kept.now = max(self.kept.now, deadline)
            self.handoff.tick(self.kept.now, self.kept.out)
            assert self.handoff.deadline() > deadline or self.handoff.deadline() == math.inf
        self.kept.now = until

    @property
    def idle(self) -> bool:
        return self.handoff.deadline() == math.inf


def numbers(sent: list[HandOver]) -> list[int]:
    return [int.from_bytes(message.slot[-16:], "big") for message in sent]


def test_a_hint_is_handed_over_when_the_link_is_up_and_deleted_when_the_target_has_it() -> None:
    handing = Handing()
    handing.fill(1)
    assert handing.sent() == []
    handing.link()
    (message,) = handing.sent()
    assert message == HandOver(message.id, RING, a_slot(0), KEY, ONE, 0)
    assert part_of(message.id) == handing.handoff.number == message.id >> ID_BITS
    assert handing.kept.hints.held() == {"b": 1}
    handing.answer(message)
    handing.kept.commit()
    assert (handing.kept.hints.held(), handing.kept.rows()) == ({}, [])
    assert handing.idle


def test_nothing_waits_where_nothing_is_kept() -> None:
    handing = Handing()
    handing.link()
    assert handing.idle
    assert handing.sent() == []
    assert handing.handoff.doors() == {}
    handing.handoff.replan(0.0, handing.kept.out)
    handing.handoff.tick(0.0, handing.kept.out)
    assert handing.idle


def test_only_the_hints_of_whom_can_be_asked_go_and_in_the_order_of_their_keys() -> None:
    handing = Handing()
    for number in (3, 1, 2):
        handing.kept.keep("b", number, ONE)
    handing.kept.keep("c", 9, OTHER)
    handing.kept.commit()
    handing.link("b")
    assert numbers(handing.sent()) == [1, 2, 3]
    handing.link("c")
    assert numbers(handing.sent()) == [9]


def test_a_new_hint_for_one_that_can_be_asked_goes_as_soon_as_it_is_on_the_disk() -> None:
    handing = Handing()
    handing.link()
    handing.keep("b", 1)
    assert handing.sent() == []
    handing.kept.commit()
    assert numbers(handing.sent()) == [1]


def test_what_never_came_to_the_disk_is_not_handed_over() -> None:
    handing = Handing()
    handing.link()
    handing.keep("b", 1)
    handing.handoff.kept("b", None)  # all of it was there
    handing.kept.commit_fails()
    assert handing.sent() == []


def test_what_is_kept_while_others_are_handed_over_is_handed_over_after_them() -> None:
    handing = Handing()
    handing.fill(2)
    handing.link()
    first = handing.sent()
    handing.keep("b", 9)
    handing.kept.commit()
    assert handing.sent() == []
    for message in first:
        handing.answer(message)
    assert numbers(handing.sent()) == [9], "and not once more what is about to be deleted"


def test_a_hint_that_changes_while_it_is_sent_stays_and_is_sent_again() -> None:
    handing = Handing()
    handing.fill(1)
    handing.link()
    (message,) = handing.sent()
    handing.keep("b", 0, OTHER)
    handing.answer(message)
    assert handing.kept.hints.held() == {"b": 1}
    handing.kept.commit()
    (again,) = handing.sent()
    assert again.record != message.record
    handing.answer(again)
    assert handing.kept.hints.held() == {}


def test_an_answer_that_is_doubled_late_or_somebody_elses_means_nothing() -> None:
    handing = Handing()
    handing.fill(1)
    handing.link()
    (message,) = handing.sent()
    handing.answer(message, node="c")
    assert handing.kept.hints.held() == {"b": 1}
    handing.answer(message)
    handing.answer(message)
    handing.answer(message, STATUS_REAPED)
    assert handing.kept.hints.held() == {}
    assert handing.kept.out.events == []


# ── bounds ──


def test_a_bounded_number_is_under_way_and_every_answer_makes_room() -> None:
    handing = Handing()
    handing.fill(150)
    handing.link()
    first = handing.sent()
    assert len(first) == 64
    assert handing.idle, "answers move it on"
    handing.answer(first[0])
    (next_one,) = handing.sent()
    assert numbers([next_one]) == [64]
    for message in [*first[1:], next_one]:
        handing.answer(message)
    assert handing.take() == 150 - 64 - 1
    handing.kept.commit()
    assert (handing.kept.hints.held(), handing.kept.rows()) == ({}, [])


def test_few_large_ones_are_under_way() -> None:
    handing = Handing(handoff_rate_bytes_max=1 << 40)
    handing.fill(6, size=400_000)
    handing.link()
    assert len(handing.sent()) == 3


def test_no_more_is_sent_than_the_rate_allows() -> None:
    handing = Handing(handoff_rate_bytes_max=100_000)
    handing.fill(40, size=10_000)
    handing.link()
    sent = handing.sent()
    assert len(sent) <= 2
    for message in sent:
        handing.answer(message)
    began, count = handing.kept.now, len(sent)
    while handing.kept.hints.held():
        handing.wait(handing.kept.now + 0.01)
        count += handing.take()
    assert count == 40
    assert 3.5 < handing.kept.now - began < 4.5


def test_it_waits_while_clients_writes_wait_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    handing = Handing()
    handing.fill(1)
    busy = True
    monkeypatch.setattr(handing.kept.replica, "delay_s", lambda now: 0.2 if busy else 0.0)
    handing.link()
    handing.wait(1.0)
    assert handing.sent() == []
    busy = False
    handing.wait(1.2)
    assert len(handing.sent()) == 1


# ── refusals ──


@pytest.mark.parametrize("status", [STATUS_OVERLOADED, STATUS_STORAGE, STATUS_RING])
def test_after_a_refusal_it_pauses_and_comes_again(status: int) -> None:
    handing = Handing(handoff_retry_s=1.0)
    handing.fill(1)
    handing.link()
    (message,) = handing.sent()
    handing.answer(message, status)
    assert handing.handoff.deadline() == 1.0
    handing.wait(0.9)
    assert handing.sent() == []
    handing.wait(1.0)
    (again,) = handing.sent()
    assert again == message._replace(id=again.id)
    handing.answer(again)
    assert handing.kept.hints.held() == {}


def test_one_that_is_always_refused_does_not_hold_up_the_others() -> None:
    handing = Handing()
    handing.fill(200)
    handing.link()
    for second in range(20):
        while sent := handing.sent():
            for message in sent:
                refused = numbers([message])[0] % 64 == 0
                handing.answer(message, STATUS_STORAGE if refused else STATUS_OK)
        handing.wait(second + 1.0)
    assert handing.kept.hints.held() == {"b": 4}
    assert handing.take() == 4, "they are tried again and again"


@pytest.mark.parametrize("status", [STATUS_REAPED, STATUS_REFUSED])
def test_what_the_target_will_never_take_is_set_aside_and_told(status: int) -> None:
    handing = Handing()
    handing.fill(2)
    handing.link()
    never, other = handing.sent()
    handing.answer(never, status)
    handing.answer(other)
    handing.kept.commit()
    assert handing.kept.hints.held() == {}
    assert handing.kept.engine.get(ASIDE + never.slot) is not None
    ((level, text),) = handing.kept.out.events
    assert level == "error"
    assert "b does not take a hint for key b'key'" in text
    assert handing.idle


def test_a_damaged_hint_is_dropped_and_told_and_the_others_go() -> None:
    handing = Handing()
    handing.fill(2)
    handing.kept.engine.corrupt(handing.kept.rows()[0])
    handing.link()
    assert numbers(handing.sent()) == [1]
    handing.kept.commit()
    assert handing.kept.hints.held() == {"b": 1}
    assert "damaged" in handing.kept.out.events[0][1]


# ── links and disks ──


def test_a_walk_whose_link_breaks_begins_anew_with_what_is_left() -> None:
    handing = Handing()
    handing.fill(100)
    handing.link()
    sent = handing.sent()
    for message in sent[:10]:
        handing.answer(message)
    handing.kept.commit()
    handing.sent()
    handing.cut()
    handing.answer(sent[20])  # too late: the link is another one
    assert handing.idle
    handing.link()
    assert handing.take() == 90
    assert handing.kept.hints.held() == {}


def test_another_process_goes_on_where_this_one_ended() -> None:
    handing = Handing()
    handing.fill(100)
    handing.link()
    for message in handing.sent()[:30]:
        handing.answer(message)
    handing.kept.commit()
    again = Handing(handing.kept.restarted())
    again.link()
    assert again.take() == 70


def test_a_deletion_that_fails_leaves_a_hint_that_is_handed_over_again() -> None:
    handing = Handing(handoff_retry_s=1.0)
    handing.fill(1)
    handing.link()
    handing.answer(handing.sent()[0])
    assert handing.idle
    handing.kept.commit_fails()
    assert handing.kept.hints.held() == {"b": 1}
    handing.wait(5.0)
    assert handing.take() == 1
    handing.kept.commit()
    assert handing.kept.rows() == []


@pytest.mark.parametrize("sent_before", [True, False])
def test_a_change_that_fails_leaves_what_was_there_to_be_handed_over(sent_before: bool) -> None:
    handing = Handing()
    handing.fill(1)
    if sent_before:  # then the hint is not deleted, for it is changing; else it is not even sent
        handing.link()
        (message,) = handing.sent()
        handing.keep("b", 0, OTHER)
        handing.answer(message)
    else:
        handing.keep("b", 0, OTHER)
        handing.link()
    assert handing.sent() == []
    handing.kept.commit_fails()
    handing.wait(handing.kept.now + 2.0)
    (again,) = handing.sent()
    assert again.record == ONE
    handing.answer(again)
    handing.kept.commit()
    assert (handing.kept.hints.held(), handing.idle) == ({}, True)


def test_a_deletion_that_fails_for_one_that_is_away_waits_for_its_link() -> None:
    handing = Handing()
    handing.fill(1)
    handing.link()
    handing.answer(handing.sent()[0])
    handing.cut()
    handing.kept.commit_fails()
    assert handing.idle
    handing.link()
    assert handing.take() == 1


def test_while_this_disk_takes_nothing_hints_stay_and_it_pauses() -> None:
    handing = Handing(handoff_retry_s=0.5)
    handing.fill(3)
    handing.kept.engine.corrupt(handing.kept.rows()[1])
    handing.link()
    first, second = handing.sent()
    handing.kept.commit()  # the damaged one is gone
    handing.keep("c", 1)
    assert handing.kept.replica.take_batch() is not None
    handing.kept.replica.commit_failed(b"start 02", handing.kept.now, handing.kept.out)
    handing.answer(first)
    assert handing.kept.hints.held() == {"b": 2}
    handing.answer(second, STATUS_REAPED)
    assert handing.kept.hints.held() == {"b": 2}
    assert handing.handoff.deadline() == handing.kept.now + 0.5


def test_a_damaged_hint_stays_while_this_disk_takes_nothing() -> None:
    handing = Handing()
    handing.fill(1)
    handing.kept.engine.corrupt(handing.kept.rows()[0])
    handing.keep("c", 1)
    assert handing.kept.replica.take_batch() is not None
    handing.kept.replica.commit_failed(b"start 02", handing.kept.now, handing.kept.out)
    handing.link()
    assert handing.kept.hints.held() == {"b": 1}
    assert handing.kept.out.events == []
    handing.kept.replica.tick(2.0)
    handing.kept.commit()
    handing.wait(2.0)
    handing.kept.commit()
    assert handing.kept.hints.held() == {}


def test_slots_of_the_harness_are_as_real_ones() -> None:
    real = Keyspace(b"c" * 16, 16).slot(bucket_id("bucket"), KEY, 3)
    assert len(a_slot(1)) == len(real)


def test_what_is_no_answer_to_a_hint_does_not_come_in() -> None:
    handing = Handing()
    handing.fill(1)
    handing.link()
    (message,) = handing.sent()
    with pytest.raises(ValueError, match="no answer to a hint"):
        handing.handoff.answer(
            "b",
            HintsHeld(message.id, b""),  # type: ignore[arg-type]
            handing.kept.now,
            handing.kept.out,
        )
    handing.answer(message)
    assert handing.kept.hints.held() == {}
