"""News on datagrams: the least told first, never more than fits, never forever."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from dyno.config import DATAGRAM_BYTES_MAX
from dyno.protocol.gossip import GossipQueue, choose
from dyno.wire import datagram
from dyno.wire.members import JOINING, Member, unpack_members
from dyno.wire.messages import PingRequest
from tests.protocol.membership_harness import a_member


def told(queue: GossipQueue, *beside: str, members: int = 9) -> list[str]:
    packed = queue.fill(*beside, members=members)
    return [record.name for record in unpack_members(packed, members_max=100)]


def a_queue(*records: Member) -> GossipQueue:
    queue = GossipQueue(retransmit_mult=2)
    for record in records:
        queue.add(record)
    return queue


def test_an_empty_queue_tells_nothing():
    queue = a_queue()
    assert len(queue) == 0
    assert queue.fill(members=9) == b""


def test_news_is_told_mult_times_the_logarithm_of_the_cluster():
    for members, times in ((1, 2), (9, 2), (10, 4), (999, 6)):
        queue = a_queue(a_member())
        for _ in range(times):
            assert told(queue, members=members) == ["n2"]
        assert queue.fill(members=members) == b""
        assert len(queue) == 0


def test_what_was_told_least_goes_first_and_of_that_the_newest():
    queue = a_queue(a_member("n1"), a_member("n2"))
    assert told(queue) == ["n2", "n1"]
    queue.add(a_member("n3"))
    assert told(queue) == ["n3", "n1", "n2"]


def test_newer_news_of_a_member_replaces_older_and_starts_anew():
    queue = a_queue(a_member("n1"), a_member("n2"))
    told(queue)
    queue.add(a_member("n1", incarnation=1))
    records = unpack_members(queue.fill(members=9), members_max=9)
    assert records == [a_member("n1", incarnation=1), a_member("n2")]
    assert told(queue) == ["n1"]


def test_a_seat_and_a_claim_to_it_are_two_pieces_of_news():
    queue = a_queue(a_member(), a_member(state=JOINING, stamp=2))
    assert len(queue) == 2


def test_where_there_is_no_room_nothing_is_told_and_nothing_counted():
    queue = a_queue(a_member())
    assert queue.fill("x" * 1300, members=9) == b""
    assert told(queue) == told(queue) == ["n2"]


def test_a_record_too_large_for_the_room_lets_a_smaller_one_pass():
    queue = a_queue(a_member("n1"), a_member("n2", zone="z" * 64, address="a" * 200 + ":1"))
    assert told(queue, "x" * 1150) == ["n1"]


def test_what_nobody_is_left_to_hear_is_dropped():
    queue = a_queue(a_member())
    queue.clear()
    assert len(queue) == 0
    assert queue.fill(members=9) == b""


def test_some_are_chosen_from_many_and_all_from_few():
    members = [a_member(f"n{i}") for i in range(5)]
    chosen = choose(Random(1), members, 3)
    assert len(set(chosen)) == 3
    assert choose(Random(1), members, 5) == members


names = st.text("abc.-_XYZ019", min_size=1, max_size=64)
members = st.builds(
    a_member,
    names,
    stamp=st.integers(0, 1 << 62),
    incarnation=st.integers(0, 1 << 62),
    zone=st.text("zäé€", max_size=64),
    address=st.text("abc", min_size=1, max_size=100).map(lambda host: f"{host}:65535"),
)


@settings(deadline=None, max_examples=100)
@given(st.lists(members, max_size=30), names, names, members)
def test_the_longest_datagram_with_gossip_aboard_still_fits(news, target, sender, relay):
    queue = a_queue(*news)
    gossip = queue.fill(target, sender, relay.address, members=9)
    request = PingRequest((1 << 64) - 1, target, bytes(8), relay.address, sender, gossip)
    assert len(datagram.encode(bytes(16), request)) <= DATAGRAM_BYTES_MAX
