"""What others ask of a node's trees, sense and nonsense. Of stretches and records: test_exchange."""

from __future__ import annotations

from typing import Any

import pytest

from dyno.protocol.comparisons import slots_fetched, span_compared
from dyno.protocol.identity import LOST_ALL
from dyno.protocol.walks import LEAVES_MAX, NODES_MAX
from dyno.wire.messages import (
    STATUS_OK,
    STATUS_OVERLOADED,
    STATUS_RING,
    STATUS_WEAK,
    AskBranches,
    Compare,
    CompareLeaves,
    CompareRoots,
    Fetch,
)
from dyno.wire.rows import pack_row, unpack_row
from dyno.wire.trees import Node, pack_node
from tests.protocol.exchange_harness import FINGERPRINT, Owner, Owners

ROOTS = CompareRoots(1, FINGERPRINT, "n2", bytes(16), False)
BRANCHES = AskBranches(1, FINGERPRINT, "n2", pack_row([b"\0\0"]))


def node(head: bytes = b"\0\0\3", depth: int = 0, number: int = 0) -> bytes:
    return pack_node(Node(head, depth, number))


LEAVES = CompareLeaves(1, FINGERPRINT, pack_row([node(), b""]))


def n1(remembered: bytes = b"") -> Owner:
    owner = Owners("n1", "n2", remembered=remembered).n1
    for number in range(20):
        owner.write(b"key %d" % number)
    owner.commit()
    return owner


@pytest.mark.parametrize("message", [ROOTS, BRANCHES, LEAVES])
def test_another_ring_is_another_plan(message: Any) -> None:
    owner = n1()
    assert owner.serve(message).status == STATUS_OK
    assert owner.serve(message._replace(ring=8)).status == STATUS_RING
    owner.planner.ring = None
    assert owner.serve(message).status == STATUS_RING


def test_a_node_that_is_none() -> None:
    assert n1().serve(ROOTS._replace(node="n9")).status == STATUS_RING


@pytest.mark.parametrize("message", [ROOTS, BRANCHES, LEAVES])
def test_what_is_closed_is_told_to_nobody(message: Any) -> None:
    owner = n1()
    owner.replica.closed[b"\0\0\3"] = None
    assert owner.serve(message).status == STATUS_OVERLOADED


@pytest.mark.parametrize("message", [ROOTS, BRANCHES])
def test_trees_that_are_not_there_yet(message: Any) -> None:
    owner = n1()
    owner.replica.trees.edge = b""
    assert owner.serve(message).status == STATUS_WEAK


def test_who_lacks_something_asks_for_it_itself() -> None:
    owner = n1(remembered=LOST_ALL)
    assert owner.serve(ROOTS).status == STATUS_WEAK
    assert owner.serve(ROOTS._replace(lost=True)).status == STATUS_OK, "or both would wait"


def test_sums_of_a_node_of_a_tree() -> None:
    owner = n1()
    head = max(owner.replica.trees.by_head, key=lambda head: owner.replica.trees.by_head[head].count)
    while owner.replica.trees.crowded:
        owner.tick(max(owner.recount.deadline(), 0.0))
    tree = owner.replica.trees.by_head[head]
    nodes = [node(head), node(head, tree.depth), node(b"\0\0\7")]
    answer = owner.serve(BRANCHES._replace(nodes=pack_row(nodes)))
    sums, leaf, foreign = unpack_row(answer.sums, items_max=3)
    assert sums is not None
    assert len(sums) == 8 << tree.depth
    assert leaf == b""
    assert foreign is None


@pytest.mark.parametrize(
    "message",
    [
        ROOTS._replace(total=b"short"),
        BRANCHES._replace(nodes=b"junk"),
        BRANCHES._replace(nodes=pack_row([b"\xff\xff"])),
        BRANCHES._replace(nodes=pack_row([b"\0\0", node()])),
        BRANCHES._replace(nodes=pack_row([node(), b"\0\0"])),
        BRANCHES._replace(nodes=pack_row([b"\0\0"] * (NODES_MAX + 1))),
        LEAVES._replace(leaves=pack_row([node()])),
        LEAVES._replace(leaves=pack_row([node(), b"short"])),
        LEAVES._replace(leaves=pack_row([node(), bytes(8 * 513)])),
        LEAVES._replace(leaves=pack_row([b"short", b""])),
        LEAVES._replace(leaves=pack_row([node(), b""] * (LEAVES_MAX + 1))),
    ],
)
def test_nonsense_is_refused(message: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        n1().serve(message)


def test_what_will_be_read_is_checked_as_well() -> None:
    assert span_compared(Compare(1, 7, 0, 3, b"", b"", b"")).limit == 1000
    assert slots_fetched(Fetch(1, 7, bytes(54))) == [bytes(27)] * 2
    with pytest.raises(ValueError, match="stretch"):
        span_compared(Compare(1, 7, 0, 3, b"short", b"", b""))
    with pytest.raises(ValueError, match="slots"):
        slots_fetched(Fetch(1, 7, b"short"))
