"""Every call comes to its end: the table of `judging`, row by row."""

from __future__ import annotations

import pytest

from dyno.errors import (
    ConflictError,
    ConnectFailed,
    InvalidRequest,
    Overloaded,
    QuorumNotMet,
    RequestTimeout,
    StorageFailed,
)
from dyno.session.batch import GetBatch
from dyno.session.calls import RETRY_MAX_S
from dyno.session.changes import SETTLED_S
from dyno.session.judging import ELSEWHERE_MAX
from dyno.session.links import PATIENCE_S, SILENT_MAX_S, WINDOW_BYTES_MAX
from dyno.wire.messages import AskMembers, AskStatus, CreateBucket, Delete, Get, Put

WRITES = ("put", "delete")
ALL_KINDS = ("get", *WRITES)
REQUESTS = (Get, Put, Delete)


def begin(world, kind, **options):
    return getattr(world, kind)(**options)


def requests(world):
    return [(address, m) for address, m in world.sent() if isinstance(m, REQUESTS)]


def request(world):
    """The only request that was sent since the last look."""
    ((address, message),) = requests(world)
    return address, message


def error_of(world, call):
    assert world.finished() == [call]
    assert call.result is None
    return call.error


# ── refusals ──


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize(("code", "error"), [("invalid", InvalidRequest), ("conflict", ConflictError)])
def test_a_final_refusal_is_raised(world, kind, code, error):
    call = begin(world, kind)
    address, _ = request(world)
    world.hear(address, world.failed(call, code))
    assert isinstance(error_of(world, call), error)
    assert requests(world) == []


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_changing_ring_is_waited_for_with_the_members_asked_again(world, kind):
    call = begin(world, kind)
    address, first = request(world)
    world.hear(address, world.failed(call, "ring"))
    assert [type(m) for _, m in world.sent()] == [AskMembers]
    world.advance(0.1)
    other, again = request(world)
    assert other != address, "another one may see the ring as it is"
    assert again.id == first.id
    assert again.budget_ms < first.budget_ms
    if kind != "get":
        assert again.request == first.request


def test_a_ring_that_never_settles_ends_in_a_timeout_that_wrote_nothing(world):
    call = world.put(timeout=3)
    sent = 0
    for _ in range(300):
        for address, message in requests(world):
            sent += 1
            world.hear(address, world.failed(message, "ring"))
        world.advance(0.01)
    world.advance(0.01)
    error = error_of(world, call)
    assert isinstance(error, RequestTimeout)
    assert not error.indeterminate
    assert 4 < sent < 15, "the pauses grow"


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_an_overloaded_node_is_spared_and_another_one_asked_at_once(world, kind):
    call = begin(world, kind)
    address, first = request(world)
    world.hear(address, world.failed(call, "overloaded", retry_after_ms=400))
    other, again = request(world)
    assert other != address
    assert (again.id, type(again)) == (first.id, type(first))
    second = begin(world, kind)
    assert request(world)[0] != address, "new calls spare it, too"
    world.cancel(call)
    world.cancel(second)
    world.advance(0.6)
    begin(world, kind)
    assert request(world)[0] == address


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_overloaded_nodes_are_left_alone_for_as_long_as_they_say(world, kind):
    call = begin(world, kind)
    for _ in range(3):
        address, first = request(world)
        world.hear(address, world.failed(call, "overloaded", retry_after_ms=400))
    world.advance(0.19)
    assert requests(world) == []
    world.advance(0.5)
    other, again = request(world)
    assert other != address, "the one that said so last comes last"
    assert (again.id, type(again)) == (first.id, type(first))
    assert 4_300 <= again.budget_ms <= 4_800


def test_where_all_are_spared_a_first_attempt_is_made_all_the_same(world):
    call = world.get()
    for _ in range(3):
        address, _ = request(world)
        world.hear(address, world.failed(call, "overloaded", retry_after_ms=400))
    other = world.get()
    address, message = request(world)
    world.hear(address, world.found(message))
    assert world.finished() == [other]


def test_the_overloaded_node_is_asked_again_when_there_is_no_other(a_world):
    world = a_world(["n1:7101"]).settle("n1")
    call = world.get()
    address, _ = request(world)
    world.hear(address, world.failed(call, "overloaded", retry_after_ms=50))
    world.advance(0.1)
    assert request(world)[0] == address


