"""A request that somebody else has to do."""

from __future__ import annotations

import pytest

from dyno.protocol.forward import Forwarding
from dyno.protocol.outbox import Outbox
from dyno.protocol.peers import Peers
from dyno.wire.messages import DEFAULT, Delete, Done, Failed, Found, Get, ListKeys, Put

GET = Get(42, "bucket", b"key", DEFAULT, DEFAULT, 5000, False)
PUT = Put(42, "bucket", b"key", b"value", b"", False, DEFAULT, DEFAULT, b"r" * 16, 5000, False)
DELETE = Delete(42, "bucket", b"key", b"", DEFAULT, DEFAULT, DEFAULT, DEFAULT, b"r" * 16, 5000, False)
LIST = ListKeys(42, "bucket", 3, b"", 100, DEFAULT, DEFAULT, 5000, False)
LINK = 7


class Passing:
    """A request that goes to b or else to c."""

    def __init__(self, request: Get | Put | Delete | ListKeys, *, linked: str = "bc") -> None:
        self.out = Outbox()
        self.peers = Peers()
        self.peers.place({"b": "b", "c": "c"})
        for name in linked:
            self.peers.up(name, name)
        self.forwarding = Forwarding(
            id=1, link=LINK, request=request, needed=2, owners=["b", "c"], deadline=5.0, peers=self.peers
        )
        self.forwarding.start(self.out)

    def failure(self) -> tuple[str, bool]:
        """The text of the one failure, and whether the request may have been done."""
        ((link, failed),) = self.out.replies
        assert link == LINK
        assert isinstance(failed, Failed)
        assert (failed.id, failed.code, failed.needed, failed.nodes) == (42, "quorum", 2, "")
        assert self.forwarding.finished
        return failed.message, failed.indeterminate


@pytest.mark.parametrize("request_", [GET, PUT, DELETE, LIST])
def test_the_request_goes_to_the_first_owner_marked_and_under_a_number_of_ours(
    request_: Get | Put | Delete | ListKeys,
) -> None:
    passing = Passing(request_)
    assert passing.out.sends == [("b", request_._replace(id=1, forwarded=True))]


def test_the_answer_goes_back_as_it_is_under_the_askers_number() -> None:
    passing = Passing(GET)
    passing.forwarding.answer("b", Found(1, b"record", "b,c", ""), passing.out)
    assert passing.out.replies == [(LINK, Found(42, b"record", "b,c", ""))]
    assert passing.forwarding.finished
    passing.forwarding.answer("b", Found(1, b"record", "b,c", ""), passing.out)
    passing.forwarding.lost("b", passing.out)
    passing.forwarding.expire(passing.out)
    assert len(passing.out.replies) == 1


def test_the_word_of_a_node_that_was_not_asked_means_nothing() -> None:
    passing = Passing(PUT)
    passing.forwarding.answer("c", Done(1, b"context", "c", ""), passing.out)
    assert not passing.out.replies


def test_an_owner_without_a_link_is_passed_over() -> None:
    passing = Passing(PUT, linked="c")
    assert [address for address, _ in passing.out.sends] == ["c"]


def test_without_any_link_nothing_was_done() -> None:
    assert Passing(PUT, linked="").failure() == ("no owner of the key can be reached", False)


def test_a_read_whose_link_breaks_goes_to_the_next_owner() -> None:
    passing = Passing(GET)
    passing.forwarding.lost("c", passing.out)  # not whom we asked
    passing.forwarding.lost("b", passing.out)
    assert [address for address, _ in passing.out.sends] == ["b", "c"]
    passing.forwarding.answer("b", Found(1, b"old", "b", ""), passing.out)
    assert not passing.out.replies
    passing.forwarding.lost("c", passing.out)
    assert passing.failure() == ("no owner of the key can be reached", False)


@pytest.mark.parametrize("request_", [PUT, DELETE])
def test_a_write_whose_link_breaks_may_have_been_done_and_is_not_done_twice(request_: Put | Delete) -> None:
    passing = Passing(request_)
    passing.forwarding.lost("b", passing.out)
    assert len(passing.out.sends) == 1
    assert passing.failure() == ("the link to b, which had the write, broke", True)


@pytest.mark.parametrize(("request_", "indeterminate"), [(GET, False), (PUT, True), (DELETE, True)])
def test_silence_is_reported_in_the_end(request_: Get | Put | Delete | ListKeys, indeterminate: bool) -> None:
    passing = Passing(request_)
    passing.forwarding.expire(passing.out)
    assert passing.failure() == ("b did not answer in time", indeterminate)
