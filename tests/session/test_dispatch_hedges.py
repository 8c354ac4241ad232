"""Late reads, and the budget that all further requests share."""

from __future__ import annotations

import pytest

from dyno.errors import InvalidRequest, Overloaded, RequestTimeout
from dyno.hedging.budget import EARNED_PER_FIRST, FLOOR_PER_S, TOKENS_AT_START
from dyno.session.dispatch import HEDGES_LEAVE
from dyno.session.links import HEDGE_MIN_S, PATIENCE_S
from dyno.session.paths import TOGETHER
from dyno.wire.messages import AskMembers, Get

STEP_S = 1 / 256  # of the timers


def requests(world):
    return world.requests()


def window(world):
    """Bytes that are charged to links."""
    return sum(link.unanswered_bytes for link in world.session._links._by_address.values())


def train(world, seconds=0.001, times=500):
    """Reads of the key are answered in so many seconds, until that is known."""
    for _ in range(times):
        world.get()
        ((address, message), *_) = requests(world)
        world.advance(seconds)
        world.hear(address, world.found(message))
    world.finished()
    world.sent()
    return address


@pytest.fixture
def quick(world):
    """The key's first primary answers in no time."""
    world.primary = train(world)
    return world


def hedged(world):
    """A read that is on two links: the call, the first address and the second."""
    call = world.get()
    ((first, _),) = requests(world)
    world.advance(HEDGE_MIN_S + STEP_S)
    ((second, again),) = requests(world)
    assert again.id == call.id
    assert again.budget_ms <= 4_990
    assert second != first
    return call, first, second


def test_a_read_later_than_usual_is_asked_at_another_primary_too(quick):
    call, _first, second = hedged(quick)
    quick.hear(second, quick.found(call, "quick"))
    assert quick.finished() == [call]
    assert call.result.value == "quick"
    assert window(quick) == 0


def test_the_late_answer_may_still_come_first(quick):
    call, first, second = hedged(quick)
    quick.hear(first, quick.found(call, "slow"))
    assert call.result.value == "slow"
    quick.hear(second, quick.found(call, "quick"))
    assert quick.finished() == [call]
    assert window(quick) == 0


def test_a_read_is_hedged_once(quick):
    call, _, _ = hedged(quick)
    quick.advance(PATIENCE_S / 2)
    assert requests(quick) == []
    quick.cancel(call)
    assert window(quick) == 0


def test_writes_and_looks_at_the_members_are_not_hedged(quick):
    quick.put()
    quick.delete()
    quick.status()
    quick.sent()
    quick.advance(PATIENCE_S / 2)
    assert quick.sent() == []


def test_a_link_is_given_the_time_that_it_usually_takes(world):
    address = train(world, 0.05)
    world.get()
    world.sent()
    world.advance(0.045)
    assert requests(world) == []
    world.advance(0.03)
    assert requests(world) != []
    assert 0.05 < world.session._links.get(address).usual.seconds < 0.09


def test_a_stop_says_nothing_of_what_is_usual(quick):
    calls = [quick.get() for _ in range(TOGETHER)]  # more would go to a second node
    quick.sent()
    quick.advance(HEDGE_MIN_S + STEP_S)
    assert len(requests(quick)) == len(calls)
    assert quick.session._links.get(quick.primary).usual.seconds < 0.015


@pytest.mark.parametrize("code", ["quorum", "storage", "overloaded", "ring"])
@pytest.mark.parametrize("which", [0, 1])
def test_a_refusal_of_one_leaves_the_other(quick, code, which):
    call, *addresses = hedged(quick)
    quick.hear(addresses[which], quick.failed(call, code, retry_after_ms=100))
    assert requests(quick) == []
    assert not quick.finished()
    quick.hear(addresses[which], quick.failed(call, code))
    assert not quick.finished(), "a second word of the same node means nothing"
    quick.hear(addresses[1 - which], quick.found(call, "there"))
    assert quick.finished() == [call]
    assert call.result.value == "there"
    assert window(quick) == 0


def test_refusals_of_both_are_tried_at_a_third(quick):
    call, *addresses = hedged(quick)
    for address in addresses:
        quick.hear(address, quick.failed(call, "quorum"))
    ((third, _),) = requests(quick)
    assert third not in addresses
    quick.hear(third, quick.found(call))
    assert quick.finished() == [call]
    assert window(quick) == 0


def test_what_is_invalid_for_one_is_invalid(quick):
    call, first, second = hedged(quick)
    quick.hear(second, quick.failed(call, "invalid"))
    assert quick.finished() == [call]
    assert isinstance(call.error, InvalidRequest)
    quick.hear(first, quick.found(call))
    assert window(quick) == 0