def test_an_overload_that_stays_is_raised_at_the_timeout(world):
    call, began, sent = world.put(timeout=20), world.now, []

    def refuse(_address, message):
        sent.append(message)
        return world.failed(message, "overloaded", retry_after_ms=10)

    world.serve(refuse)
    error = error_of(world, call)
    assert isinstance(error, Overloaded)
    assert error.retry_after == 0.01
    assert world.now - began == pytest.approx(20, abs=0.1)
    assert 10 < len(sent) < 50, "the pauses grow"


def test_an_overload_that_passes_just_before_the_timeout_is_no_error(world):
    call, over = world.put(timeout=10), world.now + 9.5

    def refuse(_address, message):
        if world.now > over:
            return world.done(message)
        return world.failed(message, "overloaded", retry_after_ms=50)

    world.serve(refuse)
    assert world.finished() == [call]
    assert call.error is None


def test_an_overload_longer_than_the_timeout_is_raised_at_once_when_nobody_else_is_there(world):
    call = world.get(timeout=1)
    for _ in range(3):
        address, _ = request(world)
        world.hear(address, world.failed(call, "overloaded", retry_after_ms=1500))
    assert isinstance(error_of(world, call), Overloaded)


def test_an_overload_whose_pause_outlasts_the_timeout_is_raised_at_the_timeout(world):
    call = world.get(timeout=0.2)
    for _ in range(250):
        for address, message in requests(world):
            world.hear(address, world.failed(message, "overloaded", retry_after_ms=30))
        world.advance(0.001)
    assert isinstance(error_of(world, call), Overloaded)


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize(("code", "error"), [("quorum", QuorumNotMet), ("storage", StorageFailed)])
def test_a_shortage_where_nothing_was_done_is_tried_at_the_other_nodes(world, kind, code, error):
    call = begin(world, kind)
    asked = []
    for _ in range(3):
        address, message = request(world)
        asked.append(address)
        world.hear(address, world.failed(message, code))
    assert sorted(asked) == ["n1:7101", "n2:7101", "n3:7101"]
    assert isinstance(error_of(world, call), error)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_shortage_while_the_cluster_changes_is_tried_again_until_the_timeout(world, kind):
    world.down("n1:7101", "reset")
    world.advance(0.001)
    call, began, sent = begin(world, kind, timeout=20), world.now, []

    def refuse(_address, message):
        sent.append(message)
        return world.failed(message, "quorum")

    world.serve(refuse)
    assert isinstance(error_of(world, call), QuorumNotMet)
    assert world.now - began == pytest.approx(SETTLED_S, abs=1.0), "by then it is no change any more"
    assert 10 < len(sent) < 40, "the pauses grow"


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_node_that_comes_back_within_the_timeout_avoids_the_error(world, kind):
    call = begin(world, kind, timeout=20)
    address, message = request(world)
    world.down("n1:7101" if address != "n1:7101" else "n2:7101", "reset")
    back = world.now + 15
    world.hear(address, world.failed(message, "quorum"))

    def answer(_address, message):
        if world.now < back:
            return world.failed(message, "quorum")
        return world.found(message, 1) if kind == "get" else world.done(message)

    world.serve(answer)
    assert world.finished() == [call]
    assert call.error is None


def test_more_copies_than_there_are_members_are_refused_at_once_even_during_changes(world):
    world.down("n1:7101", "reset")
    call = world.put(w=5)
    for _ in range(2):
        address, message = request(world)
        world.hear(address, world.failed(message, "quorum", needed=5))
    error = error_of(world, call)
    assert (error.needed, error.indeterminate) == (5, False)


def test_a_shortage_is_raised_at_once_where_there_is_nobody_else_to_ask(a_world):
    world = a_world(["n1:7101"]).settle("n1")
    call = world.put()
    world.hear("n1:7101", world.failed(call, "quorum"))
    error = error_of(world, call)
    assert isinstance(error, QuorumNotMet)
    assert not error.indeterminate


@pytest.mark.parametrize("kind", WRITES)
@pytest.mark.parametrize(("code", "error"), [("quorum", QuorumNotMet), ("storage", RequestTimeout)])
def test_a_write_that_somebody_may_have_kept_is_sent_again_elsewhere(world, kind, code, error):
    call = begin(world, kind)
    asked = {}
    for _ in range(ELSEWHERE_MAX + 1):
        address, message = request(world)
        asked[address] = message
        world.hear(address, world.failed(call, code, indeterminate=True, nodes=address.split(":")[0]))
    assert len(asked) == 3
    assert len({message.request for message in asked.values()}) == 1, "it is one request"
    if kind == "put":
        assert [message.again for message in asked.values()] == [False, True, True]
    raised = error_of(world, call)
    assert isinstance(raised, error)
    assert raised.indeterminate
    assert requests(world) == []


