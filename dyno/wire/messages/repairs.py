"""Between nodes: comparing copies, reaping, and what there is (docs/design/survival.md, anti_entropy.md)."""

from __future__ import annotations

from typing import NamedTuple


class Compare(NamedTuple):
    """Compare a stretch of one (partition, n) of which both are owners: the slots behind `after` up to and
    with `end` (b"": to the end of the partition). digest: over what the asker has there."""

    id: int
    ring: int
    partition: int
    copies: int
    after: bytes
    end: bytes
    digest: bytes


class Compared(NamedTuple):
    """entries: b"" when the digests are equal, else packed slots and digests of what is here, up to and with
    `end`. generation: how often the (partition, n) was reaped here."""

    id: int
    status: int
    equal: bool
    entries: bytes
    end: bytes
    generation: int


class Fetch(NamedTuple):
    """The records of these slots, with their keys. slots: engine keys, one after another."""

    id: int
    ring: int
    slots: bytes


class Fetched(NamedTuple):
    """entries: a row (wire.rows) with two items for each slot, in their order: key and record; two nulls for
    one that has to be asked for again (corrupt, or too much for one answer), two b"" where there is none."""

    id: int
    status: int
    entries: bytes


class CompareRoots(NamedTuple):
    """Compare all that two nodes own both, by one sum. node: who asks. total: of all records there, 16 bytes.
    lost: the asker may lack what was acknowledged in its name, and wants to know what was reaped."""

    id: int
    ring: int
    node: str
    total: bytes
    lost: bool


class RootsCompared(NamedTuple):
    """groups: b"" when the totals are equal, else the sums of all groups of partitions, 16 bytes each.
    generations: packed (wire.trees) how often each (partition, n) of both was reaped here; b"" unless asked
    for. STATUS_WEAK: the trees here are not complete yet."""

    id: int
    status: int
    equal: bool
    groups: bytes
    generations: bytes


class AskBranches(NamedTuple):
    """nodes: a row (wire.rows) of groups of partitions (2 bytes), or of nodes of trees (wire.trees)."""

    id: int
    ring: int
    node: str
    nodes: bytes


class Branches(NamedTuple):
    """sums: a row with an item for each node: of a group the totals of its (partition, n), of a node in a
    tree the sums of those below it, b"" where there are none (wire.trees)."""

    id: int
    status: int
    sums: bytes


class CompareLeaves(NamedTuple):
    """leaves: a row of two items for each: the node, and the first 8 bytes of all elements that the asker has
    there."""

    id: int
    ring: int
    leaves: bytes


class LeavesCompared(NamedTuple):
    """differences: a row with an item for each leaf (wire.trees): which slots the answering node has that the
    asker has not so, and which of the asker's elements it has not; null where that is too many to be told."""

    id: int
    status: int
    differences: bytes


class Committed(NamedTuple):
    """The speaker's disk has a commit of this number: said to two of the others, each in its turn, for what a
    node acknowledges to clients by itself no answer tells. directory, start: as in its Hello."""

    directory: bytes
    start: bytes
    commit: int


class AskReap(NamedTuple):
    """May these entries be dropped? candidates: packed (protocol.reaping)."""

    id: int
    ring: int
    partition: int
    copies: int
    candidates: bytes


class Reapable(NamedTuple):
    """agreed: those of the candidates that may, as far as the answering node is concerned. reason: why not,
    for people."""

    id: int
    status: int
    agreed: bytes
    reason: str


class Reap(NamedTuple):
    """Drop them; answered with Stored. generation: what it is after this."""

    id: int
    ring: int
    partition: int
    copies: int
    generation: int
    agreed: bytes


class AskHints(NamedTuple):
    id: int


class HintsHeld(NamedTuple):
    """hints: packed (wire.hints): what the answering node keeps."""

    id: int
    hints: bytes


class Explain(NamedTuple):
    """A client's question: what does every owner hold of this key? Any node answers. forwarded: never."""

    id: int
    bucket: str
    key: bytes
    budget_ms: int
    forwarded: bool


class Explained(NamedTuple):
    """report: packed (wire.explanations)."""

    id: int
    report: bytes


class Examine(NamedTuple):
    """What do you hold under this slot, as a copy and as hints?"""

    id: int
    ring: int
    slot: bytes


class Examined(NamedTuple):
    """report: packed (wire.explanations), of one node."""

    id: int
    status: int
    report: bytes


class AskRepair(NamedTuple):
    """Compare all copies now, and tell how far that is. Any node answers, for all; asked again with the same
    id of a run it goes on. run: b"" to be told alone, what each node mended since its start. bucket: "" for
    all. merge: first take back what is set aside."""

    id: int
    run: bytes
    bucket: str
    merge: bool


class RepairTold(NamedTuple):
    """reports: packed (wire.repairs), one for each member."""

    id: int
    reports: bytes


class Repair(NamedTuple):
    """The same between nodes. copies: of which n; 0 for all."""

    id: int
    ring: int
    run: bytes
    copies: int
    merge: bool


class Repaired(NamedTuple):
    """report: packed (wire.repairs), of one node."""

    id: int
    status: int
    report: bytes
