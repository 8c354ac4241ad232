"""The dict that programs read."""

from __future__ import annotations

import pytest

from dyno.session.routing import Routing
from dyno.session.status import status_of
from dyno.wire.hints import Held
from dyno.wire.members import JOINING, SUSPECT


def status(world, *members, hints=()):
    routing = Routing()
    routing.learn(world.members(*members))
    return status_of(routing, cluster=world.CLUSTER, partitions=64, hints=hints)


def test_every_member_is_shown_with_its_share_of_copies(world):
    shown = status(
        world,
        "n1",
        world.member("n2", liveness=SUSPECT, incarnation=3, zone="b", weight=1.0),
        world.member("n3", state=JOINING),
    )
    assert shown["cluster"] == world.CLUSTER.hex()
    assert shown["partitions"] == 64
    assert shown["members"] == [
        {
            "name": "n1", "address": "n1:7101", "zone": "", "weight": 1.0, "state": "normal",
            "liveness": "alive", "incarnation": 0, "share": 0.5, "hints": 0,
        },
        {
            "name": "n2", "address": "n2:7101", "zone": "b", "weight": 1.0, "state": "normal",
            "liveness": "suspect", "incarnation": 3, "share": 0.5, "hints": 0,
        },
        {
            "name": "n3", "address": "n3:7101", "zone": "", "weight": 1.0, "state": "joining",
            "liveness": "alive", "incarnation": 0, "share": 0.0, "hints": 0,
        },
    ]  # fmt: skip


def test_hints_are_counted_where_they_are_kept_and_for_whom(world):
    hints = [
        Held("n1", "", 0),
        Held("n2", "n1", 2),
        Held("n2", "n4", 3),
        Held("n3", "n1", 1),
        Held("gone", "n1", 4),
    ]
    shown = status(world, "n1", "n2", "n3", "n4", hints=hints)
    assert [member["hints"] for member in shown["members"]] == [0, 5, 1, 0]
    assert shown["hints_for"] == {"n1": 7, "n4": 3}
    assert shown["unheard"] == ["n4"]


def test_nothing_heard_is_no_hints(world):
    shown = status(world, "n1", "n2")
    assert [member["hints"] for member in shown["members"]] == [0, 0]
    assert (shown["hints_for"], shown["unheard"]) == ({}, ["n1", "n2"])


def test_shares_add_up(world):
    shown = status(world, *(f"n{i}" for i in range(7)))
    assert sum(member["share"] for member in shown["members"]) == pytest.approx(1.0)


def test_a_cluster_without_seated_members_can_be_shown(world):
    assert status(world)["members"] == []
