"""News on datagrams: the least told first, never more than fits, never forever."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from dyno.config import DATAGRAM_BYTES_MAX
from dyno.protocol.gossip import GossipQueue, choose
from dyno.wire import datagram
from dyno.wire.doubts import Doubt, unpack_doubts
from dyno.wire.members import DEAD, JOINING, Member, pack_members, unpack_members
from dyno.wire.messages import Doubts, PingRequest
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


def test_where_some_do_not_fit_each_of_the_others_is_as_likely():
    random = Random(1)
    for count in (5, 100):
        members = [a_member(f"n{i}", liveness=DEAD if i % 2 else 0) for i in range(count)]
        chosen = [choose(random, members, 3, lambda member: member.liveness != DEAD) for _ in range(200)]
        assert {len({member.name for member in some}) for some in chosen} == {3}
        assert len({member.name for some in chosen for member in some}) == (count + 1) // 2
        assert not any(member.liveness for some in chosen for member in some)


def test_the_few_that_fit_among_very_many_are_found():
    members = [a_member(f"n{i}", liveness=0 if i == 7 else DEAD) for i in range(500)]
    assert choose(Random(1), members, 3, lambda member: member.liveness != DEAD) == [members[7]]


def test_a_record_that_must_be_told_goes_first_and_counts_for_nothing():
    queue = a_queue()
    assert queue.fill(members=9, first=a_member("n9")) == pack_members([a_member("n9")])
    queue = a_queue(a_member("n1"))
    for _ in range(2):
        assert queue.fill(members=9, first=a_member("n9")) == pack_members([a_member("n9"), a_member("n1")])
    assert queue.fill(members=9, first=a_member("n9")) == pack_members([a_member("n9")])


# ── doubts ──

DOUBT = Doubt("n2", a_member().start, 0, "n5")


def doubted(queue: GossipQueue, *beside: str) -> list[Doubt]:
    return unpack_doubts(queue.fill_both(*beside, members=9)[0])


def test_doubts_are_told_as_often_as_records_and_beside_them():
    queue = a_queue(a_member("n1"))
    queue.add_doubt(DOUBT)
    assert len(queue) == 2
    for _ in range(2):
        doubts, records = queue.fill_both(members=9)
        assert unpack_doubts(doubts) == [DOUBT]
        assert records == pack_members([a_member("n1")])
    assert queue.fill_both(members=9) == (b"", b"")


def test_a_later_doubt_about_a_member_replaces_the_one_before():
    queue = a_queue()
    queue.add_doubt(DOUBT)
    doubted(queue)
    queue.add_doubt(DOUBT._replace(accusers="n5,n6"))
    assert doubted(queue) == doubted(queue) == [DOUBT._replace(accusers="n5,n6")]
    assert doubted(queue) == []


def test_a_doubt_that_is_over_is_told_no_more():
    queue = a_queue()
    queue.add_doubt(DOUBT)
    queue.drop_doubt("n2")
    queue.drop_doubt("n2")
    assert len(queue) == 0
    queue.add_doubt(DOUBT)
    queue.clear()
    assert doubted(queue) == []


def test_doubts_leave_half_of_the_room_to_records_and_take_all_where_there_are_none():
    queue = a_queue()
    for number in range(100):
        queue.add_doubt(Doubt(f"n{number}", a_member().start, 0, "x" * 60))
    alone = len(queue.fill_both(members=9)[0])
    queue.add(a_member())
    doubts, records = queue.fill_both(members=9)
    assert 0.45 < len(doubts) / alone < 0.55
    assert records == pack_members([a_member()])


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


accused = st.builds(
    Doubt,
    names,
    st.just(a_member().start),
    st.integers(0, 1 << 62),
    st.lists(names, max_size=8, unique=True).map(",".join),
)


@settings(deadline=None, max_examples=100)
@given(st.lists(members, max_size=30), st.lists(accused, min_size=1, max_size=60), names)
def test_the_longest_datagram_of_doubts_still_fits(news, doubts, sender):
    queue = a_queue(*news)
    for doubt in doubts:
        queue.add_doubt(doubt)
    told_doubts, gossip = queue.fill_both(sender, members=9)
    message = Doubts(sender, told_doubts, gossip)
    assert len(datagram.encode(bytes(16), message)) <= DATAGRAM_BYTES_MAX