@pytest.mark.parametrize("which", [0, 1])
def test_a_link_that_breaks_takes_only_its_share(quick, which):
    call, *addresses = hedged(quick)
    quick.down(addresses[which], "reset")
    assert requests(quick) == []
    assert window(quick) == call.weight
    quick.hear(addresses[1 - which], quick.found(call, "there"))
    assert quick.finished() == [call]
    assert window(quick) == 0


def test_when_both_break_the_read_goes_to_the_third(quick):
    call, *addresses = hedged(quick)
    quick.down(addresses[0], "reset")
    quick.down(addresses[1], "reset")
    ((third, _),) = requests(quick)
    quick.hear(third, quick.found(call))
    assert quick.finished() == [call]
    assert window(quick) == 0


def test_a_silent_link_is_left_to_the_one_that_was_asked_too(quick):
    call, first, second = hedged(quick)
    quick.advance(PATIENCE_S + STEP_S)
    assert quick.session._links.get(first).unanswered_bytes == 0
    assert {type(message) for _, message in quick.sent()} == {AskMembers}
    quick.advance(PATIENCE_S + 2 * STEP_S)
    ((third, _),) = requests(quick)
    assert third not in (first, second), "it is silent as well"
    quick.hear(third, quick.found(call))
    assert window(quick) == 0


def test_the_timeout_ends_it_on_both(quick):
    call = quick.get(timeout=0.1)
    quick.advance(0.2)
    assert quick.finished() == [call]
    assert isinstance(call.error, RequestTimeout)
    assert window(quick) == 0


def test_the_end_of_the_client_ends_it_on_both(quick):
    call, _, _ = hedged(quick)
    quick.session.close(quick.now, quick.out)
    assert quick.finished() == [call]
    assert window(quick) == 0


def test_without_another_primary_nobody_overtakes(a_world):
    world = a_world(["n1:7101"]).settle("n1")
    train(world)
    world.get()
    world.sent()
    world.advance(PATIENCE_S / 2)
    assert world.sent() == []


def test_before_the_ring_is_known_any_other_node_may_overtake(a_world):
    world = a_world()
    world.open()
    for node in ("n1", "n2"):
        world.up(f"{node}:7101")
    world.get()
    world.get()
    world.sent()
    world.advance(PATIENCE_S + STEP_S)
    again = requests(world)
    assert len({address for address, _ in again}) == 1
    assert len(again) == 2


# ── the budget ──


def test_hedges_leave_some_tokens_to_retries(quick):
    tokens = TOKENS_AT_START + 502 * EARNED_PER_FIRST  # the earlier calls earned some
    for _ in range(400):
        quick.get()
    tokens += 400 * EARNED_PER_FIRST
    quick.sent()
    quick.advance(HEDGE_MIN_S + STEP_S)
    made = len(requests(quick))
    assert tokens - HEDGES_LEAVE - 2 <= made <= tokens - HEDGES_LEAVE + 1


def test_without_a_token_a_retry_waits_and_is_no_error(world):
    calls = [world.put(timeout=60) for _ in range(300)]
    for address, message in requests(world):
        world.hear(address, world.failed(message, "overloaded", retry_after_ms=10))
    world.serve(lambda _address, message: world.done(message))
    assert all(call.error is None for call in calls)
    assert window(world) == 0


def test_retries_that_succeed_pay_for_those_that_wait(world):
    """After a trouble of all calls at once, they need not come one by one at the rate of the floor."""
    calls = [world.get(timeout=30) for _ in range(1000)]
    for address in ("n1:7101", "n2:7101", "n3:7101"):
        world.down(address, "reset")
    assert requests(world) == []
    world.advance(10)
    world.dialled()
    began = world.now
    world.up("n2:7101")
    while len(world.out.finished) < len(calls):
        for address, message in requests(world):
            world.hear(address, world.found(message))
        world.advance(0.005)
    assert all(call.error is None for call in calls)
    assert world.now - began < 2


@pytest.mark.parametrize("code", ["ring", "overloaded"])
def test_after_a_short_trouble_that_used_up_the_tokens_all_go_on(world, code):
    calls = [world.put(f"key {number}") for number in range(1000)]
    began = world.now

    def answer(_address, message):
        if world.now < began + 0.3:
            return world.failed(message, code, retry_after_ms=100)
        return world.done(message)

    world.serve(answer)
    assert all(call.error is None for call in calls)
    assert world.now - began < 3


