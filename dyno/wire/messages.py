"""Every message that crosses a wire, as a plain value.

A message is a NamedTuple of flat fields, each of exactly one of the types int, bool, bytes, str or float:
flat CBOR is several times cheaper than nested, and an exact type per field makes strict decoding one
comparison. Where a message carries many records (members), they are one packed `bytes` field.

`id` pairs an answer with its request; it is chosen by the asker and unique per link. Lists of node names
are one comma-joined str, for names never hold a comma. Integers are never negative.

Conventions for client requests: a quorum field is a literal count or one of DEFAULT, QUORUM, ALL.
`budget_ms` is the time that the caller still waits; a node drops what has expired unstarted.
`forwarded` marks a request that a node which does not own the key passed on; it is never passed on again.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

# Quorum fields above any possible count.
DEFAULT = 1 << 16  # the bucket's own
QUORUM = DEFAULT + 1  # n // 2 + 1
ALL = DEFAULT + 2  # n
STRICT = DEFAULT + 3  # of pr and pw alone: as many as r, or w

PROTOCOL_VERSION = 1

GET_MANY_KEYS_MAX = 256  # of one GetMany: so many fit a group number of one byte
READ_MANY_SLOTS_MAX = 4096  # of one ReadMany
READ_MANY_BYTES_MAX = 1 << 20  # of records in one answer; what would be beyond is asked for alone


# ── handshake: the first message of either side of a TCP link ──────────────────────────────────────────


class Hello(NamedTuple):
    """Who speaks. A client leaves everything after `role` empty but `cluster`, where it knows one.

    The answering node sends its own Hello, or a Refuse and closes. protocol_low..protocol_high is the
    range of versions that the speaker can talk; both sides use the highest common one. capabilities:
    comma-joined flags. cluster: 16 bytes, or b"" (a client, or a node that has not joined yet).
    """

    protocol_low: int
    protocol_high: int
    role: str  # "peer" | "client"
    cluster: bytes
    partitions: int
    name: str
    directory: bytes
    start: bytes
    capabilities: str
    commit: int = 0  # the number of the speaker's last commit
    seen: int = 0  # by who answers: the highest one known of the other's directory from before its start
    rounds: int = 0  # the highest number of a reaping that the speaker knows of


class Refuse(NamedTuple):
    """Why the link is about to be closed. code: "cluster", "partitions", "protocol", "name", "overloaded"…"""

    code: str
    text: str


# ── pieces of a message that is too large for one frame ────────────────────────────────────────────────


class Chunk(NamedTuple):
    """The next piece of the one large message under way in this direction, alone in its frame (wire.link).
    last: the pieces together are now the body of a frame that holds that message."""

    part: bytes
    last: bool


# ── client requests and their answers ──────────────────────────────────────────────────────────────────


class Get(NamedTuple):
    id: int
    bucket: str
    key: bytes
    r: int
    pr: int
    budget_ms: int
    forwarded: bool


class GetMany(NamedTuple):
    """Read many keys of one bucket, where that is plain: what the answer leaves out is asked for by `Get`.
    keys: a row (wire.rows) of 1..GET_MANY_KEYS_MAX."""

    id: int
    bucket: str
    keys: bytes
    r: int
    pr: int
    budget_ms: int


class Put(NamedTuple):
    """value: the encoded user value. context: a token (causality.token) or b"". conditional: if_context was
    given, and `context` is it. request: 16 bytes, drawn by the session, the same for every retry. again: it
    was sent before and may have been done."""

    id: int
    bucket: str
    key: bytes
    value: bytes
    context: bytes
    conditional: bool
    w: int
    pw: int
    request: bytes
    budget_ms: int
    forwarded: bool
    again: bool = False


class Delete(NamedTuple):
    """context: a token; b"" means: read first, by r and pr, then delete what was read."""

    id: int
    bucket: str
    key: bytes
    context: bytes
    r: int
    pr: int
    w: int
    pw: int
    request: bytes
    budget_ms: int
    forwarded: bool


class ListKeys(NamedTuple):
    """A page of the live keys that a bucket has in one partition, in the order of their hashes. after: the
    cursor of the page before, b"" for the first. limit: how many keys at most; a node may give fewer."""

    id: int
    bucket: str
    partition: int
    after: bytes
    limit: int
    r: int
    pr: int
    budget_ms: int
    forwarded: bool


class Found(NamedTuple):
    """Answer to Get. record: canonical bytes (causality.record), b"" when no replica has one."""

    id: int
    record: bytes
    answered: str
    fallbacks: str


class FoundMany(NamedTuple):
    """Answer to GetMany. records: a row with an item for each key, in their order: canonical bytes, b"" when
    no replica has one, null for a key that has to be asked for alone. answered: the nodes behind the records,
    groups of names separated by ";"; which: for each key the number of its group, one byte (0 for a null)."""

    id: int
    records: bytes
    answered: str
    which: bytes


class Done(NamedTuple):
    """Answer to Put and Delete. context: packed causality.Context of the write, not yet a token."""

    id: int
    context: bytes
    answered: str
    fallbacks: str


class Listed(NamedTuple):
    """Answer to ListKeys. keys: packed (wire.pages), perhaps none. cursor: where to go on, a key's hash; b""
    when the partition has no more."""

    id: int
    keys: bytes
    cursor: bytes


class Failed(NamedTuple):
    """Answer to any client request. code: errors.Code. record: for "conflict", the coordinator's record."""

    id: int
    code: str
    message: str
    needed: int
    nodes: str  # that answered
    indeterminate: bool
    retry_after_ms: int
    record: bytes


