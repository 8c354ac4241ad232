"""Which nodes own a key."""

from __future__ import annotations

import pytest

from dyno.placement.hashing import Keyspace, bucket_id
from dyno.placement.table import Seat, build
from dyno.session.routing import Routing
from dyno.wire.codec import ProtocolError
from dyno.wire.members import DEAD, JOINING, LEAVING, LEFT, SUSPECT

NAMES = ("n1", "n2", "n3", "n4", "n5")


@pytest.fixture
def routing(world):
    routing = Routing()
    routing.learn(world.members(*NAMES))
    return routing


def names(members):
    return [member.name for member in members]


def test_nothing_is_known_before_a_node_said_anything():
    assert not Routing().known
    assert Routing().partitions == 0


def test_keys_go_where_the_nodes_place_them(world, routing):
    assert routing.known
    assert routing.partitions == 64
    seats = [Seat(m.seat, m.zone, m.weight) for m in map(world.member, NAMES)]
    table, keyspace = build(seats, 64), Keyspace(world.CLUSTER, 64)
    for number in range(50):
        key = b"key %d" % number
        partition = keyspace.partition(bucket_id("carts"), key)
        assert routing.partition(bucket_id("carts"), key) == partition
        owners = [table.seats[seat].id.rstrip(b"s").decode() for seat in table.owners(partition, 3)]
        assert names(routing.primaries(partition)) == owners


def test_the_living_come_before_the_suspect_and_the_dead_are_not_asked(world, routing):
    first, second, third = names(routing.primaries(7))
    facts = {first: SUSPECT, second: DEAD}
    told = [world.member(name, liveness=facts.get(name, 0)) for name in NAMES]
    assert routing.learn(world.members(*told))
    assert names(routing.primaries(7)) == [third, first]


def test_the_same_news_are_no_news(world, routing):
    assert not routing.learn(world.members(*NAMES, id=17))


def test_the_table_is_kept_while_only_liveness_changes(world, routing):
    table = routing.table()
    assert routing.learn(world.members(*NAMES[:4], world.member("n5", liveness=SUSPECT, address="n5:9")))
    assert routing.table() is table
    assert routing.learn(world.members(*NAMES[:4], ring=2))
    assert routing.table() is not table
    assert len(routing.table().seats) == 4


def test_who_is_not_in_the_ring_owns_nothing(world, routing):
    told = ["n1", world.member("n2", state=LEAVING), world.member("n3", state=JOINING)]
    routing.learn(world.members(*told, world.member("n4", state=LEFT), ring=2))
    assert names(routing.members) == ["n1", "n2", "n3", "n4"]
    assert sorted(names(routing.primaries(0))) == ["n1", "n2"]


def test_of_two_records_of_a_name_the_seated_one_counts(world, routing):
    joining = world.member("n1", state=JOINING, start=b"newstart", stamp=2)
    for told in (["n1", joining, "n2"], [joining, "n1", "n2"]):
        routing.learn(world.members(*told, ring=3))
        assert [(m.name, m.stamp) for m in routing.members] == [("n1", 1), ("n2", 1)]


def test_a_cluster_without_members_has_no_primaries(world):
    routing = Routing()
    routing.learn(world.members())
    assert routing.primaries(0) == []


@pytest.mark.parametrize("partitions", [0, (1 << 16) + 1])
def test_impossible_partitions_are_refused(world, routing, partitions):
    with pytest.raises(ProtocolError, match="partitions"):
        routing.learn(world.members(*NAMES, partitions=partitions))


def test_two_members_in_one_seat_are_refused_and_nothing_changes(world, routing):
    with pytest.raises(ProtocolError, match="one seat"):
        routing.learn(world.members("n1", world.member("n2", seat=world.member("n1").seat), ring=2))
    assert names(routing.members) == list(NAMES)
    with pytest.raises(ProtocolError):
        routing.learn(world.members("n1")._replace(members=b"nonsense"))
