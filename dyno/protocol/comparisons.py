"""What other nodes ask when they compare copies with this one: of stretches, of trees, and for records.

In: their questions, which may be anybody's bytes. Out: answers from what is on the disk now. Nothing is kept
of a question, so one that comes late or twice is answered again. Raises ValueError for what no node sends.
What is closed (`quarantine`) is told to nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from dyno.config import COPIES_MAX
from dyno.merkle.tree import FANOUT_BITS
from dyno.placement.hashing import SLOT_BYTES, slot_copies, slot_partition
from dyno.protocol.generations import HEAD_BYTES
from dyno.protocol.leaf import KEYS_MAX as LEAF_KEYS_MAX
from dyno.protocol.leaf import Room, read_leaf
from dyno.protocol.stretch import KEYS_MAX, bounds, read_stretch
from dyno.protocol.walks import LEAVES_MAX, NODES_MAX
from dyno.storage.engine import Span
from dyno.wire.entries import digest_of_stretch, pack_slots
from dyno.wire.messages import (
    STATUS_OK,
    STATUS_OVERLOADED,
    STATUS_RING,
    STATUS_WEAK,
    AskBranches,
    Branches,
    Compare,
    Compared,
    CompareLeaves,
    CompareRoots,
    Fetch,
    Fetched,
    LeavesCompared,
    RootsCompared,
)
from dyno.wire.rows import pack_row, unpack_keys
from dyno.wire.trees import (
    GROUP_BYTES,
    SUM_BYTES,
    Difference,
    Node,
    pack_difference,
    pack_generations,
    pack_heads,
    pack_sums,
    pack_totals,
    unpack_node,
    unpack_totals,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dyno.protocol.generations import Generations
    from dyno.protocol.leaf import Leaf
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.planner import Planner
    from dyno.protocol.recovery import Recovery
    from dyno.protocol.replica import Replica
    from dyno.protocol.shared import Shared

FETCH_SLOTS_MAX: Final = 256  # of one Fetch
# Of records in one answer, but for the first. Whoever asked merges all of them in one turn, and in one batch
# with what its clients write, who wait for both.
FETCH_BYTES_MAX: Final = 32 << 10
LISTED_BYTES_MAX: Final = 8 << 20  # that are read to answer


class Comparisons:
    """me: this node's name."""

    def __init__(
        self,
        *,
        me: str,
        planner: Planner,
        replica: Replica,
        recovery: Recovery,
        generations: Generations,
        shared: Shared,
    ) -> None:
        self._me = me
        self._planner = planner
        self._replica = replica
        self._recovery = recovery
        self._generations = generations
        self._shared = shared

    def doors(self) -> Mapping[type, Callable[..., None]]:
        return {
            Compare: self._compare,
            Fetch: self._fetch,
            CompareRoots: self._roots,
            AskBranches: self._branches,
            CompareLeaves: self._leaves,
        }

    # ── stretches and records ──

    def _compare(self, link: int, message: Compare, now: float, out: Outbox) -> None:
        head = _head_of(message)
        status = self._why_not(message.ring, (head,))
        if status != STATUS_OK:
            out.replies.append((link, Compared(message.id, status, False, b"", b"", 0)))
            return
        here = read_stretch(
            self._replica,
            head,
            after=message.after,
            end=message.end,
            keys_max=KEYS_MAX,
            bytes_max=LISTED_BYTES_MAX,
        )
        equal = (
            here.end == message.end and not here.damaged and digest_of_stretch(here.entries) == message.digest
        )
        entries = b"" if equal else pack_slots(here.entries)
        generation = self._generations.of(head)
        out.replies.append((link, Compared(message.id, STATUS_OK, equal, entries, here.end, generation)))

    def _fetch(self, link: int, message: Fetch, now: float, out: Outbox) -> None:
        slots = slots_fetched(message)
        status = self._why_not(message.ring, [slot[:HEAD_BYTES] for slot in slots])
        if status != STATUS_OK:
            out.replies.append((link, Fetched(message.id, status, b"")))
            return
        items: list[bytes | None] = []
        for copy in self._replica.copies_of(slots, bytes_max=FETCH_BYTES_MAX):
            items += (None, None) if copy is None else copy
        out.replies.append((link, Fetched(message.id, STATUS_OK, pack_row(items))))

    # ── trees ──

    def _roots(self, link: int, message: CompareRoots, now: float, out: Outbox) -> None:
        (theirs,) = unpack_totals(message.total, count=1)
        status = self._why_no_trees(message)
        if status != STATUS_OK:
            out.replies.append((link, RootsCompared(message.id, status, False, b"", b"")))
            return
        node = message.node
        equal = self._shared.root(node) == theirs
        groups = b"" if equal else pack_totals(self._shared.groups(node))
        generations = b""
        if message.lost:
            numbers = self._generations.reaped()
            generations = pack_generations(
                {head: number for head, number in numbers.items() if node in self._shared.others(head)}
            )
        out.replies.append((link, RootsCompared(message.id, STATUS_OK, equal, groups, generations)))

    def _branches(self, link: int, message: AskBranches, now: float, out: Outbox) -> None:
        nodes = _distinct(unpack_keys(message.nodes, items_max=NODES_MAX))
        status = self._why_no_trees(message)
        if status != STATUS_OK:
            out.replies.append((link, Branches(message.id, status, b"")))
        elif len(nodes[0]) == GROUP_BYTES:
            out.replies.append((link, Branches(message.id, STATUS_OK, self._heads(message.node, nodes))))
        else:
            sums = [self._sums(message.node, unpack_node(node)) for node in nodes]
            out.replies.append((link, Branches(message.id, STATUS_OK, pack_row(sums))))

    def _heads(self, node: str, packed: Sequence[bytes]) -> bytes:
        groups = [int.from_bytes(group, "big") for group in packed]
        if any(len(group) != GROUP_BYTES for group in packed) or max(groups) >= self._shared.group_count:
            raise ValueError("a group of partitions that there is not")
        by_group: dict[int, dict[bytes, int]] = {group: {} for group in groups}
        for head, total in self._shared.totals(node, by_group).items():
            by_group[self._shared.group_of(head)][head] = total
        return pack_row([pack_heads(by_group[group]) for group in groups])

    def _sums(self, asker: str, node: Node) -> bytes | None:
        """Of the nodes below one; b"" of a leaf, None where there is no tree."""
        tree = self._replica.trees.by_head.get(node.head)
        if tree is None or asker not in self._shared.others(node.head):
            return None
        below = min(node.depth + FANOUT_BITS, tree.depth)
        return pack_sums(tree.sums(node.depth, node.number, below=below)) if below > node.depth else b""

    def _leaves(self, link: int, message: CompareLeaves, now: float, out: Outbox) -> None:
        nodes, elements = leaves_compared(message)
        status = self._why_not(message.ring, [node.head for node in nodes])
        if status != STATUS_OK:
            out.replies.append((link, LeavesCompared(message.id, status, b"")))
            return
        room = Room()
        told = [
            _difference(read_leaf(self._replica, node, room), _elements(packed))
            for node, packed in zip(nodes, elements, strict=True)
        ]
        out.replies.append((link, LeavesCompared(message.id, STATUS_OK, pack_row(told))))

    # ── whether to answer ──

    def _why_not(self, fingerprint: int, heads: Sequence[bytes]) -> int:
        """STATUS_OK where there is nothing against it."""
        distinct = dict.fromkeys(heads)
        if not all(self._owns(fingerprint, head) for head in distinct):
            return STATUS_RING
        closed = self._replica.closed
        return STATUS_OVERLOADED if closed and any(head in closed for head in distinct) else STATUS_OK

    def _why_no_trees(self, message: CompareRoots | AskBranches) -> int:
        ring = self._planner.ring
        if ring is None or ring.fingerprint != message.ring or message.node not in ring.names:
            return STATUS_RING
        if self._replica.closed:
            return STATUS_OVERLOADED
        if not self._replica.trees.ready:
            return STATUS_WEAK
        if isinstance(message, CompareRoots) and not message.lost:
            # What this node lacks it asks for itself.
            missing = self._recovery.missing()
            return STATUS_WEAK if any(name == message.node for _, name in missing) else STATUS_OK
        return STATUS_OK

    def _owns(self, fingerprint: int, slot: bytes) -> bool:
        """Whether this node has a copy of that (partition, n), as whoever asks believes."""
        ring = self._planner.ring
        return (
            ring is not None
            and ring.fingerprint == fingerprint
            and slot_partition(slot) < ring.partitions
            and slot_copies(slot) in self._recovery.copies_in_use()
            and self._me in ring.owners(slot)
        )


