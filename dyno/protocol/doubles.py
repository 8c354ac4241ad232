"""Writes that were done twice, as they stand in the records of one replica.

A write that was sent again may be live under the dot of its request beside, or after, its ordinary dot, which
this node knows from its memory of requests. Whoever had read the one means the other as well; and what was
read and replaced as it was done first is not brought back as it was done again
(docs/design/survival.md, Retries exactly once).

In: records, a caller's context, and what is known of the requests in a slot. Out: records and contexts;
nothing is changed in place. Where nothing was done twice, as nearly always, operands come back as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dyno.causality.context import Context

if TYPE_CHECKING:
    from dyno.causality.record import Record
    from dyno.protocol.requests_seen import RequestsSeen


def with_doubles(seen: RequestsSeen, slot: bytes, record: Record, context: Context) -> Context:
    """What a caller had read, with the live writes that he knows as they were done first: he replaces or
    deletes them as they were done again, too."""
    for dot, request, _ in record.siblings:
        if dot[0] == request and any(context.covers(first) for first in seen.dots(slot, request)):
            context = context.add(dot)
    return context


def without_replaced(seen: RequestsSeen, slot: bytes, merged: Record, *parts: Record) -> Record:
    """Without what was written again and had been read and replaced as it was written first. parts: of
    which it was merged."""
    for dot, request, _ in merged.siblings:
        if dot[0] == request and _was_replaced(seen, slot, request, merged, parts):
            merged = merged.delete(Context.EMPTY.add(dot))
    return merged


def _was_replaced(
    seen: RequestsSeen, slot: bytes, request: bytes, merged: Record, parts: Sequence[Record]
) -> bool:
    """Whether the ordinary dot of a write, which is known here or from one of the parts, is covered and
    not live while that of its request is: whoever covered it had read it, and did not know the other."""
    live = [sibling.dot for sibling in merged.siblings]
    known = [
        *seen.dots(slot, request),
        *(sibling.dot for part in parts for sibling in part.siblings if sibling.request == request),
    ]
    return any(merged.context.covers(dot) and dot not in live for dot in known)