def test_what_waits_for_a_token_can_be_cancelled_closed_and_timed_out(world):
    calls = [world.put(timeout=2) for _ in range(300)]
    for address, message in requests(world):
        world.hear(address, world.failed(message, "ring"))
    world.advance(0.2)
    saving = list(world.session._dispatch._saving.values())
    assert saving
    world.cancel(saving[0])
    assert saving[0].id not in world.session._dispatch._saving
    world.advance(2)
    ended = world.finished()
    assert saving[0] not in ended
    assert all(isinstance(call.error, RequestTimeout) for call in ended)
    assert len(ended) == len(calls) - 1
    assert not world.session._dispatch._saving
    assert window(world) == 0
    requests(world)  # nobody is silent any more
    for _ in range(300):
        world.get()
    for address, message in requests(world):
        world.hear(address, world.failed(message, "ring"))
    world.advance(0.2)
    assert world.session._dispatch._saving
    world.sent()
    world.session.close(world.now, world.out)
    assert len(world.finished()) == 300
    assert requests(world) == []


def test_a_token_that_was_not_used_is_given_back(a_world):
    world = a_world(["n1:7101"]).settle("n1")
    budget = world.session._dispatch._budget
    call = world.get()
    world.sent()
    before = budget._tokens + budget.firsts * EARNED_PER_FIRST - budget._seen * EARNED_PER_FIRST
    world.down("n1:7101", "reset")
    world.cancel(call)
    assert budget._tokens == pytest.approx(before, abs=0.01)


def test_the_token_of_a_repeated_write_that_is_lost_is_spent(world):
    budget = world.session._dispatch._budget
    world.put()
    ((address, _),) = requests(world)
    world.down(address, "reset")
    ((address, _),) = requests(world)
    before = budget._tokens
    world.down(address, "reset")
    assert len(requests(world)) == 1
    assert budget._tokens == before - 1


def test_a_silent_node_is_left_only_for_a_token(world):
    calls = [world.get() for _ in range(150)]
    world.sent()
    for _ in range(int(TOKENS_AT_START)):
        world.session._dispatch._budget.take(world.now)
    world.advance(PATIENCE_S + 2 * STEP_S)
    moved = len(requests(world))
    assert 0 < moved <= 150 * EARNED_PER_FIRST + FLOOR_PER_S
    assert all(call.id in world.session._dispatch.calls for call in calls)


def test_a_read_that_waits_for_a_token_in_vain_says_so(world):
    calls = {call.id: call for call in (world.get(f"key {number}", timeout=2) for number in range(600))}
    for address, get in world.sent(Get):
        if address != "n1:7101":
            world.hear(address, world.found(get))
            del calls[get.id]
    for _ in range(int(TOKENS_AT_START)):
        world.session._dispatch._budget.take(world.now)
    world.down("n1:7101", "reset")

    def had_a_token(_address, get) -> None:
        calls.pop(get.id, None)

    world.serve(had_a_token)
    assert len(calls) > 50
    for call in calls.values():
        assert isinstance(call.error, RequestTimeout)
        assert not call.error.indeterminate
        assert "so many calls had to be sent again" in str(call.error)


def test_of_many_reads_at_a_silent_node_none_waits_for_it_in_vain(world):
    calls = [world.get(f"key {number}", timeout=2) for number in range(1500)]
    world.serve(lambda address, message: None if address == "n1:7101" else world.found(message))
    assert all(call.error is None for call in calls)


@pytest.mark.parametrize("callers", [64, 256])
@pytest.mark.parametrize("bad", [["n1"], ["n1", "n2", "n3"]])
@pytest.mark.parametrize("how", ["overloaded", "ring", "silent", "reset"])
def test_trouble_is_never_answered_with_a_storm(world, callers, bad, how):
    """As many callers as that begin a new read as soon as one has ended, for some seconds."""
    bad = [f"{name}:7101" for name in bad]
    began, sent, firsts, answered = world.now, 0, 0, 0
    under_way: dict[int, object] = {}
    while world.now - began < 3:
        for _ in range(callers - len(under_way)):
            call = world.get(f"key {firsts % 97}", timeout=2)
            under_way[call.id] = call
            firsts += 1
        for address, message in world.sent():
            if isinstance(message, AskMembers):
                if address not in bad or how != "silent":
                    world.hear(address, world.members("n1", "n2", "n3", id=message.id))
                continue
            sent += 1
            if address not in bad:
                world.hear(address, world.found(message))
            elif how == "reset":
                world.down(address, "reset")
            elif how != "silent":
                world.hear(address, world.failed(message, how, retry_after_ms=100))
        for address in world.dialled():
            world.up(address)
        world.dropped()
        for call in world.finished():
            del under_way[call.id]
            answered += call.error is None
            assert call.error is None or isinstance(call.error, Overloaded | RequestTimeout)
        world.advance(0.01)
    assert sent <= 1.2 * firsts + TOKENS_AT_START + FLOOR_PER_S * (world.now - began)
    if len(bad) == 1:
        assert answered >= 0.9 * (firsts - len(under_way)), "most were not even touched"