@pytest.mark.parametrize("code", ["quorum", "storage", "overloaded"])
def test_a_write_in_doubt_stays_in_doubt_whatever_is_said_of_it_later(a_world, code):
    world = a_world(["n1:7101"]).settle("n1")
    call = world.put()
    assert not request(world)[1].again
    world.hear("n1:7101", world.failed(call, "ring", indeterminate=True))
    world.advance(0.1)
    _, message = request(world)
    assert message.again
    world.hear("n1:7101", world.failed(call, code, retry_after_ms=6000))
    assert error_of(world, call).indeterminate


def test_a_conflict_of_a_put_in_doubt_is_certain(world):
    call = world.put(if_context=b"")
    address, _ = request(world)
    world.down(address)
    other, message = request(world)
    assert message.again
    world.hear(other, world.failed(call, "conflict"))
    assert isinstance(error_of(world, call), ConflictError)


def sent_twice_to_one(world):
    """A conditional put that all links were silent about, and where it was sent first once more."""
    call = world.put(if_context=b"", timeout=60)
    addresses = [request(world)[0]]
    for _ in range(2):
        world.advance(PATIENCE_S + 0.01)
        addresses.append(request(world)[0])
    first, _, _ = addresses
    for address in addresses:
        world.hear(address, world.members("n1", "n2", "n3"))
    for other in addresses[1:]:
        world.down(other)
    again = request(world)
    assert again[0] == first
    assert again[1].again
    return call, first


def test_a_conflict_of_an_attempt_that_was_given_up_on_says_nothing_of_the_one_after_it(world):
    call, first = sent_twice_to_one(world)
    world.hear(first, world.failed(call, "conflict"))
    assert not world.finished()
    world.hear(first, world.failed(call, "conflict"))
    assert isinstance(error_of(world, call), ConflictError)


def test_the_answer_after_a_retry_counts(world):
    call = world.get()
    address, _ = request(world)
    world.hear(address, world.failed(call, "quorum"))
    address, _ = request(world)
    world.hear(address, world.found(call, "milk"))
    assert world.finished() == [call]
    assert call.error is None
    assert call.result.value == "milk"


# ── links that break ──


def test_a_read_whose_link_breaks_is_asked_elsewhere_at_once(world):
    call = world.get()
    address, _ = request(world)
    world.down(address, "reset")
    other, again = request(world)
    assert other != address
    world.hear(other, world.found(again))
    assert world.finished() == [call]


@pytest.mark.parametrize("kind", WRITES)
def test_a_write_whose_link_breaks_after_sending_is_sent_again_elsewhere(world, kind):
    call = begin(world, kind)
    address, first = request(world)
    world.down(address, "reset")
    other, again = request(world)
    assert other != address
    assert again.request == first.request
    if kind == "put":
        assert (first.again, again.again) == (False, True)
    world.hear(other, world.done(call))
    assert world.finished() == [call]
    assert call.error is None


@pytest.mark.parametrize("kind", WRITES)
def test_a_write_whose_links_all_break_may_have_been_done(world, kind):
    call = begin(world, kind)
    for _ in range(3):
        address, _ = request(world)
        world.down(address, "reset")
    world.advance(5.1)
    error = error_of(world, call)
    assert isinstance(error, RequestTimeout)
    assert error.indeterminate


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_what_was_surely_not_sent_yet_is_sent_elsewhere(world, kind):
    call = begin(world, kind)
    ((address, first),) = [send for send in world.out.sends if isinstance(send[1], REQUESTS)]
    world.down(address, "reset")
    other, again = request(world)
    assert other != address
    assert again.id == first.id == call.id
    assert not getattr(again, "again", False)
    assert not world.finished()


def test_calls_on_other_links_are_not_disturbed(world):
    calls = [world.put(f"key {i}") for i in range(30)]
    where = {message.id: address for address, message in requests(world)}
    world.down("n1:7101")
    lost = [call for call in calls if where[call.id] == "n1:7101"]
    assert [message.id for _, message in requests(world)] == [call.id for call in lost] != []
    for call in calls:
        if call not in lost:
            world.hear(where[call.id], world.done(call))
            assert call.result is not None


# ── links that say nothing ──