class AskMembers(NamedTuple):
    id: int


class Members(NamedTuple):
    """Answer to AskMembers and AskStatus. ring: fingerprint of the ring. members: packed (wire.members)."""

    id: int
    cluster: bytes
    partitions: int
    ring: int
    members: bytes
    hints: bytes = b""  # to AskStatus alone: packed (wire.hints), how many hints which node keeps for which


class AskStatus(NamedTuple):
    """The members, and how many hints each keeps, which their own nodes are asked for; answered with Members.
    Who does not say it soon is missing in `hints`."""

    id: int


class CreateBucket(NamedTuple):
    """Create a bucket, or find it created with just these properties; answered with Buckets, or Failed. r, w:
    a count, QUORUM or ALL. kind: its number (buckets.properties)."""

    id: int
    bucket: str
    n: int
    r: int
    w: int
    kind: int
    budget_ms: int


class AskBuckets(NamedTuple):
    id: int


class Buckets(NamedTuple):
    """Answer to CreateBucket: that bucket; to AskBuckets: all that are created. buckets: packed
    (buckets.table)."""

    id: int
    buckets: bytes


# ── between nodes: replicas ────────────────────────────────────────────────────────────────────────────


class Read(NamedTuple):
    """Ask a replica for its record. ring: the fingerprint that the coordinator planned with. slot: the
    engine key (partition ‖ n ‖ bucket id ‖ key hash)."""

    id: int
    ring: int
    slot: bytes


class ReadAnswer(NamedTuple):
    """status: one of the STATUS_ constants. record: canonical bytes, b"" when there is none."""

    id: int
    status: int
    record: bytes


class ReadMany(NamedTuple):
    """Ask a replica for many records at once. slots: engine keys, one after another."""

    id: int
    ring: int
    slots: bytes


class ReadManyAnswer(NamedTuple):
    """status: STATUS_OK, or why nothing was read. records: a row with an item for each slot, in their order:
    canonical bytes, b"" when there is none, null for one that has to be asked for alone (it is on its way to
    the disk, or corrupt, or would make the answer too large)."""

    id: int
    status: int
    records: bytes


class Store(NamedTuple):
    """Merge a record into a replica's own and store it. id 0: no answer is wanted (read repair)."""

    id: int
    ring: int
    slot: bytes
    key: bytes
    record: bytes


class Stored(NamedTuple):
    """Sent once the replica's disk has it (fsync), or with the reason why it does not. commit: the number of
    a commit that has it, 0 without."""

    id: int
    status: int
    commit: int = 0


class Scan(NamedTuple):
    """Ask a replica what it has of one bucket in one partition. prefix: what the slots of that stretch begin
    with (partition ‖ n ‖ bucket id). after: the key hash to begin behind, b"" for the start. limit: records
    at most; a replica may give fewer."""

    id: int
    ring: int
    prefix: bytes
    after: bytes
    limit: int


class ScanAnswer(NamedTuple):
    """entries: packed (wire.pages), everything that is on the replica's disk behind `after` up to and with
    the hash `end`, tombstones too; end b"": to the end of the stretch."""

    id: int
    status: int
    entries: bytes
    end: bytes


class StoreHint(NamedTuple):
    """Keep a record for the owner `target`, who cannot take it now; answered with Stored. generation: how
    often the (partition, n) was reaped, as far as the sender knows. needed: the write counts on it."""

    id: int
    ring: int
    slot: bytes
    key: bytes
    record: bytes
    target: str
    generation: int
    needed: bool


class HandOver(NamedTuple):
    """A hint for the one it was kept for: like Store, but refused when it is older than the last reaping of
    its (partition, n). Answered with Stored."""

    id: int
    ring: int
    slot: bytes
    key: bytes
    record: bytes
    generation: int


class Recall(NamedTuple):
    """Do you know this write?"""

    id: int
    ring: int
    slot: bytes
    request: bytes


class Recalled(NamedTuple):
    """actor, counter: the dot of the write, b"" and 0 if it is not known. record: the replica's, if it is,
    on its disk."""

    id: int
    status: int
    actor: bytes
    counter: int
    record: bytes


STATUS_OK = 0
STATUS_RING = 1  # another ring, or a member is joining; nothing was done
STATUS_OVERLOADED = 2  # a bound was reached; nothing was done
STATUS_STORAGE = 3  # the disk said no, or the record is corrupt
STATUS_REFUSED = 4  # the record contradicts ours (one dot, two values) or is malformed
STATUS_WEAK = 5  # the record of a copy that is not complete again yet
STATUS_REAPED = 6  # older than what was reaped since; it must not come back


# ── between nodes: exchanges, reaping, what there is (docs/design/survival.md) ──────────────────────────


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


