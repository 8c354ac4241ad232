"""One write on its way to its owners: W distinct disks, whatever is lost, doubled or late."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import pytest

from dyno.errors import Code
from dyno.protocol.outbox import Outbox
from dyno.protocol.peers import Peers
from dyno.protocol.put import PutCoordinator
from dyno.protocol.sink import Failure
from dyno.protocol.spares import Ended
from dyno.wire.messages import (
    STATUS_OK,
    STATUS_OVERLOADED,
    STATUS_REFUSED,
    STATUS_RING,
    STATUS_STORAGE,
    Store,
)

STORE = Store(1, 7, b"slot", b"key", b"record")


@dataclass
class Results:
    """A sink that remembers."""

    done_: list[tuple[bytes, list[str]]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    fallbacks: list[str] = field(default_factory=list)

    def done(self, context: bytes, answered: list[str], out: Outbox, fallbacks: Sequence[str] = ()) -> None:
        self.done_.append((context, list(answered)))
        self.fallbacks = list(fallbacks)

    def failed(self, failure: Failure, out: Outbox) -> None:
        self.failures.append(failure)


class Writing:
    """A write at node a of a key that a, b, c own."""

    def __init__(
        self,
        *,
        w: int,
        pw: int = 0,
        owners: str = "abc",
        linked: str = "bc",
        me: str = "a",
        spares: Fallbacks | None = None,
    ) -> None:
        self.out = Outbox()
        self.sink = Results()
        self.peers = Peers()
        self.peers.place({name: name for name in owners})
        for name in linked:
            self.peers.up(name, name)
        self.put = PutCoordinator(
            store=STORE,
            context=b"context",
            owners=tuple(owners),
            needed=w,
            deadline=3.0,
            me=me,
            peers=self.peers,
            sink=self.sink,
            primaries=pw,
            spares=spares,  # type: ignore[arg-type]
            patience_s=1.0,
        )
        self.put.start(self.out, all_live=spares is None or not spares.dead)

    def stored(self, node: str, status: int = STATUS_OK) -> bool:
        return self.put.stored(node, status, 0.1, self.out)

    def sent(self) -> str:
        """The nodes that it was sent to since the last look, in order."""
        assert all(message == STORE for _, message in self.out.sends)
        names = "".join(address for address, _ in self.out.sends)
        self.out.sends.clear()
        return names


def test_all_other_owners_get_the_record_at_once() -> None:
    assert Writing(w=1).sent() == "bc"


@pytest.mark.parametrize("w", [1, 2, 3])
def test_the_client_is_answered_when_w_disks_have_it(w: int) -> None:
    writing = Writing(w=w)
    for count, node in enumerate("cab", 1):
        writing.stored(node)
        assert bool(writing.sink.done_) == (count >= w)
    assert writing.sink.done_ == [(b"context", list("cab")[:w])]
    assert writing.put.finished


def test_a_repeated_answer_is_one_copy() -> None:
    writing = Writing(w=2)
    writing.stored("b")
    writing.stored("b")
    assert not writing.sink.done_
    writing.stored("a")
    assert writing.sink.done_ == [(b"context", ["b", "a"])]


def test_an_answer_of_a_node_that_owns_nothing_counts_nothing() -> None:
    writing = Writing(w=1)
    assert not writing.stored("stranger")
    assert not writing.sink.done_


def test_a_node_that_says_again_and_again_to_come_back_is_come_back_to_once() -> None:
    """Else a peer could have the record sent to it as often as it liked."""
    writing = Writing(w=3)
    assert writing.stored("b", STATUS_RING)
    assert not writing.stored("b", STATUS_RING)
    writing.sent()
    writing.put.retry("b", writing.out)
    assert writing.sent() == "b"
    assert writing.stored("b", STATUS_RING)


def test_the_disk_at_hand_is_one_of_many() -> None:
    writing = Writing(w=2)
    writing.stored("a", STATUS_STORAGE)
    writing.stored("b")
    writing.stored("c")
    assert writing.sink.done_ == [(b"context", ["b", "c"])]


def test_after_the_answer_a_write_goes_on_but_nothing_more_is_said_of_it() -> None:
    writing = Writing(w=1)
    writing.sent()
    writing.stored("a")
    assert not writing.stored("b")
    assert writing.stored("c", STATUS_RING)
    writing.put.lost("c", writing.out)
    writing.put.expire(writing.out)
    assert not writing.put.settled
    writing.stored("c")
    assert writing.put.settled
    assert len(writing.sink.done_) == 1
    assert not writing.sink.failures


def test_a_write_that_too_few_can_store_fails_at_once_and_may_exist() -> None:
    writing = Writing(w=2)
    writing.stored("a")
    writing.stored("b", STATUS_OVERLOADED)
    assert not writing.sink.failures
    writing.stored("c", STATUS_REFUSED)
    text = "1 of 2 needed nodes stored the write; not on b, c"
    assert writing.sink.failures == [Failure(Code.QUORUM, text, 2, ("a",), indeterminate=True)]
    writing.stored("c")
    assert not writing.sink.done_


def test_a_write_that_no_disk_took_was_surely_not_done() -> None:
    writing = Writing(w=1)
    for node in "abc":
        writing.stored(node, STATUS_STORAGE)
    text = "no owner of the key can write to its disk"
    assert writing.sink.failures == [Failure(Code.STORAGE, text, 1)]


def test_one_full_disk_that_says_so_twice_is_one_full_disk() -> None:
    writing = Writing(w=1)
    writing.stored("a", STATUS_STORAGE)
    writing.stored("b", STATUS_STORAGE)
    writing.stored("b", STATUS_STORAGE)
    writing.put.expire(writing.out)
    assert writing.sink.failures[0].indeterminate  # c may have it


def test_a_write_that_is_late_says_what_it_knows() -> None:
    writing = Writing(w=3)
    writing.stored("c")
    writing.put.expire(writing.out)
    text = "1 of 3 needed nodes stored the write in time; not on a, b"
    assert writing.sink.failures == [Failure(Code.QUORUM, text, 3, ("c",), indeterminate=True)]
    writing.put.expire(writing.out)
    assert len(writing.sink.failures) == 1


# ── links and rings ──


def test_a_node_without_a_link_gets_it_when_the_link_is_up() -> None:
    writing = Writing(w=3, linked="c")
    assert writing.sent() == "c"
    writing.put.retry("b", writing.out)
    assert writing.sent() == ""  # still no link
    writing.peers.up("b", "b")
    writing.put.retry("b", writing.out)
    assert writing.sent() == "b"
    writing.put.retry("b", writing.out)
    assert writing.sent() == ""  # it is on its way


def test_a_record_whose_answer_was_lost_with_the_link_is_sent_again() -> None:
    writing = Writing(w=3)
    writing.sent()
    writing.put.lost("b", writing.out)
    writing.put.retry("b", writing.out)
    assert writing.sent() == "b"


def test_who_has_answered_gets_nothing_again() -> None:
    writing = Writing(w=3)
    writing.sent()
    writing.stored("b")
    writing.stored("c", STATUS_STORAGE)
    for node in "abc":
        writing.put.lost(node, writing.out)
        writing.put.retry(node, writing.out)
    assert writing.sent() == ""


def test_a_node_with_another_ring_is_asked_again() -> None:
    writing = Writing(w=2)
    writing.sent()
    assert writing.stored("b", STATUS_RING)
    writing.put.retry("b", writing.out)
    assert writing.sent() == "b"
    writing.stored("b")
    writing.stored("a")
    assert writing.sink.done_


def test_a_doubled_refusal_after_the_copy_was_stored_sends_nothing() -> None:
    writing = Writing(w=3)
    writing.sent()
    writing.stored("b")
    writing.stored("b", STATUS_RING)
    writing.put.retry("b", writing.out)
    assert writing.sent() == ""


# ── fallbacks ──


class Fallbacks:
    """What a write falls back on: nodes x, y and z, as far as they are `free`, and this node's own hints.
    status: of what is kept here, None: `commit` tells."""

    def __init__(self, free: str = "xyz", dead: str = "") -> None:
        self.free = free
        self.dead = dead
        self.status: int | None = None
        self.asked: list[tuple[str, str, bool]] = []  # fallback, target, needed
        self.here: list[tuple[str, bool]] = []
        self._ended: list[Ended] = []

    def is_live(self, name: str) -> bool:
        return name not in self.dead

    def ask_next(
        self, store: Store, target: str, used: Collection[str], out: Outbox, *, owned: bool, needed: bool
    ) -> str | None:
        for name in self.free:
            if name not in used:
                self.asked.append((name, target, needed))
                return name
        return None

    def keep(self, store: Store, target: str, ended: Ended, *, owned: bool, needed: bool) -> int | None:
        self.here.append((target, needed))
        if self.status is None:
            self._ended.append(ended)
        return self.status

    def commit(self, status: int = STATUS_OK) -> None:
        """What is kept here is on the disk, or never will be."""
        ended, self._ended = self._ended, []
        for tell in ended:
            tell(status, 0.1, Outbox())


def sloppy(spares: Fallbacks, *, w: int = 2, pw: int = 0, linked: str = "bc", me: str = "a") -> Writing:
    return Writing(w=w, pw=pw, linked=linked, spares=spares, me=me)


def test_with_all_owners_in_reach_nobody_stands_in() -> None:
    spares = Fallbacks()
    writing = sloppy(spares)
    for node in "abc":
        writing.stored(node)
    assert writing.put.settled
    assert (spares.asked, spares.here) == ([], [])


@pytest.mark.parametrize("how", ["dead", "not linked"])
def test_the_next_fallback_stands_in_at_once_for_who_cannot_be_reached(how: str) -> None:
    spares = Fallbacks(dead="c" if how == "dead" else "")
    writing = sloppy(spares, w=3, linked="b" if how == "not linked" else "bc")
    assert spares.asked == [("x", "c", True)]
    writing.stored("a")
    writing.stored("x")
    assert not writing.sink.done_
    writing.stored("b")
    assert writing.sink.done_ == [(b"context", ["a", "b", "x"])]
    assert writing.sink.fallbacks == ["x"]
    assert writing.put.settled


def test_a_fallback_is_none_of_the_primaries_that_were_asked_for() -> None:
    writing = sloppy(Fallbacks(), w=2, pw=2, linked="b")
    writing.stored("a")
    writing.stored("x")
    assert not writing.sink.done_
    writing.stored("b")
    assert writing.sink.done_


def test_too_few_primaries_are_said_to_be_too_few() -> None:
    writing = sloppy(Fallbacks(), w=2, pw=2, linked="b")
    writing.stored("a")
    writing.stored("x")
    writing.put.expire(writing.out)
    assert writing.sink.failures[0].message == "1 of 2 needed owners stored the write in time; not on b, c"
    assert writing.sink.failures[0].nodes == ("a", "x")


def test_a_fallback_that_answers_twice_is_one_node_and_one_that_was_not_asked_is_none() -> None:
    writing = sloppy(Fallbacks(), w=3, linked="b")
    for node in ("x", "x", "y", "a"):
        writing.stored(node)
    assert not writing.sink.done_


def test_a_fallback_that_refuses_or_is_lost_is_followed_by_the_next() -> None:
    spares = Fallbacks()
    writing = sloppy(spares, w=3, linked="b")
    writing.stored("x", STATUS_OVERLOADED)
    writing.put.lost("y", writing.out)
    writing.put.lost("x", writing.out)  # said no already
    assert [name for name, _, _ in spares.asked] == ["x", "y", "z"]
    for node in "azb":
        writing.stored(node)
    assert writing.sink.done_ == [(b"context", ["a", "b", "z"])]


def test_an_owner_whose_disk_refuses_has_a_fallback_and_the_write_is_not_lost() -> None:
    spares = Fallbacks("x")
    writing = sloppy(spares, w=3)
    writing.stored("b", STATUS_STORAGE)
    assert spares.asked == [("x", "b", True)]
    assert not writing.sink.failures
    for node in "acx":
        writing.stored(node)
    assert writing.sink.done_
    assert writing.put.settled


def test_where_all_fallbacks_refuse_as_well_a_write_fails_at_once() -> None:
    spares = Fallbacks("x")
    writing = sloppy(spares, w=3)
    writing.stored("a")
    writing.stored("b", STATUS_STORAGE)
    writing.stored("c")
    writing.stored("x", STATUS_STORAGE)
    assert writing.sink.failures[0].message == "2 of 3 needed nodes stored the write; not on b"
    assert writing.put.settled, "nobody goes on with what has failed"


def test_all_full_disks_with_a_fallback_asked_are_not_surely_nothing() -> None:
    writing = sloppy(Fallbacks("x"), w=1)
    for node in "abcx":
        writing.stored(node, STATUS_STORAGE)
    assert writing.sink.failures[0].code == Code.QUORUM
    assert writing.sink.failures[0].indeterminate


def test_a_record_that_contradicts_an_owners_is_given_to_nobody_for_it() -> None:
    spares = Fallbacks()
    writing = sloppy(spares)
    writing.stored("a")
    writing.stored("b")
    writing.stored("c", STATUS_REFUSED)
    assert spares.asked == []
    assert writing.put.settled


def test_who_is_overloaded_gets_a_hint_only_while_the_write_needs_one() -> None:
    spares = Fallbacks("")
    writing = sloppy(spares, w=3)
    writing.stored("b", STATUS_OVERLOADED)
    assert spares.here == [], "it would count for nothing, and be more load"
    spares = Fallbacks()
    writing = sloppy(spares)
    writing.stored("a")
    writing.stored("b")
    writing.stored("c", STATUS_OVERLOADED)
    assert spares.asked == []
    assert writing.put.settled
    spares = Fallbacks()
    writing = sloppy(spares)
    writing.stored("b", STATUS_OVERLOADED)
    assert spares.asked == [("x", "b", True)]


# ── those who are silent ──


def test_who_is_silent_has_a_fallback_at_the_next_look_and_a_silent_fallback_another() -> None:
    spares = Fallbacks()
    writing = sloppy(spares, w=3)
    writing.stored("a")
    writing.stored("b")
    assert spares.asked == []
    for looks in range(1, 6):
        writing.put.look(0.2 * looks, writing.out)
    assert spares.asked == [("x", "c", True), ("y", "c", True), ("z", "c", True)]
    writing.stored("y")
    assert writing.sink.done_ == [(b"context", ["a", "b", "y"])]
    writing.stored("x")
    assert writing.put.settled


def test_while_this_disk_is_no_faster_it_is_the_load_and_not_the_others() -> None:
    spares = Fallbacks()
    writing = sloppy(spares)
    writing.put.look(0.2, writing.out)
    assert spares.asked == []
    writing.put.look(0.4, writing.out)
    assert [target for _, target, _ in spares.asked] == ["b", "c"]


def test_once_the_client_is_answered_a_slow_owner_gets_most_of_the_time() -> None:
    spares = Fallbacks()
    writing = sloppy(spares)
    writing.stored("a")
    writing.stored("b")
    writing.put.look(1.9, writing.out)
    assert spares.asked == []
    writing.put.look(2.1, writing.out)
    writing.put.look(2.3, writing.out)
    assert spares.asked == [("x", "c", False)]
    assert not writing.put.settled
    writing.stored("x")
    assert writing.put.settled
    assert writing.sink.done_ == [(b"context", ["a", "b"])]


def test_an_owner_that_comes_meanwhile_needs_no_fallback() -> None:
    spares = Fallbacks()
    writing = sloppy(spares)
    for node in "abc":
        writing.stored(node)
    writing.put.look(2.5, writing.out)
    assert spares.asked == []


def test_a_hint_that_came_too_late_does_no_harm() -> None:
    spares = Fallbacks()
    writing = sloppy(spares, w=3)
    writing.put.lost("c", writing.out)
    for node in "abc":
        writing.stored(node)
    writing.stored("x")
    assert writing.sink.done_ == [(b"context", ["a", "b", "c"])]
    assert writing.put.settled


def test_what_is_given_up_leaves_hints_for_those_who_have_nothing() -> None:
    spares = Fallbacks("x")
    writing = sloppy(spares)
    writing.stored("a")
    writing.stored("b")
    writing.put.give_up(writing.out)
    assert spares.asked == [("x", "c", False)]


# ── links ──


def test_a_link_that_breaks_before_the_answer_makes_a_hint_at_once() -> None:
    spares = Fallbacks()
    writing = sloppy(spares)
    writing.stored("a")
    writing.stored("b")
    writing.put.lost("c", writing.out)
    assert spares.asked == [("x", "c", False)]


def test_while_the_write_is_not_met_who_is_back_gets_it_whoever_keeps_it() -> None:
    writing = sloppy(Fallbacks(), w=3, linked="b")
    writing.sent()
    writing.stored("x")
    writing.peers.up("c", "c")
    writing.put.retry("c", writing.out)
    assert writing.sent() == "c"
    writing.put.lost("c", writing.out)
    writing.stored("a")
    writing.stored("b")
    assert writing.sink.done_
    writing.put.retry("c", writing.out)
    assert writing.sent() == "", "its hint is handed over"


# ── this node keeps the hint ──


def test_where_no_fallback_is_left_the_hint_is_kept_here_and_counts_for_nothing() -> None:
    spares = Fallbacks("")
    writing = sloppy(spares, w=3, linked="b")
    assert spares.here == [("c", False)]
    spares.commit()
    writing.stored("a")
    writing.stored("b")
    assert not writing.sink.done_
    writing.put.expire(writing.out)
    assert writing.sink.failures[0].nodes == ("a", "b")


def test_a_hint_that_is_kept_here_settles_a_write_and_so_does_one_that_cannot_be() -> None:
    for status in (STATUS_OK, STATUS_OVERLOADED):
        for at_once in (False, True):
            spares = Fallbacks("")
            spares.status = status if at_once else None
            writing = sloppy(spares, linked="b")
            writing.stored("a")
            writing.stored("b")
            assert writing.put.settled == at_once
            spares.commit(status)
            assert writing.put.settled


def test_this_nodes_own_disk_needs_another_node() -> None:
    spares = Fallbacks("x")
    writing = sloppy(spares)
    writing.stored("a", STATUS_STORAGE)
    assert spares.asked == [("x", "a", True)]
    spares = Fallbacks("")
    writing = sloppy(spares)
    writing.stored("a", STATUS_STORAGE)
    assert spares.here == []
    writing.stored("b")
    writing.stored("c")
    assert writing.put.settled


def test_a_live_owner_that_is_silent_gets_no_hint_here_before_the_client_is_answered() -> None:
    spares = Fallbacks("")
    writing = sloppy(spares, w=3)
    writing.stored("a")
    for looks in range(1, 5):
        writing.put.look(0.2 * looks, writing.out)
    assert spares.here == []


# ── a node that owns nothing of the key ──


def test_where_no_owner_can_be_reached_this_node_and_fallbacks_keep_hints_for_them() -> None:
    spares = Fallbacks("x")
    writing = sloppy(spares, w=2, linked="", me="s")
    assert spares.here == [("a", True), ("c", True)]
    assert spares.asked == [("x", "b", True)]
    writing.stored("s")  # it is no owner, and has no copy
    writing.stored("x")
    assert not writing.sink.done_
    spares.commit()
    assert writing.sink.done_ == [(b"context", ["x", "s"])]
    assert writing.sink.fallbacks == ["x", "s"]
    assert writing.put.settled


def test_a_node_that_cannot_keep_its_part_asks_the_next() -> None:
    spares = Fallbacks("xyz")
    spares.status = STATUS_STORAGE
    writing = sloppy(spares, w=2, linked="", me="s")
    assert [name for name, _, _ in spares.asked] == ["x", "y", "z"]
    assert [target for _, target, _ in spares.asked] == ["a", "b", "c"]
    writing.stored("x")
    writing.stored("z")
    assert writing.sink.done_ == [(b"context", ["x", "z"])]


def test_an_owner_that_comes_back_in_time_counts_as_itself() -> None:
    writing = sloppy(Fallbacks(""), w=1, pw=1, linked="", me="s")
    assert writing.put.bytes == len(STORE.record)
    assert writing.put.is_owner("b")
    assert not writing.put.is_owner("s")
    writing.peers.up("b", "b")
    writing.put.retry("b", writing.out)
    writing.stored("b")
    assert writing.sink.done_ == [(b"context", ["b"])]
