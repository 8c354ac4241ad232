"""Between nodes: who belongs to the cluster, and which buckets there are."""

from __future__ import annotations

from typing import NamedTuple

# ── between nodes: membership over TCP ──────────────────────────────────────────────────────────────────


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


# ── datagrams (UDP): one message per packet, with piggybacked member records ────────────────────────────


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
