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

from typing import TypeAlias

from dyno.wire.messages.clients import (
    ALL,
    DEFAULT,
    GET_MANY_KEYS_MAX,
    QUORUM,
    STRICT,
    AskBuckets,
    AskMembers,
    AskStatus,
    Buckets,
    CreateBucket,
    Delete,
    Done,
    Failed,
    Found,
    FoundMany,
    Get,
    GetMany,
    Listed,
    ListKeys,
    Members,
    Put,
)
from dyno.wire.messages.links import (
    PROTOCOL_VERSION,
    Chunk,
    Hello,
    Refuse,
)
from dyno.wire.messages.members import (
    ASSENTED,
    BUSY,
    REFUSED,
    Ack,
    Admit,
    AskFate,
    AskJoin,
    Assent,
    Doubts,
    Gossip,
    Introduce,
    Nack,
    Ping,
    PingRequest,
    Propose,
    Proposed,
    PushPull,
    Reject,
    SwapBuckets,
    Withdrawn,
)
from dyno.wire.messages.repairs import (
    AskBranches,
    AskHints,
    AskReap,
    AskRepair,
    Branches,
    Committed,
    Compare,
    Compared,
    CompareLeaves,
    CompareRoots,
    Examine,
    Examined,
    Explain,
    Explained,
    Fetch,
    Fetched,
    HintsHeld,
    LeavesCompared,
    Reap,
    Reapable,
    Repair,
    Repaired,
    RepairTold,
    RootsCompared,
)
from dyno.wire.messages.replicas import (
    READ_MANY_BYTES_MAX,
    READ_MANY_SLOTS_MAX,
    STATUS_OK,
    STATUS_OVERLOADED,
    STATUS_REAPED,
    STATUS_REFUSED,
    STATUS_RING,
    STATUS_STORAGE,
    STATUS_WEAK,
    HandOver,
    Read,
    ReadAnswer,
    ReadMany,
    ReadManyAnswer,
    Recall,
    Recalled,
    Scan,
    ScanAnswer,
    Store,
    Stored,
    StoreHint,
)
from dyno.wire.messages.ring import (
    AskRing,
    RingAccept,
    RingAccepted,
    RingEntry,
    RingFence,
    RingFenced,
    RingKnown,
    RingOutvoted,
    RingPrepare,
    RingPromised,
)

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
    | AskRing
    | RingEntry
    | RingKnown
    | RingPrepare
    | RingPromised
    | RingAccept
    | RingAccepted
    | RingOutvoted
    | RingFence
    | RingFenced
    | Ping
    | Ack
)
Datagram: TypeAlias = Ping | Ack | PingRequest | Gossip | Nack | Doubts
Message: TypeAlias = Hello | Refuse | ClientRequest | ClientAnswer | PeerMessage

__all__ = [
    "ALL",
    "ASSENTED",
    "BUSY",
    "DEFAULT",
    "GET_MANY_KEYS_MAX",
    "PROTOCOL_VERSION",
    "QUORUM",
    "READ_MANY_BYTES_MAX",
    "READ_MANY_SLOTS_MAX",
    "REFUSED",
    "STATUS_OK",
    "STATUS_OVERLOADED",
    "STATUS_REAPED",
    "STATUS_REFUSED",
    "STATUS_RING",
    "STATUS_STORAGE",
    "STATUS_WEAK",
    "STRICT",
    "Ack",
    "Admit",
    "AskBranches",
    "AskBuckets",
    "AskFate",
    "AskHints",
    "AskJoin",
    "AskMembers",
    "AskReap",
    "AskRepair",
    "AskRing",
    "AskStatus",
    "Assent",
    "Branches",
    "Buckets",
    "Chunk",
    "ClientAnswer",
    "ClientRequest",
    "Committed",
    "Compare",
    "CompareLeaves",
    "CompareRoots",
    "Compared",
    "CreateBucket",
    "Datagram",
    "Delete",
    "Done",
    "Doubts",
    "Examine",
    "Examined",
    "Explain",
    "Explained",
    "Failed",
    "Fetch",
    "Fetched",
    "Found",
    "FoundMany",
    "Get",
    "GetMany",
    "Gossip",
    "HandOver",
    "Hello",
    "HintsHeld",
    "Introduce",
    "LeavesCompared",
    "ListKeys",
    "Listed",
    "Members",
    "Message",
    "Nack",
    "PeerMessage",
    "Ping",
    "PingRequest",
    "Propose",
    "Proposed",
    "PushPull",
    "Put",
    "Read",
    "ReadAnswer",
    "ReadMany",
    "ReadManyAnswer",
    "Reap",
    "Reapable",
    "Recall",
    "Recalled",
    "Refuse",
    "Reject",
    "Repair",
    "RepairTold",
    "Repaired",
    "RingAccept",
    "RingAccepted",
    "RingEntry",
    "RingFence",
    "RingFenced",
    "RingKnown",
    "RingOutvoted",
    "RingPrepare",
    "RingPromised",
    "RootsCompared",
    "Scan",
    "ScanAnswer",
    "Store",
    "StoreHint",
    "Stored",
    "SwapBuckets",
    "Withdrawn",
]
