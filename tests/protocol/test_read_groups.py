"""Keys sorted by whom to ask for them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dyno.buckets.properties import DEFAULTS
from dyno.protocol.read_groups import Groups
from dyno.protocol.ring import Plan
from dyno.wire.messages import DEFAULT, READ_MANY_SLOTS_MAX, Get


class Asked:
    """Where a key's first letters are its owners, and "a" asks all others of them."""

    def __init__(self) -> None:
        self.planned: list[tuple[str, int]] = []
        self.chosen: list[str] = []
        self.planner: Any = SimpleNamespace(
            ring=SimpleNamespace(plan=self.plan), serving={"wide": DEFAULTS._replace(n=5), "closed": None}
        )
        self.groups = Groups(self.choose)

    def plan(self, bucket: str, key: bytes, copies: int) -> Plan:
        self.planned.append((bucket, copies))
        return Plan(key, tuple(key.decode()[:2]))

    def choose(self, owners: tuple[str, ...], request: Any, favourites: dict[str, bool]) -> Any:
        self.chosen.append("".join(owners))
        if "a" not in owners:
            return None
        favourites["asked before"] = True
        return tuple(name for name in owners if name != "a")

    def place(self, key: bytes, bucket: str = "b", r: int = DEFAULT) -> bool:
        request = Get(1, bucket, key, r, DEFAULT, 1000, False)
        return self.groups.place(self.planner, request, key, f"asks for {key!r}")


def test_keys_that_are_asked_of_the_same_nodes_are_one_group() -> None:
    asked = Asked()
    assert all(asked.place(key) for key in (b"ab1", b"ac1", b"ba2", b"ab3"))
    assert list(asked.groups.all()) == [
        (("b",), [b"ab1", b"ba2", b"ab3"], ["asks for b'ab1'", "asks for b'ba2'", "asks for b'ab3'"]),
        (("c",), [b"ac1"], ["asks for b'ac1'"]),
    ]


def test_owners_are_chosen_among_once_for_each_kind_of_request() -> None:
    asked = Asked()
    for key in (b"ab1", b"ab2", b"ac1", b"ab3"):
        asked.place(key)
    assert asked.chosen == ["ab", "ac"]
    asked.place(b"ab4", r=1)
    asked.place(b"ab5", "wide")
    assert asked.chosen == ["ab", "ac", "ab", "ab"]
    assert asked.planned[-1] == ("wide", 5)


def test_what_is_to_be_read_alone_is_in_no_group() -> None:
    asked = Asked()
    assert not asked.place(b"bc1")
    assert not asked.place(b"bc2")
    assert not asked.place(b"ab1", "closed")
    assert list(asked.groups.all()) == []


def test_before_there_is_a_ring_nothing_is_read_together() -> None:
    asked = Asked()
    asked.planner.ring = None
    assert not asked.place(b"ab1")


@pytest.mark.parametrize("more", [0, 1])
def test_one_question_holds_so_many_slots(more: int) -> None:
    asked = Asked()
    for number in range(READ_MANY_SLOTS_MAX + more):
        asked.place(b"ab%d" % number)
    assert [len(slots) for _, slots, _ in asked.groups.all()] == [READ_MANY_SLOTS_MAX] + [1] * more
