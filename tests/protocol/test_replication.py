"""How copies are spread, and the answers to them counted; with several nodes, see stories/."""

from __future__ import annotations

import math

import pytest

from dyno.causality import token
from dyno.causality.context import Context
from dyno.causality.dots import Dot
from dyno.protocol import replication
from dyno.wire.messages import (
    ALL,
    STATUS_OK,
    STATUS_OVERLOADED,
    STATUS_RING,
    Done,
    Store,
    Stored,
    StoreHint,
)
from tests.protocol.coordinator_harness import (
    At,
    a_delete,
    a_put,
    not_owned,
)

# ── deadlines ──


def test_a_write_is_given_up_in_the_end() -> None:
    at = At(put_timeout_s=3.0)
    at.ask(a_put())
    at.commit()
    assert at.coordinator.deadline() == 0.2  # to look after those who are silent
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


def test_writes_expire_in_the_order_in_which_they_began() -> None:
    at = At(put_timeout_s=3.0)
    for number in range(3):
        at.now = number * 0.5
        at.ask(a_put(number))
    at.tick(3.4)
    assert [answer.id for answer in at.answers()] == [0]  # type: ignore[union-attr]
    at.tick(4.0)
    assert [answer.id for answer in at.answers()] == [1, 2]  # type: ignore[union-attr]
    assert at.coordinator.writes.deadline() == math.inf


# ── links ──


def test_a_write_that_this_disk_never_got_counts_by_the_others() -> None:
    at = At()
    at.ask(a_put())
    (_, store), _ = at.sent(Store)
    assert isinstance(store, Store)
    at.commit_fails()
    assert at.answers() == []
    for name in "bc":
        at.hear(name, Stored(store.id, STATUS_OK))
    (done,) = at.answers()
    assert isinstance(done, Done)
    assert done.answered == "b,c"


def test_a_write_that_a_replica_with_another_ring_refused_is_sent_again_after_a_moment() -> None:
    at = At()
    at.ask(a_put())
    (_, store), _ = at.sent(Store)
    assert isinstance(store, Store)
    at.hear("b", Stored(store.id, STATUS_RING))
    at.tick(0.05)
    assert at.sent(Store) == [("b", store)]


# ── others that do not keep up ──


def write_many(at: At, count: int) -> list[Store]:
    """The copies that go to b and c."""
    for number in range(count):
        at.ask(a_put(number, key=b"key %d" % number))
    return [store for name, store in at.sent(Store) if name == "b" and isinstance(store, Store)]


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


def silent(at: At) -> None:
    """Both others owe so many answers, and have given none for so long, that they are not waited for."""
    write_many(at, 65)
    at.now = 1.6
    at.ask(a_put(1000))
    assert at.failure().code == "overloaded"
    assert at.coordinator.writes.under_way == 65


def test_a_peer_owes_nothing_on_a_new_link() -> None:
    at = At()
    silent(at)
    at.link("b")  # nobody has noticed that the old one broke
    at.ask(a_put(1001))
    assert at.answers() == []
    assert at.coordinator.writes.under_way == 66


def test_a_peer_that_leaves_the_ring_is_forgotten() -> None:
    at = At()
    silent(at)
    at.turn("ab")
    at.turn("abc")
    at.ask(a_put(1001))
    assert at.answers() == []
    assert at.coordinator.writes.under_way == 66


def test_nobody_asks_whether_peers_keep_up_with_a_few_writes() -> None:
    at = At()
    write_many(at, 10)
    at.now = 1.6
    at.ask(a_put(1000))
    assert at.answers() == []
    assert at.coordinator.writes.under_way == 11


def test_fallbacks_have_room_where_owners_have_none() -> None:
    at = At("d", "abcde")
    at.members.dead = ["b", "e"]
    for number in range(70):
        at.ask(a_put(number))
    at.now = 2.0  # nobody was heard of for long
    at.ask(a_put(99))
    assert at.answers() == []
    at.members.dead = []
    at.ask(a_put(100, pw=2))
    assert at.failure().message.endswith("fewer than 2 owners of the key keep up with writes")


def test_what_a_fallback_refuses_says_nothing_of_its_room_for_copies() -> None:
    at = At("d", "abcde")
    at.members.dead = ["e"]
    at.ask(a_put())
    ((fallback, hint),) = at.sent(StoreHint)
    assert isinstance(hint, StoreHint)
    at.hear(fallback, Stored(hint.id, STATUS_OVERLOADED))
    assert not at.coordinator.writes.replication._loads.pressed


# ── after the answer ──


def met(at: At, id: int = 1, **fields: object) -> int:
    """A write of KEY that its client was answered, and that owner c has not stored yet; its number."""
    at.ask(a_put(id, **fields))
    (_, store), _ = at.sent(Store)
    assert isinstance(store, Store)
    at.commit()
    at.hear("b", Stored(store.id, STATUS_OK))
    assert isinstance(at.answers()[0], Done)
    assert not at.coordinator.busy
    return store.id


