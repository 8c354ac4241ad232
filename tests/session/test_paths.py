"""Over which link a call goes."""

from __future__ import annotations

from collections import Counter

from dyno.session.paths import TOGETHER
from dyno.wire.members import DEAD, SUSPECT
from dyno.wire.messages import Get, ListKeys, Put

FIVE = ("n1", "n2", "n3", "n4", "n5")


def owners(world, key: str) -> list[str]:
    """The primaries of a key, as the session sees them."""
    routing = world.session._routing
    partition = routing.partition(world.bucket.id, key.encode())
    return [member.name for member in routing.primaries(partition)]


def target(world, key: str) -> str:
    """Where a lone read goes."""
    call = world.get(key)
    ((address, _),) = world.sent(Get)
    world.cancel(call)
    return address.split(":")[0]


def test_every_key_goes_to_its_first_primary(a_world):
    world = a_world([f"{name}:7101" for name in FIVE])
    world.settle(*FIVE, members=world.members(*FIVE))
    targets = [target(world, f"key {i}") for i in range(60)]
    assert targets == [owners(world, f"key {i}")[0] for i in range(60)]
    assert sorted(dict.fromkeys(targets)) == list(FIVE), "and so the load is spread"


def test_reads_of_one_turn_travel_together_and_those_of_the_next_go_to_the_least_busy(world):
    for i in range(TOGETHER):
        world.get(f"key {i}")
    first = dict.fromkeys(address for address, _ in world.sent(Get))
    assert len(first) == 1
    for i in range(TOGETHER):
        world.get(f"key {i}")
    second = dict.fromkeys(address for address, _ in world.sent(Get))
    assert len(second) == 1
    assert first != second


def test_more_than_fit_together_are_spread_in_one_turn(world):
    for i in range(3 * TOGETHER):
        world.get(f"key {i}")
    counts = Counter(address for address, _ in world.sent(Get))
    assert dict(counts) == dict.fromkeys(["n1:7101", "n2:7101", "n3:7101"], TOGETHER)


def test_nobody_travels_to_a_node_that_has_not_its_key(a_world):
    world = a_world([f"{name}:7101" for name in FIVE])
    world.settle(*FIVE, members=world.members(*FIVE))
    for i in range(60):
        world.get(f"key {i}")
    for address, get in world.sent(Get):
        assert address.split(":")[0] in owners(world, get.key.decode())


def test_a_busy_company_is_left_for_another_primary(world):
    world.get("key 0")
    ((address, _),) = world.sent(Get)
    world.get("key 1")
    ((other, _),) = world.out.sends[:1]
    assert other != address, "the next turn looks anew"
    world.session._links.get(other).fall_silent(world.now)
    world.get("key 2")
    assert [to for to, _ in world.sent(Get)][-1] != other


def grouped(world, keys: list[bytes]) -> dict[str | None, list[bytes]]:
    groups = world.session._paths.grouped(world.bucket.id, keys, world.now, world.out)
    return {link and link.name: group for link, group in groups}


def test_keys_are_grouped_by_the_nodes_that_have_most_of_them(a_world):
    world = a_world([f"{name}:7101" for name in FIVE])
    world.settle(*FIVE, members=world.members(*FIVE))
    keys = [b"key %d" % number for number in range(60)]
    groups = grouped(world, keys)
    assert [len(group) for group in groups.values()] == sorted(map(len, groups.values()), reverse=True)
    assert sorted(key for group in groups.values() for key in group) == sorted(keys)
    for name, group in groups.items():
        assert all(name in owners(world, key.decode()) for key in group)
    assert grouped(world, []) == {}


def test_of_nodes_that_have_all_keys_the_least_busy_one_is_chosen(world):
    keys = [b"key %d" % number for number in range(10)]
    (first,) = grouped(world, keys)
    world.session._links.get(f"{first}:7101").charge(1000)
    (second,) = grouped(world, keys)
    assert second != first


def test_keys_whose_nodes_are_not_ready_are_for_whoever_can_take_them(a_world):
    world = a_world([f"{name}:7101" for name in FIVE])
    world.settle(*FIVE, members=world.members(*FIVE))
    gone = owners(world, "key")
    for name in gone:
        world.down(f"{name}:7101")
    assert grouped(world, [b"key"]) == {None: [b"key"]}
    others = [key for key in map(b"key %d".__mod__, range(60)) if grouped(world, [key]).keys() != {None}]
    groups = grouped(world, [b"key", *others])
    assert groups[None] == [b"key"]
    assert len(groups) > 1


def test_two_members_under_one_address_are_one_link_to_many_keys(a_world):
    world = a_world(["n1:7101"])
    world.settle("n1", members=world.members("n1", world.member("n2", address="n1:7101")))
    keys = [b"key %d" % number for number in range(300)]
    assert grouped(world, keys).keys() == {"n1"}


