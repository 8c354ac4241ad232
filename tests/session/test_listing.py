"""A walk over all keys of a bucket: in order, each once, and never many at a time."""

from __future__ import annotations

import pytest

from dyno.errors import ConnectFailed, InvalidRequest, Overloaded, QuorumNotMet, RequestTimeout
from dyno.session import session
from dyno.session.listing import AHEAD_MAX, Listing
from dyno.wire.messages import ALL, DEFAULT, AskMembers, Failed, Get, Listed, ListKeys
from dyno.wire.pages import PAGE_KEYS_MAX, pack_keys


def key_of(partition: int, page: int = 0, number: int = 0) -> str:
    return f"{partition}/{page}/{number}"


class Walk:
    """A world, and the walk in it. pages: how many each partition has, of two keys each."""

    def __init__(self, world, *, pages=lambda partition: 1, **options) -> None:
        self.world = world
        self.pages = pages
        self.listing = Listing(world.session, world.bucket, **options)
        self.asked: list[ListKeys] = []
        self.unanswered: list[tuple[str, ListKeys]] = []

    def next_call(self):
        call = self.listing.next_call(self.world.now, self.world.out)
        self.look()
        return call

    def look(self) -> None:
        """What was asked since the last look."""
        sent = self.world.sent(ListKeys)
        self.unanswered += sent
        self.asked += [request for _, request in sent]

    def answer(self, request: ListKeys, address: str) -> None:
        page = int.from_bytes(request.after, "big")
        keys = [key_of(request.partition, page, number).encode() for number in range(2)]
        more = page + 1 < self.pages(request.partition)
        cursor = (page + 1).to_bytes(16, "big") if more else b""
        self.world.hear(address, Listed(request.id, pack_keys(keys), cursor))

    def answer_all(self) -> None:
        unanswered, self.unanswered = self.unanswered, []
        for address, request in unanswered:
            self.answer(request, address)
        self.world.finished()

    def take(self, call):
        keys = self.listing.take(call, self.world.now, self.world.out)
        self.look()
        return keys

    def all(self) -> list[str]:
        found = []
        while (call := self.next_call()) is not None:
            self.answer_all()
            found += self.take(call)
        return found

    def under_way(self) -> int:
        return len(self.world.session._dispatch.calls)


def expected(pages=lambda partition: 1, partitions: int = 64) -> list[str]:
    return [
        key_of(partition, page, number)
        for partition in range(partitions)
        for page in range(pages(partition))
        for number in range(2)
    ]


def test_every_partition_is_walked_in_order_to_its_end(world):
    def pages(partition):
        return 1 + partition % 3

    assert Walk(world, pages=pages).all() == expected(pages)
    assert world.finished() == []


def test_a_cluster_without_keys_has_empty_pages(world):
    walk = Walk(world)
    walk.answer = lambda request, address: world.hear(address, Listed(request.id, b"", b""))
    assert walk.all() == []
    assert len(walk.asked) == 64


def test_pages_are_asked_ahead_but_never_many(world):
    """At most AHEAD_MAX pages are under way or wait here, however long nobody takes any."""
    walk = Walk(world, pages=lambda partition: 5)
    most = 0
    call = walk.next_call()
    while call is not None:
        walk.answer_all()
        assert walk.next_call() is call, "it is not asked again"
        held = [lane.call for lane in walk.listing._lanes if lane.call is not None]
        assert len(held) <= AHEAD_MAX
        assert walk.unanswered == []
        most = max(most, len(held))
        walk.take(call)
        assert walk.under_way() <= AHEAD_MAX
        call = walk.next_call()
    assert most == AHEAD_MAX
    assert all(request.limit == PAGE_KEYS_MAX for request in walk.asked)
    assert len(walk.asked) == 5 * 64


def test_pages_that_come_in_any_order_are_taken_in_order(world):
    walk = Walk(world)
    call = walk.next_call()
    for address, request in reversed(walk.unanswered):
        walk.answer(request, address)
    walk.unanswered.clear()
    assert walk.take(call) == [key_of(0), key_of(0, 0, 1)]
    assert walk.all() == expected()[2:]