def test_a_read_on_a_silent_link_is_asked_elsewhere_too_and_the_first_answer_counts(world):
    call = world.get()
    address, _ = request(world)
    world.advance(PATIENCE_S + 0.01)
    sent = [(a, m) for a, m in world.sent() if not (isinstance(m, AskMembers) and a != address)]
    (other, again), (pinged, ping) = sent
    assert (pinged, type(ping)) == (address, AskMembers), "to see whether it lives"
    assert other != address
    assert again.id == call.id
    world.hear(address, world.found(call, "late, but first"))
    assert call.result.value == "late, but first"
    world.hear(other, world.found(call, "second"))
    assert world.finished() == [call]


def test_a_link_that_spoke_after_the_request_may_fall_silent_all_the_same(world):
    call = world.status()
    ((address, _),) = world.sent(AskStatus)
    world.advance(PATIENCE_S / 2)
    world.hear(address, world.members("n1", "n2", "n3"))
    world.advance(PATIENCE_S * 0.9)
    assert [m for _, m in world.sent(AskStatus)] == []
    world.advance(PATIENCE_S * 0.2)
    ((other, again),) = [(a, m) for a, m in world.sent(AskStatus)]
    assert other != address
    assert again.id == call.id


def test_a_late_refusal_of_a_link_that_was_given_up_on_means_nothing(world):
    call = world.get()
    address, _ = request(world)
    world.advance(PATIENCE_S + 0.01)
    world.sent()
    world.hear(address, world.failed(call, "quorum"))
    assert not world.finished()


def test_new_calls_avoid_a_silent_link_until_it_speaks(world):
    world.put()
    address, _ = request(world)
    world.advance(PATIENCE_S + 0.01)
    world.sent()
    world.put()
    assert request(world)[0] != address
    world.hear(address, world.members("n1", "n2", "n3"))
    world.put()
    assert request(world)[0] == address


@pytest.mark.parametrize("kind", WRITES)
def test_a_write_on_a_silent_link_is_sent_again_elsewhere_and_the_first_answer_counts(world, kind):
    call = begin(world, kind)
    address, _ = request(world)
    world.advance(PATIENCE_S + 0.01)
    other, again = request(world)
    assert other != address
    assert getattr(again, "again", True)
    world.hear(address, world.done(call))
    assert world.finished() == [call]
    assert call.error is None


@pytest.mark.parametrize("kind", WRITES)
def test_a_write_on_the_only_link_which_is_silent_waits_for_its_timeout(a_world, kind):
    world = a_world(["n1:7101"]).settle("n1", members=a_world().members("n1"))
    call = begin(world, kind)
    address, _ = request(world)
    world.advance(4.9)
    assert not world.finished()
    assert requests(world) == []
    world.advance(0.2)
    error = error_of(world, call)
    assert isinstance(error, RequestTimeout)
    assert error.indeterminate
    assert f"{address.split(':')[0]} at {address} did not answer in time" in str(error)


def test_a_link_that_answers_others_is_slow_and_not_silent(world):
    first = world.put("alice")
    address, _ = request(world)
    for _ in range(11):
        world.advance(0.45)
        world.hear(address, world.members("n1", "n2", "n3"))
        other = world.put()
        assert request(world)[0] == address
        world.hear(address, world.done(other))
    world.advance(0.1)
    assert isinstance(first.error, RequestTimeout)
    assert f"{address.split(':')[0]} at {address} did not answer in time" in str(first.error)


def test_a_read_without_another_link_goes_on_waiting(a_world):
    world = a_world(["n1:7101"]).settle("n1")
    call = world.get()
    world.advance(3)
    world.hear("n1:7101", world.found(call, "slow"))
    assert call.result.value == "slow"


# ── writes that may have been done long ago ──


def long_in_doubt(world):
    """A put that was sent once, to a link that broke then; it waits for another one."""
    call = world.put(timeout=100)
    _, message = request(world)
    assert not message.again
    world.down("n1:7101", "reset")
    return call


def test_a_write_that_waits_for_a_link_is_not_sent_again_once_nodes_may_have_forgotten_it(a_world):
    world = a_world(["n1:7101"]).settle("n1")
    call = long_in_doubt(world)
    world.advance(RETRY_MAX_S - 1)
    assert not world.finished()
    world.advance(1.1)
    error = error_of(world, call)
    assert isinstance(error, QuorumNotMet)
    assert error.indeterminate
    assert "30 s ago" in str(error)
    world.up("n1:7101")
    assert requests(world) == []


