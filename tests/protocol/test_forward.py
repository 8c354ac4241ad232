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
def test_a_write_whose_link_breaks_goes_to_the_next_owner_and_says_so(request_: Put | Delete) -> None:
    passing = Passing(request_)
    passing.forwarding.lost("b", passing.out)
    (_, again) = passing.out.sends[1]
    expected = request_._replace(id=1, forwarded=True)
    assert again == (expected._replace(again=True) if isinstance(expected, Put) else expected)
    passing.forwarding.lost("c", passing.out)
    assert passing.failure() == ("the link to c, which had the write, broke", True)


@pytest.mark.parametrize("request_", [PUT, DELETE])
def test_a_write_that_is_not_answered_for_long_is_given_to_one_more_and_the_first_answer_counts(
    request_: Put | Delete,
) -> None:
    passing = Passing(request_)
    assert passing.forwarding.overdue(passing.out)
    assert [address for address, _ in passing.out.sends] == ["b", "c"]
    assert not passing.forwarding.overdue(passing.out)
    passing.forwarding.lost("c", passing.out)
    assert not passing.out.replies  # the first one may still answer
    passing.forwarding.answer("b", Done(1, b"context", "b,c", ""), passing.out)
    assert passing.out.replies == [(LINK, Done(42, b"context", "b,c", ""))]
    assert not passing.forwarding.overdue(passing.out)


def test_a_read_that_is_not_answered_for_long_is_given_to_one_more_and_says_nothing_of_that() -> None:
    passing = Passing(GET)
    assert passing.forwarding.overdue(passing.out)
    assert passing.out.sends == [(name, GET._replace(id=1, forwarded=True)) for name in "bc"]
    assert not passing.forwarding.overdue(passing.out)
    passing.forwarding.expire(passing.out)
    assert passing.failure() == ("b, c did not answer in time", False)


def test_a_page_of_keys_is_not_asked_twice_for_being_late() -> None:
    passing = Passing(LIST)
    assert not passing.forwarding.overdue(passing.out)
    assert len(passing.out.sends) == 1


def refused(code: str) -> Failed:
    return Failed(1, code, "why", 2, "", False, 0, b"")


@pytest.mark.parametrize(("code", "indeterminate"), [("overloaded", True), ("conflict", False)])
def test_what_the_second_owner_cannot_do_the_first_may_have_done(code: str, indeterminate: bool) -> None:
    for in_doubt in (True, False):
        passing = Passing(PUT)
        if in_doubt:
            passing.forwarding.overdue(passing.out)
        passing.forwarding.answer("c" if in_doubt else "b", refused(code), passing.out)
        ((_, failed),) = passing.out.replies
        assert isinstance(failed, Failed)
        assert failed.indeterminate is (in_doubt and indeterminate)


@pytest.mark.parametrize("code", ["overloaded", "conflict"])
def test_what_the_first_owner_cannot_do_the_second_may_be_doing(code: str) -> None:
    passing = Passing(PUT)
    passing.forwarding.overdue(passing.out)
    passing.forwarding.answer("b", refused(code), passing.out)
    assert not passing.out.replies, "it has asked nobody, and c has the write"
    passing.forwarding.answer("c", Done(1, b"context", "b,c", ""), passing.out)
    assert passing.out.replies == [(LINK, Done(42, b"context", "b,c", ""))]


def test_a_conflict_at_the_first_owner_is_none_for_certain_where_the_second_was_lost() -> None:
    for lost_first in (True, False):
        passing = Passing(PUT)
        passing.forwarding.overdue(passing.out)
        if lost_first:
            passing.forwarding.lost("c", passing.out)
            passing.forwarding.answer("b", refused("conflict"), passing.out)
        else:
            passing.forwarding.answer("b", refused("conflict"), passing.out)
            passing.forwarding.lost("c", passing.out)
        text, indeterminate = passing.failure()
        assert indeterminate
        assert "broke" in text


def test_the_only_owner_that_ever_had_a_put_says_of_a_conflict_for_certain() -> None:
    passing = Passing(PUT, linked="b")
    assert not passing.forwarding.overdue(passing.out)
    passing.forwarding.answer("b", refused("conflict"), passing.out)
    assert passing.out.replies == [(LINK, refused("conflict")._replace(id=42))]


def test_of_two_that_both_know_that_a_put_was_sent_before_either_may_refuse_it() -> None:
    passing = Passing(PUT._replace(again=True))
    passing.forwarding.overdue(passing.out)
    passing.forwarding.answer("b", refused("overloaded"), passing.out)
    ((_, failed),) = passing.out.replies
    assert failed == refused("overloaded")._replace(id=42, indeterminate=True)


@pytest.mark.parametrize(("request_", "indeterminate"), [(GET, False), (PUT, True), (DELETE, True)])
def test_silence_is_reported_in_the_end(request_: Get | Put | Delete, indeterminate: bool) -> None:
    passing = Passing(request_)
    passing.forwarding.expire(passing.out)
    assert passing.failure() == ("b did not answer in time", indeterminate)
