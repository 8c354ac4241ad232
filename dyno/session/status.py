"""The cluster as `Client.status()` and `dyno status --json` show it.

In: a Members message, and the rows of its hints. Out: a dict of plain values whose shape is part of the
public contract.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dyno.config import COPIES
from dyno.session.routing import is_seated
from dyno.wire.members import LIVENESS_NAMES, STATE_NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dyno.session.routing import Routing
    from dyno.wire.hints import Held


def status_of(routing: Routing, *, cluster: bytes, partitions: int, hints: Sequence[Held]) -> dict[str, Any]:
    """share: the fraction of all copies of a default bucket that the member owns. hints: how many the member
    keeps; 0 for those that are `unheard`, of whose hints nothing is known. hints_for: how many all together
    keep for whom."""
    keeps = dict.fromkeys((row.holder for row in hints), 0)
    waiting: dict[str, int] = {}
    for holder, target, count in hints:
        keeps[holder] += count
        if target:
            waiting[target] = waiting.get(target, 0) + count
    table = routing.table()
    copies = min(COPIES, len(table.seats))
    held = table.share(copies) if copies else ()
    share_of = {seat.id: share for seat, share in zip(table.seats, held, strict=True)}
    return {
        "cluster": cluster.hex(),
        "partitions": partitions,
        "members": [
            {
                "name": member.name,
                "address": member.address,
                "zone": member.zone,
                "weight": member.weight,
                "state": STATE_NAMES[member.state],
                "liveness": LIVENESS_NAMES[member.liveness],
                "incarnation": member.incarnation,
                "share": share_of[member.seat] if is_seated(member) else 0.0,
                "hints": keeps.get(member.name, 0),
            }
            for member in routing.members
        ],
        "hints_for": dict(sorted(waiting.items())),
        "unheard": [member.name for member in routing.members if member.name not in keeps],
    }