# ── between nodes: membership over TCP ─────────────────────────────────────────────────────────────────


class AskJoin(NamedTuple):
    """A node that is not a member yet asks any member how to become one. member: its record as it would be
    (packed, one record; stamp 0)."""

    id: int
    member: bytes


class Introduce(NamedTuple):
    """Answer to AskJoin: the cluster as the answering member knows it. stamp: the highest start stamp known
    for that name (0 if none); seat: the name's seat id to inherit, or b""."""

    id: int
    cluster: bytes
    partitions: int
    stamp: int
    seat: bytes
    members: bytes


class Admit(NamedTuple):
    """The joiner asks every member to take it in: member is its packed record, state joining."""

    id: int
    member: bytes


class Assent(NamedTuple):
    """Answer to Admit, once durable. members: all that the answering member knows."""

    id: int
    members: bytes


class Reject(NamedTuple):
    """Answer to AskJoin and Admit. code: "data" (the cluster holds data), "name" (a live node has it),
    "busy" (ask again soon)."""

    id: int
    code: str
    text: str


class PushPull(NamedTuple):
    """The whole member table. answer: True when the other's table is wanted back."""

    members: bytes
    answer: bool


# ── between nodes: buckets (docs/design/buckets.md) ─────────────────────────────────────────────────────


class Propose(NamedTuple):
    """May this bucket be created? ring: the fingerprint that the coordinator sees. bucket: one packed entry,
    reserved. firm: reserve the name, durably, before assenting; else just look whether that could be."""

    id: int
    ring: int
    bucket: bytes
    firm: bool


class Proposed(NamedTuple):
    """Answer to Propose; assent to a firm one once it is on disk. verdict: one of the constants below."""

    id: int
    verdict: int
    text: str


ASSENTED = 0
BUSY = 1  # not now; it may be another time
REFUSED = 2  # this bucket cannot be created with these properties


class Withdrawn(NamedTuple):
    """Nothing comes of a proposal, ever. Said by its coordinator alone: unasked, and as answer to AskFate."""

    bucket: str
    proposal: bytes


class AskFate(NamedTuple):
    """What became of a proposal? Its coordinator, and whoever knows the bucket as created, answers."""

    bucket: str
    proposal: bytes
    coordinator: bytes


class SwapBuckets(NamedTuple):
    """All buckets that the sender knows of, packed; everything in it is on its disk. Goes before every Assent
    as well. answer: True when the other's are wanted back."""

    buckets: bytes
    answer: bool


# ── datagrams (UDP): one message per packet, with piggybacked member records ───────────────────────────


class Ping(NamedTuple):
    """Only the process that carries (target, target_start) answers; target_start b"" asks whoever holds the
    name (used to see whether the holder of a name lives). A datagram; on a link where datagrams got no
    answer. So is its Ack."""

    seq: int
    target: str
    target_start: bytes
    sender: str
    gossip: bytes


class Ack(NamedTuple):
    """start: the start id of the process that answers."""

    seq: int
    sender: str
    start: bytes
    gossip: bytes


class PingRequest(NamedTuple):
    """Ask another member to ping target for us and to relay its Ack."""

    seq: int
    target: str
    target_start: bytes
    address: str
    sender: str
    gossip: bytes


class Gossip(NamedTuple):
    """Nothing but member records."""

    sender: str
    gossip: bytes


class Nack(NamedTuple):
    """To who asked by PingRequest: no Ack came until now. So this way, at least, is open, and so are you."""

    seq: int
    sender: str


class Doubts(NamedTuple):
    """Packed doubts (wire.doubts), and member records as in Gossip."""

    sender: str
    doubts: bytes
    gossip: bytes


ClientRequest: TypeAlias = (
    Get
    | GetMany
    | Put
    | Delete
    | ListKeys
    | AskMembers
    | AskStatus
    | CreateBucket
    | AskBuckets
    | Explain
    | AskRepair
)
ClientAnswer: TypeAlias = (
    Found | FoundMany | Done | Listed | Failed | Members | Buckets | Explained | RepairTold
)
PeerMessage: TypeAlias = (
    Read
    | ReadAnswer
    | ReadMany
    | ReadManyAnswer
    | Store
    | Stored
    | Scan
    | ScanAnswer
    | AskJoin
    | Introduce
    | Admit
    | Assent
    | Reject
    | PushPull
    | Propose
    | Proposed
    | Withdrawn
    | AskFate
    | SwapBuckets
    | StoreHint
    | HandOver
    | Recall
    | Recalled
    | Compare
    | Compared
    | Fetch
    | Fetched
    | CompareRoots
    | RootsCompared
    | AskBranches
    | Branches
    | CompareLeaves
    | LeavesCompared
    | Committed
    | AskReap
    | Reapable
    | Reap
    | AskHints
    | HintsHeld
    | Examine
    | Examined
    | Repair
    | Repaired
    | Ping
    | Ack
)
Datagram: TypeAlias = Ping | Ack | PingRequest | Gossip | Nack | Doubts
Message: TypeAlias = Hello | Refuse | ClientRequest | ClientAnswer | PeerMessage
