"""What becomes of a call that was refused, or not answered."""

from __future__ import annotations

import random

import pytest

from dyno.errors import Code, ConnectFailed, Overloaded, RequestTimeout
from dyno.session.calls import RETRY_MAX_S, Call, Trouble
from dyno.session.changes import Changes
from dyno.session.judging import (
    ELSEWHERE_MAX,
    OVERLOADED_PAUSE_MAX_S,
    OVERLOADED_PAUSE_MIN_S,
    PAUSE_MAX_S,
    PAUSE_MIN_S,
    SPARED_MIN_S,
    Advice,
    advice,
    pause_s,
    spared_s,
    too_late,
)
from dyno.session.links import PATIENCE_S, Links, NodeLink
from dyno.wire.messages import CreateBucket, Failed, Get, Put

NOW = 100.0
READ = Get(1, "carts", b"k", 2, 0, 5000, False)
WRITE = Put(1, "carts", b"k", b"", b"", False, 2, 0, b"", 5000, False)
CREATION = CreateBucket(1, "wide", 5, 2, 2, 0, 5000)


def a_call(request, *, sent_at: float = NOW) -> Call:
    call = Call(1, request, bucket=b"", deadline=sent_at + 5.0, weight=0)
    call.sent_at = sent_at
    return call


def a_failure(code: str, *, indeterminate: bool = False, retry_after_ms: int = 0) -> Failed:
    return Failed(1, code, "because", 2, "", indeterminate, retry_after_ms, b"")


def an_other(*, ready: bool = True) -> NodeLink:
    link = NodeLink("n2:7101", listed=True)
    link.ready = ready
    return link


def advised(request, failed: Failed, *, other: NodeLink | None = None, **facts) -> Advice:
    """facts: elsewhere, changed, sent_at."""
    call = a_call(request, sent_at=facts.get("sent_at", NOW))
    trouble = Trouble(call.sent_at)
    trouble.elsewhere = facts.get("elsewhere", 0)
    changes = Changes()
    if facts.get("changed"):
        changes.link_changed(NOW)
    return advice(call, trouble, failed, other=other, changes=changes, now=NOW)


@pytest.mark.parametrize("request_", [READ, WRITE, CREATION])
@pytest.mark.parametrize("code", [Code.INVALID, Code.CONFLICT, "unheard of"])
def test_what_will_not_change_is_raised(request_, code):
    assert advised(request_, a_failure(code), other=an_other(), changed=True) is Advice.RAISE


@pytest.mark.parametrize("request_", [READ, WRITE, CREATION])
def test_a_changing_ring_is_waited_for(request_):
    assert advised(request_, a_failure(Code.RING), other=an_other()) is Advice.LATER


@pytest.mark.parametrize("code", [Code.QUORUM, Code.STORAGE])
def test_what_may_have_been_done_is_sent_again_but_for_a_creation(code):
    failed = a_failure(code, indeterminate=True)
    assert advised(CREATION, failed, other=an_other(), changed=True) is Advice.RAISE
    for request in (READ, WRITE):
        assert advised(request, failed, other=an_other()) is Advice.ELSEWHERE
        assert advised(request, failed) is Advice.RAISE


@pytest.mark.parametrize("code", [Code.RING, Code.OVERLOADED, Code.QUORUM])
def test_a_write_in_doubt_is_not_sent_again_for_ever(code):
    long_ago = NOW - RETRY_MAX_S
    for doubted_since, advice_ in ((long_ago + 0.1, Advice.RAISE), (long_ago, Advice.RAISE)):
        call = a_call(WRITE)
        trouble = call.troubled()
        trouble.doubted_since = doubted_since
        assert advice(call, trouble, a_failure(code), other=an_other(), changes=Changes(), now=NOW + 0.1) is (
            advice_
        )


@pytest.mark.parametrize("request_", [READ, WRITE])
def test_an_overload_is_taken_elsewhere_or_waited_for_as_long_as_there_is_time(request_):
    failed = a_failure(Code.OVERLOADED, retry_after_ms=4000)
    assert advised(request_, failed, other=an_other()) is Advice.ELSEWHERE
    assert advised(request_, failed, other=an_other(ready=False)) is Advice.LATER
    assert advised(request_, failed, other=an_other(), elsewhere=ELSEWHERE_MAX) is Advice.LATER
    assert advised(request_, failed) is Advice.LATER
    assert advised(request_, a_failure(Code.OVERLOADED, retry_after_ms=5000)) is Advice.RAISE


@pytest.mark.parametrize("request_", [READ, WRITE])
def test_a_shortage_is_taken_elsewhere_and_waited_for_while_the_cluster_changes(request_):
    failed = a_failure(Code.QUORUM)
    assert advised(request_, failed, other=an_other()) is Advice.ELSEWHERE
    assert advised(request_, failed, other=an_other(), elsewhere=ELSEWHERE_MAX) is Advice.RAISE
    assert advised(request_, failed) is Advice.RAISE
    assert advised(request_, failed, changed=True) is Advice.LATER


