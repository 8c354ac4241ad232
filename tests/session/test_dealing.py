"""Which node is asked for which of many keys."""

from __future__ import annotations

import random
from collections import Counter
from itertools import combinations

import pytest

from dyno.session.dealing import KEYS_BYTES_MAX, deal
from dyno.session.links import NodeLink
from dyno.wire.messages import GET_MANY_KEYS_MAX


def a_link(name: str) -> NodeLink:
    link = NodeLink(f"{name}:7101", listed=True)
    link.name = name
    link.ready = True
    return link


@pytest.fixture
def nodes() -> list[NodeLink]:
    return [a_link(f"n{number}") for number in range(1, 6)]


def some_keys(count: int) -> list[bytes]:
    return [b"key %d" % number for number in range(count)]


def among(nodes: list[NodeLink], keys: list[bytes]) -> list[tuple[list[NodeLink], list[bytes]]]:
    """64 partitions with three owners each, as a ring would have it."""
    draw = random.Random(7)
    owners = [list(three) for three in combinations(nodes, 3)]
    return [(draw.choice(owners), keys[number::64]) for number in range(64)]


@pytest.mark.parametrize("count", [1, 50, 256, 257, 1000, 5000])
@pytest.mark.parametrize("size", [3, 4, 5])
def test_every_key_is_dealt_once_to_an_owner(nodes, size, count):
    keys = some_keys(count)
    piles = among(nodes[:size], keys)
    links_of = {key: links for links, some in piles for key in some}
    dealt = deal(piles, random.Random(1))
    assert sorted(key for _, some in dealt for key in some) == sorted(keys)
    for link, some in dealt:
        assert 0 < len(some) <= GET_MANY_KEYS_MAX
        assert all(link in links_of[key] for key in some)


def test_a_few_keys_go_to_one_node_that_has_them_all_and_not_always_to_the_same(nodes):
    piles = [(nodes[:3], some_keys(20))]
    draw = random.Random(1)
    asked = Counter()
    for _ in range(60):
        ((link, some),) = deal(piles, draw)
        assert some == some_keys(20)
        asked[link.name] += 1
    assert sorted(asked) == ["n1", "n2", "n3"]
    assert min(asked.values()) > 10


def test_of_equals_the_least_busy_one_is_asked(nodes):
    nodes[0].charge(100)
    nodes[2].charge(1)
    ((link, _),) = deal([(nodes[:3], some_keys(20))], random.Random(1))
    assert link is nodes[1]


def test_who_has_more_of_a_few_keys_is_asked_however_busy(nodes):
    one, two, three = nodes[:3]
    one.charge(1000)
    dealt = deal([([one, two], [b"a"]), ([three, one], [b"b"]), ([one], [b"c"])], random.Random(1))
    assert [(link, sorted(some)) for link, some in dealt] == [(one, [b"a", b"b", b"c"])]


@pytest.mark.parametrize("size", [3, 5])
def test_many_keys_are_shared_by_all_nodes(nodes, size):
    keys = some_keys(15 * GET_MANY_KEYS_MAX)
    dealt = deal(among(nodes[:size], keys), random.Random(1))
    asked = Counter()
    for link, some in dealt:
        asked[link.name] += len(some)
    assert len(asked) == size
    share = len(keys) / size
    assert all(share * 0.5 < count < share * 1.5 for count in asked.values())
    assert len(dealt) <= 15 + size


def test_a_busy_node_has_less_of_many_keys(nodes):
    nodes[0].charge(1 << 20)
    dealt = deal([(nodes[:3], some_keys(4 * GET_MANY_KEYS_MAX))], random.Random(1))
    assert sorted(link.name for link, _ in dealt) == ["n2", "n2", "n3", "n3"]


def test_what_no_ready_node_owns_is_for_whoever_can_take_it(nodes):
    gone, *_, last = nodes
    gone.ready = False
    dealt = deal([([gone], some_keys(300)), ([gone, last], [b"other"])], random.Random(1))
    assert dealt[2] == (last, [b"other"])
    assert [(link, len(some)) for link, some in dealt[:2]] == [(None, 256), (None, 44)]
    assert deal([], random.Random(1)) == []


def test_a_message_has_so_many_keys_and_bytes_and_no_more():
    keys = [b"%01024d" % number for number in range(KEYS_BYTES_MAX // 1024 + 1)]
    assert [some for _, some in deal([((), keys)], random.Random(1))] == [keys[:-1], keys[-1:]]
    keys = some_keys(GET_MANY_KEYS_MAX + 1)
    assert [some for _, some in deal([((), keys)], random.Random(1))] == [keys[:-1], keys[-1:]]
    assert deal([((), [])], random.Random(1)) == []


def test_long_keys_are_dealt_to_all_nodes_too(nodes):
    keys = [b"%01024d" % number for number in range(3 * KEYS_BYTES_MAX // 1024)]
    dealt = deal([(nodes[:3], keys)], random.Random(1))
    assert sorted(link.name for link, _ in dealt) == ["n1", "n2", "n3"]
    assert all(len(some) == KEYS_BYTES_MAX // 1024 for _, some in dealt)