def test_without_members_keys_are_not_grouped(a_world):
    world = a_world()
    assert grouped(world, [b"a", b"b"]) == {None: [b"a", b"b"]}
    assert grouped(world, []) == {}


def test_writes_go_to_the_first_primary_however_busy_it_is(world):
    for i in range(60):
        world.put(f"key {i}")
    for address, put in world.sent(Put):
        assert address.split(":")[0] == owners(world, put.key.decode())[0]


def test_the_first_call_goes_to_whoever_is_there_and_builds_no_table(a_world):
    world = a_world()
    world.open()
    world.up("n2:7101")
    world.tell(world.members("n1", "n2", "n3"))
    assert target(world, "alice") == "n2"
    assert world.session._routing._table is None
    target(world, "alice")
    assert world.session._routing._table is not None


def test_without_members_any_node_will_do(a_world):
    world = a_world()
    world.open()
    world.up("n2:7101")
    assert [target(world, "alice"), target(world, "alice")] == ["n2", "n2"]


def test_a_primary_without_a_link_is_dialled_while_another_one_is_asked(a_world):
    world = a_world(["n1:7101"])
    world.settle("n1", members=world.members(*FIVE))
    key = next(f"key {i}" for i in range(99) if "n1" not in owners(world, f"key {i}"))
    assert target(world, key) == "n1", "which passes it on"
    assert world.dialled() == [f"{name}:7101" for name in owners(world, key)]
    world.up(f"{owners(world, key)[1]}:7101")
    assert target(world, key) == owners(world, key)[1]
    world.up(f"{owners(world, key)[0]}:7101")
    assert target(world, key) == owners(world, key)[0]
    assert world.dialled() == []


def test_a_suspect_primary_comes_after_the_living_and_a_dead_one_is_not_asked(a_world):
    world = a_world([f"{name}:7101" for name in FIVE])
    world.settle(*FIVE, members=world.members(*FIVE))
    first, second, third = owners(world, "alice")
    states = {first: SUSPECT, second: DEAD}
    world.status()
    world.sent()
    told = [world.member(name, liveness=states.get(name, 0)) for name in FIVE]
    world.hear("n1:7101", world.members(*told))
    assert target(world, "alice") == third
    world.down(f"{third}:7101")
    world.sent()
    assert target(world, "alice") == first
    world.down(f"{first}:7101")
    world.sent()
    assert target(world, "alice") not in (first, second, third), "any other one passes it on"


def test_a_restarted_node_is_found_at_its_new_address(world):
    first, *others = owners(world, "alice")
    world.down(f"{first}:7101")
    moved = world.member(first, address="elsewhere:9", stamp=2)
    world.hear(f"{others[0]}:7101", world.members(moved, *others, ring=1))
    world.sent()
    assert target(world, "alice") == others[0]
    assert world.dialled() == ["elsewhere:9"]
    world.up("elsewhere:9", name=first)
    assert target(world, "alice") == "elsewhere"


def test_a_page_of_keys_goes_to_the_first_primary_of_its_partition(a_world):
    world = a_world([f"{name}:7101" for name in FIVE])
    world.settle(*FIVE, members=world.members(*FIVE))
    for partition in range(20):
        world.session.list_keys(
            world.bucket, partition, b"", r=1, pr=0, timeout=1.0, now=world.now, out=world.out
        )
        ((address, _),) = world.sent(ListKeys)
        assert address == world.session._routing.primaries(partition)[0].address


def test_a_spared_primary_is_asked_before_somebody_who_would_only_ask_it(a_world):
    world = a_world([f"{name}:7101" for name in FIVE])
    world.settle(*FIVE, members=world.members(*FIVE))
    first, second, third = owners(world, "alice")
    links = {name: world.session._links.get(f"{name}:7101") for name in FIVE}
    links[first].spare(world.now + 5)
    assert target(world, "alice") == second
    links[second].spare(world.now + 5)
    links[third].spare(world.now + 5)
    assert target(world, "alice") == first


def test_only_another_primary_overtakes(a_world):
    world = a_world([f"{name}:7101" for name in FIVE])
    world.settle(*FIVE, members=world.members(*FIVE))
    first, second, third = owners(world, "alice")
    links = {name: world.session._links.get(f"{name}:7101") for name in FIVE}
    call = world.get("alice")
    overtaking = world.session._paths.overtaking
    assert overtaking(call, links[first]) is links[second]
    call.troubled().tried.append(links[second])
    assert overtaking(call, links[first]) is links[third]
    links[third].fall_silent(world.now)
    assert overtaking(call, links[first]) is None


def test_before_the_ring_is_known_anybody_who_is_ready_overtakes(a_world):
    world = a_world()
    world.open()
    for name in ("n1", "n2"):
        world.up(f"{name}:7101")
    one, other = (world.session._links.get(f"{name}:7101") for name in ("n1", "n2"))
    call = world.get("alice")
    assert world.session._paths.overtaking(call, one) is other
    other.spare(world.now + 1)
    assert world.session._paths.overtaking(call, one) is None
