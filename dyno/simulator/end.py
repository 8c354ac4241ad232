"""One machine's end of a connection, as its owner and the network see it.

The owner queues messages and is called for what arrives; the network moves what is queued, and keeps at each
end what it has to know of that direction: how much waits behind a cut or in the kernel of a machine that is
held, and when the last frame arrives, so that none is before an earlier one. Nothing happens in here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dyno.simulator.cable import Cable
    from dyno.wire.messages import Message


class End:
    """One machine's end of a connection. queue: what leaves at the next `Network.flush`.

    on_messages(end, messages) · on_closed(end, reason); never called for an end that its owner closed."""

    __slots__ = (
        "_bulk_arrived_at",
        "arrived_at",
        "cable",
        "machine",
        "on_closed",
        "on_messages",
        "open",
        "other",
        "queue",
        "stalls",
        "unread_bytes",
        "unsent_bytes",
    )

    on_messages: Callable[[End, Sequence[Message]], None]
    on_closed: Callable[[End, str], None]
    other: End

    def __init__(self, machine: str, cable: Cable) -> None:
        """cable: the way out."""
        self.machine = machine
        self.cable = cable
        self.open = True
        self.queue: list[Message] = []
        self.unsent_bytes = 0  # behind a cut
        self.unread_bytes = 0  # in the kernel of a machine that is held
        self.stalls = 0  # how often something began to wait behind a cut, twice that; odd while it does
        self.arrived_at = 0.0  # when the last frame to this end arrives, and the last large message
        self._bulk_arrived_at = 0.0

    def next_bulk_arrival(self, at: float) -> float:
        """A large message follows the small ones before it, whose successors may overtake it."""
        self._bulk_arrived_at = max(self._bulk_arrived_at, self.arrived_at, at)
        return self._bulk_arrived_at

    def last_arrival(self, at: float) -> float:
        return max(self.arrived_at, self._bulk_arrived_at, at)


def nobody_hears(end: End, reason: str) -> None:
    """A connection that broke before its owner knew of it."""