def test_the_options_travel_with_every_page(a_world):
    world = a_world().settle()
    walk = Walk(world, r=1, pr=0, timeout=2)
    walk.all()
    assert {(request.bucket, request.r, request.pr, request.budget_ms) for request in walk.asked} == {
        ("carts", 1, 0, 2000)
    }
    walk = Walk(world, r="all")
    walk.next_call()
    assert (walk.asked[0].r, walk.asked[0].pr, walk.asked[0].budget_ms) == (ALL, DEFAULT, 5000)


@pytest.mark.parametrize("options", [{"r": 0}, {"r": "most"}, {"pr": -1}, {"timeout": 0}])
def test_what_cannot_be_right_is_refused_before_anything_is_asked(world, options):
    with pytest.raises(InvalidRequest):
        Listing(world.session, world.bucket, **options)
    assert world.sent() == []


def test_pages_go_to_an_owner_of_their_partition(a_world):
    names = ("n1", "n2", "n3", "n4", "n5")
    world = a_world([f"{name}:7101" for name in names]).settle(*names, members=a_world().members(*names))
    walk = Walk(world)
    call = walk.next_call()
    routing = world.session._routing
    for address, request in walk.unanswered:
        assert address == routing.primaries(request.partition)[0].address
    assert call is not None


# ── before the members are known ──


def test_the_partitions_are_learned_first(a_world):
    world = a_world()
    world.open()
    world.up("n1:7101")
    walk = Walk(world)
    call = walk.listing.next_call(world.now, world.out)
    assert walk.listing.next_call(world.now, world.out) is call
    question = world.sent(AskMembers)[-1][1]
    assert question.id == call.id
    world.hear("n1:7101", world.members("n1", "n2", "n3", id=call.id, partitions=4))
    assert walk.take(call) == []
    assert walk.all() == expected(partitions=4)


def test_partitions_that_nobody_tells_are_an_error_and_asked_again(a_world):
    world = a_world()
    world.open()
    world.up("n1:7101")
    walk = Walk(world, timeout=2)
    call = walk.listing.next_call(world.now, world.out)
    world.advance(2.1)
    with pytest.raises(RequestTimeout):
        walk.take(call)
    again = walk.listing.next_call(world.now, world.out)
    assert again is not call
    walk.listing.drop(again, world.now, world.out)
    assert walk.under_way() == 0
    assert walk.listing.next_call(world.now, world.out) not in (None, again)
    walk.listing.close(world.now, world.out)
    assert walk.under_way() == 0


# ── what fails ──


def failed(request: ListKeys, code: str) -> Failed:
    return Failed(request.id, code, f"the reason for {code}", 2, "", False, 0, b"")


def test_a_page_that_fails_is_asked_elsewhere(world):
    walk = Walk(world)
    call = walk.next_call()
    address, request = walk.unanswered.pop(0)
    world.hear(address, failed(request, "quorum"))
    walk.look()
    other, again = walk.unanswered[-1]
    assert other != address
    assert again[:5] == request[:5], "the same page"
    walk.answer_all()
    assert walk.take(call) == expected()[:2]
    assert walk.all() == expected()[2:]


def test_a_page_whose_link_breaks_is_asked_elsewhere_and_shows_once(world):
    walk = Walk(world)
    call = walk.next_call()
    address, request = walk.unanswered[0]
    world.down(address)
    walk.look()
    world.hear(address, Listed(request.id, pack_keys([b"late"]), b""))
    walk.unanswered = [(other, again) for other, again in walk.unanswered if other != address]
    walk.answer_all()
    assert walk.take(call) == expected()[:2]
    assert walk.all() == expected()[2:]


def test_a_repeated_answer_is_one_page(world):
    walk = Walk(world, pages=lambda partition: 2)
    call = walk.next_call()
    first = list(walk.unanswered)
    walk.answer_all()
    for address, request in first:
        walk.answer(request, address)
    assert walk.take(call) == expected(lambda partition: 2)[:2]
    assert walk.all() == expected(lambda partition: 2)[2:]


