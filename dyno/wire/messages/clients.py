"""Requests of clients, and their answers."""

from __future__ import annotations

from typing import NamedTuple

# Quorum fields above any possible count.
DEFAULT = 1 << 16  # the bucket's own
QUORUM = DEFAULT + 1  # n // 2 + 1
ALL = DEFAULT + 2  # n
STRICT = DEFAULT + 3  # of pr and pw alone: as many as r, or w

GET_MANY_KEYS_MAX = 256  # of one GetMany: so many fit a group number of one byte


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