def test_an_answered_write_trails_until_all_owners_have_it() -> None:
    at = At()
    id = met(at)
    copies = at.coordinator.writes.replication
    assert list(copies._trailing) == [id]
    at.hear("c", Stored(id, STATUS_OK))
    assert (copies._trailing, copies._trailing_bytes) == ({}, 0)
    assert copies.deadline() == math.inf


def test_an_owner_that_answers_after_a_first_look_leaves_nothing_to_look_after() -> None:
    at = At(fallback_after_s=0.2, put_timeout_s=3.0)
    id = met(at)
    at.tick(0.5)
    copies = at.coordinator.writes.replication
    assert copies._slow
    assert copies.deadline() < math.inf
    at.hear("c", Stored(id, STATUS_OK))
    assert (copies.deadline(), copies._slow) == (math.inf, [])


def test_an_owner_that_stays_silent_gets_a_hint_before_the_time_is_over() -> None:
    at = At(fallback_after_s=0.2, put_timeout_s=3.0)
    met(at)
    at.tick(1.9)
    assert at.hints.held() == {}
    at.tick(2.3)
    assert at.hints.held() == {"c": 1}
    at.commit()
    copies = at.coordinator.writes.replication
    at.tick(3.5)
    assert (copies._trailing, copies.deadline()) == ({}, math.inf)


def test_an_owner_that_is_late_is_looked_after_no_more_once_it_has_answered() -> None:
    at = At(fallback_after_s=0.2, put_timeout_s=3.0)
    id = met(at)
    at.tick(0.3)
    assert at.coordinator.writes.deadline() == 2.0, "not before its patience is over"
    at.hear("c", Stored(id, STATUS_OK))
    assert at.coordinator.writes.deadline() == math.inf
    at.tick(2.3)
    assert at.hints.held() == {}


def test_a_silent_owner_whose_hint_is_never_answered_is_forgotten_in_the_end() -> None:
    at = At("d", "abcde")
    id = met(at)
    at.tick(2.5)
    assert [name for name, _ in at.sent(StoreHint)] == ["a"]
    at.tick(2.9)
    assert list(at.coordinator.writes.replication._trailing) == [id]
    at.tick(3.5)
    assert at.coordinator.writes.replication._trailing == {}
    at.hear("a", Stored(id, STATUS_OK))  # too late to mean anything


def test_what_trails_is_bounded_and_what_is_dropped_leaves_its_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replication, "_TRAILING_MAX", 2)
    at = At()
    ids = [met(at, number) for number in range(3)]
    assert list(at.coordinator.writes.replication._trailing) == ids[1:]
    assert at.hints.held() == {"c": 1}
    monkeypatch.setattr(replication, "_TRAILING_BYTES_MAX", 1)
    met(at, 9)
    assert at.coordinator.writes.replication._trailing == {}
    assert at.coordinator.writes.replication._trailing_bytes == 0


def test_a_link_that_breaks_behind_an_answered_write_leaves_a_hint_and_the_write_is_over() -> None:
    at = At()
    met(at)
    at.cut("c")
    assert at.hints.held() == {"c": 1}
    at.commit()
    at.tick(0.3)
    assert at.coordinator.writes.replication._trailing == {}


def test_an_unmet_write_has_a_fallback_for_a_silent_owner_after_a_moment() -> None:
    at = At("d", "abcde", fallback_after_s=0.2)
    at.ask(a_put(w=ALL))
    (_, store), _ = at.sent(Store)
    assert isinstance(store, Store)
    at.commit()
    at.hear("b", Stored(store.id, STATUS_OK))
    at.tick(0.19)
    assert at.sent(StoreHint) == []
    at.tick(0.2)
    assert [name for name, _ in at.sent(StoreHint)] == ["a"]
    at.hear("a", Stored(store.id, STATUS_OK))
    (done,) = at.answers()
    assert isinstance(done, Done)
    assert (done.answered, done.fallbacks) == ("d,b,a", "a")


def test_a_deletion_that_is_stood_in_for_a_second_time_is_there_already() -> None:
    at = At(names="abcde")
    key = not_owned(at)
    for name in at.ring.plan("bucket", key).owners:
        at.cut(name)
    context = token.encode(Context.EMPTY.add(Dot(b"a" * 16, 1)), cluster=b"c" * 16, bucket="bucket", key=key)
    for committed in (False, True):
        at.ask(a_delete(1, context)._replace(key=key, w=1))
        assert bool(at.answers()) == committed
        if not committed:
            at.commit()
            assert at.answers()


def test_a_write_that_was_done_before_counts_here_at_once_and_is_copied_again() -> None:
    at = At()
    put = a_put(w=1)
    at.ask(put)
    at.commit()
    (first,) = at.answers()
    copies = at.sent(Store)
    at.ask(put._replace(id=2))
    (again,) = at.answers()
    assert isinstance(first, Done)
    assert isinstance(again, Done)
    assert again.answered == "a"
    assert [name for name, _ in at.sent(Store)] == [name for name, _ in copies] == ["b", "c"]


def test_a_link_that_is_back_gets_what_it_may_have_missed() -> None:
    at = At()
    at.ask(a_put())
    (_, store), _ = at.sent(Store)
    at.cut("b")
    at.link("b")
    assert at.sent(Store) == [("b", store)]