def test_an_error_is_raised_in_its_turn_and_the_walk_may_go_on(world):
    walk = Walk(world, r=3)
    call = walk.next_call()
    for _ in range(3):  # everywhere
        address, request = next(each for each in walk.unanswered if each[1].partition == 0)
        walk.unanswered.remove((address, request))
        world.hear(address, failed(request, "quorum"))
        walk.look()
    with pytest.raises(QuorumNotMet):
        walk.take(call)
    assert walk.all() == expected()


def test_an_error_of_long_ago_is_asked_about_again(world):
    """The page of a later partition fails while a slow consumer is still busy with the first."""
    walk = Walk(world, timeout=1)
    call = walk.next_call()
    walk.answer(walk.unanswered[0][1], walk.unanswered[0][0])
    walk.unanswered.clear()
    world.advance(1.5)
    assert walk.under_way() == 0
    assert walk.take(call) == expected()[:2]
    assert walk.all() == expected()[2:]


def test_the_time_of_a_page_that_was_asked_ahead_begins_when_it_is_waited_for(world):
    walk = Walk(world, timeout=1)
    call = walk.next_call()
    world.advance(0.9)
    walk.look()
    walk.answer(*reversed(walk.unanswered[0]))
    walk.unanswered.clear()
    assert walk.take(call) == expected()[:2]
    call = walk.next_call()
    world.advance(0.2)
    assert isinstance(call.error, RequestTimeout)
    assert walk.take(call) == []
    call = walk.next_call()
    assert call.error is None
    assert call.request.partition == 1
    world.advance(0.9)
    assert call.error is None
    world.advance(0.2)
    with pytest.raises(RequestTimeout):
        walk.take(call)


def test_a_page_has_its_own_timeout(world):
    walk = Walk(world, timeout=1)
    found = []
    for _ in range(5):
        call = walk.next_call()
        world.advance(0.9)
        walk.look()
        walk.answer_all()
        found += walk.take(call)
    assert found == expected()[:10]
    late = Walk(world, timeout=1)
    call = late.next_call()
    world.advance(1.1)
    with pytest.raises(RequestTimeout):
        late.take(call)


def test_a_client_that_goes_away_ends_the_walk(world):
    walk = Walk(world)
    call = walk.next_call()
    world.session.close(world.now, world.out)
    with pytest.raises(ConnectFailed):
        walk.take(call)


def test_a_session_that_is_full_puts_off_what_is_only_ahead(world, monkeypatch):
    monkeypatch.setattr(session, "CALLS_MAX", 3)
    walk = Walk(world)
    assert walk.all() == expected()
    walk = Walk(world)
    others = [world.get(f"key {number}") for number in range(3)]
    with pytest.raises(Overloaded):
        walk.next_call()
    for address, request in world.sent(Get):
        world.hear(address, world.found(request))
    assert len(others) == 3
    assert walk.all() == expected()


# ── what is not wanted any more ──


def test_what_was_dropped_is_asked_again_and_nothing_is_lost(world):
    walk = Walk(world)
    call = walk.next_call()
    walk.listing.drop(call, world.now, world.out)
    walk.listing.drop(call, world.now, world.out)
    assert walk.under_way() == AHEAD_MAX - 1
    assert walk.next_call() is not call
    assert walk.all() == expected()


def test_a_closed_walk_leaves_nothing_under_way(world):
    walk = Walk(world)
    walk.next_call()
    assert walk.under_way() == AHEAD_MAX
    walk.listing.close(world.now, world.out)
    assert walk.under_way() == 0
    assert walk.next_call() is None
    walk.listing.close(world.now, world.out)
    walk.answer_all()  # late
    assert world.finished() == []


def test_a_page_that_came_just_before_the_walk_was_closed_is_not_taken(world):
    walk = Walk(world)
    call = walk.next_call()
    walk.answer_all()
    assert call.result is not None
    walk.listing.close(world.now, world.out)
    assert walk.take(call) == []
    assert walk.next_call() is None
