"""Ways to find out where the copies of two nodes differ: question by question, as the one who asks.

A walk gives the next question, and is told the answer; what it found are slots to be fetched from the other
node, and slots of which the other lacks what is here. Who moves the records is `exchange`.

    StretchWalk   lists one (partition, n) in stretches: where trees are not there, or would not help
    TreeWalk      all that is shared with a node: the root of the pair; if that differs, the sums of its
                  groups, then the totals of the trees in the groups that differ, then sums further down,
                  and at last the elements of leaves. Whole (partition, n) that one of the two has not at all
                  go by stretches.

Guarantee: what is not in `unfinished` when a walk is done was the same on both disks at some moment since its
first question, or differed only in what was found. Answers that cannot be true raise ValueError. Memory:
nodes wait in the order of depth first, so never more than a few times what one question holds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, TypeVar

from dyno.placement.hashing import slot_copies, slot_partition
from dyno.protocol.leaf import Leaf, Room, read_leaf
from dyno.protocol.stretch import KEYS_MAX, Stretch, read_stretch
from dyno.wire.entries import DAMAGED, digest_of_stretch, unpack_slots
from dyno.wire.messages import (
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
from dyno.wire.trees import (
    GROUP_BYTES,
    Node,
    pack_node,
    pack_totals,
    unpack_difference,
    unpack_generations,
    unpack_heads,
    unpack_sums,
    unpack_totals,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from dyno.merkle.tree import Tree
    from dyno.protocol.replica import Replica
    from dyno.protocol.shared import Shared

STRETCH_BYTES_MAX: Final = 256 << 10  # of records that an asker reads for one stretch, roughly
NODES_MAX: Final = 256  # of one AskBranches
SUMMED_MAX: Final = 1 << 17  # leaves that are added up for one, but for its first node: some milliseconds
LEAVES_MAX: Final = 32  # of one CompareLeaves: each is a few reads of the disk
LEAVES_BYTES_MAX: Final = 1 << 20  # of records that an asker reads for one, but for the last leaf of it
GROUPS_MAX: Final = 64  # of one AskBranches
PATIENCE: Final = 3  # times that a tree was found to differ without a difference, until it is listed

Question: TypeAlias = Compare | CompareRoots | AskBranches | CompareLeaves
Answer: TypeAlias = Compared | RootsCompared | Branches | LeavesCompared
ANSWERS: Final[dict[type[Question], type[Answer]]] = {
    Compare: Compared,
    CompareRoots: RootsCompared,
    AskBranches: Branches,
    CompareLeaves: LeavesCompared,
}


_T = TypeVar("_T")


class Found(NamedTuple):
    """wanted: slots to be fetched. missing: slots that the other has not, or not so."""

    wanted: Sequence[bytes]
    missing: Sequence[bytes]


NOTHING: Final = Found((), ())


class StretchWalk:
    """One (partition, n), by its head. unfinished: it, where corrupt records were met."""

    def __init__(self, head: bytes, *, replica: Replica) -> None:
        self._replica = replica
        self.head = head
        self.done = False
        self.generations: dict[bytes, int] = {}
        self.unfinished: dict[bytes, None] = {}
        self._after = b""
        self._mine = Stretch({}, b"", False)

    def question(self, id: int, ring: int) -> Question:
        head, after = self.head, self._after
        mine = self._mine = read_stretch(
            self._replica, head, after=after, end=b"", keys_max=KEYS_MAX, bytes_max=STRETCH_BYTES_MAX
        )
        if mine.damaged:
            self.unfinished[head] = None
        digest = digest_of_stretch(mine.entries)
        return Compare(id, ring, slot_partition(head), slot_copies(head), after, mine.end, digest)

    def answer(self, answer: Answer) -> Found:
        assert isinstance(answer, Compared)
        mine, head = self._mine, self.head
        self.generations[head] = max(self.generations.get(head, 0), answer.generation)
        end, found = mine.end, NOTHING
        if not answer.equal:
            end = answer.end
            if mine.end and not self._after < end <= mine.end:
                raise ValueError("a comparison that ends outside of its stretch")
            if end and not end > self._after:
                raise ValueError("a comparison that goes back")
            found = self._differences(
                unpack_slots(answer.entries, head=head, after=self._after, end=end), end
            )
        self._after, self.done = end, not end
        return found

    def _differences(self, theirs: dict[bytes, bytes], end: bytes) -> Found:
        mine = self._mine.entries
        if DAMAGED in theirs.values():
            self.unfinished[self.head] = None
        wanted = [slot for slot, digest in theirs.items() if digest != DAMAGED and mine.get(slot) != digest]
        missing = [slot for slot in mine if slot not in theirs and not (end and slot > end)]
        return Found(wanted, missing)


class TreeWalk:
    """All that is shared with a node. me: who asks. lost: this node may lack something. patience: by head,
    how often in a row it was left unfinished, though nothing was wrong. is_moving: whether a slot changed
    just now, so that it is no news that it differs; it is left for the next time, once.

    unfinished: heads of which that cannot be said. puzzling: those of them with which nothing is wrong."""

    def __init__(
        self,
        node: str,
        *,
        me: str,
        lost: bool,
        replica: Replica,
        shared: Shared,
        patience: dict[bytes, int],
        is_moving: Callable[[bytes], bool],
    ) -> None:
        self._node = node
        self._me = me
        self._lost = lost
        self._replica = replica
        self._trees = replica.trees.by_head
        self._shared = shared
        self._patience = patience
        self._is_moving = is_moving
        self.done = False
        self.generations: dict[bytes, int] = {}
        self.unfinished: dict[bytes, None] = {}
        self.puzzling: dict[bytes, None] = {}
        self._differ: dict[bytes, bool] = {}  # heads whose totals differ, and whether it was found where
        self._began = False
        self._groups: deque[int] = deque()
        self._branches: deque[Node] = deque()
        self._leaves: deque[Node] = deque()
        self._heads: deque[bytes] = deque()  # that go by stretches
        self._listed: dict[bytes, None] = {}  # those that ever were among them
        self._stretches: StretchWalk | None = None
        self._asked_groups: list[int] = []
        self._asked: list[Node] = []
        self._elements: list[Leaf] = []

    # ── asking ──

    def question(self, id: int, ring: int) -> Question:
        """Not once it is done."""
        if not self._began:
            self._began = True
            total = pack_totals([self._shared.root(self._node)])
            return CompareRoots(id, ring, self._me, total, self._lost)
        if self._leaves:
            question = self._ask_leaves(id, ring)
            if self._asked:
                return question
        if self._stretches is None and self._heads:
            self._stretches = StretchWalk(self._heads.popleft(), replica=self._replica)
        if self._stretches is not None:
            return self._stretches.question(id, ring)
        if self._branches:
            self._asked = self._taken_branches()
            return AskBranches(id, ring, self._me, pack_row([pack_node(node) for node in self._asked]))
        self._asked_groups = _taken(self._groups, GROUPS_MAX)
        groups = [group.to_bytes(GROUP_BYTES, "big") for group in self._asked_groups]
        return AskBranches(id, ring, self._me, pack_row(groups))

    def _taken_branches(self) -> list[Node]:
        """The deepest, for they were found last; in their order."""
        taken: list[Node] = []
        summed = 0
        while self._branches and len(taken) < NODES_MAX:
            node = self._branches[-1]
            tree = self._trees.get(node.head)
            summed += 0 if tree is None else 1 << max(tree.depth - node.depth, 0)
            if taken and summed > SUMMED_MAX:
                break
            taken.append(self._branches.pop())
        taken.reverse()
        return taken

    def _ask_leaves(self, id: int, ring: int) -> CompareLeaves:
        """About none, where all are too full here: their heads are listed then."""
        self._asked, self._elements = [], []
        items: list[bytes | None] = [b""]
        room = Room()
        enough = room.left - LEAVES_BYTES_MAX
        while self._leaves and len(self._asked) < LEAVES_MAX and room.left > enough:
            node = self._leaves.popleft()
            leaf = read_leaf(self._replica, node, room)
            if leaf is None:
                self._list(node.head)
                continue
            if leaf.damaged:
                self.unfinished[node.head] = None
            self._asked.append(node)
            self._elements.append(leaf)
            items += (pack_node(node), b"".join(leaf.elements.values()))
        return CompareLeaves(id, ring, pack_row(items[1:] or items))

    # ── being answered ──

    def answer(self, answer: Answer) -> Found:
        """Of the class that answers the last question."""
        found = NOTHING
        if isinstance(answer, RootsCompared):
            self._roots(answer)
        elif isinstance(answer, Compared):
            found = self._stretch(answer)
        elif isinstance(answer, LeavesCompared):
            found = self._compare_leaves(answer)
        elif self._asked:
            self._compare_branches(answer)
        else:
            self._compare_groups(answer)
        self._conclude()
        return found

    def _roots(self, answer: RootsCompared) -> None:
        if self._lost and answer.generations:
            self.generations = unpack_generations(answer.generations)
        if answer.equal:
            return
        theirs = unpack_totals(answer.groups, count=self._shared.group_count)
        mine = self._shared.groups(self._node)
        self._groups.extend(
            number for number, (one, other) in enumerate(zip(mine, theirs, strict=True)) if one != other
        )

    def _compare_groups(self, answer: Branches) -> None:
        groups, self._asked_groups = self._asked_groups, []
        items = unpack_row(answer.sums, items_max=len(groups))
        theirs: dict[bytes, int] = {}
        for group, item in zip(groups, items, strict=True):
            heads = unpack_heads(item or b"")
            if any(self._shared.group_of(head) != group for head in heads):
                raise ValueError("a tree in another group than its own")
            theirs.update(heads)
        mine = self._shared.totals(self._node, dict.fromkeys(groups))
        for head in sorted({**mine, **theirs}):
            if mine.get(head) == theirs.get(head) or self._node not in self._shared.others(head):
                continue
            self._differ[head] = False
            if head not in mine or head not in theirs or self._patience.get(head, 0) >= PATIENCE:
                self._list(head)
            else:
                self._go_below(Node(head, 0, 0))

    def _go_below(self, node: Node) -> None:
        if node.head in self._listed:
            return
        tree = self._trees.get(node.head)
        if tree is None:
            self._list(node.head)  # all of it went, since
        elif node.depth >= tree.depth:
            self._leaves.append(node)
        else:
            self._branches.append(node)

    def _compare_branches(self, answer: Branches) -> None:
        nodes, self._asked = self._asked, []
        items = unpack_row(answer.sums, items_max=len(nodes))
        for node, item in zip(nodes, items, strict=True):
            tree = self._trees.get(node.head)
            if item is None or tree is None:
                self._list(node.head)
                continue
            sums = unpack_sums(item)
            below = node.depth + max(len(sums).bit_length() - 1, 0)
            if not sums or below > tree.depth:
                if node.head not in self._listed:
                    self._leaves.append(node)
                continue
            self._compare_sums(tree, node, sums, below)

    def _compare_sums(self, tree: Tree, node: Node, sums: Sequence[int], below: int) -> None:
        first = node.number << below - node.depth
        mine = tree.sums(node.depth, node.number, below=below)
        for number, (one, other) in enumerate(zip(mine, sums, strict=True)):
            if one != other:
                self._go_below(Node(node.head, below, first + number))

    def _compare_leaves(self, answer: LeavesCompared) -> Found:
        nodes, leaves = self._asked, self._elements
        self._asked, self._elements = [], []
        wanted: list[bytes] = []
        missing: list[bytes] = []
        items = unpack_row(answer.differences, items_max=len(nodes))
        for node, leaf, item in zip(nodes, leaves, items, strict=True):
            if item is None:
                self._list(node.head)
            if item is None or node.head in self._listed:
                continue
            mine = list(leaf.elements)
            theirs, lacks, damaged = unpack_difference(item, head=node.head, elements=len(mine))
            if damaged:
                self.unfinished[node.head] = None
            self._sort_out(node.head, theirs, wanted)
            fetched = dict.fromkeys(theirs)
            self._sort_out(node.head, [slot for n in lacks if (slot := mine[n]) not in fetched], missing)
        return Found(wanted, missing)

    def _sort_out(self, head: bytes, slots: Sequence[bytes], into: list[bytes]) -> None:
        """What is moving is left for the next time."""
        for slot in slots:
            self._differ[head] = True
            if not self._patience.get(head, 0) and self._is_moving(slot):
                self.unfinished[head] = self.puzzling[head] = None
            else:
                into.append(slot)

    def _list(self, head: bytes) -> None:
        """Once, whatever of it differs."""
        if head not in self._listed:
            self._listed[head] = None
            self._heads.append(head)
            self._leaves = deque(node for node in self._leaves if node.head != head)
            self._branches = deque(node for node in self._branches if node.head != head)
        self._differ[head] = True

    def _stretch(self, answer: Compared) -> Found:
        walk = self._stretches
        assert walk is not None
        found = walk.answer(answer)
        self.unfinished.update(walk.unfinished)
        if walk.done:
            self._stretches = None
        return found

    def _conclude(self) -> None:
        waiting = self._groups or self._branches or self._leaves or self._heads
        if waiting or self._stretches is not None:
            return
        self.done = True
        for head, is_found in self._differ.items():
            if not is_found:
                self.unfinished[head] = self.puzzling[head] = None


def _taken(queue: deque[_T], most: int) -> list[_T]:
    return [queue.popleft() for _ in range(min(most, len(queue)))]
