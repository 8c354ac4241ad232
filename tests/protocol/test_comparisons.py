"""What others ask of a node that compare copies with it, sense and nonsense."""

from __future__ import annotations

from typing import Any

import pytest

from dyno.config import COPIES
from dyno.placement.hashing import slot_partition
from dyno.protocol import comparisons
from dyno.protocol.comparisons import FETCH_SLOTS_MAX, slots_fetched, span_compared
from dyno.protocol.identity import LOST_ALL
from dyno.protocol.walks import LEAVES_MAX, NODES_MAX
from dyno.wire.entries import DAMAGED, pack_slots
from dyno.wire.messages import (
    STATUS_OK,
    STATUS_OVERLOADED,
    STATUS_RING,
    STATUS_WEAK,
    AskBranches,
    Compare,
    Compared,
    CompareLeaves,
    CompareRoots,
    Fetch,
    Fetched,
)
from dyno.wire.rows import pack_row, unpack_row
from dyno.wire.trees import Node, pack_node, pack_totals, unpack_generations
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
        BRANCHES._replace(nodes=pack_row([b"%c%c" % divmod(n, 256) for n in range(NODES_MAX + 1)])),
        BRANCHES._replace(nodes=pack_row([node(), node()])),
        BRANCHES._replace(nodes=pack_row([b"\0\0", b"\0\0"])),
        LEAVES._replace(leaves=pack_row([node()])),
        LEAVES._replace(leaves=pack_row([node(), b"short"])),
        LEAVES._replace(leaves=pack_row([node(), bytes(8 * 513)])),
        LEAVES._replace(leaves=pack_row([b"short", b""])),
        LEAVES._replace(leaves=pack_row([node(), b"", node(), b""])),
        LEAVES._replace(
            leaves=pack_row([part for n in range(LEAVES_MAX + 1) for part in (node(depth=9, number=n), b"")])
        ),
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


# ── of stretches and records ──


def asked_of(owner: Owner, message: Compare | Fetch) -> Compared | Fetched:
    answer = owner.serve(message)
    assert isinstance(answer, Compared | Fetched)
    return answer


def test_a_comparison_is_checked() -> None:
    n1 = Owners("n1", "n2").n1
    fine = Compare(1, FINGERPRINT, 0, 3, b"", b"", b"")
    head = bytes((0, 0, 3))
    assert asked_of(n1, fine).status == STATUS_OK
    for other in ({"ring": 8}, {"partition": 2}, {"copies": 5}):
        assert asked_of(n1, fine._replace(**other)).status == STATUS_RING
    n1.copies[b"bucket's"] = 5
    assert asked_of(n1, fine._replace(copies=5)).status == STATUS_OK
    for wrong in (
        {"copies": 0},
        {"copies": 10},
        {"partition": 1 << 16},
        {"after": b"short"},
        {"end": bytes((0, 1, 3)) + bytes(24)},
        {"after": head + bytes(25)},
    ):
        with pytest.raises(ValueError, match=r"comparison|stretch"):
            asked_of(n1, fine._replace(**wrong))  # type: ignore[arg-type]
    n1.planner.ring = None
    assert asked_of(n1, fine).status == STATUS_RING


def test_a_fetch_is_checked() -> None:
    n1 = Owners("n1", "n2").n1
    slot = n1.write(b"key")
    n1.commit()
    fine = Fetch(1, FINGERPRINT, slot)
    assert asked_of(n1, fine) == Fetched(1, STATUS_OK, pack_row([b"key", n1.records()[slot]]))
    assert asked_of(n1, fine._replace(slots=slot[:-1] + b"?")).entries == pack_row([b"", b""])
    assert asked_of(n1, fine._replace(ring=8)).status == STATUS_RING
    assert asked_of(n1, fine._replace(slots=bytes((0, 9, 3)) + slot[3:])).status == STATUS_RING
    for wrong in (b"", slot[:-1], slot * (FETCH_SLOTS_MAX + 1)):
        with pytest.raises(ValueError, match="slots"):
            asked_of(n1, fine._replace(slots=wrong))


def test_damage_is_never_equal() -> None:
    owners = Owners("n1", "n2")
    slot = owners.n1.write(b"key")
    owners.n2.replica.merge(*owners.n1.replica_entry(b"key"))
    owners.commit()
    for owner in owners.by_name.values():
        owner.engine.corrupt(slot)
    question = Compare(1, FINGERPRINT, slot_partition(slot), COPIES, b"", b"", b"")
    answer = asked_of(owners.n2, question)
    assert isinstance(answer, Compared)
    assert answer.entries == pack_slots({slot: DAMAGED})
    assert not answer.equal
    for owner in owners.by_name.values():
        owner.replica.trees.edge = b""
        owner.count(0.0)
    total = pack_totals([owners.n1.exchange.shared.root("n2")])
    roots = owners.n2.serve(CompareRoots(2, FINGERPRINT, "n1", total, False))
    assert not roots.equal


def test_what_is_closed_is_not_compared_either() -> None:
    owner = n1()
    slot = next(iter(owner.records()))
    owner.replica.closed[slot[:3]] = None
    assert (
        owner.serve(Compare(1, FINGERPRINT, slot_partition(slot), 3, b"", b"", b"")).status
        == STATUS_OVERLOADED
    )
    assert owner.serve(Fetch(1, FINGERPRINT, slot)) == Fetched(1, STATUS_OVERLOADED, b"")


def test_who_lost_something_is_told_what_was_reaped() -> None:
    owner = n1()
    head = next(iter(owner.records()))[:3]
    owner.generations.rise(head, 3)
    owner.commit()
    assert owner.serve(ROOTS).generations == b""
    assert unpack_generations(owner.serve(ROOTS._replace(lost=True)).generations) == {head: 3}


def test_a_leaf_that_is_too_full_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparisons, "read_leaf", lambda replica, node, room: None)
    assert unpack_row(n1().serve(LEAVES).differences, items_max=1) == [None]
