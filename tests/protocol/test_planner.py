"""How requests are planned: whom to ask first, how many it takes, and why it cannot be done."""

from __future__ import annotations

import pytest

from dyno.buckets.properties import Properties
from dyno.errors import Code, InvalidRequest
from dyno.protocol.outbox import Outbox
from dyno.protocol.planner import Planner
from dyno.protocol.ring import Plan, Ring
from dyno.protocol.sink import LinkSink
from dyno.wire.members import ALIVE, NORMAL, Member
from dyno.wire.messages import ALL, DEFAULT, QUORUM, STRICT, Delete, Failed, Get, GetMany, Put

OWNERS = ("a", "b", "c")


class Members:
    """What a planner asks of the membership."""

    def __init__(self) -> None:
        self.version = 0
        self.deaf = False
        self.suspects: list[str] = []
        self.dead: list[str] = []

    def is_alive(self, name: str) -> bool:
        return name not in self.suspects and name not in self.dead

    def is_live(self, name: str) -> bool:
        return name not in self.dead


class Planned:
    def __init__(self, me: str = "a", names: str = "abcde") -> None:
        self.members = Members()
        self.serving: dict[str, Properties | None] = {}
        self.planner = Planner(
            me=me,
            membership=self.members,  # type: ignore[arg-type]
            serving=self.serving,
            why_not="{} is being created".format,
        )
        members = []
        for name in names:
            identity = name.encode() * 16
            members.append(Member(name, identity, identity, identity[:8], 1, 0, NORMAL, ALIVE, name, "", 1.0))
        self.ring = self.planner.ring = Ring(members, cluster=b"c" * 16, partitions=64, fingerprint=1)

    def plan(self, owners: tuple[str, ...] = OWNERS) -> Plan:
        """Of a key that these own; the others are its fallbacks."""
        for partition in range(64):
            slot = bytes((0, partition, 3)) + bytes(24)
            if sorted(self.ring.owners(slot)) == sorted(owners):
                return Plan(slot, owners)
        raise AssertionError("no partition has these owners")

    def now(self, *, suspects: str = "", dead: str = "") -> None:
        self.members.suspects = list(suspects)
        self.members.dead = list(dead)
        self.members.version += 1


# ── how owners stand ──


def test_those_alive_come_before_suspects_and_suspects_before_the_dead() -> None:
    planned = Planned("c")
    owners = ("a", "b", "c", "d", "e")
    assert planned.planner.standing(owners) == (5, ("a", "b", "d", "e"), ("a", "b", "d", "e"), ("c", *"abde"))
    planned.now(suspects="b", dead="a")
    assert planned.planner.standing(owners) == (4, ("d", "e"), ("d", "e", "b", "a"), ("c", *"deba"))


def test_of_keys_that_this_node_does_not_own_it_still_reads_first() -> None:
    standing = Planned("e").planner.standing(OWNERS)
    assert standing == (3, OWNERS, OWNERS, ("e", *OWNERS))


def test_what_was_found_out_is_kept_until_the_membership_changes() -> None:
    planned = Planned()
    before = planned.planner.standing(OWNERS)
    assert planned.planner.standing(OWNERS) is before
    planned.members.dead = ["b"]
    assert planned.planner.standing(OWNERS) is before
    planned.members.version += 1
    assert planned.planner.standing(OWNERS).others == ("c", "b")


# ── how many it takes ──


@pytest.mark.parametrize(
    ("r", "pr", "needed"),
    [
        (DEFAULT, DEFAULT, 2),
        (DEFAULT, 0, 2),
        (DEFAULT, 3, 3),
        (1, DEFAULT, 1),
        (1, 2, 2),
        (3, 1, 3),
        (QUORUM, DEFAULT, 2),
        (ALL, DEFAULT, 3),
        (1, ALL, 3),
    ],
)
def test_a_quorum_of_three_owners(r: int, pr: int, needed: int) -> None:
    planner = Planned().planner
    assert planner.needed(OWNERS, Get(1, "b", b"k", r, pr, 1, False)) == needed
    assert planner.needed(OWNERS, GetMany(1, "b", b"", r, pr, 1)) == needed
    put = Put(1, "b", b"k", b"", b"", False, r, pr, b"", 1, False)
    assert planner.needed(OWNERS, put) == needed
    assert planner.needed(OWNERS, Delete(1, "b", b"k", b"", 1, 1, r, pr, b"", 1, False)) == needed


