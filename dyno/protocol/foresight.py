"""Which records a request will read, told before it is handled.

Reads of the core are inline, which a cold disk must not make slow: whoever runs the node asks here what a
message is about to read, lets a thread touch that first, and only then hands the message over.

In: a message as it came. Out: slots, spans of slots, or nodes of trees below which they lie, as
far as they are known beforehand; none for what will be refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dyno.buckets.properties import DEFAULTS
from dyno.errors import InvalidRequest
from dyno.placement.hashing import SLOT_BYTES
from dyno.protocol.comparisons import leaves_compared, slots_fetched, span_compared
from dyno.protocol.peer_requests import is_scan, slots_of
from dyno.protocol.replica import listing_span
from dyno.wire.messages import (
    GET_MANY_KEYS_MAX,
    Compare,
    CompareLeaves,
    Delete,
    Fetch,
    Get,
    GetMany,
    HandOver,
    ListKeys,
    Put,
    Read,
    ReadMany,
    Scan,
    Store,
)
from dyno.wire.pages import is_page
from dyno.wire.rows import unpack_keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dyno.protocol.planner import Planner
    from dyno.storage.engine import Span
    from dyno.wire.messages import Message
    from dyno.wire.trees import Node


class Foresight:
    """me: this node's name."""

    def __init__(self, *, me: str, planner: Planner) -> None:
        self._me = me
        self._planner = planner

    def slots_read_by(self, message: Message) -> Sequence[bytes]:
        """The slots that this replica will read for a message, as far as they are known beforehand. None for
        one that will be refused."""
        if isinstance(message, Read | Store | HandOver):
            return (message.slot,) if len(message.slot) == SLOT_BYTES else ()
        if isinstance(message, ReadMany):
            return slots_of(message) if self._planner.is_planned_with(message.ring) else ()
        if isinstance(message, Fetch):
            return slots_fetched(message)
        if isinstance(message, Get | Put | Delete):
            return self._own_slots(message.bucket, (message.key,))
        if isinstance(message, GetMany):
            return self._own_slots(message.bucket, unpack_keys(message.keys, items_max=GET_MANY_KEYS_MAX))
        return ()

    def spans_read_by(self, message: Message) -> Sequence[Span] | Sequence[Node]:
        """The same for a page of records, or for what lies below nodes of trees."""
        if isinstance(message, Scan) and is_scan(message):
            return (listing_span(message.prefix, message.after, message.limit),)
        if isinstance(message, Compare):
            return (span_compared(message),)
        if isinstance(message, CompareLeaves):
            return leaves_compared(message)[0]
        ring = self._planner.ring
        if ring is not None and isinstance(message, ListKeys) and is_page(message.after, message.limit):
            bucket = self._planner.serving.get(message.bucket, DEFAULTS)
            if bucket is None:
                return ()
            try:
                plan = ring.plan_listing(message.bucket, message.partition, bucket.n)
            except InvalidRequest:
                return ()
            if self._me in plan.owners:
                return (listing_span(plan.slot, message.after, message.limit),)
        return ()

    def _own_slots(self, bucket: str, keys: Sequence[bytes]) -> list[bytes]:
        """The slots of those keys that this node owns."""
        ring = self._planner.ring
        properties = self._planner.serving.get(bucket, DEFAULTS)
        if ring is None or properties is None:
            return []
        try:
            plans = [ring.plan(bucket, key, properties.n) for key in keys]
        except InvalidRequest:
            return []
        return [plan.slot for plan in plans if self._me in plan.owners]