def span_compared(message: Compare) -> Span:
    """What is read to answer. Raises ValueError for what no node sends."""
    start, stop = bounds(_head_of(message), after=message.after, end=message.end)
    return Span(start, stop, KEYS_MAX)


def leaves_compared(message: CompareLeaves) -> tuple[list[Node], list[bytes]]:
    """Which they are, and what the asker has there, packed. Raises ValueError for what no node sends."""
    items = unpack_keys(message.leaves, items_max=2 * LEAVES_MAX)
    if len(items) % 2:
        raise ValueError("a leaf without its elements")
    return [unpack_node(node) for node in _distinct(items[::2])], items[1::2]


def slots_fetched(message: Fetch) -> list[bytes]:
    """Raises ValueError for what no node sends."""
    count, rest = divmod(len(message.slots), SLOT_BYTES)
    if rest or not 1 <= count <= FETCH_SLOTS_MAX:
        raise ValueError(f"slots of {len(message.slots)} bytes in all")
    return [message.slots[at : at + SLOT_BYTES] for at in range(0, len(message.slots), SLOT_BYTES)]


def _distinct(nodes: list[bytes]) -> list[bytes]:
    """Each is work, so it is done once."""
    if len(dict.fromkeys(nodes)) < len(nodes):
        raise ValueError("a node of a tree is asked about twice")
    return nodes


def _elements(packed: bytes) -> list[bytes]:
    count, rest = divmod(len(packed), SUM_BYTES)
    if rest or count > LEAF_KEYS_MAX:
        raise ValueError(f"elements of a leaf in {len(packed)} bytes")
    return [packed[at : at + SUM_BYTES] for at in range(0, len(packed), SUM_BYTES)]


def _difference(here: Leaf | None, theirs: list[bytes]) -> bytes | None:
    if here is None:
        return None
    known = dict.fromkeys(theirs)
    mine = dict.fromkeys(here.elements.values())
    return pack_difference(
        Difference(
            [slot for slot, element in here.elements.items() if element not in known],
            [number for number, element in enumerate(theirs) if element not in mine],
            bool(here.damaged),
        )
    )


def _head_of(message: Compare) -> bytes:
    if not 1 <= message.copies <= COPIES_MAX or message.partition >> 16:
        raise ValueError(f"a comparison of partition {message.partition}, n={message.copies}")
    head = (message.partition << 8 | message.copies).to_bytes(HEAD_BYTES, "big")
    for bound in (message.after, message.end):
        if bound and (len(bound) != SLOT_BYTES or not bound.startswith(head)):
            raise ValueError("a stretch that is none")
    return head