def test_a_cluster_smaller_than_n_has_quorums_of_what_there_is() -> None:
    planner = Planned().planner
    assert planner.needed(("a", "b"), Get(1, "b", b"k", DEFAULT, DEFAULT, 1, False)) == 2
    assert planner.needed(("a",), Get(1, "b", b"k", DEFAULT, DEFAULT, 1, False)) == 1
    assert planner.needed(("a", "b"), Get(1, "b", b"k", ALL, DEFAULT, 1, False)) == 2
    assert planner.needed(("a", "b"), Get(1, "b", b"k", 3, DEFAULT, 1, False)) == 3


@pytest.mark.parametrize(
    ("r", "pr", "says"), [(4, 0, "r=4"), (0, 0, "r=0"), (1, 4, "pr=4"), (2**64 - 1, 0, "r=")]
)
def test_more_than_the_buckets_n_is_refused(r: int, pr: int, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        Planned().planner.needed(OWNERS, Get(1, "b", b"k", r, pr, 1, False))


def test_a_bucket_of_its_own_has_its_own_quorums() -> None:
    planned = Planned()
    planned.serving["b"] = Properties(5, 1, ALL, 0)
    owners = ("a", "b", "c", "d", "e")
    needed = planned.planner.needed
    put = Put(1, "b", b"k", b"", b"", False, DEFAULT, DEFAULT, b"", 1, False)
    get = Get(1, "b", b"k", DEFAULT, DEFAULT, 1, False)
    assert (needed(owners, get), needed(owners, put)) == (1, 5)
    assert needed(owners, get._replace(pr=3)) == 3
    assert needed(owners, get._replace(r=5)) == 5
    assert needed(owners, put._replace(w=QUORUM)) == 3
    assert needed(OWNERS, get._replace(bucket="other")) == 2
    with pytest.raises(InvalidRequest, match="r=6 is more than the bucket's n=5"):
        needed(owners, get._replace(r=6))
    planned.serving["b"] = None  # reserved: what is under way still counts as by the defaults
    assert needed(OWNERS, get) == 2


# ── why it cannot be done ──


def test_what_can_be_met_has_no_shortage() -> None:
    planned = Planned()
    assert planned.planner.shortage(planned.plan(), 3, 3) is None
    planned.now(suspects="b", dead="c")
    assert planned.planner.shortage(planned.plan(), 2, 2) is None, "a suspect may well live"


def test_a_shortage_says_who_is_dead() -> None:
    planned = Planned()
    planned.now(dead="bc")
    failure = planned.planner.shortage(planned.plan(), 2, 2)
    assert failure is not None
    assert (failure.code, failure.needed, failure.indeterminate) == (Code.QUORUM, 2, False)
    assert failure.message == "2 owners of the key are needed, 1 of 3 are alive; dead: b, c"


def test_a_shortage_of_a_small_cluster_names_nobody() -> None:
    planned = Planned(names="ab")
    failure = planned.planner.shortage(planned.plan(("a", "b")), 3, 0)
    assert failure is not None
    assert failure.message == "3 owners of the key are needed, 2 of 2 are alive"


def test_a_quorum_that_cannot_be_met_is_told_to_whoever_waits() -> None:
    planned, out = Planned(), Outbox()
    sink = LinkSink(7, 42)
    assert planned.planner.meets(planned.plan(), 3, 3, sink, out)
    assert not out
    planned.now(dead="b")
    assert planned.planner.meets(planned.plan(), 2, 2, sink, out)
    assert not planned.planner.meets(planned.plan(), 3, 3, sink, out)
    text = "3 owners of the key are needed, 2 of 3 are alive; dead: b"
    assert out.replies == [(7, Failed(42, "quorum", text, 3, "", False, 0, b""))]


# ── fallbacks ──


def test_the_live_others_stand_in_in_the_order_of_the_list() -> None:
    planned = Planned()
    slot = planned.plan().slot
    order = planned.ring.fallbacks(slot)
    assert sorted(order) == ["d", "e"]
    assert planned.planner.fallbacks(slot) == order
    assert planned.planner.fallbacks(slot) is planned.planner.fallbacks(slot)
    planned.now(dead=order[0], suspects=order[1])
    assert planned.planner.fallbacks(slot) == order[1:]
    assert not planned.planner.is_live(order[0])


def test_a_node_is_no_fallback_of_its_own() -> None:
    planned = Planned("e")
    assert planned.planner.fallbacks(planned.plan().slot) == ("d",)


def test_fallbacks_make_up_for_dead_owners_but_not_for_those_that_have_to_be_primaries() -> None:
    planned = Planned()
    plan = planned.plan()
    planned.now(dead="bc")
    assert planned.planner.shortage(plan, 3, 0) is None
    assert planned.planner.shortage(plan, 3, 1) is None
    failure = planned.planner.shortage(plan, 3, 2)
    assert failure is not None
    assert failure.message == "2 owners of the key are needed, 1 of 3 are alive; dead: b, c"
    assert failure.needed == 3


def test_a_shortage_of_everybody_counts_everybody() -> None:
    planned = Planned()
    plan = planned.plan()
    planned.now(dead="abcd")
    failure = planned.planner.shortage(plan, 2, 0)
    assert failure is not None
    assert failure.message == "2 nodes are needed for the key, 1 of 5 are alive; dead: a, b, c, d"


@pytest.mark.parametrize(
    ("r", "pr", "needed", "primaries"),
    [
        (DEFAULT, DEFAULT, 2, 0),
        (DEFAULT, STRICT, 2, 2),
        (3, STRICT, 3, 3),
        (1, STRICT, 1, 1),
        (ALL, STRICT, 3, 3),
        (1, 2, 2, 2),
        (3, 1, 3, 1),
        (2, QUORUM, 2, 2),
        (1, ALL, 3, 3),
        (2, 0, 2, 0),
    ],
)
def test_how_many_of_them_are_primaries(r: int, pr: int, needed: int, primaries: int) -> None:
    planner = Planned().planner
    for request in (
        Get(1, "b", b"k", r, pr, 1, False),
        Put(1, "b", b"k", b"", b"", False, r, pr, b"", 1, False),
        Delete(1, "b", b"k", b"", 1, 1, r, pr, b"", 1, False),
    ):
        assert planner.needed(OWNERS, request) == needed
        assert planner.primaries(OWNERS, request) == primaries


def test_strict_is_as_many_as_the_bucket_has_by_itself() -> None:
    planned = Planned()
    planned.serving["b"] = Properties(5, 1, ALL, 0)
    owners = ("a", "b", "c", "d", "e")
    assert planned.planner.primaries(owners, Get(1, "b", b"k", DEFAULT, STRICT, 1, False)) == 1
    put = Put(1, "b", b"k", b"", b"", False, DEFAULT, STRICT, b"", 1, False)
    assert planned.planner.primaries(owners, put) == 5


# ── the ring ──


def test_others_plan_with_our_ring_when_its_fingerprint_is_theirs() -> None:
    planner = Planned().planner
    assert planner.is_planned_with(1)
    assert not planner.is_planned_with(2)
    planner.ring = None
    assert not planner.is_planned_with(1)


def test_a_node_that_hears_nobody_is_said_to_be_deaf() -> None:
    planned = Planned()
    assert not planned.planner.is_deaf
    planned.members.deaf = True
    assert planned.planner.is_deaf