def test_a_write_that_was_refused_all_the_time_tells_the_last_refusal(a_world):
    world = a_world(["n1:7101"]).settle("n1")
    call = long_in_doubt(world)
    world.advance(0.1)
    world.up("n1:7101")
    for _ in range(400):
        for address, message in requests(world):
            assert message.again
            world.hear(address, world.failed(call, "ring"))
        world.advance(0.1)
    error = error_of(world, call)
    assert isinstance(error, QuorumNotMet | RequestTimeout)
    assert error.indeterminate
    assert "the reason for ring" in str(error)


@pytest.mark.parametrize("end", ["link", "refusal", "silence"])
def test_the_last_attempt_of_a_write_is_waited_for_and_no_other_follows(a_world, end):
    world = a_world(["n1:7101", "n2:7101"]).settle("n1", "n2", members=a_world().members("n1", "n2"))
    call = world.put(timeout=100)
    address, _ = request(world)
    world.down(address, "reset")
    other, _ = request(world)
    for _ in range(int(RETRY_MAX_S / 0.4) + 2):  # it is slow, and not silent
        world.advance(0.4)
        world.hear(other, world.members("n1", "n2"))
    world.up(address)
    world.sent()
    assert not world.finished()
    if end == "link":
        world.down(other, "reset")
    elif end == "refusal":
        world.hear(other, world.failed(call, "ring"))
    else:
        world.advance(SILENT_MAX_S + 2)
        assert other in world.dropped()
    assert requests(world) == []
    assert error_of(world, call).indeterminate


# ── no link ──


def test_a_call_waits_for_a_link_and_goes_first_come_first_served(a_world):
    world = a_world()
    calls = [world.put(f"key {i}") for i in range(3)]
    assert sorted(world.dialled()) == ["n1:7101", "n2:7101", "n3:7101"]
    world.advance(0.5)
    world.up("n2:7101")
    sent = requests(world)
    assert [(address, message.id) for address, message in sent] == [("n2:7101", call.id) for call in calls]
    assert all(message.budget_ms <= 4_500 for _, message in sent)


def test_without_any_link_the_call_fails_as_unreachable(a_world):
    world = a_world(["n1:7101"])
    call = world.put()
    for _ in range(60):
        for address in world.dialled():
            world.down(address)
        world.advance(0.1)
    error = error_of(world, call)
    assert isinstance(error, ConnectFailed)
    assert "n1:7101: Connection refused" in str(error)


def test_a_call_that_waits_for_room_in_a_window_is_sent_when_there_is_some(a_world):
    world = a_world(["n1:7101"]).settle("n1")
    value = b"x" * (1 << 20)
    calls = [world.put(f"key {i}", value) for i in range(20)]
    sent = [message for _, message in requests(world)]
    assert len(sent) == WINDOW_BYTES_MAX // len(value)
    for answered in range(4):
        world.hear("n1:7101", world.done(sent[answered]))
        (_, message), *more = requests(world)
        assert not more, "one leaves, one goes"
        sent.append(message)
    assert [message.id for message in sent] == [call.id for call in calls]


def test_a_call_that_never_gets_room_says_so(a_world):
    world = a_world(["n1:7101"]).settle("n1")
    for i in range(17):
        world.put(f"key {i}", b"x" * (1 << 20), timeout=60)
    late = world.put("late", timeout=2)
    world.advance(2.1)
    error = error_of(world, late)
    assert isinstance(error, RequestTimeout)
    assert "no node took the request" in str(error)
    assert not error.indeterminate


# ── time, cancelling ──


def test_a_call_ends_at_its_own_timeout(world):
    slow, fast = world.get(timeout=2), world.get(timeout=0.05)
    world.advance(0.06)
    assert world.finished() == [fast]
    assert isinstance(fast.error, RequestTimeout)
    world.advance(2)
    assert world.finished() == [slow]


def test_timers_that_end_many_calls_in_one_step_let_waiting_ones_go(a_world):
    world = a_world(["n1:7101"]).settle("n1")
    big = [world.put(f"key {i}", b"x" * (1 << 20), timeout=1) for i in range(16)]
    waiting = world.put("late", timeout=1)
    also = world.put("later", timeout=30)
    assert waiting.link is None
    world.advance(0.9)
    world.hear("n1:7101", world.members("n1"))
    world.advance(0.2)
    assert sorted(call.id for call in world.finished()) == [call.id for call in (*big, waiting)]
    assert isinstance(waiting.error, RequestTimeout)
    assert not waiting.error.indeterminate, "it was never sent"
    assert requests(world)[-1][1].id == also.id