@pytest.mark.parametrize("request_", [READ, WRITE])
def test_a_bad_disk_is_not_waited_for(request_):
    assert advised(request_, a_failure(Code.STORAGE), other=an_other()) is Advice.ELSEWHERE
    assert advised(request_, a_failure(Code.STORAGE), changed=True) is Advice.RAISE


def test_a_creation_is_asked_for_elsewhere_only_after_a_quick_refusal():
    failed, slow = a_failure(Code.QUORUM), NOW - PATIENCE_S
    assert advised(CREATION, failed, other=an_other()) is Advice.ELSEWHERE
    assert advised(CREATION, failed, other=an_other(), sent_at=slow) is Advice.RAISE
    overload = a_failure(Code.OVERLOADED)
    assert advised(CREATION, overload, other=an_other(), sent_at=slow) is Advice.ELSEWHERE


def paused(failed: Failed, *, rests: int = 0, draw: float = 0.5, left: float = 5.0) -> float:
    call, trouble = a_call(READ), Trouble(NOW)
    trouble.rests = rests
    return pause_s(call, trouble, failed, draw=draw, now=call.deadline - left)


def test_a_pause_doubles_up_to_a_bound_and_is_jittered():
    ring = a_failure(Code.RING)
    assert [paused(ring, rests=rests) for rests in range(3)] == [PAUSE_MIN_S * 2**rests for rests in range(3)]
    assert paused(ring, rests=60) == PAUSE_MAX_S
    assert paused(ring, draw=0.0) == PAUSE_MIN_S / 2
    assert paused(ring, draw=1.0) == PAUSE_MIN_S * 1.5


def test_an_overloaded_node_says_how_long_a_pause_is_at_least():
    assert paused(a_failure(Code.OVERLOADED)) == OVERLOADED_PAUSE_MIN_S
    assert paused(a_failure(Code.OVERLOADED, retry_after_ms=300), rests=1) == 0.6
    assert paused(a_failure(Code.OVERLOADED), rests=60, left=60) == OVERLOADED_PAUSE_MAX_S
    assert paused(a_failure(Code.OVERLOADED, retry_after_ms=9000), rests=3, left=60) == 9.0


def test_a_pause_ends_before_the_middle_of_the_time_that_is_left():
    assert paused(a_failure(Code.RING), rests=60, left=0.5) == 0.25
    assert paused(a_failure(Code.RING), rests=60, left=0.0) == PAUSE_MIN_S


@pytest.mark.parametrize(
    ("retry_after_ms", "seconds"), [(0, SPARED_MIN_S), (300, 0.3), (60_000, OVERLOADED_PAUSE_MAX_S)]
)
def test_a_node_that_refused_is_spared_for_as_long_as_it_says_within_bounds(retry_after_ms, seconds):
    failed = a_failure(Code.OVERLOADED, retry_after_ms=retry_after_ms)
    assert spared_s(failed, draw=0.5) == seconds
    assert spared_s(failed, draw=0.0) == seconds / 2


def test_a_call_that_is_late_says_where_it_stood():
    links = Links(["n1:7101"], random.Random(1))
    link = links.get("n1:7101")
    link.reason = "Connection refused"
    nobody = too_late(a_call(READ), links, saving=False)
    assert isinstance(nobody, ConnectFailed)
    assert "n1:7101: Connection refused" in str(nobody)
    links.came_up(link, "n1", NOW)
    waiting = too_late(a_call(WRITE), links, saving=False)
    assert isinstance(waiting, RequestTimeout)
    assert not waiting.indeterminate
    assert "no node took the request in time" in str(waiting)
    saving = too_late(a_call(READ), links, saving=True)
    assert isinstance(saving, RequestTimeout)
    assert not saving.indeterminate
    assert "so many calls had to be sent again" in str(saving)


@pytest.mark.parametrize(("request_", "indeterminate"), [(READ, False), (WRITE, True)])
def test_a_node_that_did_not_answer_is_named(request_, indeterminate):
    call = a_call(request_)
    call.link = NodeLink("n1:7101", listed=True)
    call.link.name = "n1"
    error = too_late(call, Links(["n1:7101"], random.Random(1)), saving=False)
    assert str(error) == "n1 at n1:7101 did not answer in time"
    assert error.indeterminate is indeterminate


@pytest.mark.parametrize(("request_", "told"), [(READ, "too much"), (WRITE, "n1 at n1:7101 did not answer")])
def test_of_a_read_that_was_sent_again_the_last_refusal_is_told_of_a_write_that_it_may_be_done(
    request_, told
):
    call = a_call(request_)
    call.troubled().failure = Overloaded("too much", retry_after=1.0)
    call.link = NodeLink("n1:7101", listed=True)
    call.link.name = "n1"
    error = too_late(call, Links(["n1:7101"], random.Random(1)), saving=False)
    assert str(error).startswith(told)


def test_a_call_that_rested_ends_with_the_refusal_that_made_it_rest():
    call = a_call(READ)
    call.troubled().failure = refusal = Overloaded("too much", retry_after=1.0)
    for saving in (False, True):
        assert too_late(call, Links(["n1:7101"], random.Random(1)), saving=saving) is refusal
