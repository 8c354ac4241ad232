"""The cluster as `Client.status()` and `dyno status --json` show it.

In: a Members message. Out: a dict of plain values whose shape is part of the public contract.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dyno.config import COPIES
from dyno.session.routing import is_seated
from dyno.wire.members import LIVENESS_NAMES, STATE_NAMES

if TYPE_CHECKING:
    from dyno.session.routing import Routing

_HINTS = 0  # nodes keep none


def status_of(routing: Routing, *, cluster: bytes, partitions: int) -> dict[str, Any]:
    """share: the fraction of all copies of a default bucket that the member owns."""
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
                "hints": _HINTS,
            }
            for member in routing.members
        ],
    }