def test_a_call_that_asks_nothing_is_held_until_somebody_concludes_it(a_world):
    world = a_world()
    opening = world.open()
    world.get()
    dispatch = world.session._dispatch
    assert dispatch.held() == [opening]
    dispatch.conclude(opening, None, world.now, world.out)
    assert dispatch.held() == []


def test_a_part_of_a_batch_tells_the_batch_of_its_end(world):
    batch = GetBatch(world.session, world.bucket, ["a"], now=world.now, timeout=1)
    batch.go_on(world.now, world.out)
    world.advance(1.1)
    assert world.finished() == [batch]
    assert isinstance(batch.result["a"].error, RequestTimeout)


def test_closing_says_which_writes_may_have_been_done(world):
    get, put = world.get(), world.put()
    world.session.close(world.now, world.out)
    assert isinstance(get.error, ConnectFailed)
    assert isinstance(put.error, QuorumNotMet)
    assert put.error.indeterminate


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_cancelled_call_has_no_result_and_its_answer_means_nothing(world, kind):
    call, other = begin(world, kind), begin(world, kind)
    (address, _), _ = requests(world)
    world.cancel(call)
    world.cancel(call)
    world.hear(address, world.found(call) if kind == "get" else world.done(call))
    world.advance(10)
    assert call not in world.finished()
    assert other.error is not None


def test_a_cancelled_call_gives_its_room_back(a_world):
    world = a_world(["n1:7101"]).settle("n1")
    big = [world.put(f"key {i}", b"x" * (1 << 20)) for i in range(16)]
    world.sent()
    waiting, cancelled = world.put("w"), world.put("c")
    world.cancel(cancelled)
    for call in big:
        world.cancel(call)
    assert [message.id for _, message in requests(world)] == [waiting.id]


def test_a_call_that_is_to_rest_first_is_sent_after_it(world):
    call = world.get(delay=0.2)
    world.advance(0.19)
    assert requests(world) == []
    world.advance(0.02)
    address, message = request(world)
    assert 4_700 <= message.budget_ms <= 4_800
    world.hear(address, world.found(message))
    assert world.finished() == [call]


# ── creating a bucket: a write that may be done twice ──


def creations(world):
    return [(address, m) for address, m in world.sent() if isinstance(m, CreateBucket)]


def test_a_creation_whose_link_breaks_is_sent_again_with_the_time_that_is_left(world):
    call = world.create_bucket()
    ((address, first),) = creations(world)
    world.advance(1)
    world.down(address, "reset")
    ((other, again),) = creations(world)
    assert other != address
    assert again == first._replace(budget_ms=again.budget_ms)
    assert again.budget_ms <= 4000
    world.hear(other, world.created(again))
    assert world.finished() == [call]
    assert call.result == {"n": 5, "r": "quorum", "w": "quorum", "kind": "siblings"}


@pytest.mark.parametrize("code", ["quorum", "storage"])
def test_what_a_creation_that_was_sent_twice_ends_with_is_indeterminate(world, code):
    call = world.create_bucket()
    ((address, _),) = creations(world)
    world.down(address, "reset")
    ((other, _),) = creations(world)
    world.advance(PATIENCE_S)
    world.hear(other, world.failed(call, code))
    error = error_of(world, call)
    assert isinstance(error, (QuorumNotMet, RequestTimeout))
    assert error.indeterminate


def test_a_creation_is_tried_elsewhere_only_after_a_quick_refusal(world):
    call = world.create_bucket()
    ((address, _),) = creations(world)
    world.hear(address, world.failed(call, "quorum"))
    ((other, _),) = creations(world)
    assert other != address
    world.advance(PATIENCE_S)
    world.hear(other, world.failed(call, "quorum"))
    error = error_of(world, call)
    assert isinstance(error, QuorumNotMet)
    assert not error.indeterminate


def test_a_creation_that_has_to_wait_is_asked_for_again(world):
    call = world.create_bucket()
    ((address, _),) = creations(world)
    world.hear(address, world.failed(call, "ring"))
    world.advance(1)
    ((address, again),) = creations(world)
    world.hear(address, world.created(again))
    assert world.finished() == [call]


def test_a_creation_that_is_never_answered_is_indeterminate(world):
    call = world.create_bucket()
    world.advance(5.1)
    error = error_of(world, call)
    assert isinstance(error, RequestTimeout)
    assert error.indeterminate
