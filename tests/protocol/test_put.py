"""One write on its way to its owners: W distinct disks, whatever is lost, doubled or late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from dyno.errors import Code
from dyno.protocol.outbox import Outbox
from dyno.protocol.peers import Peers
from dyno.protocol.put import PutCoordinator
from dyno.protocol.sink import Failure
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

    def done(self, context: bytes, answered: list[str], out: Outbox, fallbacks: Sequence[str] = ()) -> None:
        self.done_.append((context, list(answered)))

    def failed(self, failure: Failure, out: Outbox) -> None:
        self.failures.append(failure)


class Writing:
    """A write at node a of a key that a, b, c own."""

    def __init__(self, *, w: int, owners: str = "abc", linked: str = "bc") -> None:
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
            me="a",
            peers=self.peers,
            sink=self.sink,
        )
        self.put.start(self.out)

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
