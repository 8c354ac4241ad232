"""Two nodes find out where their copies differ."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from dyno.config import Config
from dyno.protocol import comparisons, leaf, walks
from dyno.protocol.walks import PATIENCE, StretchWalk, TreeWalk
from dyno.wire.entries import digest_of, pack_slots
from dyno.wire.messages import (
    STATUS_OK,
    AskBranches,
    Branches,
    Compare,
    Compared,
    CompareLeaves,
    CompareRoots,
    LeavesCompared,
    RootsCompared,
)
from dyno.wire.rows import pack_row, unpack_row
from dyno.wire.trees import pack_heads
from tests.protocol.exchange_harness import FINGERPRINT, NAMES, Owner


class Pair:
    """Two nodes with what they have in common, and what each has alone."""

    def __init__(self, *, common: int = 0, mine: int = 0, yours: int = 0, partitions: int = 2) -> None:
        self.mine, self.yours = (
            Owner(name, config=Config(), names=NAMES, partitions=partitions) for name in ("n1", "n2")
        )
        for number in range(common):
            self.mine.write(b"both %d" % number)
            self.yours.replica.merge(*self.mine.replica_entry(b"both %d" % number))
        for owner, alone in ((self.mine, mine), (self.yours, yours)):
            for number in range(alone):
                owner.write(b"%s %d" % (owner.name.encode(), number))
        for owner in (self.mine, self.yours):
            owner.commit()
            owner.count(0.0)
            while owner.replica.trees.crowded:
                owner.tick(owner.recount.deadline())
        self.patience: dict[bytes, int] = {}
        self.moving: list[bytes] = []
        self.questions: list[Any] = []
        self.sent = 0
        self.received = 0

    def walk(self, *, lost: bool = False) -> TreeWalk:
        return TreeWalk(
            "n2",
            me="n1",
            lost=lost,
            replica=self.mine.replica,
            shared=self.mine.exchange.shared,
            patience=self.patience,
            is_moving=self.moving.__contains__,
        )

    def go(self, walk: TreeWalk | StretchWalk) -> tuple[list[bytes], list[bytes]]:
        """Slots to be fetched, and slots that the other lacks."""
        wanted: list[bytes] = []
        missing: list[bytes] = []
        while not walk.done:
            question = walk.question(1, FINGERPRINT)
            self.questions.append(question)
            answer = self.yours.serve(question)
            assert answer.status == STATUS_OK
            self.sent += sum(len(field) for field in question if isinstance(field, bytes))
            self.received += sum(len(field) for field in answer if isinstance(field, bytes))
            found = walk.answer(answer)
            wanted += found.wanted
            missing += found.missing
        return sorted(wanted), sorted(missing)

    def differences(self) -> tuple[list[bytes], list[bytes]]:
        mine, yours = self.mine.records(), self.yours.records()
        return (
            sorted(slot for slot in yours if yours[slot] != mine.get(slot)),
            sorted(slot for slot in mine if slot not in yours),
        )


def test_the_same_is_one_question() -> None:
    pair = Pair(common=300)
    walk = pair.walk()
    assert pair.go(walk) == ([], [])
    assert [type(question) for question in pair.questions] == [CompareRoots]
    assert pair.sent + pair.received < 100
    assert not walk.unfinished


@pytest.mark.parametrize(
    ("common", "mine", "yours"),
    [(0, 5, 0), (0, 0, 5), (3, 3, 3), (300, 1, 0), (300, 0, 1), (300, 7, 7), (5, 0, 300), (5, 300, 0)],
)
@pytest.mark.parametrize("partitions", [1, 2, 8, 64])
def test_exactly_what_differs_is_found(common: int, mine: int, yours: int, partitions: int) -> None:
    pair = Pair(common=common, mine=mine, yours=yours, partitions=partitions)
    walk = pair.walk()
    assert pair.go(walk) == pair.differences()
    assert not walk.unfinished


def test_what_differs_costs_less_than_a_kilobyte_each() -> None:
    pair = Pair(common=3000, mine=20, yours=20, partitions=16)
    pair.go(pair.walk())
    assert (pair.sent + pair.received) / 40 < 1000
    assert not any(isinstance(question, Compare) for question in pair.questions)


def test_what_waits_does_not_grow_with_what_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walks, "NODES_MAX", 4)
    pair = Pair(mine=2500, yours=2500, partitions=1)
    assert [tree.depth for tree in pair.mine.replica.trees.by_head.values()] == [10]
    walk, waited = pair.walk(), 0
    while not walk.done:
        walk.answer(pair.yours.serve(walk.question(1, FINGERPRINT)))
        waited = max(waited, len(walk._branches) + len(walk._leaves))
    assert waited <= 3 * 4 * 16, "three levels are asked about"


def test_a_question_about_branches_adds_up_so_many_leaves_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def branches_of(pair: Pair) -> list[int]:
        assert pair.go(pair.walk()) == pair.differences()
        asked = [question for question in pair.questions if isinstance(question, AskBranches)]
        return [len(unpack_row(question.nodes, items_max=walks.NODES_MAX)) for question in asked[1:]]

    pair = Pair(mine=1000, yours=1000, partitions=8)
    assert branches_of(pair)[0] == 8
    depth = next(iter(pair.mine.replica.trees.by_head.values())).depth
    monkeypatch.setattr(walks, "SUMMED_MAX", 2 << depth)
    pair.questions.clear()
    assert branches_of(pair)[0] == 2
    monkeypatch.setattr(walks, "SUMMED_MAX", 1)
    pair.questions.clear()
    assert branches_of(pair)[0] == 1, "one at least"


def test_a_question_about_leaves_reads_so_much_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def leaves_of(pair: Pair) -> list[int]:
        assert pair.go(pair.walk()) == pair.differences()
        asked = [question for question in pair.questions if isinstance(question, CompareLeaves)]
        return [len(unpack_row(question.leaves, items_max=2 * walks.LEAVES_MAX)) // 2 for question in asked]

    assert max(leaves_of(Pair(common=200, mine=40, yours=40, partitions=1))) > 2
    monkeypatch.setattr(walks, "LEAVES_BYTES_MAX", 1)
    leaves = leaves_of(Pair(common=200, mine=40, yours=40, partitions=1))
    assert len(leaves) > 3
    assert sum(leaves) < 2 * len(leaves), "a leaf that is empty here costs nothing"


def test_other_values_of_one_key_are_fetched_and_not_counted_twice() -> None:
    pair = Pair(common=50)
    slot = pair.mine.write(b"both 7", b"another")
    pair.mine.commit()
    pair.mine.count(0.0)
    assert pair.go(pair.walk()) == ([slot], [])


def test_what_one_has_not_at_all_goes_by_stretches() -> None:
    pair = Pair(yours=40)
    pair.go(pair.walk())
    assert any(isinstance(question, Compare) for question in pair.questions)
    assert not any(isinstance(question, CompareLeaves) for question in pair.questions)


@pytest.mark.parametrize("whose", ["mine", "yours"])
def test_leaves_that_are_too_full_are_listed(whose: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(common=60, mine=1, yours=1, partitions=1)
    owner: Owner = getattr(pair, whose)
    monkeypatch.setattr(
        walks if whose == "mine" else comparisons,
        "read_leaf",
        lambda replica, node, room: None if replica is owner.replica else leaf.read_leaf(replica, node, room),
    )
    assert pair.go(pair.walk()) == pair.differences()
    assert any(isinstance(question, Compare) for question in pair.questions)


def test_what_moves_is_left_for_the_next_time_once() -> None:
    pair = Pair(common=50, mine=1, yours=1, partitions=1)
    wanted, missing = pair.differences()
    pair.moving += wanted + missing
    walk = pair.walk()
    assert pair.go(walk) == ([], [])
    assert list(walk.unfinished) == list(walk.puzzling) == [wanted[0][:3]]
    pair.patience = dict.fromkeys(walk.puzzling, 1)
    assert pair.go(pair.walk()) == (wanted, missing)


def test_a_difference_that_is_found_nowhere_is_looked_for_record_by_record_at_last() -> None:
    pair = Pair(common=50, yours=1, partitions=1)
    ((slot,), _) = pair.differences()
    tree = pair.mine.replica.trees.by_head[slot[:3]]
    theirs = pair.yours.replica.trees.by_head[slot[:3]]
    tree._leaves = theirs._leaves[:]  # so that all sums are equal, but for the totals
    tree.depth = theirs.depth
    walk = pair.walk()
    assert pair.go(walk) == ([], [])
    assert list(walk.puzzling) == [slot[:3]]
    pair.patience = {slot[:3]: PATIENCE}
    assert pair.go(pair.walk()) == ([slot], [])


@pytest.mark.parametrize("whose", ["mine", "yours"])
def test_a_corrupt_record_leaves_its_partition_unfinished(whose: str) -> None:
    pair = Pair(common=50, mine=1, partitions=1)
    owner: Owner = getattr(pair, whose)
    slot = list(pair.mine.records())[7]
    owner.engine.corrupt(slot)
    owner.replica.trees.edge = b""
    owner.tick(owner.recount.deadline())
    walk = pair.walk()
    pair.go(walk)
    assert slot[:3] in walk.unfinished
    assert slot[:3] not in walk.puzzling


def test_a_tree_that_is_gone_meanwhile_is_listed() -> None:
    pair = Pair(common=50, yours=1, partitions=1)
    walk = pair.walk()
    while not isinstance(question := walk.question(1, FINGERPRINT), AskBranches) or len(question.nodes) < 8:
        walk.answer(pair.yours.serve(question))
    pair.yours.replica.trees.by_head.clear()
    walk.answer(pair.yours.serve(question))
    assert isinstance(walk.question(1, FINGERPRINT), Compare)
    pair.mine.replica.trees.by_head.clear()
    other = pair.walk()
    for _ in range(2):
        other._go_below(walks.Node(b"\0\0\3", 0, 0))
    assert list(other._heads) == [b"\0\0\3"]
    assert pair.go(walk) == pair.differences()


def test_who_lost_something_hears_what_was_reaped_of_all_that_both_have() -> None:
    pair = Pair(common=5)
    head = next(iter(pair.mine.records()))[:3]
    pair.yours.generations.rise(head, 3)
    pair.yours.commit()
    walk = pair.walk()
    pair.go(walk)
    assert walk.generations == {}
    walk = pair.walk(lost=True)
    pair.go(walk)
    assert walk.generations == {head: 3}


# ── nonsense ──


def test_groups_that_are_not_as_many_as_there_are() -> None:
    walk = Pair().walk()
    walk.question(1, FINGERPRINT)
    with pytest.raises(ValueError, match="totals"):
        walk.answer(RootsCompared(1, STATUS_OK, False, bytes(16), b""))


def asked_for_groups(pair: Pair) -> TreeWalk:
    walk = pair.walk()
    walk.answer(pair.yours.serve(walk.question(1, FINGERPRINT)))
    assert isinstance(walk.question(1, FINGERPRINT), AskBranches)
    return walk


@pytest.mark.parametrize("sums", [b"junk", pack_row([b""] * 9), pack_row([b"short"])])
def test_heads_that_are_none(sums: bytes) -> None:
    with pytest.raises(ValueError, match=r"malformed|fields|array|argument|cut short|zip"):
        asked_for_groups(Pair(yours=1)).answer(Branches(1, STATUS_OK, sums))


def test_a_head_of_another_group() -> None:
    pair = Pair(yours=1, partitions=64)
    walk = asked_for_groups(pair)
    beyond = pack_heads({b"\0\x3f\3" if walk._asked_groups[0] == 0 else b"\0\0\3": 1})
    with pytest.raises(ValueError, match="another group"):
        walk.answer(Branches(1, STATUS_OK, pack_row([beyond])))


def test_a_head_that_this_node_does_not_share_is_nothing_to_it() -> None:
    walk = asked_for_groups(Pair(yours=1, partitions=1))
    walk.answer(Branches(1, STATUS_OK, pack_row([pack_heads({b"\0\0\3": 0, b"\0\0\7": 5})])))
    assert walk.done or walk.question(1, FINGERPRINT)


def test_a_stretch_that_nobody_would_list() -> None:
    pair = Pair(mine=3, partitions=1)
    head = b"\0\0\3"
    low, high = head + bytes(24), head + b"\1" * 24
    slots = {high: digest_of(b"record")}

    def refused(answer: Compared, after: bytes = b"", end: bytes = b"") -> None:
        walk = StretchWalk(head, replica=pair.mine.replica)
        walk.question(1, FINGERPRINT)
        walk._after, walk._mine = after, walk._mine._replace(end=end)
        with pytest.raises(ValueError, match=r"comparison|entr"):
            walk.answer(answer)

    refused(Compared(1, STATUS_OK, False, b"junk", b"", 0))
    refused(Compared(1, STATUS_OK, False, pack_slots(slots), low, 0))
    refused(Compared(1, STATUS_OK, False, b"", low, 0), after=high)
    refused(Compared(1, STATUS_OK, False, b"", b"", 0), end=low)
    refused(Compared(1, STATUS_OK, False, b"", high, 0), end=low)


@pytest.mark.parametrize("whose", ["mine", "yours"])
def test_a_stretch_with_a_corrupt_record_is_unfinished(whose: str) -> None:
    pair = Pair(common=9, partitions=1)
    owner: Owner = getattr(pair, whose)
    owner.engine.corrupt(next(iter(owner.records())))
    walk = StretchWalk(b"\0\0\3", replica=pair.mine.replica)
    pair.go(walk)
    assert list(walk.unfinished) == [b"\0\0\3"]


def test_differences_of_other_leaves_than_were_asked_for() -> None:
    pair = Pair(common=50, yours=1, partitions=1)
    walk = pair.walk()
    while not isinstance(question := walk.question(1, FINGERPRINT), CompareLeaves):
        walk.answer(pair.yours.serve(question))
    for nonsense in (b"junk", pack_row([b"\0\0\0"] * 40), pack_row([b"\0"]), pack_row([b"\0\0\0\0\x7f"])):
        again = pair.walk()
        while not isinstance(question := again.question(1, FINGERPRINT), CompareLeaves):
            again.answer(pair.yours.serve(question))
        with pytest.raises(ValueError, match=r"."):
            again.answer(LeavesCompared(1, STATUS_OK, nonsense))


@pytest.mark.parametrize("seed", range(10))
def test_any_two_nodes(seed: int) -> None:
    random = Random(seed)
    counts = {name: random.choice((0, 1, 30, 400)) for name in ("common", "mine", "yours")}
    pair = Pair(**counts, partitions=random.choice((1, 4, 64)))
    assert pair.go(pair.walk()) == pair.differences()
